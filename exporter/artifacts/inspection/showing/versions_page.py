"""The numbered versions of a directory, as a person reads them."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifacts.numbered_versions import NumberedVersion
from exporter.saving.contents import format_bytes
from exporter.text.page import Page, Shown, escape_markup
from exporter.text.showing import escape_line, format_moment, write_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_TITLES = ("version", "when", "recipe", "accuracy", "size", "contract", "verified")
_UNKNOWN = "-"
_NEWEST = "◆"


@dataclass(frozen=True, slots=True, repr=False)
class Versions(Shown):
    """The numbered versions of a directory, the newest first.

    Attributes:
        directory: Where they are.
        versions: What is known of each.
    """

    directory: Path
    versions: tuple[NumberedVersion, ...]

    def __repr__(self) -> str:
        """Names the directory in one line."""
        return escape_line(f"<Versions of {self.directory}: {len(self.versions)}>")

    def __len__(self) -> int:
        """Counts them."""
        return len(self.versions)

    def __iter__(self) -> Iterator[NumberedVersion]:
        """Gives one after the other."""
        return iter(self.versions)

    def __getitem__(self, place: int) -> NumberedVersion:
        """Gives one, the newest at 0."""
        return self.versions[place]

    def show(self, console: "Console") -> None:
        """Prints a row for each: side by side where the terminal has room for it, else below each other."""
        _VersionsPage(console).print(self.versions)

    def to_json(self) -> str:
        """Returns all that is known of them as JSON."""
        return write_json({"versions": [asdict(version) for version in self.versions]})


class _VersionsPage(Page):
    """The versions, and what there is to say of some of them."""

    def print(self, versions: Sequence[NumberedVersion]) -> None:
        """Prints all of it."""
        from rich.measure import Measurement

        self._console.print()
        table = _build_table(versions)
        unbound = self._console.options.update(width=10 * self._console.width)
        if Measurement.get(self._console, unbound, table).maximum <= self._console.width:
            self._grid(table)
            remarks = [(f"{version.number}", remark) for version in versions for remark in _list_remarks(version)]
            if remarks:
                self._console.print()
                self.rows(remarks)
        else:
            for number, version in enumerate(versions):
                if number:
                    self._console.print()
                self._print_below_each_other(version)
        self._console.print()
        if any(version.newest for version in versions):
            self._console.print(f"[bold cyan]{_NEWEST}[/][dim]  the newest, which a server takes[/]", soft_wrap=True)

    def _print_below_each_other(self, version: NumberedVersion) -> None:
        for title, cell in zip(_TITLES, _write_cells(version), strict=True):
            self._line(title, escape_markup(cell))  # never broken by us: a name can be copied
        for remark in _list_remarks(version):
            self._wrapped("", escape_markup(remark))


def _build_table(versions: Sequence[NumberedVersion]) -> "Table":
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    for title in _TITLES:
        table.add_column(no_wrap=True, justify="right" if title in ("accuracy", "size") else "left")
    table.add_row(*(f"[dim]{title}[/]" for title in _TITLES))
    for version in versions:
        cells = [escape_markup(cell) for cell in _write_cells(version)]
        table.add_row(f"[bold]{cells[0]}[/]", *cells[1:])
    return table


def _write_cells(version: NumberedVersion) -> tuple[str, ...]:
    """Writes what the titles say."""
    scores = ", ".join(f"{score.artifact:.4f}" for score in version.scores)
    if version.scores and {score.metric for score in version.scores} != {"accuracy"}:
        scores = ", ".join(f"{score.metric} {score.artifact:.4f}" for score in version.scores)
    return (
        f"{version.number} {_NEWEST}" if version.newest else f"{version.number}",
        format_moment(version.finished) or _UNKNOWN,
        version.recipe or _UNKNOWN,
        scores or _UNKNOWN,
        _UNKNOWN if version.total_bytes is None else format_bytes(version.total_bytes),
        version.contract or _UNKNOWN,
        _write_status(version),
    )


def _write_status(version: NumberedVersion) -> str:
    if version.broken:
        return "✗ broken"
    return {"proven": "✓ proven", "written": "! written"}.get(version.status, "? unknown")


def _list_remarks(version: NumberedVersion) -> list[str]:
    return [*([version.fault] if version.fault else []), *([f"from {version.came_from}"] if version.came_from else [])]
