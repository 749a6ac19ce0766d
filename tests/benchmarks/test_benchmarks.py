"""The benchmark runs, and its JSON has its form; no test looks at a time."""

import json
import subprocess
import sys
from pathlib import Path

from targets import judge

COMMAND = Path(__file__).with_name("compare_saves.py")


def test_a_small_run_keeps_its_figures(tmp_path: Path) -> None:
    options = ["--measures", "start", "--repeats", "1", "--json", "figures.json", "--picture", "picture.svg"]
    done = subprocess.run(
        [sys.executable, COMMAND, *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "figures.json").read_text())
    assert set(written) == {"machine", "medians", "targets"}
    assert set(written["medians"]["start"]) == {"help", "cfg", "fault"}
    figures = written["medians"]["start"]["cfg"]
    assert {peer: set(figure) for peer, figure in figures.items()} == {
        peer: {"seconds", "cpu_seconds", "extra_memory"} for peer in ("exporter", "bare-hydra")
    }
    assert [set(target) for target in written["targets"]] == [{"name", "value", "limit", "reached"}] * 3
    assert (tmp_path / "picture.svg").read_text().startswith("<?xml")
    assert "bare-hydra" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "picture.svg"]


def test_ours_is_held_against_the_fastest_peer() -> None:
    seconds = {"exporter-tf": 2.0, "keras-keras": 4.0, "tf_keras-tf": 1.0}
    medians = {"load": {"dense25": {peer: {"seconds": value} for peer, value in seconds.items()}}}
    [verdict] = judge(medians)
    assert (verdict.name, verdict.value, verdict.is_reached) == ("load dense25: exporter-tf / tf_keras-tf", 2.0, False)


def test_conversions_are_held_against_keras_with_and_without_the_start_of_a_converter() -> None:
    figures = {
        "exporter": {"seconds": 6.0, "bytes": 99.0},
        "exporter-started": {"seconds": 2.0, "bytes": 99.0},
        "keras": {"seconds": 2.0, "bytes": 90.0},
        "tf2onnx": {"seconds": 1.0, "bytes": 1.0},
    }
    verdicts = judge({"deploy": {"digits onnx": figures}})
    assert [(verdict.name, verdict.value, verdict.is_reached) for verdict in verdicts] == [
        ("convert digits onnx: exporter / keras", 3.0, False),
        ("convert digits onnx: exporter-started / keras", 1.0, True),
        ("bytes digits onnx: exporter / keras", 1.1, False),
    ]
