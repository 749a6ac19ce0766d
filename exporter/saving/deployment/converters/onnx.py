"""The ONNX converter: tf2onnx translates each endpoint, and nothing leaves that ONNX Runtime does not open."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import onnx

from exporter.saving.contents import Endpoint
from exporter.saving.deployment.conversions import Conversion, Converted, RefusedError, serve
from exporter.saving.deployment.converters.onnx_canonical import canonicalize
from exporter.saving.deployment.converters.onnx_quantizing import describe_rest, quantize
from exporter.saving.deployment.documents import KEY
from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.deployment.remedies import find_remedy, refusals_explained
from exporter.saving.deployment.runtimes.onnx import ENDPOINT_KEY, open_session
from exporter.saving.deployment.runtimes.onnx_files import MAX_BYTES, SUFFIX, list_graphs
from exporter.saving.layout.names import GRAPH

# The newest that tf2onnx 1.17 writes.
OPSET = 18

# What `tf.function(jit_compile=True)` leaves at a function and at its calls.
_COMPILED = "_XlaMustCompile"

_NOTHING = "nothing in it is quantized"

_OTHERWISE = "Leave it out of the endpoint, or use save_format=tf, which holds whatever TensorFlow computes."
_TEXTS = "Give the endpoint words or numbers instead: ONNX splits, joins and searches no texts."
_OTHER_NUMBERS = "Take another quantize, or leave it out."
_FLOATS = "Build the model with the dtype policy float32."


def convert(conversion: Conversion) -> Converted:
    """Writes a file for each endpoint.

    Args:
        conversion: What is asked. A target that ends with `.onnx` is the file of the only endpoint, another one the
            directory of `<endpoint>.onnx`.

    Returns:
        What is not as one would expect it.

    Raises:
        RefusedError: ONNX, tf2onnx or ONNX Runtime cannot hold or compute an endpoint.
    """
    _check(conversion)
    _open_compiled(conversion.saved_model / GRAPH)
    remarks: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for name, endpoint in conversion.endpoints.items():
        model, former = _translate(conversion.saved_model, name, endpoint)
        _open(model, name, former)
        if conversion.quantize is not None:
            model, remarks[name] = _quantize(model, name, endpoint, conversion)
        _seal(model, name, conversion.document)
        files[name] = model.SerializeToString(deterministic=True)
    if conversion.quantize is not None and all(remark == _NOTHING for remark in remarks.values()):
        raise RefusedError(f"There is nothing that quantize={conversion.quantize} changes. Leave it out.")
    if conversion.target.suffix == SUFFIX:
        [content] = files.values()
        conversion.target.write_bytes(content)
    else:
        conversion.target.mkdir()
        for name, content in files.items():
            (conversion.target / f"{name}{SUFFIX}").write_bytes(content)
    return Converted(remarks=tuple(f"{name}: {remark}" for name, remark in remarks.items() if remark))


def _quantize(model: Any, name: str, endpoint: Endpoint, conversion: Conversion) -> tuple[Any, str]:
    """Quantises a model.

    Returns:
        The quantised model, and what is to be remarked.
    """
    assert conversion.quantize is not None
    with refusals_explained("ONNX Runtime's quantiser", _OTHER_NUMBERS):
        quantized = quantize(model, endpoint, conversion.quantize, conversion.calibration.get(name))
    same = {each: each for each in (*endpoint.inputs, *endpoint.outputs)}
    canonical, _ = canonicalize(quantized, name, endpoint, same)
    if canonical == model:
        return model, _NOTHING
    _open(canonical, name, {})
    return canonical, describe_rest(canonical, conversion.quantize)


def _check(conversion: Conversion) -> None:
    """Refuses what is known before anything is translated."""
    if conversion.target.suffix == SUFFIX and len(conversion.endpoints) != 1:
        raise RefusedError(
            f"A file that ends with {SUFFIX} holds one endpoint; these are {len(conversion.endpoints)}: "
            f"{', '.join(conversion.endpoints)}. Let the target be a directory, or export one of them."
        )
    if conversion.quantize is Quantize.INT8_WEIGHTS:
        raise RefusedError(
            "ONNX Runtime computes with no int8 weights in float32. Take quantize=int4_weights, int8_dynamic or int8."
        )
    faults = [fault for name, endpoint in conversion.endpoints.items() for fault in _find_faults(name, endpoint)]
    size = sum(file.stat().st_size for file in conversion.saved_model.glob("variables/variables.data-*"))
    if size > MAX_BYTES:
        faults.append(f"The variables have {size:,} bytes, and an ONNX file at most {MAX_BYTES:,}. {_OTHERWISE}")
    if faults:
        raise RefusedError(" ".join(faults))


def _find_faults(name: str, endpoint: Endpoint) -> Iterator[str]:
    if Path(name).name != name:
        yield f"The endpoint {name!r} has no name for a file. Give it one without a slash."
    for each, tensor in (*endpoint.inputs.items(), *endpoint.outputs.items()):
        if tensor.shape is None:
            yield (
                f"{each!r} of the endpoint {name!r} has any number of dimensions, and ONNX wants to know how many. "
                "Declare the shape of an input, and give an output one with tf.ensure_shape."
            )
    for twice in sorted(endpoint.inputs.keys() & endpoint.outputs.keys()):
        yield (
            f"The endpoint {name!r} takes and returns {twice!r}, and ONNX has no name twice. "
            f"Rename the output: signatures.{name}.outputs={{{twice}_out: {twice}}}."
        )


def _open_compiled(file: Path) -> None:
    """Lets tf2onnx see into functions that TensorFlow is to compile as a whole, as Keras asks it for some layers."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for meta_graph in saved_model.meta_graphs:
        graph = meta_graph.graph_def
        inner = (node for function in graph.library.function for node in function.node_def)
        for each in (*graph.node, *graph.library.function, *inner):
            each.attr.pop(_COMPILED, None)
    file.write_bytes(saved_model.SerializeToString(deterministic=True))


def _translate(saved_model: Path, name: str, endpoint: Endpoint) -> tuple[Any, dict[str, str]]:
    """Lets tf2onnx translate an endpoint.

    Returns:
        The model, canonical, and for each of its operations its name in TensorFlow.

    Raises:
        RefusedError: tf2onnx knows no way to translate an operation.
    """
    import tensorflow as tf
    from tf2onnx import tf_loader, tfonnx

    _register_operations()
    with _complaints_explained(name), tf.device("/cpu:0"):
        graph_def, inputs, outputs, tables, names = tf_loader.from_saved_model(
            str(saved_model),
            None,
            None,
            ["serve"],
            [name],
            return_initialized_tables=True,
            return_tensors_to_rename=True,
        )

        def translate() -> Any:
            with tf.Graph().as_default() as graph:
                tf.import_graph_def(graph_def, name="")
                return tfonnx.process_tf_graph(
                    graph, opset=OPSET, input_names=inputs, output_names=outputs, initialized_tables=tables
                )

        model = _simplify(translate).make_model("")
    unknown = [node for graph in list_graphs(model.graph) for node in graph.node if not _is_known(node)]
    if unknown:
        raise _refuse_operations(name, unknown)
    return canonicalize(model, name, endpoint, {ours: theirs for theirs, ours in names.items()})


def _simplify(translate: Callable[[], Any]) -> Any:
    """Lets tf2onnx simplify what it translates, and leaves out a simplification that fails."""
    from tf2onnx import optimizer

    translated = translate()
    try:
        return optimizer.optimize_graph(translated, catch_errors=False)
    except Exception:  # of any kind, and half of the work is done
        # To come back from a failure, tf2onnx copies the graph before each simplification, for a fifth of all its time.
        return optimizer.optimize_graph(translate())


class _Complaints(logging.Handler):
    """Keeps what tf2onnx says."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def _complaints_explained(name: str) -> Iterator[None]:
    """Keeps tf2onnx quiet, and says of which operation it is that an error inside comes."""
    handler = _Complaints()
    logger = logging.getLogger("tf2onnx")
    former = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    except Exception as error:
        failed = [
            record for record in handler.records if str(record.msg).startswith("Failed to convert node") and record.args
        ]
        if not failed:
            raise
        node = str(failed[0].args[0])  # type: ignore[index]
        raise RefusedError(
            f"tf2onnx cannot translate {node.rpartition('/')[2]!r}{_place(node)} (endpoint {name!r}): "
            f"{_take_line(error)}. {_OTHERWISE}"
        ) from error
    finally:
        logger.removeHandler(handler)
        logger.propagate = former


def _is_known(node: Any) -> bool:
    """Whether ONNX has an operation; tf2onnx leaves those of TensorFlow in the graph that it cannot translate."""
    if node.domain not in ("", "ai.onnx.ml"):
        return False
    return bool(onnx.defs.has(node.op_type, node.domain))


def _refuse_operations(name: str, nodes: Sequence[Any]) -> RefusedError:
    kinds = [node.op_type for node in nodes]
    remedy = _TEXTS if any(re.search("String|Regex|Ragged|Unicode", kind) for kind in kinds) else find_remedy(kinds)
    listed = ", ".join(dict.fromkeys(f"{node.op_type}{_place(node.name)}" for node in nodes))
    return RefusedError(f"ONNX has no operation for {listed} (endpoint {name!r}). {remedy or _OTHERWISE}")


def _find_layer(node: str) -> str:
    """Finds the layer that an operation is of, in the operation's name."""
    steps = [step for step in node.split("/") if not re.fullmatch(r"(Stateful)?PartitionedCall(_\d+)?", step)]
    return "/".join(steps[:-1])


def _place(node: str) -> str:
    """Says in words which layer an operation is of; empty where it is of none."""
    layer = _find_layer(node)
    return f" in {layer!r}" if layer else ""


def _take_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _open(model: Any, name: str, former: Mapping[str, str]) -> None:
    """Checks a model, and opens it.

    Args:
        model: It.
        name: Of the endpoint.
        former: What its operations are called in TensorFlow.

    Raises:
        RefusedError: ONNX Runtime does not compute it.
    """
    try:
        open_session(model.SerializeToString())
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # its errors have nothing in common
        # Where in its own code it stopped, it says first.
        text = re.sub(r"^.*\[ONNXRuntimeError\] : \d+ : \w+ : (\S+\.(h|cc):\d+ )?", "", _take_line(error))
        named = next((word for word in re.findall(r"[\w./:]+", text) if word in former), "")
        place = _place(former.get(named, ""))
        remedy = _FLOATS if re.search(r"float16|float8", text) else _OTHERWISE
        raise RefusedError(f"ONNX Runtime does not open the endpoint {name!r}{place}: {text}. {remedy}") from error


def _seal(model: Any, name: str, document: str) -> None:
    """Says in a model what it is, and who wrote it."""
    import tf2onnx

    model.producer_name, model.producer_version = "tf2onnx", tf2onnx.__version__
    onnx.helper.set_model_props(model, {KEY: document, ENDPOINT_KEY: name})


@cache
def _register_operations() -> None:
    """Teaches tf2onnx what it lacks: the `Erfc` of Keras's exact `gelu` (github.com/onnx/tensorflow-onnx/pull/2463)."""
    import numpy as np
    from tf2onnx import utils
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
            shape, dtype = ctx.get_shape(node.output[0]), ctx.get_dtype(node.output[0])
            kinds = {"shapes": [shape], "dtypes": [dtype]}
            one = ctx.make_const(utils.make_name("one"), np.array(1, utils.map_onnx_to_numpy_type(dtype)))
            erf = ctx.make_node("Erf", [node.input[0]], **kinds)
            ctx.remove_node(node.name)
            ctx.make_node("Sub", [one.output[0], erf.output[0]], outputs=node.output, name=node.name, **kinds)


def _load_libraries() -> None:
    import tf2onnx  # noqa: F401


if __name__ == "__main__":
    serve(convert, _load_libraries)
