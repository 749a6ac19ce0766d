"""Each consumer opens each artifact and computes what the model itself computes, in batches of 1, 2 and 3."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from .cases import BEST, CASES, COUNTS, DIGITS, MOBILENET, RECOGNIZE, SENTENCES, STOCK, TOKEN_IDS, WORDS, Case, encode
from .conftest import ReadReport
from .limits import LIMITS, Limit

# The way to open a case -> its consumer, and how far its numbers may be from the model's own. TensorFlow computes the
# same bits. The others add the same products up in another order, and fold a normalisation into the convolution before
# it: the largest difference that was seen is 4e-6, in the 157 layers of MobileNetV2.
TOLERANCE = 1e-5
WAYS = {
    "tensorflow": ("tensorflow_loader", 0.0, (*CASES, BEST)),
    "c_library": ("c_library", 0.0, (*CASES, BEST)),
    "litert": ("litert", TOLERANCE, CASES),
    "onnx": ("onnx_runtime", TOLERANCE, CASES),
    "onnx_extensions_mended": ("onnx_runtime", TOLERANCE, (SENTENCES,)),
    "openvino": ("openvino_runtime", TOLERANCE, (DIGITS, MOBILENET, SENTENCES, WORDS)),
    "openvino_tokenizers": ("openvino_runtime", TOLERANCE, (SENTENCES, WORDS)),
    "openvino_signature": ("openvino_runtime", TOLERANCE, (RECOGNIZE, TOKEN_IDS)),
}
CLOSED = {(limit.way, limit.case) for limit in LIMITS}


def group(consumer: str) -> pytest.MarkDecorator:
    return pytest.mark.xdist_group(f"interoperability-{consumer}")


OPEN = [
    pytest.param(way, consumer, tolerance, case, id=f"{way}-{case.identity}", marks=group(consumer))
    for way, (consumer, tolerance, cases) in WAYS.items()
    for case in cases
    if (way, case) not in CLOSED
]


@pytest.mark.parametrize(("way", "consumer", "tolerance", "case"), OPEN)
def test_the_numbers_are_those_of_the_model(
    way: str, consumer: str, tolerance: float, case: Case, artifacts: Path, read_report: ReadReport
) -> None:
    report = read_report(consumer)
    assert case.identity in report.outputs[way], report.errors[way][case.identity]
    for count in COUNTS:
        expected, received = case.read_outputs(artifacts, count), report.outputs[way][case.identity][count]
        assert received.shape == expected.shape
        if tolerance:
            np.testing.assert_allclose(received, expected, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(received.astype(expected.dtype), expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.identity)
def test_the_numbers_tell_the_rows_from_each_other(case: Case, artifacts: Path) -> None:
    outputs = case.read_outputs(artifacts, 3)
    assert np.abs(outputs[0] - outputs[1]).max() > 1000 * TOLERANCE


@pytest.mark.parametrize(
    ("way", "consumer", "expected"),
    [
        pytest.param("c_library", "c_library", [], marks=group("c_library")),
        pytest.param("openvino", "openvino_runtime", [], marks=group("openvino_runtime")),
        pytest.param("openvino_tokenizers", "openvino_runtime", [], marks=group("openvino_runtime")),
    ],
)
def test_it_is_done_without_the_packages_that_made_the_artifact(
    way: str, consumer: str, expected: list[str], read_report: ReadReport
) -> None:
    assert read_report(consumer).imported[way] == expected


@pytest.mark.parametrize(
    "limit",
    [pytest.param(limit, id=f"{limit.way}-{limit.case.identity}", marks=group(limit.consumer)) for limit in LIMITS],
)
def test_what_upstream_cannot_do(limit: Limit, read_report: ReadReport) -> None:
    assert limit.error in read_report(limit.consumer).errors[limit.way][limit.case.identity]


@group("litert")
def test_a_converter_computes_nothing_with_what_keras_models_are_saved_as_upstream(read_report: ReadReport) -> None:
    """The converter initializes no variable, without a word; `test_the_numbers...` shows that ours are."""
    outputs = read_report("litert").outputs["litert_stock"][STOCK.identity]
    assert all(np.isnan(outputs[count]).all() for count in COUNTS)


@group("onnx_runtime")
def test_tf2onnx_splits_a_text_into_characters(artifacts: Path, read_report: ReadReport) -> None:
    """Without a separator TensorFlow splits at white space, and onnxruntime-extensions at every character.

    The remedy is the way `onnx_extensions_mended`, which names the separator; or an endpoint that takes words.
    """
    outputs = read_report("onnx_runtime").outputs["onnx_extensions"][SENTENCES.identity][3]
    assert np.abs(outputs - SENTENCES.read_outputs(artifacts, 3)).max() > 0.01


# The command line of TensorFlow


def run_command(*arguments: str) -> str:
    command = Path(sys.executable).with_name("saved_model_cli")
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stderr
    return done.stdout


SHOWN = {
    DIGITS: """signature_def['serving_default']:
  The given SavedModel SignatureDef contains the following input(s):
    inputs['pixels'] tensor_info:
        dtype: DT_FLOAT
        shape: (-1, 8, 8, 1)
        name: serving_default_pixels:0
  The given SavedModel SignatureDef contains the following output(s):
    outputs['probabilities'] tensor_info:
        dtype: DT_FLOAT
        shape: (-1, 10)
""",
    MOBILENET: """signature_def['serving_default']:
  The given SavedModel SignatureDef contains the following input(s):
    inputs['input_layer'] tensor_info:
        dtype: DT_FLOAT
        shape: (-1, 96, 96, 3)
        name: serving_default_input_layer:0
  The given SavedModel SignatureDef contains the following output(s):
    outputs['predictions'] tensor_info:
        dtype: DT_FLOAT
        shape: (-1, 10)
""",
    SENTENCES: """signature_def['serving_default']:
  The given SavedModel SignatureDef contains the following input(s):
    inputs['sentence'] tensor_info:
        dtype: DT_STRING
        shape: (-1)
        name: serving_default_sentence:0
  The given SavedModel SignatureDef contains the following output(s):
    outputs['topic'] tensor_info:
        dtype: DT_FLOAT
        shape: (-1, 3)
""",
}
by_shown = pytest.mark.parametrize("case", SHOWN, ids=lambda case: case.artifact)


@group("command")
@by_shown
def test_the_command_shows_the_endpoints(case: Case, artifacts: Path) -> None:
    shown = run_command("show", "--dir", str(artifacts / case.artifact), "--all")
    assert SHOWN[case] in shown


@group("command")
@by_shown
def test_the_command_runs_the_endpoints(case: Case, artifacts: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "inputs.npy", encode(case.read_inputs(artifacts)))
    run_command(
        *("run", "--dir", str(artifacts / case.artifact), "--tag_set", "serve", "--signature_def", case.endpoint),
        *("--inputs", f"{case.input}={tmp_path / 'inputs.npy'}", "--outdir", str(tmp_path)),
    )
    # It takes as many threads as the machine has cores, and so adds up in another order.
    np.testing.assert_allclose(
        np.load(tmp_path / f"{case.output}.npy"), case.read_outputs(artifacts, 3), rtol=1e-6, atol=1e-7
    )
