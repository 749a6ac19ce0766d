"""Rows that others may have written: whatever a figure of one is, it costs that row at most, and never the table."""

import csv
import itertools
import json
import math
import tempfile
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.config import Objective
from exporter.sweeps.records.results import ROW, Outcome, find_objective
from exporter.sweeps.showing.monitor import Monitor
from exporter.sweeps.showing.report import write_report
from exporter.sweeps.showing.table import Sweep, collect, print_table, write_table

from .test_report import make_plan_of, make_row

# Where a row has figures.
FIGURES = (
    *("number", "exit_code", "total_bytes", "save_seconds", "peak_memory_bytes"),
    *("output_difference", "state_difference", "seconds.prove it", "checks.0.difference"),
    *("measurements.batch_size", "measurements.runs", "measurements.load_seconds", "measurements.first_seconds"),
    *("measurements.median_seconds", "measurements.p90_seconds", "measurements.p99_seconds"),
    "measurements.memory_bytes",
)
TEXTS = (
    "started",
    "finished",
    "format",
    "outcome",
    "host",
    "error",
    "sha256",
    "recipe_hash",
    "filepath",
    "overrides.0",
)
# What reads as a figure in Python's JSON: also what no other reader takes for JSON.
ODD = ("1e400", "-1e400", "NaN", "Infinity", "1" + "0" * 400, "-1" + "0" * 400, "1" + "0" * 5000, "1e308", "-1e-320")
TYPES = ("-1", "-0.0", "true", '"7"', '"\\u001b[2J"', "[]", "{}", "null", '"\\ud800"', "9223372036854775807")


def replace_value(row: Any, path: str, text: str) -> str:
    """Writes a row as JSON in which a text stands for one of its values."""
    fields = json.loads(json.dumps(asdict(row)))
    *owners, key = path.split(".")
    owner = fields
    for each in owners:
        owner = owner[int(each) if isinstance(owner, list) else each]
    owner[int(key) if isinstance(owner, list) else key] = "VALUE"
    return json.dumps(fields).replace('"VALUE"', text)


def write_all(directory: Path, path: str, text: str, outcome: Outcome = Outcome.PROVEN) -> tuple[Sweep, str]:
    """Lets every writer write a sweep of two jobs, one of them with an odd row; returns it and what was printed."""
    plan = make_plan_of(directory, 2)
    rows = [make_row(plan.cells[0]), make_row(plan.cells[1], outcome=outcome)]
    texts = [rows[0].to_json(), replace_value(rows[1], path, text)]
    printed = StringIO()
    with Monitor(plan, printed):
        for cell, content in zip(plan.cells, texts, strict=True):
            Path(cell.directory).mkdir(exist_ok=True)
            (Path(cell.directory) / ROW).write_text(content)
    sweep = collect(plan)
    write_table(sweep)
    report = write_report(sweep)
    print_table(sweep, str(report), printed)
    page = report.read_text(encoding="utf-8")
    assert not [each for each in page if not each.isprintable() and each != "\n"]
    for row, objective in itertools.product(sweep.rows, Objective):
        assert not math.isnan(find_objective(row, objective))
    return sweep, printed.getvalue()


def check_all(directory: Path, sweep: Sweep, printed: str) -> None:
    """Checks that the sound row is whole everywhere, and that the odd one is there or is called damaged."""
    assert [row.number for row in sweep.rows] == [0, 1]
    assert sweep.rows[0].outcome is Outcome.PROVEN
    assert not [each for each in printed if not each.isprintable() and each != "\n"]
    assert max(map(len, printed.splitlines())) <= 5_000

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    table = json.loads((directory / "sweep.json").read_text(), parse_constant=refuse)
    assert table["rows"][0]["total_bytes"] == 20_000
    with (directory / "sweep.csv").open(encoding="utf-8", newline="") as file:
        sound, odd = csv.DictReader(file)
    assert sound["total_bytes"] == "20000"
    damaged = sweep.rows[1].outcome is Outcome.FAILED and sweep.rows[1].error.startswith("The row ")
    if damaged:
        assert odd["error"] == sweep.rows[1].error
        assert sweep.rows[1].error in printed.replace("\\[", "[")
    page = (directory / "report.html").read_text(encoding="utf-8")
    charts = ("Size", "Time", "Latency against size", "Difference per check")
    assert [title for title in charts if f"<h3>{title}</h3>" not in page] == []


VALUES = st.one_of(
    st.sampled_from((*ODD, *TYPES)),
    st.floats().map(json.dumps),
    st.integers(-(10**320), 10**320).map(json.dumps),
    st.text().map(json.dumps),
)


@given(path=st.sampled_from((*FIGURES, *TEXTS)), text=VALUES, outcome=st.sampled_from(Outcome))
@example(path="measurements.load_seconds", text="1e400", outcome=Outcome.PROVEN)
@example(path="total_bytes", text=ODD[4], outcome=Outcome.PROVEN)
@example(path="output_difference", text="NaN", outcome=Outcome.PROVEN)
@example(path="seconds.prove it", text=ODD[4], outcome=Outcome.PROVEN)
@example(path="number", text=ODD[4], outcome=Outcome.FAILED)
@example(path="started", text='"yesterday"', outcome=Outcome.FAILED)
@example(path="format", text='"zip"', outcome=Outcome.PROVEN)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_odd_value_of_a_row_costs_that_row_at_most(path: str, text: str, outcome: Outcome) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        sweep, printed = write_all(directory, path, text, outcome)
        check_all(directory, sweep, printed)
