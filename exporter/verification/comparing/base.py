"""How a check is written: what it asks of the worker, what the worker answers, and how the two halves are compared."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

from exporter.artifacts.records import Check
from exporter.config import VerifyMode
from exporter.processes.arrays import Array, read_arrays
from exporter.saving.contents import Omission
from exporter.verification.comparing.reference import Reference


class Reader(StrEnum):
    """With what the worker loads the artifact for a question."""

    EXPORTER = "exporter"
    KERAS = "keras"
    TENSORFLOW = "tensorflow"


class Effect(IntEnum):
    """What an answer does to the model that is loaded: the questions that do least to it are asked first."""

    LOOKS = 0
    CALLS = 1
    CHANGES = 2  # it is loaded anew for the next question


@dataclass(frozen=True, slots=True)
class Message:
    """A question for the worker, or what it answers.

    Attributes:
        facts: Plain data, which JSON can say.
        arrays: By name.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back of a question.

    Attributes:
        opened: What the worker said when it loaded the artifact: `class_name`, `revived` and `imported`, or an `error`.
        facts: Those of the answer.
        file: Where the arrays of the answer are; None where it has none.
        error: Why there is no answer; else empty.
    """

    opened: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    error: str = ""

    def read_arrays(self) -> dict[str, Array]:
        """Reads the arrays of the answer."""
        return {} if self.file is None else read_arrays(self.file)


# Asks the same check another question, and returns what waits for the answer: meanwhile our half can be computed.
Ask = Callable[[Message], Callable[[], Answer]]


class Comparison(ABC):
    """One comparison of the model with its artifact, in our process."""

    def ask(self) -> Message | None:
        """Makes the question; None where the worker has nothing to do."""
        return None

    def expect(self) -> None:
        """Computes our half, while the worker is at its own."""
        return

    @abstractmethod
    def compare(self, answer: Answer, ask: Ask) -> Iterator[Check | Omission]:
        """Compares both halves.

        Args:
            answer: To the question; without one, what the worker said when it loaded the artifact first.
            ask: Asks another question.

        Raises:
            GraphNeededError: The artifact's model does not run eagerly: all is asked once more, in graphs.
        """


class GraphNeededError(Exception):
    """What was loaded runs in graphs only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckType:
    """A kind of check. A module defines it, and `exporter.verification.checks.CHECKS` lists it.

    Attributes:
        name: By which the worker finds it.
        plan: Lists what there is to compare of a model: nothing where the check does not apply.
        answer: Answers a question in the worker's process; it is given what was loaded, and the question.
        reader: With what the artifact is loaded for it.
        effect: What an answer does to what was loaded.
        modes: In which modes of a verification it takes part.
        decides: Whether it is this one that says why the artifact cannot be loaded, which ends the verification.
    """

    name: str
    plan: Callable[[Reference], Iterable[Comparison]]
    answer: Callable[[Any, Message], Message] | None = None
    reader: Reader = Reader.EXPORTER
    effect: Effect = Effect.LOOKS
    modes: frozenset[VerifyMode] = frozenset({VerifyMode.FULL})
    decides: bool = False
