"""What a dry run found, and how it is shown."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from exporter.saving.contents import Endpoint, format_bytes
from exporter.saving.plans import Space
from exporter.text.page import Page, Shown, escape_markup
from exporter.text.showing import escape_line, write_json

if TYPE_CHECKING:
    from rich.console import Console


class Holding(StrEnum):
    """Whether a format can hold a model."""

    HELD = "held"
    MENDED = "mended"  # as functions, since it has no configuration that makes it again
    LOST = "lost"  # but for something
    REFUSED = "refused"
    NOT_INSTALLED = "not installed"


@dataclass(frozen=True, slots=True)
class FormatForecast:
    """What is known of one format.

    Attributes:
        name: Of the format.
        holding: Whether it can hold the model.
        remarks: What is mended or lost, why it is refused, or what is to be installed.
        bytes: What will be written at least; None where the format decides it.
        oldest_keras: The oldest release that opens it, of those that were tried; empty where none does.
        exit_code: With which an export would end.
    """

    name: str
    holding: Holding
    remarks: tuple[str, ...] = ()
    bytes: int | None = None
    oldest_keras: str = ""
    exit_code: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Forecast(Shown):
    """What a dry run found.

    Attributes:
        filepath: Where the artifact would go.
        asked: The name of the format that was asked for.
        formats: What is known of each.
        fault: Why nothing can be written there; empty if it can.
        space: What it takes, and what there is; None for a URL.
        needs: The classes and functions that a reader needs to import, by their dotted names.
        hints: What of them no reader can import, and what to do.
        endpoints: As they would be served, by name.
        no_endpoints: Why there are none; empty if there are.
        exit_code: With which the export would end.
    """

    filepath: str
    asked: str
    formats: tuple[FormatForecast, ...]
    fault: str
    space: Space | None
    needs: tuple[str, ...]
    hints: str
    endpoints: Mapping[str, Endpoint]
    no_endpoints: str
    exit_code: int

    def __repr__(self) -> str:
        """Says in one line what was asked for, and whether it can be had."""
        holding = next(each.holding for each in self.formats if each.name == self.asked)
        return escape_line(f"<Forecast for {self.filepath}: {self.asked}, {holding}>")

    def show(self, console: "Console") -> None:
        """Prints what `exporter check` prints."""
        _ForecastPage(console).show(self)

    def to_json(self) -> str:
        """Returns all of it as JSON."""
        return write_json(asdict(self), default=str)


class _ForecastPage(Page):
    def show(self, forecast: Forecast) -> None:
        """Prints what a dry run found."""
        self._show_formats(forecast)
        self._wrapped("target", escape_markup(forecast.fault or f"{forecast.filepath} can be written"))
        if forecast.space is not None:
            needed, free = format_bytes(forecast.space.needed), format_bytes(forecast.space.free)
            self._wrapped("space", escape_markup(f"{needed} at least, {free} are free in {forecast.space.directory}"))
        self._wrapped("needs", escape_markup(", ".join(forecast.needs) or "no code but Keras's own"))
        if forecast.hints:
            self._wrapped("", escape_markup(forecast.hints))
        if forecast.no_endpoints:
            self._wrapped("endpoints", escape_markup(f"none: {forecast.no_endpoints}"))
        for name, endpoint in forecast.endpoints.items():
            self._line("endpoint", escape_markup(name))
            self._flow(*endpoint.describe())

    def _show_formats(self, forecast: Forecast) -> None:
        from rich.table import Table

        table = Table.grid(padding=(0, 2, 0, 0))
        for name in ("format", "model", "size", "Keras"):
            table.add_column(name, no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row("[dim]format[/]", "[dim]model[/]", "[dim]size[/]", "[dim]oldest Keras[/]", "")
        for each in forecast.formats:
            mark = "→ " if each.name == forecast.asked else "  "
            table.add_row(f"{mark}{each.name}", *map(escape_markup, _word(each)))
        self._grid(table)


def _word(each: FormatForecast) -> tuple[str, str, str, str]:
    size = "" if each.bytes is None else format_bytes(each.bytes)
    return str(each.holding), size, each.oldest_keras, " ".join(each.remarks)
