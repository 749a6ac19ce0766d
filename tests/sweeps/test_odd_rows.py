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

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.artifacts.records import Check, CheckKind
from exporter.config import Objective
from exporter.errors import ArtifactError
from exporter.sweeps.records.results import ROW, JobResult, Outcome, find_objective
from exporter.sweeps.showing.files import write_table
from exporter.sweeps.showing.monitor import Monitor
from exporter.sweeps.showing.report import write_report
from exporter.sweeps.showing.table import print_table
from exporter.sweeps.tables.collecting import Sweep, collect

from .test_report import make_plan_of, make_row

# Where a row has figures, and texts: with an artifact in its receipt, without one of its own.
OF_ANY = (
    *("number", "exit_code", "schema_version", "started", "finished", "format", "outcome", "host", "error"),
    *("recipe_hash", "filepath", "overrides.0"),
)
OF_A_RECEIPT = (
    *("schema_version", "total_bytes", "peak_memory_bytes", "seconds.write", "checks.0.difference", "files.0.size"),
    *("measurements.batch_size", "measurements.runs", "measurements.load_seconds", "measurements.first_seconds"),
    *("measurements.median_seconds", "measurements.p90_seconds", "measurements.p99_seconds"),
    *("measurements.memory_bytes", "machine.cores", "recipe.model.epochs"),
    *("status", "started", "format", "filepath", "host", "files.0.sha256", "checks.0.name", "held.0.what"),
)
PATHS = {
    True: (*OF_ANY, *(f"receipt.{path}" for path in OF_A_RECEIPT), "receipt"),
    False: (*OF_ANY, "failed_proof.0.difference", "failed_proof.0.name"),
}
CASES = [(path, outcome) for outcome in Outcome for path in PATHS[outcome in (Outcome.PROVEN, Outcome.WRITTEN)]]
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


@given(case=st.sampled_from(CASES), text=VALUES)
@example(case=("receipt.measurements.load_seconds", Outcome.PROVEN), text="1e400")
@example(case=("receipt.total_bytes", Outcome.PROVEN), text=ODD[4])
@example(case=("receipt.checks.0.difference", Outcome.PROVEN), text="NaN")
@example(case=("receipt.seconds.write", Outcome.PROVEN), text=ODD[4])
@example(case=("receipt.recipe.model.epochs", Outcome.PROVEN), text="-1e400")
@example(case=("number", Outcome.FAILED), text=ODD[4])
@example(case=("started", Outcome.FAILED), text='"yesterday"')
@example(case=("format", Outcome.PROVEN), text='"zip"')
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_odd_value_of_a_row_costs_that_row_at_most(case: tuple[str, Outcome], text: str) -> None:
    path, outcome = case
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        sweep, printed = write_all(directory, path, text, outcome)
        check_all(directory, sweep, printed)


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        pytest.param("receipt", "null", "outcome is proven, and there is no receipt", id="no receipt"),
        pytest.param("outcome", '"failed"', "outcome is 'failed', and its receipt says 'proven'", id="outcome"),
        pytest.param("receipt.host", '"there"', "host is 'here', and its receipt says 'there'", id="another's"),
        pytest.param("receipt.schema_version", "99", "its receipt has schema_version 99, not 1", id="a later receipt"),
        pytest.param("receipt.total_bytes", "-1", f"receipt.total_bytes is -1, not from 0 to {2**63 - 1}", id="bytes"),
        pytest.param(
            "receipt.checks.0.difference",
            "-0.5",
            "receipt.checks.0.difference is -0.5, and no difference is below 0",
            id="difference",
        ),
        *(
            pytest.param(
                "receipt.recipe.model",
                begin * levels + "1" + end * levels,
                "the recipe in its receipt is nested more than 100 levels deep",
                id=f"{levels} {kind}",
            )
            for levels in (100, 450, 900)
            for kind, begin, end in (("lists", "[", "]"), ("mappings", '{"a":', "}"))
        ),
    ],
)
def test_a_row_that_contradicts_its_receipt_is_damaged(path: str, text: str, message: str, tmp_path: Path) -> None:
    content = replace_value(make_row(make_plan_of(tmp_path, 1).cells[0]), path, text)
    with pytest.raises(ArtifactError) as caught:
        JobResult.from_json(content)
    assert str(caught.value) == f"The row is damaged: {message}. Run its job again."


def test_a_row_of_a_later_version_is_not_read(tmp_path: Path) -> None:
    content = replace_value(make_row(make_plan_of(tmp_path, 1).cells[0]), "schema_version", "3")
    with pytest.raises(ArtifactError) as caught:
        JobResult.from_json(content)
    assert str(caught.value) == ("The row has schema_version 3; this version of exporter reads 2. Run its job again.")


def test_figures_of_a_recipe_may_be_any(tmp_path: Path) -> None:
    row = make_row(
        make_plan_of(tmp_path, 1).cells[0],
        recipe={"model": {"epochs": -1, "scale": [-math.inf, None]}, "deep": json.loads("[" * 99 + "]" * 99)},
    )
    assert JobResult.from_json(row.to_json()) == row


@given(differences=st.lists(st.sampled_from([None, 0.0, 0.5, math.inf, math.nan]), max_size=4))
def test_the_largest_difference_does_not_depend_on_the_order(differences: list[float | None]) -> None:
    cell = make_plan_of(Path("/sweep"), 1).cells[0]
    checks = [Check("predictions", False, "", "", each, CheckKind.OUTPUTS) for each in differences]
    largest = [
        make_row(cell, checks=tuple(some)).output_difference for some in (checks, checks[::-1], checks[1:] + checks[:1])
    ]
    known = [each for each in differences if each is not None]
    expected = None if not known else math.nan if any(map(math.isnan, known)) else max(known)
    assert list(map(str, largest)) == [str(expected)] * 3
