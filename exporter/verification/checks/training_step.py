"""Whether one training step makes the same of every variable of both models."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from exporter.artifacts.records import Check, CheckKind
from exporter.models.randomness import generators_seeded
from exporter.models.training.batches import TrainingBatch
from exporter.models.training.steps import take_step
from exporter.saving.contents import Omission
from exporter.saving.graph.inputs import Inputs
from exporter.typing.keras import Model
from exporter.verification.comparing.base import Answer, Ask, CheckType, Comparison, Effect, Message
from exporter.verification.comparing.batches import name_batches, read_batches
from exporter.verification.comparing.comparisons import check_variables, find_changed, measure_difference
from exporter.verification.comparing.facts import describe_variables, read_values
from exporter.verification.comparing.reference import TRAINING_STEP, Reference, Step


def answer(model: Model, question: Message) -> Message:
    """Trains the loaded model for one step; describes its variables then, and gives the values that are asked for."""
    asked = question.facts
    specs = Inputs.from_json(asked["specs"])
    [arrays] = read_batches(question.arrays, specs, [0])
    with generators_seeded(asked["seed"], asked["operations"]):
        take_step(model, specs, arrays, asked["eager"])
    return Message({"variables": describe_variables(model)}, read_values(model, asked["paths"]))


class _TrainingStep(Comparison):
    def __init__(self, reference: Reference, batch: TrainingBatch) -> None:
        self._reference = reference
        self._batch = batch

    def ask(self) -> Message:
        return self._ask(self._reference.is_eager)

    def _ask(self, is_eager: bool, paths: Sequence[str] = ()) -> Message:
        facts = {"specs": self._batch.specs.to_json(), "paths": paths}
        arrays = name_batches(self._batch.specs, {0: self._batch.arrays})
        return Message({**facts, **self._reference.describe_run(), "eager": is_eager}, arrays)

    def expect(self) -> None:
        _ = self._reference.first_step

    def compare(self, answer: Answer, ask: Ask) -> Iterator[Check | Omission]:
        reference, expected = self._reference, self._reference.first_step
        if isinstance(expected, Omission):
            yield expected
            return
        if reference.is_eager and (not expected.is_eager or (answer.error and reference.may_trace)):
            again, answer = self._repeat(ask, is_eager=False)
            if isinstance(again, Omission):
                yield again
                return
            expected = again
        if answer.error:
            yield Check(
                TRAINING_STEP, False, "the loaded model cannot be trained", answer.error, kind=CheckKind.TRAINING
            )
        else:
            yield self._judge(expected, answer.facts["variables"], ask)

    def _judge(self, expected: Step, received: Mapping[str, Any], ask: Ask) -> Check | Omission:
        reference = self._reference
        paths = list(dict.fromkeys((*expected.variables, *received)))
        changed = changed_at_first = find_changed(expected.variables, received)
        differences: dict[str, float | None] = {}
        if changed:
            reference.seeds_operations = True
            again, answer = self._repeat(ask, expected.is_eager, changed)
            if isinstance(again, Omission) or answer.error:
                return check_variables(TRAINING_STEP, paths, expected.variables, received, {}, CheckKind.TRAINING)
            theirs, values = answer.facts["variables"], answer.read_arrays()
            unsteady = {path for path in changed if again.variables.get(path) != expected.variables[path]}
            unsteady |= {path for path in changed if theirs.get(path) != received[path]}
            differences = {
                path: measure_difference(again.values[path], values[path])
                for path in changed
                if path in again.values and path in values
            }
            expected, received = again, theirs
            changed = find_changed(expected.variables, received)
            if changed and unsteady >= set(changed):
                return self._leave_out(len(unsteady), len(paths), [differences.get(path) for path in changed])
        check = check_variables(TRAINING_STEP, paths, expected.variables, received, differences, CheckKind.TRAINING)
        way = "eager" if expected.is_eager else "graph"
        note = ", generators seeded" if changed_at_first or reference.random else ""
        detail = f"1 {way} step, batch of {self._batch.size}, {check.detail}{note}"
        return replace(check, detail=detail) if check.passed else check

    def _repeat(self, ask: Ask, is_eager: bool, paths: Sequence[str] = ()) -> tuple[Step | Omission, Answer]:
        """Takes the step once more on both sides; the values of `paths` come along."""
        wait = ask(self._ask(is_eager, paths))
        again = self._reference.take_step(is_eager, paths)
        return again, wait()

    def _leave_out(self, unsteady: int, count: int, differences: Sequence[float | None]) -> Omission:
        measured = [difference for difference in differences if difference is not None]
        furthest = f"; the artifact's differs by up to {max(measured):.3g}" if measured else ""
        return self._reference.leave_step_out(
            f"the same step from the same state differs from itself in {unsteady} of {count} tensors "
            f"and leaves nothing to compare with{furthest}",
            data_helps=False,
        )


class _NoStep(Comparison):
    """Says why there is no step to take."""

    def __init__(self, outcome: Check | Omission) -> None:
        self._outcome = outcome

    def compare(self, answer: Answer, ask: Ask) -> Iterator[Check | Omission]:
        yield self._outcome


def plan(reference: Reference) -> list[Comparison]:
    """Compares where there is a batch to train on."""
    batch = reference.training_batch
    return [_TrainingStep(reference, batch) if isinstance(batch, TrainingBatch) else _NoStep(batch)]


CHECK = CheckType(name=TRAINING_STEP, plan=plan, answer=answer, effect=Effect.CHANGES)
