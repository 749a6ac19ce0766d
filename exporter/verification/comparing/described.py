"""A comparison of what both sides say of their model."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from exporter.artifacts.records import Check
from exporter.saving.contents import Omission
from exporter.typing.keras import Model
from exporter.verification.comparing.base import Answer, Ask, Comparison, Message
from exporter.verification.comparing.comparisons import report_unread
from exporter.verification.comparing.reference import Reference


class Described(Comparison):
    """Compares two descriptions; one that could not be made is reported as such."""

    def __init__(self, reference: Reference, describe: Callable[[Model, bool], dict[str, Any]]) -> None:
        """Describes nothing yet.

        Args:
            reference: The model.
            describe: Describes it, given whether its optimizer was saved.
        """
        self._reference = reference
        self._describe = describe
        self._expected: dict[str, Any] = {}

    def ask(self) -> Message:
        """Asks for the other description, and no more."""
        return Message()

    def expect(self) -> None:
        """Describes our model."""
        self._expected = self._describe(self._reference.model, self._reference.include_optimizer)

    def compare(self, answer: Answer, ask: Ask) -> Iterator[Check | Omission]:
        """Compares the descriptions; see `Comparison.compare`."""
        if answer.error:
            yield report_unread(answer.error)
        else:
            yield from self.compare_facts(self._expected, answer.facts, ask)

    @abstractmethod
    def compare_facts(
        self, ours: Mapping[str, object], theirs: Mapping[str, object], ask: Ask
    ) -> Iterator[Check | Omission]:
        """Compares two descriptions that are there."""
