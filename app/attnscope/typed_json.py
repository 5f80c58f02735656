"""Reading a JSON file that anybody may have written: typed, bounded, refused with line, field, value and range."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

MAX_CONTAINERS = 250_000
"""Objects and arrays in one file: what a 16 MiB file of ours can hold, far less than what one can be made to hold."""
MAX_QUOTES = 2_000_000
MAX_COMMAS = 3_000_000
MAX_SEARCHED = 2_000_000
"""Bytes. In a larger file the line of a wrong value is not looked for: the search is slower than the decoder."""

MAX_SENTENCE = 300

T = TypeVar("T")
Path = tuple[str | int, ...]

_AT = re.compile(r"^(?P<what>.*) - at `(?:key` in `)?\$(?P<path>.*?)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[\.\.\.\]")
_BYTE = re.compile(r"\(byte (\d+)\)")
_FIELD = re.compile(r"(unknown field|missing required field) `(.*)`")


class BadJsonError(Exception):
    """The file is not what it should be. The text goes on from its name: `line 12: n must be …`."""

    def __init__(self, text: str) -> None:
        words = " ".join(text.split())  # a field's name is the file's and may hold anything
        super().__init__(words if len(words) <= MAX_SENTENCE else words[:MAX_SENTENCE] + "…")


def decode(data: bytes, type_: type[T]) -> T:
    """Raises: BadJsonError, and nothing else whatever `data` is."""
    containers = data.count(b"{") + data.count(b"[")
    if containers > MAX_CONTAINERS or data.count(b'"') > MAX_QUOTES or data.count(b",") > MAX_COMMAS:
        raise BadJsonError("holds more values than a file of ours does")
    try:
        return msgspec.json.decode(data, type=type_)
    except msgspec.ValidationError as error:
        raise BadJsonError(_validation(data, str(error), type_)) from error
    except msgspec.DecodeError as error:
        raise BadJsonError(_malformed(data, str(error))) from error
    except UnicodeDecodeError as error:
        raise BadJsonError(f"line {_line(data, _not_utf8(data))}: not UTF-8 text") from error
    except RecursionError as error:
        raise BadJsonError("is nested too deeply") from error


def _malformed(data: bytes, text: str) -> str:
    at = _BYTE.search(text)
    if at is None:
        return f"is not complete JSON ({text})"
    what = _BYTE.sub("", text.removeprefix("JSON is malformed: ")).strip()
    return f"line {_line(data, int(at[1]))}: not JSON ({what})"


def _not_utf8(data: bytes) -> int:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _validation(data: bytes, text: str, type_: type) -> str:
    """From msgspec's message to line, field, range and value."""
    found = _AT.match(text)
    if not found:
        return f"is not what it should be: {text}"
    path: Path = tuple(int(index) if index else name for name, index in _STEP.findall(found["path"]) if name or index)
    exact = "[...]" not in found["path"] and "`key`" not in text
    place = _locate(data, path)
    line = f"line {place[0]}: " if place else ""
    name = ".".join(str(part) for part in path) or "the file"
    field = _FIELD.search(found["what"])
    if field:
        return f"{line}{name} has no field {field[2]!r}" if field[1] == "unknown field" else f"{line}{name} lacks {field[2]!r}"
    expected = _expected(inspect.type_info(type_), path) if exact else ""
    if not expected or not found["what"].startswith(("Expected", "Invalid")):
        return f"{line}{name}: {found['what']}"
    was = f" (was {_shorten(place[1])})" if place else ""
    return f"{line}{name} must be {expected}{was}"


def _expected(type_: inspect.Type, path: Path) -> str:
    """What may stand at `path`, in words; empty where the type has no short ones."""
    for part in path:
        while isinstance(type_, inspect.CustomType | inspect.Metadata):
            type_ = type_.type  # type: ignore[union-attr]
        if isinstance(type_, inspect.StructType):
            type_ = next((field.type for field in type_.fields if field.encode_name == part), inspect.AnyType())
        elif isinstance(type_, inspect.VarTupleType | inspect.ListType):
            type_ = type_.item_type
        elif isinstance(type_, inspect.TupleType) and isinstance(part, int) and part < len(type_.item_types):
            type_ = type_.item_types[part]
        else:
            return ""
    return _words(type_.type if isinstance(type_, inspect.Metadata) else type_)


def _words(type_: inspect.Type) -> str:
    match type_:
        case inspect.IntType(ge=low, le=high) if low is not None and high is not None:
            return f"{low:,} to {high:,}"
        case inspect.IntType():
            return "a whole number"
        case inspect.FloatType(gt=low, le=high) if low is not None and high is not None:
            return f"over {low:g}, up to {high:g}"
        case inspect.FloatType():
            return "a number"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(str(value) for value in values)
        case inspect.StrType(max_length=limit):
            return f"text of at most {limit:,} characters" if limit else "text"
        case _:
            return ""


def _locate(data: bytes, path: Path) -> tuple[int, str] | None:
    """Line and text of the value at `path`; None when it can not be found."""
    if len(data) > MAX_SEARCHED:
        return None
    text = data.decode("utf-8", "replace")
    scan = json.JSONDecoder().raw_decode
    try:
        at = _value_start(text, 0)
        for part in path:
            at = _member(text, at, part, scan) if isinstance(part, str) else _item(text, at, part, scan)
        _, end = scan(text, at)
    except (ValueError, IndexError, KeyError, RecursionError):
        return None
    return text.count("\n", 0, at) + 1, text[at:end]


def _member(text: str, at: int, name: str, scan: Any) -> int:
    """Where the value of a member of the object at `at` begins."""
    if text[at] != "{":
        raise KeyError(name)
    at += 1
    while True:
        key, at = scan(text, _value_start(text, at))
        at = _value_start(text, _value_start(text, at) + 1)  # past the colon
        if key == name:
            return at
        at = _past_comma(text, scan(text, at)[1])


def _item(text: str, at: int, index: int, scan: Any) -> int:
    if text[at] != "[":
        raise IndexError(index)
    at = _value_start(text, at + 1)
    for _ in range(index):
        at = _value_start(text, _past_comma(text, scan(text, at)[1]))
    return at


def _value_start(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


def _past_comma(text: str, at: int) -> int:
    at = _value_start(text, at)
    if text[at] != ",":
        raise KeyError
    return at + 1


def _line(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1


def _shorten(value: str) -> str:
    value = " ".join(value[:200].split())
    try:
        return f"{int(value):,}" if len(value) < 20 else value[:20] + "…"
    except ValueError:
        return value if len(value) <= 40 else value[:40] + "…"
