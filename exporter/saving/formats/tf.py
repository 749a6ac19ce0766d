"""The SavedModel directory, for TensorFlow, for stock Keras, and for our own `load_model`."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.saving.formats.format import KERAS, TENSORFLOW, Format
from exporter.saving.layout.names import GRAPH

if TYPE_CHECKING:
    import keras

    from exporter.saving.contents import Contents
    from exporter.saving.requests import LoadRequest, SaveRequest


class SavedModel(Format):
    """The SavedModel directory."""

    def is_whole(self, names: Collection[str]) -> bool:
        """Knows a SavedModel by its graph."""
        return GRAPH in names

    def write(self, request: "SaveRequest") -> "Contents":
        """Writes the directory."""
        from exporter.saving.formats.saved_model.writing import write_saved_model

        return write_saved_model(request)

    def read(self, path: Path, request: "LoadRequest") -> "keras.Model":
        """Loads any writer's."""
        from exporter.saving.formats.saved_model.reading import read_saved_model

        return read_saved_model(path, request)


FORMAT = SavedModel(
    name="tf",
    label="SavedModel",
    noun="a SavedModel",
    is_directory=True,
    holds_endpoints=True,
    is_served=True,
    holds_functions=True,
    readers=frozenset({TENSORFLOW, KERAS}),
    packages={"h5py": "the variables of a SavedModel"},
    marks={GRAPH: "a SavedModel"},
    inspector="exporter.artifacts.inspection.artifacts:open_saved_model",
)
