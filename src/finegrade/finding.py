"""Is a text found again? What a query is good for shows in whether it leads back to its chunk."""

from collections.abc import Sequence

from finegrade.config import Config
from finegrade.lexical import BM25
from finegrade.records import Chunk

FOUND_WITHIN = 10
"""A query is kept if its chunk is among so many first results of BM25 or of the base model."""


def find_again(queries: Sequence[tuple[str, str]], chunks: Sequence[Chunk], config: Config) -> list[bool]:
    """For each (query, chunk id), whether BM25 or, failing that, the base model ranks the chunk among the first ten.

    Args:
        queries: What was written, and for which chunk.
        chunks: All that is searched.
        config: Names the base model, how much it reads, and how many texts it reads at once.
    """
    number = {chunk.id: place for place, chunk in enumerate(chunks)}
    texts = [chunk.text for chunk in chunks]
    rankings = BM25(texts).rank([query for query, _ in queries], FOUND_WITHIN) if queries else []
    found = [number[chunk] in ranking for (_, chunk), ranking in zip(queries, rankings, strict=True)]
    missed = [place for place, is_found in enumerate(found) if not is_found]
    if missed:
        for place, ranking in zip(missed, _by_base_model([queries[i][0] for i in missed], texts, config), strict=True):
            found[place] = number[queries[place][1]] in ranking
    return found


def _by_base_model(queries: Sequence[str], texts: Sequence[str], config: Config) -> list[list[int]]:
    from finegrade.encoder import load_backbone  # torch, which the rest of the data half does without
    from finegrade.evaluation.rankers import rank_with_model

    model = load_backbone(config.training.backbone, config.training.max_length)
    return rank_with_model(model, queries, texts, config.evaluation.batch_size, "the base model searches", FOUND_WITHIN)
