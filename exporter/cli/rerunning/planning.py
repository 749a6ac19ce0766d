"""Composes the recipe inside an artifact, and refuses what nobody allowed.

It is composed like one that its user wrote, through the same schema; but nothing that it names is imported unless it is
ours, Keras's, or trusted by name, it reads no file that its artifact does not vouch for and no variable of the
environment that was not allowed, it contacts nobody, and where it is written to is not its choice.
"""

import re
import shlex
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from exporter.artifacts.inspection.artifacts import Artifact, open_artifact
from exporter.cli.composing import compose
from exporter.cli.preflight.interpolations import find_too_long, only_variables
from exporter.cli.rerunning.keys import check_keys
from exporter.cli.rerunning.reads import check_reads
from exporter.cli.rerunning.trust import check_trust
from exporter.config import JobConfig
from exporter.config.directories import CONFIG_DIRECTORY
from exporter.errors import ArtifactError, ExportError, Fault, UsageError
from exporter.exporting.provenance import list_strings
from exporter.exporting.references import sources_unread
from exporter.saving.formats import find_by_suffix
from exporter.text.showing import escape_interpolations, show

_RECIPE = "rerun"
_MAX_DEPTH = 100


def plan_rerun(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    trusted: Collection[str] = (),
    variables: Collection[str] = (),
    inputs: Collection[str] = (),
    allow_drift: bool = False,
    report: Callable[[str], None] | None = None,
) -> JobConfig:
    """Composes the recipe inside an artifact anew.

    The new artifact goes into the working directory under the old one's name and `-rerun`, and replaces nothing,
    unless the overrides say otherwise. Relative paths of inputs start at the working directory too.

    Args:
        path: The artifact.
        overrides: In Hydra's grammar, as on the command line.
        trusted: Modules and packages of which the recipe may name functions and classes.
        variables: Of the environment, which the recipe may read.
        inputs: Paths and URLs that the recipe may read, whatever they hold; `imagenet` for weights that Keras
            downloads.
        allow_drift: Whether the files that the artifact vouches for may have changed.
        report: Is given a line for each thing that is not as it was.

    Returns:
        The export, which nothing was imported for yet.

    Raises:
        ArtifactError: There is no artifact, or no recipe that can be read inside it.
        ExportError: It was made from a live model.
        UsageError: With every fault of the recipe and the overrides, every name that is not trusted, or every file
            and URL that nobody vouches for.
    """
    with open_artifact(path) as artifact:
        recipe = _read_recipe(artifact)
    report = report or (lambda line: None)
    chosen = {key for key in map(_read_group, overrides) if key is not None}
    if "model" not in chosen:
        _check_source(recipe, path)
    written, missing = _write_anew(recipe, artifact, chosen)
    stored = _set_aside(recipe, written)
    config = _compose(written, overrides, "model" in chosen, variables, f"the recipe inside {path}")
    typed = {override.partition("=")[0] for override in overrides}
    config.origin.written |= {key: value for key, value in stored.items() if key not in typed}
    if faults := list(check_trust(config, overrides, trusted)):
        raise UsageError(faults)
    changes: list[str] = []
    reads = check_reads(
        config, artifact.inputs, overrides, named=inputs, allow_drift=allow_drift, report=changes.append
    )
    if faults := list(reads):
        raise UsageError(faults)
    for line in [*_word_defaults(missing), *changes]:
        report(line)
    return config


def _word_defaults(missing: Sequence[str]) -> list[str]:
    listed = ", ".join(missing)
    line = f"the recipe is of an older version and does not say {listed}: taken as this version's default"
    return [line] if missing else []


def _check_source(recipe: Mapping[str, object], path: Path) -> None:
    """Refuses a recipe that does not say how its model is built."""
    live = _as_mapping(recipe.get("model"))
    if "live" in live:
        raise ExportError(
            f"{path} was made from a live model, {show(live['live'])} {show(live.get('name', ''))}, which no "
            "recipe can build. Run the program that made it, or export the artifact itself again: "
            f"{shlex.join(['exporter', str(path)])}"
        )
    if "model" not in recipe:
        raise ArtifactError(f"The recipe inside {path} does not say where the model comes from. Say it: model=OPTION")


def _write_anew(
    recipe: Mapping[str, object], artifact: Artifact, chosen: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """Writes the recipe of the new artifact, and lists the keys that are newer than the old one."""
    written = {key: value for key, value in recipe.items() if key not in chosen}
    missing = [key for key in check_keys(written, artifact) if key not in chosen]
    written["save_format"] = recipe.get("save_format") or artifact.format
    written["filepath"] = f"{escape_interpolations(_name(artifact.path))}-rerun${{exporter.suffix:${{save_format}}}}"
    written["overwrite"] = False
    return written, missing


def _set_aside(recipe: Mapping[str, Any], written: dict[str, Any]) -> dict[str, Any]:
    """Takes out what shapes nothing, where it is written to and what is removed there: the same bytes come of it."""
    stored: dict[str, Any] = {key: recipe[key] for key in ("filepath", "overwrite", "save_format") if key in recipe}
    if "keep" in _as_mapping(written.get("layout")):
        stored["layout.keep"] = written["layout"]["keep"]
        written["layout"] = {**written["layout"], "keep": None}
    return stored


def _read_recipe(artifact: Artifact) -> dict[str, Any]:
    recipe = artifact.recipe
    if recipe is None:
        raise ArtifactError(
            f"{artifact.path} holds no recipe: it was written by {artifact.writer}, and not by an export of this "
            f"package. Export it: {shlex.join(['exporter', str(artifact.path)])}"
        )
    message = _find_strange(recipe) or find_too_long(list(list_strings(recipe)))
    if message is not None:
        raise ArtifactError(f"The recipe inside {artifact.path} is refused: {message}.")
    return recipe


def _find_strange(value: object, path: str = "", depth: int = 0) -> str | None:
    """Says what no recipe of ours holds: anything but plain data, or hundreds of lists inside each other."""
    if depth > _MAX_DEPTH:
        return "it is nested too deeply"
    if isinstance(value, Mapping):
        if strange := [key for key in value if not isinstance(key, str)]:
            return f"{path or 'it'} has the key {show(strange[0])}, which is no text"
        entries = [(f"{path}.{key}" if path else key, entry) for key, entry in value.items()]
    elif isinstance(value, list):
        entries = [(f"{path}[{number}]", entry) for number, entry in enumerate(value)]
    elif value is None or isinstance(value, str | bool | int | float):
        return None
    else:
        return f"{path} is neither text nor a number, but {type(value).__name__}"
    return next((found for each, entry in entries if (found := _find_strange(entry, each, depth + 1))), None)


def _as_mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _read_group(override: str) -> str | None:
    """Returns the group whose option an override chooses, if it does."""
    key, _, value = override.partition("=")
    return key if key.isidentifier() and (CONFIG_DIRECTORY / key).is_dir() and not value.startswith("{") else None


def _name(path: Path) -> str:
    path = path.absolute()
    name = path.parent.name if path.name.isdecimal() else path.name  # a version for TF Serving
    return name[: -len(Path(name).suffix)] if find_by_suffix(name) else name


def _compose(
    recipe: dict[str, object], overrides: Sequence[str], has_model: bool, variables: Collection[str], place: str
) -> JobConfig:
    defaults: list[Any] = ["config", *([] if has_model else [{"override model": None}]), "_self_"]
    with tempfile.TemporaryDirectory(prefix="exporter-rerun-") as directory:
        file = Path(directory) / f"{_RECIPE}.yaml"
        file.write_text(yaml.safe_dump({"defaults": defaults, **recipe}, sort_keys=False), encoding="utf-8")
        try:
            with only_variables(variables), sources_unread():
                config = compose(_RECIPE, overrides, directory)
        except UsageError as error:
            raise UsageError([_place(fault, file, place) for fault in error.faults]) from None
    config.origin = replace(config.origin, directory=None)
    return config


def _place(fault: Fault, file: Path, place: str) -> Fault:
    """Names the artifact in place of the file that the recipe was written to, which is gone."""
    if fault.place != str(file):
        return fault
    return replace(fault, place=place, message=re.sub(r" \(line \d+\)$", "", fault.message))
