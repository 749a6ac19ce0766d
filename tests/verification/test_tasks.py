"""Tasks of KerasHub come back with the preprocessor that takes text, and as an endpoint that does."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from language_models import make_gemma
from sources.test_presets import TEXTS, make_classifier

import exporter
from exporter.errors import UsageError

# KerasHub's own `predict` is Python code around the steps, which a model without that code does not have.
pytestmark = pytest.mark.filterwarnings("ignore:.*does not hold everything. predict")


def run(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.filterwarnings(r"ignore:`compile\(\)` was not called as part of model loading")
@pytest.mark.parametrize("save_format", ["keras", "tf"])
def test_a_task_that_takes_text_is_proven(save_format: str, tmp_path: Path) -> None:
    classifier = make_classifier()
    classifier.backbone.enable_lora(2)
    expected = classifier.predict(TEXTS, verbose=0)

    receipt = exporter.export(classifier, tmp_path / "task", save_format=save_format)

    assert [check.figure for check in receipt.checks if check.name == "LoRA, quantization"] == ["equal"]
    loaded = exporter.load_model(tmp_path / "task")
    np.testing.assert_array_equal(loaded.predict(TEXTS, verbose=0), expected)


@pytest.mark.filterwarnings(r"ignore:`compile\(\)` was not called as part of model loading")
def test_an_endpoint_takes_text_where_the_operations_are_at_hand(tmp_path: Path) -> None:
    classifier = make_classifier()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def classify(text: Any) -> Any:
        return {"logits": classifier(classifier.preprocessor(text))}

    path = tmp_path / "task"
    exporter.save_model(classifier, path, save_format="tf", signatures={"serving_default": classify})

    expected = classify(tf.constant(TEXTS))["logits"]
    code = f"endpoint = tf.saved_model.load({str(path)!r}).signatures['serving_default']\n"
    code += f"print(endpoint(text=tf.constant({TEXTS!r}))['logits'].numpy().tobytes().hex())"
    served = run(f"import tensorflow as tf, tensorflow_text\n{code}")
    assert served.stdout.strip() == np.asarray(expected).tobytes().hex(), served.stderr


def test_says_which_operation_is_missing(tmp_path: Path) -> None:
    classifier = make_classifier()
    function = tf.function(classifier.preprocessor, input_signature=[tf.TensorSpec([None], tf.string)])
    path = tmp_path / "task"
    exporter.save_model(classifier, path, save_format="tf", signatures={"prepare": function})

    load = f"import exporter\nprint(type(exporter.load_model({str(path)!r})).__name__)"
    refused, loaded = run(f"import sys\nsys.modules['tensorflow_text'] = None\n{load}"), run(load)

    operation = refused.stderr.partition("needs the operation '")[2].partition("'")[0]
    assert refused.stderr.rstrip().endswith(
        f"{path} needs the operation '{operation}', which TensorFlow does not have. It is in tensorflow_text, which is "
        "missing: pip install tensorflow-text"
    )
    assert loaded.stdout.strip() == "BertTextClassifier", loaded.stderr


RECIPE = """\
defaults: [config, override model: custom, _self_]
model:
  _target_: keras_hub.models.TextClassifier.from_preset
  preset: preset
filepath: exports/classifier
options:
  namespace_whitelist: [TFText]
signatures:
  classify:
    preprocess: {_target_: exporter.transforms.tokenize, preset: preset}
    postprocess: {_target_: exporter.transforms.take_label, labels: [bad, good]}
"""


def test_a_recipe_takes_a_preset_to_an_endpoint_from_text_to_labels(tmp_path: Path) -> None:
    classifier = make_classifier()
    classifier.save_to_preset(str(tmp_path / "preset"))
    (tmp_path / "classify.yaml").write_text(RECIPE)
    (tmp_path / "x.json").write_text(json.dumps({"inputs": {"text": TEXTS}}))
    command = [sys.executable, "-m", "exporter"]

    done = subprocess.run([*command, "classify.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "opens in   Keras 3.5.0 and newer, TensorFlow 2.8 and newer, with tensorflow_text" in done.stdout
    expected = [["bad", "good"][index] for index in np.argmax(classifier.predict(TEXTS, verbose=0), axis=-1)]
    # The printed lines work as they stand.
    [served] = re.findall(r"^serve +(import .*)\n +(served = .*)$", done.stdout, re.MULTILINE)
    ask = f"print(served.signatures['classify'](text=tf.constant({TEXTS!r}))['label'].numpy().tolist())"
    answered = run("\n".join([*served, ask]))
    assert answered.stdout.strip() == str([label.encode() for label in expected]), answered.stderr
    asked = [*command, "predict", "exports/classifier", "--inputs", "x.json", "--endpoint", "classify", "--json"]
    predicted = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert json.loads(predicted.stdout)["outputs"]["label"] == expected, predicted.stderr


def test_a_language_model_generates_as_an_endpoint(tmp_path: Path) -> None:
    model = keras_hub.models.GemmaCausalLM(make_gemma(16))
    prompt = {"token_ids": np.array([[1, 2, 3, 0, 0, 0]]), "padding_mask": np.array([[1, 1, 1, 0, 0, 0]])}
    expected = model.generate(prompt, stop_token_ids=None)

    with pytest.raises(UsageError) as caught:
        exporter.export(model, tmp_path / "model", save_format="tf", signatures={"generate": {"method": "generate"}})
    assert str(caught.value).startswith("signatures.generate: 'generate' cannot be traced: ValueError: ")
    assert "Name its step instead: method: generate_step. " in str(caught.value)

    # `generate` itself runs Python around this step, which is what can be traced.
    exporter.export(model, tmp_path / "model", save_format="tf", signatures={"generate": {"method": "generate_step"}})

    endpoint = tf.saved_model.load(tmp_path / "model").signatures["generate"]
    generated = endpoint(**{name: tf.constant(each, tf.int32) for name, each in prompt.items()})
    np.testing.assert_array_equal(generated["token_ids"], expected["token_ids"])
