"""A save that is checked before it is written: its arguments, its model, its target."""

import errno
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.errors import ModelError, SpaceError
from exporter.processes.collector import collector_paused
from exporter.saving.arguments import (
    ask_to_overwrite,
    check_flags,
    check_h5py,
    check_model,
    check_path,
    check_place,
    check_tf_only,
    choose_format,
)
from exporter.saving.contents import TWIN, LeftOut, format_bytes
from exporter.saving.formats import Format
from exporter.text.showing import escape

if TYPE_CHECKING:
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
        with file_faults_unified(staged), collector_paused():
            return self._write(staged, notes or {})

    def _write(self, staged: Path, notes: Mapping[str, bytes]) -> "Contents":
        described = self.described or describe_for(self.model, self.save_format, self.include_optimizer)
        if self.save_format == "tf":
            from exporter.saving.formats.saved_model.writing import write_saved_model

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
        from exporter.saving.formats.hdf5.writing import write_hdf5

        return write_hdf5
    from exporter.saving.formats.keras_archive import write_keras_archive

    return write_keras_archive


@contextmanager
def file_faults_unified(staged: Path) -> Iterator[None]:
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


def warn_of(contents: "Contents", target: Path) -> None:
    """Warns of what an artifact does not hold and nobody asked to leave out; an export says it in its summary."""
    for each in contents.left_out:
        if not each.intended and each.what != TWIN:
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
    target = check_path(filepath)
    chosen = choose_format(target, save_format)
    check_flags(overwrite=overwrite, include_optimizer=include_optimizer)
    check_tf_only(chosen, signatures, options)
    check_h5py(chosen)
    check_model(model)
    described = describe_for(model, chosen, include_optimizer)
    check_place(target, chosen)
    if not overwrite and os.path.lexists(target):
        ask_to_overwrite(f"{target} exists")
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
    target = check_path(filepath)
    chosen = choose_format(target, save_format)
    check_place(target, chosen)
    if not overwrite and os.path.lexists(target):
        ask_to_overwrite(f"{target} exists")
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


def describe_for(model: "keras.Model", chosen: Format, include_optimizer: bool) -> "Description":
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
    from exporter.saving.formats.hdf5.writing import check_hdf5_holds

    check_hdf5_holds(model, others)
