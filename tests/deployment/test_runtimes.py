"""Each file is opened by its runtime alone, in a process without this package, and computes what the model computes."""

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from browser import open_browser
from filelock import FileLock
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from sweeps.conftest import find_program

from exporter.config import SignatureConfig, TensorConfig
from exporter.processes.arrays import Array
from exporter.saving.contents import Endpoint
from exporter.saving.deployment.conversions import CalibrationData
from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.formats import FORMATS
from exporter.saving.formats.deployed import DeployedFormat, write_example
from exporter.sources import digits, digits_data

from .conftest import DEPLOYED, Bench

pytestmark = pytest.mark.xdist_group("deployment")

CONSUMERS = Path(__file__).parent / "consumers"
# They add the same products up in another order.
TOLERANCE = 1e-5
ENDINGS = {"litert": ".tflite", "onnx": "", "openvino": ""}
WEB_PACKAGE = "onnxruntime-web@1.30.0"

# What the runtimes call their answers, to write them to a file.
NAMED = {
    "litert": "named = outputs",
    "onnx": "named = dict(zip([each.name for each in session.get_outputs()], outputs))",
    "openvino": "named = {name: value for port, value in outputs.items() for name in port.names}",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """A file, and what the model itself answers.

    Attributes:
        save_format: Of the file.
        path: Where it is.
        endpoints: What it takes and returns.
        inputs: What the endpoints are asked, by their names.
        expected: What the model's own endpoints answer to that.
    """

    save_format: DeployedFormat
    path: Path
    endpoints: Mapping[str, Endpoint]
    inputs: Mapping[str, Mapping[str, Array]]
    expected: Mapping[str, Mapping[str, Array]]


Export = Callable[[str, Quantize | None], Exported]


def choose(name: str) -> DeployedFormat:
    chosen = FORMATS[name]
    assert isinstance(chosen, DeployedFormat)
    return chosen


@pytest.fixture(scope="module")
def export(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Converts the digits with two endpoints: one takes what the model takes, the other the bytes of scans."""
    keras.utils.set_random_seed(1)
    model = digits(epochs=3)
    scans = TensorConfig(shape=[None, 8, 8, 1], dtype="uint8")
    endpoints = bench.build(
        model,
        serving_default=SignatureConfig(),
        recognize=SignatureConfig(
            inputs={"scan": scans},
            preprocess=[
                {"_target_": "exporter.transforms.rename", "names": {"scan": "pixels"}},
                {"_target_": "exporter.transforms.rescale", "scale": 0.0625},
            ],
            postprocess={"_target_": "exporter.transforms.top_k", "k": 2},
        ),
    )

    def name_inputs(images: Array) -> dict[str, dict[str, Array]]:
        return {"serving_default": {"pixels": images}, "recognize": {"scan": (images * 16).astype("uint8")}}

    (calibrating, _), (held_out, _) = digits_data()
    inputs = name_inputs(held_out)
    expected = {name: ask(endpoints[name].function, arrays) for name, arrays in inputs.items()}
    calibration = CalibrationData(origin="the digits", samples=name_inputs(calibrating[:100]))

    @functools.cache
    def convert(format_name: str, quantize: Quantize | None) -> Exported:
        folder, save_format = tmp_path_factory.mktemp(format_name), choose(format_name)
        # A name with what a line of Python or a shell might trip over.
        path = folder / f"it's {quantize}{ENDINGS[format_name]}"
        given = calibration if quantize is Quantize.INT8 else None
        contents = bench.convert(save_format, model, path, endpoints, quantize, given)
        return Exported(save_format, path, contents.signatures, inputs, expected)

    return convert


def ask(function: Callable[..., Any], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Asks an endpoint of the model."""
    given = {name: tf.constant(array) for name, array in arrays.items()}
    return {name: value.numpy() for name, value in function(**given).items()}


def read(file: Path) -> dict[str, Array]:
    with np.load(file, allow_pickle=True) as arrays:  # texts
        return dict(arrays)


def run_lines(exported: Exported, folder: Path) -> dict[str, dict[str, Array]]:
    """Runs the lines that a summary prints for each endpoint, with our inputs in place of their example."""
    code = ["import sys, json"]
    for name, endpoint in exported.endpoints.items():
        np.savez(folder / f"{name}-given.npz", **exported.inputs[name])  # type: ignore[arg-type]
        lines = exported.save_format.write_lines(str(exported.path), {name: endpoint})
        for key, tensor in endpoint.inputs.items():
            example = f"{key!r}: {write_example(tensor)}"
            assert example in lines[-1]
            lines[-1] = lines[-1].replace(example, f"{key!r}: given[{key!r}]")
        load = f"given = numpy.load({str(folder / f'{name}-given.npz')!r})"
        save = f"numpy.savez({str(folder / f'{name}-answers.npz')!r}, **named)"
        code += [*lines[:-1], load, lines[-1], NAMED[exported.save_format.name], save]
    code += ["print(json.dumps(sorted({'exporter', 'tensorflow', 'keras'} & set(sys.modules))))"]
    assert json.loads(run([sys.executable, "-I", "-c", "\n".join(code)], folder)) == []
    return {name: read(folder / f"{name}-answers.npz") for name in exported.endpoints}


def run(command: list[str], folder: Path, given: str = "") -> str:
    """Runs a command in a folder, where nothing of ours is found, and returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, env=environment, input=given, capture_output=True, text=True, check=False, timeout=1500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def check_answers(received: Mapping[str, Mapping[str, Array]], exported: Exported, quantize: Quantize | None) -> None:
    """Compares what a runtime answered with what the model answers: all numbers, or of integers the decisions."""
    for name, answers in exported.expected.items():
        for key, expected in answers.items():
            if quantize is None:
                np.testing.assert_allclose(received[name][key], expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)
    best = np.argmax(exported.expected["serving_default"]["probabilities"], axis=-1)
    assert len(set(best)) == 10
    assert np.mean(np.argmax(received["serving_default"]["probabilities"], axis=-1) == best) > 0.97
    assert np.mean(received["recognize"]["classes"][:, 0] == best) > 0.97


QUANTIZED = pytest.mark.parametrize(
    "quantize", [pytest.param(None, id="float32"), pytest.param(Quantize.INT8, id="int8")]
)


@QUANTIZED
def test_the_printed_lines_compute_what_the_model_computes(
    export: Export, save_format: DeployedFormat, quantize: Quantize | None, tmp_path: Path
) -> None:
    exported = export(save_format.name, quantize)
    assert list(exported.endpoints) == sorted(exported.inputs)
    check_answers(run_lines(exported, tmp_path), exported, quantize)


@QUANTIZED
def test_the_c_api_of_litert(export: Export, quantize: Quantize | None, tmp_path: Path, bench: Bench) -> None:
    exported = export("litert", quantize)
    # Signatures are in the order of their names: ours is the second one.
    arrays = exported.inputs["serving_default"]
    np.savez(tmp_path / "given.npz", **arrays)  # type: ignore[arg-type]
    order = list(exported.endpoints).index("serving_default")
    command = [sys.executable, "-I", str(CONSUMERS / "litert_c.py"), str(exported.path), str(order)]
    run([*command, "given.npz", "answers.npy"], tmp_path)
    received, expected = np.load(tmp_path / "answers.npy"), exported.expected["serving_default"]["probabilities"]
    if quantize is None:
        np.testing.assert_allclose(received, expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert np.mean(np.argmax(received, -1) == np.argmax(expected, -1)) > 0.97


@pytest.fixture(scope="module")
def words(bench: Bench) -> keras.Model:
    """Takes words, and names a topic."""
    taken = keras.Input((3,), dtype="string", name="words")
    codes = keras.layers.StringLookup(vocabulary=["the", "cat", "naïve"])(taken)
    vectors = keras.layers.Embedding(4, 8, embeddings_initializer=keras.initializers.RandomNormal(seed=1))(codes)
    flat = keras.layers.Flatten()(vectors)
    kernel = keras.initializers.RandomNormal(stddev=9.0, seed=2)
    return keras.Model(taken, keras.layers.Dense(3, name="topic", kernel_initializer=kernel)(flat), name="words")


@pytest.mark.parametrize(
    "save_format", [each for each in DEPLOYED if each.name != "openvino"], ids=lambda each: each.name
)
def test_the_printed_lines_take_texts(
    bench: Bench, words: keras.Model, save_format: DeployedFormat, tmp_path: Path
) -> None:
    labels = {"_target_": "exporter.transforms.take_label", "labels": ["ants", "bees", "crabs"]}
    keep = {"_target_": "exporter.transforms.rename", "names": {"label": "label"}}
    built = bench.build(words, serving_default=SignatureConfig(), name=SignatureConfig(postprocess=[labels, keep]))
    path = tmp_path / f"words{ENDINGS[save_format.name]}"
    contents = bench.convert(save_format, words, path, built)
    texts = np.array([["the", "cat", "naïve"], ["naïve", "the", ""], ["", "", "unknown"], ["", "", ""]])
    asked = {name: {"words": texts} for name in built}
    expected = {name: ask(built[name].function, arrays) for name, arrays in asked.items()}
    exported = Exported(save_format, path, contents.signatures, asked, expected)

    received = run_lines(exported, tmp_path)

    topic = expected["serving_default"]["topic"]
    assert np.abs(topic[0] - topic[1]).max() > 1000 * TOLERANCE
    np.testing.assert_allclose(received["serving_default"]["topic"], topic, rtol=TOLERANCE, atol=TOLERANCE)
    named = [text.decode() if isinstance(text, bytes) else str(text) for text in received["name"]["label"]]
    assert named == [text.decode() for text in expected["name"]["label"]]
    # Their own example is an empty text.
    lines = save_format.write_lines(str(path), {"serving_default": contents.signatures["serving_default"]})
    code = "\n".join([*lines, NAMED[save_format.name], "print(*named['topic'][0])"])
    printed = run([sys.executable, "-I", "-c", code], tmp_path)
    np.testing.assert_allclose(np.array(printed.split(), float), topic[3], rtol=1e-4, atol=1e-4)


# In Node and in a browser


@pytest.fixture(scope="module")
def web_package(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """ONNX Runtime for the web, from npm; all workers of pytest-xdist share it."""
    npm = find_program("npm", "npm")
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "onnxruntime-web"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = folder.with_suffix(f".{worker_id}")
            unfinished.mkdir()
            options = ("--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(unfinished))
            done = subprocess.run(
                [npm, "install", *options, WEB_PACKAGE], capture_output=True, text=True, check=False, timeout=1500
            )
            if done.returncode and not os.environ.get("CI"):
                pytest.skip(f"needs {WEB_PACKAGE}: {done.stderr[-300:]}")
            assert done.returncode == 0, done.stderr
            unfinished.rename(folder)
    return folder / "node_modules" / "onnxruntime-web"


@QUANTIZED
def test_onnx_runs_under_node(export: Export, web_package: Path, quantize: Quantize | None, tmp_path: Path) -> None:
    exported = export("onnx", quantize)
    received = {}
    for name, arrays in exported.inputs.items():
        given = {
            key: {"dtype": array.dtype.name, "dims": array.shape, "data": array.ravel().tolist()}
            for key, array in arrays.items()
        }
        command = [find_program("node", "nodejs"), str(CONSUMERS / "ask.cjs"), str(web_package)]
        printed = json.loads(run([*command, str(exported.path / f"{name}.onnx")], tmp_path, json.dumps(given)))
        received[name] = {key: np.reshape(each["data"], each["dims"]) for key, each in printed.items()}
    check_answers(received, exported, quantize)


class Pages(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and keeps quiet."""

    extensions_map = {  # noqa: RUF012  as the base class declares it
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def page(export: Export, web_package: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a page that shows which digit a scan is of."""
    exported = export("onnx", None)
    (tmp_path / "index.html").symlink_to(CONSUMERS / "page.html")
    (tmp_path / "onnxruntime").symlink_to(web_package / "dist")
    (tmp_path / "digits.onnx").symlink_to(exported.path / "serving_default.onnx")
    scan = exported.inputs["serving_default"]["pixels"][0]
    (tmp_path / "scan.json").write_text(json.dumps(scan.ravel().tolist()))
    handler = functools.partial(Pages, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def test_onnx_runs_in_a_browser(page: str, export: Export, tmp_path_factory: pytest.TempPathFactory) -> None:
    expected = export("onnx", None).expected["serving_default"]["probabilities"][0]
    with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        browser.get(page)
        wait = WebDriverWait(browser, 120)
        answer = wait.until(lambda driver: driver.find_element(By.ID, "answer").text)
        assert answer == f"This is a {np.argmax(expected)}."
        received = browser.execute_script("return window.probabilities")
        loaded = browser.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
        complaints = browser.get_log("browser")  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(received, expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert complaints == []
    assert any(address.endswith(".wasm") for address in loaded)
    assert all(address.startswith((page, "data:")) for address in loaded)
