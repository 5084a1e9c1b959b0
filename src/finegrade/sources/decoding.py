"""Bytes to text: UTF-8 where it is UTF-8, else a guess that is told."""

import codecs

from charset_normalizer import from_bytes

_SAMPLE = 1 << 16
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def decode(data: bytes) -> tuple[str, str | None]:
    """The text, and the encoding where it had to be guessed (None for UTF-8 and where a mark says it).

    Raises:
        ValueError: It is no text in any encoding.
    """
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, "replace"), None
    if b"\0" in data[:_SAMPLE]:
        raise ValueError("binary")
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError as error:
        around = max(0, error.start - _SAMPLE // 2)  # where the signs are that tell encodings apart
        best = from_bytes(data[around : around + _SAMPLE]).best()
    if best is None:
        raise ValueError("no known encoding")
    return data.decode(best.encoding, "replace"), best.encoding
