"""The policy of saving and loading: which format, is it allowed, does the target exist.

The bytes are written by one module an artifact: `saved_model.py`, `hdf5.py` and `keras_archive.py`.
TensorFlow, Keras and h5py are imported when a function needs them, so that this module is free to import.
"""

import errno
import importlib
import json
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.errors import (
    ArgumentError,
    ArtifactError,
    MissingDependencyError,
    ModelError,
    NotAModelError,
    SpaceError,
    TargetExistsError,
)
from exporter.processes.collector import collector_paused
from exporter.saving.contents import LeftOut, OmissionKind, format_bytes
from exporter.saving.formats import FORMATS, SUFFIXES, Format, find_format
from exporter.saving.formats.save_options import check_save_options
from exporter.saving.layout.names import CONFIG, GRAPH, METADATA
from exporter.storage.exchange import read_whole
from exporter.storage.remote import fetch, is_url
from exporter.storage.remote.addresses import redact
from exporter.storage.sidecars import name_receipt, name_request
from exporter.storage.staging import publish, stage_beside
from exporter.text.showing import describe_value, escape

if TYPE_CHECKING:
    import h5py
    import keras

    from exporter.saving.contents import Contents
    from exporter.saving.formats.rehearsal import Description

# What a disk says that takes no more; TensorFlow ends its message with it.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class SavePlan:
    """One save whose arguments and model have been checked.

    Attributes:
        model: The model.
        target: Where the artifact goes.
        save_format: `tf`, `h5` or `keras`.
        include_optimizer: Whether the optimizer and the compile configuration are saved.
        signatures: As `tf.saved_model.save` takes them, or None.
        options: The `tf.saved_model.SaveOptions`, or None.
        steps: What `signatures` use of the model's training and is traced already; see
            `exporter.saving.graph.functions.trace_functions`.
        described: The model's configuration, and what it does not hold, if it was made already.
    """

    model: "keras.Model"
    target: Path
    save_format: Format
    include_optimizer: bool = True
    signatures: Any = None
    options: Any = None
    steps: Mapping[str, Callable[[Any], Any]] | None = None
    described: "Description | None" = None

    def write(self, staged: Path, notes: Mapping[str, bytes] | None = None) -> "Contents":
        """Writes the artifact at a path that does not exist yet.

        Args:
            staged: The path to write, usually beside the target on the same file system.
            notes: Files, by name, that are kept inside the artifact, such as the recipe which made it.

        Returns:
            What was written, and what was left out.

        Raises:
            ModelError: The model has something that the format cannot hold.
            OSError: The file system refused.
        """
        with _file_faults_unified(staged), collector_paused():
            return self._write(staged, notes or {})

    def _write(self, staged: Path, notes: Mapping[str, bytes]) -> "Contents":
        described = self.described or _describe_model(self.model, self.save_format, self.include_optimizer)
        if self.save_format == "tf":
            from exporter.saving.formats.saved_model import write_saved_model

            contents = write_saved_model(
                self.model,
                described.config,
                staged,
                self.include_optimizer,
                self.signatures,
                self.options,
                notes,
                self.steps,
            )
        else:
            contents = _find_file_writer(self.save_format)(
                self.model, described.config, staged, self.include_optimizer, notes
            )
        return replace(contents, left_out=(*contents.left_out, *described.left_out))


def _find_file_writer(save_format: Format) -> "Callable[..., Contents]":
    if save_format == "h5":
        from exporter.saving.formats.hdf5 import write_hdf5

        return write_hdf5
    from exporter.saving.formats.keras_archive import write_keras_archive

    return write_keras_archive


@contextmanager
def _file_faults_unified(staged: Path) -> Iterator[None]:
    """Makes an OSError of what HDF5 and TensorFlow raise, each in its own way, when the disk is full."""
    import tensorflow as tf

    try:
        yield
    except (OSError, RuntimeError) as error:
        told = re.search(r"errno = (\d+)", str(error))  # HDF5 tells it in its text
        if told is None:
            raise
        raise OSError(int(told[1]), os.strerror(int(told[1]))) from error
    except tf.errors.OpError as error:
        if str(staged) not in error.message:
            raise
        code = next((code for code in _FULL if error.message.endswith(os.strerror(code))), None)
        raise (OSError(error.message) if code is None else OSError(code, os.strerror(code))) from error


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
    """
    if _is_open_hdf5(filepath):
        return _save_to_open_hdf5(model, filepath, overwrite, include_optimizer, save_format, signatures, options)
    plan = plan_save(model, filepath, overwrite, include_optimizer, save_format, signatures, options)
    # Whoever may replace has been asked: what exists by now may go, what appears later may not.
    may_replace = overwrite or os.path.lexists(plan.target)
    check_space(model, plan.target, include_optimizer)
    with stage_beside(plan.target) as staged:
        contents = plan.write(staged)
        # An export's receipt and request speak of what was here before.
        spoken = (name_receipt(plan.target), name_request(plan.target))
        beside = dict.fromkeys(path for path in spoken if os.path.lexists(path))
        publish(staged, plan.target, replace=may_replace, beside=beside)
    _warn_of(contents, plan.target)
    return plan.target


def _warn_of(contents: "Contents", target: Path) -> None:
    """Warns of what an artifact does not hold and nobody asked to leave out; an export says it in its summary."""
    for each in contents.left_out:
        if not each.intended and each.kind is not OmissionKind.TWIN:
            warnings.warn(escape(f"{target} does not hold everything. {each.what}: {each.why}"), stacklevel=3)


def plan_save(
    model: Any,
    filepath: Any,
    overwrite: bool = True,
    include_optimizer: bool = True,
    save_format: str | None = None,
    signatures: Any = None,
    options: Any = None,
    steps: Mapping[str, Callable[[Any], Any]] | None = None,
) -> SavePlan:
    """Checks every argument of `save_model`, and the model, without writing anything.

    Args:
        model: See `save_model`.
        filepath: A path.
        overwrite: See `save_model`.
        include_optimizer: See `save_model`.
        save_format: See `save_model`.
        signatures: See `save_model`.
        options: See `save_model`.
        steps: See `SavePlan`.

    Returns:
        The save that can now be written.

    Raises:
        ArgumentError: An argument, or a combination of arguments, is not allowed.
        NotAModelError: `model` is not a Keras 3 model.
        ModelError: The model is not built, or the format cannot hold it.
        TargetExistsError: The target exists and may not be replaced.
        MissingDependencyError: HDF5 was asked for and h5py cannot be imported.
    """
    target = _check_path(filepath)
    chosen = _choose_format(target, save_format)
    _check_flags(overwrite=overwrite, include_optimizer=include_optimizer)
    _check_tf_only(chosen, signatures, options)
    _check_h5py(chosen)
    _check_model(model)
    described = _describe_model(model, chosen, include_optimizer)
    _check_target(target, chosen)
    if not overwrite and os.path.lexists(target):
        _ask_to_overwrite(f"{target} exists")
    return SavePlan(model, target, chosen, include_optimizer, signatures, options, steps, described)


def check_target(filepath: Any, overwrite: bool = True, save_format: str | None = None) -> tuple[Path, Format]:
    """Checks where a model would be saved, before there is a model.

    Args:
        filepath: A path.
        overwrite: See `save_model`.
        save_format: See `save_model`.

    Returns:
        The path and the format.

    Raises:
        ArgumentError: An argument, or a combination of arguments, is not allowed.
        TargetExistsError: The target exists and may not be replaced.
    """
    target = _check_path(filepath)
    chosen = _choose_format(target, save_format)
    _check_target(target, chosen)
    if not overwrite and os.path.lexists(target):
        _ask_to_overwrite(f"{target} exists")
    return target, chosen


def check_space(model: "keras.Model", target: Path, include_optimizer: bool) -> None:
    """Refuses a save for which the file system has no space, before time is spent on it.

    Args:
        model: The model, whose weights and optimizer are what takes space.
        target: Where it goes. It is written beside what is there, and replaces it when it is complete.
        include_optimizer: Whether the optimizer is saved.

    Raises:
        SpaceError: There is less than what will be written at least.
    """
    from exporter.saving.state.collecting import count_bytes

    variables = list(model.variables)
    if include_optimizer and getattr(model, "optimizer", None) is not None:
        variables += model.optimizer.variables
    needed = sum(count_bytes(each) for each in {id(each): each for each in variables}.values())
    directory = next(parent for parent in target.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise SpaceError(
            f"{target} needs at least {format_bytes(needed)} on the disk, and {format_bytes(free)} are free in "
            f"{directory}. What was there is unchanged. Free space, or choose a `filepath` on another file system."
        )


def load_model(
    filepath: "str | os.PathLike[str] | h5py.File",
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
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

    Returns:
        The model.

    Raises:
        ArgumentError: A ValueError: an argument is not allowed.
        ArtifactError: A ValueError: the file is missing, damaged, or not an artifact that can be loaded.
        MissingDependencyError: An ImportError: h5py cannot be imported.
    """
    _check_flags(compile=compile, safe_mode=safe_mode)
    if not isinstance(custom_objects, (Mapping, type(None))):
        raise ArgumentError(
            "`custom_objects` must be a dict of names and classes or functions. "
            f"Received: {describe_value(custom_objects)} (of type {type(custom_objects).__name__})."
        )
    if _is_open_hdf5(filepath):
        from exporter.saving.formats.hdf5 import read_hdf5

        if not filepath:
            raise ArgumentError("The h5py.File is closed. Open it with mode 'r', and close it after the load.")
        return read_hdf5(filepath, custom_objects, compile, safe_mode)
    path = fetch(filepath) if isinstance(filepath, str) and is_url(filepath) else _check_path(filepath)
    try:
        with collector_paused():
            return read_whole(path, lambda: _find_reader(path)(path, custom_objects, compile, safe_mode))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}. It may be damaged or incomplete.") from error


def _find_reader(path: Path) -> "Callable[..., keras.Model]":
    """Returns the function that reads what is at `path`, by what it is and not by its name."""
    if path.is_dir():
        if (path / GRAPH).is_file():
            _check_h5py("tf")
            from exporter.saving.formats.saved_model import read_saved_model

            return read_saved_model
        if (path / CONFIG).is_file():
            _check_h5py("keras")
            from exporter.saving.formats.keras_archive import read_keras_directory

            return read_keras_directory
        raise ArtifactError(
            f"{escape(str(path))} is a directory without a model. Expected `saved_model.pb` (a SavedModel) or "
            f"`config.json` (an unzipped .keras archive). Received: {_list_directory(path)}."
        )
    if not path.exists():
        raise ArtifactError(f"There is no file or directory at {escape(str(path))}. Give the path of a saved model.")
    if not path.is_file():
        raise ArtifactError(f"{escape(str(path))} is neither a file nor a directory. Give the path of a saved model.")
    kind = find_format(path)
    _check_h5py(kind)
    if kind == "h5":
        from exporter.saving.formats.hdf5 import read_hdf5

        return read_hdf5
    from exporter.saving.formats.keras_archive import read_keras_archive

    return read_keras_archive


def _list_directory(path: Path) -> str:
    names = sorted(entry.name for entry in path.iterdir())
    shown = ", ".join(names[:5])
    return f"{shown}, and {len(names) - 5} more" if len(names) > 5 else shown or "an empty directory"


def _check_path(filepath: Any) -> Path:
    if not isinstance(filepath, (str, os.PathLike)):
        raise ArgumentError(
            "`filepath` must be a str, a pathlib.Path or an open h5py.File. "
            f"Received: {describe_value(filepath)} (of type {type(filepath).__name__})."
        )
    text = os.fspath(filepath)
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ArgumentError(f"`filepath` must name a file or a directory. Received: {describe_value(filepath)}.")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise ArgumentError(
            "`filepath` must be a local path, not a URL; exporter.export(model, URL) saves to a store. "
            f"Received: {describe_value(redact(text))}."
        )
    try:
        text.encode()
        path = Path(text).expanduser()
        path.is_dir()
    except UnicodeEncodeError as error:  # TensorFlow takes names of files in UTF-8 only
        raise ArgumentError(
            f"`filepath` must be text that UTF-8 can encode. Received: {describe_value(filepath)}."
        ) from error
    except RuntimeError as error:
        raise ArgumentError(
            f"`filepath` names a user without a home directory. Received: {describe_value(filepath)}."
        ) from error
    except OSError as error:
        raise ArgumentError(
            f"`filepath` cannot be used: {error.strerror}. Received: {describe_value(filepath)}."
        ) from error
    return path


def _choose_format(target: Path, save_format: str | None) -> Format:
    by_suffix = SUFFIXES.get(target.suffix.lower())
    if save_format is None:
        return by_suffix or "tf"
    if not isinstance(save_format, str) or save_format not in FORMATS:
        raise ArgumentError(
            f"`save_format` must be 'tf', 'h5', 'keras' or None. Received: {describe_value(save_format)}."
        )
    chosen: Format = next(known for known in FORMATS if known == save_format)
    if by_suffix is not None and by_suffix != chosen:
        raise ArgumentError(
            f"The suffix of `filepath` contradicts `save_format`: {target.name!r} is a name for {by_suffix!r}, and "
            f"save_format={str(chosen)!r} was asked for. Change one of them, or leave `save_format` out."
        )
    return chosen


def _check_flags(**flags: Any) -> None:
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ArgumentError(
                f"`{name}` must be True or False. Received: {describe_value(value)} (of type {type(value).__name__})."
            )


def _check_tf_only(chosen: Format, signatures: Any, options: Any) -> None:
    given = [name for name, value in (("signatures", signatures), ("options", options)) if value is not None]
    if chosen != "tf" and given:
        raise ArgumentError(
            f"`{'` and `'.join(given)}` belong to a SavedModel: {chosen!r} has no place for them. "
            "Leave them out, or save with save_format='tf'."
        )
    if options is not None:
        import tensorflow as tf

        if not isinstance(options, tf.saved_model.SaveOptions):
            raise ArgumentError(
                f"`options` must be a tf.saved_model.SaveOptions. Received: {describe_value(options)} "
                f"(of type {type(options).__name__})."
            )
        check_save_options(options)


def _check_h5py(chosen: Format) -> None:
    try:
        importlib.import_module("h5py")
    except ImportError as error:
        purpose = {
            "h5": "an HDF5 file",
            "keras": "the weights of a .keras archive",
            "tf": "the variables of a SavedModel",
        }[chosen]
        raise MissingDependencyError(
            f"h5py is needed for {purpose} and cannot be imported: {error}. Install it: pip install h5py"
        ) from error


def _check_model(model: Any) -> None:
    import keras

    if not isinstance(model, keras.Model):
        raise NotAModelError(_describe_stranger(model))
    if not model.built:
        raise ModelError(
            f"The model {model.name!r} is not built: it has no weights yet. "
            "Call it on a batch of data, or call `model.build(input_shape)`, and save it then."
        )


def _describe_stranger(model: Any) -> str:
    kind = type(model)
    received = f"Received: {kind.__module__}.{kind.__qualname__}."
    families = {base.__module__.split(".")[0] for base in kind.__mro__}
    if isinstance(model, type):
        return (
            f"`model` must be a keras.Model, not a class. Received: the class {model.__qualname__}. Make an instance."
        )
    if families & {"tf_keras"}:
        return (
            f"`model` is a model of Keras 2 (tf_keras), which Keras 3 cannot save. {received} "
            "Save it with `model.save('model.h5')` in its own Keras; Keras 3 opens that file."
        )
    import keras

    if isinstance(model, keras.layers.Layer):
        return f"`model` is a layer, not a keras.Model. {received} Put it into one: keras.Sequential([layer])."
    if "tensorflow" in families:
        return (
            f"`model` is a TensorFlow object, not a keras.Model. {received} "
            "Save a tf.Module with `tf.saved_model.save`, or put its functions into a keras.Model."
        )
    return f"`model` must be a keras.Model of Keras 3. {received}"


def _describe_model(model: "keras.Model", chosen: Format, include_optimizer: bool) -> "Description":
    """Makes the configuration without which neither an HDF5 file nor an archive can hold a model.

    A SavedModel holds one that has none as functions.
    """
    from exporter.saving.formats.rehearsal import Description, MisfitError, describe_model

    try:
        described = describe_model(model, include_optimizer, holds_functions=chosen == "tf")
    except ModelError as error:
        if chosen == "h5":
            _check_hdf5_holds(model, ("tf",))
        if chosen != "tf":
            raise
        why = str(error)
        if isinstance(error, MisfitError):
            why = f"{error.reason} The artifact holds the model as TensorFlow functions instead"
        return Description(None, (LeftOut("Keras configuration", why),))
    if chosen == "h5":
        _check_hdf5_holds(model, ("tf", "keras"))
    return described


def _check_hdf5_holds(model: "keras.Model", others: tuple[str, ...]) -> None:
    from exporter.saving.formats.hdf5 import check_hdf5_holds

    check_hdf5_holds(model, others)


def _check_target(target: Path, chosen: Format) -> None:
    if target.name in ("", ".."):
        raise ArgumentError(
            f"`filepath` must end with a name of the artifact's own. Received: {describe_value(str(target))}."
        )
    for parent in target.parents:
        if parent.is_dir():
            longest = max(target.relative_to(parent).parts, key=lambda part: len(os.fsencode(part)))
            if len(os.fsencode(longest)) > os.pathconf(parent, "PC_NAME_MAX"):
                raise ArgumentError(
                    f"`filepath` cannot be used: File name too long. Received: {describe_value(str(target))}."
                )
            break
        if os.path.lexists(parent):
            raise ArgumentError(
                f"{target} cannot be written: {parent} is a file, where a directory is needed. "
                "Choose another `filepath`, or move that file away."
            )
    if chosen != "tf" and target.is_dir() and not target.is_symlink():
        raise ArgumentError(
            f"{target} is a directory, and save_format={str(chosen)!r} writes one file. "
            "Give the name of a file, or save with save_format='tf'."
        )
    if chosen == "tf" and target.is_dir() and not _is_replaceable(target):
        raise ArgumentError(
            f"{target} is a directory that holds something else than a model ({_list_directory(target)}); replacing it "
            "would delete that. Give a path of its own, such as "
            f"{target / 'model'}."
        )


def _is_replaceable(directory: Path) -> bool:
    """A SavedModel or an unzipped archive may be replaced as a whole, and so may an empty directory."""
    names = {entry.name for entry in directory.iterdir()}
    return not names or GRAPH in names or {CONFIG, METADATA} <= names


def _ask_to_overwrite(found: str) -> None:
    refusal = TargetExistsError(
        f"{found} and `overwrite` is false. Choose another `filepath`, or allow it with overwrite=true."
    )
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()):
        raise refusal
    try:
        print(f"{escape(found)}. Replace it? [y/N] ", end="", flush=True)  # `input` would ask on standard error
        answer = input()
    except EOFError:
        raise refusal from None
    if answer.strip().lower() not in ("y", "yes"):
        raise refusal


def _is_open_hdf5(filepath: Any) -> bool:
    # Whoever holds an open file has imported h5py; without it there is nothing to ask.
    module = sys.modules.get("h5py")
    return module is not None and isinstance(filepath, module.File)


def _save_to_open_hdf5(
    model: Any,
    file: Any,
    overwrite: bool,
    include_optimizer: bool,
    save_format: str | None,
    signatures: Any,
    options: Any,
) -> Path:
    from exporter.saving.formats.hdf5 import write_open_hdf5

    if not (save_format is None or (isinstance(save_format, str) and save_format == "h5")):
        raise ArgumentError(
            f"An open h5py.File takes save_format='h5' or None. Received: {describe_value(save_format)}. "
            "Give a path to save in another format."
        )
    _check_flags(overwrite=overwrite, include_optimizer=include_optimizer)
    _check_tf_only("h5", signatures, options)
    if not file:
        raise ArgumentError("The h5py.File is closed. Open it with mode 'w' or 'a', and close it after the save.")
    if file.mode == "r":
        raise ArgumentError(f"The h5py.File {file.filename!r} is open for reading only. Open it with mode 'w' or 'a'.")
    _check_model(model)
    described = _describe_model(model, "h5", include_optimizer)
    if not overwrite and "model_config" in file.attrs:
        _ask_to_overwrite(f"The h5py.File {file.filename!r} holds a model")
    path = Path(file.filename)
    with _file_faults_unified(path):
        contents = write_open_hdf5(model, described.config or {}, file, include_optimizer, {})
    _warn_of(replace(contents, left_out=(*contents.left_out, *described.left_out)), path)
    return path
