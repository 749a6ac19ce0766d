"""The proof: what an artifact answers in other environments is held against what the model answers here.

Another version of TensorFlow computes the same with other kernels, so it rounds elsewhere: differences are told in
units of the model's own rounding, as for converted files. Weights are compared bit by bit.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from exporter.artifacts.records import Check, CheckKind
from exporter.models.predictions import Predictor
from exporter.processes.arrays import Array
from exporter.saving.contents import Omission, OmissionKind
from exporter.saving.formats.format import KERAS
from exporter.saving.graph.signatures import find_captured
from exporter.saving.state.collecting import list_components
from exporter.typing.keras import Model, Variable
from exporter.typing.tensorflow import ConcreteFunction
from exporter.verification.comparing.asked import EndpointInputs, VerificationInputs
from exporter.verification.comparing.calls import variables_kept
from exporter.verification.deployment.comparing import Moved, compare_answers
from exporter.verification.deployment.rounding import Batch, Rounding, ask
from exporter.verification.environments.interpreters import Environment
from exporter.verification.environments.visiting import Question, Visit, visit

_MODEL = "predictions"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and what the answer has to be.

    Attributes:
        name: Of the check.
        question: What is asked there.
        moved: The model's side.
        origin: Where the batches are from, in a few words.
    """

    name: str
    question: Question
    moved: Moved
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What an artifact is, for each reader.

    Attributes:
        model: The model; None where nothing holds it but the artifact.
        asked: By the name of a reader, what is asked.
        left_out: What cannot be asked, and why.
    """

    model: Model | None
    asked: Mapping[str, Sequence[Asked]]
    left_out: Sequence[Omission] = ()


@dataclass(slots=True)
class Found:
    """What the environments made of an artifact."""

    checks: list[Check] = field(default_factory=list)
    left_out: list[Omission] = field(default_factory=list)


def visit_all(
    environments: Sequence[Environment],
    artifact: Path,
    expected: Expected,
    *,
    tags: Sequence[str] = (),
    safe_mode: bool = True,
    objects: Sequence[Mapping[str, object]] = (),
) -> Found:
    """Opens an artifact in each environment, with each reader that is there, and compares.

    Args:
        environments: The environments.
        artifact: Where it is.
        expected: What it should be.
        tags: Of a SavedModel's graph, beside `serve`.
        safe_mode: Whether Keras refuses code inside the artifact.
        objects: What the model needs beside its artifact: see `visit`.

    Returns:
        Every comparison, also those that failed.
    """
    found = Found(left_out=list(expected.left_out))
    for environment in environments:
        for reader in environment.readers:
            asked = expected.asked.get(reader)
            if asked is None:
                continue
            came = visit(
                environment,
                reader,
                artifact,
                [each.question for each in asked],
                tags=tags,
                safe_mode=safe_mode,
                objects=objects,
            )
            # A SavedModel is TensorFlow's first of all: what stock Keras makes of it is an addition.
            decides = reader != KERAS or len(expected.asked) == 1
            place = environment.shown if decides else f"{environment.shown} with stock Keras"
            outcomes = _compare(came, asked, place, expected.model if reader == KERAS else None)
            for outcome in outcomes:
                if isinstance(outcome, Omission):
                    found.left_out.append(outcome)
                elif outcome.passed or decides:
                    found.checks.append(outcome)
                else:
                    why = f"{outcome.figure}; {outcome.detail}"
                    found.left_out.append(Omission(outcome.name, why, kind=OmissionKind.ELSEWHERE))
    return found


def _compare(came: Visit, asked: Sequence[Asked], place: str, model: Model | None) -> Iterator[Check | Omission]:
    if not came.opened:
        absent = came.facts.get("absent")
        lacks = f"; it lacks the model's own code: {', '.join(absent)}" if absent else ""
        yield Check(f"load in {place}", False, "cannot be opened", f"{came.error}{lacks}")
        return
    yield Check(f"load in {place}", True, "opened", came.versions)
    if model is not None:
        yield from _compare_state(came, model, place)
    if came.error:
        yield Check(f"answers in {place}", False, "cannot be computed", came.error, kind=CheckKind.FACTS)
        return
    for each, answers in zip(asked, came.answers, strict=True):
        expected = each.moved.rounding.answers[0]
        if each.name == _MODEL:  # its outputs came in a row
            answers = [dict(zip(expected, _in_a_row(answer), strict=False)) for answer in answers]
        check, _ = compare_answers(f"{each.name} in {place}", each.moved, answers, each.origin)
        # How far versions are apart says nothing of how far the artifact and the model are.
        yield replace(check, difference=None, kind=CheckKind.FACTS)


def _in_a_row(answer: Mapping[str, Array]) -> list[Array]:
    return [answer[str(index)] for index in range(len(answer))]


def _compare_state(came: Visit, model: Model, place: str) -> Iterator[Check | Omission]:
    lost = _find_lost(model.weights, came.facts["weights"])
    count = len(model.weights)
    figure = f"{count:,} bit-equal" if not lost else f"{len(lost):,} of {count:,} differ"
    yield Check(f"weights in {place}", not lost, figure, ", ".join(lost[:3]) or "keras.models.load_model")
    variables = model.optimizer.variables if model.compiled and model.optimizer is not None else []
    lost = _find_lost(variables, came.facts["optimizer"])
    if lost:
        why = f"stock Keras begins it anew there: {len(lost):,} of {len(variables):,} variables are not the saved ones"
        yield Omission(f"optimizer in {place}", why, kind=OmissionKind.ELSEWHERE)
    elif variables:
        yield Check(f"optimizer in {place}", True, f"{len(variables):,} bit-equal", "keras.models.load_model")


def _find_lost(variables: Sequence[Variable], received: Sequence[str]) -> list[str]:
    """Names the variables whose values are nowhere: another version may have them in another order."""
    left = Counter(received)
    lost = []
    for variable in variables:
        digest = _digest(np.asarray(variable.numpy()))
        if left[digest]:
            left[digest] -= 1
        else:
            lost.append(variable.path)
    return lost


def _digest(array: Array) -> str:
    """Says what a variable holds, as `visitor` does."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype.name} {list(array.shape)}\n".encode() + array.tobytes()).hexdigest()


def expect_model(
    model: Model,
    readers: Sequence[str],
    inputs: VerificationInputs,
    *,
    half_unit: float,
    most: float | None,
) -> Expected:
    """Computes what is compared.

    Args:
        model: The model; it is not changed.
        readers: Of the artifact's format.
        inputs: What it and its endpoints are asked.
        half_unit: See `rounding.HALF_UNITS`.
        most: How many times its own rounding an answer may differ; None where that is only reported.

    Returns:
        It, with what cannot be asked.
    """
    left_out: list[Omission] = []
    asked: dict[str, list[Asked]] = {}
    make = partial(_Maker, inputs=inputs, half_unit=half_unit, most=most, left_out=left_out)
    for reader in readers:
        if reader == KERAS:
            asked[reader] = list(make().ask_model(model))
        else:
            asked[reader] = [
                found for each in inputs.endpoints for found in make().ask_endpoint(each, inputs.predictor)
            ]
    return Expected(model=model, asked=asked, left_out=left_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker:
    inputs: VerificationInputs
    half_unit: float
    most: float | None
    left_out: list[Omission]

    def ask_model(self, model: Model) -> Iterator[Asked]:
        takes = self.inputs.takes
        if any(leaf.sparse or leaf.ragged_rank for leaf in takes.leaves):
            self._leave(_MODEL, "the model takes sparse or ragged tensors, which are asked of endpoints only")
            return
        variables = [each for variable in model.variables for each in list_components(variable.value)]
        question = Question(
            endpoint=_MODEL,
            names=[leaf.name for leaf in takes.leaves],
            batches=self.inputs.batches,
            specs=[(leaf.shape, leaf.dtype) for leaf in takes.leaves],
            structure=takes.structure,
        )
        yield from self._make(_MODEL, question, self._call_model(self.inputs.predictor), variables)

    def ask_endpoint(self, endpoint: EndpointInputs, predictor: Predictor) -> Iterator[Asked]:
        name = f"outputs of {endpoint.name}"
        if not endpoint.batches:
            self._leave(name, endpoint.why_none)
            return
        question = Question(
            endpoint=endpoint.name,
            names=[leaf.name for leaf in endpoint.inputs.leaves],
            batches=endpoint.batches,
            moves_state=endpoint.moves_state,
        )
        function = endpoint.function
        if function is None:
            yield from self._make(name, question, self._call_model(predictor), ())
        else:
            yield from self._make(name, question, partial(_call, function), function.variables)

    def _call_model(self, predictor: Predictor) -> Callable[[Batch], dict[str, Array]]:
        names = [leaf.name for leaf in self.inputs.takes.leaves]
        return lambda batch: predictor([batch[name] for name in names])

    def _make(
        self,
        name: str,
        question: Question,
        answer: Callable[[Batch], dict[str, Array]],
        variables: Sequence[tf.Variable],
    ) -> Iterator[Asked]:
        batches = [dict(zip(question.names, batch, strict=True)) for batch in question.batches]
        rounding = Rounding(answer, batches, self.half_unit, self.inputs.seed, variables)
        if rounding.unsteady:
            outputs = ", ".join(sorted(rounding.unsteady))
            self._leave(
                name, f"the model's own {outputs} is another one each time, which leaves nothing to compare with"
            )
        else:
            yield Asked(name, question, Moved(rounding, self.most), self.inputs.origin)

    def _leave(self, name: str, why: str) -> None:
        self.left_out.append(Omission(f"proof of {name} in other environments", why, kind=OmissionKind.COMPARISON))


def _call(function: ConcreteFunction, batch: Batch) -> dict[str, Array]:
    """Calls an endpoint, and leaves the variables as they were."""
    with variables_kept(find_captured(function, tf.Variable)):
        return ask(function, batch)
