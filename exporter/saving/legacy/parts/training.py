"""Losses, metrics and optimizers of older Keras in today's terms."""

import types
from collections.abc import Callable, Mapping
from typing import Any

import keras

from exporter.errors import ArtifactError
from exporter.saving.legacy.classes import OWN_CLASSES, describe_own
from exporter.saving.legacy.parts.findings import Findings, damage_told
from exporter.saving.legacy.parts.objects import find_part
from exporter.typing.structures import Config

# `compile` understands these for itself, by the shape of the output.
_SHAPE_DEPENDENT = ("accuracy", "acc", "crossentropy", "ce")

# Functions by their former names (tf.keras.losses and tf.keras.metrics of 2.15; Keras 1 and 2.2 had the last ones).
_FUNCTIONS: Mapping[str, str] = {
    "kullback_leibler_divergence": "kl_divergence",
    "kld": "kl_divergence",
    "KLD": "kl_divergence",
    "logcosh": "log_cosh",
    "cosine_proximity": "cosine_similarity",
    "cosine": "cosine_similarity",
    "MSE": "mean_squared_error",
    "MAE": "mean_absolute_error",
    "MAPE": "mean_absolute_percentage_error",
    "MSLE": "mean_squared_logarithmic_error",
}
_REDUCTIONS = {"auto": "sum_over_batch_size"}
_WRAPPERS = ("MeanMetricWrapper", "SumOverBatchSizeMetricWrapper", "LossFunctionWrapper")
# What Keras 2 wrote of an optimizer and Keras 3 does not take.
_GONE = ("jit_compile", "is_legacy_optimizer", "schedule_decay", "adaptive_epsilon")
_ARGUMENTS = {"lr": "learning_rate", "accum_name": "name"}
_OPTIMIZERS = {"LossScaleOptimizerV3": "LossScaleOptimizer", "LossScaleOptimizerV1": "LossScaleOptimizer"}


def translate_compile(training_config: Config, version: str = "2", outputs: int = 1) -> Config:
    """Translates what `compile` was given.

    Args:
        training_config: The attribute `training_config` of an HDF5 file or of the metadata of a SavedModel, or the
            `compile_config` of an archive.
        version: The version of Keras that wrote it.
        outputs: How many outputs the model has.

    Returns:
        What `compile` takes, each object as the configuration that `keras.saving.deserialize_keras_object` takes.

    Raises:
        ArtifactError: It is damaged, or names what Keras 3 has no counterpart for.
    """
    if not isinstance(training_config, dict):
        raise ArtifactError("The compile configuration is damaged: expected a mapping.")
    findings = Findings(version)
    with damage_told("The compile configuration"):
        translated = _translate(training_config, findings, outputs)
    findings.tell(
        "The compile configuration has what Keras 3 has no counterpart for",
        "Load the model with compile=False, and compile it anew.",
    )
    return translated


def _translate(training_config: Config, findings: Findings, outputs: int) -> Config:
    optimizer = training_config.get("optimizer_config", training_config.get("optimizer"))
    translated: Config = {"optimizer": translate_optimizer(optimizer, findings)}
    loss = _translate_structure(training_config.get("loss"), lambda node: _translate_function(node, "losses"))
    if outputs > 1 and _is_object(loss):
        loss = [loss] * outputs
    translated["loss"] = loss
    for key in ("metrics", "weighted_metrics"):
        metrics = _translate_structure(training_config.get(key), lambda node: _translate_function(node, "metrics"))
        translated[key] = _spread(metrics, outputs)
    translated["loss_weights"] = training_config.get("loss_weights")
    if training_config.get("sample_weight_mode"):
        findings.lost.append(f"It weighted samples as sample_weight_mode={training_config['sample_weight_mode']!r}.")
    for key in ("run_eagerly", "steps_per_execution", "jit_compile"):
        if training_config.get(key) is not None:
            translated[key] = training_config[key]
    return translated


def _is_object(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and "class_name" in value)


def _spread(metrics: Any, outputs: int) -> Any:
    """Gives each output its metrics: Keras 2 took one list for all of them, and listed those of one output twice."""
    if not isinstance(metrics, list):
        return metrics
    if outputs == 1 and len(metrics) == 1 and isinstance(metrics[0], list):
        return metrics[0]
    if outputs > 1 and metrics and all(_is_object(each) for each in metrics):
        return [list(metrics) for _ in range(outputs)] if len(metrics) != outputs else [[each] for each in metrics]
    return metrics


def _translate_structure(node: Any, translate: Callable[[Any], Any]) -> Any:
    if node is None or _is_object(node):
        return translate(node)
    if isinstance(node, dict):
        if node.get("class_name") is None and set(node) == {"items"}:
            return _translate_structure(node["items"], translate)
        return {key: _translate_structure(child, translate) for key, child in node.items()}
    if isinstance(node, (list, tuple)):
        return [_translate_structure(child, translate) for child in node]
    raise ArtifactError(f"The compile configuration is damaged: {str(node)[:80]!r} is no loss or metric.")


def _translate_function(node: Any, kind: str) -> Any:
    """Translates one loss or metric."""
    if node is None:
        return None
    if isinstance(node, str):
        return _translate_name(node, kind)
    class_name, inner = node["class_name"], node.get("config")
    if class_name == "function" or isinstance(inner, str):
        return _translate_name(inner if isinstance(inner, str) else class_name, kind)
    if isinstance(class_name, str) and (class_name.startswith("__")):
        return node
    name = str(class_name).removeprefix("Custom>").removeprefix("Keras>")
    arguments = _without_name(inner) if isinstance(inner, dict) else {}
    if "reduction" in arguments:
        arguments["reduction"] = _REDUCTIONS.get(arguments["reduction"], arguments["reduction"])
    if isinstance(arguments.get("dtype"), dict) and "module" not in arguments["dtype"]:
        arguments["dtype"] = (arguments["dtype"].get("config") or {}).get("name")
    if name in _WRAPPERS or (isinstance(arguments.get("fn"), (str, dict)) and find_part(f"keras.{kind}", name) is None):
        return _translate_wrapper(name, arguments, kind)
    found = find_part(f"keras.{kind}", name)
    if found is None and name in OWN_CLASSES and keras.saving.get_registered_object(name) is None:
        return describe_own(name, arguments)
    if found is None:
        registered = node.get("registered_name") or class_name
        return {"module": None, "class_name": name, "config": arguments, "registered_name": registered}
    arguments.pop("fn", None)  # the class has it
    return {"module": f"keras.{kind}", "class_name": name, "config": arguments, "registered_name": name}


def _translate_wrapper(name: str, arguments: Config, kind: str) -> Any:
    """Translates what wraps a function: Keras has a class for each of its own."""
    function = arguments.pop("fn", None)
    function = function.get("config") if isinstance(function, dict) else function
    translated = _translate_name(str(function), kind)
    if isinstance(translated, str):
        return translated
    if translated["class_name"] == "function":
        module = "keras.src.metrics.reduction_metrics" if kind == "metrics" else "keras.src.losses.losses"
        wrapper = "MeanMetricWrapper" if kind == "metrics" else "LossFunctionWrapper"
        config = {"fn": translated, **arguments}
        return {"module": module, "class_name": wrapper, "config": config, "registered_name": wrapper}
    return {**translated, "config": {**translated["config"], **arguments}}


def _translate_name(name: str, kind: str) -> Any:
    """Translates a name of a function or a class, or of the user's function."""
    if keras.saving.get_registered_object(name) is not None:
        return _name_function(name)
    if name in _SHAPE_DEPENDENT and kind == "metrics":
        return name
    try:
        found = getattr(keras, kind).get(_FUNCTIONS.get(name, name))
    except ValueError:
        return _name_function(name)
    if isinstance(found, types.FunctionType):
        class_name = "".join(part.capitalize() for part in found.__name__.split("_"))
        if kind == "losses" or find_part(f"keras.{kind}", class_name) is None:
            return _name_function(found.__name__)
    else:
        class_name = type(found).__name__
    if find_part(f"keras.{kind}", class_name) is None:
        return _name_function(name)
    config = {"name": name} if kind == "metrics" and name != class_name else {}
    return {"module": f"keras.{kind}", "class_name": class_name, "config": config, "registered_name": None}


def _name_function(name: str) -> Config:
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}


def translate_optimizer(node: Any, findings: Findings) -> Any:
    """Translates an optimizer: a name, or a class with its arguments."""
    if node is None:
        return "rmsprop"
    if isinstance(node, str):
        return node
    if not isinstance(node, dict) or not isinstance(node.get("config"), dict):
        raise ArtifactError("The compile configuration is damaged: its optimizer is no mapping.")
    if node.get("module") == "keras.optimizers" and not findings.is_old:
        return node
    written = str(node.get("class_name"))
    name = written.removeprefix("Custom>")
    name = _OPTIMIZERS.get(name, name)
    found = find_part("keras.optimizers", name[:1].upper() + name[1:])
    if found is None or (written.rpartition(">")[2] != name and name not in _OPTIMIZERS.values()):
        registered = node.get("registered_name") or written
        return {"module": None, "class_name": name, "config": node["config"], "registered_name": registered}
    arguments = {_ARGUMENTS.get(key, key): value for key, value in node["config"].items() if key not in _GONE}
    if name == "LossScaleOptimizer":
        arguments = _translate_loss_scale(arguments, findings)
    else:
        if name == "Nadam":
            # The decay of the momentum, under a name of the rate's.
            schedule = [node["config"].get("schedule_decay"), arguments.pop("decay", None)]
            if any(schedule) and findings.is_old:
                findings.lost.append("Its Nadam changed the momentum at another pace (`schedule_decay`) than today's.")
        _translate_rate(arguments)
        if arguments.get("epsilon", 0) is None:
            arguments["epsilon"] = keras.config.epsilon()
    return {
        "module": "keras.optimizers",
        "class_name": found.__name__,
        "config": arguments,
        "registered_name": found.__name__,
    }


def _translate_rate(arguments: Config) -> None:
    """Translates the learning rate and its decay, which was rate / (1 + decay * step)."""
    rate, decay = arguments.get("learning_rate"), arguments.pop("decay", 0)
    if isinstance(rate, dict) and not str(rate.get("module", "")).startswith("keras.src"):
        name = str(rate.get("class_name"))
        known = find_part("keras.optimizers.schedules", name)
        arguments["learning_rate"] = {
            "module": "keras.optimizers.schedules" if known else None,
            "class_name": name,
            "config": _without_name(rate.get("config")),
            "registered_name": name,
        }
    elif decay:
        schedule = {"initial_learning_rate": rate, "decay_steps": 1, "decay_rate": decay}
        arguments["learning_rate"] = {
            "module": "keras.optimizers.schedules",
            "class_name": "InverseTimeDecay",
            "config": schedule,
            "registered_name": None,
        }


def _without_name(inner: Any) -> Any:
    """Leaves a name out that is none."""
    return {k: v for k, v in inner.items() if (k, v) != ("name", None)} if isinstance(inner, dict) else inner


def _translate_loss_scale(arguments: Config, findings: Findings) -> Config:
    inner = arguments.get("inner_optimizer", arguments.get("optimizer"))
    scale = arguments.get("loss_scale")
    settings = (scale.get("config") or {}) if isinstance(scale, dict) else {}
    dynamic = arguments.get("dynamic", settings.get("class_name") != "FixedLossScale")
    initial = arguments.get("initial_scale") or settings.get("initial_loss_scale") or 2.0**15
    steps = arguments.get("dynamic_growth_steps") or settings.get("increment_period") or 2000
    if not dynamic:
        findings.lost.append("It scaled the loss by a number that stays; Keras 3 grows and shrinks it.")
    return {
        "name": arguments.get("name") or "loss_scale_optimizer",
        "inner_optimizer": translate_optimizer(inner, findings),
        "initial_scale": initial,
        "dynamic_growth_steps": steps,
    }
