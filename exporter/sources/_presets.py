"""A model from a preset directory of KerasHub."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.errors import ArtifactError, MissingDependencyError
from exporter.saving.layout.documents import parse_json
from exporter.storage.exchange import read_whole

if TYPE_CHECKING:
    import keras

_METADATA, _TASK, _PREPROCESSOR = "metadata.json", "task.json", "preprocessor.json"


def is_preset(path: Path) -> bool:
    """Returns whether a directory is what `save_to_preset` of KerasHub wrote."""
    metadata = path / _METADATA
    if not metadata.is_file():
        return False
    # The name alone may be that of an unzipped archive of Keras.
    content = parse_json(metadata.read_bytes(), str(metadata))
    return isinstance(content, dict) and "keras_hub_version" in content


def load_preset(path: Path, safe_mode: bool) -> keras.Model:
    """Loads a task with its preprocessor, or a backbone, from a preset directory.

    Args:
        path: The directory.
        safe_mode: Refuses a preset that holds code, or names what is neither Keras's nor registered.

    Returns:
        The model. A task is compiled: it does that itself.

    Raises:
        ArtifactError: The preset is damaged, or refused.
        MissingDependencyError: KerasHub is not installed.
    """
    return _load(path, safe_mode, _find_model)


def load_preprocessor(path: Path) -> keras.layers.Layer:
    """Loads what makes a model's inputs of text or pictures from a preset directory, without the model.

    Args:
        path: The directory, which may hold no code.

    Returns:
        The preprocessor, which can be called in a graph.

    Raises:
        ArtifactError: The preset is damaged, or refused.
        MissingDependencyError: KerasHub is not installed.
    """
    return _load(path, True, partial(_find_registered, file=_PREPROCESSOR, kind="Preprocessor"))


def _load(path: Path, safe_mode: bool, find: Callable[[Path, Mapping[str, Any]], Any]) -> Any:
    try:
        import keras_hub  # noqa: F401  it registers its classes
    except ImportError as error:
        raise MissingDependencyError(
            f"{path} is a preset of KerasHub, which cannot be imported: {error}. Install it: "
            "pip install 'keras-exporter[hub]'"
        ) from error
    try:
        return read_whole(path, lambda: _load_checked(path, safe_mode, find))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error}.") from error


def _find_model(path: Path, configs: Mapping[str, Any]) -> Any:
    import keras_hub

    # KerasHub takes a task from its own class only.
    return _find_registered(path, configs, file=_TASK, kind="Task") if _TASK in configs else keras_hub.models.Backbone


def _find_registered(path: Path, configs: Mapping[str, Any], *, file: str, kind: str) -> Any:
    import keras
    import keras_hub

    config = configs.get(file)
    name = str(config.get("registered_name") if isinstance(config, dict) else None)
    found = keras.saving.get_registered_object(name)
    if not (isinstance(found, type) and issubclass(found, getattr(keras_hub.models, kind))):
        raise ArtifactError(
            f"{path / file} names no {kind.lower()} of KerasHub: {name!r}. Import the module that registers it."
        )
    return found


def _load_checked(path: Path, safe_mode: bool, find: Callable[[Path, Mapping[str, Any]], Any]) -> Any:
    from exporter.saving.configuration.faults import LOAD_FAULTS
    from exporter.saving.safety.configurations import check_configuration

    texts = {file.name: file.read_bytes() for file in sorted(path.glob("*.json"))}
    configs = {name: parse_json(text, str(path / name)) for name, text in texts.items()}
    if safe_mode:
        check_configuration(configs)
    kind = find(path, configs)
    with tempfile.TemporaryDirectory(prefix="exporter-preset-") as private:
        # KerasHub opens the configurations by their paths: it gets the bytes that were checked, whatever is there now.
        for entry in path.iterdir():
            if entry.name in texts:
                (Path(private) / entry.name).write_bytes(texts[entry.name])
            else:
                (Path(private) / entry.name).symlink_to(entry.absolute())
        try:
            return kind.from_preset(private)
        except LOAD_FAULTS as error:
            reason = str(error).replace(private, str(path))
            raise ArtifactError(f"KerasHub cannot load the preset {path}: {reason}") from error
