"""An artifact again, from the recipe inside it.

The recipe is a stranger's until proven otherwise. It is composed like one that its user wrote, through the same schema;
but nothing that it names is imported unless it is ours, Keras's, or trusted by name, it reads no variable of the
environment that was not allowed, and where it is written to is not its choice.
"""

import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from exporter import transforms
from exporter._hydra import compose
from exporter._paths import CONFIG_DIRECTORY
from exporter._preflight import only_variables
from exporter._text import shorten, show
from exporter.config import ExportConfig, JobConfig, read_keys
from exporter.errors import ArtifactError, ExportError, Fault, UsageError
from exporter.inspection.artifacts import Artifact, open_artifact
from exporter.provenance import describe_recipe, list_targets, record_inputs
from exporter.saving.api import SUFFIXES

_RECIPE = "rerun"

_OURS = {
    *(f"exporter.sources.{name}" for name in ("application", "architecture", "digits", "file")),
    *(f"exporter.transforms.{name}" for name in transforms.__all__ if name != "takes"),
}
# Classes that only compute, and constructors of known architectures. Keras's other functions read, write, download and
# load files; the layers that are named here hold code or graphs of somebody else.
_KERAS = re.compile(
    r"keras\.(Sequential|Model|Input|(layers|optimizers|losses|metrics|initializers|regularizers|constraints)\.[A-Z]\w*"
    r"|applications\.(\w+\.)?[A-Z]\w*)"
)
_KERAS_CODE = re.compile(r"\.(Lambda|TFSMLayer|TorchModuleWrapper|JaxLayer|FlaxLayer)$")


def plan_rerun(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    trusted: Collection[str] = (),
    variables: Collection[str] = (),
    allow_drift: bool = False,
) -> JobConfig:
    """Composes the recipe inside an artifact anew.

    The new artifact goes into the working directory under the old one's name and `-rerun`, and replaces nothing,
    unless the overrides say otherwise. Relative paths of inputs start at the working directory too.

    Args:
        path: The artifact.
        overrides: In Hydra's grammar, as on the command line.
        trusted: Modules and packages of which the recipe may name functions and classes.
        variables: Of the environment, which the recipe may read.
        allow_drift: Whether the files that it reads may have changed.

    Returns:
        The export, which nothing was imported for yet.

    Raises:
        ArtifactError: There is no artifact, or no recipe that can be read inside it.
        ExportError: It was made from a live model.
        UsageError: With every fault of the recipe and the overrides, every name that is not trusted, or every file
            that has changed.
    """
    with open_artifact(path) as artifact:
        recipe = _read_recipe(artifact)
        inputs = artifact.inputs
    chosen = {key for key in map(_read_group, overrides) if key is not None}
    if "live" in _as_mapping(recipe["model"]) and "model" not in chosen:
        live = recipe["model"]
        raise ExportError(
            f"{path} was made from a live model, {show(live.get('live'))} {show(live.get('name', ''))}, which no "
            "recipe can build. Run the program that made it, or export the artifact itself again: "
            f"exporter model=file model.filepath={path}"
        )
    written = {key: value for key, value in recipe.items() if key not in chosen}
    written["save_format"] = recipe["save_format"] or artifact.format
    written["filepath"] = f"{_name(path)}-rerun${{exporter.suffix:${{save_format}}}}"
    written["overwrite"] = False
    config = _compose(written, overrides, "model" in chosen, variables, f"the recipe inside {path}")
    # Where it is written to shapes nothing: the same recipe, and so the same bytes.
    typed = {override.partition("=")[0] for override in overrides}
    config.origin.written |= {key: recipe[key] for key in ("filepath", "overwrite", "save_format") if key not in typed}
    if faults := list(_check_trust(config, overrides, trusted)):
        raise UsageError(faults)
    if not allow_drift:
        now = {each.key: each for each in record_inputs(config)}
        faults = [
            Fault(
                each.key,
                f"{now[each.key].path} has the sha256 {now[each.key].sha256}, and the artifact was made from one with "
                f"{each.sha256}; set {each.key} to that file, or take the one that is there with --allow-drift",
            )
            for each in inputs
            if each.key in now and now[each.key].sha256 != each.sha256
        ]
        if faults:
            raise UsageError(faults)
    return config


def _read_recipe(artifact: Artifact) -> dict[str, Any]:
    recipe = artifact.recipe
    if recipe is None:
        raise ArtifactError(
            f"{artifact.path} holds no recipe: it was written by {artifact.writer}, and not by an export of this "
            f"package. Export it: exporter model=file model.filepath={artifact.path}"
        )
    known = [name for name in read_keys(ExportConfig) if name != "measure"]
    unknown = [str(name) for name in recipe if name not in known]
    missing = [name for name in known if name not in recipe]
    if unknown or missing:
        difference = [*(f"unknown: {show(name)}" for name in unknown), *(f"missing: {name}" for name in missing)]
        raise ArtifactError(
            f"The recipe inside {artifact.path} has not the keys of this version ({'; '.join(difference)}). Run it "
            "with the version of exporter that wrote it: see exporter inspect."
        )
    return recipe


def _as_mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _read_group(override: str) -> str | None:
    """Returns the group whose option an override chooses, if it does."""
    key, _, value = override.partition("=")
    return key if key.isidentifier() and (CONFIG_DIRECTORY / key).is_dir() and not value.startswith("{") else None


def _name(path: Path) -> str:
    path = path.absolute()
    name = path.parent.name if path.name.isdecimal() else path.name  # a version for TF Serving
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in SUFFIXES else name


def _compose(
    recipe: dict[str, Any], overrides: Sequence[str], has_model: bool, variables: Collection[str], place: str
) -> JobConfig:
    defaults: list[Any] = ["config", *([] if has_model else [{"override model": None}]), "_self_"]
    with tempfile.TemporaryDirectory(prefix="exporter-rerun-") as directory:
        file = Path(directory) / f"{_RECIPE}.yaml"
        file.write_text(yaml.safe_dump({"defaults": defaults, **recipe}, sort_keys=False), encoding="utf-8")
        try:
            with only_variables(variables):
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


def _check_trust(config: ExportConfig, overrides: Sequence[str], trusted: Collection[str]) -> Iterator[Fault]:
    """Finds everything that the recipe would have imported or allowed, and that nobody said yes to."""
    recipe = describe_recipe(config, resolved=True)
    for path, name in (*list_targets(recipe), *_list_custom_objects(recipe["model"])):
        if not _is_trusted(name, trusted):
            package = name.partition(".")[0]
            message = f"{shorten(name, 120)} is neither exporter's nor a class of Keras's"
            if package in ("exporter", "keras"):
                message = f"{shorten(name, 120)} can do more than make a model"
                package = name
            yield Fault(path, f"{message}, and would be imported; if you trust it: --trust {shorten(package, 120)}")
    for path in _list_unsafe(recipe["model"]):
        if not any(override.lstrip("+").startswith(f"{path}=") for override in overrides):
            yield Fault(path, f"the recipe lets a file run code of its own; say it too: {path}=false")


def _is_trusted(name: str, trusted: Collection[str]) -> bool:
    if name in _OURS or (_KERAS.fullmatch(name) and not _KERAS_CODE.search(name)):
        return True
    return any(f"{name}.".startswith(f"{prefix}.") for prefix in trusted)


def _list_custom_objects(model: Any) -> Iterator[tuple[str, str]]:
    objects = _as_mapping(model).get("custom_objects")
    entries = objects.items() if isinstance(objects, Mapping) else enumerate(objects or ())
    for key, name in entries:
        yield f"model.custom_objects.{key}", str(name)


def _list_unsafe(value: Any, path: str = "model") -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, entry in value.items():
            if name == "safe_mode" and entry is not True:
                yield f"{path}.{name}"
            yield from _list_unsafe(entry, f"{path}.{name}")
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _list_unsafe(entry, f"{path}[{number}]")
