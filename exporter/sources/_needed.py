"""The code of its own that a file says it needs: told before TensorFlow starts, as far as the file alone tells it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from exporter.artifacts.inspection.artifacts import open_artifact
from exporter.errors import ArtifactError
from exporter.saving.formats import FORMATS
from exporter.saving.layout.documents import list_mappings


def explain_missing_code(path: Path, given: Mapping[str, str] | Sequence[str] | None) -> str | None:
    """Says which classes a file needs that nothing gives; None where there are none, or where only a load tells.

    Args:
        path: A file or a directory that is there.
        given: The `custom_objects`.
    """
    try:
        with open_artifact(path) as artifact:
            chosen, config = FORMATS.get(artifact.format), artifact.config
    except (ArtifactError, ImportError, OSError):  # whoever loads it says so
        return None
    if chosen is None or chosen.holds_functions:  # which stand for the code
        return None
    known = set(given) if isinstance(given, Mapping) else {each.rpartition(".")[2] for each in given or ()}
    missing = [name for name in dict.fromkeys(_list_own(config)) if not known & {name, name.rpartition(">")[2]}]
    missing = [name for name in missing if not _is_registered(name)]
    if not missing:
        return None
    classes = f"the class{'es' * (len(missing) > 1)} {', '.join(map(repr, missing))}"
    example = missing[0].rpartition(">")[2].rpartition(".")[2]
    return (
        f"{path} needs code that is not in it: {classes}. Name where it is: "
        f"model.custom_objects.{example}=my_package.{example}, in Python custom_objects={{{missing[0]!r}: {example}}}"
    )


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
    return keras is not None and keras.saving.get_registered_object(name) is not None
