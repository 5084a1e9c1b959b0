"""The documents stage: the user's documents become chunks, each on its side of the split."""

import shutil
from collections import Counter
from collections.abc import Sequence

from finegrade.config import SourceConfig
from finegrade.console import say
from finegrade.data.chunking import token_counter
from finegrade.data.chunks import choose_chunks, write_pieces
from finegrade.data.documents import DocumentSource, open_documents
from finegrade.data.languages import check_language, frequent_languages
from finegrade.data.user_queries import read_own_queries
from finegrade.models.resolve import model_identity
from finegrade.records import Chunk
from finegrade.storage.atomic import replacing
from finegrade.storage.run_folder import CHUNKS, UNUSED, RunFolder
from finegrade.storage.tables import read_rows, write_rows

_READ_LATER = {"packages", "max_train", "max_test", "queries", "language"}
_IN_IDENTITY = {"path", "dataset", "split"}


def import_documents(
    run: RunFolder, source: SourceConfig, backbone: str, models: Sequence[tuple[str, str]], seed: int
) -> None:
    """Writes ``documents/chunks.parquet``: at most ``source.max_chunks`` chunks, in the order in which they were drawn.

    The tokenizer of ``backbone`` counts their tokens; ``models`` (setting and name of each) must speak their language.
    Documents that cannot be read go to ``documents/set_aside.jsonl`` with the reason; whatever else is left out is
    counted. Memory does not grow with the number of documents, except by some bytes for each piece.
    """
    documents, user_queries = open_documents(source, seed), read_own_queries(source)
    held_out = {path for query in user_queries if query.side == "test" for path in query.paths}
    labelled = {path for query in user_queries for path in query.paths}
    settings = {
        "source": source.model_dump(mode="json", exclude=_READ_LATER | _IN_IDENTITY),
        "held_out": sorted(held_out),
        "labelled": sorted(labelled),
        "seed": seed,
        "content": documents.identity(),
        "tokens": model_identity(backbone),
    }
    with run.stage("documents", settings) as stage:
        if not stage.done:
            counts, chunks = _cut_and_split(documents, run, source, backbone, labelled, held_out, seed)
            write_rows(run.path(CHUNKS), chunks, Chunk)
            sides = Counter(chunk.side for chunk in chunks)
            counts |= {"train": sides["train"], "test": sides["test"]}
            details = {
                "counts": counts,
                "passed_over": documents.passed_over,
                "languages": frequent_languages([chunk.text for chunk in chunks]),
            }
            stage.finish([run.path(CHUNKS), run.path(UNUSED)], details)
            say(f"documents: {', '.join(f'{name} {number:,}' for name, number in counts.items() if number)}")
    missing = labelled - {chunk.path for chunk in read_rows(run.path(CHUNKS), Chunk)} if labelled else ()
    if missing:
        counted = f"{len(missing):,} of {len(labelled):,} that queries name"
        say(f"documents: {counted} are not there, or hold no prose (first: {min(missing)})")
    check_language(run.record("documents")["details"]["languages"], models, source.language)


def _cut_and_split(
    documents: DocumentSource, run: RunFolder, source: SourceConfig, backbone: str, labelled: set[str],
    held_out: set[str], seed: int,
) -> tuple[dict[str, int], list[Chunk]]:  # fmt: skip
    """Counts, and the chunks with their sides; the pieces lie on the disk in between."""
    work = run.path("documents", ".work")
    shutil.rmtree(work, ignore_errors=True)  # what a kill left
    work.mkdir(parents=True)
    pieces = work / "pieces.parquet"
    try:
        with replacing(run.path(UNUSED)) as unused:
            count = token_counter(backbone)
            counts = write_pieces(
                documents, pieces, unused, source.chunk_tokens, count, labelled, all_of_it=source.kind == "beir"
            )
        chunks = choose_chunks(pieces, source, held_out, labelled, seed, counts)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return dict(counts), chunks
