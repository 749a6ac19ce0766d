"""The code of its own that a file says it needs: told before TensorFlow starts, as far as the file alone tells it."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from exporter.artifacts.inspection.artifacts import open_artifact
from exporter.errors import ArtifactError
from exporter.saving.formats import FORMATS
from exporter.saving.layout.documents import list_mappings

# Where the functions are that a configuration names without their module.
_MODULES = ("activations", "constraints", "initializers", "losses", "metrics", "optimizers", "regularizers")
_COMPILED = ("loss", "metrics", "weighted_metrics")
# What `compile` and older versions of Keras have beside those names, written as `_fold` does.
_OTHERS = frozenset(
    (
        *("mse", "mae", "mape", "msle", "bce", "kld", "kullbackleiblerdivergence", "cosine", "cosinedistance"),
        *("cosineproximity", "logcosh", "acc", "accuracy", "ce", "crossentropy", "hardswish", "swish", "auto"),
    )
)


def explain_missing_code(
    path: Path, given: Mapping[str, str] | Sequence[str] | None, compile: bool = True
) -> str | None:
    """Says which code a file needs that nothing gives; None where there is none, or where only a load tells.

    Args:
        path: A file or a directory that is there.
        given: The `custom_objects`.
        compile: Whether the model is compiled.
    """
    try:
        with open_artifact(path) as artifact:
            chosen, config, compiled = FORMATS.get(artifact.format), artifact.config, artifact.compile_config
    except (ArtifactError, ImportError, OSError):  # whoever loads it says so
        return None
    if chosen is None or chosen.holds_functions:  # which stand for the code
        return None
    known = set(given) if isinstance(given, Mapping) else {each.rpartition(".")[2] for each in given or ()}
    body = {key: value for key, value in (config or {}).items() if key != "compile_config"}
    parts: list[object] = [body, compiled] if compile else [body]
    names = _list_plain([body]) if not compile else [*_list_plain(parts), *_list_compiled(compiled)]
    words = dict.fromkeys(_list_own(parts), "class") | dict.fromkeys(_list_unknown(names), "function")
    missing = [name for name in words if not known & {name, _shorten(name)} and not _is_registered(name)]
    if not missing:
        return None
    kinds = {kind: [name for name in missing if words[name] == kind] for kind in ("class", "function")}
    plurals = {"class": "classes", "function": "functions"}
    told = [
        f"the {kind if len(named) == 1 else plurals[kind]} {', '.join(map(repr, named))}"
        for kind, named in kinds.items()
        if named
    ]
    typed = " ".join(f"model.custom_objects.{_shorten(name)}=my_package.{_shorten(name)}" for name in missing)
    objects = ", ".join(f"{name!r}: {_shorten(name)}" for name in missing)
    return (
        f"{path} needs code that is not in it: {' and '.join(told)}. Name where it is: {typed}, in Python "
        f"custom_objects={{{objects}}}"
    )


def _shorten(name: str) -> str:
    return name.rpartition(">")[2].rpartition(".")[2]


def _list_unknown(names: Sequence[str]) -> Iterator[str]:
    """Gives the functions that Keras has not; those of which the code is in the file have no name."""
    known = _read_keras_names()
    yield from (name for name in names if known and name.isidentifier() and _fold(name) not in known)


def _list_plain(parts: Sequence[object]) -> list[str]:
    """Lists the functions that are named without their module."""
    names = []
    for node in list_mappings(parts):
        inner, module = node.get("config"), node.get("module")
        if node.get("class_name") == "function" and isinstance(inner, str) and module in (None, "builtins"):
            names.append(inner)
        named = {key: value for key, value in node.items() if key == "fn" or str(key).endswith("activation")}
        names += [value for value in named.values() if isinstance(value, str)]
    return names


def _list_compiled(compiled: Mapping[str, Any] | None) -> list[str]:
    """Lists the losses and metrics that are named by nothing but a text."""
    names: list[str] = []
    waiting = [(compiled or {}).get(key) for key in _COMPILED]
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            names.append(node)
        elif isinstance(node, list):
            waiting += node
        elif isinstance(node, dict) and "class_name" not in node:
            waiting += node.values()
    return names


@cache
def _read_keras_names() -> frozenset[str]:
    """Reads the public names of the installed Keras without importing it; none where its files are arranged anew."""
    found = importlib.util.find_spec("keras")
    names: set[str] = set()
    for module in _MODULES:
        file = Path(found.origin or "").parent / module / "__init__.py" if found is not None else Path()
        try:
            names.update(re.findall(r"\bas (\w+)", file.read_text(encoding="utf-8")))
        except OSError:
            return frozenset()
    return frozenset(map(_fold, names)) | _OTHERS if names else frozenset()


def _fold(name: str) -> str:
    return name.replace("_", "").lower()


def _list_own(config: object) -> Iterator[str]:
    """Names the classes that are neither Keras's nor anybody's whose package is installed."""
    for node in list_mappings(config):
        name, module, registered = (node.get(key) for key in ("class_name", "module", "registered_name"))
        if "module" not in node or not isinstance(name, str) or not isinstance(registered, str):
            continue  # older versions wrote no more than a name, which may be one of theirs
        is_nowhere = ">" in registered if module is None else not _is_importable(str(module))
        if is_nowhere:
            yield registered


def _is_importable(module: str) -> bool:
    package = module.partition(".")[0]
    try:
        return package in sys.modules or importlib.util.find_spec(package) is not None
    except (ValueError, ImportError):
        return True


def _is_registered(name: str) -> bool:
    """Tells whether code of this process has registered a class: nothing can where Keras was not imported."""
    keras: Any = sys.modules.get("keras")
    if keras is None:
        return False
    registered = keras.saving.get_custom_objects()
    return keras.saving.get_registered_object(name) is not None or any(each.endswith(f">{name}") for each in registered)
