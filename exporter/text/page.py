"""Pages of labelled lines on a terminal: the summary of an export, and what the other commands print."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from io import StringIO
from typing import TYPE_CHECKING, TextIO

from exporter.text.printable import escape
from exporter.text.showing import escape_line

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table
    from rich.text import Text

LABEL_WIDTH = 11

# With fewer columns than that for it, a text would be broken within its words.
_LEAST = 24

# Piped output has no width of its own; a narrower one would break lines that a pipe could carry whole.
_PIPED_WIDTH = 120


def make_console(stream: TextIO) -> "Console":
    """Makes a console that knows whether it writes to a person; elsewhere it has neither colour nor movement."""
    from rich.console import Console

    console = Console(file=stream, highlight=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console


# The words are the notebook's own colour, light or dark, and long ones are broken where its page ends.
_NOTEBOOK_STYLE = (
    "white-space: pre-wrap; overflow-wrap: anywhere; color: inherit; background: inherit; line-height: 1.3"
)


class Shown(ABC):
    """What a person reads as its command prints it: with `print`, with Rich, and as the result of a notebook's cell."""

    __slots__ = ()

    @abstractmethod
    def show(self, console: "Console") -> None:
        """Prints it on a console."""

    def print(self, stream: TextIO | None = None) -> None:
        """Prints it as its command does.

        Args:
            stream: Where to print; None for the standard output.
        """
        self.show(make_console(stream or sys.stdout))

    def __str__(self) -> str:
        """Writes what its command prints."""
        text = StringIO()
        self.print(text)
        return text.getvalue()

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[Text]":
        """Gives what its command prints on a terminal, for Rich."""
        from rich.console import Console
        from rich.text import Text

        text = StringIO()
        self.show(Console(file=text, width=options.max_width, highlight=False, force_terminal=console.is_terminal))
        yield Text.from_ansi(text.getvalue())

    def _repr_html_(self) -> str:
        """Writes the same for a notebook."""
        from rich.console import Console

        console = Console(file=StringIO(), record=True, width=_PIPED_WIDTH, highlight=False, force_terminal=True)
        self.show(console)
        return f'<pre style="{_NOTEBOOK_STYLE}">{console.export_html(code_format="{code}", inline_styles=True)}</pre>'


class Page:
    """Lines of a page: a label, then the text with its own indentation.

    Paths and commands are never broken into lines of their own, so that they can be copied. A text is one line or one
    cell, whatever it holds: see `escape_markup`.
    """

    def __init__(self, console: "Console") -> None:
        self._console = console

    def rows(self, pairs: list[tuple[str, str]]) -> None:
        """Prints names, each with a text that is broken where the terminal ends; below it where the names are long."""
        from rich.padding import Padding
        from rich.table import Table

        if max((len(name) for name, _ in pairs), default=0) > self._console.width // 2:
            grid = Table.grid()
            for name, text in pairs:
                if name:
                    grid.add_row(f"[bold]{escape_markup(name)}[/]")
                if text:
                    grid.add_row(Padding(escape_markup(text), (0, 0, 0, 4)))
            self._grid(grid)
            return
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, style="bold")
        grid.add_column(overflow="fold")
        for name, text in pairs:
            grid.add_row(escape_markup(name), escape_markup(text))
        self._grid(grid)

    def _grid(self, grid: "Table") -> None:
        """Prints a grid without the spaces that fill up its last column."""
        from rich.text import Text

        for segments in self._console.render_lines(grid, pad=False):
            line = Text.assemble(*((segment.text, segment.style or "") for segment in segments))
            line.rstrip()
            self._console.print(line, soft_wrap=True)

    def _line(self, label: str, markup: str, bare: bool = False) -> None:
        head = "" if bare else f"[dim]{label:<{LABEL_WIDTH}}[/]"
        self._console.print(f"{head}{escape(markup)}", soft_wrap=True)

    def _wrapped(self, label: str, markup: str) -> None:
        from rich.table import Table

        grid = Table.grid(padding=0)
        grid.add_column(width=LABEL_WIDTH, no_wrap=True, style="dim")
        grid.add_column(overflow="fold")
        grid.add_row(label, escape(markup))
        self._grid(grid)

    def _pairs(self, label: str, pairs: list[tuple[str, str]]) -> None:
        from rich.table import Table

        if not pairs:
            return
        longest = max(len(what) for what, _ in pairs)
        if not self._leaves_room(longest):
            for number, (what, detail) in enumerate(pairs):
                self._wrapped(label if number == 0 else "", f"{escape_markup(what)}: {escape_markup(detail)}")
            return
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=LABEL_WIDTH - 2, no_wrap=True, style="dim")
        grid.add_column(no_wrap=True, width=longest)
        grid.add_column(overflow="fold")
        for number, (what, detail) in enumerate(pairs):
            grid.add_row(label if number == 0 else "", escape_markup(what), escape_markup(detail))
        self._grid(grid)

    def _leaves_room(self, *widths: int) -> bool:
        """Whether a text has room behind a label and columns of these widths."""
        return self._console.width - LABEL_WIDTH - sum(width + 2 for width in widths) >= _LEAST

    def _flow(self, taken: Mapping[str, str], returned: Mapping[str, str]) -> None:
        """Prints what goes in and what comes out, each with a text behind its name."""
        from rich.table import Table

        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=LABEL_WIDTH - 2)
        grid.add_column(overflow="fold")
        grid.add_column(no_wrap=True)
        for arrow, texts in (("  ", taken), ("→ ", returned)):
            for name, text in texts.items():
                grid.add_row("", f"{arrow}{escape_markup(name)}", escape_markup(text))
        self._grid(grid)


def escape_markup(text: str) -> str:
    """Returns a text that is printed as it is, whatever brackets it has, on one line, and that is only text."""
    from rich.markup import escape

    return escape(escape_line(text))
