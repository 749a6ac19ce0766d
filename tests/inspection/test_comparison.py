"""How two artifacts differ: across formats, tensor by tensor, and for the clients of an endpoint."""

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.artifacts.inspection.comparison import compare_artifacts, compare_signatures
from exporter.artifacts.inspection.records import Difference, SignatureDifference, TensorDifference
from exporter.cli.commands import run_command
from exporter.saving.contents import Endpoint, Tensor

from .conftest import Command

pytestmark = pytest.mark.xdist_group("inspection")

Artifacts = Mapping[str, Path]


@pytest.fixture
def changed(tmp_path: Path, artifacts: Artifacts) -> Path:
    """A copy in which one value is greater by 0.5."""
    import exporter

    model = exporter.load_model(artifacts["ours.h5"])
    kernel = model.get_layer("hidden").kernel
    value = kernel.numpy()
    value[1, 2] += 0.5
    kernel.assign(value)
    return exporter.save_model(model, tmp_path / "changed.h5")


SAME = ["ours", "ours.h5", "ours.keras"]


@pytest.mark.parametrize(("first", "second"), [*pairwise(SAME), ("ours.keras", "ours"), ("keras.h5", "keras.keras")])
def test_one_model_in_two_formats_is_the_same(first: str, second: str, artifacts: Artifacts) -> None:
    comparison = compare_artifacts(artifacts[first], artifacts[second])
    assert comparison.same
    assert (comparison.config, comparison.layers, comparison.optimizer, comparison.tensors) == ((), (), (), ())
    assert comparison.compared == (23 if first.startswith("ours") else 22)


def test_a_checkpoint_in_parts_holds_the_same_values(artifacts: Artifacts) -> None:
    comparison = compare_artifacts(artifacts["ours"], artifacts["sharded"])
    assert (comparison.tensors, comparison.compared) == ((), 23)
    assert not comparison.same  # its saver has other operations
    assert {each.path for each in comparison.operations} >= {"MergeV2Checkpoints"}


def test_what_stock_keras_leaves_out(artifacts: Artifacts) -> None:
    comparison = compare_artifacts(artifacts["ours.keras"], artifacts["keras.keras"])
    assert comparison.tensors == (
        TensorDifference(
            path="layers/dropout/seed_generators/0", kind="only in the first", first="int64 (2)", second=None
        ),
    )
    assert (comparison.config, comparison.layers, comparison.optimizer, comparison.compile) == ((), (), (), ())


def test_one_value_that_changed(changed: Path, artifacts: Artifacts) -> None:
    comparison = compare_artifacts(artifacts["ours"], changed)
    [difference] = comparison.tensors
    assert (difference.path, difference.kind, difference.differing) == ("layers/dense/vars/0", "values", 1)
    assert difference.largest == pytest.approx(0.5)
    assert (difference.first, difference.second) == ("float32 (8, 4)", "float32 (8, 4)")


def test_another_architecture(artifacts: Artifacts) -> None:
    comparison = compare_artifacts(artifacts["ours"], artifacts["custom"])
    assert comparison.layers == (Difference(path="scale", first=None, second="Scale"),)
    kinds = {each.path: each.kind for each in comparison.tensors if not each.path.startswith("optimizer/")}
    assert kinds["layers/scale/vars/0"] == "only in the second"
    assert comparison.signatures == ()


def test_a_shape_that_changed(artifacts: Artifacts) -> None:
    differences = compare_artifacts(artifacts["keras.h5"], artifacts["keras_2.h5"]).tensors
    assert differences[0] == TensorDifference(
        path="layers/dense/vars/0", kind="shape", first="float32 (8, 4)", second="float32 (8, 2)"
    )


ENDPOINT = Endpoint(
    {"pixels": Tensor((4, 8), "float32")}, {"scores": Tensor((None, 2), "float32"), "label": Tensor(None, "string")}
)


def replace_input(shape: tuple[int | None, ...] | None, dtype: str = "float32") -> dict[str, Endpoint]:
    return {"serve": Endpoint({"pixels": Tensor(shape, dtype)}, ENDPOINT.outputs)}


def replace_outputs(**outputs: Tensor) -> dict[str, Endpoint]:
    return {"serve": Endpoint(ENDPOINT.inputs, outputs)}


SCORES, LABEL = ENDPOINT.outputs["scores"], ENDPOINT.outputs["label"]

CHANGES: dict[str, tuple[dict[str, Endpoint], list[tuple[str, str, bool]]]] = {
    "nothing": ({"serve": ENDPOINT}, []),
    "endpoint gone": ({}, [("serve", "the endpoint is gone", False)]),
    "endpoint added": ({"serve": ENDPOINT, "train": ENDPOINT}, [("train", "a new endpoint", True)]),
    "input widened": (
        replace_input((None, 8)),
        [("serve.inputs.pixels", "the shape (4, 8) became (?, 8)", True)],
    ),
    "input of any rank": (
        replace_input(None),
        [("serve.inputs.pixels", "the shape (4, 8) became of any rank", True)],
    ),
    "input narrowed": (
        replace_input((4, 4)),
        [("serve.inputs.pixels", "the shape (4, 8) became (4, 4)", False)],
    ),
    "input of another rank": (
        replace_input((None, 8, 1)),
        [("serve.inputs.pixels", "the shape (4, 8) became (?, 8, 1)", False)],
    ),
    "input of another dtype": (
        replace_input((4, 8), "float16"),
        [("serve.inputs.pixels", "the dtype float32 became float16", False)],
    ),
    "input renamed": (
        {"serve": Endpoint({"image": Tensor((4, 8), "float32")}, ENDPOINT.outputs)},
        [("serve.inputs.image", "a new input", False), ("serve.inputs.pixels", "the input is gone", False)],
    ),
    "output gone": (replace_outputs(scores=SCORES), [("serve.outputs.label", "the output is gone", False)]),
    "output added": (
        replace_outputs(scores=SCORES, label=LABEL, index=LABEL),
        [("serve.outputs.index", "a new output", True)],
    ),
    "output fixed": (
        replace_outputs(scores=Tensor((4, 2), "float32"), label=LABEL),
        [("serve.outputs.scores", "the shape (?, 2) became (4, 2)", True)],
    ),
    "output widened": (
        replace_outputs(scores=Tensor((None, None), "float32"), label=LABEL),
        [("serve.outputs.scores", "the shape (?, 2) became (?, ?)", False)],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_endpoints(change: str) -> None:
    second, expected = CHANGES[change]
    assert compare_signatures({"serve": ENDPOINT}, second) == tuple(
        SignatureDifference(path=path, message=message, compatible=compatible) for path, message, compatible in expected
    )


def test_the_command_ends_like_diff(
    changed: Path, artifacts: Artifacts, light_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    done = light_command("diff", "ours", "ours.h5", cwd=artifacts["ours"].parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("\n✓ the two artifacts hold the same\n")

    assert run_command(["diff", str(artifacts["ours.keras"]), str(changed), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["same"] is False
    assert [each["path"] for each in found["tensors"]] == ["layers/dense/vars/0"]

    assert run_command(["diff", str(changed), "absent"]) == 2
    assert capsys.readouterr().err == (
        "exporter: There is no absent. Give the path of a SavedModel, an HDF5 file, a .keras archive, a LiteRT file, "
        "an ONNX file or an OpenVINO IR.\n"
    )


def test_the_page(changed: Path, artifacts: Artifacts, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["diff", str(artifacts["ours.keras"]), str(changed)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "≠ the two artifacts differ"
    assert lines[5:] == [
        "config     the same",
        "layers     the same",
        "optimizer  the same",
        "compile    the same",
        "tensors    23 in both, 22 of them equal; 1 values",
        "           layers/dense/vars/0  1 value differs by 0.5 at most",
        "endpoints  not compared: only a SavedModel has a graph with endpoints",
        "",
    ]


def test_the_contract_of_the_endpoints(artifacts: Artifacts, capsys: pytest.CaptureFixture[str]) -> None:
    ours, export, older = (str(artifacts[name]) for name in ("ours", "keras_export", "keras_2"))
    assert run_command(["diff", "--signatures", ours, str(artifacts["custom"])]) == 0
    capsys.readouterr()
    assert run_command(["diff", "--signatures", ours, older]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "✗ 2 changes would break clients of the first",
        "",
        f"first      {ours}",
        f"second     {older}",
        "endpoints  serving_default.inputs.input_1  a new input (breaks clients)",
        "           serving_default.inputs.pixels   the input is gone (breaks clients)",
        "",
    ]
    assert run_command(["diff", "--signatures", "--json", ours, export]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["compatible"] is False
    assert run_command(["diff", "--signatures", ours, str(artifacts["ours.h5"])]) == 2
    assert capsys.readouterr().err == (
        f"exporter: {artifacts['ours.h5']} has no endpoints: only a SavedModel has signatures. Give two SavedModels.\n"
    )


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1.0, np.nan], [1.0, np.nan], (0.0, 0)),
        ([0.0, 2.0], [-0.0, 2.5], (0.5, 1)),
        ([1.0, np.nan], [1.0, 2.0], (None, 1)),
        ([1, 2**62], [3, 2**62 + 1], (2.0, 2)),
        ([True, False], [False, False], (1.0, 1)),
        ([1 + 1j], [1 + 2j], (1.0, 1)),
    ],
    ids=["NaN", "negative zero", "NaN and a number", "64 bits", "bool", "complex"],
)
def test_the_difference_of_values(
    first: list[complex], second: list[complex], expected: tuple[float | None, int]
) -> None:
    from exporter.artifacts.inspection.comparison import _compare_values

    assert _compare_values(np.array(first), np.array(second)) == expected


def save_table(path: Path, prices: Mapping[str, float]) -> Path:
    """Saves a model that looks its answers up."""
    import keras
    import tensorflow as tf

    import exporter

    class Lookup(keras.layers.Layer):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.float32, 0.0)

        def call(self, words: Any) -> Any:
            return tf.ensure_shape(self.table.lookup(words), words.shape)

        def compute_output_spec(self, words: Any) -> Any:
            return keras.KerasTensor(words.shape, "float32")

    words, layer = keras.Input((1,), dtype="string", name="words"), Lookup(name="lookup")
    layer.table.insert(list(prices), list(prices.values()))
    return exporter.save_model(keras.Model(words, layer(words), name="prices"), path)


def test_the_entries_of_a_lookup_table_are_named_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [keras_file, h5_file, directory] = [
        save_table(tmp_path / name, {"red": 5.0, "green": 7.0}) for name in ("a.keras", "a.h5", "a")
    ]
    others = [save_table(tmp_path / name, {"red": 5.0, "green": 8.0}) for name in ("b.h5", "b")]

    for path in (keras_file, h5_file, directory):
        assert run_command(["inspect", str(path)]) == 0
        assert "lookup tables  layers/lookup/attributes/table (string to float32)" in capsys.readouterr().out
    assert compare_artifacts(keras_file, h5_file).same
    assert compare_artifacts(h5_file, directory).same
    for first, second in zip((h5_file, directory), others, strict=True):
        comparison = compare_artifacts(first, second)
        assert not comparison.same
        assert [each.path for each in comparison.assets] == ["layers/lookup/attributes/table/values.npy"]
    assert run_command(["diff", str(h5_file), str(others[0])]) == 1
    assert "assets     layers/lookup/attributes/table/values.npy  sha256" in capsys.readouterr().out
