"""The weights of a file, for a model that is there already."""

from pathlib import Path

import h5py

from exporter.errors import ArtifactError
from exporter.saving.formats import find_format_of_file
from exporter.saving.formats.parts.weights_file import StoredArrays, load_as_keras
from exporter.saving.layout.checksums import damage_explained
from exporter.saving.layout.tensor_bundle import is_checkpoint
from exporter.saving.private_api import load_weights_from_hdf5_group
from exporter.storage.exchange import read_whole
from exporter.text.printable import escape
from exporter.typing.hdf5 import Group
from exporter.typing.keras import Model

# Of a group in the legacy layout; Keras numbers them where one would be too long.
_LAYERS = ("layer_names", "layer_names0")


def load_weights(model: Model, path: Path) -> None:
    """Gives a model the weights of a file, and of an optimizer's state what is there.

    Args:
        model: A built model.
        path: A file of weights, a whole model in HDF5, or a `.keras` archive, by Keras or by us and of any name; or the
            path of a TensorFlow checkpoint's files without `.index`.

    Raises:
        ArtifactError: It is damaged, refused, or none of these.
        Exception: What Keras raises where the weights are not those of the model.
    """
    if is_checkpoint(path):
        from exporter.saving.formats.saved_model.keras_2.checkpoints import load_checkpoint

        load_checkpoint(model, path)
        return
    if not path.is_file():
        raise ArtifactError(f"{escape(str(path))} is not a file. Give the path of a file that holds weights.")
    try:
        read_whole(path, lambda: _load(model, path))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error}. It may be damaged or incomplete.") from error


def _load(model: Model, path: Path) -> None:
    with find_format_of_file(path).open_weights(path) as arrays:
        arrays.check()
        legacy = _find_legacy(arrays)
        if legacy is None:
            load_as_keras(model, arrays.file)
        else:
            load_weights_from_hdf5_group(legacy, model)


def _find_legacy(arrays: StoredArrays) -> Group | None:
    """Finds the weights in the legacy layout: in the root of a file of weights, below it in that of a model."""
    with damage_explained(arrays.place):
        for group in (arrays.file, arrays.file.get("model_weights")):
            if isinstance(group, h5py.Group) and any(name in group.attrs for name in _LAYERS):
                legacy: Group = group
                return legacy
    return None
