"""What a recipe says about `SaveOptions` reaches TensorFlow, and the artifact passes its proof with all of it."""

from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

from exporter import ExportConfig, export
from exporter.artifacts.records import Status
from exporter.config import OptionsConfig, Sharding, ShardingConfig, SignatureConfig, VariablePolicy
from exporter.models.options import build_save_options
from exporter.saving.graph.endpoints import read_meta_graph

CHANGED: dict[str, tuple[Any, Any]] = {
    "namespace_whitelist": (["Addons"], ["Addons"]),
    "save_debug_info": (True, True),
    "experimental_debug_stripper": (True, True),
    "experimental_io_device": ("/job:localhost", "/job:localhost"),
    "experimental_variable_policy": (
        VariablePolicy.SAVE_VARIABLE_DEVICES,
        tf.saved_model.experimental.VariablePolicy.SAVE_VARIABLE_DEVICES,
    ),
    "experimental_custom_gradients": (False, False),
    "experimental_skip_saver": (True, True),
    "extra_tags": (["gpu"], ["gpu"]),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_value_is_handed_on(name: str) -> None:
    value, expected = CHANGED[name]
    built, default = build_save_options(OptionsConfig(**{name: value})), build_save_options(OptionsConfig())
    assert getattr(built, name) == expected != getattr(default, name)
    others = set(CHANGED) - {name}
    assert {each: getattr(built, each) for each in others} == {each: getattr(default, each) for each in others}


@pytest.mark.parametrize(
    ("sharding", "kind"),
    [
        pytest.param(ShardingConfig(policy=Sharding.SHARD_BY_TASK), "ShardByTaskPolicy", id="by task"),
        pytest.param(
            ShardingConfig(policy=Sharding.MAX_SHARD_SIZE, max_shard_size=64), "MaxShardSizePolicy", id="by size"
        ),
    ],
)
def test_a_sharding_policy_is_made_by_its_name(sharding: ShardingConfig, kind: str) -> None:
    built = build_save_options(OptionsConfig(experimental_sharding_callback=sharding))
    assert type(built.experimental_sharding_callback).__name__ == kind


def test_an_artifact_with_every_option_is_proven(tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,), name="features"), keras.layers.Dense(8), keras.layers.Dense(2)])
    model.compile("adam", "mean_squared_error")
    sharding = ShardingConfig(policy=Sharding.MAX_SHARD_SIZE, max_shard_size=128)
    options = OptionsConfig(
        namespace_whitelist=["Addons"],
        save_debug_info=True,
        function_aliases={"first": "judge", "second": "train"},
        experimental_debug_stripper=True,
        experimental_io_device="/job:localhost",
        experimental_variable_policy=VariablePolicy.SAVE_VARIABLE_DEVICES,
        experimental_sharding_callback=sharding,
        extra_tags=["gpu"],
    )
    signatures = {"judge": SignatureConfig(), "train": SignatureConfig(method="train")}
    config = ExportConfig(model=model, filepath=str(tmp_path / "model"), signatures=signatures, options=options)
    receipt = export(config)
    assert receipt.status is Status.PROVEN
    assert {"judge", "train"} <= {check.name for check in receipt.checks}
    assert (tmp_path / "model" / "debug" / "saved_model_debug_info.pb").is_file()
    assert len(list((tmp_path / "model" / "variables").glob("*.data-*"))) > 1
    meta_graph = read_meta_graph(tmp_path / "model")
    assert list(meta_graph.meta_info_def.tags) == ["serve", "gpu"]
    assert {node.device for node in meta_graph.graph_def.node if node.op == "VarHandleOp"} == {
        "/job:localhost/replica:0/task:0/device:CPU:0"
    }
    aliases = meta_graph.meta_info_def.function_aliases
    assert set(aliases.values()) == {"first", "second"}
    assert set(aliases) <= {function.signature.name for function in meta_graph.graph_def.library.function}
