"""The native Keras archive: a zip, and the same files in a directory, which is only read."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.saving.formats.format import KERAS, Format
from exporter.saving.layout.names import CONFIG, GRAPH, METADATA

if TYPE_CHECKING:
    import keras

    from exporter.saving.contents import Contents
    from exporter.saving.requests import LoadRequest, SaveRequest


class KerasArchive(Format):
    """The native Keras archive."""

    def sniff(self, path: Path) -> bool:
        """Leaves a SavedModel that is an unzipped archive as well to the readers of a SavedModel."""
        return super().sniff(path) and not (path / GRAPH).is_file()

    def is_whole(self, names: Collection[str]) -> bool:
        """Knows an unzipped archive by its two documents."""
        return {CONFIG, METADATA} <= set(names)

    def write(self, request: "SaveRequest") -> "Contents":
        """Writes a zip."""
        from exporter.saving.formats.keras_archive import write_keras_archive

        return write_keras_archive(request)

    def read(self, path: Path, request: "LoadRequest") -> "keras.Model":
        """Loads a zip or a directory that we or Keras wrote."""
        from exporter.saving.formats.keras_archive import read_keras_archive, read_keras_directory

        return read_keras_directory(path, request) if path.is_dir() else read_keras_archive(path, request)

    def open_weights(self, path: Path) -> AbstractContextManager[Any]:
        """Opens those of a zip."""
        from exporter.saving.formats.keras_archive import open_archived_weights

        return open_archived_weights(path)


FORMAT = KerasArchive(
    name="keras",
    label="Keras archive",
    noun="a .keras archive",
    suffixes=(".keras",),
    readers=frozenset({KERAS}),
    packages={"h5py": "the weights of a .keras archive"},
    variants={"directory": "unzipped Keras archive"},
    magic=b"PK\x03\x04",
    marks={CONFIG: "an unzipped .keras archive"},
    inspector="exporter.artifacts.inspection.artifacts:open_archive_or_directory",
)
