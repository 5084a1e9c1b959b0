"""The texts that a student is distilled on, and others that it is judged by."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from finegrade.console import say
from finegrade.data.pairs import holds_pairs, read_pairs
from finegrade.data.readers.document import Unread
from finegrade.data.readers.tables import NoTextColumnError, read_jsonl, row_documents
from finegrade.data.readers.text_files import decode
from finegrade.errors import InputError
from finegrade.records import Seed
from finegrade.storage.run_folder import TEST_SEEDS, TRAIN_SEEDS, RunFolder, is_run_folder
from finegrade.storage.tables import read_rows
from finegrade.text import encodable

_HELD_OUT, _SHARE = 500, 0.1
_FEWEST = 20
_FORM = "--texts: one text a line, or JSONL with pairs or with a column of text"


class DistilTexts(NamedTuple):
    """Different texts, in an order drawn with the seed.

    Attributes:
        learnt: To distil on.
        held_out: To judge by; at most 500, none of them learnt.
    """

    learnt: list[str]
    held_out: list[str]


def texts_of_run(model: Path, seed: int) -> DistilTexts:
    """Queries and texts of the run that a model lies in: the train side to learn, the test side held out.

    Args:
        model: The model's folder.
        seed: Of the order.

    Raises:
        InputError: It lies in no run folder, or the run has too few texts.
    """
    folder = next((parent for parent in model.absolute().parents if is_run_folder(parent)), None)
    if folder is None or not RunFolder(folder).path(TRAIN_SEEDS).is_file():
        got = "no run folder around it, whose texts it could take"
        raise InputError(str(model), got=got, wanted="texts to distil on", remedy=f"Give {_FORM}.")
    run = RunFolder(folder)
    learnt, test = (_of_seeds(read_rows(run.path(name), Seed)) for name in (TRAIN_SEEDS, TEST_SEEDS))
    known = set(learnt)
    held_out = [text for text in test if text not in known]  # of documents, test queries search the train side, too
    return _drawn(learnt, held_out, str(folder), seed)


def _of_seeds(seeds: Iterable[Seed]) -> list[str]:
    return _different(text for seed in seeds for text in (seed.query, *seed.positives))


def texts_of_file(path: Path, seed: int) -> DistilTexts:
    """The texts of a file; one in ten is held out.

    Args:
        path: A text a line; or JSONL with pairs, or with documents in a column that the sources know.
        seed: Of the order, and of what is held out.

    Raises:
        InputError: It cannot be read, or holds too few texts.
    """
    try:
        is_jsonl = path.suffix.lower() in (".jsonl", ".ndjson")
        texts = _different(_of_rows(path) if is_jsonl else decode(path.read_bytes())[0].splitlines())
    except (OSError, ValueError) as error:
        got, remedy = getattr(error, "strerror", None) or error, f"Name another {_FORM}."
        raise InputError(f"--texts {path}", got=got, wanted="a file of texts", remedy=remedy) from None
    random.Random(seed).shuffle(texts)
    held_out = min(_HELD_OUT, round(_SHARE * len(texts)))
    return _drawn(texts[held_out:], texts[:held_out], f"--texts {path}", seed)


def _of_rows(path: Path) -> Iterable[str]:
    if holds_pairs(path):
        return [text for pair in read_pairs(path) for text in (pair.query, pair.positive)]
    try:
        documents = list(row_documents(path.name, read_jsonl(path, lambda _: None), None, None))
    except NoTextColumnError as error:
        raise InputError(f"--texts {path}", got=error.got, wanted=error.wanted, remedy='Name it "text".') from None
    unread = [document for document in documents if isinstance(document, Unread)]
    if unread:
        say(f"{path}: {len(unread):,} rows left out, the first because of: {unread[0].reason}")
    return [
        " ".join((document.blocks[0].heading, *(block.text for block in document.blocks)))
        for document in documents
        if not isinstance(document, Unread)
    ]


def _different(texts: Iterable[str]) -> list[str]:
    """Each text once, white space folded, without those that are empty."""
    folded = dict.fromkeys(" ".join(encodable(text).split()) for text in texts)
    return [text for text in folded if text]


def _drawn(learnt: list[str], held_out: list[str], name: str, seed: int) -> DistilTexts:
    if len(learnt) + len(held_out) < _FEWEST or min(len(learnt), len(held_out)) < 2:
        got = f"{len(learnt)} different texts to learn from and {len(held_out)} to hold out"
        raise InputError(name, got=got, wanted=f"at least {_FEWEST} in all", remedy=f"Give more, by {_FORM}.")
    draw = random.Random(seed)
    return DistilTexts(draw.sample(learnt, len(learnt)), draw.sample(held_out, min(_HELD_OUT, len(held_out))))
