"""JSON that users and data sets bring: a fault names its file, its line and what was expected."""

import json
from pathlib import Path
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def read_json(path: Path, kind: type[Kind] = dict) -> Kind:
    """The value of a file; kind: dict, list, or object for any. ValueError where it is no JSON or of another kind.

    FileNotFoundError names the file too.
    """
    value = _parsed(_text(path), f"{path}")
    if not isinstance(value, kind):
        wanted = {dict: "an object {...}", list: "a list [...]"}[kind]
        raise ValueError(f"{path}: {wanted} is expected, it holds a {type(value).__name__}")
    return value


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one JSON object a line; empty lines are skipped."""
    out = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if line.strip():
            value = _parsed(line, f"{path}, line {number}", "; one JSON object a line is expected")
            if not isinstance(value, dict):
                raise ValueError(f"{path}, line {number}: one JSON object a line is expected")
            out.append(value)
    return out


def _text(path: Path) -> str:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not JSON (no text in UTF-8)") from None


def _parsed(text: str, origin: str, wanted: str = "") -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if not wanted else f"column {error.colno}"
        raise ValueError(f"{origin}: not JSON ({error.msg} at {place}){wanted}") from None
    except RecursionError:
        raise ValueError(f"{origin}: not JSON (nested too deep)") from None
