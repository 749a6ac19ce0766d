"""Words for what an artifact holds of a model, and for what it leaves out."""

from typing import Any

import keras

from exporter.saving.configurations import Config
from exporter.saving.contents import Holding, LeftOut, format_bytes
from exporter.saving.state import State, count_bytes


def describe_holdings(
    model: keras.Model, state: State, config: Config, assets: tuple[str, ...]
) -> tuple[tuple[Holding, ...], tuple[LeftOut, ...]]:
    """Describes what is held by every format alike.

    Args:
        model: The model.
        state: Its state, with or without the optimizer.
        config: Its configuration, with or without the compile configuration.
        assets: The files that layers keep beside their variables.

    Returns:
        What is held, and what is left out.
    """
    groups: dict[str, list[keras.Variable]] = {"weights": [], "optimizer": [], "random": []}
    for path, variable in state.variables.items():
        kind = "random" if "/seed_generators/" in f"/{path}" else "weights"
        groups["optimizer" if path.startswith("optimizer/") else kind].append(variable)

    held = [
        Holding("configuration", f"{type(model).__name__} of {count(len(model.layers), 'layer')}"),
        Holding("weights", _describe_tensors(groups["weights"])),
    ]
    left_out = []
    compiled = config.get("compile_config")
    if compiled:
        optimizer = model.optimizer
        if groups["optimizer"]:
            step = int(optimizer.iterations)
            tensors = _describe_tensors(groups["optimizer"])
            held.append(Holding("optimizer", f"{type(optimizer).__name__} at step {step}, {tensors}"))
        held.append(Holding("compile configuration", _describe_compile(compiled)))
        left_out.append(LeftOut("metric accumulators", "Keras resets them at the start of every epoch", intended=True))
    elif model.compiled:
        left_out.append(LeftOut("optimizer and compile configuration", "include_optimizer is false", intended=True))
    if groups["random"]:
        held.append(Holding("random state", count(len(groups["random"]), "seed generator")))
    if assets:
        held.append(Holding("vocabularies", count(len(assets), "file")))
    return tuple(held), tuple(left_out)


def count(number: int, noun: str) -> str:
    """Returns `1 layer`, `2 layers`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _describe_tensors(variables: list[keras.Variable]) -> str:
    return f"{count(len(variables), 'tensor')}, {format_bytes(sum(map(count_bytes, variables)))}"


def _describe_compile(config: Config) -> str:
    parts = [f"loss {_name(config.get('loss'))}"] if config.get("loss") is not None else []
    metrics = [*_listed(config.get("metrics")), *_listed(config.get("weighted_metrics"))]
    if metrics:
        parts.append(f"{'metric' if len(metrics) == 1 else 'metrics'} {', '.join(metrics)}")
    return "; ".join(parts) or "optimizer only"


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, dict) and "class_name" not in value:
        return [name for item in value.values() for name in _listed(item)]
    if isinstance(value, (list, tuple)):
        return [name for item in value for name in _listed(item)]
    return [_name(value)]


def _name(value: Any) -> str:
    if isinstance(value, dict) and "class_name" in value:
        inner = value.get("config")
        return str(inner) if value["class_name"] == "function" else str(value["class_name"])
    if isinstance(value, (dict, list, tuple)):
        return ", ".join(_listed(value))
    return str(value)
