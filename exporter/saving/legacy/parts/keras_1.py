"""What Keras 1 called layers and their arguments (github.com/keras-team/keras/wiki/Keras-2.0-release-notes)."""

from collections.abc import Mapping
from typing import Any

from exporter.saving.legacy.parts.findings import Findings
from exporter.typing.structures import Config

# The arguments of all layers but those below.
_ARGUMENTS: Mapping[str, str] = {
    "output_dim": "units",
    "nb_filter": "filters",
    "filter_length": "kernel_size",
    "subsample": "strides",
    "subsample_length": "strides",
    "border_mode": "padding",
    "dim_ordering": "data_format",
    "atrous_rate": "dilation_rate",
    "pool_length": "pool_size",
    "stride": "strides",
    "init": "kernel_initializer",
    "inner_init": "recurrent_initializer",
    "inner_activation": "recurrent_activation",
    "forget_bias_init": "unit_forget_bias",
    "W_regularizer": "kernel_regularizer",
    "U_regularizer": "recurrent_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "U_constraint": "recurrent_constraint",
    "b_constraint": "bias_constraint",
    "bias": "use_bias",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
    "depthwise_init": "depthwise_initializer",
    "pointwise_init": "pointwise_initializer",
    "gamma_init": "gamma_initializer",
    "beta_init": "beta_initializer",
    "p": "rate",
    "sigma": "stddev",
    "length": "size",
}
# Where one means something else in a layer.
_OF_LAYER: Mapping[str, Mapping[str, str]] = {
    "Embedding": {
        "output_dim": "output_dim",
        "init": "embeddings_initializer",
        "W_regularizer": "embeddings_regularizer",
        "W_constraint": "embeddings_constraint",
    },
    "PReLU": {"init": "alpha_initializer"},
}
_CLASSES: Mapping[str, str] = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "SeparableConvolution2D": "SeparableConv2D",
}
_MERGES: Mapping[str, str] = {
    "sum": "Add",
    "mul": "Multiply",
    "ave": "Average",
    "max": "Maximum",
    "concat": "Concatenate",
    "dot": "Dot",
    "cos": "Dot",
}
_VALUES: Mapping[str, Mapping[str, Any]] = {
    "data_format": {"tf": "channels_last", "th": "channels_first", "default": None},
    "unit_forget_bias": {"one": True, "zero": False},
}
_INITIALIZERS: Mapping[str, str] = {
    "uniform": "random_uniform",
    "normal": "random_normal",
    "zero": "zeros",
    "one": "ones",
}
# Regularizers and constraints, which were written as a name beside their arguments.
_PARTS: Mapping[str, str] = {"L1L2Regularizer": "L1L2", "WeightRegularizer": "L1L2"}
# What only chose between ways to the same values, or says again what other arguments say.
_GONE = ("consume_less", "input_dim", "input_length", "nb_row", "nb_col", "kernel_dim1", "kernel_dim2", "kernel_dim3")


def modernize_keras_1(class_name: str, inner: Any, findings: Findings) -> tuple[str, Any]:
    """Gives a layer the name and the arguments that Keras 2 had for it.

    Args:
        class_name: Its class.
        inner: Its configuration.
        findings: What is found.
    """
    if not isinstance(inner, dict) or "layers" in inner:
        if class_name == "Merge":
            findings.faults.append("Merge of models inside a Sequential has no counterpart")
        return class_name, inner
    if class_name == "Merge":
        return _translate_merge(inner, findings)
    own = _OF_LAYER.get(class_name, {})
    arguments: Config = {}
    for key, value in inner.items():
        name = own.get(key) or _ARGUMENTS.get(key, key)
        if name.endswith("_initializer") and isinstance(value, str):
            value = _INITIALIZERS.get(value, value)
        if isinstance(value, dict) and "class_name" not in value and isinstance(value.get("name"), str):
            value = {"class_name": _PARTS.get(value["name"], value["name"]), "config": {**value}}
        words = _VALUES.get(name, {})
        arguments[name] = words.get(value, value) if isinstance(value, str) else value
    kernel = [inner[key] for key in ("nb_row", "nb_col", "kernel_dim1", "kernel_dim2", "kernel_dim3") if key in inner]
    if kernel:
        arguments["kernel_size"] = kernel
    if class_name != "Embedding":
        arguments = {key: value for key, value in arguments.items() if key not in _GONE}
    return _CLASSES.get(class_name, class_name), arguments


def _translate_merge(inner: Config, findings: Findings) -> tuple[str, Config]:
    mode = str(inner.get("mode"))
    if mode not in _MERGES:
        findings.faults.append(f"Merge {inner.get('name')!r} has mode={mode[:40]!r}")
        return "Add", {"name": inner.get("name")}
    arguments: Config = {"name": inner.get("name")}
    if mode == "concat":
        arguments["axis"] = inner.get("concat_axis", -1)
    if mode in ("dot", "cos"):
        arguments.update(axes=inner.get("dot_axes", -1), normalize=mode == "cos")
    return _MERGES[mode], arguments
