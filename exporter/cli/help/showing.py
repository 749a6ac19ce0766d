"""Pages of Markdown on a terminal of any width."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.markdown import Heading, Markdown, TableElement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from exporter.cli.help import list_rows
from exporter.cli.help.pages import LIST
from exporter.text.page import Page

if TYPE_CHECKING:
    from rich.markdown import TableRowElement

_STYLES = {
    "h1": "bold",
    "h2": "bold",
    "code": "cyan",
    "item.bullet": "none",
    "table.header": "bold",
    "link_url": "none",
}
_THEME = Theme({f"markdown.{name}": style for name, style in _STYLES.items()})
_CODE = re.compile(r"^```\w*\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
# To another page: its text says how to see it here.
_LINK = re.compile(r"\[([^\]]+)\]\([\w-]+\.md\)")
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
# The share of the width that the columns in front of the last one may take, which are not broken.
_SHARE = 0.5
_INDENT = 2


def show_page(text: str, console: Console) -> None:
    """Prints a page, or a section of one.

    Args:
        text: Markdown.
        console: Where to print.
    """
    text = _LINK.sub(r"\1", text)
    if console.color_system is None:  # what stands in backquotes would look like all the rest
        text = _INLINE.sub(r"`` `\1` ``", text)
    with console.use_theme(_THEME):
        for number, (kind, part) in enumerate(_split(text)):
            if number:
                console.print()
            if kind == "list":
                Page(console).rows(list_rows(part))
            elif kind == "code":  # a command is never broken, so that it can be copied
                console.print(
                    Text("".join(f"    {line}".rstrip() + "\n" for line in part.splitlines())), soft_wrap=True, end=""
                )
            else:
                _print_prose(part, console)


def _split(text: str) -> Iterator[tuple[str, str]]:
    """Splits a page into its lists, by their names, its blocks of code, and the prose between them."""
    position = 0
    for found in re.finditer(f"{LIST.pattern}|{_CODE.pattern}", text, re.DOTALL | re.MULTILINE):
        if prose := text[position : found.start()].strip():
            yield "prose", prose
        yield ("list", found[2]) if found[2] else ("code", found[5])
        position = found.end()
    if prose := text[position:].strip():
        yield "prose", prose


def _print_prose(text: str, console: Console) -> None:
    for segments in console.render_lines(_Prose(text, hyperlinks=False), pad=False):
        line = Text.assemble(*((segment.text, segment.style or "") for segment in segments))
        line.rstrip()
        console.print(line, soft_wrap=True)


class _Heading(Heading):
    LEVEL_ALIGN = dict.fromkeys(Heading.LEVEL_ALIGN, "left")


class _Table(TableElement):
    """A table that is one where it has room; in a narrower place, its last column is broken, or each row a block."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        head = _read_row(self.header.row) if self.header and self.header.row else []
        rows = [_read_row(row) for row in self.body.rows] if self.body else []
        widths = [max(row[column].cell_len for row in [head, *rows]) for column in range(len(head))]
        room = options.max_width - 2 * (len(head) - 1)
        if sum(widths) > room and sum(widths[:-1]) > _SHARE * room:
            yield Group(*(block for row in rows for block in _stack(head, row, options.max_width)))
            return
        table = Table.grid(padding=(0, 2, 0, 0))
        for number in range(len(head)):
            table.add_column(no_wrap=number < len(head) - 1, overflow="fold")
        if any(head):
            for cell in head:
                cell.stylize("markdown.table.header")
            table.add_row(*head)
        for row in rows:
            table.add_row(*row)
        yield table


def _read_row(row: "TableRowElement") -> list[Text]:
    return [cell.content.copy() for cell in row.cells]


def _stack(head: list[Text], row: list[Text], width: int) -> Iterator[Text | Padding]:
    """Writes a row as its first cell, and below it the others with their names, on one line where they have room."""
    first, *others = row
    first.stylize("bold")
    yield first
    named = [
        Text.assemble(name, ": ", cell) if name else cell for name, cell in zip(head[1:], others, strict=True) if cell
    ]
    together = Text("   ").join(named)
    for line in [together] if together.cell_len <= width - _INDENT else named:
        yield Padding(line, (0, 0, 0, _INDENT))


class _Prose(Markdown):
    elements = {**Markdown.elements, "heading_open": _Heading, "table_open": _Table}  # noqa: RUF012
