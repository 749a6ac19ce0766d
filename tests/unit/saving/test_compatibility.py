"""What a configuration needs of Keras, and what can be asked for."""

from typing import Any

import pytest

from exporter.config import ExportConfig
from exporter.exporting.limits import check_limits
from exporter.saving.compatibility.history import (
    explain_incompatible,
    find_needs,
    find_oldest_keras,
    name_oldest_keras,
    read_releases,
)


def describe(name: str, module: str = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


DENSE = describe("Dense", units=2, activation="relu")


@pytest.mark.parametrize(
    ("optimizer", "save_format", "oldest"),
    [
        pytest.param("Lamb", "h5", "", id="not found by its name"),
        pytest.param("Lamb", "keras", "3.5.0", id="found by its module"),
        pytest.param("Adam", "h5", "3.5.0", id="found by its name"),
    ],
)
def test_what_no_keras_finds_in_an_hdf5_file(optimizer: str, save_format: str, oldest: str) -> None:
    compiled: dict[str, Any] = {
        "optimizer": {"class_name": "LossScaleOptimizer", "config": {"inner": describe(optimizer)}}
    }
    assert name_oldest_keras({**DENSE, "compile_config": compiled}, save_format) == oldest


@pytest.mark.parametrize(
    ("config", "expected", "oldest"),
    [
        pytest.param(DENSE, [], (3, 5, 0), id="nothing-new"),
        pytest.param(
            {"layers": [describe("Dense", quantization_config=None)]},
            ["the argument 'quantization_config' of keras.layers.Dense, since Keras 3.13.0"],
            (3, 13, 0),
            id="argument",
        ),
        pytest.param(
            describe("RMSNormalization"),
            ["keras.layers.RMSNormalization, since Keras 3.9.0"],
            (3, 9, 0),
            id="class",
        ),
        pytest.param(
            describe("Dense", activation="celu"),
            ["keras.activations.celu, since Keras 3.7.0"],
            (3, 7, 0),
            id="function-by-name",
        ),
        pytest.param(
            {"compile_config": {"loss": ["circle", "mse"], "metrics": None}},
            ["keras.losses.circle, since Keras 3.7.0"],
            (3, 7, 0),
            id="loss-by-name",
        ),
        pytest.param(
            describe("SGD", "keras.optimizers", gradient_accumulation_steps=2),
            [
                "the argument 'gradient_accumulation_steps' of keras.optimizers.SGD, since Keras 3.10.0",
                "the argument 'gradient_accumulation_steps' of keras.optimizers.SGD, since Keras 3.0.2",
            ],
            (3, 10, 0),
            id="order-of-variables",
        ),
        pytest.param(describe("Gate", "my_package"), [], (3, 5, 0), id="somebody-elses"),
    ],
)
def test_needs(config: Any, expected: list[str], oldest: tuple[int, ...]) -> None:
    assert [str(need) for need in find_needs(config)] == expected
    assert find_oldest_keras(config) == oldest


@pytest.mark.parametrize(("wanted", "lacks"), [("3.6", 1), ("3.7", 0), ("3.7.0", 0), ("3.10.0", 0)])
def test_what_a_release_lacks(wanted: str, lacks: int) -> None:
    assert len(explain_incompatible(describe("Dense", activation="celu"), wanted)) == lacks


def test_the_table_knows_every_release() -> None:
    releases = read_releases()
    assert releases.first == (3, 0, 0)
    assert releases.last >= (3, 15, 1)
    assert releases.since["keras.layers.Dense"]["lora_alpha"] == (3, 10, 0)
    assert "units" not in releases.since["keras.layers.Dense"]


@pytest.mark.parametrize(
    ("wanted", "save_format", "message"),
    [
        pytest.param("3.9", "keras", None, id="minor"),
        pytest.param("3.10.0", "h5", None, id="patch"),
        pytest.param(
            "3.1",
            "keras",
            "received '3.1', which is also how YAML reads 3.10; expected '3.1.0' or '3.10.0'",
            id="ambiguous",
        ),
        pytest.param(
            "2.15",
            "keras",
            "received '2.15'; expected a release of Keras from 3.5 to 3.15, such as 3.9 or 3.10.0",
            id="too-old",
        ),
        pytest.param(
            "new",
            "keras",
            "received 'new'; expected a release of Keras from 3.5 to 3.15, such as 3.9 or 3.10.0",
            id="no-release",
        ),
        pytest.param(
            "3.9",
            "onnx",
            "received 3.9, and Keras opens no file of save_format=onnx; set save_format=tf or h5 or keras",
            id="converted",
        ),
    ],
)
def test_what_may_be_asked_for(wanted: str, save_format: Any, message: str | None) -> None:
    suffix = {"keras": ".keras", "h5": ".h5", "onnx": ".onnx"}[save_format]
    config = ExportConfig(model={}, filepath=f"model{suffix}", save_format=save_format, compatibility=wanted)
    faults = [fault for fault in check_limits(config) if fault.path == "compatibility"]
    assert [fault.message for fault in faults] == [message] * (message is not None)
