"""Values of any kind as text that is shown: names of layers and files, keys, versions, other people's errors.

What is shown is text and nothing else. A terminal obeys control characters, a bidirectional override turns a line
around, and a line break begins a line that reads like one of ours. So a value is escaped where it enters a line, and
whatever shows lines (`errors`, `_page`, the logs, the report) lets nothing but printable characters through.
"""

import json
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

from exporter.text.hiding import hide
from exporter.text.printable import escape

_SHOWN = 120  # characters of a value in a message
_LONGEST_SHOWN = 60  # of one that stands in a recipe
_LONGEST_LINE = 4_000  # of any line: as long as a path can be
_LISTED = 3
_CUT = " ... "


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


def escape_line(text: str) -> str:
    """Writes one line of what is shown: escaped, and without the middle of what is longer than any line of ours.

    Args:
        text: A line that was put together.
    """
    return _cut_middle(escape(_cut_middle(text)))


def print_line(text: str, file: TextIO | None = None) -> None:
    """Prints one line, whatever it holds.

    Args:
        text: The line.
        file: Where to print; None for the standard output.
    """
    print(escape_line(text), file=file)


def escape_lines(text: str) -> str:
    """Writes a text of several lines, such as a log: everything but its line breaks is escaped.

    Args:
        text: The text.
    """
    return "\n".join(map(escape, text.split("\n")))


def _cut_middle(text: str) -> str:
    """Leaves out the middle: a message begins with what happened and ends with the remedy."""
    half = (_LONGEST_LINE - len(_CUT)) // 2
    return text if len(text) <= _LONGEST_LINE else f"{text[:half]}{_CUT}{text[-half:]}"


def show(value: object) -> str:
    """Writes a value the way it is typed in YAML, shortened."""
    text = value if isinstance(value, str) and value.strip() else json.dumps(value, default=str, ensure_ascii=False)
    return shorten(text, _LONGEST_SHOWN)


def shorten(text: str, longest: int) -> str:
    """Writes text on one line, escaped, without what the environment gave, and cut to a length."""
    text = escape(hide(text))  # hidden before a part of it is cut off
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def list_first(items: Sequence[str], most: int = _LISTED) -> str:
    """Lists names or other short texts in a line; of many, the first ones."""
    shown = ", ".join(map(escape, items[:most]))
    return f"{shown}, and {len(items) - most} more" if len(items) > most else shown


# What TensorFlow and Keras write above the words of an error that came up inside of a graph or of a layer's call.
_HEADINGS = ("Graph execution error:", "Detected at node", 'File "', "Exception encountered when calling")
_BOLD = re.compile(r"\x1b\[[01]m")


def find_first_line(error: BaseException | str, otherwise: str = "no message") -> str:
    """Returns the first line of an error that says something, escaped.

    Args:
        error: Anybody's error, or its text.
        otherwise: What is returned where there is no such line.
    """
    lines = [line.strip() for line in _BOLD.sub("", str(error)).splitlines() if line.strip()]
    said = (line for line in lines if not line.startswith(_HEADINGS))
    return escape(next(said, lines[0] if lines else otherwise))


def join_lines(error: BaseException) -> str:
    """Returns all that an error of others says, on one line, escaped.

    Args:
        error: It.
    """
    return escape(" ".join(map(str.strip, str(error).splitlines())))


def describe_value(value: object) -> str:
    """Writes a value for a message as Python writes it, on one line and not longer than a line.

    Args:
        value: Whatever was received.

    Returns:
        Its `repr`; of a long one the beginning, and of a single text or object the end as well.
    """
    line = re.sub(r"\s*\n\s*", " ", _Shortened().repr(value))
    line = escape(line)  # an object's own `__repr__` may hold anything
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."


def describe_if_possible(write: Callable[[], object]) -> str:
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


def write_json(value: object, default: Callable[[Any], Any] | None = None) -> str:
    r"""Writes indented JSON that ends with a newline and can be shown: letters as they are, the rest as `\u202e`.

    Args:
        value: Plain data.
        default: Makes plain data of what is none, as `json.dumps` takes it.
    """
    return escape_json(json.dumps(value, indent=2, ensure_ascii=False, default=default)) + "\n"


def escape_json(text: str) -> str:
    """Escapes in JSON what is not printable; it says the same as before.

    Args:
        text: JSON, which outside of its texts has printable characters and line breaks alone.
    """
    if text.replace("\n", "").isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)


def escape_interpolations(value: object) -> Any:
    """Writes every text in plain data so that it is read as a recipe as itself, and not as an interpolation.

    Args:
        value: Mappings, lists and scalars.
    """
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: f"{match[1] * 2}\\${{", value)
    if isinstance(value, Mapping):
        return {key: escape_interpolations(entry) for key, entry in value.items()}
    return [escape_interpolations(entry) for entry in value] if isinstance(value, list) else value


def format_moment(text: str) -> str:
    """Words a date for a reader of this place, to the minute; empty where a record has something else instead.

    Args:
        text: ISO 8601 with a time zone, or anything that stands in its place.
    """
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return ""
