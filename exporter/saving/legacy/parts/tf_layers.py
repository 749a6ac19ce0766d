"""Layers that Keras 2 made of calls of TensorFlow, as operations of Keras 3."""

import inspect
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from exporter.errors import ArtifactError
from exporter.saving.legacy.classes import OWN_CLASSES
from exporter.saving.legacy.parts.findings import Findings
from exporter.saving.legacy.parts.nodes import Graph, read_call
from exporter.saving.legacy.parts.operations import NoCounterpartError, Placed, translate_function, translate_slices
from exporter.saving.private_api import find_operation
from exporter.typing.structures import Config

# Of an operation below the API: the function that it is, its inputs' names there, and its attributes' names there.
_RAW: dict[str, tuple[str, str, str]] = {
    "Add AddV2 BiasAdd": ("math.add", "x y", ""),
    "Sub": ("math.subtract", "x y", ""),
    "Mul": ("math.multiply", "x y", ""),
    "RealDiv Div": ("math.truediv", "x y", ""),
    "FloorDiv": ("math.floordiv", "x y", ""),
    "FloorMod": ("math.floormod", "x y", ""),
    "Pow": ("math.pow", "x y", ""),
    "Maximum": ("math.maximum", "x y", ""),
    "Minimum": ("math.minimum", "x y", ""),
    "Greater": ("math.greater", "x y", ""),
    "GreaterEqual": ("math.greater_equal", "x y", ""),
    "Less": ("math.less", "x y", ""),
    "LessEqual": ("math.less_equal", "x y", ""),
    "Equal": ("math.equal", "x y", ""),
    "NotEqual": ("math.not_equal", "x y", ""),
    "LogicalAnd": ("math.logical_and", "x y", ""),
    "LogicalOr": ("math.logical_or", "x y", ""),
    "LogicalNot": ("math.logical_not", "x", ""),
    "Abs": ("math.abs", "x", ""),
    "Neg": ("math.negative", "x", ""),
    "Sqrt": ("math.sqrt", "x", ""),
    "Rsqrt": ("math.rsqrt", "x", ""),
    "Square": ("math.square", "x", ""),
    "Reciprocal Inv": ("math.reciprocal", "x", ""),
    "Exp": ("math.exp", "x", ""),
    "Log": ("math.log", "x", ""),
    "Log1p": ("math.log1p", "x", ""),
    "Sign": ("math.sign", "x", ""),
    "Floor": ("math.floor", "x", ""),
    "Ceil": ("math.ceil", "x", ""),
    "Round": ("math.round", "x", ""),
    "Sin": ("math.sin", "x", ""),
    "Cos": ("math.cos", "x", ""),
    "Tanh": ("math.tanh", "x", ""),
    "Erf": ("math.erf", "x", ""),
    "Sigmoid": ("math.sigmoid", "x", ""),
    "Softplus": ("nn.softplus", "x", ""),
    "Softsign": ("nn.softsign", "x", ""),
    "Relu": ("nn.relu", "x", ""),
    "Relu6": ("nn.relu6", "x", ""),
    "Elu": ("nn.elu", "x", ""),
    "Selu": ("nn.selu", "x", ""),
    "LeakyRelu": ("nn.leaky_relu", "features", "alpha:alpha"),
    "Softmax": ("nn.softmax", "logits", ""),
    "LogSoftmax": ("nn.log_softmax", "logits", ""),
    "Identity": ("identity", "x", ""),
    "StopGradient": ("stop_gradient", "input", ""),
    "Mean": ("math.reduce_mean", "input_tensor axis", "keep_dims:keepdims"),
    "Sum": ("math.reduce_sum", "input_tensor axis", "keep_dims:keepdims"),
    "Max": ("math.reduce_max", "input_tensor axis", "keep_dims:keepdims"),
    "Min": ("math.reduce_min", "input_tensor axis", "keep_dims:keepdims"),
    "Prod": ("math.reduce_prod", "input_tensor axis", "keep_dims:keepdims"),
    "Any": ("math.reduce_any", "input_tensor axis", "keep_dims:keepdims"),
    "All": ("math.reduce_all", "input_tensor axis", "keep_dims:keepdims"),
    "ArgMax": ("math.argmax", "input axis", ""),
    "ArgMin": ("math.argmin", "input axis", ""),
    "MatMul": ("linalg.matmul", "a b", "transpose_a:transpose_a transpose_b:transpose_b"),
    "BatchMatMul BatchMatMulV2": ("linalg.matmul", "a b", "adj_x:adjoint_a adj_y:adjoint_b"),
    "Reshape": ("reshape", "tensor shape", ""),
    "ExpandDims": ("expand_dims", "input axis", ""),
    "Squeeze": ("squeeze", "input", "squeeze_dims:axis"),
    "Transpose": ("transpose", "a perm", ""),
    "Tile": ("tile", "input multiples", ""),
    "GatherV2": ("gather", "params indices axis", "batch_dims:batch_dims"),
    "Pad PadV2": ("pad", "tensor paddings constant_values", ""),
    "ClipByValue": ("clip_by_value", "t clip_value_min clip_value_max", ""),
    "Select SelectV2": ("where", "condition x y", ""),
    "Cast": ("cast", "x", "DstT:dtype"),
    "ZerosLike": ("zeros_like", "input", ""),
    "OnesLike": ("ones_like", "input", ""),
    "ReverseV2": ("reverse", "tensor axis", ""),
    "Pack": ("stack", "", "axis:axis"),
    "ConcatV2": ("concat", "", ""),
}
_KNOWN = {name: row for names, row in _RAW.items() for name in names.split()}


def translate_tf_layer(layer: Config, calls: list[Any], graph: Graph, findings: Findings) -> Config:
    """Translates a layer with its calls; what has no counterpart is noted as a fault.

    Args:
        layer: Its configuration.
        calls: Its `inbound_nodes`.
        graph: Where the tensors are from.
        findings: What is found.
    """
    what, translate = TF_LAYERS[layer["class_name"]]
    inner = layer["config"] if isinstance(layer.get("config"), dict) else {}
    name = graph.names[layer["name"]]
    placed: list[Placed] = []
    for call in calls:
        first, others = read_call(graph, call, keeps_structure=layer["class_name"] != "TensorFlowOpLayer")
        others = {key: graph.translate_value(value) for key, value in others.items()}
        try:
            placed.append(translate(inner, first, others))
            if placed[-1].makes != placed[0].makes:
                raise NoCounterpartError("called in several ways")
        except NoCounterpartError as error:
            reason = f" {error}" if str(error) else ""
            findings.faults.append(f"{layer['class_name']} {layer['name']!r} calls {what(inner)}{reason}")
            placed = []
            break
    module, class_name = (placed[0].module, placed[0].class_name) if placed else ("keras.layers", "Identity")
    return {
        "module": module,
        "class_name": class_name,
        "config": {**(placed[0].makes if placed else {}), "name": name},
        "registered_name": f"exporter>{class_name}" if class_name in OWN_CLASSES else class_name,
        "name": name,
        "inbound_nodes": [_order(each) for each in placed],
    }


def _order(placed: Placed) -> Config:
    """Puts the arguments of a call in their places."""
    kind: Any = OWN_CLASSES.get(placed.class_name) or find_operation(placed.module, placed.class_name)
    parameters = inspect.signature(kind.call).parameters
    left = dict(placed.calls)
    args = []
    for name in parameters:
        if name == "self":
            continue
        if name not in left:
            break
        args.append(left.pop(name))
    return {"args": args, "kwargs": left}


def _name_function(inner: Config) -> str:
    return f"tf.{inner.get('function')}"


def _translate_function(inner: Config, first: Any, others: Config) -> Placed:
    return translate_function(str(inner.get("function")), first, others)


def _translate_slicing(inner: Config, first: Any, others: Config) -> Placed:
    if inner.get("function") != "__operators__.getitem":
        return _translate_function(inner, first, others)
    return translate_slices(first, others.get("slice_spec"))


def _read_node(inner: Config) -> Any:
    node, written = tf.compat.v1.NodeDef(), inner.get("node_def")
    try:
        if isinstance(written, dict):
            return json_format.ParseDict(written, node)
        if isinstance(written, str):
            try:
                return json_format.Parse(written, node)
            except json_format.ParseError:
                node.ParseFromString(written.encode())
                return node
    except (json_format.ParseError, DecodeError, ValueError) as error:
        raise ArtifactError(f"The configuration is damaged: an operation cannot be read: {error}.") from error
    raise ArtifactError("The configuration is damaged: a TensorFlowOpLayer has no operation.")


def _name_operation(inner: Config) -> str:
    return f"the operation {_read_node(inner).op}"


def _translate_operation(inner: Config, first: Any, others: Config) -> Placed:
    node = _read_node(inner)
    values = list(first) if isinstance(first, list) else [first]
    constants = inner.get("constants") or {}
    for index in sorted(constants, key=int):
        values.insert(int(index), constants[index])
    if node.op == "StridedSlice":
        return translate_slices(values[0], _read_slices(node, values[1:]))
    if node.op not in _KNOWN:
        raise NoCounterpartError("")
    function, names, attributes = _KNOWN[node.op]
    given = {new: _read_attribute(node, old) for old, _, new in (each.partition(":") for each in attributes.split())}
    if node.op == "ConcatV2":
        return translate_function(function, values[:-1], {"axis": values[-1], **given})
    if node.op == "Pack":
        return translate_function(function, values, given)
    return translate_function(function, values[0], {**dict(zip(names.split()[1:], values[1:], strict=False)), **given})


def _read_attribute(node: Any, name: str) -> Any:
    value = node.attr[name]
    kind = value.WhichOneof("value")
    if kind == "type":
        return tf.dtypes.as_dtype(value.type).name
    if kind == "list":
        return list(value.list.i) or None
    return getattr(value, kind) if kind else None


def _read_slices(node: Any, bounds: list[Any]) -> list[Any]:
    if len(bounds) != 3 or not all(isinstance(bound, list) for bound in bounds):
        raise NoCounterpartError("with a bound that is a tensor")
    masks = {name: node.attr[f"{name}_mask"].i for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    items: list[Any] = []
    for index, (start, stop, step) in enumerate(zip(*bounds, strict=True)):
        bit = 1 << index
        if masks["ellipsis"] & bit:
            items.append({"class_name": "__ellipsis__"})
        elif masks["new_axis"] & bit:
            items.append(None)
        elif masks["shrink_axis"] & bit:
            items.append(start)
        else:
            ends = {"start": None if masks["begin"] & bit else start, "stop": None if masks["end"] & bit else stop}
            items.append({**ends, "step": step})
    return items


# By class: what it calls, in words; and how that is translated.
TF_LAYERS: dict[str, tuple[Callable[[Config], str], Callable[[Config, Any, Config], Placed]]] = {
    "TFOpLambda": (_name_function, _translate_function),
    "SlicingOpLambda": (_name_function, _translate_slicing),
    "TensorFlowOpLayer": (_name_operation, _translate_operation),
}
