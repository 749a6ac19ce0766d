"""The formats: how each writes, reads and describes an artifact."""

from pathlib import Path
from typing import Literal

from exporter.errors import ArtifactError
from exporter.text.printable import escape

Format = Literal["tf", "h5", "keras"]

SUFFIXES: dict[str, Format] = {".h5": "h5", ".hdf5": "h5", ".keras": "keras"}

FORMATS: tuple[Format, ...] = ("tf", "h5", "keras")


def find_format(path: Path) -> Format:
    """Finds the format of a file by its first bytes.

    Args:
        path: A file that may be of any kind.

    Returns:
        `h5` or `keras`.

    Raises:
        ArtifactError: It is of neither.
    """
    with path.open("rb") as file:
        head = file.read(8)
    if head == b"\x89HDF\r\n\x1a\n":
        return "h5"
    if head.startswith(b"PK\x03\x04"):
        return "keras"
    raise ArtifactError(
        f"{escape(str(path))} is neither an HDF5 file nor a .keras archive: it begins with {head!r}. Expected a "
        "file that `save_model` or Keras wrote; the file may be damaged or incomplete."
    )
