"""A model saved to an `h5py.File` that its caller has open."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.errors import ArgumentError
from exporter.saving.arguments import ask_to_overwrite, check_flags, check_model, check_tf_only
from exporter.saving.plans import describe_for, file_faults_unified, warn_of
from exporter.text.showing import describe_value

if TYPE_CHECKING:
    pass


def is_open_hdf5(filepath: Any) -> bool:
    """Tells whether a model goes to or comes from an open `h5py.File`."""
    # Whoever holds an open file has imported h5py; without it there is nothing to ask.
    module = sys.modules.get("h5py")
    return module is not None and isinstance(filepath, module.File)


def save_to_open_hdf5(
    model: Any,
    file: Any,
    overwrite: bool,
    include_optimizer: bool,
    save_format: str | None,
    signatures: Any,
    options: Any,
) -> Path:
    """Checks the arguments of `save_model` for an open file, and writes into it."""
    from exporter.saving.formats.hdf5.writing import write_open_hdf5

    if not (save_format is None or (isinstance(save_format, str) and save_format == "h5")):
        raise ArgumentError(
            f"An open h5py.File takes save_format='h5' or None. Received: {describe_value(save_format)}. "
            "Give a path to save in another format."
        )
    check_flags(overwrite=overwrite, include_optimizer=include_optimizer)
    check_tf_only("h5", signatures, options)
    if not file:
        raise ArgumentError("The h5py.File is closed. Open it with mode 'w' or 'a', and close it after the save.")
    if file.mode == "r":
        raise ArgumentError(f"The h5py.File {file.filename!r} is open for reading only. Open it with mode 'w' or 'a'.")
    check_model(model)
    described = describe_for(model, "h5", include_optimizer)
    if not overwrite and "model_config" in file.attrs:
        ask_to_overwrite(f"The h5py.File {file.filename!r} holds a model")
    path = Path(file.filename)
    with file_faults_unified(path):
        contents = write_open_hdf5(model, described.config or {}, file, include_optimizer, {})
    warn_of(replace(contents, left_out=(*contents.left_out, *described.left_out)), path)
    return path
