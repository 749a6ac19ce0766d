"""The save formats: one line for each, and the questions that others ask of them all.

Importing this imports neither TensorFlow nor Keras nor h5py.
"""

from collections.abc import Collection, Iterable
from importlib import import_module
from pathlib import Path

from exporter.errors import ArtifactError
from exporter.saving.formats.format import Format, read_head
from exporter.text.printable import escape

# By name: the first is the one that is written where nothing else is said. Each is a module of this package.
FORMATS: dict[str, Format] = {
    name: import_module(f"{__name__}.{name}").FORMAT
    for name in (
        "tf",
        "h5",
        "keras",
        "litert",
        "onnx",
        "openvino",
    )
}

# Endings of other software's files, and what they are: under such a name nobody looks for a model of ours.
FOREIGN_SUFFIXES = {
    ".ckpt": "a checkpoint",
    ".mlmodel": "a Core ML model",
    ".mlpackage": "a Core ML package",
    ".npz": "a file of NumPy arrays",
    ".pb": "a TensorFlow graph",
    ".pkl": "a pickle",
    ".pt": "a PyTorch model",
    ".pth": "a PyTorch model",
    ".safetensors": "a safetensors file",
    ".weights.h5": "a file of weights alone",
}


def find_by_suffix(path: str | Path) -> Format | None:
    """Finds the format whose files are called like that; None for any other name."""
    suffix = Path(path).suffix.lower()
    return next((each for each in FORMATS.values() if suffix in each.suffixes), None)


def find_chosen(path: str | Path, save_format: str | None) -> Format:
    """Finds the format that is written: the one that was named, else by the suffix, else the first.

    Args:
        path: Where it goes.
        save_format: The name of a format, or None.
    """
    if save_format is not None:
        return FORMATS[save_format]
    return find_by_suffix(path) or next(iter(FORMATS.values()))


def find_foreign_suffix(path: str | Path, save_format: str | None) -> str | None:
    """Finds the ending of a path that is another software's, which a format does not have; None if it has none.

    Args:
        path: Where the artifact would go.
        save_format: The name of the format that was asked for, or None.
    """
    suffixes = Path(path).suffixes
    endings = ("".join(suffixes[-2:]).lower(), "".join(suffixes[-1:]).lower())
    chosen = () if save_format is None else FORMATS[save_format].suffixes
    own = {suffix for each in FORMATS.values() for suffix in each.suffixes}
    return next(
        (each for each in endings if each in FOREIGN_SUFFIXES and each not in own and endings[1] not in chosen), None
    )


def find_format(path: Path) -> Format | None:
    """Finds the format of a file or a directory by its content; None if it is of none.

    A format that was added later is asked first: a zip or a directory of its own kind is one of the older kind too.
    """
    return next((each for each in reversed(FORMATS.values()) if each.sniff(path)), None)


def has_endpoints(path: Path) -> bool:
    """Tells whether something is an artifact of a format that holds endpoints."""
    found = find_format(path)
    return found is not None and found.holds_endpoints


def find_format_of_file(path: Path) -> Format:
    """Finds the format of a file by its first bytes.

    Args:
        path: A file that may be of any kind.

    Raises:
        ArtifactError: It is of none.
    """
    found = find_format(path)
    if found is None:
        files = [each.noun for each in FORMATS.values() if each.holds_model and not each.is_directory]
        raise ArtifactError(
            f"{escape(str(path))} is neither {join_nouns(files, 'nor')}: it begins with {read_head(path)!r}. Expected "
            "a file that `save_model` or Keras wrote; the file may be damaged or incomplete."
        )
    return found


def is_artifact(names: Collection[str]) -> bool:
    """Tells by the names in a directory whether it is an artifact, which may be replaced as a whole."""
    return any(each.is_whole(names) for each in FORMATS.values())


def name_kind(kind: str) -> str:
    """Returns what a person calls a format, or what is only read, by the name that a record gives it."""
    return next(
        (
            label
            for each in FORMATS.values()
            for name, label in ((each.name, each.label), *each.variants.items())
            if name == kind
        ),
        kind,
    )


def list_directories(chosen: Format) -> list[str]:
    """Names the formats that write directories, and hold what a format holds, as an error quotes them."""
    alike = (each for each in FORMATS.values() if each.holds_model == chosen.holds_model)
    return [repr(each.name) for each in alike if each.is_directory]


def join_nouns(nouns: Iterable[str], last: str = "or") -> str:
    """Returns `a, b or c`."""
    *first, end = nouns
    return f"{', '.join(first)} {last} {end}" if first else end
