"""TensorFlow functions in the graphs of Keras 2, and the operations of Keras 3 that compute the same.

Calling `tf.reduce_mean` on a symbolic tensor made a layer of the class `TFOpLambda`, which names the function as the
API does (tensorflow.org/api_docs); calling it before TensorFlow 2.4 made a `TensorFlowOpLayer` of the operation below.
"""

import inspect
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.saving.legacy.classes import TensorFlowFunction, find_arguments, is_half_written
from exporter.saving.private_api import find_operation
from exporter.typing.structures import Config


@dataclass(frozen=True, slots=True)
class Placed:
    """A call of an operation of Keras.

    Attributes:
        module: That of its class.
        class_name: Its class.
        makes: What the constructor takes.
        calls: What the call takes, by name.
    """

    module: str
    class_name: str
    makes: Config
    calls: Config


class NoCounterpartError(Exception):
    """Keras 3 has no operation that computes the same."""


@dataclass(frozen=True, slots=True)
class _Operation:
    """What computes the same as a function of TensorFlow.

    Attributes:
        target: The class below `keras.src.ops`.
        arguments: Those of the function in its order: `name`, `name:name_in_Keras`, `name=default`.
        convert: Changes the arguments, which then have Keras's names.
    """

    target: str
    arguments: str
    convert: Callable[[Config], None] = lambda arguments: None


def _split_sizes(arguments: Config) -> None:
    sizes = arguments["indices_or_sections"]
    if isinstance(sizes, list):
        if any(not isinstance(size, int) or size < 0 for size in sizes):
            raise NoCounterpartError("with a size that is left open")
        arguments["indices_or_sections"] = [sum(sizes[: count + 1]) for count in range(len(sizes) - 1)]


def _flatten_norm(arguments: Config) -> None:
    if arguments.get("ord") == "euclidean":
        arguments["ord"] = None


def _root_epsilon(arguments: Config) -> None:
    # TensorFlow bounds the square of the norm.
    arguments.update(epsilon=math.sqrt(arguments["epsilon"]), order=2)


def _lower_mode(arguments: Config) -> None:
    arguments["mode"] = str(arguments["mode"]).lower()
    if arguments["mode"] != "constant":
        arguments.pop("constant_values", None)


def _fill_ones(arguments: Config) -> None:
    if arguments.get("dtype") is None:
        arguments["dtype"] = "float32"


def _refuse_tensor_bounds(arguments: Config) -> None:
    if any(isinstance(arguments[key], (list, dict)) for key in ("x_min", "x_max")):
        raise NoCounterpartError("with bounds that are tensors")


def _refuse_plain_items(arguments: Config) -> None:
    items = arguments.get("x", arguments.get("xs"))
    if isinstance(items, list) and not all(map(_holds_tensor, items)):
        raise NoCounterpartError("with an item that is no tensor")


_BINARY = {
    "math.add __operators__.add": "numpy.Add",
    "math.subtract __operators__.sub": "numpy.Subtract",
    "math.multiply __operators__.mul": "numpy.Multiply",
    "math.divide math.truediv __operators__.truediv realdiv": "numpy.TrueDivide",
    "math.floordiv __operators__.floordiv": "numpy.FloorDivide",
    "math.floormod math.mod __operators__.mod": "numpy.Mod",
    "math.divide_no_nan": "numpy.DivideNoNan",
    "math.pow __operators__.pow": "numpy.Power",
    "math.maximum": "numpy.Maximum",
    "math.minimum": "numpy.Minimum",
    "math.atan2": "numpy.Arctan2",
    "math.greater __operators__.gt": "numpy.Greater",
    "math.greater_equal __operators__.ge": "numpy.GreaterEqual",
    "math.less __operators__.lt": "numpy.Less",
    "math.less_equal __operators__.le": "numpy.LessEqual",
    "math.equal __operators__.eq": "numpy.Equal",
    "math.not_equal __operators__.ne": "numpy.NotEqual",
    "math.logical_and __operators__.and": "numpy.LogicalAnd",
    "math.logical_or __operators__.or": "numpy.LogicalOr",
    "math.logical_xor __operators__.xor": "numpy.LogicalXor",
}
_UNARY = {
    "math.abs": "numpy.Absolute",
    "math.negative __operators__.neg": "numpy.Negative",
    "math.sqrt": "numpy.Sqrt",
    "math.rsqrt": "math.Rsqrt",
    "math.square": "numpy.Square",
    "math.reciprocal": "numpy.Reciprocal",
    "math.exp": "numpy.Exp",
    "math.expm1": "numpy.Expm1",
    "math.log": "numpy.Log",
    "math.log1p": "numpy.Log1p",
    "math.log_sigmoid": "nn.LogSigmoid",
    "math.sign": "numpy.Sign",
    "math.floor": "numpy.Floor",
    "math.ceil": "numpy.Ceil",
    "math.round": "numpy.Round",
    "math.sin": "numpy.Sin",
    "math.cos": "numpy.Cos",
    "math.tan": "numpy.Tan",
    "math.asin": "numpy.Arcsin",
    "math.acos": "numpy.Arccos",
    "math.atan": "numpy.Arctan",
    "math.sinh": "numpy.Sinh",
    "math.cosh": "numpy.Cosh",
    "math.asinh": "numpy.Arcsinh",
    "math.acosh": "numpy.Arccosh",
    "math.atanh": "numpy.Arctanh",
    "math.tanh nn.tanh": "numpy.Tanh",
    "math.erf": "math.Erf",
    "math.erfinv": "math.Erfinv",
    "math.is_nan": "numpy.Isnan",
    "math.is_inf": "numpy.Isinf",
    "math.is_finite": "numpy.Isfinite",
    "math.logical_not __operators__.invert": "numpy.LogicalNot",
    "math.sigmoid nn.sigmoid": "nn.Sigmoid",
    "math.softplus nn.softplus": "nn.Softplus",
    "math.softsign nn.softsign": "nn.Softsign",
    "nn.relu": "nn.Relu",
    "nn.relu6": "nn.Relu6",
    "nn.elu": "nn.Elu",
    "nn.selu": "nn.Selu",
    "nn.silu nn.swish": "nn.Silu",
    "identity": "numpy.Copy",
}
_REDUCTIONS = {
    "reduce_mean": "numpy.Mean",
    "reduce_sum": "numpy.Sum",
    "reduce_max": "numpy.Max",
    "reduce_min": "numpy.Min",
    "reduce_prod": "numpy.Prod",
    "reduce_any": "numpy.Any",
    "reduce_all": "numpy.All",
    "reduce_std": "numpy.Std",
    "reduce_variance": "numpy.Var",
    "reduce_logsumexp": "math.Logsumexp",
}
OPERATIONS: Mapping[str, _Operation] = {
    **{name: _Operation(target, "x:x1 y:x2") for names, target in _BINARY.items() for name in names.split()},
    **{name: _Operation(target, "x") for names, target in _UNARY.items() for name in names.split()},
    **{
        f"math.{name}": _Operation(target, "input_tensor:x axis keepdims keep_dims:keepdims")
        for name, target in _REDUCTIONS.items()
    },
    "nn.leaky_relu": _Operation("nn.LeakyRelu", "features:x alpha:negative_slope=0.2"),
    "nn.gelu": _Operation("nn.Gelu", "features:x approximate=false"),
    "nn.softmax": _Operation("nn.Softmax", "logits:x axis=-1 dim:axis"),
    "nn.log_softmax": _Operation("nn.LogSoftmax", "logits:x axis=-1 dim:axis"),
    "math.argmax": _Operation("numpy.Argmax", "input:x axis=0 dimension:axis"),
    "math.argmin": _Operation("numpy.Argmin", "input:x axis=0 dimension:axis"),
    "math.cumsum": _Operation("numpy.Cumsum", "x axis=0"),
    "math.cumprod": _Operation("numpy.Cumprod", "x axis=0"),
    "math.l2_normalize": _Operation("nn.Normalize", "x axis epsilon=1e-12 dim:axis", _root_epsilon),
    "math.top_k": _Operation("math.TopK", "input:x k=1 sorted=true"),
    "linalg.matmul": _Operation("numpy.Matmul", "a:x1 b:x2"),
    "linalg.norm": _Operation("linalg.Norm", "tensor:x ord axis keepdims keep_dims:keepdims", _flatten_norm),
    "reshape": _Operation("numpy.Reshape", "tensor:x shape:newshape"),
    "expand_dims": _Operation("numpy.ExpandDims", "input:x axis dim:axis"),
    "squeeze": _Operation("numpy.Squeeze", "input:x axis squeeze_dims:axis"),
    "transpose": _Operation("numpy.Transpose", "a:x perm:axes"),
    "concat": _Operation("numpy.Concatenate", "values:xs axis", _refuse_plain_items),
    "stack": _Operation("numpy.Stack", "values:x axis=0", _refuse_plain_items),
    "unstack": _Operation("core.Unstack", "value:x num axis=0"),
    "split": _Operation("numpy.Split", "value:x num_or_size_splits:indices_or_sections axis=0", _split_sizes),
    "tile": _Operation("numpy.Tile", "input:x multiples:repeats"),
    "repeat": _Operation("numpy.Repeat", "input:x repeats axis"),
    "broadcast_to": _Operation("numpy.BroadcastTo", "input:x shape"),
    "reverse": _Operation("numpy.Flip", "tensor:x axis"),
    "roll": _Operation("numpy.Roll", "input:x shift axis"),
    "pad": _Operation("numpy.Pad", "tensor:x paddings:pad_width mode='CONSTANT' constant_values=0", _lower_mode),
    "gather": _Operation("numpy.Take", "params:x indices axis=0"),
    "one_hot": _Operation("nn.OneHot", "indices:x depth:num_classes axis=-1 dtype", _fill_ones),
    "cast": _Operation("core.Cast", "x dtype"),
    "zeros_like": _Operation("numpy.ZerosLike", "input:x dtype tensor:x"),
    "ones_like": _Operation("numpy.OnesLike", "input:x dtype tensor:x"),
    "convert_to_tensor": _Operation("core.ConvertToTensor", "value:x dtype"),
    "stop_gradient": _Operation("core.StopGradient", "input:variable"),
    "where": _Operation("numpy.Where", "condition x:x1 y:x2"),
    "clip_by_value": _Operation("numpy.Clip", "t:x clip_value_min:x_min clip_value_max:x_max", _refuse_tensor_bounds),
    "image.resize": _Operation("image.Resize", "images size method:interpolation='bilinear' antialias=false"),
    "image.rgb_to_grayscale": _Operation("image.RGBToGrayscale", "images"),
    "image.rgb_to_hsv": _Operation("image.RGBToHSV", "images"),
    "image.hsv_to_rgb": _Operation("image.HSVToRGB", "images"),
    "nn.depth_to_space": _Operation("nn.DepthToSpace", "input:x block_size data_format"),
    "nn.space_to_depth": _Operation("nn.SpaceToDepth", "input:x block_size data_format"),
}

_WORDS = ("name", "validate_indices", "dtype_hint")
# What may be given without a change of the result, of arguments that Keras has no name for.
_MEANINGLESS: Mapping[str, tuple[Any, ...]] = {
    "transpose_a": (False,),
    "transpose_b": (False,),
    "adjoint_a": (False,),
    "adjoint_b": (False,),
    "batch_dims": (0,),
    "exclusive": (False,),
    "reverse": (False,),
    "conjugate": (False,),
    "output_type": ("int64", "int32"),
    "preserve_aspect_ratio": (False,),
    "on_value": (1,),
    "off_value": (0,),
    "optimize": (True,),
}


def translate_function(name: str, first: Any, given: Mapping[str, Any]) -> Placed:
    """Translates a call of a TensorFlow function.

    Args:
        name: Of the function, as the API calls it.
        first: Its first argument.
        given: The others by name.

    Returns:
        The call of Keras.

    Raises:
        NoCounterpartError: There is none.
    """
    short = name.removeprefix("compat.v1.").removeprefix("compat.v2.")
    known = OPERATIONS.get(short) or OPERATIONS.get(f"math.{short}") or OPERATIONS.get(f"linalg.{short}")
    try:
        if known is None:
            reason = "with tensors that the file does not hold: Keras 2 wrote the first argument alone"
            raise NoCounterpartError(reason if is_half_written(name) else "")
        return _translate_known(known, first, given)
    except NoCounterpartError:
        placed = place_function(name, first, given)
        if placed is None:
            raise
        return placed


def place_function(name: str, first: Any, given: Mapping[str, Any]) -> Placed | None:
    """Lets TensorFlow's own function be called; None where it may not, or does not take these arguments.

    Args:
        name: Of the function, as the API calls it.
        first: Its first argument.
        given: The others by name.
    """
    names = find_arguments(name)
    others = {key: value for key, value in given.items() if key != "name"}
    if names is None or not set(others) <= set(names[1:]):
        return None
    module = TensorFlowFunction.__module__
    return Placed(module, TensorFlowFunction.__name__, {"function": name}, {"first": first, **others})


def _translate_known(known: _Operation, first: Any, given: Mapping[str, Any]) -> Placed:
    names, defaults = _read_arguments(known.arguments)
    order = list(names)
    arguments = dict(defaults)
    for key, value in {order[0]: first, **given}.items():
        if key in names:
            if value is not None or names[key] not in arguments:
                arguments[names[key]] = value
        elif value is not None and key not in _WORDS and value not in _MEANINGLESS.get(key, ()):
            raise NoCounterpartError(f"with {key}={value!r}")
    known.convert(arguments)
    return _place(known.target, arguments)


def _read_arguments(text: str) -> tuple[dict[str, str], Config]:
    names, defaults = {}, {}
    for each in text.split():
        place, _, default = each.partition("=")
        name, _, ours = place.partition(":")
        names[name] = ours or name
        if default:
            defaults[names[name]] = json.loads(default.replace("'", '"'))
    return names, defaults


def _place(target: str, arguments: Config) -> Placed:
    """Tells what the class takes when it is made from what it takes when it is called."""
    package, _, class_name = target.partition(".")
    module = f"keras.src.ops.{package}"
    operation = find_operation(module, class_name)
    called = inspect.signature(operation.call).parameters
    made = inspect.signature(operation.__init__).parameters
    calls = {name: value for name, value in arguments.items() if name in called}
    makes = {name: value for name, value in arguments.items() if name in made and name not in called}
    if _holds_tensor(makes):
        raise NoCounterpartError(f"with a tensor for {', '.join(k for k, v in makes.items() if _holds_tensor(v))}")
    return Placed(module, class_name, makes, calls)


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("class_name") == "__keras_tensor__" or any(map(_holds_tensor, value.values()))
    return isinstance(value, list) and any(map(_holds_tensor, value))


def translate_slices(first: Any, spec: Any) -> Placed:
    """Translates `tensor[...]`, whose slices were written as mappings.

    Raises:
        NoCounterpartError: An index is a tensor.
    """
    items = spec if isinstance(spec, list) else [spec]
    if any(isinstance(item, (list, dict)) and _holds_tensor(item) for item in items):
        placed = place_function("__operators__.getitem", first, {"slice_spec": _write_ellipsis(spec)})
        if placed is not None:
            return placed
    if any(isinstance(item, list) for item in items):
        raise NoCounterpartError("with an index that is a tensor")
    key = [_slice(item) for item in items]
    return Placed("keras.src.ops.numpy", "GetItem", {}, {"x": first, "key": key})


def _is_ellipsis(item: Any) -> bool:
    return item == "..." or (isinstance(item, dict) and item.get("class_name") == "__ellipsis__")


def _write_ellipsis(spec: Any) -> Any:
    """Writes `...` as a text, which stays what it is in a configuration."""
    if isinstance(spec, list):
        return [_write_ellipsis(each) for each in spec]
    return "..." if _is_ellipsis(spec) else spec


def _slice(item: Any) -> Any:
    if isinstance(item, dict) and set(item) == {"start", "stop", "step"}:
        if any(isinstance(bound, (list, dict)) for bound in item.values()):
            raise NoCounterpartError("with a bound that is a tensor")
        return {"class_name": "__slice__", "config": dict(item)}
    if _is_ellipsis(item):
        return {"class_name": "__ellipsis__", "config": {}}
    if item is None or isinstance(item, int):
        return item
    raise NoCounterpartError(f"with the index {item!r}")
