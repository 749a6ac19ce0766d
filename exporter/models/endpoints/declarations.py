"""What a recipe says of an endpoint, read and checked without TensorFlow and without a model."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.config import Batch, SignatureConfig, TensorConfig
from exporter.config.checking import convert_value, explain_choice, suggest
from exporter.errors import Fault
from exporter.models.endpoints.pipelines import check_pipeline
from exporter.text.showing import show

DTYPES = (
    *("bool", "string", "float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)

# The methods that Keras knows.
PREDICT, TRAIN, EVALUATE = "predict", "train", "evaluate"

_LARGEST_SIZE = 2**63 - 1  # TensorFlow keeps the sizes of dimensions as int64

_LEAF_KEYS = tuple(TensorConfig.__dataclass_fields__)
# TensorFlow writes graphs of its own under these.
_RESERVED = ("__saved_model_init_op", "__saved_model_train_op")


@dataclass(frozen=True, slots=True)
class Declared:
    """One tensor of a declaration.

    Attributes:
        name: Under which it is served; the names on the way to it, joined by `_`.
        path: Its dotted config path.
        tensor: What is said of it.
    """

    name: str
    path: str
    tensor: TensorConfig


@dataclass(frozen=True, slots=True)
class DeclaredInputs:
    """The inputs of a declaration.

    Attributes:
        tensors: All tensors, in order.
        structures: Input name -> its structure as in `saving.graph.signatures.Inputs`, with positions in `tensors`.
    """

    tensors: tuple[Declared, ...]
    structures: Mapping[str, Any]


def check_declarations(signatures: Mapping[str, SignatureConfig]) -> Iterator[Fault]:
    """Finds what is wrong with declarations in themselves.

    Args:
        signatures: Name -> declaration.
    """
    for name, declared in signatures.items():
        path = f"signatures.{name}"
        if not name or name in _RESERVED:
            yield Fault(path, f"received the name {name!r}, which cannot be given to an endpoint; choose another")
        if not declared.method.isidentifier() or declared.method.startswith("_"):
            received = f"received {show(declared.method)}"
            yield Fault(f"{path}.method", f"{received}; expected predict, train, evaluate or the name of a method")
        if isinstance(declared.batch, int) and not 1 <= declared.batch <= _LARGEST_SIZE:
            yield Fault(
                f"{path}.batch", f"received {show(declared.batch)}; expected dynamic or a number from 1 to 2^63-1"
            )
        faults: list[Fault] = []
        inputs = read_inputs(path, declared, faults)
        yield from faults
        yield from _check_tensors(path, declared, inputs)
        yield from _check_outputs(f"{path}.outputs", declared.outputs)
        for key in ("preprocess", "postprocess"):
            yield from check_pipeline(getattr(declared, key), f"{path}.{key}")


def read_inputs(path: str, declared: SignatureConfig, faults: list[Fault]) -> DeclaredInputs:
    """Reads the tensors and structures of a declaration's inputs.

    Args:
        path: The dotted path of the declaration.
        declared: The declaration.
        faults: Is extended by what is wrong.
    """
    tensors: list[Declared] = []

    def read(value: object, name: str, place: str) -> Any:
        if isinstance(value, list) and all(isinstance(item, (Mapping, list, TensorConfig)) for item in value):
            return {"list": [read(item, f"{name}_{index}", f"{place}[{index}]") for index, item in enumerate(value)]}
        if isinstance(value, Mapping) and not _is_leaf(value):
            return {"dict": {str(key): read(item, f"{name}_{key}", f"{place}.{key}") for key, item in value.items()}}
        if isinstance(value, Mapping):
            count = len(faults)
            converted = convert_value(value, TensorConfig, place, faults)
            value = converted if len(faults) == count else TensorConfig()
        elif not isinstance(value, TensorConfig):
            faults.append(Fault(place, f"received {show(value)}; {_explain_leaf(place)}"))
            value = TensorConfig()
        tensors.append(Declared(name, place, value))
        return len(tensors) - 1

    structures = {name: read(value, name, f"{path}.inputs.{name}") for name, value in declared.inputs.items()}
    return DeclaredInputs(tuple(tensors), structures)


def _is_leaf(value: Mapping[str, object]) -> bool:
    """Whether a mapping describes a tensor: its keys are those of one, and their values are no mappings."""
    return all(key in _LEAF_KEYS and not isinstance(item, Mapping) for key, item in value.items())


def _explain_leaf(place: str) -> str:
    nearest = suggest(place.rpartition(".")[2], _LEAF_KEYS)
    return f"expected a tensor {{{', '.join(_LEAF_KEYS)}}}, or a mapping or list of tensors{nearest}"


def _check_tensors(path: str, declared: SignatureConfig, inputs: DeclaredInputs) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for item in inputs.tensors:
        tensor, shape = item.tensor, item.tensor.shape
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", item.name):
            yield Fault(item.path, f"{item.name!r} is no name of an input; expected letters, digits and underscores")
        if tensor.dtype is not None and tensor.dtype not in DTYPES:
            yield Fault(f"{item.path}.dtype", explain_choice(tensor.dtype, DTYPES))
        if shape is not None and any(size is not None and not 0 <= size <= _LARGEST_SIZE for size in shape):
            yield Fault(f"{item.path}.shape", f"received {show(shape)}; expected numbers from 0 to 2^63-1, or null")
        ragged = tensor.ragged_rank
        if ragged is not None and (ragged < 1 or shape is None or ragged >= len(shape)):
            highest = "the shape as well" if shape is None else f"a number from 1 to {len(shape) - 1}"
            yield Fault(f"{item.path}.ragged_rank", f"received {ragged}; expected {highest}")
        elif shape:
            yield from _check_batch(declared.batch, shape[0], item.path)
        for name in name_components(item.name, ragged or 0):
            if name in seen:
                yield Fault(item.path, f"would be served as {name!r}, and so would {seen[name]}; rename one of them")
            seen[name] = item.path


def _check_batch(batch: Batch | int | None, size: int | None, path: str) -> Iterator[Fault]:
    if batch is None or size is None or batch == size:
        return
    yield Fault(f"{path}.shape", f"begins with {size}, which contradicts batch={batch}; begin it with null")


def name_components(name: str, ragged_rank: int) -> list[str]:
    """Returns the names of the tensors by which one is served: a ragged one has several."""
    if not ragged_rank:
        return [name]
    splits = [f"{name}_row_splits"] if ragged_rank == 1 else [f"{name}_row_splits_{row}" for row in range(ragged_rank)]
    return [f"{name}_values", *splits]


def _check_outputs(path: str, outputs: Mapping[str, str] | list[str]) -> Iterator[Fault]:
    for name in dict.fromkeys(outputs):
        if isinstance(outputs, list) and outputs.count(name) > 1:
            yield Fault(path, f"names {name!r} {outputs.count(name)} times; expected each output once")
        if not name:
            yield Fault(path, "received an empty name")
