"""The methods that endpoints call: the model's inference, its training steps, and those of its own."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from inspect import Parameter, signature
from typing import Any

import keras
import tensorflow as tf

from exporter.config.checking import suggest
from exporter.errors import Fault, UsageError
from exporter.models.endpoints.declarations import EVALUATE, PREDICT, TRAIN, DeclaredInputs
from exporter.models.training.step_data import describe_step_data
from exporter.saving.graph.inputs import (
    InputLeaf,
    Inputs,
    build_structure,
    describe_inputs,
    extract_leaves,
    to_argument_name,
)
from exporter.saving.graph.observations import observe_data
from exporter.saving.graph.signatures import find_output_names, make_call, name_outputs, undo_call_effects
from exporter.text.showing import show
from exporter.typing.keras import Model
from exporter.typing.structures import Nested
from exporter.typing.tensorflow import Step, Tensor, TensorSpec, TFFunction

STEPS = {TRAIN: "train_step", EVALUATE: "test_step"}
# Of Keras's own methods, those that an endpoint may call by their names, also where a class overrides them.
COMPUTING = ("call", "predict_step", "train_step", "test_step", "reset_metrics")
_FUNCTIONS = (type(lambda: None), tf.types.experimental.PolymorphicFunction)


@dataclass(frozen=True, slots=True)
class Method:
    """What an endpoint calls.

    Attributes:
        inputs: What it takes.
        function: A function of the leaves of `inputs`; what it calls is traced once for all endpoints.
        name_outputs: Names what it returns.
        output_names: The names of what it returns, where they are known before it is traced.
        aside: The names of the leaves that are no inputs of the model: targets and sample weights.
        steps: The traced steps that it uses, by the names that `saving.graph.functions` knows them by: functions of
            the data.
        keywords: The names of the arguments of a method of the model's own, in the order of `inputs.structure`.
    """

    inputs: Inputs
    function: Any
    name_outputs: Callable[[Nested[Tensor]], dict[str, Tensor]]
    output_names: tuple[str, ...] = ()
    aside: frozenset[str] = frozenset()
    steps: Mapping[str, Step] = field(default_factory=dict)
    keywords: tuple[str, ...] = ()


class Faults:
    """What is wrong with declarations, and the methods whose own signatures help to understand it."""

    def __init__(self) -> None:
        self.found: list[Fault] = []
        self._about: list[Method] = []

    def add(self, path: str, message: str, method: Method | None = None) -> None:
        """Adds a fault.

        Args:
            path: The dotted config path.
            message: What was received, what is allowed, and how to fix it.
            method: What the fault is about.
        """
        self.found.append(Fault(path, message))
        if method is not None:
            self._about.append(method)

    def raise_all(self) -> None:
        """Raises what was found, with the signatures of the methods that it is about."""
        if not self.found:
            return
        faults = list(self.found)
        own = list(dict.fromkeys(_describe_method(method) for method in self._about))
        if own:
            last = faults[-1]
            faults[-1] = replace(last, message=f"{last.message.rstrip('.')}. The model's own: {'; '.join(own)}.")
        raise UsageError(faults)


class Methods:
    """The methods of one model, each traced once for all endpoints that call it with the same shapes and dtypes."""

    def __init__(self, model: Model, faults: Faults) -> None:
        self._model = model
        self._faults = faults
        self._shared: dict[Hashable, Method] = {}

    def find(self, path: str, name: str, given: DeclaredInputs) -> Method | None:
        """Finds what an endpoint calls; adds a fault and returns None where that is not there.

        Args:
            path: The dotted path of the declaration.
            name: Of the method.
            given: The declared inputs.
        """
        if name == PREDICT:
            return self._share((PREDICT,), self._make_predict)
        if name in STEPS:
            if not self._model.compiled:
                self._faults.add(
                    f"{path}.method",
                    f"received {name!r}, and the model is not compiled: it has no loss and no optimizer. Compile it "
                    "where it is built, such as with `model.compile`, or leave the endpoint out.",
                )
                return None
            weighted = "sample_weight" in given.structures
            return self._share((name, weighted), lambda: self._make_step(name, weighted))
        found = getattr(self._model, name, None)
        if not callable(found) or not is_allowed(self._model, name):
            known = [PREDICT, TRAIN, EVALUATE, *COMPUTING, *_list_methods(self._model)]
            listed = f"{', '.join(known)}{suggest(name, known) or '.'}"
            reason = "which is no method that computes" if callable(found) else "and the model has no such method"
            self._faults.add(f"{path}.method", f"received {name!r}, {reason}. Allowed: {listed}")
            return None
        return self._make_own(path, name, found, given)

    def _share(self, key: Hashable, make: Callable[[], Method]) -> Method:
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def _make_predict(self) -> Method:
        model = self._model
        inputs = describe_inputs(model)
        function = tf.function(make_call(model, inputs), autograph=False)
        return Method(inputs, function, lambda outputs: name_outputs(model, outputs), tuple(find_output_names(model)))

    def _make_step(self, name: str, weighted: bool) -> Method:
        model = self._model
        predict = self._share((PREDICT,), self._make_predict)

        def find_outputs() -> Nested[Tensor]:
            with undo_call_effects(model):
                specs = [leaf.to_spec() for leaf in predict.inputs.leaves]
                outputs: Nested[Tensor] = predict.function.get_concrete_function(*specs).structured_outputs
                return outputs

        inputs = describe_step_data(model, predict.inputs, find_outputs, weighted)
        step = getattr(model, STEPS[name])

        def run(*leaves: Tensor) -> Nested[Tensor]:
            parts = [build_structure(structure, leaves) for structure in inputs.structure]
            data = parts[0] if len(parts) == 1 and not isinstance(parts[0], (list, tuple)) else tuple(parts)
            logs: Nested[Tensor] = step(data)
            return logs

        # The first part of the data is what the model takes.
        count = len(_list_positions(inputs.structure[0]))
        aside = frozenset(leaf.name for leaf in inputs.leaves[count:])
        anyhow: TFFunction = tf.function(run, autograph=False)
        traced = {STEPS[name].removesuffix("_step"): anyhow}
        size = _find_exact_size(model, inputs)
        function: Callable[..., Nested[Tensor]]
        if size is None:
            function = anyhow
        else:
            specs = [replace(leaf, shape=(size, *leaf.shape[1:])).to_spec() for leaf in inputs.leaves]
            exactly = tf.function(run, input_signature=specs, autograph=False)
            function = _choose_by_size(size, specs, exactly, anyhow)
            traced[f"exact {STEPS[name].removesuffix('_step')}"] = exactly

        def take_data(step: Callable[..., Nested[Tensor]]) -> Step:
            return lambda data: step(*extract_leaves(inputs, data if isinstance(data, tuple) else (data,)))

        # A model that trains with its saved step takes the leaves of the data, and has that step already.
        own = not weighted and not hasattr(model, "saved_data")
        steps = {key: take_data(step) for key, step in traced.items()} if own else {}
        return Method(inputs, function, _name_by_path, (), aside, steps)

    def _make_own(self, path: str, name: str, function: Callable[..., object], given: DeclaredInputs) -> Method:
        """Reads what a method of the model's own takes: from its input signature, the declaration, or the model."""
        leaves: list[InputLeaf] = []
        arguments: dict[str, Any] = {}

        def add(item: str, shape: Sequence[int | None], dtype: str, ragged_rank: int = 0, sparse: bool = False) -> int:
            leaves.append(InputLeaf(to_argument_name(item), tuple(shape), dtype, sparse, ragged_rank))
            return len(leaves) - 1

        own = getattr(function, "input_signature", None)
        parameters = [
            parameter
            for parameter in signature(getattr(function, "python_function", function)).parameters.values()
            if parameter.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.POSITIONAL_ONLY, Parameter.KEYWORD_ONLY)
        ]
        if hasattr(function, "python_function"):  # of a tf.function, which may count the model itself
            parameters = [parameter for parameter in parameters if parameter.name != "self"]
        if own is not None:
            for parameter, spec in zip(parameters, own, strict=False):
                arguments[parameter.name] = _read_specs(spec, parameter.name, add)
            return self._finish_own(name, function, leaves, arguments)

        required = [parameter for parameter in parameters if parameter.default is Parameter.empty]
        model_inputs = describe_inputs(self._model)
        known = {leaf.name: leaf for leaf in model_inputs.leaves}
        names = {parameter.name for parameter in parameters}
        # One argument that is called like none of the model's inputs takes what the model takes.
        whole = len(required) == len(model_inputs.structure) == 1 and required[0].name not in known
        if whole and not set(given.structures) & names:
            leaves.extend(model_inputs.leaves)
            arguments[required[0].name] = model_inputs.structure[0]
            return self._finish_own(name, function, leaves, arguments)

        for parameter in parameters:
            structure = given.structures.get(parameter.name)
            if structure is None and parameter.default is not Parameter.empty:
                continue
            if structure is None and parameter.name in known:
                leaf = known[parameter.name]
                arguments[parameter.name] = add(leaf.name, leaf.shape, leaf.dtype, sparse=leaf.sparse)
            elif structure is None:
                self._faults.add(
                    f"{path}.inputs.{parameter.name}",
                    f"missing: the method {name!r} takes it, and its shape and dtype are not known. Declare them, such "
                    f"as {parameter.name}: {{shape: [null, 4], dtype: float32}}.",
                )
            else:
                arguments[parameter.name] = self._read_declared(path, given, structure, add, known)
        return self._finish_own(name, function, leaves, arguments)

    def _read_declared(
        self, path: str, given: DeclaredInputs, structure: Any, add: Callable[..., int], known: Mapping[str, InputLeaf]
    ) -> Any:
        if isinstance(structure, int):
            item = given.tensors[structure]
            leaf = known.get(item.name)
            shape = item.tensor.shape if item.tensor.shape is not None else None if leaf is None else leaf.shape
            dtype = item.tensor.dtype or (self._model.input_dtype if leaf is None else leaf.dtype)
            if shape is None:
                self._faults.add(f"{item.path}.shape", "missing; the model has no input of this name that tells it")
                shape = (None,)
            return add(item.name, shape, dtype, item.tensor.ragged_rank or 0)
        [(kind, items)] = structure.items()
        if kind == "dict":
            return {kind: {key: self._read_declared(path, given, part, add, known) for key, part in items.items()}}
        return {kind: [self._read_declared(path, given, part, add, known) for part in items]}

    def _finish_own(
        self, name: str, function: Callable[..., Any], leaves: Sequence[InputLeaf], arguments: Mapping[str, Any]
    ) -> Method:
        inputs = Inputs(tuple(leaves), tuple(arguments.values()))
        keywords = tuple(arguments)

        def make() -> TFFunction:
            def run(*tensors: Tensor) -> Nested[Tensor]:
                outputs: Nested[Tensor] = function(
                    **{key: build_structure(arguments[key], tensors) for key in keywords}
                )
                return outputs

            traced: TFFunction = tf.function(run, autograph=False)
            return traced

        # Endpoints share the method where its arguments have the same structure.
        shared = self._share(("own", name, repr(arguments)), lambda: Method(inputs, make(), _name_by_path))
        return replace(shared, inputs=inputs, keywords=keywords)


def _find_exact_size(model: Model, inputs: Inputs) -> int | None:
    """Finds the size of the batches with which a model was trained, where they all had one.

    TensorFlow's optimizer may compute the last bit otherwise where it knows the size of the batch, as `fit` knows it
    where that divides the data evenly. So such a batch is given to a trace of its own.
    """
    seen = tf.nest.flatten(getattr(model, "saved_exact_data", None) or observe_data(model, free_batch=False))
    sizes = {spec.shape[0] for spec in seen if isinstance(spec, tf.TensorSpec) and spec.shape.rank}
    if len(sizes) != 1 or any(leaf.sparse or not leaf.shape for leaf in inputs.leaves):
        return None
    size: int | None = sizes.pop()
    return size


def _choose_by_size(
    size: int,
    specs: Sequence[TensorSpec],
    exactly: Callable[..., Nested[Tensor]],
    anyhow: Callable[..., Nested[Tensor]],
) -> Callable[..., Nested[Tensor]]:
    """Returns a function that calls one of two, by the size of the batch that it is given."""

    def run(*leaves: Tensor) -> Nested[Tensor]:
        def run_exactly() -> Nested[Tensor]:
            # Where TensorFlow can follow a tensor into this branch, it takes the size for known outside of it as well,
            # and always takes the branch; it cannot follow it through a slice.
            outputs: Nested[Tensor] = exactly(
                *(tf.ensure_shape(leaf[:size], spec.shape) for leaf, spec in zip(leaves, specs, strict=True))
            )
            return outputs

        if leaves[0].shape[0] is not None:
            return run_exactly() if leaves[0].shape[0] == size else anyhow(*leaves)
        fits = tf.reduce_all([tf.shape(leaf)[0] == size for leaf in leaves])
        outputs: Nested[Tensor] = tf.cond(fits, run_exactly, lambda: anyhow(*leaves))
        return outputs

    return run


def is_allowed(model: Model, name: str) -> bool:
    """Whether an endpoint may call a method: it is not Keras's own, which read, write and change, or it computes.

    Args:
        model: The model.
        name: Of the method.
    """
    if name in COMPUTING:
        return True
    return not name.startswith("_") and name not in _list_kerass_own()


@cache
def _list_kerass_own() -> frozenset[str]:
    """Lists what any model has: apart from what computes, it reads and writes files, or changes the model."""
    return frozenset(name for model in (keras.Model(name="any"), keras.Sequential(name="any")) for name in dir(model))


def _list_methods(model: Model) -> list[str]:
    """Lists the methods that an endpoint may call: those that a class adds to Keras's own, and those that compute."""
    names: dict[str, None] = {}
    for owner in type(model).__mro__:
        if owner.__module__.partition(".")[0] == "keras":
            break
        names.update((name, None) for name, value in vars(owner).items() if callable(value))
    names.update((name, None) for name, value in vars(model).items() if isinstance(value, _FUNCTIONS))
    return [name for name in names if is_allowed(model, name) and name not in COMPUTING]


def _list_positions(structure: Any) -> list[int]:
    if isinstance(structure, int):
        return [structure]
    [(kind, items)] = structure.items()
    return [position for item in (items.values() if kind == "dict" else items) for position in _list_positions(item)]


def _read_specs(spec: Any, name: str, add: Callable[..., int]) -> Any:
    """Reads the specs of one argument of a `tf.function`."""
    if isinstance(spec, dict):
        return {"dict": {str(key): _read_specs(item, f"{name}_{key}", add) for key, item in spec.items()}}
    if isinstance(spec, tf.TypeSpec):
        shape = spec.shape.as_list() if spec.shape.rank is not None else []
        ragged = spec.ragged_rank if isinstance(spec, tf.RaggedTensorSpec) else 0
        return add(_spec_name(spec) or name, shape, spec.dtype.name, ragged, isinstance(spec, tf.SparseTensorSpec))
    kind = "tuple" if isinstance(spec, tuple) else "list"
    return {kind: [_read_specs(item, f"{name}_{index}", add) for index, item in enumerate(spec)]}


def _spec_name(spec: TensorSpec) -> str:
    """Returns the name that a user gave to a spec, or ''."""
    return getattr(spec, "name", None) or ""


def _describe_method(method: Method) -> str:
    inputs = ", ".join(f"{leaf.name} {leaf.dtype} {show(list(leaf.shape))}" for leaf in method.inputs.leaves)
    outputs = f" -> {', '.join(method.output_names)}" if method.output_names else ""
    return f"{inputs or 'no inputs'}{outputs}"


def _name_by_path(outputs: Nested[Tensor] | None) -> dict[str, Tensor]:
    """Names what a method of the model's own returns: the keys of a dict, else the path in the structure."""
    if outputs is None:
        return {}
    found = {
        "_".join(str(step) for step in path) or "output_0": value
        for path, value in keras.tree.flatten_with_path(outputs)
        if value is not None
    }
    if isinstance(outputs, dict):
        return found
    return {key if key.startswith("output") else f"output_{key}": value for key, value in found.items()}
