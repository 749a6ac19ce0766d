"""A save that is checked before it is written: its arguments, its model, its target."""

import errno
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.errors import ModelError, SpaceError
from exporter.processes.collector import collector_paused
from exporter.saving.arguments import (
    ask_to_overwrite,
    check_endpoints,
    check_flags,
    check_model,
    check_path,
    check_place,
    choose_format,
)
from exporter.saving.compatibility.history import explain_incompatible, find_oldest_keras, show_version
from exporter.saving.contents import LAYERS, TWIN, Omission, format_bytes, list_lost
from exporter.saving.formats import FORMATS
from exporter.saving.formats.format import Format
from exporter.saving.requests import SaveRequest
from exporter.text.printable import escape
from exporter.typing.keras import Model

if TYPE_CHECKING:
    from exporter.saving.contents import Contents

# What a disk says that takes no more; TensorFlow ends its message with it.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class SavePlan:
    """One save whose arguments and model have been checked.

    Attributes:
        request: What was asked, with the target and the name of the format.
        left_out: What the model's configuration does not hold.
    """

    request: SaveRequest
    left_out: "tuple[Omission, ...]" = ()

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
            return self._write(replace(self.request, target=staged, notes=notes or {}))

    def write_open(self) -> "Contents":
        """Writes into the open file that is the target."""
        with file_faults_unified(Path(self.request.target.filename)):
            return self._write(self.request)

    def _write(self, request: SaveRequest) -> "Contents":
        contents = FORMATS[str(request.format)].write(request)
        return replace(contents, left_out=(*contents.left_out, *self.left_out))


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


def plan_save(request: SaveRequest, overwrite: bool = True) -> SavePlan:
    """Checks every argument of `save_model`, and the model, without writing anything.

    Args:
        request: What is asked, with a target and the name of a format, or None, that may be anything yet.
        overwrite: See `save_model`.

    Returns:
        The save that can now be written.

    Raises:
        ArgumentError: An argument, or a combination of arguments, is not allowed.
        NotAModelError: `model` is not a Keras 3 model.
        ModelError: The model is not built, or the format cannot hold it.
        TargetExistsError: The target exists and may not be replaced.
        MissingDependencyError: HDF5 was asked for and h5py cannot be imported.
    """
    target = check_path(request.target)
    chosen = choose_format(target, request.format)
    check_flags(overwrite=overwrite, include_optimizer=request.include_optimizer)
    check_endpoints(chosen, request.signatures, request.options)
    chosen.check_packages()
    check_model(request.model)
    plan = describe(replace(request, target=target, format=chosen.name))
    check_place(target, chosen)
    if not overwrite and os.path.lexists(target):
        ask_to_overwrite(f"{target} exists")
    return plan


def check_target(filepath: object, overwrite: bool = True, save_format: str | None = None) -> tuple[Path, Format]:
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


@dataclass(frozen=True, slots=True)
class Space:
    """What a save takes on the disk.

    Attributes:
        needed: Bytes that will be written at least.
        free: Bytes that are free.
        directory: Where that was asked.
    """

    needed: int
    free: int
    directory: Path


def measure_space(model: Model, target: Path, include_optimizer: bool) -> Space:
    """Counts what a save takes at least: the weights and the optimizer.

    Args:
        model: See `check_space`.
        target: See there.
        include_optimizer: See there.
    """
    from exporter.saving.state.collecting import count_bytes

    variables = list(model.variables)
    if include_optimizer and getattr(model, "optimizer", None) is not None:
        variables += model.optimizer.variables
    needed = sum(count_bytes(each) for each in {id(each): each for each in variables}.values())
    directory = next(parent for parent in target.absolute().parents if parent.is_dir())
    return Space(needed, shutil.disk_usage(directory).free, directory)


def check_space(model: Model, target: Path, include_optimizer: bool) -> int:
    """Refuses a save for which the file system has no space, before time is spent on it.

    Args:
        model: The model, whose weights and optimizer are what takes space.
        target: Where it goes. It is written beside what is there, and replaces it when it is complete.
        include_optimizer: Whether the optimizer is saved.

    Returns:
        How many bytes will be written at least.

    Raises:
        SpaceError: There is less than what will be written at least.
    """
    space = measure_space(model, target, include_optimizer)
    if space.needed > space.free:
        raise SpaceError(
            f"{target} needs at least {format_bytes(space.needed)} on the disk, and {format_bytes(space.free)} are "
            f"free in {space.directory}. What was there is unchanged. Free space, or choose a `filepath` on another "
            "file system."
        )
    return space.needed


def describe(request: SaveRequest) -> SavePlan:
    """Makes the configuration of the model, without which not every format can hold it.

    A format that holds functions holds a model that has none as them.

    Args:
        request: What is asked, with the name of the format.

    Raises:
        ModelError: The format cannot hold the model.
    """
    from exporter.saving.rehearsal import MisfitError, describe_model

    chosen = FORMATS[str(request.format)]
    if not chosen.holds_model:
        return SavePlan(request)
    lost = list_lost(request.model)
    try:
        described = describe_model(request, chosen.holds_functions)
    except ModelError as error:
        _refuse_unheld(request.model, chosen, has_configuration=False)
        if not chosen.holds_functions or request.compatibility is not None:
            raise
        why = str(error)
        if isinstance(error, MisfitError):
            why = f"{error.reason} The artifact holds the model as TensorFlow functions instead"
        told = () if any(each.what == LAYERS for each in lost) else (Omission("Keras configuration", why),)
        return SavePlan(request, (*told, *lost))
    _refuse_unheld(request.model, chosen, has_configuration=True)
    if request.compatibility is not None and (lacks := explain_incompatible(described.config, request.compatibility)):
        raise ModelError(
            f"Keras {request.compatibility} cannot open the model {request.model.name!r}, which needs:",
            *(f"  {each}" for each in lacks),
            f"Set compatibility={show_version(find_oldest_keras(described.config))}, or change the model.",
        )
    return SavePlan(replace(request, config=described.config), (*described.left_out, *lost))


def _refuse_unheld(model: Model, chosen: Format, has_configuration: bool) -> None:
    """Refuses a model that a format cannot hold, and says which ones can."""
    why = chosen.explain_unheld(model)
    if why is not None:
        others = [
            repr(each.name)
            for each in FORMATS.values()
            if each.holds_model and (has_configuration or each.holds_functions) and each.explain_unheld(model) is None
        ]
        raise ModelError(f"{why} Save it with save_format={' or '.join(others)}.")
