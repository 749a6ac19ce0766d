"""Initializers, regularizers, constraints, activations and policies of older Keras in today's terms."""

import inspect
from typing import Any

import keras

from exporter.saving.legacy.classes import OWN_CLASSES, describe_own
from exporter.saving.legacy.parts.findings import Findings
from exporter.saving.private_api import get_symbol_from_name
from exporter.typing.structures import Config

_KINDS = {
    "_initializer": "keras.initializers",
    "_regularizer": "keras.regularizers",
    "_constraint": "keras.constraints",
}
# Keras 2 wrote these classes under other names.
_RENAMED = {
    "WeightRegularizer": "L1L2",
    "ActivityRegularizer": "L1L2",
    "Uniform": "RandomUniform",
    "Normal": "RandomNormal",
    "Zero": "Zeros",
    "One": "Ones",
    "Maxnorm": "MaxNorm",
    "Nonneg": "NonNeg",
    "Unitnorm": "UnitNorm",
}
_ARGUMENTS = {"m": "max_value"}  # of Keras 1's MaxNorm

# Keras 3 took another slope and offset (x/6 + 1/2): this is the line of Keras 1 and 2, of layers that it has.
_HARD_SIGMOID = {
    "module": "keras.layers",
    "class_name": "Pipeline",
    "registered_name": None,
    "config": {
        "name": "hard_sigmoid",
        "layers": [
            {
                "module": "keras.layers",
                "class_name": "Rescaling",
                "registered_name": None,
                "config": {"scale": 0.2, "offset": 0.5},
            },
            {"module": "keras.layers", "class_name": "ReLU", "registered_name": None, "config": {"max_value": 1.0}},
        ],
    },
}


def find_part(module: str, name: str) -> type | None:
    """Finds a public class of Keras."""
    found = get_symbol_from_name(f"{module}.{name}")
    return found if isinstance(found, type) else None


def find_kind(key: str) -> str | None:
    """Tells by an argument's name which module of Keras its value is from; None for layers and others."""
    return next((module for end, module in _KINDS.items() if key.endswith(end)), None)


def translate_part(value: Config, module: str, findings: Findings) -> Config:
    """Translates an initializer, a regularizer or a constraint."""
    written = value["class_name"]
    name = str(written).rpartition(">")[2] if str(written).startswith("Custom>") else written
    for end in ("V1", "V2"):
        if find_part(module, name) is None and name.endswith(end):
            name = name.removesuffix(end)
    name = _RENAMED.get(name, name)
    kind = find_part(module, name)
    inner = value.get("config")
    if kind is None or _is_given(written):
        if written == "function":
            return value
        if name in OWN_CLASSES and not _is_given(written):
            return describe_own(name, inner if isinstance(inner, dict) else {})
        registered = value.get("registered_name") or written
        return {"module": None, "class_name": name, "config": inner, "registered_name": registered}
    arguments = {_ARGUMENTS.get(key, key): each for key, each in inner.items()} if isinstance(inner, dict) else {}
    taken = inspect.signature(kind.__init__).parameters  # type: ignore[misc]
    # `dtype` was an argument, and is one of the call.
    arguments = {key: each for key, each in arguments.items() if key in taken}
    if name == "VarianceScaling" and arguments.get("distribution") == "normal":
        arguments["distribution"] = "truncated_normal"
    return {"module": module, "class_name": name, "config": arguments, "registered_name": None}


def _is_given(name: object) -> bool:
    return isinstance(name, str) and keras.saving.get_registered_object(name) is not None


def translate_activation(value: str | Config, findings: Findings, place: str) -> Any:
    """Translates an activation that is written as a function's name."""
    name = value if isinstance(value, str) else value.get("config")
    if not isinstance(name, str):
        return value
    if name == "hard_sigmoid" and findings.is_old:
        return _HARD_SIGMOID
    if is_activation(name):
        return name
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}


def is_activation(name: str) -> bool:
    """Tells whether Keras has an activation of that name."""
    try:
        return keras.activations.get(name) is not None
    except ValueError:
        return False


def translate_policy(value: Any) -> Any:
    """Translates a dtype or a policy: a policy's name is enough."""
    if not isinstance(value, dict):
        return None if value == "_infer" else value
    inner = value.get("config")
    if value.get("module") == "keras" or not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        return value
    return translate_policy(inner["name"])
