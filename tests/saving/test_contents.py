"""What is said of an artifact never costs the artifact, whatever the model's own code says of itself."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import exporter
from exporter.saving.contents import Contents, Omission
from exporter.saving.plans import plan_save
from exporter.saving.requests import SaveRequest
from exporter.text.showing import describe_if_possible

_FORMATS: tuple[str, ...] = ("h5", "keras", "tf")


class Silent(keras.Model):
    """Says nothing of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.score = keras.layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.score(inputs)

    @property
    def layers(self) -> Any:
        raise OSError("the layers are not here")

    def __repr__(self) -> str:
        raise RuntimeError("no words")

    __str__ = __repr__


class Uncounted(keras.optimizers.SGD):
    """Does not tell its steps."""

    hides = False

    @property
    def iterations(self) -> Any:
        if Uncounted.hides:
            raise LookupError("who knows")
        return super().iterations


class Many(keras.optimizers.SGD):
    """Tells steps that are not one number."""

    @property
    def iterations(self) -> Any:
        return super().iterations if not Uncounted.hides else keras.Variable([1, 2], dtype="int32")


class Unruly(str):
    """A text that cannot be written."""

    def __str__(self) -> str:
        raise ValueError("not a text")


@pytest.fixture(autouse=True)
def _counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Uncounted, "hides", False)


def _save(model: keras.Model, place: Path, save_format: str) -> Contents:
    staged = place / {"h5": "model.h5", "keras": "model.keras", "tf": "model"}[save_format]
    return plan_save(SaveRequest(model, staged)).write(staged)


def _find(contents: Contents, what: str) -> str:
    [detail] = [each.detail for each in contents.held if each.what == what]
    return detail


def _make(optimizer: Any = "sgd") -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile(optimizer, "mse", jit_compile=False)
    model.fit(np.ones((4, 4)), np.ones((4, 2)), verbose=0)
    return model


@pytest.mark.parametrize("save_format", _FORMATS)
@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (Uncounted, "cannot be described: LookupError, 2 tensors, 12 B"),
        (Many, "cannot be described: ValueError, 2 tensors, 12 B"),
    ],
    ids=["raises", "no-number"],
)
def test_an_optimizer_that_tells_no_steps(
    kind: Any, line: str, save_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _make(kind(0.1))
    monkeypatch.setattr(Uncounted, "hides", True)
    assert _find(_save(model, tmp_path, save_format), "optimizer") == line


def test_a_model_that_says_nothing_of_itself(tmp_path: Path) -> None:
    model = Silent()
    model(np.zeros((1, 4), "float32"))
    contents = _save(model, tmp_path, "tf")
    assert _find(contents, "configuration") == "cannot be described: OSError"
    receipt = exporter.export(model, tmp_path / "exported", verify={"mode": "none"})
    assert receipt.read == ("cannot be described: OSError",)
    assert "cannot be described: OSError" in str(receipt)
    assert "cannot be described: OSError" in receipt._repr_html_()


@pytest.mark.parametrize("save_format", _FORMATS)
def test_names_that_steer_a_terminal(save_format: str, tmp_path: Path) -> None:
    kind = type("Odd\x1b[2JModel", (keras.Sequential,), {})
    keras.saving.register_keras_serializable("odd")(kind)
    model = kind([keras.Input((4,)), keras.layers.Dense(2)], name="odd")
    target = tmp_path / {"h5": "model.h5", "keras": "model.keras", "tf": "model"}[save_format]
    receipt = exporter.export(model, target, save_format=save_format, verify={"mode": "none"})
    [said] = [each.detail for each in receipt.held if each.what == "configuration"]
    assert said == "Odd\\x1b[2JModel of 1 layer"
    assert receipt.read[0].startswith("Odd\\x1b[2JModel 'odd': 1 layers")
    assert "\x1b" not in str(receipt)
    kept = json.loads(Path(f"{target}.receipt.json").read_text(encoding="utf-8"))
    assert kept["held"][0]["detail"] == said


def test_a_line_that_cannot_be_written() -> None:
    assert describe_if_possible(lambda: Unruly("text")) == "cannot be described: ValueError"
    assert describe_if_possible(lambda: "a\nb") == "a\\nb"


def test_a_line_does_not_keep_a_person_from_stopping() -> None:
    def stop() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        describe_if_possible(stop)


def test_reasons_are_printable() -> None:
    assert Omission("a\x1b", "b\n\ud800") == Omission("a\\x1b", "b\\n\\ud800")
