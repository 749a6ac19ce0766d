"""What `exporter diff` shows a person, on one screen."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from exporter.artifacts.inspection.records import (
    ComparisonFields,
    Difference,
    SignatureComparisonFields,
    SignatureDifference,
    TensorDifference,
)
from exporter.saving.contents import format_bytes
from exporter.saving.formats import name_kind
from exporter.text.page import Page, escape_markup
from exporter.text.printable import escape

if TYPE_CHECKING:
    from rich.console import Console

# A screen has a few dozen lines; --json has everything.
_SHOWN = 8
_SHOWN_LENGTH = 40


def show_comparison(comparison: ComparisonFields, console: "Console") -> None:
    """Prints how two artifacts differ.

    Args:
        comparison: The differences.
        console: Where to print.
    """
    _ComparisonPage(console).print(comparison)


def show_signatures(comparison: SignatureComparisonFields, console: "Console") -> None:
    """Prints what has changed for the clients of the first artifact.

    Args:
        comparison: The changes.
        console: Where to print.
    """
    _ComparisonPage(console).print_signatures(comparison.first, comparison.second, comparison.differences)


class _ComparisonPage(Page):
    def print(self, comparison: ComparisonFields) -> None:
        mark = "[bold green]✓[/]" if comparison.same else "[bold yellow]≠[/]"
        words = "hold the same" if comparison.same else "differ"
        self._console.print()
        self._line("", f"{mark} the two artifacts {words}", bare=True)
        self._console.print()
        for label, path, kind, size in zip(
            ("first", "second"),
            (comparison.first, comparison.second),
            comparison.formats,
            comparison.sizes,
            strict=True,
        ):
            self._line(label, f"[bold]{escape_markup(path)}[/]  {name_kind(kind)}, {format_bytes(size)}")
        self._differences("config", comparison.config)
        self._differences("layers", comparison.layers)
        self._differences("optimizer", comparison.optimizer)
        self._differences("compile", comparison.compile)
        self._tensors(comparison)
        if comparison.assets:
            self._differences("assets", comparison.assets)
        if comparison.has_graphs:
            self._signatures(comparison.signatures)
            self._differences("graph", comparison.operations)
        else:
            self._wrapped("endpoints", "not compared: only a SavedModel has a graph with endpoints")
        self._console.print()

    def print_signatures(self, first: str, second: str, differences: Sequence[SignatureDifference]) -> None:
        broken = [difference for difference in differences if not difference.compatible]
        mark = "[bold red]✗[/]" if broken else "[bold green]✓[/]"
        number = f"{len(broken)} change{'s' if len(broken) != 1 else ''}"
        words = f"{number} would break clients of the first" if broken else "clients of the first can go on"
        self._console.print()
        self._line("", f"{mark} {words}", bare=True)
        self._console.print()
        self._line("first", f"[bold]{escape_markup(first)}[/]")
        self._line("second", f"[bold]{escape_markup(second)}[/]")
        self._signatures(differences, limit=None)
        self._console.print()

    def _differences(self, label: str, differences: Sequence[Difference]) -> None:
        rows = [(each.path, f"{_write(each.first)} -> {_write(each.second)}") for each in differences[:_SHOWN]]
        self._pairs(label, rows or [("the same", "")])
        self._rest(len(differences))

    def _tensors(self, comparison: ComparisonFields) -> None:
        differences = comparison.tensors
        by_kind: dict[str, int] = {}
        for each in differences:
            by_kind[each.kind] = by_kind.get(each.kind, 0) + 1
        differ = sum(number for kind, number in by_kind.items() if not kind.startswith("only"))
        summary = f"{comparison.compared} in both, {comparison.compared - differ} of them equal"
        self._wrapped("tensors", summary + "".join(f"; {number} {kind}" for kind, number in by_kind.items()))
        # The largest differences first; what is in one alone has none.
        ordered = sorted(differences, key=lambda each: -(each.largest or 0.0))
        self._pairs("", [(each.path, _describe(each)) for each in ordered[:_SHOWN]])
        self._rest(len(differences))

    def _signatures(self, differences: Sequence[SignatureDifference], limit: int | None = _SHOWN) -> None:
        rows = [
            (each.path, f"{each.message} ({'compatible' if each.compatible else 'breaks clients'})")
            for each in sorted(differences, key=lambda each: each.compatible)[:limit]
        ]
        self._pairs("endpoints", rows or [("the same", "")])
        if limit is not None:
            self._rest(len(differences))

    def _rest(self, number: int) -> None:
        if number > _SHOWN:
            self._wrapped("", f"and {number - _SHOWN} more, with --json")


def _describe(difference: TensorDifference) -> str:
    if difference.kind.startswith("only"):
        return f"{difference.kind}: {difference.first or difference.second}"
    if difference.kind in ("shape", "trainable"):
        return f"{difference.first} -> {difference.second}"
    words = "equal values"
    if difference.differing:
        words = "1 value differs" if difference.differing == 1 else f"{difference.differing:,} values differ"
    if difference.largest is not None and difference.differing:
        words += f" by {difference.largest:.3g} at most"
    return words if difference.kind == "values" else f"{difference.first} -> {difference.second}, {words}"


def _write(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    text = escape(text)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[: _SHOWN_LENGTH - 1]}…"
