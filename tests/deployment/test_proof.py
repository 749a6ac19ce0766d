"""The proof of a converted artifact: what is sound passes, and each planted fault is found."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from exporter.config import SignatureConfig
from exporter.errors import ModelError, ProofError
from exporter.saving.contents import Contents
from exporter.saving.deployment.conversions import CalibrationData
from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.formats.deployed import DeployedFormat
from exporter.verification.deployment.quality.samples import Samples

from .conftest import DEPLOYED, Bench
from .models import make

pytestmark = pytest.mark.xdist_group("deployment")

Place = Callable[[DeployedFormat], Path]

# What a converter cannot hold, by the format and the model, and the words that say so.
REFUSED = {
    ("litert", "recurrent"): "LiteRT cannot hold a recurrent layer for batches of any size",
}


# The others are rows of the table of `exporter help deployment`.
@pytest.mark.parametrize("name", ["convolutional", "branches", "recurrent"])
def test_what_is_sound_is_proven(bench: Bench, save_format: DeployedFormat, name: str, place: Place) -> None:
    model, target = make(name), place(save_format)
    if (save_format.name, name) in REFUSED:
        with pytest.raises(ModelError, match=re.escape(REFUSED[save_format.name, name])):
            bench.convert(save_format, model, target)
        assert not target.exists()
        return
    contents = bench.convert(save_format, model, target)
    result = bench.prove(save_format, model, target, contents)
    assert [check.name for check in result.checks] == ["load", "endpoints", "outputs of serving_default"]
    assert result.is_proven
    assert result.deployment.rounding is not None
    assert result.deployment.rounding <= 4


@pytest.mark.parametrize("name", ["recurrent", "masked"])
def test_the_remedy_for_recurrent_layers_works(bench: Bench, name: str, place: Place) -> None:
    [litert] = [each for each in DEPLOYED if each.name == "litert"]
    model, target = make(name), place(litert)
    endpoints = bench.build(model, serving_default=SignatureConfig(batch=1))
    contents = bench.convert(litert, model, target, endpoints)
    assert bench.prove(litert, model, target, contents, endpoints).is_proven


def test_float16_is_held_to_its_own_rounding(bench: Bench, save_format: DeployedFormat, place: Place) -> None:
    model, target = make("convolutional"), place(save_format)
    contents = bench.convert(save_format, model, target, quantize=Quantize.FLOAT16)
    result = bench.prove(save_format, model, target, contents, quantize=Quantize.FLOAT16)
    assert result.is_proven
    assert 0.01 < (result.deployment.rounding or 0) <= 4
    with pytest.raises(ProofError, match="at most 8 x rounding is allowed"):  # of float32, it is far away
        bench.prove(save_format, model, target, contents)


def change_epsilon(model: keras.Model) -> None:
    model.get_layer("norm").epsilon = 0.01


def transpose_kernel(model: keras.Model) -> None:
    kernel = model.get_layer("kernel").kernel
    kernel.assign(np.swapaxes(kernel.numpy(), 0, 1))


def replace_gelu(model: keras.Model) -> None:
    dense = next(layer for layer in model.layers if isinstance(layer, keras.layers.Dense) and layer.name != "scores")
    dense.activation = lambda value: keras.activations.gelu(value, approximate=True)


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        pytest.param("convolutional", change_epsilon, id="wrong epsilon"),
        pytest.param("convolutional", transpose_kernel, id="transposed kernel"),
        pytest.param("transformer", replace_gelu, id="tanh for erf"),
    ],
)
def test_a_planted_fault_is_found(
    bench: Bench, save_format: DeployedFormat, name: str, plant: Callable[[keras.Model], None], place: Place
) -> None:
    faulty, target = make(name), place(save_format)
    plant(faulty)
    contents = bench.convert(save_format, faulty, target)
    with pytest.raises(ProofError) as caught:
        bench.prove(save_format, make(name), target, contents)
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "The artifact that was written does not compute what the model computes: 1 of 3 checks failed, and nothing was "
        "published."
    )
    assert re.fullmatch(
        r"  outputs of serving_default: \S+ x rounding; at most 8 x rounding is allowed; largest difference \S+; "
        r"batch sizes 1, 2, 3, seeded inputs",
        lines[1],
    )
    assert lines[2] == "`verify=none` publishes without a proof."


def test_a_lost_endpoint_is_found(bench: Bench, save_format: DeployedFormat, place: Place) -> None:
    model = make("convolutional")
    both = bench.build(model, serving_default=SignatureConfig(), also=SignatureConfig())
    one = {"serving_default": both["serving_default"]}
    target = place(save_format)
    contents = bench.convert(save_format, model, target, one)
    declared = contents.signatures["serving_default"]
    promised: Contents = replace(contents, signatures={"serving_default": declared, "also": declared})
    with pytest.raises(ProofError, match="endpoints: 1 differ; also is not there"):
        bench.prove(save_format, model, target, promised, both)


def test_a_renamed_output_and_a_fixed_batch_are_found(bench: Bench, save_format: DeployedFormat, place: Place) -> None:
    model, target = make("convolutional"), place(save_format)
    fixed = bench.build(model, serving_default=SignatureConfig(batch=2, outputs={"other": "scores"}))
    bench.convert(save_format, model, target, fixed)
    expected = bench.build(model)
    declared = bench.convert(save_format, model, target.with_name(f"second{target.suffix}"), expected)
    with pytest.raises(ProofError) as caught:
        bench.prove(save_format, model, target, declared, expected)
    assert "endpoints: 2 differ" in str(caught.value)
    assert '{"other": "float32 (2, 5)"} in place of {"scores": "float32 (?, 5)"}' in str(caught.value)


SAMPLES = np.random.default_rng(3).normal(1, 3, (120, 8, 8, 1)).astype("float32")


def label(model: keras.Model, images: np.ndarray) -> np.ndarray:
    labels: np.ndarray = np.asarray(model(images)).argmax(-1)
    return labels


def test_integers_are_judged_on_labelled_data(bench: Bench, save_format: DeployedFormat, place: Place) -> None:
    model, target = make("convolutional"), place(save_format)
    data = CalibrationData(origin="the images", samples={"serving_default": {"image": SAMPLES[:60]}})
    contents = bench.convert(save_format, model, target, quantize=Quantize.INT8, calibration=data)
    held_out = Samples(
        "the others", {"serving_default": {"image": SAMPLES[60:]}}, {"y": label(model, SAMPLES[60:])}, {}
    )
    result = bench.prove(
        save_format, model, target, contents, quantize=Quantize.INT8, samples=held_out, max_accuracy_drop=0.1
    )
    assert result.is_proven
    [score] = result.deployment.scores
    assert (score.metric, score.model, score.samples) == ("accuracy", 1.0, 60)
    assert score.artifact >= 0.9
    assert result.deployment.agreement == score.artifact
    assert result.deployment.rounding is None


def test_without_labelled_data_integers_are_not_proven(bench: Bench, save_format: DeployedFormat, place: Place) -> None:
    model, target = make("convolutional"), place(save_format)
    data = CalibrationData(origin="the images", samples={"serving_default": {"image": SAMPLES[:60]}})
    contents = bench.convert(save_format, model, target, quantize=Quantize.INT8, calibration=data)
    result = bench.prove(save_format, model, target, contents, quantize=Quantize.INT8)
    assert not result.is_proven
    assert [each.why for each in result.left_out] == [
        "there is no labelled data; to prove it, set verify.data to an .npz file with its inputs by name and the "
        "targets as y"
    ]


def test_shifted_calibration_is_found(bench: Bench, save_format: DeployedFormat, place: Place) -> None:
    model, target = make("convolutional"), place(save_format)
    data = CalibrationData(origin="other images", samples={"serving_default": {"image": SAMPLES[:60] / 255}})
    contents = bench.convert(save_format, model, target, quantize=Quantize.INT8, calibration=data)
    held_out = Samples(
        "the others", {"serving_default": {"image": SAMPLES[60:]}}, {"y": label(model, SAMPLES[60:])}, {}
    )
    with pytest.raises(ProofError, match=r"quality of serving_default: accuracy 0\.\d+ \(-0\.\d+\)"):
        bench.prove(save_format, model, target, contents, quantize=Quantize.INT8, samples=held_out)


def test_the_same_recipe_gives_the_same_bytes(bench: Bench, save_format: DeployedFormat, tmp_path: Path) -> None:
    suffix = "".join(save_format.suffixes[:1])
    made = []
    for name in ("first", "second"):
        keras.backend.clear_session()  # names start anew, as an export has them for each model
        model = make("convolutional")
        bench.convert(save_format, model, tmp_path / f"{name}{suffix}")
        place = tmp_path / f"{name}{suffix}"
        files = sorted(each for each in place.rglob("*") if each.is_file()) if place.is_dir() else [place]
        made.append([each.read_bytes() for each in files])
    assert made[0] == made[1]


def test_nothing_is_imported_for_the_proof_that_a_device_lacks(
    bench: Bench, save_format: DeployedFormat, place: Place
) -> None:
    model, target = make("convolutional"), place(save_format)
    contents = bench.convert(save_format, model, target)
    [load] = [check for check in bench.prove(save_format, model, target, contents).checks if check.name == "load"]
    assert load.detail.endswith("without TensorFlow and Keras")


def test_the_document_is_read_back(bench: Bench, save_format: DeployedFormat, place: Place) -> None:
    model, target = make("branches"), place(save_format)
    contents = bench.convert(save_format, model, target)
    content = save_format.find_runtime().read_file(target)
    assert content.document is not None
    assert content.document.endpoints == contents.signatures
    assert content.document.notes == {"recipe.yaml": "seed: 1\n"}
    assert content.operations
    assert any(constant.read().size for constant in content.constants.values())
