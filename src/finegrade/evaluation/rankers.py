"""What the rows of the table rank with: embedding models."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer, util

from finegrade.console import progress
from finegrade.evaluation.metrics import DEPTH


def rank_with_model(
    model: SentenceTransformer,
    queries: Sequence[str],
    documents: Sequence[str],
    batch_size: int,
    what: str,
    depth: int = DEPTH,
) -> list[list[int]]:
    """Numbers of at most ``depth`` documents for each query, best first, by cosine similarity; exact."""
    vectors = embed(model, [*queries, *documents], batch_size, what)
    hits = util.semantic_search(vectors[: len(queries)], vectors[len(queries) :], top_k=min(depth, len(documents)))
    return [[int(hit["corpus_id"]) for hit in row] for row in hits]


def embed(model: SentenceTransformer, texts: Sequence[str], batch_size: int, what: str) -> NDArray[np.float32]:
    """Unit vectors of the texts, [texts, dimension], with progress; texts of like length share a batch."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    rows: list[NDArray[np.float32]] = []
    chunk = batch_size * 8
    with progress(what, len(texts)) as meter:
        for start in range(0, len(order), chunk):
            part = [texts[i] for i in order[start : start + chunk]]
            vectors = model.encode(part, batch_size=batch_size, show_progress_bar=False, convert_to_tensor=True)
            rows.append(vectors.float().cpu().numpy())
            meter.advance(len(part))
    found = np.concatenate(rows)
    result = np.empty_like(found)
    result[order] = found
    return result
