"""Every argument of what exports, with everything that it is not: one short error of ours, and nothing is touched."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import exporter
from exporter.errors import MOST_FAULTS, ExporterError

if TYPE_CHECKING:
    import keras

LONGEST = 700  # characters of one message; a list of faults has a line for each
Call = Callable[["keras.Model", Any], object]


class Loud:
    """Says much about itself."""

    def __repr__(self) -> str:
        return "R" * 9000


VALUES = {
    **{repr(value): value for value in (None, 0, 1, -1, 3.5, float("nan"), 10**300, True, ..., "", " ", "\0", "a=b")},
    "half a character": "é\ud800",
    "long": "x" * 5000,
    "deep": "x/" * 3000,
    "long URL": "s3://" + "x" * 3000,
    "bytes": b"bytes",
    "long bytes": b"x" * 5000,
    "path": Path("."),
    "long path": Path("x" * 5000),
    "list": [],
    "long list": ["a"] * 60,
    "dict": {},
    "long dict": {i: i for i in range(3000)},
    "nested": [[{}]],
    "set": set(range(3000)),
    "range": range(10**6),
    "object": object(),
    "function": print,
    "class": int,
    "array": np.zeros((500, 500)),
    "loud": Loud(),
}

CALLS: dict[str, Call] = {
    "compose: recipe": lambda model, value: exporter.compose(value, ["save_format=nonsense"]),
    "compose: overrides": lambda model, value: exporter.compose("digits", value),
    "compose: an override": lambda model, value: exporter.compose("digits", [value, "save_format=nonsense"]),
    "compose: config_dir": lambda model, value: exporter.compose("digits", ["save_format=nonsense"], value),
    "export: source": lambda model, value: exporter.export(value, "new", save_format="nonsense"),
    "export: filepath": lambda model, value: exporter.export(model, value, save_format="nonsense"),
    "export: save_format": lambda model, value: exporter.export(model, "new.h5", save_format=value, seed="nonsense"),
    "export: verify": lambda model, value: exporter.export(model, "new", verify=value, save_format="nonsense"),
    "export: signatures": lambda model, value: exporter.export(model, "new", signatures={"a": value}, seed="nonsense"),
}
# What the function takes: no overrides at all.
TAKEN = {"compose: overrides": {"list"}}


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_argument_is_one_short_error(
    call: str, small_model: "keras.Model", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.keras").write_text("mine")

    for name, value in VALUES.items():
        if name in TAKEN.get(call, ()):
            continue
        with pytest.raises(ExporterError) as caught:
            CALLS[call](small_model, value)
        lines = str(caught.value).splitlines()
        assert len(lines) <= MOST_FAULTS + 1, name
        assert max(map(len, lines)) <= LONGEST, name

    assert os.listdir() == ["model.keras"]
    assert Path("model.keras").read_text() == "mine"


@pytest.fixture(scope="module")
def small_model() -> "keras.Model":
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    return model
