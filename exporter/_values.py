"""Values of any kind in messages."""

import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

_SHOWN = 120  # characters of a value in a message


class _Shortened(reprlib.Repr):
    """Writes values of any size and depth, also those whose own `__repr__` fails."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, _SHOWN, _SHOWN

    def repr_int(self, value: int, level: int) -> str:
        try:
            return super().repr_int(value, level)
        except ValueError:  # Python writes no more than some thousand digits
            return f"<int of {value.bit_length()} bits>"


def describe_value(value: Any) -> str:
    """Writes a value for a message as Python writes it, on one line and not longer than a line.

    Args:
        value: Whatever was received.

    Returns:
        Its `repr`; of a long one the beginning, and of a single text or object the end as well.
    """
    line = re.sub(r"\s*\n\s*", " ", _Shortened().repr(value))
    line = escape(line)  # an object's own `__repr__` may hold anything
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."


def escape(text: str) -> str:
    """Writes what is not printable, and could steer a terminal, as Python writes it in a text.

    Args:
        text: Whatever was received, such as the name of a file.

    Returns:
        It, on one line, and at its full length.
    """
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def describe_if_possible(write: Callable[[], Any]) -> str:
    """Writes what an object of anybody's says of itself, in a line that is worth no failure.

    Args:
        write: Returns the line; it may raise whatever the object's own code raises.

    Returns:
        The line with what could steer a terminal escaped, or one that says why there is none.
    """
    try:
        return escape(str(write()))
    except Exception as error:
        return f"cannot be described: {type(error).__name__}"


def escape_interpolations(value: Any) -> Any:
    """Writes every text in plain data so that it is read as a recipe as itself, and not as an interpolation.

    Args:
        value: Mappings, lists and scalars.
    """
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: f"{match[1] * 2}\\${{", value)
    if isinstance(value, Mapping):
        return {key: escape_interpolations(entry) for key, entry in value.items()}
    return [escape_interpolations(entry) for entry in value] if isinstance(value, list) else value
