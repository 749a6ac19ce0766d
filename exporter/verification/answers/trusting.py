"""Code of a model's own that its user lets an artifact have: modules that are trusted by name."""

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

from exporter.artifacts.inspection.artifacts import Artifact
from exporter.errors import ArgumentError
from exporter.saving.layout.documents import list_mappings
from exporter.text.failures import describe_failure


def import_trusted(artifact: Artifact, trusted: Sequence[str]) -> dict[str, Any]:
    """Imports modules that are trusted, and of those below them the ones that an artifact names.

    Args:
        artifact: Whose configuration names classes and functions.
        trusted: Modules and packages.

    Returns:
        Those of its classes and functions that are in these modules, by the name under which they were saved.

    Raises:
        ArgumentError: A module cannot be imported.
    """
    named = list(_list_names(artifact))
    below = {module for module, _, _ in named if any(module.startswith(f"{each}.") for each in trusted)}
    modules = {name: _import(name) for name in (*trusted, *sorted(below))}
    found = {}
    for module, place, name in named:
        # What an older Keras wrote does not say the module.
        homes = [modules[module]] if module in modules else modules.values() if not module else ()
        for home in homes:
            if hasattr(home, place):
                found[name] = getattr(home, place)
    return found


def _list_names(artifact: Artifact) -> Iterator[tuple[str, str, str]]:
    """Gives the module of each class and function, its name there, and the name under which it was saved."""
    for document in (artifact.config, artifact.compile_config):
        for node in list_mappings(document):
            if "class_name" in node:
                place = node.get("config") if node["class_name"] == "function" else node["class_name"]
                name = node.get("registered_name")
                if isinstance(place, str):
                    saved = name if isinstance(name, str) and name != "function" else place
                    yield str(node.get("module") or ""), place, saved


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # it may be anybody's code
        raise ArgumentError(
            f"--trust {name}: it cannot be imported: {describe_failure(error)}. Run the command from the directory "
            "that holds it, or add that directory to PYTHONPATH."
        ) from error
