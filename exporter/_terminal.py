"""What a person sees: progress while an export runs, and one summary of it in the end.

Progress goes to the standard error and the summary to the standard output. Colour and movement appear on a
terminal only, and `NO_COLOR` is honoured.
"""

import logging
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Protocol, Self, TextIO

from exporter._own_files import open_to_append
from exporter._page import FORMAT_NAMES, LABEL_WIDTH, Page, escape_markup, make_console
from exporter._text import escape, escape_line
from exporter.layouts import name_for_server
from exporter.stores import is_url

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from exporter.receipts import Receipt

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


def print_summary(receipt: "Receipt", receipt_path: Path | str, stream: TextIO | None = None) -> None:
    """Prints what an export did.

    Paths and commands are never broken into lines of their own, so that they can be copied.

    Args:
        receipt: Of the export.
        receipt_path: Where it was written.
        stream: Where to print; None for the standard output.
    """
    _Summary(make_console(stream or sys.stdout)).print(receipt, receipt_path)


class _Summary(Page):
    """The summary of an export."""

    def print(self, receipt: "Receipt", receipt_path: Path | str) -> None:
        """Prints all of it."""
        from exporter.saving.contents import format_bytes

        path = Path(receipt.filepath)
        name = f"{path.parent.name}/{path.name}" if _has_versions(receipt) else path.name
        kind = FORMAT_NAMES[receipt.format]
        total = sum(receipt.seconds.values())
        proven = receipt.status == "proven"
        mark = "[bold green]✓[/]" if proven else "[bold yellow]![/]"
        words = "the same model, proven" if proven else "written, not proven"
        self._console.print()
        self._line("", f"{mark} [bold]{escape_markup(name)}[/] is {words} [dim]in {total:.1f} s[/]", bare=True)
        self._console.print()

        for number, line in enumerate(receipt.read):
            self._wrapped("read" if number == 0 else "", escape_markup(line))
        self._line("written", f"[bold]{escape_markup(receipt.filepath)}[/]")
        files = sum(record.link is None for record in receipt.files)
        self._wrapped("", f"{kind}, {files} file{'s' if files != 1 else ''}, {format_bytes(receipt.total_bytes)}")
        for number, (endpoint_name, endpoint) in enumerate(receipt.signatures.items()):
            self._wrapped("signatures" if number == 0 else "", f"[bold]{escape_markup(endpoint_name)}[/]")
            self._endpoint(endpoint)
        self._pairs("holds", [(holding.what, holding.detail) for holding in receipt.held])
        if receipt.left_out:
            self._pairs("left out", [(left_out.what, left_out.why) for left_out in receipt.left_out])
        else:
            self._wrapped("left out", "nothing")
        rows = [(check.name, f"[green]✓[/] {escape_markup(check.figure)}", check.detail) for check in receipt.checks]
        self._checks(rows)
        self._line("receipt", escape_markup(str(receipt_path)))
        self._console.print()
        for label, commands in _list_commands(receipt):
            for number, command in enumerate(commands):
                self._line(label if number == 0 else "", f"[cyan]{escape_markup(command)}[/]")
        self._console.print()

    def _checks(self, rows: list[tuple[str, str, str]]) -> None:
        from rich.table import Table

        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=LABEL_WIDTH - 2, no_wrap=True, style="dim")
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_column(style="dim", overflow="fold")
        for number, (name, figure, detail) in enumerate(rows):
            grid.add_row("checks" if number == 0 else "", escape_markup(name), figure, escape_markup(detail))
        if rows:
            self._grid(grid)


def _list_commands(receipt: "Receipt") -> list[tuple[str, list[str]]]:
    """The lines to copy: each works as it stands."""
    path, loading = receipt.filepath, receipt.loading
    load = loading.write_lines(path)
    if is_url(path):  # TensorFlow and Keras open no URL by themselves
        return [("load", load)]
    if receipt.format != "tf":
        opens = all(entry.what != "stock Keras" for entry in receipt.left_out)
        return [("load", load), ("or", loading.write_lines(path, "keras.models"))][: 1 + opens]
    # Endpoints use the variables of the loaded object, which live as long as it does.
    endpoints = ["import tensorflow as tf", f"served = tf.saved_model.load({path!r})", "endpoints = served.signatures"]
    return [("load", load), ("serve", [*endpoints, *_list_server_commands(receipt)])]


def _has_versions(receipt: "Receipt") -> bool:
    return bool(receipt.recipe["layout"]["kind"] == "tf_serving")


def _list_server_commands(receipt: "Receipt") -> list[str]:
    """The commands that start TF Serving and ask it; none for a graph that it cannot restore."""
    options = receipt.recipe["options"]
    if options["experimental_skip_saver"]:
        return []
    path = Path(receipt.filepath)
    has_versions = _has_versions(receipt)
    base = path.parent if has_versions else path
    name = name_for_server(base)
    volume = shlex.quote(f"{base}:/models/{name}" if has_versions else f"{base}:/models/{name}/1")
    # A server looks for the graph with exactly these tags.
    tags = f" --saved_model_tags={shlex.quote(','.join(['serve', *options['extra_tags']]))}" * bool(
        options["extra_tags"]
    )
    commands = [f"docker run -p 8501:8501 -v {volume} -e MODEL_NAME={name} tensorflow/serving{tags}"]
    if has_versions:
        place = shlex.quote(str(base))
        server = f"tensorflow_model_server --rest_api_port=8501 --model_name={name} --model_base_path={place}{tags}"
        commands.append(server)
    if receipt.request is not None:
        body = receipt.request.body if receipt.request.file is None else f"@{receipt.request.file}"
        commands.append(f"curl -d {shlex.quote(str(body))} http://localhost:8501/v1/models/{name}:predict")
    return commands
