"""The gate: a version that is worse than the one before is not published."""

import json
import re
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from exporter import ArtifactError, ExportConfig, RegressionError, compose
from exporter.artifacts.numbered_versions import list_numbers, read_versions_of
from exporter.artifacts.receipt import Receipt
from exporter.cli.commands import run_command
from exporter.cli.shorthands import expand
from exporter.config import LayoutConfig, LayoutKind, SignatureConfig, VerifyConfig, VerifyMode
from exporter.exporting import job
from exporter.exporting.session import ExportSession

SESSION = ExportSession()
export = partial(job.run_export, session=SESSION)
SAMPLES = 40


@pytest.fixture(scope="module", autouse=True)
def session_closed() -> Iterator[None]:
    yield
    SESSION.close()


def make_model(wrong: int = 0, name: str = "scores", width: int = 4, extra: bool = False) -> Any:
    """Makes a model that decides for the first of two numbers where it is above zero, with some weights for nothing."""
    inputs = keras.Input((2,), name="features")
    scores = keras.layers.Dense(2, name=name, use_bias=False)
    outputs = scores(inputs)
    others = keras.layers.Dense(width, name="others")(inputs)
    model = keras.Model(inputs, {name: outputs, "others": others} if extra else outputs, name="small")
    scores.set_weights([np.array([[1, -1], [0, 0]], "float32") * (-1 if wrong else 1)])
    return model


@pytest.fixture
def data(tmp_path: Path) -> Path:
    features = np.random.default_rng(0).normal(size=(SAMPLES, 2)).astype("float32")
    np.savez(tmp_path / "data.npz", features=features, y=(features[:, 0] < 0).astype("int64"))
    return tmp_path / "data.npz"


def configure(
    model: Any, filepath: Path, data: Path | None = None, signatures: Any = None, **layout: Any
) -> ExportConfig:
    return ExportConfig(
        model=model,
        filepath=str(filepath),
        signatures=signatures or {},
        layout=LayoutConfig(**{"kind": LayoutKind.TF_SERVING, "warmup": False, "against": "latest", **layout}),
        verify=VerifyConfig(mode=VerifyMode.NONE, data=None if data is None else str(data)),
    )


def list_omissions(receipt: Receipt) -> dict[str, str]:
    return {each.what: each.why for each in receipt.left_out if each.what.startswith("comparison of ")}


def test_every_regression_is_named_at_once_and_nothing_moves(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = tmp_path / "served"
    first = export(configure(make_model(), served, data))
    assert list_omissions(first) == {"comparison of versions": f"there is no version in {served} yet"}
    assert [(score.metric, score.artifact, score.samples) for score in first.scores] == [("accuracy", 1.0, SAMPLES)]

    second = export(configure(make_model(), served, data, max_growth=1.0))
    checks = {check.name: check for check in second.checks}
    assert list(checks) == ["contract", "size", "accuracy of serving_default"]
    assert checks["contract"].detail == f"1 endpoint, all the same; against {served}/1"
    assert checks["accuracy of serving_default"].figure == "accuracy 1.0000 (+0.0000)"
    assert list_omissions(second) == {}

    before = sorted(path.name for path in served.iterdir())
    renamed = {"serving_default": SignatureConfig(outputs={"probabilities": "scores"})}
    worse = configure(make_model(wrong=1, width=4000, extra=True), served, data, renamed, max_growth=2)
    with pytest.raises(RegressionError) as caught:
        export(worse)
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        f"The artifact that was written is a regression against {served}/2: 2 of 2 comparisons failed, and nothing was "
        "published."
    )
    assert lines[1].startswith("  contract: 1 broken; serving_default.outputs.scores: the output is gone")
    assert any(
        re.match(r"  size: [\d.]+ [kM]B, [\d.]+ times [\d.]+ kB; may be 2 times as large", line) for line in lines
    )
    assert f"  comparison of the accuracy of serving_default: {served}/2 returns other outputs" in lines
    assert lines[-1].endswith("or publish it all the same with layout.against=null.")
    assert sorted(path.name for path in served.iterdir()) == before
    assert caught.value.exit_code == 5

    with pytest.raises(RegressionError, match=r"accuracy of serving_default: accuracy 0\.0000 \(-1\.0000\); scores of"):
        export(configure(make_model(wrong=1), served, data))
    # The remedies.
    assert export(configure(make_model(wrong=1), served, data, max_accuracy_drop=1.0)).filepath == str(served / "3")
    assert export(configure(make_model(wrong=1), served, data, against=None)).filepath == str(served / "4")
    assert [each.scores[0].artifact for each in read_versions_of(served) if each.scores] == [0.0, 1.0, 1.0]

    assert run_command(["versions", str(served), "--json"]) == 0
    assert [each["number"] for each in json.loads(capsys.readouterr().out)["versions"]] == [4, 3, 2, 1]


def test_what_is_added_is_no_regression(tmp_path: Path) -> None:
    served = tmp_path / "served"
    export(configure(make_model(), served, against=None))
    more = {name: SignatureConfig() for name in ("serving_default", "another")}
    receipt = export(configure(make_model(), served, None, more, against=str(served)))
    assert [(check.name, check.passed) for check in receipt.checks] == [("contract", True), ("size", True)]
    assert receipt.checks[0].detail == f"another: a new endpoint; against {served}/1"
    assert list_omissions(receipt) == {
        "comparison of accuracies": "there is no labelled data: set verify.data to an .npz file with its inputs by "
        "name and the targets as y"
    }
    assert list_numbers(served) == [1, 2]


def test_only_what_is_comparable_is_compared(tmp_path: Path, data: Path) -> None:
    former = export(
        configure(make_model(), tmp_path / "former.keras", against=None, kind=LayoutKind.SINGLE, warmup=None)
    )
    receipt = export(configure(make_model(), tmp_path / "served", data, against=former.filepath))
    assert [(check.name, check.figure) for check in receipt.checks[1:]] == [
        ("accuracy of serving_default", "accuracy 1.0000 (+0.0000)")
    ]
    assert list_omissions(receipt) == {"comparison of contracts": f"{former.filepath} has no endpoints"}


@pytest.mark.parametrize("name", ["foreign", "foreign.keras"])
def test_what_cannot_be_promoted_is_exported_anew(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, path = make_model(), tmp_path / name
    model.save(path) if path.suffix else model.export(path, verbose=False)
    assert run_command(["promote", str(path), str(tmp_path / "served")]) == 3
    remedy = capsys.readouterr().err.strip().rpartition(": exporter ")[2]
    words = shlex.split(remedy)
    place = words.index("-o") if "-o" in words else len(words)
    expansion = expand([*words[:place], *words[place + 2 :], "verify=none"], words[place + 1 : place + 2])
    export(compose(overrides=expansion.overrides))
    assert list_numbers(tmp_path / "served") == [1]


def test_one_that_cannot_be_read_stops_nobody_for_good(tmp_path: Path) -> None:
    served = tmp_path / "served"
    export(configure(make_model(), served, against=None))
    (served / "1" / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match=r"or publish without with layout\.against=null\.$"):
        export(configure(make_model(), served))
    assert list_numbers(served) == [1]
    assert export(configure(make_model(), served, against=None)).filepath == str(served / "2")


def test_a_converted_file_is_held_against_the_one_before(tmp_path: Path, data: Path) -> None:
    config = configure(make_model(), tmp_path / "a.tflite", data, kind=LayoutKind.SINGLE, warmup=None, against=None)
    former = export(config)
    config = configure(
        make_model(wrong=1), tmp_path / "b.tflite", data, kind=LayoutKind.SINGLE, warmup=None, against=former.filepath
    )
    with pytest.raises(RegressionError) as caught:
        export(config)
    assert [(check.name, check.passed) for check in caught.value.checks] == [
        ("contract", True),
        ("size", True),
        ("accuracy of serving_default", False),
    ]
    assert not (tmp_path / "b.tflite").exists()
