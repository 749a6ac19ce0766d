"""What a recipe names of the user's own modules: read without importing it, and found wrong only where it must be."""

import sys
from pathlib import Path

import pytest

from exporter import compose
from exporter.errors import UsageError
from exporter.models.definitions import find_definition

MODULE = """
raise SystemExit("this module must not be run")

import keras as k

WIDTH: int = 3
if WIDTH:
    def chosen(): ...
try:
    from other import helper
except ImportError:
    helper = None

def build(width, depth=2, *, rate, bias=True, report): ...

def anything(width, **others): ...

def several(*widths): ...

@k.saving.register_keras_serializable()
def decorated(width): ...

def twice(width): ...
twice = k.wrap(twice)

class Maker:
    def __init__(self, width): ...
"""

_WITHOUT = ("chosen", "inner.build", "several")  # take no `width`


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "plain_code.py").write_text(MODULE)
    (tmp_path / "starred_code.py").write_text("from os.path import *\n")
    (tmp_path / "asked_code.py").write_text("def __getattr__(name): ...\n")
    (tmp_path / "made_code.py").write_text("globals()['build'] = print\n")
    (tmp_path / "broken_code.py").write_text("def build(:\n")
    package = tmp_path / "package_code"
    package.mkdir()
    (package / "__init__.py").write_text('raise SystemExit("this package must not be run")\nfrom .inner import build\n')
    (package / "inner.py").write_text("def build(): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def find_faults(target: str, *overrides: str) -> list[tuple[str, str]]:
    try:
        compose(overrides=["model=custom", f"model._target_={target}", *overrides])
    except UsageError as error:
        return [(fault.path, fault.message) for fault in error.faults]
    return []


@pytest.mark.parametrize(
    ("target", "name", "file", "meant"),
    [
        pytest.param("plain_code.buidl", "buidl", "plain_code.py", "; did you mean build?", id="misspelt"),
        pytest.param("plain_code.os", "os", "plain_code.py", "", id="unlike-any"),
        pytest.param(
            "package_code.inner.biuld", "biuld", "package_code/inner.py", "; did you mean build?", id="inside"
        ),
        pytest.param(
            "package_code.biuld", "biuld", "package_code/__init__.py", "; did you mean build?", id="of-a-package"
        ),
    ],
)
def test_a_name_that_is_not_there(target: str, name: str, file: str, meant: str, directory: Path) -> None:
    before = set(sys.modules)
    assert find_faults(target) == [("model._target_", f"there is no {name} in {directory / file}{meant}")]
    assert not {each for each in set(sys.modules) - before if each.endswith("_code") or each == "tensorflow"}


def test_a_module_that_python_cannot_read(directory: Path) -> None:
    message = f"{directory / 'broken_code.py'} is no Python that can be imported: invalid syntax, line 1"
    assert find_faults("broken_code.build") == [("model._target_", message)]


@pytest.mark.parametrize(
    "target",
    [
        "plain_code.chosen",
        "plain_code.helper",
        "plain_code.k",
        "plain_code.decorated",
        "plain_code.twice",
        "plain_code.anything",
        "plain_code.several",
        "plain_code.Maker",
        "plain_code.Maker.no_such_method",
        "starred_code.build",
        "asked_code.build",
        "made_code.build",
        "package_code.build",
        "package_code.inner.build",
        "math.no_such_function",
        "keras.applications.VGG16",
    ],
)
def test_nothing_is_said_where_it_may_be_right(target: str) -> None:
    assert find_faults(target, *(() if target.endswith(_WITHOUT) else ("+model.width=3",))) == []


def test_arguments_that_do_not_fit() -> None:
    faults = find_faults("plain_code.build", "+model.widht=3", "+model.bias=false")
    assert faults == [
        (
            "model.widht",
            "plain_code.build does not take it; allowed: width, depth, rate, bias, report; did you mean width?",
        ),
        ("model.width", "missing; plain_code.build has no default for it"),
        ("model.rate", "missing; plain_code.build has no default for it"),
    ]
    assert find_faults("plain_code.build", "+model.width=3", "+model.rate=0.5") == []


def test_arguments_of_what_is_nested_and_of_what_gives_data() -> None:
    faults = find_faults(
        "plain_code.build",
        "+model.width={_target_: package_code.inner.build, size: 3}",
        "+model.rate=1",
        "calibration.data={_target_: plain_code.buidl}",
        "verify.metric={_target_: package_code.inner.build, name: x}",
    )
    assert [path for path, _ in faults] == ["model.width.size", "calibration.data._target_", "verify.metric.name"]


def test_a_class_is_left_to_python() -> None:
    found = find_definition("plain_code.Maker")
    assert found is not None
    assert found.list_parameters() is None


def test_all_faults_come_at_once(directory: Path) -> None:
    (directory / "file").touch()
    faults = find_faults("plain_code.buidl", "seed=-1", "verify.data=no.npz")
    assert [path for path, _ in faults] == ["model._target_", "seed", "verify.data"]
    with pytest.raises(UsageError) as caught:
        compose(overrides=["model.epochs=0", "model.batch_size=0", "filepath=file/model"])
    assert [fault.path for fault in caught.value.faults] == ["model.epochs", "model.batch_size", "filepath"]
    assert "file is a file, where a directory is needed" in str(caught.value)


def test_a_directory_that_may_not_be_written(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.saving.arguments.os.access", lambda *_: False)
    with pytest.raises(UsageError) as caught:
        compose(overrides=["filepath=out/model"])
    assert str(caught.value) == (
        f"filepath: out/model cannot be written: you may not write in {directory}. Choose another `filepath`, or let "
        "yourself write there."
    )


@pytest.mark.parametrize(
    ("overrides", "faults"),
    [
        pytest.param(
            ["model.classes=0", "model.input_shape=[32,32]"],
            {
                "model.classes": "received 0; expected a number of classes from 1",
                "model.input_shape": "received [32, 32]; expected [height, width, channels], each from 1",
            },
            id="no-network",
        ),
        pytest.param(
            ["model.weights=imagenet", "model.classes=5"],
            {
                "model.classes": "The imagenet weights of MobileNetV2 know 1000 classes, and classes=5 was asked for. "
                "Set `model.classes=1000`, or `model.weights=null` to train the network afresh."
            },
            id="imagenet",
        ),
    ],
)
def test_numbers_of_which_no_network_is_made(overrides: list[str], faults: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        compose(overrides=["model=application", "model.name=MobileNetV2", *overrides])
    assert {fault.path: fault.message for fault in caught.value.faults} == faults
