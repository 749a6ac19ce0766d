"""A whole model from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.errors import ArgumentError
from exporter.models.importing import import_custom_objects, suggest
from exporter.sources._presets import is_preset, load_preset
from exporter.sources._registry import source
from exporter.storage.remote import fetch, is_url
from exporter.text.showing import show

if TYPE_CHECKING:
    import keras


@source("filepath")
def file(
    filepath: str,
    custom_objects: Mapping[str, str] | Sequence[str] | None = None,
    safe_mode: bool = True,
    compile: bool = True,
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

    Returns:
        The model.

    Raises:
        ArgumentError: There is no such file, or a dotted name cannot be imported.
        ArtifactError: The file is damaged or holds no model.
        MissingDependencyError: The file is a preset of KerasHub, which is not installed.
    """
    path = find_file(filepath, "model.filepath")
    objects = import_custom_objects(custom_objects)
    if is_preset(path):
        return load_preset(path, safe_mode)
    from exporter.saving.api import load_model

    return load_model(path, custom_objects=objects, compile=compile, safe_mode=safe_mode)


def find_file(filepath: str, argument: str) -> Path:
    """Check that there is something at a path.

    Args:
        filepath: The path as it was given; `~` stands for the home directory. What a URL names is fetched.
        argument: The dotted config path that it was given by.

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
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    raise ArgumentError(
        f"There is no file {filepath!r} (looked for {str(path.absolute())!r})."
        f"{suggest(path.name, siblings)} Set `{argument}` to a path that exists."
    )
