"""A whole model from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.errors import ArgumentError, ArtifactError
from exporter.models.importing import import_custom_objects, suggest
from exporter.saving.formats.saved_model.choosing import ChoiceError, choose, holds_model
from exporter.saving.layout.names import GRAPH
from exporter.saving.layout.tensor_bundle import is_checkpoint
from exporter.sources._mistaken import explain_no_model, word_checkpoint
from exporter.sources._needed import explain_missing_code
from exporter.sources._presets import is_preset, load_preset
from exporter.sources._registry import source
from exporter.storage.remote import fetch, is_url
from exporter.text.showing import show

if TYPE_CHECKING:
    import keras


def _find_faults(arguments: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Finds what only the file tells to be wrong; what is in a store is fetched when it is needed."""
    filepath = arguments["filepath"]
    if not isinstance(filepath, str) or is_url(filepath):
        return []
    path = Path(filepath).expanduser()
    try:
        mistaken = explain_no_model(path)
        if mistaken is not None:
            return [("filepath", mistaken)]
        endpoint, tags = arguments.get("endpoint"), arguments.get("tags")
        chosen = [name for name, value in (("endpoint", endpoint), ("tags", tags)) if value is not None]
        if chosen and not (path / GRAPH).is_file():
            return [(name, f"chooses in a SavedModel, and {filepath} is none. Leave it out") for name in chosen]
        if (path / GRAPH).is_file() and (endpoint is not None or tags is not None or not holds_model(path)):
            choose(path, endpoint, tags)
        missing = explain_missing_code(path, arguments.get("custom_objects"), arguments.get("compile") is not False)
        if missing is not None:
            return [("custom_objects", missing)]
    except ChoiceError as error:
        return [(error.option, str(error))]
    except (ArtifactError, OSError):  # the job says it, as of any file
        return []
    return []


@source("filepath", check=_find_faults)
def file(
    filepath: str,
    custom_objects: Mapping[str, str] | Sequence[str] | None = None,
    safe_mode: bool = True,
    compile: bool = True,
    endpoint: str | None = None,
    tags: Sequence[str] | None = None,
) -> keras.Model:
    """Load a model that this package, Keras or KerasHub saved.

    Args:
        filepath: A `.keras` file, an `.h5` or `.hdf5` file, a SavedModel directory, or a directory that
            `save_to_preset` of KerasHub wrote; or its URL.
        custom_objects: The classes and functions that the file names: name in the file -> dotted name, or only the
            dotted names.
        safe_mode: Refuse a file that holds Python code of its own, such as a Lambda layer.
        compile: Compile the model and restore the optimizer, where the file holds them. A task of KerasHub compiles
            itself.
        endpoint: Of a SavedModel: the endpoint, or the traced function of a `tf.Module`, that becomes the model. None
            takes the model itself where the file holds one, else `serving_default`.
        tags: Of a SavedModel with several graphs: all the tags of one of them.

    Returns:
        The model.

    Raises:
        ArgumentError: There is no such file, it belongs to another source, or a dotted name cannot be imported.
        ArtifactError: The file is damaged or holds no model.
        MissingDependencyError: The file is a preset of KerasHub, which is not installed.
    """
    path = find_file(filepath, "model.filepath")
    mistaken = explain_no_model(path)
    if mistaken is not None:
        raise ArgumentError(f"{mistaken}.")
    objects = import_custom_objects(custom_objects)
    if is_preset(path):
        return load_preset(path, safe_mode)
    from exporter.saving.api import read_model
    from exporter.saving.requests import LoadRequest

    # What was lost, the export says under `left out`.
    return read_model(path, LoadRequest(objects, compile, safe_mode, endpoint, tags))


def find_file(filepath: str, argument: str, may_be_checkpoint: bool = False) -> Path:
    """Check that there is something at a path.

    Args:
        filepath: The path as it was given; `~` stands for the home directory. What a URL names is fetched.
        argument: The dotted config path that it was given by.
        may_be_checkpoint: Whether it may name the files of a TensorFlow checkpoint, by what they have in common.

    Returns:
        The path.

    Raises:
        ArgumentError: Nothing is there.
        ExportError: The store of a URL refused.
    """
    if is_url(filepath):
        return fetch(filepath)
    path = Path(filepath).expanduser()
    try:
        if filepath and path.exists():
            return path
    except OSError as error:  # a name that is too long
        remedy = f"Set `{argument}` to a path that exists."
        raise ArgumentError(f"{show(filepath)} is no path: {error.strerror}. {remedy}") from None
    if is_checkpoint(path):
        if may_be_checkpoint:
            return path
        raise ArgumentError(f"{word_checkpoint(filepath)}.")
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    raise ArgumentError(
        f"There is no file {filepath!r} (looked for {str(path.absolute())!r})."
        f"{suggest(path.name, siblings)} Set `{argument}` to a path that exists."
    )
