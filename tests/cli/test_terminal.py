"""What a person sees: the progress, the summary, and when there is colour."""

import io
import os
import pty
import select
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from sample_receipt import RECEIPT

from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Check, CheckKind, Request, Status
from exporter.artifacts.summary import print_summary
from exporter.exporting.reporting import SilentReporter, TerminalReporter
from exporter.saving.contents import Omission, Tensor, format_tensor

SUMMARY = """
✓ zahlen ✓ is the same model, proven in 0.2 s

read       1,797 scans
written    /exports/zahlen ✓
           SavedModel, 1 file, 12 B
signatures serving_default
             pixels         float32 (?, 8, 8, 1)
           → probabilities  float32 of any shape
holds      weights  2 tensors, 12 B
left out   metrics  they are reset
checks     predictions  ✓ bit-equal  batch sizes 1, 2
receipt    /exports/zahlen ✓.receipt.json

load       import exporter
           model = exporter.load_model('/exports/zahlen ✓')
serve      import tensorflow as tf
           served = tf.saved_model.load('/exports/zahlen ✓')
           endpoints = served.signatures
           docker run -p 8501:8501 -v '/exports/zahlen ✓:/models/zahlen/1' -e MODEL_NAME=zahlen tensorflow/serving
           curl -d '{"inputs": "it'"'"'s"}' http://localhost:8501/v1/models/zahlen:predict

"""

PROGRESS = """
import os, sys
from pathlib import Path
from exporter.exporting.reporting import TerminalReporter

with TerminalReporter(Path(sys.argv[1])) as reporter:
    with reporter.phase("build the model"):
        reporter.note("epoch 1 of 2")
        os.write(2, b"noise of native code\\n")
        print("a warning", file=sys.stderr)
    with reporter.phase("write the artifact"):
        pass
print("after", file=sys.stderr)
"""


def test_the_summary_says_all_of_it() -> None:
    stream = io.StringIO()
    print_summary(RECEIPT, Path("/exports/zahlen ✓.receipt.json"), stream, verbose=True)
    assert stream.getvalue() == SUMMARY


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        pytest.param([("load", "Functional", "facts")], "✓ 1 check", id="facts alone"),
        pytest.param([("load", "x", "facts"), ("weights", "bit-equal", "state")], "✓ 2 checks, bit-equal", id="equal"),
        pytest.param(
            [("outputs of a", "0.4 x rounding", "outputs"), ("quality of a", "accuracy 0.97", "facts")],
            "✓ 2 checks; outputs of a: 0.4 x rounding",
            id="rounded",
        ),
    ],
)
def test_the_short_summary_counts_the_checks(checks: list[tuple[str, str, str]], said: str) -> None:
    stream = io.StringIO()
    made = tuple(Check(name, True, figure, "", kind=CheckKind(kind)) for name, figure, kind in checks)
    print_summary(replace(RECEIPT, checks=made), Path("receipt.json"), stream)
    lines = stream.getvalue().splitlines()
    assert f"checks     {said}" in lines
    assert not any(line.startswith(("holds", "receipt")) for line in lines)


def test_an_artifact_that_is_only_written_is_not_called_proven() -> None:
    stream = io.StringIO()
    print_summary(replace(RECEIPT, status=Status.WRITTEN, checks=(), left_out=()), Path("receipt.json"), stream)
    lines = stream.getvalue().splitlines()
    assert lines[1] == "! zahlen ✓ is written, not proven in 0.2 s"
    assert "left out   nothing" in lines
    assert not any(line.startswith("checks") for line in lines)


@pytest.mark.parametrize("save_format", ["h5", "keras"])
def test_a_file_is_opened_by_stock_keras_and_not_served(save_format: str) -> None:
    stream = io.StringIO()
    receipt = replace(RECEIPT, format=save_format, filepath="/exports/model.x", signatures={})
    print_summary(receipt, Path("receipt.json"), stream)
    assert stream.getvalue().splitlines()[-5:] == [
        "load       import exporter",
        "           model = exporter.load_model('/exports/model.x')",
        "or         import keras",
        "           model = keras.models.load_model('/exports/model.x')",
        "",
    ]


def list_lines(receipt: Receipt) -> list[str]:
    stream = io.StringIO()
    print_summary(receipt, Path("receipt.json"), stream)
    return [line[11:] for line in stream.getvalue().splitlines()]


def test_versions_are_served_from_their_directory() -> None:
    recipe = {**RECEIPT.recipe, "layout": {"kind": "tf_serving"}}
    request = Request("serving_default", None, "/exports/my model/3.request.json")
    receipt = replace(RECEIPT, recipe=recipe, filepath="/exports/my model/3", request=request)
    assert list_lines(receipt)[1] == "3 is the same model, proven in 0.2 s"  # after the mark and the model's name
    assert list_lines(receipt)[-7:] == [
        "import tensorflow as tf",
        "served = tf.saved_model.load('/exports/my model/3')",
        "endpoints = served.signatures",
        "docker run -p 8501:8501 -v '/exports/my model:/models/my_model' -e MODEL_NAME=my_model tensorflow/serving",
        "tensorflow_model_server --rest_api_port=8501 --model_name=my_model --model_base_path='/exports/my model'",
        "curl -d '@/exports/my model/3.request.json' http://localhost:8501/v1/models/my_model:predict",
        "",
    ]


def test_a_server_is_told_the_tags_of_the_graph() -> None:
    recipe = {**RECEIPT.recipe, "options": {"experimental_skip_saver": False, "extra_tags": ["gpu", "nightly"]}}
    receipt = replace(RECEIPT, recipe=recipe, request=None)
    assert list_lines(receipt)[-2].endswith(" tensorflow/serving --saved_model_tags=serve,gpu,nightly")


def test_a_graph_without_a_saver_is_not_served() -> None:
    recipe = {**RECEIPT.recipe, "options": {"experimental_skip_saver": True, "extra_tags": []}}
    assert list_lines(replace(RECEIPT, recipe=recipe))[-4:] == [
        "import tensorflow as tf",
        "served = tf.saved_model.load('/exports/zahlen ✓')",
        "endpoints = served.signatures",
        "",
    ]


def test_long_paths_are_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    path = "/" + "/".join(["a-directory-with-a-long-name"] * 8) + "/model"
    stream = io.StringIO()
    print_summary(replace(RECEIPT, filepath=path), Path(f"{path}.receipt.json"), stream, verbose=True)
    lines = stream.getvalue().splitlines()
    assert f"written    {path}" in lines
    assert f"receipt    {path}.receipt.json" in lines
    assert f"           model = exporter.load_model('{path}')" in lines


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        pytest.param(Tensor((), "int64"), "int64 ()", id="scalar"),
        pytest.param(Tensor((None, 3), "float32"), "float32 (?, 3)", id="dynamic batch"),
        pytest.param(Tensor(None, "string"), "string of any shape", id="unknown rank"),
    ],
)
def test_tensors_are_worded(tensor: Tensor, text: str) -> None:
    assert format_tensor(tensor) == text


def test_piped_progress_is_one_plain_line_a_phase(tmp_path: Path) -> None:
    log = tmp_path / "native.log"
    done = subprocess.run(
        [sys.executable, "-c", PROGRESS, str(log)], capture_output=True, text=True, check=True, timeout=1500
    )
    assert done.stdout == ""
    assert done.stderr == "a warning\nbuild the model  0.0 s\nwrite the artifact  0.0 s\nafter\n"
    assert log.read_text() == "noise of native code\n"


def test_an_empty_log_is_not_kept(tmp_path: Path) -> None:
    log = tmp_path / "native.log"
    with TerminalReporter(log) as reporter, reporter.phase("rest"):
        pass
    assert not log.exists()


def run_in_terminal(script: str, log: Path, **environment: str) -> str:
    """Runs a script whose standard error is a terminal, and returns what it wrote there."""
    leader, follower = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "CI")}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(log)],
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
        env={**variables, "TERM": "xterm-256color", "COLUMNS": "80", **environment},
    ) as process:
        os.close(follower)
        written = b""
        while select.select([leader], [], [], 60)[0]:
            try:
                chunk = os.read(leader, 65536)
            except OSError:  # the other side of the terminal is closed
                break
            written += chunk
        assert process.wait(timeout=1500) == 0
    os.close(leader)
    return written.decode()


def test_a_terminal_gets_colour_and_the_note_of_the_phase(tmp_path: Path) -> None:
    written = run_in_terminal(PROGRESS, tmp_path / "native.log")
    assert "\x1b[32m✓\x1b[0m" in written
    assert "a warning" in written
    assert "noise of native code" not in written


def test_no_color_is_honoured(tmp_path: Path) -> None:
    written = run_in_terminal(PROGRESS, tmp_path / "native.log", NO_COLOR="1")
    assert "✓" in written
    assert "\x1b[32m" not in written


def test_a_failing_phase_is_marked_and_raises(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from exporter.exporting.reporting import TerminalReporter

        try:
            with TerminalReporter(Path(sys.argv[1])) as reporter, reporter.phase("prove it"):
                raise ValueError("no")
        except ValueError:
            print("raised", file=sys.stderr)
    """
    written = run_in_terminal(script, tmp_path / "native.log")
    assert "\x1b[31m✗\x1b[0m prove it" in written
    assert written.rstrip().endswith("raised")


def test_the_silent_reporter_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    reporter = SilentReporter()
    with reporter.phase("build the model"):
        reporter.note("epoch 1 of 2")
    assert capfd.readouterr() == ("", "")


def test_a_narrow_terminal_breaks_no_word_of_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("exporter.text.page._PIPED_WIDTH", 60)
    checks = [
        Check("load in environments/production", True, "opened", "keras 3.5.0, tensorflow 2.16.2, Python 3.11.7"),
        Check("predictions in environments/production", True, "0.6 x rounding", "largest difference 8.3e-07"),
    ]
    left_out = (Omission("optimizer in environments/production", "stock Keras begins it anew there"),)
    print_summary(replace(RECEIPT, checks=tuple(checks), left_out=left_out), Path("receipt.json"), stream, verbose=True)
    lines = stream.getvalue().splitlines()
    first = lines.index("checks     ✓ load in environments/production: opened")
    assert lines[first + 1 : first + 3] == [
        "           ✓ predictions in environments/production: 0.6 x",
        "           rounding",
    ]
    assert lines[first - 2 : first] == [
        "left out   optimizer in environments/production: stock Keras",
        "           begins it anew there",
    ]
