"""What a save format is: what it says of itself, and what it does."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from exporter.errors import ArtifactError, MissingDependencyError
from exporter.saving.deployment.quantizing import Quantize
from exporter.text.printable import escape

if TYPE_CHECKING:
    import keras

    from exporter.saving.contents import Contents
    from exporter.saving.requests import LoadRequest, SaveRequest

# Who opens an artifact beside our own `load_model`.
TENSORFLOW = "tensorflow"
KERAS = "keras"


@dataclass(frozen=True, kw_only=True)
class Format(ABC):
    """One save format.

    A format is a module with a `FORMAT` of a class below this one, and its line in `exporter.saving.formats`. The
    module imports TensorFlow, Keras and h5py inside of its methods: whoever asks what there is pays for none of them.

    Attributes:
        name: What `save_format` calls it.
        label: What a person calls its artifacts.
        noun: An artifact of it in a sentence, such as `an HDF5 file`.
        suffixes: The endings of its file's name, the usual one first; empty for any name.
        ending: What a name ends with that we choose for an artifact without a suffix.
        is_directory: Whether it writes a directory, and not one file.
        holds_endpoints: Whether it holds endpoints, which `signatures` declares.
        is_served: Whether TensorFlow's servers take it: with `tf.saved_model.SaveOptions` and layouts of versions.
        holds_model: Whether our `load_model` gives the model back.
        holds_functions: Whether it holds the functions of a model, also of one without a configuration.
        readers: Which others open it: `TENSORFLOW`, `KERAS`.
        packages: What has to be importable, and what it is needed for.
        extra: The extra of our package that installs them; empty where they come with it.
        variants: What it reads and does not write, by the name that an inspection gives it, with its label.
        quantizations: How it can be quantised, and what `quantize` calls that.
        magic: The first bytes of its file.
        marks: The file by which its directory is known, with what such a directory is.
        seal_head: What has to stand before bytes behind the end of its file, so that others pass over them.
        inspector: The function that opens an artifact for an inspection, as `module:function`: inspections are above
            this room.
    """

    name: str
    label: str
    noun: str
    suffixes: tuple[str, ...] = ()
    ending: str = ""
    is_directory: bool = False
    holds_endpoints: bool = False
    is_served: bool = False
    holds_model: bool = True
    holds_functions: bool = False
    readers: frozenset[str] = frozenset()
    packages: Mapping[str, str] = field(default_factory=dict)
    extra: str = ""
    variants: Mapping[str, str] = field(default_factory=dict)
    quantizations: tuple[Quantize, ...] = ()
    magic: bytes = b""
    marks: Mapping[str, str] = field(default_factory=dict)
    seal_head: bytes = b""
    inspector: str

    LONGEST_MAGIC: ClassVar[int] = 8

    def explain_missing(self) -> list[str]:
        """Says of each package that the format needs and that is not installed what it is needed for, and the remedy.

        Nothing is imported.
        """
        install = f"'keras-exporter[{self.extra}]'" if self.extra else ""
        return [
            f"{package} is needed for {purpose} and is not installed. Install it: pip install {install or package}"
            for package, purpose in self.packages.items()
            if find_spec(package) is None
        ]

    def check_packages(self) -> None:
        """Imports what the format needs, or says what it is needed for.

        Raises:
            MissingDependencyError: One of them cannot be imported.
        """
        if self.extra:  # they are imported by the process that needs them
            missing = self.explain_missing()
            if missing:
                raise MissingDependencyError(*missing)
            return
        for package, purpose in self.packages.items():
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise MissingDependencyError(
                    f"{package} is needed for {purpose} and cannot be imported: {error}. "
                    f"Install it: pip install {package}"
                ) from error

    def sniff(self, path: Path) -> bool:
        """Tells whether something is an artifact of this format, by its content and never by its name.

        Args:
            path: A file or a directory, of any kind.
        """
        if path.is_dir():
            return any((path / name).is_file() for name in self.marks)
        return bool(self.magic) and read_head(path).startswith(self.magic)

    def writes_directory(self, path: Path) -> bool:
        """Tells whether an artifact of this path is a directory, and not one file."""
        return self.is_directory

    def is_whole(self, names: Collection[str]) -> bool:
        """Tells by the names in a directory whether it is an artifact, which may be replaced as a whole."""
        return False

    def explain_unheld(self, model: "keras.Model") -> str | None:
        """Says why the format cannot hold a model that has a configuration; None if it can."""
        return None

    @abstractmethod
    def write(self, request: "SaveRequest") -> "Contents":
        """Writes an artifact to `request.target`, where nothing is yet."""

    @abstractmethod
    def read(self, path: Path, request: "LoadRequest") -> "keras.Model":
        """Loads an artifact that `sniff` knows; see `exporter.load_model`."""

    def open_weights(self, path: Path) -> AbstractContextManager[Any]:
        """Opens the weights alone, for a model that is there already; see `StoredArrays`.

        Raises:
            ArtifactError: They cannot be had without the model.
        """
        raise ArtifactError(f"{escape(str(path))} is {self.noun}: its weights cannot be read without its model.")

    def inspect(self, path: Path, stack: ExitStack) -> Any:
        """Opens an artifact for an inspection, without TensorFlow and Keras.

        Args:
            path: What `sniff` knows.
            stack: Closes what is open in the end.

        Returns:
            An `exporter.artifacts.inspection.artifacts.Artifact`.
        """
        module, _, function = self.inspector.partition(":")
        return getattr(importlib.import_module(module), function)(path, stack)


def read_head(path: Path) -> bytes:
    """Reads the bytes by which a file is known."""
    with path.open("rb") as file:
        return file.read(Format.LONGEST_MAGIC)
