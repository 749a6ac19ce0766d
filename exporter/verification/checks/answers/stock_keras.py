"""Whether stock Keras opens the artifact and predicts the same: its own layout cannot say every state."""

from collections.abc import Iterator

from exporter.artifacts.records import Check
from exporter.saving.contents import Omission, OmissionKind
from exporter.verification.checks.answers.predictions import answer, ask_predictions
from exporter.verification.comparing.base import Answer, Ask, CheckType, Comparison, Effect, Message, Reader
from exporter.verification.comparing.reference import Reference

_NAME = "stock Keras"
_CALL = "keras.models.load_model"


class _StockKeras(Comparison):
    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def ask(self) -> Message:
        return ask_predictions(self._reference, [self._reference.largest])

    def compare(self, answer: Answer, ask: Ask) -> Iterator[Check | Omission]:
        # What it cannot hold is no fault of the artifact.
        if "error" in answer.opened:
            yield _leave_out(f"it cannot open the artifact; {answer.error}")
            return
        if answer.error:
            yield _leave_out(f"the loaded model cannot predict; {answer.error}")
            return
        reference = self._reference
        own = f"{reference.largest}/"
        expected = {key: array for key, array in reference.name_answers().items() if key.startswith(own)}
        outcome = reference.judge(_NAME, answer.read_arrays(), expected, _CALL, reference.ask_again)
        if isinstance(outcome, Check) and not outcome.passed:
            outcome = _leave_out(f"{outcome.figure}; {reference.inputs.origin}")
        yield outcome


def _leave_out(why: str) -> Omission:
    return Omission(_NAME, f"{_CALL}: {why}", kind=OmissionKind.STOCK_KERAS)


def plan(reference: Reference) -> list[Comparison]:
    """Compares where the artifact holds what stock Keras reads."""
    return [_StockKeras(reference)] if reference.opens_in_keras else []


CHECK = CheckType(name=_NAME, plan=plan, answer=answer, reader=Reader.KERAS, effect=Effect.CALLS)
