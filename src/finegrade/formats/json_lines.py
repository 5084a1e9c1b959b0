"""A row as a line of JSON that every reader takes for one line, and that is read as what it was."""

import json
from collections.abc import Mapping
from typing import Any

_LINE_ENDS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "\x85\u2028\u2029"}  # some readers take them for such


def json_line(row: Mapping[str, Any]) -> str:
    """The row as JSON, with a line end."""
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # lone surrogates, in a value that nobody looks at: escaped, as they came
        line = json.dumps(row)
    return line.translate(_LINE_ENDS) + "\n"
