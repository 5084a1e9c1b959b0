"""JSONL, a line at a time: each row with its line number, or why the line is none."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MAX_ROW_BYTES = 4_000_000


def jsonl_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Yields line numbers, from 1, with the object on the line, or in its place a string that says why it is none.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_ROW_BYTES + 1):
            number += 1
            if len(line) > MAX_ROW_BYTES:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_ROW_BYTES)
                yield number, f"row of more than {MAX_ROW_BYTES:,} bytes"
            elif line.strip():
                yield number, _row(line)


def _row(line: bytes) -> Mapping[str, Any] | str:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return f"byte 0x{line[error.start]:02x}, which is not UTF-8"
    except (ValueError, RecursionError):
        return "no JSON"
    return row if isinstance(row, dict) else "no JSON object"


_LINE_ENDS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "\x85\u2028\u2029"}  # some readers take them for such


def json_line(row: Mapping[str, Any]) -> str:
    """The row as JSON, with a line end."""
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # lone surrogates, in a value that nobody looks at: escaped, as they came
        line = json.dumps(row)
    return line.translate(_LINE_ENDS) + "\n"
