"""The charts of a sweep's report, as SVG that takes its colours from the page around it."""

import io
import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from exporter.artifacts.records import Check
from exporter.saving.contents import format_bytes
from exporter.saving.formats import FORMATS
from exporter.sweeps.records.results import JobResult
from exporter.sweeps.tables.collecting import Sweep
from exporter.sweeps.tables.columns import word_difference, word_score
from exporter.sweeps.tables.comparing import find_best_rows
from exporter.sweeps.tables.words import format_seconds, leave_keys_out
from exporter.text.printable import escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stand for the page's own colours while a chart is drawn, and are replaced by the names of these in its SVG.
_INK, _FAINT, _GRID, _PAPER = "#010203", "#040506", "#070809", "#0a0b0c"
_SERIES = ("#a10001", "#a10002", "#a10003", "#a10004", "#a10005", "#a10006", "#a10007", "#a10008")
_VARIABLES = {
    _INK: "var(--ink)",
    _FAINT: "var(--faint)",
    _GRID: "var(--grid)",
    _PAPER: "var(--paper)",
    **{color: f"var(--series-{number})" for number, color in enumerate(_SERIES)},
}
# For the formats in their order, and again from the first where there are more of them.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_HATCHES = ("", "////", "xxxx", "....", "\\\\\\\\", "++++", "oooo", "----")
_MOST_BARS = 24
_FACTOR = 10  # between the largest and the smallest figure of an axis that shows both
_LONGEST_NAME = 30
_MANY_NAMES = 6  # side by side at the head of a chart
# Where the words of a point may stand: right or left of it, above or below, in points.
_PLACES = tuple((across, along) for around in ((5, -13), (16, -24)) for across in (7, -7) for along in around)
_CHARACTER = 5.6  # width of one, in points


def draw_charts(sweep: Sweep) -> list[tuple[str, str, str]]:
    """Draws the charts that the rows of a sweep have figures for.

    Args:
        sweep: The sweep.

    Returns:
        The title of each chart, what it says in words, and its SVG. One that fails is left out and named in the log.
    """
    rows = [row for row in sweep.rows if row.is_finished]
    measured = [row for row in rows if row.measurements]
    compared = [row for row in sweep.rows if any(check.difference is not None for check in row.checks)]
    labels = {row.number: escape(label) for row, label in zip(sweep.rows, sweep.labels, strict=True)}
    models = [[row for row in rows if row.is_finished] for rows in sweep.models.values()]
    front = partial(_draw_front, models=[[row for row in rows if row.measurements] for rows in models])
    drawn = (
        (partial(_draw_bytes, models=models), rows),
        (_draw_seconds, rows),
        (front, measured),
        (_draw_differences, compared),
    )
    charts = []
    for draw, shown in drawn:
        if shown:
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "Glyph .* missing")  # the page has other fonts
                    charts.append(draw(shown, labels))
            except Exception:  # of Matplotlib's, on whatever figures: it costs this chart, and neither report nor table
                logging.getLogger(__name__).exception("A chart of the report could not be drawn.")
    return charts


def _draw_bytes(
    rows: Sequence[JobResult], labels: dict[int, str], models: Sequence[Sequence[JobResult]]
) -> tuple[str, str, str]:
    shown = rows[:_MOST_BARS]
    figure, axes = _make_axes(height=0.9 + 0.36 * len(shown))
    values = list(map(_count_bytes, shown))
    for position, (row, value) in enumerate(zip(shown, values, strict=True)):
        number = _number_format(row.format)
        color, hatch = _SERIES[number], _HATCHES[number]
        axes.barh(position, value, height=0.62, color=color, hatch=hatch, edgecolor=_PAPER, linewidth=0)
        _name_value(axes, value, position, format_bytes(value))
    _name_bars(axes, shown, labels)
    axes.set_xlim(0, max(values) * 1.22 or 1)
    axes.xaxis.set_visible(False)
    smallest = [labels[min(rows, key=_count_bytes).number] for rows in models if rows]
    one = "the smallest is" if len(smallest) == 1 else "of each model the smallest is"
    words = f"Bytes of each artifact; {one} {'; '.join(smallest)}.{_word_rest(rows)}"
    return "Size", words, _to_svg(figure)


def _draw_seconds(rows: Sequence[JobResult], labels: dict[int, str]) -> tuple[str, str, str]:
    shown = rows[:_MOST_BARS]
    is_converted = any(row.receipt is not None and row.receipt.deployment is not None for row in shown)
    saving = "save or convert" if is_converted else "save"
    kinds = [(saving, [row.save_seconds for row in shown])]
    if any(row.measurements for row in shown):
        kinds.append(("load", [row.measurements.load_seconds if row.measurements else None for row in shown]))
        kinds.append(("first answer", [row.measurements.first_seconds if row.measurements else None for row in shown]))
    figure, axes = _make_axes(height=1.2 + 0.36 * len(shown) * len(kinds) * 0.7)
    height = 0.8 / len(kinds)
    for number, (name, values) in enumerate(kinds):
        offset = (number - (len(kinds) - 1) / 2) * height
        places = [position + offset for position in range(len(shown))]
        axes.barh(
            places,
            [value or 0 for value in values],
            height=height * 0.86,
            color=_SERIES[3 + number],
            hatch=_HATCHES[number],
            edgecolor=_PAPER,
            linewidth=0,
            label=name,
        )
        for place, value in zip(places, values, strict=True):
            if value is not None:
                _name_value(axes, value, place, format_seconds(value))
    _name_bars(axes, shown, labels)
    largest = max(value or 0 for _, values in kinds for value in values)
    axes.set_xlim(0, largest * 1.22 or 1)
    axes.xaxis.set_visible(False)
    _add_legend(axes)
    words = f"Seconds to {saving}, to load in a fresh process, and to the first answer.{_word_rest(rows)}"
    return "Time", words, _to_svg(figure)


def _draw_front(
    rows: Sequence[JobResult], labels: dict[int, str], models: Sequence[Sequence[JobResult]]
) -> tuple[str, str, str]:
    figure, axes = _make_axes(height=3.9)
    points = {
        row.number: (float(_count_bytes(row)), row.measurements.median_seconds) for row in rows if row.measurements
    }
    fronts = [find_best_rows(rows) for rows in models if rows]
    for front in fronts:
        axes.plot(
            [points[number][0] for number in front],
            [points[number][1] for number in front],
            color=_FAINT,
            linewidth=1.2,
            linestyle="--",
            zorder=1,
        )
    for name in sorted({row.format for row in rows}, key=_number_format):
        chosen = [points[row.number] for row in rows if row.format == name]
        axes.scatter(
            [size for size, _ in chosen],
            [seconds for _, seconds in chosen],
            s=58,
            marker=_MARKERS[_number_format(name)],
            color=_SERIES[_number_format(name)],
            edgecolors=_PAPER,
            linewidths=1,
            label=name,
            zorder=3,
        )
    axes.margins(0.2, 0.2)
    axes.set_xlabel("bytes")
    axes.set_ylabel("median latency")
    _scale(axes.xaxis, [size for size, _ in points.values()], lambda value: format_bytes(max(round(value), 0)))
    _scale(axes.yaxis, [seconds for _, seconds in points.values()], format_seconds)
    axes.grid(color=_GRID, linewidth=0.8)
    _add_legend(axes)
    figure.draw_without_rendering()  # only then it is known where the points are
    best = [number for front in fronts for number in front]
    _name_points(axes, points, rows, best)
    metrics = sorted({escape(row.score.metric) for row in rows if row.score is not None})
    names = "; ".join(f"{number} {labels[number]}" for number in best)
    better = "smaller, faster and of better score" if metrics else "smaller and faster"
    of_it = " of its model" if len(fronts) > 1 else ""
    words = f"No job{of_it} is at once {better} than one on the dashed line: {names}."
    if metrics:
        words += f" Beside each number stands its {' or '.join(metrics)}."
    return "Latency against size", words, _to_svg(figure)


def _name_points(
    axes: "Axes", points: Mapping[int, tuple[float, float]], rows: Sequence[JobResult], front: Sequence[int]
) -> None:
    """Writes number and score beside each point, where nothing stands yet; those on the front choose first."""
    scale = 72 / axes.figure.dpi
    places = {number: axes.transData.transform(point) * scale for number, point in points.items()}
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in places.values()]
    for row in sorted(rows, key=lambda row: row.number not in front):
        words = str(row.number) if row.score is None else f"{row.number} · {word_score(row.score.artifact)}"
        width, (x, y) = _CHARACTER * len(words), places[row.number]
        boxes = {}
        for across, along in _PLACES:
            left = x + across if across > 0 else x + across - width
            boxes[across, along] = (left, y + along, left + width, y + along + 9)
        place, box = min(boxes.items(), key=lambda each: sum(_meet(each[1], other) for other in taken))
        taken.append(box)
        axes.annotate(
            words,
            points[row.number],
            xytext=place,
            textcoords="offset points",
            ha="left" if place[0] > 0 else "right",
            fontsize=9,
            fontweight="bold" if row.number in front else "normal",
            color=_INK if row.number in front else _FAINT,
        )


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two boxes of left, bottom, right and top have something in common."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _scale(axis: Any, values: Sequence[float], word: Callable[[float], str]) -> None:
    """Writes figures at an axis, which grows by factors where the largest is many times the smallest."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    if 0 < _FACTOR * min(values) < max(values):
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(4))
    axis.set_major_formatter(lambda value, _: word(value) if value > 0 else "")


def _draw_differences(rows: Sequence[JobResult], labels: dict[int, str]) -> tuple[str, str, str]:
    shown = rows[:_MOST_BARS]
    compared = [check for row in shown for check in row.checks if check.difference is not None]
    names = list(dict.fromkeys(escape(check.name) for check in compared))
    is_wide = len(names) >= _MANY_NAMES
    figure, axes = _make_axes(height=(2.6 if is_wide else 1.3) + 0.34 * len(shown))
    for position, row in enumerate(shown):
        checks = {escape(check.name): check for check in row.checks}
        for column, name in enumerate(names):
            _draw_cell(axes, column, position, checks.get(name))
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_xticks(
        range(len(names)), names, rotation=65 if is_wide else 25, ha="left", rotation_mode="anchor", fontsize=8.5
    )
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    _name_bars(axes, shown, labels)
    equal = all(check.difference == 0 for check in compared)
    words = "Largest difference between artifact and model in each check: " + (
        "all are bit-equal." if equal else "a square is bit-equal, a cross with its figure is not."
    )
    return "Difference per check", f"{words}{_word_rest(rows)}", _to_svg(figure)


def _draw_cell(axes: "Axes", column: int, position: int, check: Check | None) -> None:
    if check is None or (check.difference is None and check.passed):
        axes.text(column, position, "·", ha="center", va="center", color=_FAINT)
    elif check.difference == 0:
        axes.scatter(column, position, marker="s", s=70, color=_SERIES[2])
    else:
        axes.scatter(column, position, marker="X", s=70, color=_SERIES[4])
        if check.difference is not None:
            axes.text(column, position + 0.36, word_difference(check.difference), ha="center", color=_INK, fontsize=7.5)


def _word_rest(rows: Sequence[JobResult]) -> str:
    """Says how many jobs a chart of bars has no room for."""
    return f" The first {_MOST_BARS} of {len(rows)} jobs." if len(rows) > _MOST_BARS else ""


def _count_bytes(row: JobResult) -> int:
    return 0 if row.receipt is None else row.receipt.total_bytes


def _number_format(name: str) -> int:
    """Gives the position of a format among the colours; one that a newer version wrote comes after the known ones."""
    names = list(FORMATS)
    return (names.index(name) if name in names else len(names)) % len(_SERIES)


def _make_axes(height: float) -> tuple["Figure", "Axes"]:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["text.parse_math"] = False  # a label may hold any number of $
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text: it can be read out, found and copied
    matplotlib.rcParams["svg.hashsalt"] = "exporter"
    matplotlib.rcParams["hatch.linewidth"] = 1.1
    matplotlib.rcParams["font.family"] = "sans-serif"
    figure = Figure(figsize=(4.8, height * 0.88), layout="constrained")
    axes = figure.add_subplot()
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(which="both", colors=_FAINT, labelsize=8.5, length=0)
    axes.xaxis.label.set_color(_FAINT)
    axes.yaxis.label.set_color(_FAINT)
    axes.set_axisbelow(True)
    return figure, axes


def _name_bars(axes: "Axes", rows: Sequence[JobResult], labels: dict[int, str]) -> None:
    names = [f"{row.number} · {_fit(labels[row.number])}" for row in rows]
    axes.set_yticks(range(len(names)), names, fontsize=8.5, color=_INK)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _fit(label: str) -> str:
    """Leaves the keys out where they do not fit: the values are what tells the jobs apart."""
    if len(label) > _LONGEST_NAME:
        label = leave_keys_out(label)
    return label if len(label) <= _LONGEST_NAME else f"{label[: _LONGEST_NAME - 1]}…"


def _name_value(axes: "Axes", value: float, position: float, words: str) -> None:
    axes.annotate(words, (value, position), (5, 0), textcoords="offset points", va="center", color=_INK, fontsize=8.5)


def _add_legend(axes: "Axes") -> None:
    legend = axes.figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=8.5, labelcolor=_INK)
    for handle in legend.legend_handles:
        if handle is not None and hasattr(handle, "set_linewidth"):
            handle.set_linewidth(0)


def _to_svg(figure: "Figure") -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = file.getvalue()
    svg = re.sub(r'<g id="[^"]*"', "<g", svg[svg.index("<svg") :])  # every chart would have the same ones
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    return svg
