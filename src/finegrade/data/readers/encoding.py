"""Bytes to text: UTF-8 where it is UTF-8, else a guess that is told."""

import codecs
from collections.abc import Iterable
from pathlib import Path

from charset_normalizer import from_bytes

_SAMPLE = 1 << 16
_BLOCK = 1 << 20
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins like UTF-16's
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decode(data: bytes) -> tuple[str, str | None]:
    """The text, and the encoding where it had to be guessed (None for UTF-8 and where a mark says it).

    Raises:
        ValueError: It is no text in any encoding.
    """
    encoding, is_guess = _encoding([data])
    return data.decode(encoding, "replace"), encoding if is_guess else None


def file_encoding(path: Path) -> tuple[str, bool]:
    """The encoding of a file that is too large to be held, and whether it had to be guessed.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no text in any encoding.
    """
    with path.open("rb") as file:
        return _encoding(iter(lambda: file.read(_BLOCK), b""))


def _encoding(blocks: Iterable[bytes]) -> tuple[str, bool]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    before = b""
    for block in blocks:
        if not before:
            for mark, encoding in _MARKS.items():
                if block.startswith(mark):
                    return encoding, False
            if b"\0" in block[:_SAMPLE]:
                raise ValueError("binary")
        try:
            decoder.decode(block)
        except UnicodeDecodeError as error:
            return _guessed(before[-_SAMPLE // 2 :] + block, error.start + len(before[-_SAMPLE // 2 :])), True
        before = block
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:  # the last sign is only a part of one
        return _guessed(before[-_SAMPLE:], len(before)), True
    return "utf-8", False


def _guessed(data: bytes, place: int) -> str:
    """From the lines around the place where it is not UTF-8 that hold signs which tell encodings apart."""
    around = max(0, place - _SAMPLE // 2)
    lines = [line for line in data[around : around + _SAMPLE].split(b"\n") if not line.isascii()]
    best = from_bytes(b"\n".join(lines)).best()
    if best is None:
        raise ValueError("no known encoding")
    return best.encoding
