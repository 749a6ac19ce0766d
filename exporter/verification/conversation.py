"""What is said to the worker: questions are sent ahead, and it loads the artifact anew where a question needs it."""

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.processes.arrays import write_arrays
from exporter.processes.fresh_process import FreshProcess, count_bytes, wait_seconds
from exporter.verification.comparing.base import Answer, CheckType, Effect, Message, Reader
from exporter.verification.custom_objects import Needs


@dataclass(slots=True)
class _Reply:
    """A reply of the worker, which may be still to come.

    Attributes:
        request: The name of what it replies to, for messages.
        content: The reply; None before it came.
    """

    request: str
    content: dict[str, Any] | None = None


class Conversation:
    """Speaks with the worker about one artifact.

    Attributes:
        own_failures: The errors so far that the user's own code raised there.
    """

    def __init__(
        self,
        process: FreshProcess,
        staged: Path,
        exchange: Path,
        needs: Needs,
        *,
        tags: Sequence[str] = (),
        safe_mode: bool = False,
    ) -> None:
        """Sends nothing yet.

        Args:
            process: The fresh process, warmed up.
            staged: The artifact.
            exchange: A directory for the arrays of questions and answers.
            needs: What the model needs beside its artifact.
            tags: Of the SavedModel's graph, beside `serve`.
            safe_mode: Whether code inside the artifact is refused.
        """
        self._process = process
        self._path = str(staged.absolute())  # the fresh process works in another directory
        self._exchange = exchange
        self._needs = needs
        self._tags = ["serve", *tags]
        self._safe_mode = safe_mode
        self._opens_safely = safe_mode or needs.safe_mode
        self._timeout = wait_seconds(count_bytes(staged))
        self._numbers = itertools.count()
        self._waiting: deque[_Reply] = deque()
        self._opened = _Reply("open")
        self.own_failures: list[str] = []
        self._reader: Reader | None = None  # with what the artifact is loaded that is asked next; None for anew

    @property
    def opens_safely(self) -> bool:
        """Whether the artifact is loaded without the code of its maker."""
        return self._opens_safely

    def open(self, reader: Reader) -> None:
        """Lets the worker load the artifact."""
        self._opened = self._send(
            "open",
            "open",
            path=self._path,
            reader=reader,
            objects=self._needs.to_json(),
            safe_mode=self._safe_mode if reader is Reader.TENSORFLOW else self._opens_safely,
            tags=self._tags,
        )
        self._reader = reader

    def receive_opened(self) -> Answer:
        """Waits for the loaded model, and has it loaded once more where it holds code of its maker."""
        opened = self._wait(self._opened)
        if "error" in opened and self._opens_safely and not self._safe_mode:
            self._opens_safely = False
            self.open(Reader.EXPORTER)
            again = self._wait(self._opened)
            opened = opened if "error" in again else again
        return Answer(opened, error=opened.get("error", ""))

    def ask(self, check: CheckType, question: Message) -> Callable[[], Answer]:
        """Asks a question.

        Args:
            check: Whose it is.
            question: It.

        Returns:
            What waits for the answer.
        """
        if check.reader is not self._reader:
            self.open(check.reader)
        if check.effect is Effect.CHANGES:
            self._reader = None
        number = next(self._numbers)
        asked, answered = (self._exchange / f"{word}-{number}" for word in ("question", "answer"))
        if question.arrays:
            write_arrays(asked, question.arrays)
        arrays = str(asked) if question.arrays else None
        opened = self._opened
        reply = self._send(
            "answer", check.name, check=check.name, facts=question.facts, arrays=arrays, answer=str(answered)
        )

        def receive() -> Answer:
            loaded, answer = self._wait(opened), self._wait(reply)
            error = loaded.get("error") or answer.get("error", "")
            return Answer(loaded, answer.get("facts", {}), answered if answered.exists() else None, error)

        return receive

    def _send(self, request: str, shown: str, **arguments: object) -> _Reply:
        self._process.send(request, **arguments)
        self._waiting.append(_Reply(shown))
        return self._waiting[-1]

    def _wait(self, reply: _Reply) -> dict[str, Any]:
        """Waits for a reply; they come in the order of their requests."""
        while reply.content is None:
            oldest = self._waiting.popleft()
            oldest.content = self._process.receive(oldest.request, self._timeout)
            if oldest.content.get("is_own"):
                self.own_failures.append(oldest.content["error"])
        return reply.content
