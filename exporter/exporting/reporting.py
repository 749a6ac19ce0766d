"""What a person sees: progress while an export runs, and one summary of it in the end.

Progress goes to the standard error and the summary to the standard output. Colour and movement appear on a
terminal only, and `NO_COLOR` is honoured.
"""

import html
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from exporter.processes.fresh_process import count_bytes
from exporter.saving.contents import format_bytes
from exporter.storage.own_files import open_to_append
from exporter.text.page import escape_markup, make_console
from exporter.text.printable import escape
from exporter.text.showing import escape_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


_PHASE_WIDTH = 20
_BAR_WIDTH = 24
# Between two looks at what is written, and two changes of a notebook's page.
_SECONDS = 0.25


class Reporter(Protocol):
    """Who is told what an export is doing."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Returns a block that lasts as long as the phase does.

        Args:
            name: What is done, such as `write the artifact`.
        """

    def note(self, text: str, share: float | None = None) -> None:
        """Tells how far the running phase has come, such as `epoch 3 of 12`.

        Args:
            text: One line; it replaces the one before.
            share: Of the phase that is done, from 0 to 1; None where that is not known.
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

    def note(self, text: str, share: float | None = None) -> None:
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
        self._quiet = _quiet_loggers()
        self._quiet.__enter__()
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
        self._quiet.__exit__(None, None, None)
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
            self._task = self._progress.add_task(name, total=1, note="", share=None, failed=False)
            try:
                yield
            except BaseException:
                self._progress.update(self._task, note="", share=None, failed=True)
                raise
            else:
                self._progress.update(self._task, completed=1, note="", share=None)
            finally:
                self._progress = self._task = None

    def note(self, text: str, share: float | None = None) -> None:
        """Shows the line beside the running phase, with a bar where its share is known, on a terminal."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, note=escape_markup(text), share=share)

    def tell_wait(self, target: Path | str, holder: str) -> None:
        """Shows a line that stays."""
        line = escape_line(f"wait: {target} is being written by {holder}")
        self._console.print(line, soft_wrap=True, markup=False)


class NotebookReporter:
    """Shows a line a phase below the cell of a notebook, and changes it while the phase lasts."""

    def __init__(self, display: Callable[[str], Callable[[str], None]]) -> None:
        """Prepares the reporter; nothing is shown yet.

        Args:
            display: Shows HTML, and returns what shows other HTML in its place.
        """
        self._display = display
        self._update: Callable[[str], None] | None = None
        self._lines: list[str] = []
        self._running = ""
        self._note = ""
        self._shown = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Shows the phase while it lasts, and how long it took."""
        started, mark = time.perf_counter(), "✗"
        self._running, self._note = f"… {_escape_html(name)}", ""
        self._show()
        try:
            with nullcontext() if "tensorflow" in sys.modules else _without_native_lines():
                yield
            mark = "✓"
        finally:
            self._lines.append(f"{mark} {_escape_html(name)} {time.perf_counter() - started:.1f} s")
            self._running = self._note = ""
            self._show()

    def note(self, text: str, share: float | None = None) -> None:
        """Shows the line beside the running phase, with a bar where its share is known."""
        bar = "" if share is None else f' <progress value="{share:.3f}" max="1"></progress>'
        self._note = f"{bar} {_escape_html(text)}"
        if time.monotonic() - self._shown >= _SECONDS:
            self._show()

    def tell_wait(self, target: Path | str, holder: str) -> None:
        """Shows a line that stays."""
        self._lines.append(_escape_html(f"wait: {target} is being written by {holder}"))
        self._show()

    def _show(self) -> None:
        self._shown = time.monotonic()
        lines = [*self._lines, *([self._running + self._note] if self._running else [])]
        # In the colours of the page, light or dark.
        page = f'<div style="white-space: pre-wrap; overflow-wrap: anywhere; opacity: 0.75">{"<br>".join(lines)}</div>'
        if self._update is None:
            self._update = self._display(page)
        else:
            self._update(page)


def _escape_html(text: str) -> str:
    return html.escape(escape_line(text))


def _find_notebook() -> Callable[[str], Callable[[str], None]] | None:
    """Gives what shows HTML in the notebook that this process runs for; None where it runs for none."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if not hasattr(shell, "kernel"):  # a terminal has none
        return None
    display: Any = import_module("IPython.display")

    def show(page: str) -> Callable[[str], None]:
        handle = display.display(display.HTML(page), display_id=True)
        return lambda changed: handle.update(display.HTML(changed))

    return show


@contextmanager
def choose_reporter(reporter: Reporter | None, progress: bool | None) -> Iterator[Reporter]:
    """Gives who is told about the progress of an export in Python, and keeps TensorFlow's loggers quiet.

    Args:
        reporter: Who the caller chose; None for nobody.
        progress: Whether a person is shown it otherwise; None: on a terminal and in a notebook.
    """
    with ExitStack() as stack:
        stack.enter_context(_quiet_loggers())
        show = None if reporter is not None or progress is False else _find_notebook()
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        if reporter is not None:
            yield reporter
        elif show is not None:
            yield NotebookReporter(show)
        elif progress or (progress is None and is_terminal):
            yield stack.enter_context(TerminalReporter())
        else:
            yield SilentReporter()


@contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Keeps back what TensorFlow tells of itself through Python's logging."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def bytes_noted(path: Path, expected: int, note: Callable[[str, float | None], None]) -> Iterator[None]:
    """Tells while the block lasts how much of what it writes is there.

    Args:
        path: What it writes.
        expected: About how many bytes that will be.
        note: See `Reporter.note`.
    """
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_SECONDS):
            with suppress(OSError):  # what was listed may be gone again
                written = min(count_bytes(path), expected)
                note(f"{format_bytes(written)} of {format_bytes(expected)}", written / max(expected, 1))

    thread = threading.Thread(target=watch, name="exporter-bytes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _make_progress(console: "Console") -> "Progress":
    from rich.console import RenderableType
    from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
    from rich.progress_bar import ProgressBar
    from rich.table import Column
    from rich.text import Text

    class MarkColumn(SpinnerColumn):
        def render(self, task: Task) -> RenderableType:
            return Text("✗", style="red") if task.fields["failed"] else super().render(task)

    class ShareColumn(ProgressColumn):
        def render(self, task: Task) -> RenderableType:
            share = task.fields["share"]
            return Text() if share is None else ProgressBar(total=1, completed=share, width=_BAR_WIDTH)

    class SecondsColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_time or task.elapsed or 0.0:6.1f} s", style="dim")

    return Progress(
        MarkColumn(style="cyan", finished_text="[green]✓[/]"),
        TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=_PHASE_WIDTH)),
        SecondsColumn(),
        ShareColumn(),
        TextColumn("[dim]{task.fields[note]}[/]", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        console=console,
        expand=True,
        # The summary names what was written: the prints of a user's own code stay above the moving lines.
        redirect_stdout=True,
        redirect_stderr=True,
    )
