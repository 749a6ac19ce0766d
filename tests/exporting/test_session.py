"""The processes that wait for the next export of a Python process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.exporting.session import ExportSession, WarmProcesses
from exporter.processes.fresh_process import FreshProcess
from exporter.verification.deployment.worker import start_runtime


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> Iterator[WarmProcesses]:
    processes = WarmProcesses()
    monkeypatch.setattr("exporter.exporting.session.WARM_PROCESSES", processes)
    yield processes
    processes.close()


def use() -> FreshProcess:
    """Lets a session begin an artifact in its process, as every export does."""
    with ExportSession(is_warm=True) as session:
        process = session.open_process(start_runtime)
        process.wait_until_ready()
    return process


def test_the_next_session_has_the_process_of_the_one_before_and_a_new_child_of_it(warm: WarmProcesses) -> None:
    with ExportSession(is_warm=True) as session:
        first = session.open_process(start_runtime)
        first.begin()
        assert "error" in first.ask("ask", 60, endpoint="none", batches="none", answers="none")
    second = use()
    assert second is first
    warm.close()
    assert not first.is_ready()


def test_a_session_of_the_command_line_leaves_no_process() -> None:
    with ExportSession() as session:
        process = session.open_process(start_runtime)
    assert not process.is_ready()


def test_two_sessions_at_once_have_a_process_each_and_one_is_kept(warm: WarmProcesses) -> None:
    with ExportSession(is_warm=True) as one, ExportSession(is_warm=True) as other:
        processes = [session.open_process(start_runtime) for session in (one, other)]
        assert processes[0] is not processes[1]
    assert [process.is_ready() for process in processes] == [False, True]


@pytest.mark.usefixtures("warm")
def test_a_process_that_ended_or_would_be_told_other_things_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    first = use()
    os.kill(first.id, signal.SIGKILL)
    first.describe_end()
    second = use()
    assert second is not first
    monkeypatch.setenv("EXPORTER_TEST", "1")
    third = use()
    assert third is not second
    assert not second.is_ready()
    monkeypatch.syspath_prepend("/nowhere")
    assert use() is not third


@pytest.mark.usefixtures("warm")
def test_a_process_with_a_question_that_nobody_heard_the_answer_of_is_not_kept() -> None:
    with ExportSession(is_warm=True) as session:
        process = session.open_process(start_runtime)
        process.begin()
        process.send("ask", endpoint="none", batches="none", answers="none")
    assert not process.is_ready()


# It leaves a fork behind, which has what was open in it: the process must not live on because of that.
_FORKING = """
import json, os, sys, time
from exporter.exporting.session import ExportSession
from exporter.verification.deployment.worker import start_runtime
with ExportSession(is_warm=True) as session:
    process = session.open_process(start_runtime)
    process.wait_until_ready()
early = os.fork()
if early == 0:
    sys.exit()  # as a program ends, with all that is to be done then
os.waitpid(early, 0)
late = os.fork()
if late == 0:
    time.sleep(60)
    os._exit(0)
with ExportSession(is_warm=True) as session:
    again = session.open_process(start_runtime)
    again.wait_until_ready()
print(json.dumps({"same": again is process, "process": process.id, "fork": late}), flush=True)
time.sleep(60)
"""


def test_it_outlives_a_fork_of_its_parent_and_ends_with_the_parent_though_a_fork_lives() -> None:
    with subprocess.Popen([sys.executable, "-c", _FORKING], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        told = json.loads(parent.stdout.readline())
        try:
            assert told["same"]
            parent.kill()
            deadline = time.monotonic() + 60
            while _runs(told["process"]):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert _runs(told["fork"])
        finally:
            os.kill(told["fork"], signal.SIGKILL)


def _runs(number: int) -> bool:
    status = Path(f"/proc/{number}/stat")
    try:
        return status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
