"""Errors as a program reads them: what to do about them is spelled as arguments of Python."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from exporter.config import JobConfig, read_keys
from exporter.config.checking import without_none
from exporter.errors import ExporterError, UsageError

_KEYS = "|".join(name for name in read_keys(JobConfig) if name != "model")  # which is given as itself
_SETTING = re.compile(rf"(?<![\w.=-])(?P<key>{_KEYS})(?P<below>(?:\.[a-z_]+)*)=(?P<value>\w[\w.+/-]*\w|\w)")
# A release, which may look like a number.
_TEXTS = {name for name, hint in read_keys(JobConfig).items() if without_none(hint) is str}
_CONSTANTS = {"true": "True", "false": "False", "null": "None"}
# The flags of commands that are arguments of functions: their name, and whether they take several.
_FLAGS = {
    "timeout": ("timeout", False),
    "memory": ("memory", False),
    "public-key": ("public_key", False),
    "signature": ("signature", False),
    "trust": ("trust", True),
    "environment": ("environment", True),
    "input": ("inputs", True),
    "in": ("environments", True),
}
_FLAG = re.compile(rf"--(?P<flag>{'|'.join(_FLAGS)})(?: (?P<value>[\w./:-]*[\w/-]))?(?![\w-])")
_SWITCH = re.compile(r"--(?P<flag>files-only|allow-drift|rebuild)\b")


@contextmanager
def spelled_in_python() -> Iterator[None]:
    """Spells in errors that leave the block what to do about them as it is written in Python."""
    try:
        yield
    except ExporterError as error:
        error.args = tuple(respell(each) if isinstance(each, str) else each for each in error.args)
        if isinstance(error, UsageError):
            error.faults = tuple(
                replace(fault, path=respell(fault.path), message=respell(fault.message)) for fault in error.faults
            )
        raise


def respell(text: str) -> str:
    """Spells the keys and flags of a command line as arguments of Python.

    Args:
        text: Such as `allow it with overwrite=true`.

    Returns:
        Such as `allow it with overwrite=True`.
    """
    text = _SETTING.sub(_respell_setting, text)
    text = _SWITCH.sub(lambda found: f"{found['flag'].replace('-', '_')}=True", text)
    return _FLAG.sub(_respell_flag, text)


def _respell_setting(found: re.Match[str]) -> str:
    is_text = not found["below"] and found["key"] in _TEXTS and not found["value"].isupper()
    value = repr(found["value"]) if is_text and found["value"] != "null" else _spell_value(found["value"])
    for name in reversed(found["below"].split(".")[1:]):
        value = f"{{{name!r}: {value}}}"
    return f"{found['key']}={value}"


def _spell_value(text: str) -> str:
    is_number = re.fullmatch(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?", text) is not None
    return _CONSTANTS.get(text, text if is_number or text.isupper() else repr(text))


def _respell_flag(found: re.Match[str]) -> str:
    name, is_list = _FLAGS[found["flag"]]
    if found["value"] is None:
        return name
    value = _spell_value(found["value"])
    return f"{name}=[{value}]" if is_list else f"{name}={value}"
