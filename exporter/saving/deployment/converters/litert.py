"""TensorFlow's converter for LiteRT: all endpoints in one `.tflite` file.

The file is a FlatBuffer, https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from exporter.processes.arrays import Array, read_arrays
from exporter.saving.deployment.conversions import Conversion, Converted, RefusedError, serve
from exporter.saving.deployment.documents import KEY
from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.deployment.remedies import OPEN_LISTS, explain_half, find_remedy, refusals_explained
from exporter.saving.deployment.runtimes.litert import LiteRtRuntime, list_operations, read_model

# An offset in a FlatBuffer is a signed number of 32 bits.
_MOST_BYTES = 2**31 - 1

_BY_QUANTIZER = {Quantize.INT8_WEIGHTS: "weight_only_wi8_afp32", Quantize.INT4_WEIGHTS: "weight_only_wi4_afp32"}

# Tensors that are not of float32, as the converter writes them.
_HALF = re.compile(r"[<x]b?f16>")
_WIDE = re.compile(r"[<x]f64>")

# Where in the graph it is that MLIR complains of.
_PLACE = re.compile(r"^.*?error: (loc\(.*\): )?")

_OTHERWISE = "Leave that out of the endpoint, or export it in another format, such as save_format=onnx or tf."

# What only moves numbers to and fro, or has no numbers of the model: it computes nothing in float.
_NEUTRAL = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST", "SHAPE"})


def convert(conversion: Conversion) -> Converted:
    """Writes a `.tflite` file; see `conversions.Convert`."""
    content = _run_converter(conversion)
    if conversion.quantize in _BY_QUANTIZER:
        content = _quantize_weights(content, _BY_QUANTIZER[conversion.quantize])
    conversion.target.write_bytes(_add_document(content, conversion.document))
    with refusals_explained("LiteRT's interpreter", _OTHERWISE):
        LiteRtRuntime(conversion.target)  # what no runtime opens is no artifact
    return Converted(remarks=tuple(_list_remarks(conversion)))


def _run_converter(conversion: Conversion) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(conversion.saved_model), signature_keys=list(conversion.endpoints)
    )
    match conversion.quantize:
        case Quantize.FLOAT16:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        case Quantize.INT8_DYNAMIC:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        case Quantize.INT8:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: _draw_samples(conversion)
    try:
        content: bytes = converter.convert()
    except Exception as error:  # the converter raises whatever its passes do
        raise _explain(str(error)) from error
    return content


def _draw_samples(conversion: Conversion) -> Iterator[tuple[str, dict[str, Array]]]:
    """Gives the samples to each endpoint, as many at once as it takes."""
    for name, place in conversion.calibration.items():
        arrays = read_arrays(place)
        count = min(map(len, arrays.values()))
        size = next((each.shape[0] for each in conversion.endpoints[name].inputs.values() if each.shape), None) or 1
        for start in range(0, count - size + 1, size):
            yield name, {key: array[start : start + size] for key, array in arrays.items()}


def _quantize_weights(content: bytes, recipe: str) -> bytes:
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer import recipe as recipes

    with refusals_explained("ai-edge-quantizer", "Take quantize=int8_dynamic or float16."):
        work = quantizer.Quantizer(content, getattr(recipes, recipe)())
        return bytes(work.quantize(enable_progress_bar=False, enable_progress_report=False).quantized_model)


def _add_document(content: bytes, document: str) -> bytes:
    """Keeps the document among the metadata of the file."""
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model = read_model(content)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(document.encode(), np.uint8)
    entry.name, entry.buffer = KEY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or ()), entry]
    builder = flatbuffers.Builder(len(content) + len(document))
    try:
        builder.Finish(model.Pack(builder), b"TFL3")
    except flatbuffers.builder.BuilderSizeError as error:
        raise RefusedError(
            f"A LiteRT file takes up to {_MOST_BYTES:,} bytes, and this one would have more. Quantise it with "
            "quantize=int8_weights, or export it in another format."
        ) from error
    return bytes(builder.Output())


def _list_remarks(conversion: Conversion) -> Iterator[str]:
    """Says what stayed in float although the recipe asks for integers."""
    if conversion.quantize in (None, Quantize.FLOAT16):
        return
    model = read_model(conversion.target.read_bytes())
    if not _has_integers(model):
        yield (
            "nothing in it is quantised: it has no weights that LiteRT quantises, which leaves arrays of up to 1,024 "
            "numbers alone"
        )
        return
    if conversion.quantize is not Quantize.INT8:
        return
    kept = _count_float(model)
    if kept:
        listed = ", ".join(f"{count} {name}" for name, count in sorted(kept.items()))
        yield f"computes in float32: {listed}; LiteRT has no int8 operation for them"


def _has_integers(model: Any) -> bool:
    """Whether a file has numbers that stand for floats: they have a scale."""
    tensors = (tensor for graph in model.subgraphs for tensor in graph.tensors)
    return any(tensor.quantization is not None and tensor.quantization.scale is not None for tensor in tensors)


def _count_float(model: Any) -> Mapping[str, int]:
    from ai_edge_litert import schema_py_generated as schema

    kept: Counter[str] = Counter()
    for graph in model.subgraphs:
        floats = {index for index, tensor in enumerate(graph.tensors) if tensor.type == schema.TensorType.FLOAT32}
        kept += Counter(
            name
            for name, operation in list_operations(model, graph)
            if name not in _NEUTRAL and floats.intersection(operation.outputs)
        )
    return kept


def _explain(message: str) -> RefusedError:
    """Says in a sentence what the converter says in pages."""
    if "TensorListReserve" in message or "tf.TensorList" in message:
        return RefusedError(OPEN_LISTS)
    found = re.search(r"(?:TF Select ops|Custom ops): ([\w, ]+)", message)
    lacking = found[1].strip().split(", ") if found else []
    # Each of them stands there with what it takes and returns.
    kinds = re.findall(r"^\s*tf\.(\w+)(\(.*?\)) : ", message.partition("Details:")[2], re.MULTILINE)
    half, wide = (
        [name for name in lacking if any(name == kind and pattern.search(types) for kind, types in kinds)]
        for pattern in (_HALF, _WIDE)
    )
    sentences = [explain_half(half)] if half else []
    if wide:
        sentences.append(
            f"LiteRT has no operation for what the model computes in float64 ({', '.join(wide)}). Build the model with "
            "dtype policy float32."
        )
    lacking = [name for name in lacking if name not in (*half, *wide)]
    if lacking:
        sentences.append(f"LiteRT has no operation for {', '.join(lacking)}. {find_remedy(lacking) or _OTHERWISE}")
    if sentences:
        return RefusedError(" ".join(sentences))
    lines = [line.strip().rstrip(".") for line in message.splitlines() if line.strip()]
    reason = _PLACE.sub("", lines[0]) if lines else "it gives no reason"
    return RefusedError(f"TensorFlow's converter for LiteRT refused the model: {reason}. {_OTHERWISE}")


def _import_tensorflow() -> object:
    import tensorflow

    return tensorflow.lite


if __name__ == "__main__":
    serve(convert, _import_tensorflow)
