"""Saves and loads a model.

TensorFlow, Keras and h5py are imported when a function needs them, so that this module is free to import.
"""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.errors import ArgumentError, ArtifactError
from exporter.processes.collector import collector_paused
from exporter.saving.contents import Omission, list_lost, note_lost
from exporter.saving.formats import FORMATS, find_format, find_format_of_file, join_nouns
from exporter.saving.legacy.parts.findings import LeftOutWarning, losses_collected
from exporter.saving.requests import LoadRequest, SaveRequest
from exporter.storage.exchange import read_whole
from exporter.storage.remote import fetch, is_url
from exporter.storage.sidecars import list_sidecars
from exporter.storage.staging import publish, stage_beside
from exporter.text.printable import escape
from exporter.text.showing import describe_value

if TYPE_CHECKING:
    import h5py
    import keras

from exporter.saving.arguments import check_choice, check_flags, check_path, list_directory
from exporter.saving.open_files import is_open_hdf5, save_to_open_hdf5
from exporter.saving.plans import check_space, plan_save, warn_of


def save_model(
    model: "keras.Model",
    filepath: "str | os.PathLike[str] | h5py.File",
    overwrite: bool = True,
    include_optimizer: bool = True,
    save_format: str | None = None,
    signatures: Any = None,
    options: Any = None,
) -> "Path":
    """Saves a model so that it comes back in the exact same state.

    The artifact is written beside its path and takes its place in one step: a failed save leaves what was there.
    The model itself is not changed.

    Args:
        model: A built `keras.Model`: Sequential, Functional, or a subclassed one that has been called.
        filepath: A path, or for HDF5 an open and writable `h5py.File`. Missing parent directories are made.
        overwrite: True replaces what is at the path. False: in a terminal a person is asked, elsewhere it is an
            error. For an open `h5py.File` this is about the model in it; everything else in the file stays.
        include_optimizer: Whether the optimizer's state and the compile configuration are saved.
        save_format: `tf` for a SavedModel directory, `h5`, `keras`, or None: by the suffix of `filepath`, or `tf`.
        signatures: For `tf`: a `tf.function` with an input signature, a concrete function, or a dict of them; None
            gives `serving_default` with the model's own names and a dynamic batch.
        options: For `tf`: a `tf.saved_model.SaveOptions`.

    Returns:
        The path that was written; for an open `h5py.File` the path that it names.

    Raises:
        ArgumentError: A ValueError: an argument, or a combination of arguments, is not allowed.
        NotAModelError: A TypeError: `model` is not a Keras 3 model.
        ModelError: A ValueError: the model is not built, or the format cannot hold it.
        TargetExistsError: A FileExistsError: the target exists and may not be replaced.
        MissingDependencyError: An ImportError: HDF5 was asked for and h5py cannot be imported.
        OSError: The file system refused, or has too little space; what was at the path is unchanged.

    Example:
        import keras

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        exporter.save_model(model, "models/mine.keras")
    """
    request = SaveRequest(model, filepath, save_format, include_optimizer, signatures, options)
    if is_open_hdf5(filepath):
        return save_to_open_hdf5(request, overwrite)
    plan = plan_save(request, overwrite)
    target: Path = plan.request.target
    # Whoever may replace has been asked: what exists by now may go, what appears later may not.
    may_replace = overwrite or os.path.lexists(target)
    check_space(model, target, include_optimizer)
    with stage_beside(target) as staged:
        contents = plan.write(staged)
        # An export's receipt and request speak of what was here before.
        beside = dict.fromkeys(path for path in list_sidecars(target) if os.path.lexists(path))
        publish(staged, target, replace=may_replace, beside=beside)
    warn_of(contents, target)
    return target


def load_model(
    filepath: "str | os.PathLike[str] | h5py.File",
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
    *,
    endpoint: str | None = None,
    tags: Sequence[str] | None = None,
) -> "keras.Model":
    """Loads a model in the exact state in which it was saved.

    Args:
        filepath: What `save_model` wrote, in any format; also an artifact that Keras wrote itself, an open
            `h5py.File`, and the URL of an artifact in a store, such as `s3://bucket/models/digits`.
        custom_objects: Classes and functions by the name under which the model was saved.
        compile: Whether the model is compiled, and its optimizer's state restored.
        safe_mode: Refuses what would run code from inside the artifact or reach beyond it: marshalled lambdas, classes
            and functions that are neither Keras's nor registered nor in `custom_objects`, operations of a graph that
            touch files or run Python, and weights far larger than the file.
        endpoint: Of a SavedModel: the endpoint, or the traced function of a `tf.Module` such as `__call__`, that a
            model is made of. None takes the model itself where the artifact holds one, else `serving_default`, else the
            only endpoint, else the module's own call.
        tags: Of a SavedModel with several graphs: all the tags of one of them. None takes the only one, else the one
            with the tag `serve` alone.

    Returns:
        The model.

    Raises:
        ArgumentError: A ValueError: an argument is not allowed.
        ArtifactError: A ValueError: the file is missing, damaged, or not an artifact that can be loaded.
        MissingDependencyError: An ImportError: h5py cannot be imported.

    Warns:
        LeftOutWarning: A UserWarning: names what of an older file could not be made again, such as an optimizer.

    Example:
        import keras

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.compile("adam", "mse")
        exporter.save_model(model, "models/mine.h5")
        again = exporter.load_model("models/mine.h5")  # with the optimizer: `fit` goes on
    """
    if not isinstance(custom_objects, (Mapping, type(None))):
        raise ArgumentError(
            "`custom_objects` must be a dict of names and classes or functions. "
            f"Received: {describe_value(custom_objects)} (of type {type(custom_objects).__name__})."
        )
    model = read_model(filepath, LoadRequest(custom_objects or {}, compile, safe_mode, endpoint, tags))
    lost = list_lost(model)
    if lost:
        told = "; ".join(f"{each.what}: {each.why}" for each in lost)
        place = getattr(filepath, "filename", filepath)
        warnings.warn(escape(f"{place} did not come back whole. {told}"), LeftOutWarning, stacklevel=2)
    return model


def read_model(filepath: "str | os.PathLike[str] | h5py.File", request: LoadRequest) -> "keras.Model":
    """Does what `load_model` does, for those who say themselves what was lost; see `list_lost`."""
    check_flags(compile=request.compile, safe_mode=request.safe_mode)
    check_choice(request.endpoint, request.tags)
    told: list[str] = []
    with losses_collected(told):
        model = _read_any(filepath, request)
    note_lost(model, [Omission("older file", loss) for loss in told])
    return model


def _read_any(filepath: "str | os.PathLike[str] | h5py.File", request: LoadRequest) -> "keras.Model":
    """Reads a path, a URL or an open file."""
    if is_open_hdf5(filepath):
        from exporter.saving.formats.hdf5.reading import read_hdf5

        if not filepath:
            raise ArgumentError("The h5py.File is closed. Open it with mode 'r', and close it after the load.")
        _refuse_choice(request, FORMATS["h5"].noun, filepath.filename)
        return read_hdf5(filepath, request)
    path = fetch(filepath) if isinstance(filepath, str) and is_url(filepath) else check_path(filepath)
    try:
        with collector_paused():
            return read_whole(path, lambda: _read(path, request))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}. It may be damaged or incomplete.") from error


def _read(path: Path, request: LoadRequest) -> "keras.Model":
    """Reads what is at `path`, by what it is and not by its name."""
    if path.is_dir():
        found = find_format(path)
        if found is None:
            marks = [f"`{name}` ({what})" for each in FORMATS.values() for name, what in each.marks.items()]
            raise ArtifactError(
                f"{escape(str(path))} is a directory without a model. Expected {join_nouns(marks)}. "
                f"Received: {list_directory(path)}."
            )
    elif not path.exists():
        raise ArtifactError(f"There is no file or directory at {escape(str(path))}. Give the path of a saved model.")
    elif not path.is_file():
        raise ArtifactError(f"{escape(str(path))} is neither a file nor a directory. Give the path of a saved model.")
    else:
        found = find_format_of_file(path)
    if not found.is_served:
        _refuse_choice(request, found.noun, path)
    found.check_packages()
    return found.read(path, request)


def _refuse_choice(request: LoadRequest, noun: str, place: object) -> None:
    """Refuses what chooses in a SavedModel for what is none."""
    given = [name for name in ("endpoint", "tags") if getattr(request, name) is not None]
    if given:
        raise ArgumentError(
            f"`{'` and `'.join(given)}` choose in a SavedModel, and {escape(str(place))} is {noun}. Leave them out."
        )
