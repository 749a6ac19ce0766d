"""The keys of a recipe that another version wrote: it may know more of them, or fewer."""

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any, get_args, get_origin

from exporter.artifacts.inspection.artifacts import Artifact
from exporter.config import ExportConfig, read_keys
from exporter.config.checking import join, without_none
from exporter.errors import ArtifactError
from exporter.exporting.references import HYDRA_KEYS, find_source, name_arguments
from exporter.text.showing import show

_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")


def check_keys(recipe: Mapping[str, object], artifact: Artifact) -> list[str]:
    """Compares the keys of a recipe with those of this version.

    Args:
        recipe: What is taken of it.
        artifact: That it stands in.

    Returns:
        The dotted paths of those that it does not say, because its version did not know them.

    Raises:
        ArtifactError: It says what this version does not know; all such keys are named.
    """
    found = list(_compare(recipe, ExportConfig, ""))
    found += [(f"model.{name}", True) for name in _list_unknown_arguments(recipe.get("model"))]
    if unknown := [path for path, is_unknown in found if is_unknown]:
        raise ArtifactError(_explain_unknown(unknown, artifact))
    return [path for path, _ in found]


def _compare(value: object, hint: object, path: str) -> Iterator[tuple[str, bool]]:
    """Yields every key that only one of the two has, and whether it is the recipe."""
    hint = without_none(hint)
    if not isinstance(value, Mapping):
        return
    if dataclasses.is_dataclass(hint):
        known = read_keys(hint, kept=True)
        yield from ((join(path, name), True) for name in value if name not in known)
        for name, kind in known.items():
            if name in value:
                yield from _compare(value[name], kind, join(path, name))
            else:
                yield join(path, name), False
    elif get_origin(hint) is dict:
        for name, entry in value.items():
            yield from _compare(entry, get_args(hint)[1], join(path, name))


def _list_unknown_arguments(model: Any) -> list[str]:
    source = find_source(model)
    known = () if source is None else (*name_arguments(source), *HYDRA_KEYS)
    return [] if source is None else [str(name) for name in model if name not in known]


def _explain_unknown(unknown: list[str], artifact: Artifact) -> str:
    theirs = artifact.versions.get("exporter", "")
    ours = metadata.version("keras-exporter")
    listed = "; ".join(f"unknown: {show(path)}" for path in unknown)
    if _is_newer(theirs, ours):
        return (
            f"{artifact.path} was made by exporter {theirs}, which is newer than this one, {ours}, and its recipe has "
            f"keys that this one does not know ({listed}). Install that version: pip install 'keras-exporter>={theirs}'"
        )
    return (
        f"The recipe inside {artifact.path} has keys that no exporter up to this one, {ours}, knows ({listed}): it was "
        f"changed by hand. Export the model without it: {shlex.join(['exporter', str(artifact.path)])}"
    )


def _is_newer(version: str, other: str) -> bool:
    # Only numbers are repeated in a command that is to be typed.
    if not _VERSION.fullmatch(version) or len(version) > 20:
        return False
    return _read_numbers(version) > _read_numbers(other)


def _read_numbers(version: str) -> list[int]:
    match = _VERSION.match(version)
    return [int(number) for number in match[0].split(".")] if match else []
