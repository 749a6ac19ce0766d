"""`exporter check`: what each format can hold, and whether the export can be made; and that nothing is written."""

import json
import os
import shutil
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

import exporter
from exporter.cli.commands import run_command
from exporter.errors import ExporterError
from exporter.saving.formats import FORMATS

MODULE = """
import keras

@keras.saving.register_keras_serializable("checked")
class Kept(keras.layers.Layer):
    def call(self, inputs):
        return inputs

class Unkept(keras.layers.Layer):
    def get_config(self):
        raise ValueError("no config")

    def call(self, inputs):
        return inputs

class Sub(keras.Model):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.dense = keras.layers.Dense(2)

    def build(self, shape):
        self.dense.build(shape)
        self.built = True

    def call(self, inputs):
        return self.dense(inputs)

def build(kind="plain"):
    if kind == "fails":
        raise ValueError("no data")
    if kind == "sub":
        model = Sub()
        model(keras.ops.zeros((1, 3)))
        return model
    own = {"kept": [Kept()], "unkept": [Unkept()]}.get(kind, [])
    model = keras.Sequential([keras.Input((3,), name="x"), *own, keras.layers.Dense(2, name="y")], name="m")
    model.compile("adam", "mse")
    return model
"""
Found = namedtuple("Found", "code out err")


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "checked_code.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "checked_code", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return tmp_path


def read_tree(directory: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in (directory, *directory.rglob("*"))}


def check(capfd: pytest.CaptureFixture[str], *arguments: str, kind: str = "plain") -> Found:
    given = ["model=custom", "model._target_=checked_code.build", f"+model.kind={kind}", "filepath=out/m"]
    before = read_tree(Path.cwd())
    code = run_command(["check", *given, *arguments])
    assert read_tree(Path.cwd()) == before
    return Found(code, *capfd.readouterr())


def check_json(capfd: pytest.CaptureFixture[str], *arguments: str, kind: str = "plain") -> tuple[int, dict[str, Any]]:
    found = check(capfd, "--json", *arguments, kind=kind)
    forecast = json.loads(found.out)
    assert forecast["exit_code"] == found.code
    return found.code, {**forecast, "formats": {each["name"]: each for each in forecast["formats"]}}


def test_every_format_is_asked(capfd: pytest.CaptureFixture[str]) -> None:
    code, forecast = check_json(capfd)
    assert (code, forecast["asked"], forecast["fault"]) == (0, "tf", "")
    assert list(forecast["formats"]) == list(FORMATS)
    held = {name: each["holding"] for name, each in forecast["formats"].items() if each["holding"] != "not installed"}
    assert set(held.values()) == {"held"}
    assert {"tf", "h5", "keras"} <= set(held)
    weights = 4 * (3 * 2 + 2)
    assert forecast["formats"]["keras"]["bytes"] == forecast["space"]["needed"] == weights + 8 + 4  # of the optimizer
    assert forecast["formats"]["litert"]["bytes"] in (None, weights)
    assert forecast["formats"]["keras"]["oldest_keras"].startswith("3.")
    assert forecast["endpoints"] == {
        "serving_default": {
            "inputs": {"x": {"shape": [None, 3], "dtype": "float32"}},
            "outputs": {"y": {"shape": [None, 2], "dtype": "float32"}},
        }
    }
    assert (forecast["needs"], forecast["hints"]) == ([], "")


def test_the_page_shows_it(capfd: pytest.CaptureFixture[str], directory: Path) -> None:
    found = check(capfd, "save_format=h5", kind="kept")
    lines = [line.split() for line in found.out.splitlines()]
    assert found.code == 0
    assert [line[0] for line in lines[1 : 1 + len(FORMATS)] if line[0] in FORMATS or line[0] == "→"]
    assert ["→", "h5", "held"] in [line[:3] for line in lines]
    assert "needs      checked_code.Kept" in found.out
    assert "x  float32 (?, 3)" in found.out
    assert "target     out/m can be written" in found.out
    assert "Traceback" not in found.err


@pytest.mark.parametrize(
    ("kind", "holdings"),
    [
        pytest.param("unkept", {"tf": "mended", "h5": "refused", "keras": "refused"}, id="without-a-configuration"),
        pytest.param("sub", {"tf": "held", "h5": "refused", "keras": "held"}, id="subclassed"),
        pytest.param("kept", {"tf": "held", "h5": "held", "keras": "held"}, id="own-layer"),
    ],
)
def test_what_is_said_is_what_an_export_does(
    kind: str, holdings: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    _, forecast = check_json(capfd, kind=kind)
    assert {name: forecast["formats"][name]["holding"] for name in holdings} == holdings
    for name in holdings:
        config = exporter.compose(
            overrides=[
                *("model=custom", "model._target_=checked_code.build", f"+model.kind={kind}", "verify=none"),
                *(f"save_format={name}", f"filepath=made/{name}{''.join(FORMATS[name].suffixes[:1])}"),
            ]
        )
        if holdings[name] == "refused":
            with pytest.raises(ExporterError) as caught:
                exporter.export(config)
            assert "\n".join(forecast["formats"][name]["remarks"]) == str(caught.value)
            assert forecast["formats"][name]["exit_code"] == caught.value.exit_code
        else:
            receipt = exporter.export(config)
            assert receipt.oldest_keras == forecast["formats"][name]["oldest_keras"]
            assert receipt.total_bytes >= forecast["formats"][name]["bytes"]
            assert (holdings[name] == "mended") == any(each.what == "Keras configuration" for each in receipt.left_out)


def test_the_code_is_that_of_the_format_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    assert check(capfd, "save_format=keras", kind="unkept").code == 3
    assert check(capfd, kind="unkept").code == 0
    assert check(capfd, "strict=true", kind="unkept").code == 3


def test_a_model_that_cannot_be_built_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    found = check(capfd, kind="fails")
    assert (found.code, found.out) == (3, "")
    assert "checked_code.build raised ValueError: no data (checked_code.py:" in found.err


def test_faults_of_the_recipe_are_those_of_an_export(capfd: pytest.CaptureFixture[str]) -> None:
    found = check(capfd, "seed=-1", "savve_format=h5")
    assert found.code == 2
    assert found.err.splitlines()[0] == "exporter: 2 faults in the command line"
    assert run_command(["check", "hydra.mode=MULTIRUN", "save_format=tf,h5"]) == 2
    assert "config: is a sweep of 2 jobs; add the override hydra.mode=RUN" in capfd.readouterr().err
    assert run_command(["check", "hydra.mode=RUN", "seed=1,2"]) == 2


def test_what_is_not_installed_is_said(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.saving.formats.format.find_spec", lambda package: None if package == "onnx" else True)
    _, forecast = check_json(capfd)
    assert forecast["formats"]["onnx"]["holding"] == "not installed"
    assert "pip install 'keras-exporter[onnx]'" in " ".join(forecast["formats"]["onnx"]["remarks"])


def test_too_little_space_and_a_target_that_exists(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    (directory / "out" / "m").mkdir(parents=True)
    code, forecast = check_json(capfd, "overwrite=false")
    assert code == 3
    assert "exists and `overwrite` is false" in forecast["fault"]
    usage = shutil.disk_usage(directory)._replace(free=10)
    monkeypatch.setattr("exporter.saving.plans.shutil.disk_usage", lambda _: usage)
    code, forecast = check_json(capfd)
    assert code == 3
    assert "and 10 B are free" in forecast["fault"]
    assert forecast["space"]["free"] == 10


def test_declared_endpoints_are_shown(capfd: pytest.CaptureFixture[str]) -> None:
    _, forecast = check_json(capfd, "+signatures={scores: {batch: 4}}")
    assert forecast["endpoints"]["scores"]["inputs"] == {"x": {"shape": [4, 3], "dtype": "float32"}}
    assert forecast["formats"]["keras"]["holding"] == "refused"
    assert forecast["formats"]["keras"]["remarks"][0].startswith("signatures: received values")


def test_the_working_directory_stays(capfd: pytest.CaptureFixture[str], directory: Path) -> None:
    check(capfd, kind="fails")
    assert os.getcwd() == str(directory)
