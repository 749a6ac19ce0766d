"""What artifacts of every format answer to what a person asks."""

import base64
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import exporter
from exporter import ExportConfig
from exporter.cli.commands import run_command
from exporter.config import VerifyConfig, VerifyMode
from exporter.errors import ArgumentError, ArtifactError, ExporterError
from exporter.exporting.job import run_export
from exporter.processes.arrays import Array, read_arrays
from exporter.saving.formats import FORMATS
from exporter.verification.answers.predicting import predict

SIDE = 6
PIXELS = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3)).astype("float32")


@pytest.fixture(scope="module")
def model() -> Any:
    keras.utils.set_random_seed(0)
    layers = [keras.Input((SIDE, SIDE, 3), name="pixels"), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.Dense(4, name="scores")], name="small")


@pytest.fixture(scope="module")
def artifacts(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("artifacts")
    for save_format in FORMATS:
        path, proof = str(folder / save_format), VerifyConfig(mode=VerifyMode.NONE)
        run_export(ExportConfig(model=model, filepath=path, save_format=save_format, verify=proof))
    return {save_format: folder / save_format for save_format in FORMATS}


def ask(path: Path, inputs: Path, endpoint: str | None = None) -> tuple[dict[str, Any], dict[str, Array]]:
    answers = inputs.with_name("answers")
    told = predict(str(path), str(inputs), endpoint, str(answers))
    return told, read_arrays(answers)


def write(folder: Path, value: object) -> Path:
    (folder / "x.json").write_text(json.dumps(value))
    return folder / "x.json"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_answers_as_the_model(
    name: str, artifacts: Mapping[str, Path], model: Any, tmp_path: Path
) -> None:
    expected = model.predict(PIXELS, verbose=0)
    np.savez(tmp_path / "x.npz", pixels=PIXELS)
    for inputs in (write(tmp_path, {"instances": PIXELS.tolist()}), tmp_path / "x.npz"):
        told, answers = ask(artifacts[name], inputs)
        assert told["endpoint"] == "serving_default"
        [answer] = answers.values()
        np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("side", "channels", "suffix"),
    [
        pytest.param(SIDE, 3, "png", id="as it is"),
        pytest.param(SIDE, 1, "png", id="grey"),
        pytest.param(24, 4, "png", id="larger, with transparency"),
        pytest.param(24, 3, "jpg", id="JPEG"),
    ],
)
def test_an_image_becomes_what_the_endpoint_takes(
    side: int, channels: int, suffix: str, artifacts: Mapping[str, Path], model: Any, tmp_path: Path
) -> None:
    image = np.kron(PIXELS[0][..., :1].repeat(4, -1)[..., :channels], np.ones((side // SIDE,) * 2 + (1,))).astype(
        "uint8"
    )
    encoded = tf.io.encode_png(image) if suffix == "png" else tf.io.encode_jpeg(image)
    (tmp_path / f"x.{suffix}").write_bytes(encoded.numpy())
    told, answers = ask(artifacts["tf"], tmp_path / f"x.{suffix}")
    decoded = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    pixels = tf.image.resize(decoded, (SIDE, SIDE), antialias=True).numpy()
    np.testing.assert_allclose(answers["scores"], model.predict(pixels[None], verbose=0), atol=1e-5)
    assert told["notes"] == [f"{side} x {side} pixels became float32 (1, 6, 6, 3), with values from 0 to 255"]
    assert told["form"] == "instances"


class Endpoints(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None, 4, 4), tf.uint8, name="grey")])
    def grey(self, grey: Any) -> Any:
        return {"sums": tf.reduce_sum(tf.cast(grey, tf.int64), (1, 2))}

    @tf.function(input_signature=[tf.TensorSpec((4, 5, 1), tf.float32, name="one")])
    def one(self, one: Any) -> Any:
        return {"mean": tf.reduce_mean(one)}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="encoded")])
    def encoded(self, encoded: Any) -> Any:
        return {"lengths": tf.strings.length(encoded), "heads": tf.strings.substr(encoded, 0, 4)}

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, name="x")])
    def numbers(self, x: Any) -> Any:
        return {"y": x}


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several") / "several"
    module = Endpoints()
    names = ("grey", "one", "encoded", "numbers")
    tf.saved_model.save(module, str(folder), {name: getattr(module, name) for name in names})
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "x.png").write_bytes(tf.io.encode_png(np.full((4, 5, 3), 10, "uint8")).numpy())
    return tmp_path / "x.png"


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        pytest.param("grey", {"sums": [160]}, id="without channels"),
        pytest.param("one", {"mean": 10.0}, id="without a batch"),
        pytest.param("encoded", {"heads": [b"\x89PNG"], "lengths": [None]}, id="its bytes"),
    ],
)
def test_images_for_other_endpoints(several: Path, image: Path, endpoint: str, expected: dict[str, Any]) -> None:
    _, answers = ask(several, image, endpoint)
    found = {name: array.tolist() for name, array in sorted(answers.items())}
    if "lengths" in found:
        expected["lengths"] = [image.stat().st_size]
    assert found == expected


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        pytest.param(
            "numbers", "x.png is an image, and the endpoint takes none. numbers takes x float32 (?, 3).", id="numbers"
        ),
        pytest.param(
            None, "There is no endpoint serving_default. Give one of these with --endpoint: encoded takes ", id="none"
        ),
    ],
)
def test_an_image_where_none_is_taken(several: Path, image: Path, endpoint: str | None, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        ask(several, image, endpoint)
    assert str(caught.value).startswith(message)


def test_an_image_that_is_none(several: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(ArgumentError, match=r"^x\.png is no image that can be read: "):
        ask(several, tmp_path / "x.png", "grey")


def test_a_graph_that_does_more_than_compute_is_refused(tmp_path: Path) -> None:
    class Reading(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((), tf.string, name="path")])
        def read(self, path: Any) -> Any:
            return {"content": tf.io.read_file(path)}

    module = Reading()
    tf.saved_model.save(module, str(tmp_path / "hostile"), {"serving_default": module.read})
    with pytest.raises(ExporterError, match="ReadFile"):
        ask(tmp_path / "hostile", write(tmp_path, {"inputs": {"path": "/etc/passwd"}}))


def test_weights_alone_answer_nothing(model: Any, tmp_path: Path) -> None:
    model.save_weights(tmp_path / "x.weights.h5")
    with pytest.raises(ArtifactError, match="holds weights alone, and nothing that computes"):
        ask(tmp_path / "x.weights.h5", write(tmp_path, {"instances": [1]}))


def test_the_command_answers_as_tf_serving_does(
    several: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    texts = ["a\u202e", {"b64": base64.b64encode(b"\xff\xfe").decode()}]
    inputs = write(tmp_path, {"signature_name": "encoded", "instances": texts})
    assert run_command(["predict", str(several), "--inputs", str(inputs), "--json"]) == 0
    shown = capfd.readouterr().out
    assert shown.replace("\n", "").isprintable()
    assert json.loads(shown) == {
        "predictions": [{"heads": "a\u202e", "lengths": 4}, {"heads": {"b64": "//4="}, "lengths": 2}]
    }


def test_the_command_prints_what_was_asked_and_answered(
    several: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    inputs = write(tmp_path, {"inputs": [[1, 2, 3]]})
    assert run_command(["predict", str(several), "--inputs", str(inputs), "--endpoint", "numbers"]) == 0
    assert capfd.readouterr().out == (f"numbers of {several}\n  x  float32 (1, 3)\n→ y  float32 (1, 3)\n[[1. 2. 3.]]\n")


_OWN = """
import keras
@keras.saving.register_keras_serializable("mine")
class Double(keras.layers.Layer):
    def call(self, x):
        return 2 * x
class Third(keras.layers.Layer):
    def call(self, x):
        return x / 3
"""


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_classes_of_the_models_own_are_imported_where_their_module_is_trusted(
    suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"own_{suffix}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / "layers.py").write_text(_OWN)
    monkeypatch.syspath_prepend(tmp_path)
    layers: Any = importlib.import_module(f"{package}.layers")
    model = keras.Sequential([keras.Input((2,)), layers.Double(), layers.Third()])
    path = exporter.save_model(model, tmp_path / f"m.{suffix}")
    monkeypatch.undo()  # only where the command is run
    monkeypatch.chdir(tmp_path)
    asked = ["predict", str(path), "--inputs", str(write(tmp_path, {"instances": [[3.0, 6.0]]})), "--json"]
    assert run_command(asked) == ArtifactError.exit_code
    assert "Third" in capfd.readouterr().err
    assert run_command([*asked, "--trust", package]) == 0
    assert json.loads(capfd.readouterr().out) == {"predictions": [[2.0, 4.0]]}
    assert run_command([*asked, "--trust", "nowhere"]) == ArtifactError.exit_code
    assert "--trust nowhere: it cannot be imported" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("x.txt", "expected a file that ends with .json, .npz, .png, .jpg, .jpeg, .gif, .bmp", id="suffix"),
        pytest.param("no.json", "expected a file that ends with .json, ", id="missing"),
    ],
)
def test_a_file_that_is_no_question_is_a_fault_of_the_command_line(
    name: str, message: str, several: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.txt").touch()
    with pytest.raises(SystemExit) as stopped:
        run_command(["predict", str(several), "--inputs", str(tmp_path / name)])
    assert stopped.value.code == 2
    assert f"predict: --inputs: received {tmp_path / name}; {message}" in capsys.readouterr().err
