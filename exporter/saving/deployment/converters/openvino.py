"""The converter to OpenVINO's IR, two files for each endpoint. It reads a SavedModel itself, without TensorFlow."""

import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from exporter.processes.arrays import Array, read_arrays
from exporter.saving.contents import SERVING_DEFAULT, Endpoint, Tensor, format_tensor
from exporter.saving.deployment.conversions import Conversion, Converted, RefusedError, serve
from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.deployment.remedies import find_remedy, refusals_explained
from exporter.saving.deployment.runtimes.openvino import DOCUMENT, DTYPES, OpenVinoRuntime, import_openvino
from exporter.saving.layout.messages import SavedModel
from exporter.saving.layout.names import GRAPH

# What stands below `rt_info` after a conversion: paths of this machine.
_NOTE = "conversion_parameters"
# The operations that have graphs inside, with the arguments that ask them for each.
_BODIES: dict[str, tuple[tuple[int, ...], ...]] = {"TensorIterator": ((),), "Loop": ((),), "If": ((0,), (1,))}
_KINDS = {"f16": "float", "f32": "float", "f64": "float", "i4": "int4", "u4": "int4", "i8": "int8", "u8": "int8"}
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_FAILED = re.compile(r"^-- (?:No conversion rule found for operations|Conversion is failed for): (.+)$", re.MULTILINE)
_DETAIL = re.compile(r"^-- (\w+) with a message:\n(?:(?:Check|Exception|FrontEnd) .*\n)*(.+)$", re.MULTILINE)
_HEADINGS = ("Exception from", "Check '", "FrontEnd API")
_OTHER_FORMATS = "Compute that outside of the endpoint, or write another format, such as save_format=tf."


def convert(conversion: Conversion) -> Converted:
    """Writes a directory with `<endpoint>.xml` and `<endpoint>.bin` for each endpoint.

    Args:
        conversion: What is asked.

    Returns:
        What is not as one would expect it.

    Raises:
        RefusedError: OpenVINO cannot hold it.
    """
    _check(conversion)
    openvino = import_openvino()
    remarks: list[str] = []
    conversion.target.mkdir()
    for name, endpoint in sorted(conversion.endpoints.items()):
        model = _read_endpoint(conversion.saved_model, name)
        _restore_names(model, name, endpoint)
        model, said = _quantize(model, name, conversion)
        remarks += [*said, *_remark_dtypes(name, endpoint)]
        del model.rt_info[_NOTE]
        model.set_rt_info(conversion.document, list(DOCUMENT))
        is_half = conversion.quantize is Quantize.FLOAT16
        openvino.save_model(model, str(conversion.target / f"{name}.xml"), compress_to_fp16=is_half)
    _check_written(conversion)
    return Converted(remarks=tuple(remarks))


def _check(conversion: Conversion) -> None:
    """Refuses what no IR says, or says in another way."""
    for name, endpoint in conversion.endpoints.items():
        if not _FILE_NAME.fullmatch(name):
            raise RefusedError(
                f"The endpoint {name!r} would be a file of that name: give it one of letters, digits, '_', '-' and '.'."
            )
        texts = [each for each, tensor in {**endpoint.inputs, **endpoint.outputs}.items() if tensor.dtype == "string"]
        if texts:
            raise RefusedError(
                f"The endpoint {name!r} has texts ({_quote(texts)}), and OpenVINO has no operations for texts: "
                "export an endpoint that takes token ids and returns numbers."
            )
        both = sorted(set(endpoint.inputs) & set(endpoint.outputs))
        if both:
            raise RefusedError(
                f"The endpoint {name!r} calls an input and an output {_quote(both)}, and OpenVINO gives a name to one "
                "tensor only: give the output another name."
            )
        for what, tensor in {**endpoint.inputs, **endpoint.outputs}.items():
            if not what.isprintable() or "\\" in what:
                raise RefusedError(
                    f"The endpoint {name!r} has an input or output {what!r}, and OpenVINO keeps no name with a "
                    "backslash or with what cannot be printed: give it another name."
                )
            if what in endpoint.inputs and tensor.shape is None:
                raise RefusedError(
                    f"The endpoint {name!r} takes {what!r} with any number of dimensions, and OpenVINO needs to know "
                    "their number: give the input a shape, with None for each size that is free."
                )
            if tensor.dtype not in DTYPES.values():
                raise RefusedError(
                    f"The endpoint {name!r} has {what!r} of the dtype {tensor.dtype}, which OpenVINO lacks: give it "
                    "another dtype with a cast inside of the endpoint."
                )


def _read_endpoint(saved_model: Path, name: str) -> Any:
    """Reads one endpoint as OpenVINO's model."""
    openvino = import_openvino()
    with _view(saved_model, name) as place, _root_logger_kept():
        try:
            return openvino.convert_model(place)
        except Exception as error:  # of several kinds, and what OpenVINO does not know, it says in their texts
            raise RefusedError(_explain(name, str(error))) from error


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Gives the root logger back as it was: OpenVINO sets it, and does not set it back where it fails."""
    logger = logging.getLogger()
    level, filters, handlers = logger.level, list(logger.filters), list(logger.handlers)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.filters, logger.handlers = filters, handlers


@contextmanager
def _view(saved_model: Path, name: str) -> Iterator[Path]:
    """Makes a SavedModel of the same files whose only endpoint is the default: OpenVINO reads no other."""
    message = SavedModel.FromString((saved_model / GRAPH).read_bytes())
    for graph in message.meta_graphs:
        signatures: Any = graph.signature_def  # a container of protobuf's
        # TensorFlow's own initialisation fills the tables.
        kept = [entry for entry in signatures if entry.key == name or entry.key.startswith("__")]
        del signatures[:]
        for entry in kept:
            added = signatures.add()
            added.CopyFrom(entry)
            added.key = SERVING_DEFAULT if entry.key == name else entry.key
    with TemporaryDirectory(prefix="exporter-openvino-") as folder:
        place = Path(folder)
        (place / GRAPH).write_bytes(message.SerializeToString(deterministic=True))
        for part in saved_model.iterdir():
            if part.name != GRAPH:
                (place / part.name).symlink_to(part.absolute())
        yield place


def _explain(name: str, text: str) -> str:
    """Says in one sentence what OpenVINO does in many lines."""
    if "element type bf16" in text:
        return (
            f"OpenVINO lacks constants of bfloat16, with which the endpoint {name!r} computes: give the model another "
            "dtype policy, such as mixed_float16."
        )
    failed = sorted({operation for found in _FAILED.findall(text) for operation in found.split(", ")})
    if failed:
        reasons = {operation: f" ({reason.strip()})" for operation, reason in _DETAIL.findall(text)}
        named = ", ".join(operation + reasons.get(operation, "") for operation in failed)
        remedy = find_remedy(failed) or _OTHER_FORMATS
        return f"OpenVINO lacks what the endpoint {name!r} computes with: {named}. {remedy}"
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    why = next((line for line in lines if not line.startswith(_HEADINGS)), lines[-1])
    return f"OpenVINO cannot compute the endpoint {name!r}: {why.rstrip('.')}. {_OTHER_FORMATS}"


def _restore_names(model: Any, name: str, endpoint: Endpoint) -> None:
    """Lets every input and output be found by its declared name, also where a layer is called the same."""
    places = {
        "input": (model.inputs, endpoint.inputs, "it does not use it"),
        "output": (model.outputs, endpoint.outputs, "it depends on no input"),
    }
    for kind, (ports, declared, reason) in places.items():
        free = list(ports)
        lost = []
        for each in sorted(declared):
            port = next((port for port in free if port.node.friendly_name == each), None)
            port = port or next((port for port in free if each in port.names), None)
            if port is None or each not in port.names:
                lost.append(each)
            else:
                port.node.set_friendly_name(each)
                free.remove(port)
        if lost or free:
            raise RefusedError(
                f"OpenVINO drops the {kind} {_quote(lost)} of the endpoint {name!r}: {reason}. Leave it out of the "
                "endpoint."
            )


def _quantize(model: Any, name: str, conversion: Conversion) -> tuple[Any, list[str]]:
    """Quantises an endpoint where that is more than a way to save it."""
    if conversion.quantize in (None, Quantize.FLOAT16):
        return model, []
    import_openvino()
    import nncf

    # NNCF's own `set_log_level` sets the level of every handler that it meets, also of other people's.
    nncf.nncf_logger.setLevel(logging.ERROR)
    before = _count_weights(model)
    with refusals_explained("NNCF", "Take quantize=int8_weights or float16."):
        model = _quantize_with_nncf(model, name, conversion)
    return model, _remark_weights(name, conversion.quantize, before, _count_weights(model))


def _quantize_with_nncf(model: Any, name: str, conversion: Conversion) -> Any:
    import nncf

    match conversion.quantize:
        case Quantize.INT8:
            return _calibrate(model, name, conversion.endpoints[name], conversion.calibration[name])
        case Quantize.INT8_WEIGHTS:
            return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
        case Quantize.INT4_WEIGHTS:
            return nncf.compress_weights(
                model,
                mode=nncf.CompressWeightsMode.INT4_ASYM,
                group_size=-1,
                all_layers=True,
                backup_mode=nncf.BackupMode.INT8_SYM,
            )
        case _:
            raise RefusedError(
                f"OpenVINO has no quantize={conversion.quantize}: quantize=int8_weights is as small, and computes in "
                "float32."
            )


def _calibrate(model: Any, name: str, endpoint: Endpoint, samples: Path) -> Any:
    """Quantises what flows between the layers, in the ranges that it has for the samples.

    NNCF's own choices were measured on two networks of convolutions, on processors with and without instructions for
    int8: the mean of the samples' ranges in place of the whole cuts off what few samples reach, the quick correction of
    biases makes errors larger, and eight bits of weights overflow where those instructions lack.
    """
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    arrays = read_arrays(samples)
    rows, given = _count_rows(endpoint), min(map(len, arrays.values()))
    count = given // rows
    if not count:
        raise RefusedError(
            f"The endpoint {name!r} takes {rows:,} samples at a time, and there are {given:,} to calibrate it with: "
            f"give {rows:,} or more."
        )
    batches = [
        {each: _take(array[start * rows :][:rows], endpoint.inputs[each]) for each, array in arrays.items()}
        for start in range(count)
    ]
    return nncf.quantize(
        model,
        nncf.Dataset(batches),
        subset_size=count,
        preset=nncf.QuantizationPreset.MIXED,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.ENABLE,
            disable_bias_correction=True,
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        ),
    )


def _count_rows(endpoint: Endpoint) -> int:
    """Returns how many samples an endpoint takes at a time: any number of them, which is one here, or so many."""
    sizes = [tensor.shape[0] for tensor in endpoint.inputs.values() if tensor.shape]
    return max([size for size in sizes if size is not None], default=1)


def _take(samples: Array, tensor: Tensor) -> Array:
    """Returns samples as an input takes them, which may be one without a dimension for their number."""
    taken: Array = samples if tensor.shape is None or len(tensor.shape) == samples.ndim else samples[0]
    return taken


def _count_weights(model: Any) -> Counter[str]:
    """Counts the numbers in a model's arrays of two dimensions and more by their kind, also of those in its loops."""
    counted: Counter[str] = Counter()
    for node in _list_nodes(model):
        if node.get_type_name() == "Constant" and sum(size > 1 for size in node.shape) > 1:
            counted[_KINDS.get(node.get_element_type().get_type_name(), "")] += math.prod(node.shape)
    return counted


def _list_nodes(model: Any) -> Iterator[Any]:
    """Gives the nodes of a model in the order in which they compute, each before those of its bodies."""
    for node in model.get_ordered_ops():
        yield node
        for arguments in _BODIES.get(node.get_type_name(), ()):
            yield from _list_nodes(node.get_function(*arguments))


def _remark_weights(name: str, quantize: Quantize, before: Counter[str], after: Counter[str]) -> list[str]:
    """Says which weights are not of the kind that was asked for."""
    total = before["float"]
    if not total:
        return [f"The endpoint {name!r} has no weights to quantise."]
    wanted = "int4" if quantize is Quantize.INT4_WEIGHTS else "int8"
    if after[wanted] >= total:
        return []
    eight = after["int8"] if wanted == "int4" else 0
    held = [f"{eight:,} are int8"] * bool(eight)
    left = total - after[wanted] - eight
    held += [f"{left:,} stay floating-point numbers"] * (left > 0)
    reason = (
        "NNCF has int4 for matrix products and embeddings, not for convolutions"
        if eight
        else "NNCF quantises no operation that takes those"
    )
    return [
        f"Of the {total:,} weights of the endpoint {name!r}, {after[wanted]:,} are {wanted}, {' and '.join(held)}: "
        f"{reason}."
    ]


def _remark_dtypes(name: str, endpoint: Endpoint) -> list[str]:
    """Says where OpenVINO computes in less than what is declared."""
    both = {**endpoint.inputs, **endpoint.outputs}
    wide = sorted(each for each, tensor in both.items() if tensor.dtype == "float64")
    whole = sorted(each for each, tensor in endpoint.inputs.items() if tensor.dtype in ("int64", "uint32", "uint64"))
    said = []
    if wide:
        said.append(f"OpenVINO computes the endpoint {name!r} in float32, also the float64 of {_quote(wide)}.")
    if whole:
        said.append(
            f"OpenVINO computes whole numbers in int32: what the endpoint {name!r} takes as {_quote(whole)} must lie "
            "below 2,147,483,648."
        )
    return said


def _check_written(conversion: Conversion) -> None:
    """Opens what was written, so that none comes out that does not open, or says something else than was declared."""
    try:
        found = OpenVinoRuntime(conversion.target).endpoints
    except Exception as error:  # as above
        raise RefusedError(_explain(", ".join(sorted(conversion.endpoints)), str(error))) from error
    for name, endpoint in conversion.endpoints.items():
        for tensors, written in ((endpoint.inputs, found[name].inputs), (endpoint.outputs, found[name].outputs)):
            for each, tensor in tensors.items():
                if each not in written or not _agrees(tensor, written[each]):
                    held = format_tensor(written[each]) if each in written else "nothing"
                    raise RefusedError(
                        f"OpenVINO makes {held} of {each!r} of the endpoint {name!r}, which is "
                        f"{format_tensor(tensor)}. {_OTHER_FORMATS}"
                    )


def _agrees(declared: Tensor, written: Tensor) -> bool:
    """Tells whether a tensor can be what was declared: OpenVINO may know more of a shape than TensorFlow, or less."""
    if declared.dtype != written.dtype:
        return False
    if declared.shape is None or written.shape is None:
        return True
    pairs = list(zip(declared.shape, written.shape, strict=False))
    return len(declared.shape) == len(written.shape) and all(a == b or None in (a, b) for a, b in pairs)


def _quote(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


if __name__ == "__main__":
    serve(convert)
