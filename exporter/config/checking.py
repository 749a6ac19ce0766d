"""From plain data to the dataclasses of `config.py`, with every fault and its dotted path.

The classes themselves are the schema: their type hints say which keys there are and what a value may be.
"""

import dataclasses
import difflib
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

from exporter.config import read_keys
from exporter.errors import Fault
from exporter.text.showing import show

Schema = TypeVar("Schema")

BROKEN: Final = object()  # stands for a value whose fault is already known
_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


def convert(values: Mapping[str, object], schema: type[Schema]) -> tuple[Schema | None, list[Fault]]:
    """Fills a config class from plain data.

    Args:
        values: Mappings, lists and scalars, as YAML gives them; `BROKEN` where a fault is already known.
        schema: A dataclass whose fields are scalars, enums, lists, dicts and other such classes.

    Returns:
        The config, or None when any value is broken, and the faults in the order of the keys.
    """
    faults: list[Fault] = []
    config = convert_value(values, schema, "", faults)
    return (None if config is BROKEN else config), faults


def locate(path: str, schema: type) -> tuple[Any, bool, tuple[str, ...]]:
    """Follows a dotted path through a config class.

    Args:
        path: A dotted path such as `options.extra_tags`.
        schema: The class in which it starts.

    Returns:
        The type hint of the value, or None when there is no such key; whether the last name is free (an entry of
        a dict, or anything below `Any`); and the names that are allowed where the path leaves the schema.
    """
    hint: Any = schema
    free = False
    for name in path.split("."):
        hint = _choose_mapping(without_none(hint))
        if hint is Any:
            return Any, True, ()
        if dataclasses.is_dataclass(hint):
            hints = read_keys(hint)
            if name not in hints:
                return None, False, tuple(hints)
            hint, free = hints[name], False
        elif get_origin(hint) is dict:
            hint, free = get_args(hint)[1], True
        else:
            return None, False, ()
    return hint, free, ()


def explain_unknown(name: str, allowed: Iterable[str]) -> str:
    """Says that a key does not exist, which ones do, and which one was probably meant."""
    names = list(allowed)
    if not names:
        return "unknown key; the value above it is not a mapping"
    return f"unknown key; allowed: {', '.join(names)}{suggest(name, names)}"


def explain_choice(received: object, allowed: Iterable[str]) -> str:
    """Says which value was received, which ones are allowed, and which one was probably meant."""
    names = list(allowed)
    return f"received {show(received)}; allowed: {', '.join(names)}{suggest(str(received), names)}"


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Gives `; did you mean ...?` for the nearest allowed name, or nothing when none is near."""
    nearest = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def is_encodable(text: str) -> bool:
    """Whether text can be the name of a file: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def join(path: str, name: object) -> str:
    """Writes the dotted path of an entry."""
    return f"{path}.{name}" if path else str(name)


def without_none(hint: object) -> Any:
    """Gives the type of a hint such as `int | None`, and any other hint as it is."""
    members = _list_members(hint)
    return members[0] if len(members) == 1 else hint


def _list_members(hint: object) -> tuple[Any, ...]:
    """Lists the types of a union apart from None; any other hint is the only one."""
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return tuple(member for member in members if member is not types.NoneType)


def _choose_mapping(hint: object) -> Any:
    """Gives the member of a union that has entries of any name, or the hint as it is."""
    return next((member for member in _list_members(hint) if get_origin(member) is dict), hint)


def convert_value(value: object, hint: object, path: str, faults: list[Fault]) -> Any:
    """Converts one value.

    Args:
        value: Plain data, or `BROKEN`.
        hint: The type that it should have: a scalar, enum, list, dict or dataclass, each possibly None; a union of
            an enum and a scalar, or of a dict and a list; or Any.
        path: The dotted path of the value.
        faults: Is extended by what is wrong.

    Returns:
        The converted value, or `BROKEN`.
    """
    members = _list_members(hint)
    optional = types.NoneType in get_args(hint)
    hint = members[0]
    if value is BROKEN or hint is Any:
        return BROKEN if _holds_broken(value) else value
    if value is None and optional:
        return None
    if len(members) > 1:
        return _convert_member(value, members, optional, path, faults)
    if dataclasses.is_dataclass(hint):
        return _convert_fields(value, hint, path, faults)
    if get_origin(hint) is dict:
        return _convert_entries(value, get_args(hint)[1], path, faults)
    if get_origin(hint) is list:
        return _convert_items(value, get_args(hint)[0], path, faults)
    return _convert_scalar(value, hint, optional, path, faults)


def _convert_member(value: object, members: Sequence[Any], optional: bool, path: str, faults: list[Fault]) -> Any:
    """Converts a value to the first member of a union that takes its kind."""
    for member in members:
        kind = get_origin(member)
        if kind is Callable:
            if callable(value):
                return value
        elif dataclasses.is_dataclass(member):
            keys = read_keys(member)
            if isinstance(value, Mapping) and all(
                key in keys and not isinstance(item, Mapping) for key, item in value.items()
            ):
                return convert_value(value, member, path, faults)
        elif kind is not None:
            if isinstance(value, Mapping if kind is dict else kind):
                return convert_value(value, member, path, faults)
        elif issubclass(member, Enum):
            if value in [choice.value for choice in member]:
                return member(value)
        elif (converted := _SCALARS[member](value)) is not BROKEN:
            return converted
    words = [_word_member(member) for member in members if get_origin(member) is not Callable] + ["null"] * optional
    faults.append(Fault(path, f"received {show(value)}; expected {', '.join(words[:-1])} or {words[-1]}"))
    return BROKEN


def _word_member(member: Any) -> str:
    if dataclasses.is_dataclass(member):
        return f"{{{', '.join(read_keys(member))}}}"
    if get_origin(member) is not None:
        return "a mapping" if get_origin(member) is dict else "a list"
    return ", ".join(choice.value for choice in member) if issubclass(member, Enum) else _EXPECTED[member]


def _holds_broken(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_broken, value.values()))
    if isinstance(value, list):
        return any(map(_holds_broken, value))
    return value is BROKEN


def _convert_fields(value: Any, schema: Any, path: str, faults: list[Fault]) -> Any:
    hints = read_keys(schema)
    if not isinstance(value, Mapping):
        faults.append(Fault(path, f"received {show(value)}; expected a mapping with the keys {', '.join(hints)}"))
        return BROKEN
    count = len(faults)
    for name in value:
        if name not in hints:
            faults.append(Fault(join(path, name), explain_unknown(str(name), hints)))
    required = {field.name for field in dataclasses.fields(schema) if _has_no_default(field)}
    faults.extend(
        Fault(join(path, name), "missing; it has no default") for name in hints if name in required - set(value)
    )
    fields = {
        name: convert_value(value[name], hint, join(path, name), faults)
        for name, hint in hints.items()
        if name in value
    }
    if len(faults) > count or any(field is BROKEN for field in fields.values()):
        return BROKEN
    return schema(**fields)


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert_entries(value: object, hint: object, path: str, faults: list[Fault]) -> Any:
    if not isinstance(value, Mapping):
        faults.append(Fault(path, f"received {show(value)}; expected a mapping, such as {{name: ...}}"))
        return BROKEN
    entries = {str(name): convert_value(entry, hint, join(path, name), faults) for name, entry in value.items()}
    return BROKEN if any(entry is BROKEN for entry in entries.values()) else entries


def _convert_items(value: object, hint: object, path: str, faults: list[Fault]) -> Any:
    if not isinstance(value, list):
        example = f", such as [{show(value)}]" if isinstance(value, str | int | float) else ", such as []"
        faults.append(Fault(path, f"received {show(value)}; expected a list{example}"))
        return BROKEN
    items = [convert_value(item, hint, f"{path}[{index}]", faults) for index, item in enumerate(value)]
    return BROKEN if any(item is BROKEN for item in items) else items


def _convert_scalar(value: Any, hint: Any, optional: bool, path: str, faults: list[Fault]) -> Any:
    allowed = list_choices(hint)
    if allowed:
        if isinstance(value, str | int) and value in allowed:
            return hint(value)
        faults.append(Fault(path, explain_choice(value, [*allowed, "null"] if optional else allowed)))
        return BROKEN
    converted = _SCALARS[hint](value)
    if converted is BROKEN:
        faults.append(Fault(path, f"received {show(value)}; expected {_EXPECTED[hint]}{' or null' * optional}"))
    return converted


def list_choices(hint: Any) -> list[str]:
    """Lists what a value may be, where that is one of a few; empty for any other type."""
    if get_origin(hint) is Annotated:
        return [name for choices in hint.__metadata__ for name in choices]
    return [member.value for member in hint] if isinstance(hint, type) and issubclass(hint, Enum) else []


def _to_bool(value: object) -> Any:
    if isinstance(value, str):
        return _TRUTHS.get(value.lower(), BROKEN)
    return value if isinstance(value, bool) else BROKEN


def _to_int(value: object) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # An environment variable gives its number as text.
    return int(value) if isinstance(value, str) and _INTEGER.fullmatch(value) else BROKEN


def _to_str(value: object) -> Any:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else BROKEN


def _to_float(value: Any) -> Any:
    if isinstance(value, bool):
        return BROKEN
    try:
        number = float(value)
    except (TypeError, ValueError):
        return BROKEN
    return number if math.isfinite(number) else BROKEN


_SCALARS = {bool: _to_bool, int: _to_int, float: _to_float, str: _to_str}
_EXPECTED = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
