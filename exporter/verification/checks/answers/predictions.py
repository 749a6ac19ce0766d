"""Whether both models predict the same for every batch."""

from collections.abc import Iterator

from exporter.artifacts.records import Check, CheckKind
from exporter.config import VerifyMode
from exporter.models.predictions import Predictor
from exporter.models.randomness import generators_seeded
from exporter.processes.arrays import Array
from exporter.saving.contents import Omission
from exporter.saving.graph.inputs import Inputs
from exporter.saving.graph.signatures import name_outputs
from exporter.typing.keras import Model
from exporter.verification.comparing.base import (
    Answer,
    Ask,
    CheckType,
    Comparison,
    Effect,
    GraphNeededError,
    Message,
)
from exporter.verification.comparing.batches import name_batches, read_batches
from exporter.verification.comparing.reference import Reference


def ask_predictions(reference: Reference, numbers: list[int]) -> Message:
    """Makes the question what a model predicts for the batches of these numbers."""
    inputs = reference.inputs
    batches = {number: inputs.batches[number] for number in numbers}
    facts = {"inputs": inputs.takes.to_json(), "numbers": numbers, **reference.describe_run()}
    facts["outputs"] = reference.list_output_names()
    return Message(facts, name_batches(inputs.takes, batches))


def answer(model: Model, question: Message) -> Message:
    """Predicts the batches with the loaded model."""
    asked = question.facts
    inputs = Inputs.from_json(asked["inputs"])
    predictor = Predictor(model, inputs, asked["eager"])
    predicted: dict[str, Array] = {}
    batches = read_batches(question.arrays, inputs, asked["numbers"])
    for number, batch in zip(asked["numbers"], batches, strict=True):
        with generators_seeded(asked["seed"], asked["operations"]):
            answered = predictor.answer(batch)
        named = name_outputs(model, answered)
        # A class may name its layers anew when it is made again, and with them outputs that have no keys of their own.
        if not isinstance(answered, dict) and len(named) == len(asked["outputs"]):
            named = dict(zip(asked["outputs"], named.values(), strict=True))
        predicted.update({f"{number}/{name}": array for name, array in named.items()})
    return Message(arrays=predicted)


class _Predictions(Comparison):
    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def ask(self) -> Message:
        return ask_predictions(self._reference, list(range(len(self._reference.inputs.batches))))

    def compare(self, answer: Answer, ask: Ask) -> Iterator[Check | Omission]:
        reference, origin = self._reference, self._reference.inputs.origin
        compares = reference.mode is VerifyMode.FULL
        if answer.error and compares and reference.is_eager and reference.may_trace:
            raise GraphNeededError
        if answer.error:
            if not compares:
                reference.ask()  # which may refuse the batches as well
            yield Check("predictions", False, "the loaded model cannot predict", answer.error, kind=CheckKind.OUTPUTS)
        elif compares:
            received, expected = answer.read_arrays(), reference.name_answers()
            yield reference.judge("predictions", received, expected, f"{origin}, {reference.way}", reference.ask_again)
        else:
            yield Check("predictions", True, "predicted, not compared", origin, kind=CheckKind.OUTPUTS)


CHECK = CheckType(
    name="predictions",
    plan=lambda reference: [_Predictions(reference)],
    answer=answer,
    effect=Effect.CALLS,
    modes=frozenset({VerifyMode.RELOAD, VerifyMode.FULL}),
)
