"""A real sweep through the command line: jobs that work, that fail and whose process is killed, and how it goes on."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Phase
from exporter.storage.digests import digest_files, record_files
from sweeps.conftest import MODELS, TINY, Run, read_table

PATH = 'filepath="out/${model.kind}${exporter.suffix:${save_format}}"'
CELLS = ("+model.kind=fine,fails,dies", "save_format=tf,h5", PATH)


@dataclass(frozen=True)
class Story:
    """A sweep and what followed.

    Attributes:
        directory: In which the commands were run.
        first: The sweep.
        table: What it left.
        logs: The files of the jobs' directories after it.
        resumed: The same command with `resume=true`, after the cause of the deaths was mended.
        resumed_table: What that left.
        built: The kinds of models that were built, one for each time.
    """

    directory: Path
    first: subprocess.CompletedProcess[str]
    table: dict[str, Any]
    logs: dict[str, str]
    resumed: subprocess.CompletedProcess[str]
    resumed_table: dict[str, Any]
    built: list[str]


@pytest.fixture(scope="module")
def story(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Story:
    directory = tmp_path_factory.mktemp("sweep")
    first = run(directory, "-m", *TINY, *CELLS)
    table = read_table(directory)
    folder = Path(table["directory"])
    logs = {str(file.relative_to(folder)): file.read_text() for file in folder.glob("*/*.log")}
    (directory / "mended").touch()
    resumed = run(directory, "-m", *TINY, *CELLS, "resume=true")
    built = (directory / "built").read_text().split()
    return Story(directory, first, table, logs, resumed, read_table(directory), built)


pytestmark = pytest.mark.xdist_group("sweep")


def test_each_job_has_its_row_whatever_happened(story: Story) -> None:
    rows = story.table["rows"]
    assert [row["outcome"] for row in rows] == ["proven", "proven", "failed", "failed", "failed", "failed"]
    assert [row["format"] for row in rows] == ["tf", "h5"] * 3
    line = MODELS.split("        raise ValueError")[0].count("\n") + 1
    assert [row["error"] for row in rows[2:]] == [
        *[f"tiny_models.build raised ValueError: this model cannot be built (tiny_models.py:{line} in build)"] * 2,
        *["its process was ended by signal 9 (SIGKILL) during `build the model`"] * 2,
    ]
    assert [row["exit_code"] for row in rows] == [0, 0, 3, 3, 1, 1]
    assert story.first.returncode == story.table["exit_code"] == 1


def test_a_row_is_a_view_of_the_receipt(story: Story) -> None:
    for row in story.table["rows"][:2]:
        artifact = story.directory / "out" / ("fine" if row["format"] == "tf" else "fine.h5")
        receipt = Receipt.from_json(artifact.with_name(f"{artifact.name}.receipt.json").read_text())
        assert row["filepath"] == receipt.filepath == str(artifact)
        assert row["sha256"] == digest_files(record_files(artifact, artifact.name)) == digest_files(receipt.files)
        assert row["total_bytes"] == receipt.total_bytes
        assert row["save_seconds"] == receipt.seconds[Phase.WRITE]
        assert (row["output_difference"], row["state_difference"], row["resumes"]) == (0.0, 0.0, True)
        assert row["measurements"]["runs"] == 5
        assert 0 < row["measurements"]["median_seconds"] <= row["measurements"]["p99_seconds"]
        assert 0 < row["measurements"]["load_seconds"] < 60
        assert receipt.recipe.keys().isdisjoint({"measure", "on_error", "resume", "objective"})
        assert {holding["what"] for holding in row["held"]} >= {"weights", "optimizer", "random state"}


def test_a_source_is_built_once(story: Story) -> None:
    # In the first sweep; the last two are the mended ones of the second.
    assert story.built == ["fine", "dies"]


def test_everything_is_in_the_jobs_own_logs(story: Story) -> None:
    assert "building fine" in story.logs["0/output.log"]
    assert "✓ fine is the same model, proven in" in story.logs["0/output.log"]
    for number in (2, 3):
        assert "  ValueError: this model cannot be built\n  the second line" in story.logs[f"{number}/exporter.log"]
        assert "Traceback (most recent call last):" in story.logs[f"{number}/exporter.log"]
    assert "signal 9" in story.logs["4/exporter.log"]


def test_the_terminal_shows_a_line_a_job_and_one_table(story: Story) -> None:
    lines = story.first.stderr.splitlines()
    assert len(lines) == 6, story.first.stderr
    assert lines[0].startswith("1/6 ✓ proven   model.kind=fine save_format=tf  ")
    assert lines[2].startswith("3/6 ✗ failed   model.kind=fails save_format=tf  tiny_models.build raised ValueError")
    assert "6 jobs: 2 proven, 4 failed" in story.first.stdout.splitlines()
    assert "smallest              model.kind=fine save_format=h5" in story.first.stdout
    assert "Traceback" not in story.first.stdout + story.first.stderr


def test_the_files_of_the_table(story: Story) -> None:
    with (Path(story.table["directory"]) / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["outcome"] for row in rows] == ["proven", "proven", "failed", "failed", "proven", "proven"]
    assert [row["sha256"] for row in rows] == [row["sha256"] or "" for row in story.resumed_table["rows"]]
    assert story.table["versions"].keys() >= {"python", "exporter", "tensorflow", "keras"}


def test_resuming_runs_only_what_is_missing(story: Story) -> None:
    assert story.resumed_table["directory"] == story.table["directory"]
    assert story.resumed.stderr.splitlines()[0] == "2 of 6 jobs are finished already"
    before, after = story.table["rows"], story.resumed_table["rows"]
    assert [row["outcome"] for row in after] == ["proven", "proven", "failed", "failed", "proven", "proven"]
    # Whether it is on the front depends on the others too.
    assert [{**row, "on_front": None} for row in before[:2]] == [{**row, "on_front": None} for row in after[:2]]
    assert story.resumed.returncode == 3


def test_the_command_of_a_row_writes_the_same_bytes_alone(story: Story, run: Run, tmp_path: Path) -> None:
    import shlex

    for row in story.table["rows"][:2]:
        program, *arguments = shlex.split(row["command"])
        assert program == "exporter"
        done = run(tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
        artifact = tmp_path / Path(row["filepath"]).relative_to(story.directory)
        assert digest_files(record_files(artifact, artifact.name)) == row["sha256"]
        receipt = json.loads(artifact.with_name(f"{artifact.name}.receipt.json").read_text())
        assert receipt["measurements"]["runs"] == 5


def test_the_next_job_is_not_started_after_a_failure(run: Run, tmp_path: Path, blocked: dict[str, str]) -> None:
    done = run(tmp_path, "-m", *TINY, "save_format=tf,h5,keras", "on_error=stop", **blocked)
    assert done.returncode == 1
    assert [row["outcome"] for row in read_table(tmp_path)["rows"]] == ["failed", "missing", "missing"]
    assert "3 jobs: 1 failed, 2 not run" in done.stdout
    assert "1  not run: job 0 had failed" in done.stdout


@pytest.fixture
def blocked(blocked_environment: dict[str, str]) -> dict[str, str]:
    """An environment in which every job fails at once."""
    return {"PYTHONPATH": blocked_environment["PYTHONPATH"]}


def test_a_changed_recipe_is_run_anew_in_its_place(run: Run, tmp_path: Path, blocked: dict[str, str]) -> None:
    run(tmp_path, "-m", *TINY, "save_format=tf,h5", **blocked)
    first = read_table(tmp_path)
    run(tmp_path, "-m", *TINY, "save_format=keras,h5", "resume=true", **blocked)
    second = read_table(tmp_path)
    assert first["directory"] == second["directory"]
    assert [row["format"] for row in second["rows"]] == ["keras", "h5"]
    [aside] = Path(first["directory"]).glob("earlier-*-0")
    assert json.loads((aside / "row.json").read_text())["format"] == "tf"


def test_one_path_by_two_names_is_refused_before_anything_runs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    done = run(tmp_path, "-m", *TINY, "save_format=h5", "filepath=real/a.h5,./link/../real/a.h5,link/a.h5")
    assert done.returncode == 2
    assert " would both write link/../real/a.h5; give each its own" in done.stderr
    assert not (tmp_path / ".exporter").exists()


def test_nothing_to_resume_begins_anew(run: Run, tmp_path: Path, blocked: dict[str, str]) -> None:
    run(tmp_path, "-m", *TINY, "save_format=tf,h5", "resume=true", **blocked)
    run(tmp_path, "-m", *TINY, "save_format=tf,h5", "seed=3", "resume=true", **blocked)
    assert len(list(tmp_path.glob(".exporter/sweeps/*/*/sweep.json"))) == 2


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A sweep whose first job is at work."""
    (tmp_path / "tiny_models.py").write_text(f"{MODELS}\nimport time\n\n\ndef build():\n    time.sleep(600)\n")
    with subprocess.Popen(
        [sys.executable, "-m", "exporter", "-m", *TINY, "save_format=tf,h5", "hydra.sweep.dir=here"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        start_new_session=True,
    ) as process:
        while not (tmp_path / "here" / "0" / "progress.json").exists():
            assert process.poll() is None
            os.sched_yield()
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_two_sweeps_never_share_a_directory_and_an_interrupt_leaves_a_table(
    running: subprocess.Popen[str], run: Run, tmp_path: Path
) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "exporter", "-m", *TINY, "save_format=tf,h5", "hydra.sweep.dir=here"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.stderr == (
        f"exporter: Another sweep runs in {tmp_path / 'here'}. Wait for its end, or start this one in a directory of "
        "its own: leave hydra.sweep.dir out.\n"
    )
    assert second.returncode == 3
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=1500)
    assert running.returncode == 130
    assert stderr.splitlines()[-1] == "exporter: interrupted"
    assert "2 jobs: 1 failed, 1 not run" in stdout
    table = json.loads((tmp_path / "here" / "sweep.json").read_text())
    first, second_row = (row["error"] for row in table["rows"])
    assert re.fullmatch(r"interrupted during `[\w ]+`", first)  # how far it had come, the machine's load decides
    assert second_row == "not run"
