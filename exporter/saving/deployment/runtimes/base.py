"""What a runtime makes of a deployed artifact."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from exporter.processes.arrays import Array
from exporter.saving.contents import Endpoint
from exporter.saving.deployment.documents import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """One array that is stored in an artifact.

    Attributes:
        dtype: As the format calls it, in NumPy's words: `float32`, `int8`, `int4`, `string`.
        shape: Its dimensions.
        size: Bytes in the file.
        read: Reads it: as NumPy has it, `int4` as the bytes that hold two of them.
    """

    dtype: str
    shape: tuple[int, ...]
    size: int
    read: Callable[[], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """What is read of an artifact without opening it for computing.

    Attributes:
        writer: The software that wrote it, such as `tf2onnx 1.17.0`; empty where the file does not say.
        document: What we keep inside; None if another wrote it.
        constants: The stored arrays, by name, with a number where a name comes twice.
        operations: How many operations of each kind there are.
        endpoints: What it takes and returns, as far as the file says it.
        foreign: Operations that its runtime does not come with.
    """

    writer: str
    document: Document | None
    constants: Mapping[str, Constant] = field(default_factory=dict)
    operations: Mapping[str, int] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()


class Runtime(ABC):
    """An artifact, opened by the runtime of its format.

    Attributes:
        endpoints: What the file itself says that it takes and returns, by the names of the endpoints.
    """

    endpoints: Mapping[str, Endpoint]

    @abstractmethod
    def __init__(self, path: Path, threads: int = 1) -> None:
        """Opens an artifact.

        Args:
            path: A file or a directory of the format.
            threads: With how many it computes.
        """

    @abstractmethod
    def call(self, endpoint: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Asks an endpoint.

        Args:
            endpoint: Its name.
            inputs: An array per input, by name; texts as `bytes` in an array of objects.

        Returns:
            An array per output, by name; texts likewise. They are the caller's own: the next call changes none of them.
        """

    @staticmethod
    @abstractmethod
    def read_file(path: Path) -> FileContent:
        """Reads an artifact without opening it for computing: anybody's, so that nothing in it is run.

        Raises:
            ArtifactError: It is damaged.
        """
