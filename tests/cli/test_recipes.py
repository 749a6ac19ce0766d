"""Each recipe says what it is for, holds only what differs, and runs as it is written."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

import exporter
from exporter import sources
from exporter.config.directories import CONFIG_DIRECTORY, RECIPES_DIRECTORY
from exporter.models.building import build_model
from exporter.saving.deployment.runtimes.litert import LiteRtRuntime
from exporter.saving.deployment.runtimes.onnx import OnnxRuntime

RECIPES = sorted(RECIPES_DIRECTORY.glob("*.yaml"))
IMPORT_ROOT = Path(exporter.__file__).parents[1]


def read_commands(recipe: Path) -> list[list[str]]:
    """Read the command lines from the comments of a recipe, without the program's name."""
    lines = re.findall(r"^#   exporter (.+)$", recipe.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [shlex.split(line) for line in lines]


COMMANDS = [pytest.param(command, id=" ".join(command)) for recipe in RECIPES for command in read_commands(recipe)]


def run_exporter(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exporter", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(IMPORT_ROOT)},
        capture_output=True,
        text=True,
        timeout=1500,
    )


def run_recipe(name: str, folder: Path, command: int = 0) -> str:
    """Run a command of a recipe as it is written there, and give what it printed."""
    outcome = run_exporter(read_commands(RECIPES_DIRECTORY / f"{name}.yaml")[command], folder)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def read_receipt(artifact: Path) -> dict[str, Any]:
    receipt = json.loads(artifact.with_name(f"{artifact.name}.receipt.json").read_text(encoding="utf-8"))
    assert receipt["status"] == "proven"
    assert isinstance(receipt, dict)
    return receipt


def measure_accuracy(model: keras.Model) -> float:
    _, (images, labels) = sources.digits_data()
    return float((np.asarray(model(images, training=False)).argmax(axis=-1) == labels).mean())


def find_leaves(mapping: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from find_leaves(value, (*path, key))
        else:
            yield (*path, key), value


def read_yaml(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def make_old_model() -> keras.Model:
    layers = [keras.Input((4,), name="measurements"), keras.layers.Dense(3, activation="tanh", name="scores")]
    return keras.Sequential(layers, name="old")


def test_there_is_a_recipe_for_each_purpose() -> None:
    assert [recipe.stem for recipe in RECIPES] == [
        "digits",
        "digits_deploy",
        "digits_formats",
        "digits_search",
        "image_classifier",
        "image_deploy",
        "mobilenet_serving",
        "reexport",
        "resumable",
    ]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_opens_with_its_purpose_and_its_command(recipe: Path) -> None:
    purpose, *rest = recipe.read_text(encoding="utf-8").splitlines()
    assert re.match(r"# [A-Z].{30,}", purpose)
    comments = rest[: rest.index("defaults:")]
    assert all(line.startswith("#") for line in comments)
    commands = read_commands(recipe)
    assert len(commands) >= 1
    assert all(command[:2] == ["-cn", recipe.stem] for command in commands)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_holds_only_what_differs(recipe: Path) -> None:
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    first, *overrides, last = content.pop("defaults")
    assert (first, last) == ("config", "_self_")
    content.pop("hydra", None)
    content.pop("signatures", None)  # nothing is declared by default
    default = read_yaml(CONFIG_DIRECTORY / "config.yaml")
    chosen = [entry for entry in default.pop("defaults") if isinstance(entry, dict)]
    for entry in [*chosen, *overrides]:
        [(group, option)] = entry.items()
        group = group.removeprefix("override ")
        if not group.startswith("hydra/"):
            default[group] = read_yaml(CONFIG_DIRECTORY / group / f"{option}.yaml")
    defaults = dict(find_leaves(default))
    for path, value in find_leaves(content):
        assert path in defaults, f"{recipe.name} sets {'.'.join(path)}, which is not in the config"
        assert value != defaults[path] or value == "???", f"{recipe.name} repeats the default of {'.'.join(path)}"


@pytest.mark.parametrize("command", COMMANDS)
def test_composes(command: list[str], tmp_path: Path) -> None:
    for name in ("old.h5", "old.keras", "labels.txt"):
        (tmp_path / name).touch()
    (tmp_path / "my_package").mkdir()
    outcome = run_exporter([*command, "--cfg", "job"], tmp_path)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert yaml.safe_load(outcome.stdout)["model"]["_target_"].startswith("exporter.sources.")


def test_digits_is_the_main_job() -> None:
    assert exporter.compose("digits") == exporter.compose(overrides=["strict=true"])


def test_digits_formats(tmp_path: Path) -> None:
    run_recipe("digits_formats", tmp_path)
    folder = tmp_path / "exports" / "digits_formats"
    models = {}
    for name, expected in (("digits", "tf"), ("digits.h5", "h5"), ("digits.keras", "keras")):
        receipt = read_receipt(folder / name)
        assert receipt["format"] == expected
        assert {entry["what"] for entry in receipt["left_out"]} <= {"metric accumulators"}
        models[expected] = exporter.load_model(folder / name)
    accuracy = measure_accuracy(models["tf"])
    assert accuracy > 0.95
    assert receipt["read"] == [
        "1,797 scans of handwritten digits, 1,437 to train and 360 held out; "
        f"accuracy {accuracy:.3f} on the held-out scans"
    ]
    assert int(models["tf"].optimizer.iterations) == 6 * 45
    for other in ("h5", "keras"):
        for first, second in zip(models["tf"].weights, models[other].weights, strict=True):
            assert np.array_equal(first.numpy(), second.numpy())
    serving = tf.saved_model.load(str(folder / "digits")).signatures["serving_default"]
    _, (images, _) = sources.digits_data()
    served = serving(pixels=tf.constant(images[:7]))["probabilities"]
    np.testing.assert_allclose(served, models["tf"](images[:7], training=False), atol=1e-6)


def test_mobilenet_serving(tmp_path: Path) -> None:
    summary = run_recipe("mobilenet_serving", tmp_path)
    base = tmp_path / "exports" / "mobilenet"
    receipt = read_receipt(base / "1")
    assert "optimizer" not in {holding["what"] for holding in receipt["held"]}
    endpoint = tf.saved_model.load(str(base / "1")).signatures["serving_default"]
    [probabilities] = endpoint(tf.zeros([2, 224, 224, 3])).values()
    assert probabilities.shape == (2, 1000)
    np.testing.assert_allclose(np.sum(probabilities, axis=-1), 1, atol=1e-4)
    assert (base / "1" / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 3 * 224 * 224 * 4
    commands = [shlex.split(line) for line in summary.splitlines()[-4:-1]]
    assert f"{base}:/models/mobilenet" in commands[0]
    assert f"--model_base_path={base}" in commands[1]
    assert commands[2] == [
        *("curl", "-d", f"@{base / '1.request.json'}", "http://localhost:8501/v1/models/mobilenet:predict")
    ]
    inputs = json.loads((base / "1.request.json").read_text(encoding="utf-8"))["inputs"]
    [asked] = endpoint(**{name: tf.constant(value) for name, value in inputs.items()}).values()
    assert asked.shape == (1, 1000)


def test_digits_deploy(tmp_path: Path) -> None:
    run_recipe("digits_deploy", tmp_path)
    [table] = tmp_path.glob(".exporter/sweeps/*/*/sweep.json")
    rows = json.loads(table.read_text(encoding="utf-8"))["rows"]
    outcomes = {tuple(row["overrides"]): row["outcome"] for row in rows}
    for name in ("tf", "litert", "onnx", "openvino"):
        ways = [outcomes[f"save_format={name}", f"quantize={quantize}"] for quantize in ("null", "float16", "int8")]
        assert ways == (["proven", "refused", "refused"] if name == "tf" else ["proven"] * 3)
    scores = [score["artifact"] for row in rows if row["deployment"] for score in row["deployment"]["scores"]]
    assert len(scores) == 9
    assert min(scores) > 0.95


def test_image_deploy(tmp_path: Path) -> None:
    run_recipe("image_deploy", tmp_path)
    folder = tmp_path / "exports" / "image_deploy"
    _, (images, labels) = sources.digits_data()
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    # Dark ink on white paper, four times as large.
    pictures = np.kron(255 - np.round(images * 255), np.ones((1, 4, 4, 1))).astype(np.uint8)
    for name in ("digits", "digits.tflite", "digits.onnx"):
        read_receipt(folder / name)
    served = tf.saved_model.load(str(folder / "digits")).signatures["serving_default"](picture=tf.constant(pictures))
    for runtime in (LiteRtRuntime(folder / "digits.tflite"), OnnxRuntime(folder / "digits.onnx")):
        answer = runtime.call("serving_default", {"picture": pictures})
        assert (answer["labels"][:, 0].astype(str) == names[labels]).mean() > 0.95
        np.testing.assert_allclose(answer["scores"], served["scores"], atol=1e-5)


def test_image_classifier(tmp_path: Path) -> None:
    run_recipe("image_classifier", tmp_path)
    read_receipt(tmp_path / "exports" / "image_classifier")
    endpoints = tf.saved_model.load(str(tmp_path / "exports" / "image_classifier")).signatures
    _, (images, labels) = sources.digits_data()
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])

    # Dark ink on white paper, eight times as large.
    pictures = np.kron(255 - np.round(images * 255), np.ones((1, 8, 8, 1))).astype(np.uint8)
    content = [tf.io.encode_jpeg(picture, quality=95).numpy() for picture in pictures]
    answer = endpoints["serving_default"](image_bytes=tf.constant(content))
    assert (answer["labels"][:, 0].numpy().astype(str) == names[labels]).mean() > 0.95
    assert np.all(np.diff(answer["scores"]) <= 0)

    probabilities = endpoints["pixels"](pixels=tf.constant(images))["probabilities"].numpy()
    assert (probabilities.argmax(axis=-1) == labels).mean() > 0.95
    np.testing.assert_allclose(answer["scores"][:, 0], probabilities.max(axis=-1), atol=0.1)


def test_resumable(tmp_path: Path) -> None:
    run_recipe("resumable", tmp_path)
    receipt = read_receipt(tmp_path / "exports" / "resumable.keras")
    assert {entry["what"] for entry in receipt["left_out"]} <= {"metric accumulators"}
    resumed = exporter.load_model(tmp_path / "exports" / "resumable.keras")
    uninterrupted = build_model({"_target_": "exporter.sources.digits", "epochs": 2}, seed=0)
    (images, labels), _ = sources.digits_data()
    for model in (resumed, uninterrupted):
        assert int(model.optimizer.iterations) == 2 * 45
        model.fit(images, labels, batch_size=32, shuffle=False, verbose=0)
    for expected, received in zip(uninterrupted.variables, resumed.variables, strict=True):
        assert np.array_equal(expected.numpy(), received.numpy()), expected.path


def test_reexport(tmp_path: Path) -> None:
    model = make_old_model()
    model.save(tmp_path / "old.h5")
    run_recipe("reexport", tmp_path)
    read_receipt(tmp_path / "exports" / "reexported")
    measurements = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    reexported = exporter.load_model(tmp_path / "exports" / "reexported")
    assert np.array_equal(reexported(measurements), model(measurements))


def test_reexport_with_a_layer_of_your_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "layers.py").write_text(
        "import keras\n\n\nclass Scale(keras.layers.Layer):\n    def call(self, inputs):\n        return 3 * inputs\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from my_package.layers import Scale  # type: ignore[import-not-found]

    model = keras.Sequential([make_old_model(), Scale(name="scale")])
    model.save(tmp_path / "old.keras")
    run_recipe("reexport", tmp_path, command=1)
    read_receipt(tmp_path / "exports" / "reexported.h5")
    measurements = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    reexported = exporter.load_model(tmp_path / "exports" / "reexported.h5", custom_objects={"Scale": Scale})
    assert np.array_equal(reexported(measurements), model(measurements))
