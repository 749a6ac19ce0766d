"""Whether each endpoint of a SavedModel answers what the model's own does, and changes the same variables by it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from exporter.artifacts.records import Check, CheckKind
from exporter.processes.arrays import Array
from exporter.saving.contents import Omission
from exporter.saving.graph.inputs import Inputs
from exporter.saving.private_api import is_op_determinism_enabled
from exporter.text.showing import find_first_line
from exporter.verification.comparing.asked import EndpointInputs
from exporter.verification.comparing.base import Answer, Ask, CheckType, Comparison, Effect, Message, Reader
from exporter.verification.comparing.batches import name_batches, read_batches
from exporter.verification.comparing.calls import call_endpoint
from exporter.verification.comparing.comparisons import compare_states, leave_unproven
from exporter.verification.comparing.reference import Reference


def answer(served: Any, question: Message) -> Message:
    """Calls the endpoint; `state` are the variables that it changed: see `call_endpoint`."""
    asked = question.facts
    inputs = Inputs.from_json(asked["inputs"])
    batches = read_batches(question.arrays, inputs, range(asked["count"]))
    answers, state = call_endpoint(served.signatures[asked["endpoint"]], inputs, batches, asked["moves_state"])
    return Message({"state": state}, _name(answers))


def _name(answers: list[dict[str, Array]]) -> dict[str, Array]:
    return {f"{number}/{name}": array for number, answer in enumerate(answers) for name, array in answer.items()}


@dataclass(frozen=True, slots=True)
class _Served:
    """What an endpoint answered, and the variables that it changed."""

    answers: dict[str, Array]
    state: list[str]


class _Endpoint(Comparison):
    def __init__(self, reference: Reference, inputs: EndpointInputs) -> None:
        self._reference = reference
        self._inputs = inputs
        self._expected: _Served | Omission | None = None

    def ask(self) -> Message:
        inputs = self._inputs
        batches = dict(enumerate(inputs.batches))
        facts = {"endpoint": inputs.name, "inputs": inputs.inputs.to_json(), "count": len(batches)}
        return Message({**facts, "moves_state": inputs.moves_state}, name_batches(inputs.inputs, batches))

    def expect(self) -> None:
        try:
            self._expected = self._call()
        except tf.errors.UnimplementedError as error:
            if not is_op_determinism_enabled():
                raise
            why = f"TensorFlow has no deterministic version of an operation in it: {find_first_line(error)}"
            self._expected = self._leave_out(why)

    def _call(self) -> _Served:
        inputs = self._inputs
        if inputs.function is None:
            return _Served(_name([self._reference.inputs.predictor(batch) for batch in inputs.batches]), [])
        answers, state = call_endpoint(inputs.function, inputs.inputs, inputs.batches, inputs.moves_state)
        return _Served(_name(answers), state)

    def _leave_out(self, why: str) -> Omission:
        return leave_unproven(f"endpoint {self._inputs.name}", why)

    def compare(self, answer: Answer, ask: Ask) -> Iterator[Check | Omission]:
        if isinstance(self._expected, Omission):
            yield self._expected
        elif answer.error:
            yield Check(self._inputs.name, False, "the endpoint cannot be called", answer.error, kind=CheckKind.OUTPUTS)
        elif self._expected is not None:
            yield self._judge(self._expected, answer)

    def _judge(self, expected: _Served, answer: Answer) -> Check | Omission:
        name, origin = self._inputs.name, "endpoint, tf.saved_model.load"
        outcome = self._reference.judge(
            name, answer.read_arrays(), expected.answers, origin, lambda: self._call().answers
        )
        if not isinstance(outcome, Check) or not outcome.passed or not self._inputs.moves_state:
            return outcome
        check = compare_states(outcome, expected.state, answer.facts["state"])
        if check.passed or self._call().state == expected.state:
            return check
        why = "called twice from the same state, it changes the state differently, which leaves nothing to compare with"
        return self._leave_out(f"{why}; the artifact's: {check.figure}")


class _Unasked(Comparison):
    """An endpoint of which no example can be made."""

    def __init__(self, inputs: EndpointInputs) -> None:
        self._inputs = inputs

    def compare(self, answer: Answer, ask: Ask) -> Iterator[Check | Omission]:
        yield leave_unproven(f"endpoint {self._inputs.name}", self._inputs.why_none)


def plan(reference: Reference) -> list[Comparison]:
    """Compares each endpoint; first it is said which cannot be asked."""
    inputs = reference.inputs.endpoints if reference.has_endpoints else ()
    unasked = [_Unasked(each) for each in inputs if not each.batches]
    return [*unasked, *(_Endpoint(reference, each) for each in inputs if each.batches)]


CHECK = CheckType(name="endpoints", plan=plan, answer=answer, reader=Reader.TENSORFLOW, effect=Effect.CALLS)
