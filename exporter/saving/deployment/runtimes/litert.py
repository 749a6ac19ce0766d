"""LiteRT's interpreter, which computes a `.tflite` file.

The file is a FlatBuffer, https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from exporter.errors import ArtifactError
from exporter.processes.arrays import Array
from exporter.saving.contents import Endpoint, Tensor
from exporter.saving.deployment.documents import KEY, Document
from exporter.saving.deployment.runtimes.base import Constant, FileContent, Runtime

# What a damaged FlatBuffer makes of its reader, which follows offsets wherever they lead.
_DAMAGE = (IndexError, KeyError, TypeError, ValueError, AttributeError, MemoryError, RecursionError, OverflowError)
_DAMAGE_OF_STRUCT = "unpack"

_OFFSET = 4  # bytes of an offset, and of a number in a shape


class LiteRtRuntime(Runtime):
    """A `.tflite` file in LiteRT's interpreter."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Opens a file; see `Runtime`."""
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        names = self._interpreter.get_signature_list()
        self._runners = {name: self._interpreter.get_signature_runner(name) for name in names}
        self.endpoints = {
            name: Endpoint(_describe(runner.get_input_details()), _describe_outputs(runner.get_output_details()))
            for name, runner in self._runners.items()
        }

    def call(self, endpoint: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Asks a signature; see `Runtime`."""
        given = {name: _shorten(array) if array.dtype == object else array for name, array in inputs.items()}
        answers = self._runners[endpoint](**given)
        return {
            name: value.astype(object) if value.dtype.kind == "S" else np.array(value)
            for name, value in answers.items()
        }

    @staticmethod
    def read_file(path: Path) -> FileContent:
        """Reads a file; see `Runtime`."""
        content = path.read_bytes()
        try:
            _check_parts(content, path)
            model = read_model(content)
            notes = {_to_text(each.name): each.buffer for each in model.metadata or ()}
            text = bytes(model.buffers[notes[KEY]].data) if KEY in notes else None
            return FileContent(
                writer=_to_text(model.description or b""),
                document=None if text is None else Document.from_json(text, f"The document inside {path}"),
                constants=dict(_list_constants(model)),
                operations=Counter(name for graph in model.subgraphs for name, _ in list_operations(model, graph)),
                endpoints=_read_endpoints(model),
                foreign=tuple(sorted({_to_text(each.customCode) for each in model.operatorCodes if each.customCode})),
            )
        except ArtifactError:
            raise
        except Exception as error:
            if not isinstance(error, _DAMAGE) and _DAMAGE_OF_STRUCT not in str(error):
                raise
            raise ArtifactError(f"{path} is damaged: it is no LiteRT model ({error}).") from error


def read_model(content: bytes) -> Any:
    """Reads a file as objects of its schema."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content, 0)


def _check_parts(content: bytes, path: Path) -> None:
    """Refuses a file whose parts are longer together than the file: some of them stand for many.

    Whoever writes a FlatBuffer may let any number of offsets lead to one table, and its reader makes an object of each.
    """
    total = 0
    for size in _list_sizes(content):
        total += size
        if total > len(content):
            raise ArtifactError(f"{path} is refused: its parts are longer than its {len(content):,} bytes.")


def _list_sizes(content: bytes) -> Iterator[int]:
    """Gives the least number of bytes of each part that there may be any number of."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    yield _OFFSET * (model.OperatorCodesLength() + model.BuffersLength())
    for index in range(model.MetadataLength()):
        yield _OFFSET + len(model.Metadata(index).Name() or b"")
    for index in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(index)
        yield _OFFSET + len(signature.SignatureKey() or b"")
        for entries, count in (
            (signature.Inputs, signature.InputsLength()),
            (signature.Outputs, signature.OutputsLength()),
        ):
            for number in range(count):
                yield _OFFSET + len(entries(number).Name() or b"")
    for index in range(model.SubgraphsLength()):
        graph = model.Subgraphs(index)
        yield _OFFSET * (1 + graph.InputsLength() + graph.OutputsLength())
        for number in range(graph.TensorsLength()):
            tensor = graph.Tensors(number)
            yield _OFFSET * (1 + tensor.ShapeLength() + tensor.ShapeSignatureLength()) + len(tensor.Name() or b"")
        for number in range(graph.OperatorsLength()):
            operation = graph.Operators(number)
            yield _OFFSET * (1 + operation.InputsLength() + operation.OutputsLength())


def list_operations(model: Any, graph: Any) -> Iterator[tuple[str, Any]]:
    """Gives the operations of a graph, each with the name of its kind."""
    names = _name_values("BuiltinOperator")
    for operation in graph.operators or ():
        code = model.operatorCodes[operation.opcodeIndex]
        # Files of old hold the code in a byte.
        kind = names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "unknown")
        yield (_to_text(code.customCode) if kind == "CUSTOM" else kind), operation


def _read_endpoints(model: Any) -> dict[str, Endpoint]:
    """Reads the signatures, or what the first graph takes and returns."""
    kinds = _name_values("TensorType")

    def describe(graph: Any, indices: Mapping[str, int]) -> dict[str, Tensor]:
        found = {}
        for name, index in sorted(indices.items()):
            tensor = graph.tensors[index]
            details = {"shape_signature": tensor.shapeSignature, "shape": tensor.shape}
            shapes = {key: () if value is None else value for key, value in details.items()}
            found[name] = Tensor(_find_shape(shapes), kinds[tensor.type].lower())
        return found

    signatures = model.signatureDefs
    if not signatures:
        graph = model.subgraphs[0]
        taken, returned = (
            {_to_text(graph.tensors[index].name): index for index in indices}
            for indices in (graph.inputs, graph.outputs)
        )
        return {"serving_default": Endpoint(describe(graph, taken), describe(graph, returned))}
    endpoints = {}
    for each in signatures:
        graph = model.subgraphs[each.subgraphIndex]
        taken, returned = (
            {_to_text(entry.name): entry.tensorIndex for entry in entries or ()}
            for entries in (each.inputs, each.outputs)
        )
        endpoints[_to_text(each.signatureKey)] = Endpoint(describe(graph, taken), describe(graph, returned))
    return endpoints


def _list_constants(model: Any) -> Iterator[tuple[str, Constant]]:
    kinds = _name_values("TensorType")
    seen: Counter[str] = Counter()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if data is None or not len(data):
                continue
            name, dtype = _to_text(tensor.name), kinds[tensor.type].lower()
            seen[name] += 1
            shape = tuple(map(int, () if tensor.shape is None else tensor.shape))
            constant = Constant(dtype=dtype, shape=shape, size=len(data), read=partial(_read, data, dtype, shape))
            yield (name if seen[name] == 1 else f"{name} ({seen[name]})"), constant


def _read(data: Array, dtype: str, shape: tuple[int, ...]) -> Array:
    raw = np.asarray(data, np.uint8)
    try:
        return raw.view(np.dtype(dtype)).reshape(shape)
    except (TypeError, ValueError):  # packed, sparse, or text
        return raw


def _name_values(kind: str) -> dict[int, str]:
    """Returns the names of an enumeration of the schema."""
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(getattr(schema, kind)).items() if isinstance(value, int)}


def _describe(details: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    return {name: Tensor(_find_shape(each), _name_dtype(each["dtype"])) for name, each in sorted(details.items())}


def _describe_outputs(details: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """Describes outputs: the interpreter has the same words for no dimension and for any number of them."""
    return {name: replace(each, shape=each.shape or None) for name, each in _describe(details).items()}


def _find_shape(details: Mapping[str, Any]) -> tuple[int | None, ...]:
    signature = details["shape_signature"]
    # Where nothing is free, there is no signature.
    shape = signature if len(signature) else details["shape"]
    return tuple(None if size < 0 else int(size) for size in shape)


def _name_dtype(dtype: Any) -> str:
    return "string" if np.dtype(dtype).kind in "SO" else np.dtype(dtype).name


def _shorten(texts: Array) -> Array:
    """Makes texts bytes of one length, as LiteRT takes them."""
    return texts.astype("S")


def _to_text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
