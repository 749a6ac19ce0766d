"""OpenVINO: a directory with two files for each endpoint, `<endpoint>.xml` with the graph and `<endpoint>.bin`."""

import itertools
import math
import re
import sys
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import numpy as np

from exporter.errors import ArtifactError
from exporter.processes.arrays import Array, find_dtype
from exporter.saving.contents import SERVING_DEFAULT, Endpoint, Tensor
from exporter.saving.deployment.documents import KEY, Document
from exporter.saving.deployment.runtimes.base import Constant, FileContent, Runtime

# Where the document is kept: below `rt_info`.
DOCUMENT = (KEY, "document")

# OpenVINO's names of the types of elements, with NumPy's; those below a byte are read as the bytes that hold them.
DTYPES = {
    "boolean": "bool",
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "bf16": "bfloat16",
    "f8e4m3": "float8_e4m3fn",
    "f8e5m2": "float8_e5m2",
    "f8e8m0": "float8_e8m0fnu",
    **{f"{letter}{bits}": f"{word}int{bits}" for letter, word in (("i", ""), ("u", "u")) for bits in (8, 16, 32, 64)},
    "string": "string",
}
# Those, with how many elements stand in how many bytes.
_PACKED = {
    "i4": ("int4", 2, 1),
    "u1": ("uint1", 8, 1),
    "u2": ("uint2", 4, 1),
    "u3": ("uint3", 8, 3),
    "u4": ("uint4", 2, 1),
    "u6": ("uint6", 4, 3),
    "nf4": ("nf4", 2, 1),
    "f4e2m1": ("float4_e2m1fn", 2, 1),
}

# A network of ten thousand layers takes a tenth of it, and Python half a minute for the whole of it.
_MAX_GRAPH = 1 << 28
# Layers, and what they say of themselves.
_MAX_LAYERS = 400_000
# A loop inside a loop adds five.
_MAX_DEPTH = 200
# NumPy has no more.
_MAX_RANK = 64
_CHUNK = 1 << 20
_DIGITS = re.compile(r"[0-9]{1,18}")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")


def import_openvino() -> Any:
    """Imports OpenVINO such that neither it nor NNCF, imported later, tells anybody of its use.

    By default both write an identity into the home directory and send an event to their makers, from the import on.
    """
    sys.modules["openvino_telemetry"] = cast(Any, None)
    import openvino

    return openvino


class OpenVinoRuntime(Runtime):
    """An artifact on the processor, which computes in float32 also where it could in less."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        core = import_openvino().Core()
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        self.endpoints = {}
        self._compiled = {}
        models = {file.stem: core.read_model(file) for file in _list_files(path)}
        if len(models) == 1 and not any(model.has_rt_info(list(DOCUMENT)) for model in models.values()):
            models = dict(zip([SERVING_DEFAULT], models.values(), strict=True))  # others call it anything
        for name, model in models.items():
            self.endpoints[name] = Endpoint(_read_ports(model.inputs), _read_ports(model.outputs))
            self._compiled[name] = core.compile_model(model, "CPU", options)

    def call(self, endpoint: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Asks an endpoint; see `Runtime`."""
        taken = {place: _to_openvino(inputs[name]) for place, name in enumerate(self.endpoints[endpoint].inputs)}
        returned = self._compiled[endpoint](taken, share_outputs=False)
        declared = self.endpoints[endpoint].outputs
        return {name: _from_openvino(returned[place], declared[name].dtype) for place, name in enumerate(declared)}

    @staticmethod
    def read_file(path: Path) -> FileContent:
        """Reads an artifact without opening it for computing; see `Runtime`."""
        files = _list_files(path)
        graphs = {file.stem: _Graph.read(file) for file in files}
        first = next(iter(graphs.values()))
        if any(graph.document != first.document for graph in graphs.values()):
            raise ArtifactError(f"{path} is damaged: its files are of different exports.")
        constants: dict[str, Constant] = {}
        operations: Counter[str] = Counter()
        numbers: Counter[str] = Counter()
        for name, graph in graphs.items():
            operations += graph.operations
            for layer, constant in graph.constants:
                whole = layer if len(graphs) == 1 else f"{name}/{layer}"
                constants[_find_free(whole, constants, numbers)] = constant
        document = None
        if first.document is not None:
            document = Document.from_json(first.document, f"The document of {path}")
        return FileContent(
            writer=first.writer, document=document, constants=constants, operations=dict(sorted(operations.items()))
        )


def _list_files(path: Path) -> list[Path]:
    files = sorted(file for file in path.glob("*.xml") if file.is_file())
    if not files:
        raise ArtifactError(f"{path} holds no OpenVINO model: it has no .xml file.")
    return files


def _read_ports(ports: Any) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    numbers: Counter[str] = Counter()
    for port in ports:
        shape = port.partial_shape
        sizes = None if shape.rank.is_dynamic else tuple(None if dim.is_dynamic else dim.get_length() for dim in shape)
        dtype = port.element_type.get_type_name()
        # A tensor that is returned twice has both names, each with a node that is called by one of them.
        known = port.node.friendly_name
        names = [known] if known in port.names else sorted(port.names - set(tensors)) or [known]
        tensors[_find_free(names[0], tensors, numbers)] = Tensor(sizes, DTYPES.get(dtype, dtype))
    return tensors


def _find_free(name: str, taken: Container[str], numbers: Counter[str]) -> str:
    """Returns a name, with the next number behind it where it is taken."""
    free = name
    while free in taken:
        numbers[name] += 1
        free = f"{name} ({numbers[name] + 1})"
    return free


def _to_openvino(array: Array) -> Array:
    return array.astype(np.bytes_) if array.dtype.kind == "O" else array


def _from_openvino(array: Array, dtype: str) -> Array:
    if array.dtype.kind not in "SU":
        # It gives out what NumPy does not know as the bits of something else.
        return array.view(find_dtype(dtype)) if dtype == "bfloat16" else array
    texts = np.array([text.encode() if isinstance(text, str) else text for text in array.ravel().tolist()], object)
    return texts.reshape(array.shape)


class _Graph:
    """What one `.xml` says, read as it streams by: nothing of it is kept but this.

    Attributes:
        writer: The software that wrote it.
        document: Ours, as text; None if there is none.
        operations: How many layers of each type there are.
        constants: The arrays in the `.bin`, with the names of their layers.
    """

    def __init__(self, file: Path) -> None:
        self.writer = ""
        self.document: str | None = None
        self.operations: Counter[str] = Counter()
        self.constants: list[tuple[str, Constant]] = []
        self._file = file
        self._values = file.with_suffix(".bin")
        self._end = self._values.stat().st_size if self._values.is_file() else None
        self._open: list[str] = []
        self._layers: list[Mapping[str, str]] = []
        self._count = 0

    @classmethod
    def read(cls, file: Path) -> "_Graph":
        """Reads a file.

        Raises:
            ArtifactError: It is damaged or refused.
        """
        size = file.stat().st_size
        if size > _MAX_GRAPH:
            raise ArtifactError(f"{file} is refused: it has {size:,} bytes; at most {_MAX_GRAPH:,} are read.")
        graph = cls(file)
        parser = ElementTree.XMLParser(target=graph)
        try:
            for chunk in _read_chunks(file):
                parser.feed(chunk)
            parser.close()
        except (ElementTree.ParseError, UnicodeError, ValueError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(f"{file} is damaged: it is no XML: {error}.") from error
        return graph

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Refuses what declares entities: a few lines of those stand for billions of characters."""
        raise ArtifactError(f"{self._file} is refused: it has a document type, which no OpenVINO model has.")

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Takes what an element says."""
        if not self._open and tag != "net":
            raise ArtifactError(f"{self._file} is damaged: it is no OpenVINO model: it begins with {tag[:80]!r}.")
        if len(self._open) == _MAX_DEPTH:
            raise ArtifactError(f"{self._file} is refused: it is nested too deeply.")
        inside = tuple(self._open[1:])
        self._open.append(tag)
        self._count += tag in ("layer", "data")
        if self._count > _MAX_LAYERS:
            raise ArtifactError(f"{self._file} is refused: it has more than {_MAX_LAYERS // 2:,} layers.")
        if tag == "layer":
            self._layers.append({key: attributes.get(key, "") for key in ("name", "type")})
            self.operations[attributes.get("type", "")] += 1
        elif tag == "data" and inside and inside[-1] == "layer" and self._layers[-1]["type"] == "Const":
            self.constants.append((self._layers[-1]["name"], self._read_constant(attributes)))
        elif (*inside, tag) == ("rt_info", *DOCUMENT):
            self.document = attributes.get("value")
        elif inside == ("rt_info",) and (tag == "Runtime_version" or attributes.get("name") == "OpenVINO Runtime"):
            number = _VERSION.match(attributes.get("value", ""))
            self.writer = f"OpenVINO {number[0]}" if number else self.writer

    def end(self, tag: str) -> None:
        """Leaves an element."""
        self._open.pop()
        if tag == "layer":
            self._layers.pop()

    def close(self) -> None:
        """Ends the reading, as the parser asks."""

    def _read_constant(self, attributes: Mapping[str, str]) -> Constant:
        kind = attributes.get("element_type", "")
        shape = tuple(self._read_number(size) for size in attributes.get("shape", "").split(",") if size.strip())
        offset, size = (self._read_number(attributes.get(key, "")) for key in ("offset", "size"))
        if len(shape) > _MAX_RANK or math.prod(length or 1 for length in shape) > sys.maxsize // 16:
            raise ArtifactError(f"{self._file} is damaged: it has an array of the shape {str(shape)[:80]}.")
        if self._end is None:
            raise ArtifactError(f"{self._file.parent} lacks {self._values.name!r}: it is incomplete.")
        if offset + size > self._end:
            raise ArtifactError(
                f"{self._values} is damaged or incomplete: it has {self._end:,} bytes, and {self._file.name} names the "
                f"byte {offset + size:,}."
            )
        dtype, elements, width = _PACKED.get(kind, (DTYPES.get(kind, ""), 1, 0))
        if not dtype:
            raise ArtifactError(f"{self._file} is damaged: it has an array of the unknown type {kind[:80]!r}.")
        if kind != "string":
            expected = -(-math.prod(shape) // elements) * (width or find_dtype(dtype).itemsize)
            if size not in (expected, expected or 1):  # OpenVINO keeps a byte for an array that has none
                raise ArtifactError(
                    f"{self._file} is damaged: an array {dtype} {list(shape)} has {size:,} bytes, not {expected:,}."
                )
        stored = dtype if kind in DTYPES else ""
        return Constant(
            dtype=dtype, shape=shape, size=size, read=lambda: _read_values(self._values, offset, size, stored, shape)
        )

    def _read_number(self, text: str) -> int:
        if not _DIGITS.fullmatch(text.strip()):
            raise ArtifactError(f"{self._file} is damaged: {text[:80]!r} is no number of bytes or elements.")
        return int(text)


def _read_values(file: Path, offset: int, size: int, dtype: str, shape: tuple[int, ...]) -> Array:
    with file.open("rb") as content:
        content.seek(offset)
        raw = content.read(size)
    if len(raw) != size:
        raise ArtifactError(f"{file} is damaged or incomplete: it ends before the byte {offset + size:,}.")
    if dtype == "string":
        return _read_texts(raw, shape, file)
    if not dtype:
        return np.frombuffer(raw, np.uint8)
    return np.frombuffer(raw, find_dtype(dtype), math.prod(shape)).reshape(shape)


def _read_texts(raw: bytes, shape: tuple[int, ...], file: Path) -> Array:
    """Reads texts as OpenVINO packs them: their number, where each begins and the last one ends, and the texts."""
    count = int.from_bytes(raw[:4], "little")
    head = 4 * (count + 2)
    ends = np.frombuffer(raw[4:head], np.int32).tolist() if head <= len(raw) else []
    if count != math.prod(shape) or len(ends) != count + 1 or ends != sorted(ends) or ends[0] < 0:
        raise ArtifactError(f"{file} is damaged: it has an array of texts that is none.")
    texts = np.empty(count, object)
    texts[:] = [raw[head + start : head + end] for start, end in itertools.pairwise(ends)]
    return texts.reshape(shape)


def _read_chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            yield chunk
