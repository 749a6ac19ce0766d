"""Whole exports write nothing but the artifact and the run's own folder, and ask nobody on a network.

This is about Python's processes: what a library calls below Python on a network is not seen.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import DEPLOYED

pytestmark = pytest.mark.xdist_group("deployment")

# Keras keeps its settings, and matplotlib its list of the fonts with which a sweep's charts are drawn.
OF_OTHERS = {".keras", ".keras/keras.json", ".cache", ".cache/matplotlib", ".config", ".config/matplotlib"}

# Every Python process that finds it notes that it runs, and whatever it looks up or calls on a network.
WATCHER = """
import json
import os
import sys


def note(event, arguments=()):
    place = os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(place, (json.dumps([event, repr(arguments), sys.orig_argv]) + "\\n").encode())
    os.close(place)


NETWORK = ("socket.connect", "socket.send", "socket.getaddrinfo", "socket.gethostby", "urllib.", "http.", "ssl.")
sys.addaudithook(lambda event, arguments: event.startswith(NETWORK) and note(event, arguments))
note("started")
"""


def test_exports_leave_nothing_at_home_and_ask_nobody(tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("home", "temporary", "work", "watcher")}
    for place in places.values():
        place.mkdir()
    (places["watcher"] / "sitecustomize.py").write_text(WATCHER)
    log = tmp_path / "watched"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    environment |= {
        "HOME": str(places["home"]),
        "TMPDIR": str(places["temporary"]),
        "PYTHONPATH": str(places["watcher"]),
        "WATCHED": str(log),
    }
    environment.pop("CI", None)  # with which OpenVINO tells its makers nothing anyway
    formats = ",".join(each.name for each in DEPLOYED)
    overrides = ["-m", f"save_format={formats}", "quantize=null,int8", "model.epochs=1"]

    done = subprocess.run(
        [sys.executable, "-m", "exporter", *overrides],
        cwd=places["work"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    noted = [json.loads(line) for line in log.read_text().splitlines()]
    started = {command[-1] for event, _, command in noted if event == "started"}
    assert {*(each.converter for each in DEPLOYED), "exporter.verification.deployment"} <= started
    assert [entry for entry in noted if entry[0] != "started"] == []
    at_home = {each.relative_to(places["home"]).as_posix() for each in places["home"].rglob("*")}
    assert {each for each in at_home if not each.startswith(".cache/matplotlib/fontlist-")} <= OF_OTHERS
    assert list(places["temporary"].iterdir()) == []
    assert sorted(each.name for each in places["work"].iterdir()) == [".exporter", "exports"]
    exported = [each.name for each in (places["work"] / "exports").iterdir() if "receipt" not in each.name]
    assert len(exported) == 2 * len(DEPLOYED)
