"""A process of ours ends by itself when it is interrupted, also where Ctrl-C is ignored, as in the background."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_SERVICE = """\
from exporter.processes.fresh_process import answer_requests

class Service:
    def greet(self):
        return {"word": "hello"}

answer_requests(Service())
"""
_PROGRAM = """\
from exporter.processes.fresh_process import FreshProcess

process = FreshProcess("own_service")
print(process.ask("greet", None)["word"])
process.interrupt()
print(process._process.returncode)
"""


@pytest.mark.parametrize(
    "handler", [pytest.param(signal.SIG_IGN, id="ignored"), pytest.param(signal.SIG_DFL, id="not-ignored")]
)
def test_an_interrupted_process_ends_by_itself(handler: signal.Handlers, tmp_path: Path) -> None:
    (tmp_path / "own_service.py").write_text(_SERVICE)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    word, code = done.stdout.split()
    # It was not killed after the time that it has for that.
    assert (word, code) == ("hello", "0")
