"""What is given in Python where a recipe has text: the option of a group by its name, and functions themselves."""

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any

import yaml

from exporter.config.checking import BROKEN, explain_choice
from exporter.config.directories import CONFIG_DIRECTORY
from exporter.errors import Fault

_TARGET = "_target_"
# A model is given as itself, and what Hydra does is asked of a recipe.
_GROUPS = {path.name for path in CONFIG_DIRECTORY.iterdir() if path.is_dir()} - {"model", "hydra"}


def read_settings(settings: Mapping[str, object]) -> tuple[dict[str, Any], list[Fault]]:
    """Reads keys of the config as Python gives them.

    Args:
        settings: By name: what YAML can say; `"reload"` for `verify`, and the option of every other group, by its name;
            an instance of the config's own classes; functions and other objects where YAML has `_target_`.

    Returns:
        The same as plain data, in which a function is named where another process can import it by that name, and the
        faults.
    """
    faults: list[Fault] = []
    values = {
        name: _read_option(name, value, faults) if name in _GROUPS and isinstance(value, str) else make_plain(value)
        for name, value in settings.items()
    }
    return values, faults


def _read_option(group: str, name: str, faults: list[Fault]) -> Any:
    options = {path.stem: path for path in sorted((CONFIG_DIRECTORY / group).glob("*.yaml"))}
    if name not in options:
        faults.append(Fault(group, explain_choice(name, options)))
        return BROKEN
    return yaml.safe_load(options[name].read_text(encoding="utf-8"))


def make_plain(value: Any) -> Any:
    """Makes plain data of a value; an object that has no name that can be imported stays as it is."""
    if is_dataclass(value) and not isinstance(value, type):
        return make_plain(asdict(value))
    if isinstance(value, Mapping):
        plain = {name: make_plain(entry) for name, entry in value.items() if name != _TARGET}
        return _write_call(value[_TARGET], plain) if _TARGET in value else plain
    if isinstance(value, list | tuple):
        return [make_plain(entry) for entry in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return _write_call(value, {}) if is_function(value) else value


def is_function(value: object) -> bool:
    """Tells whether something is a function or a class, or one with some of its arguments."""
    return isinstance(value, partial) or (callable(value) and hasattr(value, "__qualname__"))


def _write_call(function: Any, arguments: dict[str, Any]) -> Any:
    """Writes a call as YAML does, or else as a function that has these arguments."""
    if not callable(function):
        return {_TARGET: function, **arguments}
    inner, known = function, arguments
    if isinstance(function, partial) and not function.args:
        inner, known = function.func, {**make_plain(function.keywords), **arguments}
    name = find_name(inner)
    if name is not None:
        return {_TARGET: name, **known}
    return partial(function, **arguments) if arguments else function


def find_name(function: Any) -> str | None:
    """Gives the dotted name under which another process can import a function or a class; None where it has none."""
    module, place = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(place, str) or module in ("__main__", "builtins"):
        return None
    found: Any = sys.modules.get(module)
    for part in place.split("."):
        found = getattr(found, part, None)
    return f"{module}.{place}" if found is function else None
