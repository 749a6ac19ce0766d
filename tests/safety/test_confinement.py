"""Work on strangers' files in a process of its own: it says what it found, or has failed, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import ArtifactError, ExportError
from exporter.processes.confinement import GIB, run_confined

_MODULE = "confined_work"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)


def run(name: str, seconds: float = 1500, memory: int = 2 * GIB, **arguments: Any) -> Any:
    return run_confined(f"{_MODULE}:{name}", arguments, "Loading it", seconds, memory)


def test_it_returns_what_the_work_does(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("double", number=4) == 8
    assert capfd.readouterr().err == "a line of the work\n"


def test_a_refusal_is_handed_on() -> None:
    with pytest.raises(ExportError, match=r"^it is refused$"):
        run("refuse")


def test_another_error_is_said_in_a_line() -> None:
    with pytest.raises(ArtifactError, match=r"^Loading it failed: ZeroDivisionError: by$"):
        run("stumble")


@pytest.mark.parametrize(
    ("name", "arguments", "end"),
    [
        pytest.param("leave", {"code": 0}, "ended with exit code 0", id="exit_0"),
        pytest.param("leave", {"code": 7}, "ended with exit code 7", id="exit_7"),
        pytest.param("fall", {"number": 6}, "was ended by SIGABRT", id="abort"),
        pytest.param("fall", {"number": 11}, "was ended by SIGSEGV", id="segmentation_fault"),
    ],
)
def test_any_other_end_is_a_failure(name: str, arguments: dict[str, int], end: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        run(name, **arguments)
    assert str(caught.value) == (
        f"Loading it {end} before it said what it found. It may take 2.0 GiB of memory: give it more with "
        "--memory GIB, if you trust where the file comes from."
    )


def test_it_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    note = tmp_path / "child"
    for seconds in (2, 10, 60):  # a busy machine may not have begun it by then
        with pytest.raises(
            ArtifactError, match=rf"^Loading it did not end within {seconds} seconds, and was stopped\. "
        ):
            run("never_end", seconds=seconds, note=str(note))
        if note.exists() and note.read_text():
            break
    child = int(note.read_text())
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().split(")")[1].split()[0] in "ZX"


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        pytest.param("fill", "MemoryError", id="python"),
        pytest.param("fill_with_tensorflow", "ResourceExhaustedError", id="tensorflow"),
    ],
)
def test_it_takes_no_more_memory_than_it_may(name: str, fault: str) -> None:
    assert run(name, size=GIB // 4) == GIB // 4
    with pytest.raises(ArtifactError, match=rf"^Loading it failed: {fault}: "):
        run(name, size=3 * GIB)


_PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
from exporter.processes.interrupts import raise_endings
from exporter.processes.confinement import run_confined
raise_endings()
run_confined("confined_work:interrupted", {"note": sys.argv[1]}, "It", 600, 1 << 31)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_it_ends_with_whoever_waits_for_it(number: signal.Signals, tmp_path: Path) -> None:
    note = tmp_path / "note"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(note)], env=environment, stderr=subprocess.DEVNULL
    ) as parent:
        _wait_for(note, "begun")
        parent.send_signal(number)
        parent.wait(60)
    _wait_for(note, "cleaned up")


def _wait_for(note: Path, text: str) -> None:
    while not note.exists() or note.read_text() != text:
        time.sleep(0.05)
