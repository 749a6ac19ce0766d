"""ONNX Runtime, and what an ONNX file says without it."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.external_data_helper

from exporter.errors import ArtifactError
from exporter.processes.arrays import Array, find_dtype
from exporter.saving.contents import SERVING_DEFAULT, Endpoint, Tensor
from exporter.saving.deployment.documents import KEY, Document
from exporter.saving.deployment.runtimes.base import Constant, FileContent, Runtime
from exporter.saving.deployment.runtimes.onnx_files import list_graphs, read_models
from exporter.saving.layout.checksums import FILE_FAULTS, damage_explained

# The name under which a file keeps which endpoint it is.
ENDPOINT_KEY = "exporter.endpoint"


def open_session(model: bytes | str, threads: int = 1) -> Any:
    """Opens a model with ONNX Runtime, on the processor, without a word.

    Args:
        model: Its bytes, or the path of its file.
        threads: With how many it computes.

    Returns:
        The session.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxRuntime(Runtime):
    """A file, or a directory with one for each endpoint, opened by ONNX Runtime."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.endpoints = {}
        self._sessions = {}
        for file, model in read_models(path):
            name = _name_endpoint(model, file, path)
            if name in self.endpoints:
                raise ArtifactError(f"{path} is damaged: two files of it say that they are the endpoint {name!r}.")
            self.endpoints[name] = describe_endpoint(model.graph)
            try:
                self._sessions[name] = open_session(str(file), threads)
            except Exception as error:  # its errors have nothing in common
                raise ArtifactError(f"{file} cannot be opened by ONNX Runtime: {error}") from error

    def call(self, endpoint: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Asks an endpoint; see `Runtime.call`."""
        names = list(self.endpoints[endpoint].outputs)
        given = {name: decode_texts(array) for name, array in inputs.items()}
        answers = self._sessions[endpoint].run(names, given)
        return {name: encode_texts(np.asarray(answer)) for name, answer in zip(names, answers, strict=True)}

    @staticmethod
    def read_file(path: Path) -> FileContent:
        """Reads a file or a directory; see `Runtime.read_file`."""
        document, writer = None, ""
        constants: dict[str, Constant] = {}
        operations: Counter[str] = Counter()
        seen: Counter[str] = Counter()
        for file, model in read_models(path):
            prefix = f"{file.stem}/" if file != path else ""
            writer = writer or f"{model.producer_name} {model.producer_version}".strip()
            text = _read_properties(model).get(KEY)
            found = None if text is None else Document.from_json(text, f"{file}: the document")
            if document not in (None, found):
                raise ArtifactError(f"{path} is damaged: {file.name} is not of the same export as another file of it.")
            document = found
            for graph in list_graphs(model.graph):
                operations.update(node.op_type for node in graph.node)
                for tensor in graph.initializer:
                    name = f"{prefix}{tensor.name}"
                    seen[name] += 1
                    constants[name if seen[name] == 1 else f"{name}_{seen[name]}"] = _describe_constant(tensor, file)
        return FileContent(
            writer=writer, document=document, constants=constants, operations=dict(sorted(operations.items()))
        )


def describe_endpoint(graph: Any) -> Endpoint:
    """Says what a graph takes and returns."""
    stored = {each.name for each in graph.initializer}
    inputs = {each.name: _describe_value(each) for each in graph.input if each.name not in stored}
    return Endpoint(inputs, {each.name: _describe_value(each) for each in graph.output})


def _describe_value(value: Any) -> Tensor:
    kind = value.type.WhichOneof("value") or "nothing"
    if kind != "tensor_type":
        return Tensor(None, kind.removesuffix("_type"))
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return Tensor(None, _name_dtype(tensor.elem_type))
    sizes = tuple(size.dim_value if size.WhichOneof("value") == "dim_value" else None for size in tensor.shape.dim)
    return Tensor(sizes, _name_dtype(tensor.elem_type))


def _name_dtype(kind: int) -> str:
    """Names an element type in NumPy's words."""
    if kind == onnx.TensorProto.STRING:
        return "string"
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(kind).name)
    except KeyError:
        return f"type {kind}"


def _name_endpoint(model: Any, file: Path, path: Path) -> str:
    """Names what a file computes: as it says itself, else after the file, or as the default if it is the only one."""
    name = _read_properties(model).get(ENDPOINT_KEY)
    return name or (SERVING_DEFAULT if file == path else file.stem)


def _read_properties(model: Any) -> dict[str, str]:
    return {each.key: each.value for each in model.metadata_props}


def _describe_constant(tensor: Any, file: Path) -> Constant:
    dtype, shape = _name_dtype(tensor.data_type), tuple(tensor.dims)
    size = tensor.ByteSize()
    if tensor.HasField("raw_data"):
        size = len(tensor.raw_data)
        if min(shape, default=1) < 0 or size != -(-math.prod(shape) * _count_bits(tensor.data_type) // 8):
            kind = f"{dtype} {shape}"
            raise ArtifactError(f"{file} is damaged: its constant {tensor.name!r} of {kind} has {size:,} bytes.")
    elif tensor.data_location == onnx.TensorProto.EXTERNAL:
        lengths = [each.value for each in tensor.external_data if each.key == "length" and each.value.isdecimal()]
        size = int(lengths[0]) if lengths else 0
    return Constant(dtype=dtype, shape=shape, size=size, read=partial(_read_constant, tensor, file))


def _count_bits(kind: int) -> int:
    """Counts the bits of a number."""
    name = _name_dtype(kind)
    packed = re.fullmatch(r"u?int(2|4)|float(4|6)_.*", name)
    return int(packed[1] or packed[2]) if packed else find_dtype(name).itemsize * 8


def _read_constant(tensor: Any, file: Path) -> Array:
    with damage_explained(file, tensor.name, (*FILE_FAULTS, TypeError, onnx.checker.ValidationError)):
        if tensor.data_type == onnx.TensorProto.STRING:
            texts = np.empty(len(tensor.string_data), object)
            texts[:] = list(tensor.string_data)
            return texts.reshape(tuple(tensor.dims))
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            held = onnx.TensorProto()
            held.CopyFrom(tensor)
            onnx.external_data_helper.load_external_data_for_tensor(held, str(file.parent))
            tensor = held
        if _count_bits(tensor.data_type) < 8:
            packed = tensor.raw_data if tensor.HasField("raw_data") else bytes(tensor.int32_data)
            return np.frombuffer(packed, np.uint8).copy()
        return np.array(onnx.numpy_helper.to_array(tensor))


def decode_texts(array: Array) -> Array:
    """Makes texts of bytes: ONNX Runtime takes what Python shows of these."""
    if array.dtype.kind not in "OS":
        return array
    texts = np.empty(array.size, object)
    texts[:] = [each.decode() if isinstance(each, bytes) else each for each in array.ravel().tolist()]
    return texts.reshape(array.shape)


def encode_texts(array: Array) -> Array:
    """Makes bytes of texts."""
    if array.dtype.kind not in "OU":
        return array
    texts = np.empty(array.size, object)
    texts[:] = [each.encode() for each in array.ravel().tolist()]
    return texts.reshape(array.shape)
