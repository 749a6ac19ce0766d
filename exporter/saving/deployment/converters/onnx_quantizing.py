"""The ways to quantise an ONNX model, all of them ONNX Runtime's own."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from exporter.processes.arrays import Array, read_arrays
from exporter.saving.contents import Endpoint, format_bytes
from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.deployment.runtimes.onnx import decode_texts
from exporter.saving.deployment.runtimes.onnx_files import list_graphs

# What is faster with int8 that is quantised while it runs; convolutions are 4 to 15 times slower than in float.
_DYNAMIC = ["Gather", "Gemm", "LSTM", "MatMul"]
# What has weights.
_WEIGHTED = (*_DYNAMIC, "Conv", "ConvTranspose", "GRU", "RNN", "Loop", "Scan")
# Samples that are computed at a time; the ranges are the same for any number.
_ROWS = 32
# Of float16.
_LOWEST = float(np.finfo(np.float16).min)
# Weights that share a scale. More of them make a smaller file, and fill short rows up with zeros.
_BLOCK = 32


def quantize(model: Any, endpoint: Endpoint, kind: Quantize, samples: Path | None) -> Any:
    """Quantises a model.

    Args:
        model: The model, canonical; it is left alone.
        endpoint: What it takes and returns, which stays as it is.
        kind: How.
        samples: The file with data to calibrate it with; None where that needs none.

    Returns:
        The quantised model.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if kind is Quantize.FLOAT16:
        return _to_float16_weights(copy) if _has_bodies(model) else _to_float16(copy)
    if kind is Quantize.INT8_DYNAMIC:
        return _to_dynamic_int8(copy)
    if kind is Quantize.INT4_WEIGHTS:
        return _to_int4_weights(copy)
    assert samples is not None
    return _to_int8(copy, _Samples(endpoint, read_arrays(samples)))


def describe_rest(model: Any, kind: Quantize) -> str:
    """Says what a quantised model still does in float32 although another kind was asked for; empty if nothing."""
    if kind is Quantize.FLOAT16:
        return "its weights are float16, and it computes in float32, as it has loops or branches" * _has_bodies(model)
    kinds, size = _count_float_weights(model)
    if not kinds:
        return ""
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"the weights of {listed} stay float32, {format_bytes(size)}"


def _count_float_weights(model: Any) -> tuple[Counter[str], int]:
    """Counts the operations that have weights in float32, by their kind, and the bytes of these."""
    kinds: Counter[str] = Counter()
    sizes: dict[str, int] = {}
    known: dict[str, int] = {}
    for graph in list_graphs(model.graph):
        known |= {
            each.name: len(each.raw_data)
            for each in graph.initializer
            if each.data_type == onnx.TensorProto.FLOAT and len(each.dims) > 1
        }
        for node in graph.node:
            weights = [name for name in node.input if name in known]
            if weights and node.op_type in _WEIGHTED:
                kinds[node.op_type] += 1
                sizes |= {name: known[name] for name in weights}
    return kinds, sum(sizes.values())


def _has_bodies(model: Any) -> bool:
    """Whether a model has loops or branches."""
    return len(list(list_graphs(model.graph))) > 1


def _to_float16_weights(model: Any) -> Any:
    """Keeps the weights alone in float16: ONNX Runtime's own tool makes invalid files of some loops."""
    for graph in list_graphs(model.graph):
        casts = []
        for constant in graph.initializer:
            if constant.data_type == onnx.TensorProto.FLOAT and len(constant.dims) > 1:
                name = f"{constant.name}.float16"
                casts.append(onnx.helper.make_node("Cast", [name], [constant.name], to=onnx.TensorProto.FLOAT))
                numbers = onnx.numpy_helper.to_array(constant).clip(_LOWEST, -_LOWEST).astype(np.float16)
                constant.CopyFrom(onnx.numpy_helper.from_array(numbers, name))
        nodes = [*casts, *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
    return model


def _to_float16(model: Any) -> Any:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(model, keep_io_types=True)


def _to_dynamic_int8(model: Any) -> Any:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Beside a loop, ONNX Runtime 1.32 ends the process when it opens what this makes of a `Gather`.
    kinds = [kind for kind in _DYNAMIC if kind != "Gather" or not _has_bodies(model)]
    return _read_written(
        lambda place: quantize_dynamic(
            model, place, op_types_to_quantize=kinds, weight_type=QuantType.QInt8, reduce_range=True
        )
    )


def _to_int8(model: Any, samples: "_Samples") -> Any:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    # With 7 bits of weights no processor saturates its sums; those without VNNI do with 8.
    return _read_written(
        lambda place: quantize_static(
            model,
            place,
            samples,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    )


def _read_written(write: Callable[[Path], None]) -> Any:
    """Returns the model that a function writes to a file."""
    with tempfile.TemporaryDirectory(prefix="exporter-onnx-") as folder:
        place = Path(folder, "quantized.onnx")
        write(place)
        return onnx.ModelProto.FromString(place.read_bytes())


def _to_int4_weights(model: Any) -> Any:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    others = {each.name for each in model.graph.initializer if each.data_type != onnx.TensorProto.FLOAT}
    excluded = [node.name for node in model.graph.node if others.intersection(node.input)]
    quantizer = MatMulNBitsQuantizer(model, bits=4, block_size=_BLOCK, is_symmetric=False, nodes_to_exclude=excluded)
    quantizer.process()
    return quantizer.model.model


class _Samples:
    """Gives ONNX Runtime samples to calibrate with, some at a time."""

    def __init__(self, endpoint: Endpoint, arrays: dict[str, Array]) -> None:
        self._batches = _list_batches(endpoint, arrays)

    def get_next(self) -> dict[str, Array] | None:
        """Returns the next inputs; None after the last."""
        return next(self._batches, None)


def _list_batches(endpoint: Endpoint, arrays: dict[str, Array]) -> Iterator[dict[str, Array]]:
    shapes = {name: tensor.shape for name, tensor in endpoint.inputs.items()}
    fixed = [shape[0] for shape in shapes.values() if shape and shape[0] is not None]
    takes_one = any(shape == () for shape in shapes.values())
    rows = 1 if takes_one else fixed[0] if fixed else _ROWS
    count = min(len(arrays[name]) for name in shapes)
    for start in range(0, count, rows):
        # The last samples of a fixed number are filled up with the first ones.
        chosen = np.arange(start, start + rows) % count if fixed else np.arange(start, min(start + rows, count))
        yield {
            name: decode_texts(arrays[name][start] if shape == () else arrays[name][chosen])
            for name, shape in shapes.items()
        }
