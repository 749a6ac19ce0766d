"""Errors of anybody's code in a line, with the place in that code that they came from."""

import os
import re
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from exporter.text.printable import escape
from exporter.text.showing import describe_if_possible, find_first_line, shorten

_LONGEST = 300  # characters of an error's own words
# TensorFlow writes the place into the text of what came up inside of a graph or of what AutoGraph made.
_IN_TEXT = ("Graph execution error:", "in user code:")
_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+), in (\w+)', re.MULTILINE)
# What AutoGraph makes of a function, anybody's, and writes into a temporary directory.
_MADE = "__autograph_generated_file"
# Of code that has no file: what was typed into a shell or a notebook.
_TYPED = ("<stdin>", "<ipython-input")


def describe_failure(error: BaseException) -> str:
    """Says what was raised and where in the user's own code, and the same of the cause that it was raised from.

    Args:
        error: Anybody's.

    Returns:
        Such as `ValueError: no such data (my_models.py:12 in build)`, escaped.
    """
    first, last = _find_original(error), _find_original(_find_last_cause(error))
    told = _describe(first)
    return told if last is first else f"{told}; its cause: {_describe(last)}"


def find_own_place(error: BaseException) -> str:
    """Finds the innermost line of the user's own code that an error, or what it was raised from, came from.

    Args:
        error: Anybody's, or one of ours that was raised from it.

    Returns:
        Such as `my_models.py:12 in build`; empty where only libraries and this package were at work.
    """
    return next((place for each in _follow(error) if (place := _find_place(each))), "")


def name_origin(error: BaseException) -> str:
    """Says after a sentence about an error that it came from the user's own code; nothing if it did not."""
    own = next((each for each in _follow(error) if _find_place(each)), None)
    return "" if own is None else f" It came from {describe_failure(own)}."


def locate_definition(function: Callable[..., object]) -> str:
    """Finds where a function of the user's own is written, as `find_own_place` says it; empty for any other."""
    code = getattr(function, "__code__", None)
    return _word(code.co_filename, code.co_firstlineno, code.co_name) if code and _is_own(code.co_filename) else ""


def _describe(error: BaseException) -> str:
    place = _find_place(error)
    text = describe_if_possible(lambda: shorten(_read_text(error), _LONGEST))
    told = f"{type(error).__name__}: {text}".removesuffix(": ")
    return f"{told} ({place})" if place else told


def _read_text(error: BaseException) -> str:
    if str(error).startswith(_IN_TEXT[1]):  # the reason comes last, with the name of its class
        return str(error).rstrip().splitlines()[-1].strip().removeprefix(f"{type(error).__name__}: ")
    return find_first_line(error.msg if isinstance(error, SyntaxError) else error, "")


def _find_last_cause(error: BaseException) -> BaseException:
    causes = [error]
    while (cause := causes[-1].__cause__) is not None and cause not in causes:
        causes.append(cause)
    return causes[-1]


def _find_original(error: BaseException) -> BaseException:
    """Finds the error of which Keras, on its way out of the same line, made a longer one."""
    place = _find_place(error)
    return [each for each in _follow(error) if _find_place(each) == place][-1] if place else error


def _follow(error: BaseException) -> Iterator[BaseException]:
    """Gives an error and all that led to it."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        yield following
        seen.append(following)
        following = following.__cause__ or following.__context__


def _find_place(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename and _is_own(error.filename):
        return _word(error.filename, error.lineno or 1, "")
    frames = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append((code.co_filename, traceback.tb_lineno, code.co_name))
        traceback = traceback.tb_next
    with suppress(Exception):  # its own `__str__` may raise anything
        if str(error).startswith(_IN_TEXT):
            frames += [(file, int(line), name) for file, line, name in _FRAME.findall(str(error))]
    return next((_word(*frame) for frame in reversed(frames) if _is_own(frame[0])), "")


def _word(file: str, line: int, name: str) -> str:
    shown = os.path.relpath(file) if Path(file).is_relative_to(Path.cwd()) else file
    return escape(f"{shown}:{line}{f' in {name}' if name.isidentifier() else ''}")


@cache
def _is_own(file: str) -> bool:
    """Tells whether code is neither this package's, nor a library's, nor made by one while it runs."""
    if file.startswith(_TYPED):
        return True
    parts = Path(file).parts
    if not os.path.isabs(file) or {"site-packages", "dist-packages"} & set(parts) or parts[-1].startswith(_MADE):
        return False
    return os.path.isfile(file) and not any(Path(file).is_relative_to(place) for place in _list_libraries())


@cache
def _list_libraries() -> tuple[str, ...]:
    installed = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return (*filter(None, installed), str(Path(__file__).parents[1]))
