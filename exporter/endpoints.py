"""The endpoints that a recipe declares, as traced functions of flat tensors by name.

An endpoint is a method of the model with steps before and after it. The method is traced once for all endpoints that
call it with tensors of the same shapes and dtypes; one of a model with lookup tables is traced in each of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.saved_model import save_context
from tensorflow.python.trackable.resource import ResourceTracker, resource_tracker_scope

from exporter._arrays import Array
from exporter._declarations import DeclaredInputs, name_components, read_inputs
from exporter._pipelines import (
    ByName,
    Pipeline,
    Step,
    StepError,
    build_pipeline,
    find_first,
    make_examples,
    run_pipeline,
)
from exporter._schema import show, suggest
from exporter.config import Batch, OptionsConfig, SignatureConfig, VariablePolicy
from exporter.errors import Fault, UsageError
from exporter.saving.signatures import (
    InputLeaf,
    Inputs,
    build_structure,
    calls_undone,
    describe_inputs,
    find_output_names,
    holds_tables,
    make_call,
    name_outputs,
    observe_data,
    to_argument_name,
)
from exporter.training_data import describe_step_data
from exporter.training_steps import everything_kept

PREDICT, TRAIN, EVALUATE = "predict", "train", "evaluate"
_STEPS = {TRAIN: "train_step", EVALUATE: "test_step"}


@dataclass(frozen=True, slots=True)
class BuiltEndpoint:
    """One endpoint, traced.

    Attributes:
        name: Of the endpoint.
        method: What it calls: `predict`, `train`, `evaluate`, or the name of a method.
        function: The concrete function: it takes the leaves of `inputs` by keyword and returns a dict of tensors.
        inputs: What it takes, as it is served: every leaf is one dense tensor.
        tensors: What these make: the tensors that the steps and the method see, some of them ragged or sparse.
        own: The names of those that reach the method as they are.
        preprocess: The steps before the method.
        takes: What the method takes.
        resources: Tables that the steps made; they live as long as somebody holds them.
    """

    name: str
    method: str
    function: Any
    inputs: Inputs
    tensors: tuple[InputLeaf, ...]
    own: frozenset[str]
    preprocess: Pipeline | None
    takes: Inputs
    resources: tuple[Any, ...]

    def make_examples(self, generator: np.random.Generator, batch_size: int) -> dict[str, Array]:
        """Makes examples of the tensors whose kind the first step knows, by name.

        Args:
            generator: What is drawn comes from it.
            batch_size: How many examples.
        """
        made = make_examples(self.preprocess, generator, batch_size)
        if made is None:
            return {}
        if isinstance(made, dict):
            return made
        first = next(leaf for leaf in self.tensors if leaf.name not in self.own)
        return {first.name: made}


@dataclass(slots=True)
class _Method:
    """What an endpoint calls.

    Attributes:
        inputs: What it takes.
        function: A function of the leaves of `inputs`; what it calls is traced once for all endpoints.
        name_outputs: Names what it returns.
        output_names: The names of what it returns, where they are known before it is traced.
        aside: The names of the leaves that are no inputs of the model: targets and sample weights.
    """

    inputs: Inputs
    function: Any
    name_outputs: Callable[[Any], dict[str, Any]]
    output_names: tuple[str, ...] = ()
    aside: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Draft:
    """An endpoint before it is traced."""

    name: str
    declared: SignatureConfig
    method: _Method
    tensors: tuple[InputLeaf, ...]
    own: frozenset[str]
    preprocess: Pipeline | None
    postprocess: Pipeline | None


@contextmanager
def kept_for_endpoints(model: keras.Model, signatures: Mapping[str, SignatureConfig]) -> Iterator[None]:
    """Puts back what tracing a training step builds in a model: its optimizer, its metrics.

    Args:
        model: A built model.
        signatures: The declarations.
    """
    if any(declared.method in _STEPS for declared in signatures.values()):
        with everything_kept(model):
            yield
    else:
        yield


def build_endpoints(
    model: keras.Model, signatures: Mapping[str, SignatureConfig], options: OptionsConfig | None = None
) -> dict[str, BuiltEndpoint]:
    """Makes the endpoints that a recipe declares.

    Args:
        model: The built model.
        signatures: Name -> declaration.
        options: With which they will be saved.

    Returns:
        Name -> endpoint; empty where nothing is declared, which gives `serving_default` with the model's own names.

    Raises:
        UsageError: A declaration does not fit the model; every fault is named.
    """
    if not signatures:
        return {}
    builder = _Builder(model)
    drafts = [builder.draft(name, declared) for name, declared in signatures.items()]
    builder.raise_faults()
    # TensorFlow keeps traces for saving apart from others: made here, they are the ones that it finds when it saves.
    policy = None if options is None else options.experimental_variable_policy
    known = tf.saved_model.SaveOptions(
        experimental_variable_policy=None if policy in (None, VariablePolicy.NONE) else str(policy)
    )
    with save_context.save_context(known), calls_undone(model):
        share = not holds_tables(model)
        built = [builder.trace(draft, share) for draft in drafts if draft is not None]
    builder.raise_faults()
    return {endpoint.name: endpoint for endpoint in built if endpoint is not None}


class _Builder:
    """Makes the endpoints of one model, and collects what is wrong with their declarations."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._faults: list[Fault] = []
        self._methods: dict[Any, _Method] = {}
        self._unfit: list[_Method] = []  # those whose own signature helps to understand a fault

    def raise_faults(self) -> None:
        """Raises what was found, with the signatures of the methods that the faults are about."""
        if not self._faults:
            return
        faults = list(self._faults)
        own = list(dict.fromkeys(_describe_method(method) for method in self._unfit))
        if own:
            last = faults[-1]
            faults[-1] = replace(last, message=f"{last.message.rstrip('.')}. The model's own: {'; '.join(own)}.")
        raise UsageError(faults)

    def _add(self, path: str, message: str, method: _Method | None = None) -> None:
        self._faults.append(Fault(path, message))
        if method is not None:
            self._unfit.append(method)

    # ---- before anything is traced

    def draft(self, name: str, declared: SignatureConfig) -> _Draft | None:
        """Checks a declaration against the model; returns None where the method does not exist."""
        path = f"signatures.{name}"
        preprocess = build_pipeline(declared.preprocess, f"{path}.preprocess", self._faults)
        postprocess = build_pipeline(declared.postprocess, f"{path}.postprocess", self._faults)
        given = read_inputs(path, declared, [])
        method = self._find_method(path, declared, given, preprocess)
        if method is None:
            return None
        tensors, own = self._resolve_inputs(path, declared, given, method, preprocess)
        self._check_names(path, tensors)
        if postprocess is None and method.output_names:
            self._check_outputs(path, declared, method.output_names, method)
        return _Draft(name, declared, method, tensors, own, preprocess, postprocess)

    def _find_method(
        self, path: str, declared: SignatureConfig, given: DeclaredInputs, preprocess: Pipeline | None
    ) -> _Method | None:
        name = declared.method
        if name == PREDICT:
            return self._share((PREDICT,), self._make_predict)
        if name in _STEPS:
            if not self._model.compiled:
                self._add(
                    f"{path}.method",
                    f"received {name!r}, and the model is not compiled: it has no loss and no optimizer. Compile it "
                    "where it is built, such as with `model.compile`, or leave the endpoint out.",
                )
                return None
            weighted = "sample_weight" in given.structures
            return self._share((name, weighted), lambda: self._make_step(name, weighted))
        found = getattr(self._model, name, None)
        if not callable(found):
            known = [PREDICT, TRAIN, EVALUATE, *_list_methods(self._model)]
            listed = f"{', '.join(known)}{suggest(name, known) or '.'}"
            self._add(f"{path}.method", f"received {name!r}, and the model has no such method. Allowed: {listed}")
            return None
        return self._make_own(path, name, found, given, preprocess is not None)

    def _share(self, key: Any, make: Callable[[], _Method]) -> _Method:
        if key not in self._methods:
            self._methods[key] = make()
        return self._methods[key]

    def _make_predict(self) -> _Method:
        model = self._model
        inputs = describe_inputs(model)
        function = tf.function(make_call(model, inputs), autograph=False)
        return _Method(inputs, function, lambda outputs: name_outputs(model, outputs), tuple(find_output_names(model)))

    def _make_step(self, name: str, weighted: bool) -> _Method:
        model = self._model
        predict = self._share((PREDICT,), self._make_predict)

        def find_outputs() -> Any:
            with calls_undone(model):
                specs = [leaf.to_spec() for leaf in predict.inputs.leaves]
                return predict.function.get_concrete_function(*specs).structured_outputs

        inputs = describe_step_data(model, predict.inputs, find_outputs, weighted)
        step = getattr(model, _STEPS[name])

        def run(*leaves: Any) -> Any:
            parts = [build_structure(structure, leaves) for structure in inputs.structure]
            return step(parts[0] if len(parts) == 1 and not isinstance(parts[0], (list, tuple)) else tuple(parts))

        # The first part of the data is what the model takes.
        count = len(_list_positions(inputs.structure[0]))
        aside = frozenset(leaf.name for leaf in inputs.leaves[count:])
        return _Method(inputs, _make_exact(model, inputs, run), _name_by_path, (), aside)

    def _make_own(
        self, path: str, name: str, function: Callable[..., Any], given: DeclaredInputs, changed: bool
    ) -> _Method | None:
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
                self._add(
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
                self._add(f"{item.path}.shape", "missing; the model has no input of this name that tells it")
                shape = (None,)
            return add(item.name, shape, dtype, item.tensor.ragged_rank or 0)
        [(kind, items)] = structure.items()
        if kind == "dict":
            return {kind: {key: self._read_declared(path, given, part, add, known) for key, part in items.items()}}
        return {kind: [self._read_declared(path, given, part, add, known) for part in items]}

    def _finish_own(
        self, name: str, function: Callable[..., Any], leaves: Sequence[InputLeaf], arguments: Mapping[str, Any]
    ) -> _Method:
        inputs = Inputs(tuple(leaves), tuple(arguments.values()))
        keywords = tuple(arguments)

        def make() -> Any:
            def run(*tensors: Any) -> Any:
                return function(**{key: build_structure(arguments[key], tensors) for key in keywords})

            return tf.function(run, autograph=False)

        # Endpoints share the method where its arguments have the same structure.
        shared = self._share(("own", name, repr(arguments)), lambda: _Method(inputs, make(), _name_by_path))
        return replace(shared, inputs=inputs)

    def _resolve_inputs(
        self,
        path: str,
        declared: SignatureConfig,
        given: DeclaredInputs,
        method: _Method,
        preprocess: Pipeline | None,
    ) -> tuple[tuple[InputLeaf, ...], frozenset[str]]:
        """Decides what an endpoint takes, before it is flattened; also names what reaches the method unchanged."""
        first, _ = find_first(preprocess)
        named = {item.name: item for item in given.tensors}
        leaves = {leaf.name: leaf for leaf in method.inputs.leaves}
        known = dict(leaves)
        provided: set[str] = set()
        changed: set[str] = set()
        if isinstance(first, ByName):
            for key, entry in first.entries.items():
                step, _ = find_first(entry)
                changed.add(key)
                if key in known and step is not None and not isinstance(step, ByName) and step.takes.dtype:
                    known[key] = InputLeaf(key, step.takes.shape, step.takes.dtype)
        elif first is not None:
            provided = _name_given(first)
            inside = {key for key in leaves if key not in method.aside or key in provided}
            others = {key: leaf for key, leaf in leaves.items() if key not in inside}
            new = [key for key in named if key not in leaves]
            if first.takes.dtype and not new:
                name = first.takes.name if not set(named) & inside else next(iter(set(named) & inside))
                known = {name: InputLeaf(name, first.takes.shape, first.takes.dtype), **others}
                changed.add(name)
            elif new:
                takes = first.takes
                for key in new:
                    tensor = named[key].tensor
                    shape = tensor.shape if tensor.shape is not None else takes.shape if takes.dtype else None
                    dtype = tensor.dtype or takes.dtype
                    for part, value in (("shape", shape), ("dtype", dtype)):
                        if not value and value != []:
                            self._add(
                                f"{named[key].path}.{part}", "missing; only the model's own inputs have a default"
                            )
                    others[key] = InputLeaf(
                        key, tuple(shape or ()), dtype or "float32", ragged_rank=tensor.ragged_rank or 0
                    )
                    changed.add(key)
                known = {**{key: leaves[key] for key in named if key in inside}, **others}
            else:
                changed |= inside

        for key, item in named.items():
            if key not in known:
                known_names = ", ".join(known) or "none"
                self._add(item.path, f"the model has no such input. Its inputs: {known_names}.", method)
                continue
            known[key] = self._override(item.path, item.tensor, known[key], key in changed, method)
        tensors = [self._fix_batch(path, declared.batch, leaf, method) for leaf in known.values()]
        order = [key for key in named if key in known]
        ranked = sorted(tensors, key=lambda leaf: order.index(leaf.name) if leaf.name in order else len(order))
        return tuple(ranked), frozenset(leaf.name for leaf in tensors if leaf.name not in changed)

    def _override(self, path: str, tensor: Any, leaf: InputLeaf, changed: bool, method: _Method) -> InputLeaf:
        """Puts what is declared in the place of what is known."""
        ragged = tensor.ragged_rank or leaf.ragged_rank
        if not changed:
            if tensor.shape is not None and not _narrows(tensor.shape, leaf.shape):
                message = f"received {show(tensor.shape)}, which does not fit the model's {show(list(leaf.shape))}."
                self._add(f"{path}.shape", message, method)
            if tensor.dtype not in (None, leaf.dtype):
                self._add(f"{path}.dtype", f"received {tensor.dtype!r}. The model takes {leaf.dtype!r}.", method)
            if ragged != leaf.ragged_rank:
                self._add(f"{path}.ragged_rank", f"received {ragged}. The model takes a dense tensor.", method)
        shape = leaf.shape if tensor.shape is None else tuple(tensor.shape)
        return replace(leaf, shape=shape, dtype=tensor.dtype or leaf.dtype, ragged_rank=ragged)

    def _fix_batch(self, path: str, batch: Batch | int | None, leaf: InputLeaf, method: _Method) -> InputLeaf:
        if batch is None or not leaf.shape:
            return leaf
        size = None if isinstance(batch, Batch) else batch
        if leaf.shape[0] is not None and leaf.shape[0] != size:
            self._add(
                f"{path}.batch",
                f"received {batch}, and the model takes {leaf.name} for a batch of {leaf.shape[0]} only.",
                method,
            )
            return leaf
        return replace(leaf, shape=(size, *leaf.shape[1:]))

    def _check_names(self, path: str, tensors: Sequence[InputLeaf]) -> None:
        seen: dict[str, str] = {}
        for tensor in tensors:
            for leaf in flatten_leaf(tensor):
                if leaf.name in seen:
                    self._add(
                        f"{path}.inputs",
                        f"{tensor.name!r} and {seen[leaf.name]!r} would both be served as {leaf.name!r}; rename one.",
                    )
                seen[leaf.name] = tensor.name

    def _check_outputs(
        self, path: str, declared: SignatureConfig, known: Sequence[str], method: _Method | None = None
    ) -> None:
        wanted = declared.outputs
        for output in wanted.values() if isinstance(wanted, Mapping) else wanted:
            if output not in known:
                whose = "the model has" if method is not None else "there is"
                listed = "Its outputs" if method is not None else "The outputs"
                self._add(
                    f"{path}.outputs", f"{whose} no output {output!r}. {listed}: {', '.join(known) or 'none'}.", method
                )

    # ---- tracing

    def trace(self, draft: _Draft, share: bool) -> BuiltEndpoint | None:
        """Traces an endpoint, and its method apart if endpoints are to share it; None where that is not possible."""
        call = draft.method.function
        if not share:
            call = getattr(call, "python_function", call)
        flat = tuple(leaf for tensor in draft.tensors for leaf in flatten_leaf(tensor))
        count = len(self._faults)

        def serve(**served: Any) -> dict[str, Any]:
            tensors = {tensor.name: _join_leaf(tensor, served) for tensor in draft.tensors}
            arguments = self._prepare(draft, tensors)
            answers = draft.method.name_outputs(call(*arguments))
            # Only what has an output can be run where the graph itself is, so that a method without one gives one.
            results = run_pipeline(draft.postprocess, answers or {"done": tf.constant(True)})
            return self._select(draft, _flatten_outputs(results))

        path = f"signatures.{draft.name}"
        tracker = ResourceTracker()
        try:
            with resource_tracker_scope(tracker):
                function = tf.function(serve, autograph=False)
                concrete = function.get_concrete_function(**{leaf.name: leaf.to_spec() for leaf in flat})
        except StepError as error:
            if len(self._faults) == count:
                self._faults.append(error.fault)
            return None
        except Exception as error:  # the method may be anybody's code
            text = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
            self._add(path, f"{draft.declared.method!r} cannot be traced: {type(error).__name__}: {text}", draft.method)
            return None
        inputs = Inputs(flat, tuple(range(len(flat))))
        return BuiltEndpoint(
            draft.name,
            draft.declared.method,
            concrete,
            inputs,
            draft.tensors,
            draft.own,
            draft.preprocess,
            draft.method.inputs,
            tuple(tracker.resources),
        )

    def _prepare(self, draft: _Draft, tensors: Mapping[str, Any]) -> list[Any]:
        """Runs the steps before the method, and returns its arguments."""
        method, path = draft.method, f"signatures.{draft.name}.preprocess"
        first, _ = find_first(draft.preprocess)
        if draft.preprocess is not None and not isinstance(first, ByName):
            # Steps without a name are for what the model takes, not for its targets.
            aside = {name: tensors[name] for name in tensors if name in method.aside}
            inside = {name: tensor for name, tensor in tensors.items() if name not in aside}
            results = {**aside, **run_pipeline(draft.preprocess, inside)}
            wanted = [leaf.name for leaf in method.inputs.leaves if leaf.name not in aside]
            made = [name for name in results if name not in aside]
            if len(wanted) == len(made) == 1:
                results[wanted[0]] = results.pop(made[0])
        else:
            results = run_pipeline(draft.preprocess, tensors)
        missing = [leaf.name for leaf in method.inputs.leaves if leaf.name not in results]
        unused = [name for name in results if name not in {leaf.name for leaf in method.inputs.leaves}]
        if missing or (unused and draft.preprocess is None):
            expected = ", ".join(leaf.name for leaf in method.inputs.leaves)
            raise StepError(path, f"the steps give {', '.join(results)}. The method takes {expected}.")
        return [self._fit(path, leaf, results[leaf.name], draft.declared.batch) for leaf in method.inputs.leaves]

    def _fit(self, path: str, leaf: InputLeaf, tensor: Any, batch: Batch | int | None) -> Any:
        """Checks that a tensor is what the method takes, and fixes what is known of its shape."""
        dtype, rank = getattr(tensor, "dtype", None), getattr(getattr(tensor, "shape", None), "rank", None)
        if dtype is None or dtype.name != leaf.dtype:
            received = type(tensor).__name__ if dtype is None else dtype.name
            raise StepError(path, f"the steps make {leaf.name} {received}. The method takes {leaf.dtype}.")
        if not isinstance(tensor, tf.Tensor):
            return tensor
        if rank is not None and not tensor.shape.is_compatible_with(leaf.shape):
            made = show(tensor.shape.as_list())
            raise StepError(path, f"the steps make {leaf.name} {made}. The method takes {show(list(leaf.shape))}.")
        shape = leaf.shape if isinstance(batch, Batch) or batch is None or not leaf.shape else (batch, *leaf.shape[1:])
        return tensor if tensor.shape.merge_with(shape) == tensor.shape else tf.ensure_shape(tensor, shape)

    def _select(self, draft: _Draft, results: dict[str, Any]) -> dict[str, Any]:
        path, wanted = f"signatures.{draft.name}", draft.declared.outputs
        if not wanted:
            return results
        count = len(self._faults)
        self._check_outputs(path, draft.declared, list(results), None if draft.postprocess else draft.method)
        if len(self._faults) > count:
            raise StepError(path, "")
        if isinstance(wanted, Mapping):
            return {new: results[old] for new, old in wanted.items()}
        return {name: results[name] for name in wanted}


def _make_exact(model: keras.Model, inputs: Inputs, step: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function of a step that computes like `fit`, to the last bit, for batches as the model was trained with.

    TensorFlow's optimizer may compute the last bit otherwise where it knows the size of the batch, as `fit` knows it
    where that divides the data evenly. So such a batch is given to a trace of its own.
    """
    anyhow: Callable[..., Any] = tf.function(step, autograph=False)
    seen = tf.nest.flatten(getattr(model, "saved_exact_data", None) or observe_data(model, free_batch=False))
    sizes = {spec.shape[0] for spec in seen if isinstance(spec, tf.TensorSpec) and spec.shape.rank}
    if len(sizes) != 1 or None in sizes or any(leaf.sparse or not leaf.shape for leaf in inputs.leaves):
        return anyhow
    [size] = sizes
    specs = [replace(leaf, shape=(size, *leaf.shape[1:])).to_spec() for leaf in inputs.leaves]
    exactly = tf.function(step, input_signature=specs, autograph=False)

    def run(*leaves: Any) -> Any:
        def run_exactly() -> Any:
            # Where TensorFlow can follow a tensor into this branch, it takes the size for known outside of it as well,
            # and always takes the branch; it cannot follow it through a slice.
            return exactly(
                *(tf.ensure_shape(leaf[:size], spec.shape) for leaf, spec in zip(leaves, specs, strict=True))
            )

        if leaves[0].shape[0] is not None:
            return run_exactly() if leaves[0].shape[0] == size else anyhow(*leaves)
        fits = tf.reduce_all([tf.shape(leaf)[0] == size for leaf in leaves])
        return tf.cond(fits, run_exactly, lambda: anyhow(*leaves))

    return run


def _name_given(step: Step) -> set[str]:
    """Returns the names of the tensors that a step makes, where that is known."""
    if step.takes.gives is None:
        return set()
    try:
        return set(step.takes.gives(**step.arguments))
    except TypeError:  # arguments that are missing or wrong are a fault of their own
        return set()


def _narrows(shape: Sequence[int | None], own: Sequence[int | None]) -> bool:
    return len(shape) == len(own) and all(want is None or want == have for want, have in zip(own, shape, strict=True))


def _list_methods(model: keras.Model) -> list[str]:
    """Lists the public methods that a user's own class adds to those of Keras."""
    names: dict[str, None] = {}
    for owner in type(model).__mro__:
        if owner.__module__.partition(".")[0] == "keras":
            break
        names.update(
            (name, None) for name, value in vars(owner).items() if callable(value) and not name.startswith("_")
        )
    return [name for name in names if not hasattr(keras.Model, name)]


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
        return add(spec_name(spec) or name, shape, spec.dtype.name, ragged, isinstance(spec, tf.SparseTensorSpec))
    kind = "tuple" if isinstance(spec, tuple) else "list"
    return {kind: [_read_specs(item, f"{name}_{index}", add) for index, item in enumerate(spec)]}


def spec_name(spec: Any) -> str:
    """Returns the name that a user gave to a spec, or ''."""
    return getattr(spec, "name", None) or ""


def _describe_method(method: _Method) -> str:
    inputs = ", ".join(f"{leaf.name} {leaf.dtype} {show(list(leaf.shape))}" for leaf in method.inputs.leaves)
    outputs = f" -> {', '.join(method.output_names)}" if method.output_names else ""
    return f"{inputs}{outputs}"


def _name_by_path(outputs: Any) -> dict[str, Any]:
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


def _flatten_outputs(results: Mapping[str, Any]) -> dict[str, Any]:
    """Takes nested, ragged and sparse results apart: an endpoint gives dense tensors by name."""
    flat: dict[str, Any] = {}
    for name, value in results.items():
        if isinstance(value, Mapping):
            flat.update(_flatten_outputs({f"{name}_{key}": item for key, item in value.items()}))
        elif isinstance(value, (list, tuple)):
            flat.update(_flatten_outputs({f"{name}_{index}": item for index, item in enumerate(value)}))
        elif isinstance(value, tf.RaggedTensor):
            parts = [value.flat_values, *value.nested_row_splits]
            flat.update(zip(name_components(name, value.ragged_rank), parts, strict=True))
        elif isinstance(value, tf.SparseTensor):
            flat[f"{name}_indices"] = value.indices
            flat[f"{name}_values"] = value.values
            flat[f"{name}_dense_shape"] = value.dense_shape
        else:
            flat[name] = tf.identity(value)
    return flat


def flatten_leaf(leaf: InputLeaf) -> tuple[InputLeaf, ...]:
    """Returns the dense tensors by which one is served.

    A ragged one is served as its values and its row splits, as `tf.RaggedTensor.from_nested_row_splits` takes them; a
    sparse one as its indices, values and dense shape, as `tf.SparseTensor` takes them.
    """
    if leaf.ragged_rank:
        values, *splits = name_components(leaf.name, leaf.ragged_rank)
        batch = leaf.shape[0]
        rows = [None if batch is None else batch + 1, *[None] * (leaf.ragged_rank - 1)]
        return (
            InputLeaf(values, (None, *leaf.shape[leaf.ragged_rank + 1 :]), leaf.dtype),
            *(InputLeaf(name, (size,), "int64") for name, size in zip(splits, rows, strict=True)),
        )
    if leaf.sparse:
        rank = len(leaf.shape)
        return (
            InputLeaf(f"{leaf.name}_indices", (None, rank), "int64"),
            InputLeaf(f"{leaf.name}_values", (None,), leaf.dtype),
            InputLeaf(f"{leaf.name}_dense_shape", (rank,), "int64"),
        )
    return (leaf,)


def _join_leaf(leaf: InputLeaf, served: Mapping[str, Any]) -> Any:
    """Makes the tensor of those by which it is served."""
    parts = [served[part.name] for part in flatten_leaf(leaf)]
    if leaf.ragged_rank:
        return tf.RaggedTensor.from_nested_row_splits(parts[0], parts[1:])
    if leaf.sparse:
        sparse = tf.SparseTensor(*parts)
        sparse.dense_shape.set_shape([len(leaf.shape)])
        return sparse
    return parts[0]
