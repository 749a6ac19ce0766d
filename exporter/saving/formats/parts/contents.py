"""Words for what an artifact holds of a model, and for what it leaves out."""

from collections.abc import Collection
from functools import partial

from exporter.saving.compatibility.history import name_oldest_keras
from exporter.saving.configuration.dependencies import describe_dependencies, find_dependencies
from exporter.saving.contents import ContentItem, Contents, Omission, format_bytes
from exporter.saving.requests import SaveRequest
from exporter.saving.state.collecting import State, count_bytes, to_array
from exporter.saving.state.kinds import OPTIMIZER, Kind, find_kind, is_below, list_outermost
from exporter.text.showing import describe_if_possible
from exporter.typing.keras import Model, Optimizer, Variable
from exporter.typing.structures import Config


def describe_contents(
    request: SaveRequest,
    state: State,
    config: Config,
    assets: tuple[str, ...],
    traced: Collection[str] = (),
) -> Contents:
    """Describes what is held by every format alike.

    The artifact is complete by now, so what the model's own code cannot say of itself is no fault of it.

    Args:
        request: What was asked of the save.
        state: Its state, with or without the optimizer.
        config: Its configuration, with or without the compile configuration.
        assets: The files that layers keep beside their variables.
        traced: The classes whose computation is held without their code.

    Returns:
        What is held, and what is left out; no endpoints.
    """
    model = request.model
    # The compiled one is known by its address also before it is built, when it has no variables but its counters.
    optimizers = dict.fromkeys((OPTIMIZER, *list_outermost(state.optimizers)))
    groups: dict[Kind, list[Variable]] = {kind: [] for kind in Kind}
    for path, variable in state.variables.items():
        groups[find_kind(path, optimizers)].append(variable)

    held = [
        ContentItem("configuration", describe_if_possible(lambda: _describe_class(model))),
        ContentItem("weights", _describe_tensors(groups[Kind.WEIGHTS])),
    ]
    left_out = []
    held += _describe_optimizers(state, optimizers)
    compiled = config.get("compile_config")
    if compiled:
        held.append(ContentItem("compile configuration", describe_if_possible(lambda: _describe_compile(compiled))))
        left_out.append(Omission("metric accumulators", "Keras resets them at the start of every epoch", intended=True))
    elif model.compiled and not request.include_optimizer:
        left_out.append(Omission("optimizer and compile configuration", "include_optimizer is false", intended=True))
    if groups[Kind.RANDOM]:
        held.append(ContentItem("random state", count(len(groups[Kind.RANDOM]), "seed generator")))
    if groups[Kind.REPLICAS]:
        held.append(ContentItem("values of replicas", _describe_tensors(groups[Kind.REPLICAS])))
    files = [name for name in assets if not is_below(name, state.tables)]
    if files:
        held.append(ContentItem("vocabularies", count(len(files), "file")))
    if state.tables:
        held.append(ContentItem("lookup tables", _describe_tables(state)))
    dependencies = find_dependencies(config)
    left_out += describe_dependencies(dependencies, traced)
    oldest = name_oldest_keras(config, str(request.format)) if config else ""
    return Contents(tuple(held), tuple(left_out), {}, dependencies, oldest)


def count(number: int, noun: str) -> str:
    """Returns `1 layer`, `2 layers`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _describe_class(model: Model) -> str:
    return f"{type(model).__name__} of {count(len(model.layers), 'layer')}"


def _describe_optimizers(state: State, optimizers: Collection[str]) -> list[ContentItem]:
    targets = {saveable.path: saveable.target for saveable in state.tree if saveable.path in optimizers}
    held = []
    for address, optimizer in targets.items():
        own = [each for path, each in state.variables.items() if is_below(path, (address,))]
        if own:
            name = "optimizer" if address == OPTIMIZER else f"optimizer {address}"
            progress = describe_if_possible(partial(_describe_progress, optimizer))
            held.append(ContentItem(name, f"{progress}, {_describe_tensors(own)}"))
    return held


def _describe_progress(optimizer: Optimizer) -> str:
    # A variable of several devices has no number of its own; its tensor has.
    return f"{type(optimizer).__name__} at step {to_array(optimizer.iterations).item()}"


def _describe_tables(state: State) -> str:
    entries = sum(len(table.export()[0]) for table in state.tables.values())
    return f"{count(len(state.tables), 'table')}, {entries:,} {'entry' if entries == 1 else 'entries'}"


def _describe_tensors(variables: list[Variable]) -> str:
    return f"{count(len(variables), 'tensor')}, {format_bytes(sum(map(count_bytes, variables)))}"


def _describe_compile(config: Config) -> str:
    parts = [f"loss {_name(config.get('loss'))}"] if config.get("loss") is not None else []
    metrics = [*_listed(config.get("metrics")), *_listed(config.get("weighted_metrics"))]
    if metrics:
        parts.append(f"{'metric' if len(metrics) == 1 else 'metrics'} {', '.join(metrics)}")
    return "; ".join(parts) or "optimizer only"


def _listed(value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, dict) and "class_name" not in value:
        return [name for item in value.values() for name in _listed(item)]
    if isinstance(value, (list, tuple)):
        return [name for item in value for name in _listed(item)]
    return [_name(value)]


def _name(value: object) -> str:
    if isinstance(value, dict) and "class_name" in value:
        inner = value.get("config")
        return str(inner) if value["class_name"] == "function" else str(value["class_name"])
    if isinstance(value, (dict, list, tuple)):
        return ", ".join(_listed(value))
    return str(value)
