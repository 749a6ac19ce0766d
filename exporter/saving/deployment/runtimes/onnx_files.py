"""ONNX files of anybody's, read so that a small one cannot become a large thing."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from exporter.errors import ArtifactError
from exporter.saving.layout.tensor_bundle import read_varint

SUFFIX = ".onnx"
# Protocol buffers end there.
MAX_BYTES = (1 << 31) - 1
# A message of two bytes takes 80 bytes of memory, and as much again when Python looks at it; a network of 10,000
# operations has 60,000 messages.
MAX_MESSAGES = 1_000_000

_PATH = "location"


def read_models(path: Path) -> Iterator[tuple[Path, Any]]:
    """Reads a file, or those of a directory, without what they keep elsewhere.

    Args:
        path: The file or the directory.

    Yields:
        Each file with its model, in the order of their names.

    Raises:
        ArtifactError: There is none, or one is damaged or refused.
    """
    files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not files:
        raise ArtifactError(f"{path} is not an ONNX artifact: no file in it ends with {SUFFIX}.")
    for file in files:
        yield file, _read_model(file)


def _read_model(file: Path) -> Any:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ArtifactError(f"{file} is refused: it has more than {MAX_BYTES:,} bytes.")
        content = file.read_bytes()
        if _count_messages(content) > MAX_MESSAGES:
            raise ArtifactError(f"{file} is refused: it has more than {MAX_MESSAGES:,} parts.")
        model = onnx.ModelProto.FromString(content)
    except ArtifactError:
        raise
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read: {error}.") from error
    except (DecodeError, IndexError, ValueError) as error:
        raise ArtifactError(f"{file} is damaged: it is no ONNX model: {error}.") from error
    if not model.ir_version or not model.graph.output:
        raise ArtifactError(f"{file} is damaged: it is no ONNX model: it has no graph that returns anything.")
    for tensor in _list_tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_place(tensor, file)
    return model


def list_graphs(graph: Any) -> Iterator[Any]:
    """Gives a graph, and those inside of its operations."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for body in list_bodies(attribute):
                yield from list_graphs(body)


def list_bodies(attribute: Any) -> list[Any]:
    """Lists the graphs that an attribute of an operation is."""
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _list_tensors(graph: Any) -> Iterator[Any]:
    """Gives every array that a graph stores."""
    for each in list_graphs(graph):
        yield from each.initializer
        for node in each.node:
            for attribute in node.attribute:
                yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)


def _check_place(tensor: Any, file: Path) -> None:
    """Refuses an array that is kept in another directory than the file."""
    location = next((each.value for each in tensor.external_data if each.key == _PATH), "")
    place = PurePosixPath(location)
    if not location or place.is_absolute() or ".." in place.parts:
        raise ArtifactError(
            f"{file} is refused: its constant {tensor.name!r} is kept at {location!r}; only files beside it are read."
        )


def _count_messages(content: bytes) -> int:
    """Counts the messages in the bytes of a model, until there are too many.

    Raises:
        IndexError: The bytes end in the middle of one.
        ValueError: They are no message.
    """
    count = 0
    waiting = [(onnx.ModelProto.DESCRIPTOR, 0, len(content))]
    while waiting and count <= MAX_MESSAGES:
        kind, position, end = waiting.pop()
        while position < end and count <= MAX_MESSAGES:
            key, position = read_varint(content, position)
            number, wire = key >> 3, key & 7
            if wire == 2:
                length, position = read_varint(content, position)
                field = kind.fields_by_number.get(number)
                if field is not None and field.message_type is not None:
                    count += 1
                    waiting.append((field.message_type, position, position + length))
                position += length
            elif wire == 0:
                _, position = read_varint(content, position)
            elif wire in (1, 5):
                position += 8 if wire == 1 else 4
            else:
                raise ValueError("it has a field of an unknown kind")
    return count
