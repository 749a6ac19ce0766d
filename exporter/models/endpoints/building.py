"""The endpoints that a recipe declares, as traced functions of flat tensors by name.

An endpoint is a method of the model with steps before and after it. The method is traced once for all endpoints that
call it with tensors of the same shapes and dtypes; one of a model with lookup tables is traced in each of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from exporter.config import Batch, OptionsConfig, SignatureConfig, VariablePolicy
from exporter.errors import ModelError
from exporter.models.endpoints.declarations import read_inputs
from exporter.models.endpoints.inputs import resolve_inputs
from exporter.models.endpoints.methods import STEPS, Faults, Method, Methods
from exporter.models.endpoints.pipelines import (
    ByName,
    Pipeline,
    StepError,
    build_pipeline,
    find_first,
    make_examples,
    run_pipeline,
)
from exporter.models.endpoints.served_tensors import flatten_leaf, flatten_leaves, flatten_outputs, join_leaf
from exporter.models.training.steps import preserve_model
from exporter.processes.arrays import Array
from exporter.saving.formats.saved_model.save_options import keeps_replicas
from exporter.saving.graph.inputs import InputLeaf, Inputs
from exporter.saving.graph.signatures import holds_tables, kept_to_its_weights, undo_call_effects
from exporter.saving.private_api import ResourceTracker, resource_tracker_scope, saving_context
from exporter.saving.state.replicas import on_one_device
from exporter.text.failures import describe_failure
from exporter.text.showing import show
from exporter.typing.keras import Model
from exporter.typing.structures import Nested
from exporter.typing.tensorflow import Step, Tensor


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
        training: The steps of training that it uses, for `plan_save`.
        keywords: The names of the arguments, in the order of `takes.structure`, where the method is the model's own.
    """

    name: str
    method: str
    function: Any
    inputs: Inputs
    tensors: tuple[InputLeaf, ...]
    own: frozenset[str]
    preprocess: Pipeline | None
    takes: Inputs
    resources: tuple[object, ...]
    training: Mapping[str, Step] = field(default_factory=dict)
    keywords: tuple[str, ...] = ()

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
class _Draft:
    """An endpoint before it is traced."""

    name: str
    declared: SignatureConfig
    method: Method
    tensors: tuple[InputLeaf, ...]
    own: frozenset[str]
    preprocess: Pipeline | None
    postprocess: Pipeline | None


@contextmanager
def kept_for_endpoints(model: Model, signatures: Mapping[str, SignatureConfig]) -> Iterator[None]:
    """Puts back what tracing a training step builds in a model: its optimizer, its metrics.

    Args:
        model: A built model.
        signatures: The declarations.
    """
    if any(declared.method in STEPS for declared in signatures.values()):
        with preserve_model(model):
            yield
    else:
        yield


def build_endpoints(
    model: Model, signatures: Mapping[str, SignatureConfig], options: OptionsConfig | None = None
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
    builder.faults.raise_all()
    # TensorFlow keeps traces for saving apart from others: made here, they are the ones that it finds when it saves.
    policy = None if options is None else options.experimental_variable_policy
    known = tf.saved_model.SaveOptions(
        experimental_variable_policy=None if policy in (None, VariablePolicy.NONE) else str(policy)
    )
    one_device = nullcontext() if keeps_replicas(known) else on_one_device(model)
    with saving_context(known), undo_call_effects(model), one_device:
        share = not holds_tables(model)
        built = [builder.trace(draft, share) for draft in drafts if draft is not None]
    builder.faults.raise_all()
    return {endpoint.name: endpoint for endpoint in built if endpoint is not None}


class _Builder:
    """Makes the endpoints of one model, and collects what is wrong with their declarations."""

    def __init__(self, model: Model) -> None:
        self.faults = Faults()
        self._model = model
        self._methods = Methods(model, self.faults)

    # ---- before anything is traced

    def draft(self, name: str, declared: SignatureConfig) -> _Draft | None:
        """Checks a declaration against the model; returns None where the method does not exist."""
        path = f"signatures.{name}"
        preprocess = build_pipeline(declared.preprocess, f"{path}.preprocess", self.faults.found)
        postprocess = build_pipeline(declared.postprocess, f"{path}.postprocess", self.faults.found)
        given = read_inputs(path, declared, [])
        method = self._methods.find(path, declared.method, given)
        if method is None:
            return None
        tensors, own = resolve_inputs(path, declared, given, method, preprocess, self.faults)
        self._check_names(path, tensors)
        if method.output_names:
            self._check_outputs(path, declared, method.output_names, method)
        return _Draft(name, declared, method, tensors, own, preprocess, postprocess)

    def _check_names(self, path: str, tensors: Sequence[InputLeaf]) -> None:
        seen: dict[str, str] = {}
        for tensor in tensors:
            for leaf in flatten_leaf(tensor):
                if leaf.name in seen:
                    self.faults.add(
                        f"{path}.inputs",
                        f"{tensor.name!r} and {seen[leaf.name]!r} would both be served as {leaf.name!r}; rename one.",
                    )
                seen[leaf.name] = tensor.name

    def _check_outputs(self, path: str, declared: SignatureConfig, known: Sequence[str], method: Method) -> None:
        wanted = declared.outputs
        for output in wanted.values() if isinstance(wanted, Mapping) else wanted:
            if output not in known:
                message = f"the model has no output {output!r}. Its outputs: {', '.join(known) or 'none'}."
                self.faults.add(f"{path}.outputs", message, method)

    # ---- tracing

    def trace(self, draft: _Draft, share: bool) -> BuiltEndpoint | None:
        """Traces an endpoint, and its method apart if endpoints are to share it; None where that is not possible."""
        call = draft.method.function
        if not share:
            call = getattr(call, "python_function", call)
        flat = flatten_leaves(draft.tensors)
        count = len(self.faults.found)

        def serve(**served: Tensor) -> dict[str, Tensor]:
            tensors = {tensor.name: join_leaf(tensor, served) for tensor in draft.tensors}
            arguments = self._prepare(draft, tensors)
            answers = self._select(draft, draft.method.name_outputs(call(*arguments)))
            # Only what has an output can be run where the graph itself is, so that a method without one gives one.
            return flatten_outputs(run_pipeline(draft.postprocess, answers or {"done": tf.constant(True)}))

        path = f"signatures.{draft.name}"
        tracker = ResourceTracker()
        try:
            with resource_tracker_scope(tracker), kept_to_its_weights(self._model):
                function = tf.function(serve, autograph=False)
                concrete = function.get_concrete_function(**{leaf.name: leaf.to_spec() for leaf in flat})
        except StepError as error:
            if len(self.faults.found) == count:
                self.faults.found.append(error.fault)
            return None
        except ModelError:
            raise
        except Exception as error:  # the method may be anybody's code
            name, text = draft.declared.method, describe_failure(error).rstrip(".")
            step = f"{name}_step"
            # As with Keras's own methods, what can be traced is the step, and Python code runs around it.
            hint = f". Name its step instead: method: {step}" if callable(getattr(self._model, step, None)) else ""
            self.faults.add(path, f"{name!r} cannot be traced: {text}{hint}", draft.method)
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
            draft.method.steps if share else {},
            draft.method.keywords,
        )

    def _prepare(self, draft: _Draft, tensors: Mapping[str, Tensor]) -> list[Nested[Tensor]]:
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

    def _fit(self, path: str, leaf: InputLeaf, tensor: Nested[Tensor], batch: Batch | int | None) -> Nested[Tensor]:
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
        known = tensor.shape.merge_with(shape) == tensor.shape
        fixed: Tensor = tensor if known else tf.ensure_shape(tensor, shape)
        return fixed

    def _select(self, draft: _Draft, answers: Mapping[str, Nested[Tensor]]) -> Mapping[str, Nested[Tensor]]:
        path, wanted = f"signatures.{draft.name}", draft.declared.outputs
        if not wanted:
            return answers
        count = len(self.faults.found)
        self._check_outputs(path, draft.declared, list(answers), draft.method)
        if len(self.faults.found) > count:
            raise StepError(path, "")
        if isinstance(wanted, Mapping):
            return {new: answers[old] for new, old in wanted.items()}
        return {name: answers[name] for name in wanted}
