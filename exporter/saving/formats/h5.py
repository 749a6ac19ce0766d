"""The HDF5 file in the legacy Keras layout, with the exact state beside it."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.saving.formats.format import KERAS, Format

if TYPE_CHECKING:
    import keras

    from exporter.saving.contents import Contents
    from exporter.saving.requests import LoadRequest, SaveRequest


class Hdf5File(Format):
    """The HDF5 file."""

    def explain_unheld(self, model: "keras.Model") -> str | None:
        """Refuses a subclassed model."""
        from exporter.saving.formats.hdf5.writing import explain_unheld

        return explain_unheld(model)

    def write(self, request: "SaveRequest") -> "Contents":
        """Writes a file, or into one that is open."""
        from exporter.saving.formats.hdf5.writing import write_hdf5, write_open_hdf5

        return write_hdf5(request) if isinstance(request.target, Path) else write_open_hdf5(request)

    def read(self, path: Path, request: "LoadRequest") -> "keras.Model":
        """Loads a file that we or Keras wrote."""
        from exporter.saving.formats.hdf5.reading import read_hdf5

        return read_hdf5(path, request)

    def open_weights(self, path: Path) -> AbstractContextManager[Any]:
        """Opens a model's, or a file of weights."""
        from exporter.saving.formats.hdf5.reading import open_hdf5_weights

        return open_hdf5_weights(path)


FORMAT = Hdf5File(
    name="h5",
    label="HDF5 file",
    noun="an HDF5 file",
    suffixes=(".h5", ".hdf5"),
    readers=frozenset({KERAS}),
    packages={"h5py": "an HDF5 file"},
    variants={"weights": "HDF5 file of weights"},
    magic=b"\x89HDF\r\n\x1a\n",
    inspector="exporter.artifacts.inspection.artifacts:open_hdf5",
)
