"""The front door of evaluation: models and judged queries in, scores with intervals and paired differences out."""

import asyncio

import pytest
from sentence_transformers import SentenceTransformer

import finegrade
from finegrade.errors import InputError
from finegrade.evaluation.comparison import evaluate
from finegrade.evaluation.metrics import METRICS
from helpers.runs import make_samples

ROWS = [{"query": sample.query, "positive": sample.positive} for sample in make_samples()]
QUERIES = {"q1": "open the file", "q2": "close the door", "q3": "nobody knows"}
CORPUS = {"d1": "the file is open", "d2": "a door that will close", "d3": "windows"}


@pytest.fixture(scope="module")
def model(tiny_encoder):
    return SentenceTransformer(str(tiny_encoder), device="cpu")


@pytest.mark.slow
def test_each_model_has_scores_and_the_first_one_differences_to_the_others(model):
    result = finegrade.evaluate({"mine": model, "BM25": "bm25", "same": model}, ROWS, resamples=100)
    assert {name: tuple(found) for name, found in result.scores.items()} == dict.fromkeys(
        ("mine", "BM25", "same"), METRICS
    )
    assert result.differences.keys() == {"BM25", "same"}
    for metric in METRICS:
        mine, other = result.scores["mine"][metric], result.scores["BM25"][metric]
        assert mine.low <= mine.value <= mine.high
        assert result.differences["BM25"][metric].value == pytest.approx(mine.value - other.value)
        assert result.differences["same"][metric].value == 0
        assert len(result.per_query["mine"][metric]) == len(result.test.queries)
    assert result.to_dicts()[0] == {"model": "mine"} | {m: result.scores["mine"][m].value for m in METRICS}


@pytest.mark.slow
def test_a_folder_is_a_model_and_a_notebook_is_no_obstacle(tiny_encoder, model):
    async def notebook():
        return evaluate([tiny_encoder, model], ROWS, resamples=100, max_length=64)

    result = asyncio.run(notebook())
    assert list(result.scores) == [str(tiny_encoder), "model 2"]
    assert result.scores["model 2"] == result.scores[str(tiny_encoder)]


@pytest.mark.parametrize("form", ["ids", "grades"])
def test_queries_corpus_and_judgements_are_joined_by_their_ids(form):
    pairs = {"q1": ["d1"], "q2": ["d2", "gone"], "q3": []}
    qrels = pairs
    if form == "grades":
        qrels = {query: {**dict.fromkeys(found, 1), "d3": 0} for query, found in pairs.items()}
    result = evaluate("bm25", queries=QUERIES, corpus=CORPUS, qrels=qrels, resamples=100)
    assert result.scores["bm25"]["MRR"].value == 1
    assert set(result.test.documents) == set(CORPUS.values())
    assert [(row.query, row.reason) for row in result.left_out] == [("nobody knows", "no judgement")]
    assert result.reasons == {"no judgement": 1}


def test_more_texts_make_the_search_harder():
    alone = evaluate("bm25", ROWS[:1], resamples=100)
    among = evaluate("bm25", ROWS[:1], corpus=[f"{ROWS[0]['query']} {i}" for i in range(30)], resamples=100)
    assert (len(alone.test.documents), len(among.test.documents)) == (1, 31)
    assert among.scores["bm25"]["MRR"].value < alone.scores["bm25"]["MRR"].value == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, ROWS), "models: got int; wanted names"),
        (([], ROWS), "models: got none"),
        (("bm25",), "evaluate: got no queries; wanted"),
        (("bm25", None, ["q"]), "evaluate: got list for queries; wanted"),
        (("bm25", [{"query": "q"}]), r"rows\[0\]: got"),
        (("bm25", []), "evaluate: got none; wanted a query"),
        (("bm25", ROWS, {"q": "a query"}), "evaluate: got rows, and queries"),
    ],
)
def test_what_is_missing_is_named(arguments, message):
    models = arguments[0]
    with pytest.raises(InputError, match=message):
        queries = dict(zip(["queries"], arguments[2:], strict=False))
        evaluate([models] if isinstance(models, int) else models, *arguments[1:2], **queries)


def test_a_wrong_value_is_named():
    with pytest.raises(InputError, match=r"^evaluate: confidence: got 2"):
        evaluate("bm25", ROWS, confidence=2.0)
