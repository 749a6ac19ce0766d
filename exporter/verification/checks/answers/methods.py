"""Whether both models answer a method of their own, which an endpoint uses, and change the same variables by it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import tensorflow as tf

from exporter.artifacts.records import Check, CheckKind
from exporter.models.endpoints.served_tensors import flatten_leaves, flatten_outputs, join_leaf
from exporter.models.predictions import convert_output
from exporter.models.randomness import generators_seeded
from exporter.models.training.steps import preserve_model
from exporter.processes.arrays import Array
from exporter.saving.contents import Omission
from exporter.saving.graph.inputs import Inputs, build_structure
from exporter.text.failures import describe_failure
from exporter.typing.keras import Model
from exporter.verification.comparing.asked import MethodInputs
from exporter.verification.comparing.base import Answer, Ask, CheckType, Comparison, Effect, Message
from exporter.verification.comparing.batches import name_batches, read_batches
from exporter.verification.comparing.comparisons import check_variables, find_changed, leave_unproven
from exporter.verification.comparing.facts import describe_variables
from exporter.verification.comparing.reference import Reference


def answer(model: Model, question: Message) -> Message:
    """Calls the method of the loaded model; `has` says whether it has one, `variables` what they are afterwards."""
    asked = question.facts
    takes = Inputs.from_json(asked["takes"])
    [arrays] = read_batches(question.arrays, _flatten(takes), [0])
    with preserve_model(model), generators_seeded(asked["seed"], asked["operations"]):
        found = _call(model, asked["method"], asked["keywords"], takes, arrays, asked["eager"])
        variables = describe_variables(model)
    return Message({"has": found is not None, "variables": variables}, found or {})


def _flatten(takes: Inputs) -> Inputs:
    """Describes the dense tensors by which those of a method are served."""
    return Inputs(flatten_leaves(takes.leaves), ())


def _call(
    model: Model, method: str, keywords: Sequence[str], specs: Inputs, arrays: Sequence[Array], eager: bool
) -> dict[str, Array] | None:
    """Calls a method of the model's own.

    Args:
        model: The model; whatever a call changes is changed.
        method: Its name.
        keywords: The names of its arguments.
        specs: The tensors that it takes and, in `structure`, what each argument is made of.
        arrays: One array per dense tensor by which those of `specs` are served.
        eager: Whether Python runs it, operation by operation.

    Returns:
        What was returned, by `0/` and the name that an endpoint gives it; None where the model has no such method.
    """
    function = getattr(model, method, None)
    if not callable(function):
        return None
    flat = flatten_leaves(specs.leaves)
    served = {leaf.name: tf.constant(array, leaf.dtype) for leaf, array in zip(flat, arrays, strict=True)}
    tensors = [join_leaf(leaf, served) for leaf in specs.leaves]
    arguments = {key: build_structure(part, tensors) for key, part in zip(keywords, specs.structure, strict=True)}
    found = function(**arguments) if eager else tf.function(function, autograph=False)(**arguments)
    returned = {} if found is None else flatten_outputs({"output": found})
    return {f"0/{name}": convert_output(value) for name, value in returned.items()}


@dataclass(frozen=True, slots=True)
class _Called:
    """What a method did: what it returned, and what it made of the variables; see `describe_variables`."""

    returned: dict[str, Array]
    variables: dict[str, Any]


class _Method(Comparison):
    def __init__(self, reference: Reference, inputs: MethodInputs) -> None:
        self._reference = reference
        self._inputs = inputs
        self._name = f"method {inputs.method}"
        self._expected: _Called | Omission | None = None

    def ask(self) -> Message:
        inputs = self._inputs
        facts = {"method": inputs.method, "keywords": inputs.keywords, "takes": inputs.takes.to_json()}
        arrays = name_batches(_flatten(inputs.takes), {0: inputs.arrays})
        return Message({**facts, **self._reference.describe_run()}, arrays)

    def expect(self) -> None:
        try:
            self._expected = self._call()
        except Exception as error:  # the method may be anybody's code
            why = f"the model itself cannot do it on this batch: {describe_failure(error)}"
            self._expected = leave_unproven(self._name, why)

    def _call(self, seed: int | None = None) -> _Called:
        reference, inputs = self._reference, self._inputs
        with reference.kept(), reference.seeded(seed):
            found = _call(
                reference.model, inputs.method, inputs.keywords, inputs.takes, inputs.arrays, reference.is_eager
            )
            return _Called(found or {}, describe_variables(reference.model))

    def compare(self, answer: Answer, ask: Ask) -> Iterator[Check | Omission]:
        expected, method, name = self._expected, self._inputs.method, self._name
        if isinstance(expected, Omission):
            yield expected
        elif answer.error:
            yield Check(
                name, False, f"the loaded model's method `{method}` fails", answer.error, kind=CheckKind.OUTPUTS
            )
        elif not answer.facts["has"]:
            why = "the model that is loaded has no such method: its code is not available there; the endpoint holds it"
            yield Omission(name, why)
        elif expected is not None:
            yield self._judge(expected, answer)

    def _judge(self, expected: _Called, answer: Answer) -> Check | Omission:
        reference, name = self._reference, self._name
        again = cache(lambda: self._call(reference.seed + 1))
        detail = f"model.{self._inputs.method}, {reference.way}"
        received = answer.facts["variables"]
        outcome = reference.judge(name, answer.read_arrays(), expected.returned, detail, lambda: again().returned)
        changed = find_changed(expected.variables, received)
        if changed and isinstance(outcome, Check) and outcome.passed:
            steady = [path for path in changed if again().variables.get(path) == expected.variables[path]]
            if steady:
                return check_variables(name, steady, expected.variables, received, {}, CheckKind.OUTPUTS)
        return outcome


def plan(reference: Reference) -> list[Comparison]:
    """Compares each method that an endpoint uses."""
    methods = reference.inputs.methods if reference.has_endpoints else ()
    return [_Method(reference, inputs) for inputs in methods]


CHECK = CheckType(name="methods", plan=plan, answer=answer, effect=Effect.CALLS)
