"""A proof shares nothing with what it proves: no seed, no module, no directory; nor does one artifact with the next."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import pytest

from exporter.config import ExportConfig, VerifyConfig
from exporter.errors import ProofError
from exporter.exporting.job import run_export
from exporter.exporting.proving import ModelProver
from exporter.exporting.session import ExportSession
from exporter.saving.plans import plan_save
from exporter.saving.requests import SaveRequest
from exporter.verification.inputs import prepare_inputs
from exporter.verification.verification import verify, warm_up

LAYERS = '''
import os
import random
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

FACTOR = 1.0

DRAW = {
    "python": random.random,
    "numpy": np.random.random,
    "keras": lambda: float(keras.random.uniform(())),
    "tensorflow": lambda: float(tf.random.uniform(())),
    "initializer": lambda: float(keras.initializers.RandomNormal()(())),
}


class Drawn(keras.layers.Layer):
    """Scales by what it drew when it was made, which its configuration does not tell."""

    def __init__(self, source, **options):
        super().__init__(**options)
        self.source = source
        self.factor = DRAW[source]()

    def get_config(self):
        return {**super().get_config(), "source": self.source}

    def call(self, inputs):
        return inputs * self.factor


class Scaled(keras.layers.Layer):
    """Scales by what stands in this module."""

    def call(self, inputs):
        return inputs * FACTOR


class Scaling(Scaled):
    """Sets what stands in this module."""

    def __init__(self, factor, **options):
        global FACTOR
        super().__init__(**options)
        self.factor = FACTOR = factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Homesick(keras.layers.Layer):
    """Notes where it is being saved, and cannot be loaded where that place, or any file, is at hand."""

    def __init__(self, home="", **options):
        super().__init__(**options)
        if home and Path(home).exists():
            raise RuntimeError("it is where it was made")
        if home and os.listdir():
            raise RuntimeError(f"its directory holds {os.listdir()}")

    def get_config(self):
        rooms = Path(HOME).glob(".exporter-*-*/")
        return {**super().get_config(), "home": next((str(room / "model.keras") for room in rooms), "")}

    def call(self, inputs):
        return inputs


HOME = "."
'''


@pytest.fixture
def layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module that the fresh process can import as well."""
    (tmp_path / "own_layers.py").write_text(LAYERS)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("own_layers")
    del sys.modules["own_layers"]


@pytest.fixture
def session(layers: Any) -> Iterator[ExportSession]:
    """One for several artifacts; its process can import the module."""
    with ExportSession() as shared:
        yield shared


def make_model(*layers: Any) -> Any:
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(2)])
    model.compile("sgd", "mean_squared_error")
    return model


def write_and_verify(session: ExportSession, model: Any, staged: Path, seed: int = 0) -> None:
    process = session.open_process(ModelProver.start)
    warm_up(process)
    inputs = prepare_inputs(model, VerifyConfig(), seed)
    plan_save(SaveRequest(model, staged)).write(staged)
    verify(process, model, staged, inputs, mode=VerifyConfig().mode, include_optimizer=True)


@pytest.mark.parametrize("source", ["python", "numpy", "keras", "tensorflow", "initializer"])
def test_what_was_not_saved_is_found_in_every_artifact_of_one_process(
    source: str, layers: Any, session: ExportSession, tmp_path: Path
) -> None:
    for number in range(3):
        keras.utils.set_random_seed(0)
        model = make_model(layers.Drawn(source))
        with pytest.raises(ProofError, match=r"\n  predictions: largest difference "):
            write_and_verify(session, model, tmp_path / f"model-{number}.keras")


def test_what_one_artifact_did_to_a_module_is_gone_for_the_next(
    layers: Any, session: ExportSession, tmp_path: Path
) -> None:
    write_and_verify(session, make_model(layers.Scaling(3.0)), tmp_path / "first.keras")
    assert layers.FACTOR == 3.0
    with pytest.raises(ProofError, match=r"\n  predictions: largest difference "):
        write_and_verify(session, make_model(layers.Scaled()), tmp_path / "second.keras")


def test_a_proof_is_far_from_where_the_artifact_was_made(
    layers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(layers, "HOME", str(tmp_path / "out"))
    receipt = run_export(ExportConfig(model=make_model(layers.Homesick()), filepath="out/model.keras"))
    assert {check.name: check.passed for check in receipt.checks}["load"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.keras", "model.keras.receipt.json"]
