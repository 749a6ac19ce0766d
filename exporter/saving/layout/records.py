"""Records out of JSON of anybody's: each value is of the type that its field declares, or is refused by its place."""

import re
from typing import TypeVar

import msgspec

T = TypeVar("T")

# msgspec's names of the types of JSON and of Python, as a person says them.
_WORDS = {
    "str": "a text",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


class RecordError(ValueError):
    """A value is of another type than it has to be, or is not there."""


def read_record(kind: type[T], value: object, place: str = "it") -> T:
    """Reads what JSON holds as a value of a type.

    Args:
        kind: A dataclass, whose fields JSON gives by name, or another type that msgspec converts to.
        value: What `json.loads` returned.
        place: What the value is called in an error.

    Returns:
        The value. Fields that are not there have their default, and fields that the dataclass lacks are passed over.

    Raises:
        RecordError: It is of another type, or lacks a field that has no default.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise RecordError(_explain(str(error), place)) from error


def _explain(message: str, place: str) -> str:
    """Says in words what msgspec refuses, such as "Expected `str`, got `int` - at `$.files[0].path`"."""
    what, _, where = message.partition(" - at `$")
    place += where.rstrip("`")
    if found := re.fullmatch(r"Expected `([^`]+)`, got `([^`]+)`", what):
        expected, received = (_word(each) for each in found.groups())
        return f"{place} is {received}, not {expected}"
    if found := re.fullmatch(r"Expected `array` of length (\d+), got (\d+)", what):
        return f"{place} has {found[2]} items, not {found[1]}"
    if found := re.fullmatch(r"Object missing required field `([^`]+)`", what):
        return f"{place} has no {found[1]!r}"
    return f"{place}: {what[:1].lower()}{what[1:]}"


def _word(kinds: str) -> str:
    return " or ".join(_WORDS.get(each.strip(), each.strip()) for each in kinds.split("|"))
