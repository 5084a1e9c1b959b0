"""`finegrade verify --input`: others' data goes in, and comes out in the same format, verified and graded."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finegrade.cli.main import main
from finegrade.cli.verify_input import verify_external
from finegrade.config.toml import plain_config
from finegrade.errors import InputError
from finegrade.export.data import export_data
from finegrade.records import Verdict
from finegrade.storage.run_folder import VERDICTS, RunFolder
from finegrade.storage.tables import read_rows
from finegrade.verification.rules import FALSE_NEGATIVE, WEAK_POSITIVE
from helpers.verification import ROWS, Words, flag_embedding

pytestmark = pytest.mark.usefixtures("no_charts")


@pytest.fixture(autouse=True)
def scorers(monkeypatch):
    """Name -> the scorer that is loaded for it."""
    loaded = {}
    monkeypatch.setattr(
        "finegrade.verification.ensemble.load_scorer", lambda name, length: loaded.setdefault(name, Words())
    )
    return loaded


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["finegrade", "verify", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return end.code
    return 0


def verified(path, output, run, settings=()):
    """What the LLM was going to be asked, if it was to be asked at all."""
    asked = []
    verify_external(path, output, plain_config(settings), run, lambda folder, ahead: asked.append(ahead))
    return asked


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_triplets_in_parquet_come_back_as_triplets(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    triplets = [(q, p, n) for q, p, negatives in ROWS for n in negatives] + [("query 3", "answer 3", "same 3 text")]
    columns = dict(zip(("anchor", "positive", "negative"), map(list, zip(*triplets, strict=True)), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "triplets.parquet")
    assert command(monkeypatch, "--input", "triplets.parquet") == 0
    found = pq.read_table("triplets.verified.parquet").to_pydict()
    assert list(zip(*found.values(), strict=True)) == triplets[:-1]
    levels = [row["levels"] for row in lines(Path("triplets.verified.levels.jsonl"))]
    assert levels == [[1], [3]] * len(ROWS)  # far: 0.1 of the way to a positive, near: 0.5
    pairs = pq.read_table("triplets.verified.0.parquet").to_pydict()
    assert pairs == {"anchor": ["query 3"], "positive": ["answer 3"]}
    told = capsys.readouterr().err
    assert "of 21 negatives 20 kept, 1 dropped" in told
    assert "runs/verify-triplets" in told


def test_flag_embedding_comes_back_hardest_first_with_levels(tmp_path):
    path = flag_embedding(
        tmp_path / "data.jsonl", [*ROWS, ("query 20", "answer 20", ["same 20 text", "better 20 text"])]
    )
    verified(path, tmp_path / "out.jsonl", tmp_path / "run")
    found = lines(tmp_path / "out.jsonl")
    assert [(row["query"], row["pos"], row["neg"]) for row in found] == [(q, [p], n[::-1]) for q, p, n in ROWS]
    assert found[0]["neg_levels"] == [3, 1]
    (left,) = lines(tmp_path / "out.0.jsonl")
    assert left["pos"] == ["answer 20", "better 20 text"]  # promoted


def test_a_negative_goes_that_one_of_several_positives_makes_false(tmp_path):
    path = tmp_path / "data.jsonl"
    flag_embedding(path, ROWS)
    row = {
        "query": "query 30",
        "pos": ["answer 30", "nearer 30"],
        "neg": ["near 30 text", "far 30 text", "same 30 text"],
    }
    weak = {"query": "query 31", "pos": ["answer 31", "weak 31"], "neg": ["near 31 text"]}
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n" + json.dumps(weak) + "\n")
    settings = ["verification.margin=0.15", "verification.promote=false"]
    verified(path, tmp_path / "out.jsonl", tmp_path / "run", settings)
    found = {row["query"]: row for row in lines(tmp_path / "out.jsonl")}
    assert found["query 30"]["neg"] == ["far 30 text"]  # near: 0.5, of which 0.6 is not 0.15 away
    assert found["query 31"]["pos"] == ["answer 31"]
    assert found["query 31"]["neg"] == ["near 31 text"]


def test_a_row_whose_positives_are_all_weak_is_left_out(tmp_path):
    path = flag_embedding(tmp_path / "data.jsonl", [*ROWS, ("query 40", "weak 40", ["far 40 text"])])
    verified(path, tmp_path / "out.jsonl", tmp_path / "run")
    assert "query 40" not in {row["query"] for row in lines(tmp_path / "out.jsonl")}


@pytest.mark.slow
def test_the_same_command_again_scores_nothing_and_writes_the_same(tmp_path, scorers):
    path = flag_embedding(tmp_path / "data.jsonl", ROWS)
    outputs = []
    for margin in ("0.05", "0.05", "0.6"):
        scorers.clear()
        settings = [f"verification.margin={margin}"]
        verified(path, tmp_path / "out.jsonl", tmp_path / "run", settings)
        outputs.append((tmp_path / "out.jsonl").read_bytes())
        asked = sum(len(scorer.asked) for scorer in scorers.values())
        assert (asked > 0) == (len(outputs) == 1)
    assert outputs[0] == outputs[1] != outputs[2]


@pytest.mark.slow
def test_changed_data_is_verified_anew(tmp_path):
    path = flag_embedding(tmp_path / "data.jsonl", ROWS)
    run = RunFolder(tmp_path / "run")
    verified(path, tmp_path / "out.jsonl", run.root)
    flag_embedding(path, [*ROWS, ("query 50", "answer 50", ["far 50 text"])])
    verified(path, tmp_path / "out.jsonl", run.root)
    assert lines(tmp_path / "out.jsonl")[-1]["query"] == "query 50"
    assert len(read_rows(run.path(VERDICTS), Verdict)) == 21


def test_verdicts_of_given_negatives_have_no_level_before(tmp_path):
    path = flag_embedding(tmp_path / "data.jsonl", ROWS)
    run = RunFolder(tmp_path / "run")
    verified(path, tmp_path / "out.jsonl", run.root)
    assert {(v.level_before, v.source) for v in read_rows(run.path(VERDICTS), Verdict)} == {(None, "external")}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--input", "gone.parquet"], "gone.parquet: got no such file"),
        (["--input", "data.jsonl", "--output", "data.jsonl"], "got the input itself"),
        (["--input", "data.jsonl", "--output", "data.csv"], "wanted .jsonl, as the input is"),
        (["--output", "data.csv"], "wanted --input beside it"),
        (["--input", "data.jsonl", "--config", "gone.toml"], "gone.toml"),
        (["--input", "data.jsonl", "--force"], "--force: got it beside --input"),
        (["--input", "data.jsonl", "--set", "verification.margin=-1"], "verification.margin: got -1"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    before = flag_embedding(tmp_path / "data.jsonl", ROWS).read_bytes()
    assert command(monkeypatch, *arguments) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert told in last
    assert (tmp_path / "data.jsonl").read_bytes() == before


def test_the_configuration_beside_the_data_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flag_embedding(tmp_path / "data.jsonl", ROWS)
    (tmp_path / "finegrade.toml").write_text('[source]\nkind = "python-docs"\n[verification]\nmargin = 0.6\n')
    assert command(monkeypatch, "--input", "data.jsonl") == 0
    assert all(row["neg"] == [f"far {i} text"] for i, row in enumerate(lines(tmp_path / "data.verified.jsonl")))


def test_data_that_is_none_leaves_no_run_folder(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError):
        verified(tmp_path / "x.parquet", tmp_path / "y.parquet", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def beir(folder, more=()):
    """A BEIR folder like ROWS; more: (query number, kind of a document) that are found, too."""
    (folder / "qrels").mkdir(parents=True)
    kinds = ("answer", "far", "near", "same")
    documents = {f"{kind}{i}": f"{kind} {i} text" for kind in kinds for i in range(10)}
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": i, "text": t}) + "\n" for i, t in documents.items())
    )
    queries = "".join(json.dumps({"_id": f"q{i}", "text": f"query {i}"}) + "\n" for i in range(10))
    (folder / "queries.jsonl").write_text(queries)
    judged = "".join(f"q{i}\tanswer{i}\t1\n" for i in range(10))
    (folder / "qrels" / "train.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    found = [(i, kind) for i in range(10) for kind in (*(kind for of, kind in more if of == i), "near", "far")]
    run = "".join(f"q{i} Q0 {kind}{i} {rank} {-rank} x\n" for rank, (i, kind) in enumerate(found))
    (folder / "run.trec").write_text(run)
    return folder


def test_a_run_in_a_beir_folder_comes_back_as_one(tmp_path):
    folder = beir(tmp_path / "beir", more=[(0, "same")])
    verified(folder / "run.trec", tmp_path / "out", tmp_path / "run")
    found = [line.split()[:3:2] for line in (tmp_path / "out" / "run.trec").read_text().splitlines()]
    assert found == [[f"q{i}", f"{kind}{i}"] for i in range(10) for kind in ("near", "far")]
    levels = (tmp_path / "out" / "levels.tsv").read_text().splitlines()[1:3]
    assert levels == ["q0\tnear0\t3", "q0\tfar0\t1"]


@pytest.mark.slow
def test_so_many_documents_of_a_run_are_looked_at(tmp_path, monkeypatch, capsys):
    folder = beir(tmp_path / "beir")
    for depth, kinds in ((1, ["near"]), (2, ["near", "far"])):
        output, run = tmp_path / f"out {depth}", tmp_path / "run"
        given = "--input", folder, "--output", output, "--run", run, "--depth", depth
        assert command(monkeypatch, *given) == 0
        found = [line.split()[2] for line in (output / "run.trec").read_text().splitlines()]
        assert found == [f"{kind}{i}" for i in range(10) for kind in kinds]
    assert command(monkeypatch, "--depth", 0) == 2
    assert command(monkeypatch, "--depth", 3) == 2
    table = flag_embedding(tmp_path / "table.jsonl", ROWS)
    assert command(monkeypatch, "--input", table, "--depth", 3) == 2
    told = capsys.readouterr().err
    assert "got 3; wanted --input beside it" in told
    assert "got a table, and --depth 3; wanted a run in a BEIR folder" in told


@pytest.mark.parametrize("part", ["qrels/train.tsv", "corpus.jsonl", "queries.jsonl"])
@pytest.mark.slow
def test_a_change_in_any_file_of_a_beir_folder_is_verified_anew(tmp_path, capsys, part):
    folder = beir(tmp_path / "beir", more=[(0, "same")])
    verified(folder / "run.trec", tmp_path / "out", tmp_path / "run")
    with (folder / part).open("a") as file:
        file.write({"qrels/train.tsv": "q0\tsame0\t1\n"}.get(part, '{"_id": "new", "text": "new"}\n'))
    verified(folder / "run.trec", tmp_path / "out", tmp_path / "run")
    assert "given: its settings or inputs have changed" in capsys.readouterr().err
    relevant = (tmp_path / "out" / "qrels" / "train.tsv").read_text().splitlines()
    assert ("q0\tsame0\t1" in relevant) == (part == "qrels/train.tsv")
    found = [line.split()[:3:2] for line in (tmp_path / "out" / "run.trec").read_text().splitlines()]
    assert found == [[f"q{i}", f"{kind}{i}"] for i in range(10) for kind in ("near", "far")]


@pytest.mark.parametrize("change", ["text", "order", "one more", "one less"])
def test_verdicts_on_other_rows_are_never_taken(tmp_path, monkeypatch, change):
    monkeypatch.setattr("finegrade.cli.verify_input.files_identity", lambda files, root: "the same")
    path = flag_embedding(tmp_path / "data.jsonl", ROWS)
    verified(path, tmp_path / "out.jsonl", tmp_path / "run")
    before = (tmp_path / "out.jsonl").read_bytes()
    other = {
        "text": [*ROWS[:-1], (*ROWS[-1][:2], ["far 9 text", "other 9 text"])], "order": ROWS[::-1],
        "one more": [*ROWS, ROWS[0]], "one less": ROWS[:-1],
    }  # fmt: skip
    flag_embedding(path, other[change])
    with pytest.raises(InputError, match=r"data\.jsonl: got other rows than were verified"):
        verified(path, tmp_path / "out.jsonl", tmp_path / "run")
    assert (tmp_path / "out.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("positives", "negatives", "left"),
    [
        (["answer 60", "better 60 text"], ["better 60 text", "near 60 text", "better 60 text!"], []),
        (["answer 60"], ["better 60 text", "near 60 text", "better 60  text"], ["better 60 text"]),
    ],
)
def test_what_is_a_positive_already_is_not_made_one_again(tmp_path, positives, negatives, left):
    path = flag_embedding(tmp_path / "data.jsonl", ROWS)
    with path.open("a") as file:
        file.write(json.dumps({"query": "query 60", "pos": positives, "neg": negatives}) + "\n")
    verified(path, tmp_path / "out.jsonl", tmp_path / "run")
    row = lines(tmp_path / "out.jsonl")[-1]
    assert row["pos"] == [*positives, *left]
    assert row["neg"] == ["near 60 text"]


@pytest.mark.parametrize("began", ["samples", "a stage that did not end", "a whole stage"])
def test_a_folder_of_another_run_is_left_alone(tmp_path, monkeypatch, capsys, began):
    monkeypatch.chdir(tmp_path)
    flag_embedding(tmp_path / "data.jsonl", ROWS)
    mine = RunFolder(tmp_path / "mine")
    mine.path("samples").mkdir(parents=True)
    (mine.path("samples") / "part-000000.parquet").write_bytes(b"mine")
    if began != "samples":
        with mine.stage("synthesize", {}) as stage:
            if began == "a whole stage":
                stage.finish([], {})
    assert command(monkeypatch, "--input", "data.jsonl", "--run", "mine") == 2
    assert "mine: got one with s" in capsys.readouterr().err
    assert (mine.path("samples") / "part-000000.parquet").read_bytes() == b"mine"


@pytest.mark.slow
def test_data_of_one_name_has_folders_of_its_own(tmp_path, monkeypatch, scorers):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "a"):
        (tmp_path / name).mkdir(exist_ok=True)
        if not (tmp_path / name / "data.jsonl").exists():
            flag_embedding(tmp_path / name / "data.jsonl", ROWS)
        scorers.clear()
        assert command(monkeypatch, "--input", f"{name}/data.jsonl") == 0
    assert not scorers  # the first is kept
    assert len(list(Path("runs").glob("verify-data-*"))) == 2


def test_the_run_folder_that_is_named_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flag_embedding(tmp_path / "data.jsonl", ROWS)
    assert command(monkeypatch, "--input", "data.jsonl", "--run", "runs/run") == 0
    assert [path.name for path in Path("runs").iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("here", "given", "result"),
    [
        ("beir", "run.trec", "beir-verified/run.trec"),
        ("beir", ".", "beir-verified/run.trec"),
        ("beir/runs", "bm25.trec", "beir-verified/runs/bm25.trec"),
        (".", "beir/runs/bm25.trec", "beir-verified/runs/bm25.trec"),
        ("beir/qrels", "..", "beir-verified/run.trec"),
        ("beir", "data.jsonl", "beir/data.verified.jsonl"),
        (".", "beir/data.jsonl", "beir/data.verified.jsonl"),
        (".", "link.jsonl", "link.verified.jsonl"),
    ],
)
def test_the_result_is_beside_the_data(tmp_path, monkeypatch, here, given, result):
    folder = beir(tmp_path / "beir")
    flag_embedding(folder / "data.jsonl", ROWS)
    if "runs" in result:
        (folder / "runs").mkdir()
        (folder / "run.trec").rename(folder / "runs" / "bm25.trec")
    flag_embedding(tmp_path / "blob", ROWS)
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "blob")
    monkeypatch.chdir(tmp_path / here)
    assert command(monkeypatch, "--input", given, "--run", tmp_path / "run") == 0
    assert (tmp_path / result).is_file()


@pytest.mark.slow
def test_files_that_others_made_are_never_written_over(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flag_embedding(tmp_path / "data.jsonl", ROWS)
    for name in ("data.verified.jsonl", "data.verified.0.jsonl"):
        Path(name).write_text("mine")
        assert command(monkeypatch, "--input", "data.jsonl", "--run", "run") == 2
        assert f"{name}: got a file that is there; wanted" in capsys.readouterr().err
        assert Path(name).read_text() == "mine"
        assert not Path("run").exists()
        Path(name).unlink()
    assert command(monkeypatch, "--input", "data.jsonl", "--run", "run") == 0
    assert command(monkeypatch, "--input", "data.jsonl", "--run", "run") == 0  # its own it writes again
    with Path("data.verified.jsonl").open("a") as file:
        file.write("mine")
    assert command(monkeypatch, "--input", "data.jsonl", "--run", "run") == 2
    assert "data.verified.jsonl: got a file that is there and was changed" in capsys.readouterr().err


@pytest.mark.slow
def test_of_an_earlier_result_only_its_own_files_are_removed(tmp_path):
    rows = [*ROWS, ("query 70", "answer 70", ["same 70 text"])]
    path = flag_embedding(tmp_path / "data.jsonl", rows)
    verified(path, tmp_path / "out.jsonl", tmp_path / "run")
    assert (tmp_path / "out.0.jsonl").is_file()
    verified(path, tmp_path / "out.jsonl", tmp_path / "run", ["verification.margin=0"])
    assert not (tmp_path / "out.0.jsonl").exists()
    (tmp_path / "out.0.jsonl").write_text("mine")
    with pytest.raises(InputError, match=r"out\.0\.jsonl: got a file that is there; wanted"):
        verified(path, tmp_path / "out.jsonl", tmp_path / "run", ["verification.margin=0"])
    assert (tmp_path / "out.0.jsonl").read_text() == "mine"


def test_what_was_broken_off_while_it_was_written_goes_on(tmp_path, monkeypatch):
    path = flag_embedding(tmp_path / "data.jsonl", [*ROWS, ("query 70", "answer 70", ["same 70 text"])])
    with monkeypatch.context() as broken:
        broken.setattr("finegrade.cli.verify_input.OwnFiles.end", lambda self, written: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            verified(path, tmp_path / "out.jsonl", tmp_path / "run")
    assert (tmp_path / "out.jsonl").is_file()
    verified(path, tmp_path / "out.jsonl", tmp_path / "run", ["verification.margin=0"])
    assert not (tmp_path / "out.0.jsonl").exists()


LLM = ["llm.base_url=http://127.0.0.1:1/v1", "llm.model=m"]


def test_the_llm_is_asked_about_what_is_given_and_nothing_else(tmp_path):
    path = flag_embedding(tmp_path / "data.jsonl", [*ROWS, ("query 80", "answer 80", [])])
    settings = [*LLM, "verification.second_opinion=['llm']", "verification.doubt=0.000001"]
    (ahead,) = verified(path, tmp_path / "out.jsonl", tmp_path / "run", settings)
    ((what, requests, most),) = [(one.what, one.requests, one.most) for one in ahead.asked]
    assert (what, requests, most) == ("grades", 4 + 16, 2 * (20 + 16))  # a fifth in doubt, sixteen to try it


def test_where_the_llm_is_not_asked_its_settings_change_nothing(tmp_path, capsys):
    path = flag_embedding(tmp_path / "data.jsonl", ROWS)
    for settings in ([], ["llm.model=another", "verification.doubt_written=0.5"]):
        assert verified(path, tmp_path / "out.jsonl", tmp_path / "run", settings) == []
    assert "verify: kept" in capsys.readouterr().err


def test_nothing_is_sent_without_a_yes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flag_embedding(tmp_path / "data.jsonl", ROWS)
    remote = ["llm.base_url=https://llm.example/v1", "llm.model=m", "llm.max_tokens=1000", "verification.doubt=0.2"]
    remote.append("verification.second_opinion=['llm']")
    settings = [part for one in remote for part in ("--set", one)]
    assert command(monkeypatch, "--input", "data.jsonl", *settings) == 2
    told = capsys.readouterr().err
    assert "Your texts go to llm.example (model m): about 20 requests, at most 72" in told
    assert "got nobody to ask" in told


@pytest.mark.parametrize("name", ["x" * 238 + ".jsonl", "bad\udcff.jsonl"], ids=["long", "no UTF-8"])
def test_a_name_that_cannot_be_had_is_one_line(tmp_path, name):
    with pytest.raises(InputError, match=r"got (one of 244|a name that is no UTF-8); wanted"):
        verified(tmp_path / name, None, tmp_path / "run")


def test_an_output_that_cannot_be_written_shows_before_the_work(tmp_path, scorers):
    data = flag_embedding(tmp_path / "data.jsonl", ROWS)
    with pytest.raises(InputError, match="wanted a folder that can be written to"):
        verified(data, data / "out.jsonl", tmp_path / "run")
    assert not scorers


def test_where_no_row_can_be_used_the_reason_is_told(tmp_path, capsys):
    data = tmp_path / "data.jsonl"
    data.write_text('{"query": "", "pos": ["p"], "neg": ["n"]}\n' * 9)
    with pytest.raises(InputError, match="got 0 samples"):
        verified(data, tmp_path / "out.jsonl", tmp_path / "run")
    told = capsys.readouterr().err.replace("\n", " ")
    assert "9 query: empty" in told
    assert "set_aside.jsonl" in told


def test_why_negatives_and_rows_went_is_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "benchmark.txt").write_text("answer 3 that is to be found in the test set of a benchmark\n")
    leak = ("query 30", "answer 30 that is to be found in the test set of a benchmark", ["far 30 text"])
    leak = (leak[0], leak[1].replace("answer 30", "answer 3"), leak[2])
    rows = [*ROWS, ("query 70", "answer 70", ["same 70 text", "far 70 text"]), ("query 71", "weak 71", []), leak]
    path = flag_embedding(tmp_path / "a.jsonl", rows)
    settings = [f'verification.benchmarks=["{tmp_path / "benchmark.txt"}"]']
    verified(path, tmp_path / "out.jsonl", tmp_path / "run", settings)
    told = capsys.readouterr().err
    assert f"negatives: 1 {FALSE_NEGATIVE}" in told
    assert f"rows or positives left out: 1 {WEAK_POSITIVE}" in told
    assert "rows or positives left out: 1 in benchmark" in told
    card = (tmp_path / "run" / "README.md").read_text()
    for line in (f"| {FALSE_NEGATIVE} | 1 |", f"| {WEAK_POSITIVE} | 1 |", "| rows | 13 |", "| kept | 21 |"):
        assert line in card
    assert "What the first of them share with a benchmark" in card
    assert "out.jsonl" in card


def test_what_was_given_is_not_exported(tmp_path):
    verified(flag_embedding(tmp_path / "a.jsonl", ROWS), tmp_path / "out.jsonl", tmp_path / "run")
    with pytest.raises(InputError, match=r"got others' data, verified; .*README\.md names the files"):
        export_data(tmp_path / "run", None)


def test_rows_that_cannot_be_used_are_kept_with_their_reasons(tmp_path, capsys):
    path = flag_embedding(tmp_path / "a.jsonl", ROWS)
    bad = [{"query": None, "pos": ["p"], "neg": []}, {"query": "q\u2028\x1b[31m", "pos": [], "neg": ["n" * 9_000]}]
    with path.open("a") as file:
        file.write("no JSON\n" + "".join(json.dumps(row) + "\n" for row in bad))
    for _ in range(2):
        verified(path, tmp_path / "out.jsonl", tmp_path / "run")
        assert f"row by row: {tmp_path / 'run' / 'set_aside.jsonl'}" in capsys.readouterr().err
        first, second, third = lines(tmp_path / "run" / "set_aside.jsonl")
        assert first == {"row": 11, "reason": "no JSON", "beginning": ""}
        assert second == {"row": 12, "reason": "query: empty", "beginning": json.dumps(bad[0])}
        assert (third["row"], third["reason"], len(third["beginning"])) == (13, "pos: empty", 1_000)
    assert "\x1b" not in (tmp_path / "run" / "set_aside.jsonl").read_text()


def test_what_of_a_beir_run_cannot_be_used_is_named(tmp_path):
    folder = beir(tmp_path / "beir")
    with (folder / "run.trec").open("a") as file:
        file.write("q9 Q0 gone 1 -9 x\nq77 Q0 far1 1 1 x\n")
    verified(folder, tmp_path / "out", tmp_path / "run")
    assert lines(tmp_path / "run" / "set_aside.jsonl") == [
        {"row": 10, "reason": "found document: not in corpus.jsonl", "beginning": '{"document": "gone"}'},
        {"row": 11, "reason": "query: not in queries.jsonl", "beginning": '{"query": "q77"}'},
    ]


def test_cells_of_a_table_that_cannot_be_used_are_shown(tmp_path):
    columns = {name: [row[place] for row in ROWS] for place, name in enumerate(("anchor", "positive"))}
    table = pa.table(columns | {"negative": [row[2][0] for row in ROWS[:-1]] + [None], "more": [b"\xff"] * 10})
    table = pa.concat_tables([table, pa.table([["q"], [""], ["n"], [b"\xff"]], schema=table.schema)])
    pq.write_table(table, tmp_path / "a.parquet")
    verified(tmp_path / "a.parquet", tmp_path / "out.parquet", tmp_path / "run")
    (row,) = lines(tmp_path / "run" / "set_aside.jsonl")
    assert (row["row"], row["reason"]) == (11, "positive: empty")
    assert row["beginning"].startswith('{"anchor": "q", "positive": "", "negative": "n", "more": ')


def test_a_folder_with_other_things_is_no_run_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flag_embedding(tmp_path / "data.jsonl", ROWS)
    Path("README.md").write_text("mine")
    assert command(monkeypatch, "--input", "data.jsonl", "--run", ".") == 2
    assert "got one with README.md, data.jsonl; wanted a run folder" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "data.jsonl"]
    RunFolder(tmp_path / "run").path("stages").mkdir(parents=True)
    Path("run/.lock").touch()
    assert command(monkeypatch, "--input", "data.jsonl", "--run", "run") == 0  # killed before it did anything
