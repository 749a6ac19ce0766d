"""What a person sees: progress while an export runs, and one summary of it in the end.

Progress goes to the standard error and the summary to the standard output. Colour and movement appear on a
terminal only, and `NO_COLOR` is honoured.
"""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Protocol, Self

from exporter.storage.own_files import open_to_append
from exporter.text.page import escape_markup, make_console
from exporter.text.printable import escape
from exporter.text.showing import escape_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


_PHASE_WIDTH = 20


class Reporter(Protocol):
    """Who is told what an export is doing."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Returns a block that lasts as long as the phase does.

        Args:
            name: What is done, such as `write the artifact`.
        """

    def note(self, text: str) -> None:
        """Tells how far the running phase has come, such as `epoch 3 of 12`.

        Args:
            text: One line; it replaces the one before.
        """

    def tell_wait(self, target: Path | str, holder: str) -> None:
        """Tells that another process has to finish first.

        Args:
            target: What both write.
            holder: The other one, such as `process 42 on pluto`.
        """


class SilentReporter:
    """Tells nobody how far it is: the default in plain Python."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Does nothing for as long as the phase lasts, but keeps TensorFlow's C++ code silent when it is imported."""
        return nullcontext() if "tensorflow" in sys.modules else _without_native_lines()

    def note(self, text: str) -> None:
        """Does nothing."""

    def tell_wait(self, target: Path | str, holder: str) -> None:
        """Warns in the log."""
        logging.getLogger("exporter").warning(
            "%s is being written by %s: waiting for it.", escape(str(target)), escape(holder)
        )


@contextmanager
def _without_native_lines() -> Iterator[None]:
    """Drops what is written to the standard error below Python: no setting silences the first lines of TensorFlow."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class TerminalReporter:
    """Shows one line a phase on the standard error: moving on a terminal, plain text elsewhere.

    Use it as a context manager. Inside it, what TensorFlow's C++ code writes to the standard error goes to a
    log file: much of it is written before any setting can silence it. What Python code writes to `sys.stderr`
    still reaches the person.
    """

    def __init__(self, log: Path | None = None) -> None:
        """Prepares the reporter; nothing is shown yet.

        Args:
            log: File for the lines of TensorFlow's C++ code, appended; removed again when it stays empty. None
                for a temporary one.
        """
        self._log = log
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        # TensorFlow reads this when it is imported.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        for name in ("tensorflow", "absl"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self._python_stream = sys.stderr
        sys.stderr.flush()
        self._descriptor = os.dup(2)
        self._stream = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace", buffering=1)
        self._native: IO[bytes] = (
            tempfile.TemporaryFile() if self._log is None else open(open_to_append(self._log), "ab")
        )
        os.dup2(self._native.fileno(), 2)
        sys.stderr = self._stream
        self._console = make_console(self._stream)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.flush()
        os.dup2(self._descriptor, 2)
        os.close(self._descriptor)
        sys.stderr = self._python_stream
        self._stream.close()
        self._native.close()
        if self._log is not None and self._log.stat().st_size == 0:
            self._log.unlink()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Shows the phase while it lasts, and how long it took."""
        started = time.perf_counter()
        if not self._console.is_terminal:
            yield
            self._console.print(f"{name}  {time.perf_counter() - started:.1f} s", soft_wrap=True)
            return
        # Each phase has a display of its own: between two phases the terminal is free for a question.
        with _make_progress(self._console) as self._progress:
            self._task = self._progress.add_task(name, total=1, note="", failed=False)
            try:
                yield
            except BaseException:
                self._progress.update(self._task, note="", failed=True)
                raise
            else:
                self._progress.update(self._task, completed=1, note="")
            finally:
                self._progress = self._task = None

    def note(self, text: str) -> None:
        """Shows the line beside the running phase, on a terminal."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, note=escape_markup(text))

    def tell_wait(self, target: Path | str, holder: str) -> None:
        """Shows a line that stays."""
        line = escape_line(f"wait: {target} is being written by {holder}")
        self._console.print(line, soft_wrap=True, markup=False)


def _make_progress(console: "Console") -> "Progress":
    from rich.console import RenderableType
    from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
    from rich.table import Column
    from rich.text import Text

    class MarkColumn(SpinnerColumn):
        def render(self, task: Task) -> RenderableType:
            return Text("✗", style="red") if task.fields["failed"] else super().render(task)

    class SecondsColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_time or task.elapsed or 0.0:6.1f} s", style="dim")

    return Progress(
        MarkColumn(style="cyan", finished_text="[green]✓[/]"),
        TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=_PHASE_WIDTH)),
        SecondsColumn(),
        TextColumn("[dim]{task.fields[note]}[/]", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        console=console,
        expand=True,
        # The summary names what was written: the prints of a user's own code stay above the moving lines.
        redirect_stdout=True,
        redirect_stderr=True,
    )
