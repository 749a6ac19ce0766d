"""Records out of JSON of anybody's: each value is of the type that its field declares, or it is refused by its place.

What is refused is a RecordError; anything else that is raised here is a fault of ours, and looks like one.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

# Where a value is: a text, or what holds it with a key, a number or `.field`. It is written only where it is refused.
_Place = str | tuple[Any, Any]
_Read = Callable[[Any, _Place], Any]

_LONGEST_SHOWN = 60


class RecordError(ValueError):
    """A value is of another type than it has to be, or is not there."""


def read_record(kind: type[T], value: Any, place: str = "it") -> T:
    """Reads what JSON holds as a value of a type.

    Args:
        kind: A dataclass, whose fields JSON gives by name; or a type as its fields have it: `str`, `int`, `float`,
            `bool`, `Any`, an `Enum` by its values, a `tuple` or `Mapping` of such, or a union of such.
        value: What `json.loads` returned.
        place: What the value is called in an error.

    Returns:
        The value. Fields that are not there have their default, and fields that the dataclass lacks are passed over.

    Raises:
        RecordError: It is of another type, or lacks a field that has no default.
    """
    reader: _Read = _find_reader(kind)  # type: ignore[arg-type]  # a type has a hash
    read: T = reader(value, place)
    return read


@cache
def _find_reader(kind: Any) -> _Read:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value, place: value
    if origin in (Union, types.UnionType):
        return _read_union(tuple(_find_reader(each) for each in arguments))
    if origin is tuple:
        return _read_tuple(arguments)
    if origin is not None and issubclass(origin, Mapping):
        return _read_mapping(_find_reader(arguments[1]))
    if is_dataclass(kind):
        return _read_fields(kind)
    if issubclass(kind, Enum):
        return _read_choice(kind)
    return _read_plain(kind)


def _read_plain(kind: type) -> _Read:
    allowed = (int, float) if kind is float else (kind,)

    def read(value: Any, place: _Place) -> Any:
        if type(value) not in allowed:
            raise RecordError(f"{_write(place)} is {_name(value)}, not {_name_kind(kind)}")
        return value

    return read


def _read_choice(kind: type[Enum]) -> _Read:
    known = {each.value: each for each in kind}

    def read(value: Any, place: _Place) -> Any:
        if type(value) is not str or value not in known:
            shown = repr(value[:_LONGEST_SHOWN]) if type(value) is str else _name(value)
            raise RecordError(f"{_write(place)} is {shown}, not one of {', '.join(known)}")
        return known[value]

    return read


def _read_union(readers: tuple[_Read, ...]) -> _Read:
    def read(value: Any, place: _Place) -> Any:
        refusals = []
        for each in readers:
            try:
                return each(value, place)
            except RecordError as refusal:
                refusals.append(refusal)
        raise max(refusals, key=lambda refusal: len(str(refusal).split(" is ", 1)[0]))  # the one that came farthest

    return read


def _read_tuple(arguments: tuple[Any, ...]) -> _Read:
    whole = len(arguments) == 2 and arguments[1] is Ellipsis
    readers = tuple(_find_reader(each) for each in arguments if each is not Ellipsis)

    def read(value: Any, place: _Place) -> Any:
        if type(value) not in (list, tuple):  # plain data that was never JSON has tuples
            raise RecordError(f"{_write(place)} is {_name(value)}, not a list")
        if not whole and len(value) != len(readers):
            raise RecordError(f"{_write(place)} has {len(value)} items, not {len(readers)}")
        return tuple(readers[0 if whole else number](item, (place, number)) for number, item in enumerate(value))

    return read


def _read_mapping(item: _Read) -> _Read:
    def read(value: Any, place: _Place) -> Any:
        if type(value) is not dict:
            raise RecordError(f"{_write(place)} is {_name(value)}, not a mapping")
        return {key: item(each, (place, key)) for key, each in value.items()}

    return read


def _read_fields(kind: Any) -> _Read:
    hints = get_type_hints(kind)
    known = [
        (_Field(each.name), _find_reader(hints[each.name]), each.default is MISSING and each.default_factory is MISSING)
        for each in fields(kind)
    ]

    def read(value: Any, place: _Place) -> Any:
        if type(value) is not dict:
            raise RecordError(f"{_write(place)} is {_name(value)}, not a mapping")
        missing = [name for name, _, needed in known if needed and name not in value]
        if missing:
            raise RecordError(f"{_write(place)} has no {missing[0]!r}")
        return kind(**{name: item(value[name], (place, name)) for name, item, _ in known if name in value})

    return read


class _Field(str):
    """The name of a field, where other texts are keys of a mapping."""


def _write(place: _Place) -> str:
    if isinstance(place, str):
        return place
    owner, key = place
    return f"{_write(owner)}.{key}" if isinstance(key, _Field) else f"{_write(owner)}[{key!r}]"


def _name(value: Any) -> str:
    return "null" if value is None else _name_kind(type(value))


def _name_kind(kind: type) -> str:
    names = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
    return names.get(kind) or {list: "a list", dict: "a mapping", type(None): "null"}.get(kind) or kind.__name__
