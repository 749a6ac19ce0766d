"""What an endpoint takes: from its method, the steps before it, and the declaration, in this order of precedence."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from exporter.config import Batch, SignatureConfig, TensorConfig
from exporter.models.endpoints.declarations import Declared, DeclaredInputs
from exporter.models.endpoints.methods import Faults, Method
from exporter.models.endpoints.pipelines import ByName, Pipeline, Step, find_first
from exporter.saving.graph.inputs import InputLeaf
from exporter.text.showing import show

Tensors = dict[str, InputLeaf]


def resolve_inputs(
    path: str,
    declared: SignatureConfig,
    given: DeclaredInputs,
    method: Method,
    preprocess: Pipeline | None,
    faults: Faults,
) -> tuple[tuple[InputLeaf, ...], frozenset[str]]:
    """Decides what an endpoint takes.

    Args:
        path: The dotted path of the declaration.
        declared: The declaration.
        given: Its inputs.
        method: What the endpoint calls.
        preprocess: The steps before.
        faults: Is told what does not fit.

    Returns:
        The tensors, the declared ones first and in their order; and the names of those that reach the method as they
        are. The others may differ from what the method takes, since a step stands between.
    """
    named = {item.name: item for item in given.tensors}
    tensors: Tensors = {leaf.name: leaf for leaf in method.inputs.leaves}
    changed: set[str] = set()
    first, _ = find_first(preprocess)
    if isinstance(first, ByName):
        changed = set(first.entries)
        tensors.update(_find_inputs_by_name(first, tensors))
    elif first is not None:
        tensors, changed = _find_step_inputs(first, tensors, named, method, faults)

    for name, item in named.items():
        if name in tensors:
            tensors[name] = _override(item, tensors[name], name in changed, method, faults)
        else:
            listed = ", ".join(tensors) or "none"
            faults.add(item.path, f"the model has no such input. Its inputs: {listed}.", method)
    ordered = sorted(tensors, key=lambda name: list(named).index(name) if name in named else len(named))
    fixed = tuple(_fix_batch(path, declared.batch, tensors[name], method, faults) for name in ordered)
    return fixed, frozenset(tensors) - changed


def _find_inputs_by_name(steps: ByName, tensors: Tensors) -> Tensors:
    """Finds the inputs whose own steps take something else than the method."""
    found = {}
    for name, entry in steps.entries.items():
        step, _ = find_first(entry)
        if name in tensors and isinstance(step, Step) and step.takes.dtype:
            found[name] = InputLeaf(name, step.takes.shape, step.takes.dtype)
    return found


def _find_step_inputs(
    step: Step, tensors: Tensors, named: Mapping[str, Declared], method: Method, faults: Faults
) -> tuple[Tensors, set[str]]:
    """Finds what an endpoint takes whose first step gets all that is not left aside, and what of it is the step's."""
    made = _name_given(step)
    aside = {name: leaf for name, leaf in tensors.items() if name in method.aside and name not in made}
    inside = {name: leaf for name, leaf in tensors.items() if name not in aside}
    new = [item for name, item in named.items() if name not in tensors]
    if new:
        own = {name: leaf for name, leaf in inside.items() if name in named}
        added = {item.name: _read_new(item, step, faults) for item in new}
        return {**own, **aside, **added}, set(own) | set(added)
    if step.takes.dtype:
        name = next((name for name in named if name in inside), step.takes.name)
        return {name: InputLeaf(name, step.takes.shape, step.takes.dtype), **aside}, {name}
    return tensors, set(inside)


def _read_new(item: Declared, step: Step, faults: Faults) -> InputLeaf:
    """Reads an input that the model does not have: a step makes of it what the model takes."""
    tensor = item.tensor
    shape = tensor.shape if tensor.shape is not None or not step.takes.dtype else step.takes.shape
    dtype = tensor.dtype or step.takes.dtype
    for part, is_known in (("shape", shape is not None), ("dtype", bool(dtype))):
        if not is_known:
            faults.add(f"{item.path}.{part}", "missing; only the model's own inputs have a default")
    return InputLeaf(item.name, tuple(shape or ()), dtype or "float32", ragged_rank=tensor.ragged_rank or 0)


def _name_given(step: Step) -> set[str]:
    """Returns the names of the tensors that a step makes, where that is known."""
    if step.takes.gives is None:
        return set()
    try:
        return set(step.takes.gives(**step.arguments))
    except TypeError:  # arguments that are missing or wrong are a fault of their own
        return set()


def _override(item: Declared, leaf: InputLeaf, changed: bool, method: Method, faults: Faults) -> InputLeaf:
    """Puts what is declared in the place of what is known."""
    tensor = item.tensor
    if not changed:
        _check_fits(item.path, tensor, leaf, method, faults)
    return replace(
        leaf,
        shape=leaf.shape if tensor.shape is None else tuple(tensor.shape),
        dtype=tensor.dtype or leaf.dtype,
        ragged_rank=tensor.ragged_rank or leaf.ragged_rank,
    )


def _check_fits(path: str, tensor: TensorConfig, leaf: InputLeaf, method: Method, faults: Faults) -> None:
    if tensor.shape is not None and not _narrows(tensor.shape, leaf.shape):
        message = f"received {show(tensor.shape)}, which does not fit the model's {show(list(leaf.shape))}."
        faults.add(f"{path}.shape", message, method)
    if tensor.dtype not in (None, leaf.dtype):
        faults.add(f"{path}.dtype", f"received {tensor.dtype!r}. The model takes {leaf.dtype!r}.", method)
    if tensor.ragged_rank not in (None, leaf.ragged_rank):
        message = f"received {tensor.ragged_rank}. The model takes a dense tensor."
        faults.add(f"{path}.ragged_rank", message, method)


def _narrows(shape: Sequence[int | None], own: Sequence[int | None]) -> bool:
    return len(shape) == len(own) and all(want is None or want == have for want, have in zip(own, shape, strict=True))


def _fix_batch(path: str, batch: Batch | int | None, leaf: InputLeaf, method: Method, faults: Faults) -> InputLeaf:
    if batch is None or not leaf.shape:
        return leaf
    size = None if isinstance(batch, Batch) else batch
    if leaf.shape[0] is not None and leaf.shape[0] != size:
        message = f"received {batch}, and the model takes {leaf.name} for a batch of {leaf.shape[0]} only."
        faults.add(f"{path}.batch", message, method)
        return leaf
    return replace(leaf, shape=(size, *leaf.shape[1:]))
