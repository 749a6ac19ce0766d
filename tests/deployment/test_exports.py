"""Converted files as a recipe asks for them: faults before anything starts, and whole exports."""

import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import exporter
from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Status
from exporter.cli.commands import run_command
from exporter.cli.rerunning import plan_rerun
from exporter.errors import ArgumentError, ArtifactError, ModelError, UsageError
from exporter.exporting.job import run_export
from exporter.exporting.session import ExportSession
from exporter.sources import digits_data

from .models import make

pytestmark = pytest.mark.xdist_group("deployment")


@pytest.fixture(scope="module")
def session() -> Any:
    with ExportSession() as shared:
        yield shared


def export(session: ExportSession, folder: Path, *overrides: str) -> Receipt:
    config = exporter.compose("digits", ["model.epochs=1", "strict=false", *overrides])
    config.filepath = str(folder / Path(config.filepath).name)
    return run_export(config, session=session)


FAULTS: dict[str, tuple[Sequence[str], str]] = {
    "quantised SavedModel": (
        ["quantize=int8"],
        "quantize: received int8, which save_format=tf does not have; a format that holds the model keeps its numbers "
        "as they are. Or set save_format=litert or onnx or openvino",
    ),
    "unknown quantisation": (
        ["save_format=litert", "quantize=int16"],
        "quantize: received int16; allowed: float16, int8_dynamic, int8, int8_weights, int4_weights, null; "
        "did you mean int8?",
    ),
    "no data to calibrate with": (
        ["save_format=litert", "quantize=int8", "model=custom", "model._target_=keras.applications.MobileNetV2"],
        "calibration.data: missing; quantize=int8 counts in the ranges of real data. Give an .npz file with the inputs "
        "by name, or a function that yields batches as {_target_: ...}; or set quantize=int8_dynamic or int8_weights, "
        "which need none",
    ),
    "no samples": (
        ["save_format=litert", "quantize=int8", "calibration.samples=0"],
        "calibration.samples: received 0; expected a number of samples from 1 to 1,000,000",
    ),
    "training endpoint": (
        ["save_format=litert", "+signatures.learn.method=train"],
        "signatures.learn.method: received train, and save_format=litert holds what is computed and changes no "
        "variable; leave the endpoint out, or set save_format=tf",
    ),
    "ragged input": (
        ["save_format=litert", "+signatures.words.inputs.tokens={shape: [null, null], ragged_rank: 1}"],
        "signatures.words.inputs.tokens.ragged_rank: received 1, and save_format=litert takes dense tensors only; pad "
        "the rows to one length, and leave ragged_rank out",
    ),
    "save options": (
        ["save_format=litert", "options.save_debug_info=true"],
        "options: received values, and save_format=litert has no place for them; set save_format=tf",
    ),
    "layout for servers": (
        ["save_format=litert", "layout=tf_serving"],
        "layout: received tf_serving, and no server takes save_format=litert; set save_format=tf",
    ),
    "wrong suffix": (
        ["save_format=litert", "filepath=a.h5"],
        "filepath: received a.h5, which contradicts save_format=litert; change the suffix, or set save_format=h5",
    ),
    "tolerance": (["verify.tolerance=0"], "verify.tolerance: received 0; expected a number above 0, such as 8"),
    "drop": (
        ["verify.max_accuracy_drop=-0.1"],
        "verify.max_accuracy_drop: received -0.1; expected a number from 0, or null to report it only",
    ),
    "agreement": (
        ["verify.min_agreement=1.5"],
        "verify.min_agreement: received 1.5; expected a share from 0 to 1, or null to report it only",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_found_before_anything_starts(case: str) -> None:
    overrides, message = FAULTS[case]
    with pytest.raises(UsageError) as caught:
        exporter.compose("digits", overrides)
    assert message in str(caught.value).splitlines()


def test_a_missing_extra_is_a_fault_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.saving.formats.format.find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        exporter.compose("digits", ["save_format=litert"])
    assert (
        "save_format: ai_edge_litert is needed for running a LiteRT file and is not installed. Install it: "
        "pip install 'keras-exporter[litert]'"
    ) in str(caught.value).splitlines()


def test_a_file_is_exported_with_everything_that_others_have(
    session: ExportSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = export(session, tmp_path, "save_format=litert")
    assert receipt.status is Status.PROVEN
    assert [check.name for check in receipt.checks] == [
        "load",
        "endpoints",
        "outputs of serving_default",
        "quality of serving_default",
    ]
    assert receipt.deployment is not None
    assert receipt.deployment.agreement == 1.0
    assert receipt.deployment.scores[0].samples == 360
    summary = str(receipt)
    assert "computes what the model computes, proven" in summary
    lines = summary[summary.index("run  ") :].splitlines()
    code = "\n".join(line[11:].rstrip() for line in lines if line.strip())
    (tmp_path / "run.py").write_text(code)
    answers = runpy.run_path(str(tmp_path / "run.py"))["outputs"]
    assert {name: value.shape for name, value in answers.items()} == {"probabilities": (1, 10)}
    with pytest.raises(ArtifactError, match="is a LiteRT file, which holds what endpoints compute and no Keras model"):
        exporter.load_model(receipt.filepath)


def test_each_endpoint_is_calibrated_in_its_own_range(session: ExportSession, tmp_path: Path) -> None:
    scans = (
        "{inputs: {pixels: {shape: [null, 8, 8, 1], dtype: uint8}}, "
        "preprocess: {_target_: exporter.transforms.rescale, scale: 0.0625}}"
    )
    overrides = ["save_format=litert", "quantize=int8", "+signatures.serving_default={}", f"+signatures.scans={scans}"]
    with pytest.raises(UsageError) as caught:
        export(session, tmp_path, *overrides)
    assert str(caught.value) == (
        "calibration.data: there is no array 'scans/pixels' in the digits that are trained on, for 'scans'; add the "
        "arrays, in the range that the endpoint takes"
    )
    (images, labels), (others, other_labels) = digits_data()
    for name, rows, targets in (("calibration", images, labels), ("held_out", others, other_labels)):
        raw = (rows * 16).astype("uint8")
        arrays: dict[str, Any] = {"serving_default/pixels": rows, "scans/pixels": raw, "y": targets}
        np.savez(tmp_path / f"{name}.npz", **arrays)
    receipt = export(
        session,
        tmp_path,
        *overrides,
        f"calibration.data={tmp_path}/calibration.npz",
        f"verify.data={tmp_path}/held_out.npz",
    )
    assert receipt.status is Status.PROVEN
    assert receipt.deployment is not None
    assert [(score.endpoint, score.samples) for score in receipt.deployment.scores] == [
        ("serving_default", 360),
        ("scans", 360),
    ]
    assert receipt.deployment.calibration == "calibration.npz"


def test_shared_samples_are_a_fault(session: ExportSession, tmp_path: Path) -> None:
    (images, labels), _ = digits_data()
    np.savez(tmp_path / "data.npz", pixels=images[:50], y=labels[:50])
    with pytest.raises(UsageError) as caught:
        export(session, tmp_path, "save_format=litert", "quantize=int8", f"verify.data={tmp_path}/data.npz")
    assert str(caught.value) == (
        "calibration.data: 50 of its samples are also in the data that the artifact is judged on (data.npz); judge it "
        "on samples that it was not calibrated with: set calibration.data or verify.data"
    )


def test_a_gate_that_nothing_passes_costs_no_artifact(session: ExportSession, tmp_path: Path) -> None:
    (tmp_path / "digits-int4_weights.tflite").write_bytes(b"\0\0\0\0TFL3 of before")
    with pytest.raises(exporter.ProofError, match="quality of serving_default") as caught:
        export(session, tmp_path, "save_format=litert", "quantize=int4_weights", "verify.min_agreement=1")
    assert "Choose another `quantize`" in str(caught.value)
    assert (tmp_path / "digits-int4_weights.tflite").read_bytes() == b"\0\0\0\0TFL3 of before"


def test_save_model_writes_one_without_keras_in_the_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = tmp_path / "modules"
    (modules / "keras").mkdir(parents=True)
    (modules / "keras" / "__init__.py").write_text("raise SystemExit('Keras was imported')")
    monkeypatch.syspath_prepend(modules)  # which is where the converter looks first; this process has found Keras
    tmp_path = tmp_path / "work"
    target = exporter.save_model(make("branches"), tmp_path / "model.tflite")
    assert target.read_bytes()[4:8] == b"TFL3"
    assert [each.name for each in tmp_path.iterdir()] == ["model.tflite"]
    with pytest.raises(ArgumentError, match="`options` belong to a SavedModel"):
        exporter.save_model(make("branches"), tmp_path / "b.tflite", options=tf.saved_model.SaveOptions())


def test_what_a_converter_refuses_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"\0\0\0\0TFL3 of before")
    with pytest.raises(ModelError) as caught:
        exporter.save_model(make("recurrent"), tmp_path / "model.tflite")
    assert str(caught.value) == (
        "The model 'lstm' cannot be exported like this: LiteRT cannot hold a recurrent layer for batches of any size: "
        "the length of its list of states has to be known. Set batch=1, or another number, for the endpoint under "
        "`signatures`, or make the layer with unroll=True."
    )
    assert (tmp_path / "model.tflite").read_bytes() == b"\0\0\0\0TFL3 of before"
    assert [each.name for each in tmp_path.iterdir()] == ["model.tflite"]


def test_mixed_precision_is_refused_with_what_works(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 1))
    features = keras.layers.Conv2D(2, 3, dtype="mixed_float16")(image)
    model = keras.Model(image, keras.layers.Dense(2, dtype="float32")(keras.layers.Flatten()(features)), name="mixed")
    with pytest.raises(ModelError, match="Build the model with dtype policy float32, and ask for quantize=float16"):
        exporter.save_model(model, tmp_path / "model.tflite")


class Counting(keras.Model):
    """Counts how often it is called."""

    def __init__(self) -> None:
        super().__init__(name="counting")
        self.calls = self.add_weight(shape=(), dtype="float32", initializer="zeros", trainable=False)

    def call(self, values: Any) -> Any:
        self.calls.assign_add(1.0)
        return values + self.calls

    def get_config(self) -> dict[str, Any]:
        return {}


def test_an_endpoint_that_changes_variables_is_refused(tmp_path: Path) -> None:
    model = Counting()
    model(np.zeros((1, 2), "float32"))
    with pytest.raises(ModelError) as caught:
        exporter.save_model(model, tmp_path / "model.tflite")
    assert str(caught.value) == (
        "The endpoint 'serving_default' changes variables (AssignVariableOp), and a converted file computes without "
        "changing anything. Declare an endpoint that only computes, or save the model with save_format=tf."
    )
    assert not list(tmp_path.iterdir())
    exporter.save_model(model, tmp_path / "model", save_format="tf")


@pytest.mark.parametrize(
    "overrides", [["save_format=onnx"], ["save_format=openvino", "quantize=int8"]], ids=["file", "directory"]
)
def test_it_is_made_again_from_the_recipe_inside(
    session: ExportSession, tmp_path: Path, overrides: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = export(session, tmp_path, *overrides)
    config = plan_rerun(Path(receipt.filepath))
    config.filepath = str(tmp_path / "again" / Path(receipt.filepath).name)
    again = run_export(config, session=session)
    assert again.files == receipt.files
    assert run_command(["verify", "--files-only", again.filepath]) == 0
    assert run_command(["diff", receipt.filepath, again.filepath]) == 0
    assert "all as exported" in capsys.readouterr().out


def test_a_directory_is_replaced_as_a_whole_and_another_one_is_not(session: ExportSession, tmp_path: Path) -> None:
    first = export(session, tmp_path, "save_format=openvino", "model.epochs=1")
    (Path(first.filepath) / "left_over.txt").write_text("of the former one")
    second = export(session, tmp_path, "save_format=openvino", "model.epochs=1")
    assert second.files == first.files
    assert not (Path(first.filepath) / "left_over.txt").exists()
    others = tmp_path / "models"
    others.mkdir()
    (others / "somebody.xml").write_text("<net/>")
    with pytest.raises(ArgumentError, match="holds something else than a model"):
        exporter.export(make("branches"), str(others), save_format="openvino")


def test_a_store_takes_a_file_and_a_directory(session: ExportSession, tmp_path: Path) -> None:
    store = f"file://{tmp_path}/store"
    for overrides in (["save_format=onnx"], ["save_format=openvino"]):
        config = exporter.compose("digits", ["model.epochs=1", "strict=false", *overrides])
        config.filepath = f"{store}/{Path(config.filepath).name}"
        receipt = run_export(config, session=session)
        assert receipt.status is Status.PROVEN
        assert receipt.filepath.startswith("file://")
        assert run_command(["verify", "--files-only", receipt.filepath]) == 0


def test_several_endpoints_are_a_directory_of_onnx_files(session: ExportSession, tmp_path: Path) -> None:
    endpoints = ["+signatures.serving_default={}", "+signatures.one={batch: 1}"]
    receipt = export(session, tmp_path, "save_format=onnx", *endpoints, f"filepath={tmp_path}/both")
    assert sorted(each.name for each in Path(receipt.filepath).glob("*.onnx")) == ["one.onnx", "serving_default.onnx"]
    with pytest.raises(ModelError, match="one endpoint"):
        export(session, tmp_path, "save_format=onnx", *endpoints)
