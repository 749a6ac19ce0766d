"""A model saved to an `h5py.File` that its caller has open."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

from exporter.errors import ArgumentError
from exporter.saving.arguments import ask_to_overwrite, check_endpoints, check_flags, check_model
from exporter.saving.formats.h5 import FORMAT
from exporter.saving.plans import describe, warn_of
from exporter.saving.requests import SaveRequest
from exporter.text.showing import describe_value
from exporter.typing.hdf5 import File


def is_open_hdf5(filepath: object) -> TypeGuard[File]:
    """Tells whether a model goes to or comes from an open `h5py.File`."""
    # Whoever holds an open file has imported h5py; without it there is nothing to ask.
    module = sys.modules.get("h5py")
    return module is not None and isinstance(filepath, module.File)


def save_to_open_hdf5(request: SaveRequest, overwrite: bool) -> Path:
    """Checks the arguments of `save_model` for an open file, and writes into it."""
    given, file = request.format, request.target
    if not (given is None or (isinstance(given, str) and given == FORMAT.name)):
        raise ArgumentError(
            f"An open h5py.File takes save_format={FORMAT.name!r} or None. Received: {describe_value(given)}. "
            "Give a path to save in another format."
        )
    check_flags(overwrite=overwrite, include_optimizer=request.include_optimizer)
    check_endpoints(FORMAT, request.signatures, request.options)
    if not file:
        raise ArgumentError("The h5py.File is closed. Open it with mode 'w' or 'a', and close it after the save.")
    if file.mode == "r":
        raise ArgumentError(f"The h5py.File {file.filename!r} is open for reading only. Open it with mode 'w' or 'a'.")
    check_model(request.model)
    plan = describe(replace(request, format=FORMAT.name))
    if not overwrite and "model_config" in file.attrs:
        ask_to_overwrite(f"The h5py.File {file.filename!r} holds a model")
    path = Path(file.filename)
    warn_of(plan.write_open(), path)
    return path
