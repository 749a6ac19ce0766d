"""Two sweeps beside each other, and the list of those that were run: from rows that are made by hand."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.cli.commands import run_command
from exporter.sweeps.records.plans import PLAN, Plan
from exporter.sweeps.records.results import Outcome, write_row

from .test_report import make_plan_of, make_row


def write_sweep(directory: Path, count: int, scale: int = 1, started: str = "2026-01-02T03:04:05+00:00") -> Plan:
    """Writes a sweep of which the last job has failed."""
    plan = replace(make_plan_of(directory, count), started=started)
    directory.mkdir(parents=True)
    (directory / PLAN).write_text(plan.to_json())
    for cell in plan.cells[:-1]:
        write_row(make_row(cell, total_bytes=scale * (20_000 + 9_000 * cell.number)), Path(cell.directory))
    failed = make_row(plan.cells[-1], outcome=Outcome.FAILED, exit_code=4, error="it failed")
    write_row(failed, Path(plan.cells[-1].directory))
    return plan


@pytest.fixture
def sweeps(tmp_path: Path) -> tuple[Path, Path]:
    """One of four jobs, and a later one of six, whose artifacts are twice as large."""
    write_sweep(tmp_path / "a", 4)
    write_sweep(tmp_path / "b", 6, 2, "2026-02-03T04:05:06+00:00")
    return tmp_path / "a", tmp_path / "b"


def test_jobs_are_compared_one_by_one(sweeps: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["compare", *map(str, sweeps)]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:3] == [f"before  {sweeps[0]}", f"after   {sweeps[1]}"]
    index = next(number for number, line in enumerate(lines) if line.startswith("save_format=tf seed=0"))
    assert lines[index].split()[2:6] == ["✓", "proven", "40.0", "kB"]
    assert lines[index + 1].split()[:3] == ["20.0", "kB", "+100%"]
    assert "3 of 6 jobs" not in lines[-2]
    assert lines[-2].startswith("0 of 6 jobs are better in a figure, 3 worse")


def test_all_that_is_known_as_json(sweeps: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["compare", *map(str, sweeps), "--json"]) == 0
    pairs = {pair["label"]: pair for pair in json.loads(capsys.readouterr().out)["pairs"]}
    # The fourth has failed in the earlier sweep, which has no fifth, and the later one's sixth has failed.
    told = [(pair["before"], pair["after"]) for pair in pairs.values()]
    assert told == [("proven", "proven")] * 3 + [("failed", "proven"), (None, "proven"), (None, "failed")]
    [size] = [each for each in pairs["save_format=tf seed=0"]["figures"] if each["key"] == "total_bytes"]
    assert size == {
        "key": "total_bytes",
        "title": "bytes",
        "before": "20.0 kB",
        "after": "40.0 kB",
        "change": 1.0,
        "is_better": False,
    }


def test_a_sweep_beside_itself_is_equal(sweeps: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["compare", str(sweeps[0]), str(sweeps[0] / "report.html")]) == 0
    assert "0 of 4 jobs are better in a figure, 0 worse" in capsys.readouterr().out


def test_what_is_no_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["compare", str(tmp_path), str(tmp_path)]) == 3
    assert capsys.readouterr().err == (
        f"exporter: {tmp_path} is no sweep: no plan.json that can be read. "
        "`exporter sweeps` lists those of this directory.\n"
    )


def test_the_newest_is_the_first(sweeps: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["sweeps", str(sweeps[0].parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "digits_formats over save_format, seed  ✓ 5 proven  ✗ 1 failed" in lines[1]
    assert [lines[2].strip(), lines[4].strip()] == [str(sweeps[1]), str(sweeps[0])]
    assert lines[-2].split() == ["compare", "exporter", "compare", *map(str, sweeps)]
    assert run_command(["sweeps", str(sweeps[0].parent), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["sweeps"]
    assert [each["outcomes"] for each in told] == [{"proven": 5, "failed": 1}, {"proven": 3, "failed": 1}]


def test_a_sweep_is_found_where_it_was_moved_to(
    sweeps: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(sweeps[0], tmp_path / "elsewhere" / "c")
    assert run_command(["sweeps", str(tmp_path / "elsewhere")]) == 0
    assert "✓ 3 proven  ✗ 1 failed" in capsys.readouterr().out


def test_no_sweep_is_told_with_the_line_that_makes_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["sweeps", str(tmp_path)]) == 3
    assert capsys.readouterr().err == (
        f"exporter: There is no sweep below {tmp_path}. Run one: exporter -m save_format=tf,keras\n"
    )
