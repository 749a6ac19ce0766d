"""Requests to a model server: real records to warm it up, and the line to try it with, both asked of the artifact."""

import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from exporter import ExportConfig, Receipt, UsageError, export
from exporter.artifacts.summary import print_summary
from exporter.config import LayoutConfig, LayoutKind, SignatureConfig, VerifyConfig, VerifyMode
from exporter.errors import ExportError
from exporter.exporting.serving import add_warmup, make_body, read_body, write_warmup
from exporter.processes.arrays import Array, is_same
from exporter.saving.contents import Endpoint, Omission, Tensor, format_bytes
from exporter.saving.graph.inputs import InputLeaf, Inputs
from exporter.saving.layout.names import WARMUP
from exporter.verification.comparing.asked import EndpointInputs

pytestmark = pytest.mark.xdist_group("serving_requests")

SERVING = LayoutConfig(kind=LayoutKind.TF_SERVING, warmup=True)


def make_model() -> keras.Model:
    keras.utils.set_random_seed(2)
    number = keras.Input((2,), name="number")
    word = keras.Input((1,), name="word", dtype="string")
    coded = keras.layers.StringLookup(vocabulary=["red", "green"], output_mode="one_hot")(word)
    merged = keras.layers.Concatenate()([number, coded])
    model = keras.Model({"number": number, "word": word}, keras.layers.Dense(2, name="scores")(merged))
    model.compile("sgd", "mean_squared_error")
    return model


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Receipt:
    """A version with two endpoints that answer and one that trains."""
    declared = {
        "serving_default": SignatureConfig(),
        "raw": SignatureConfig(),
        "train": SignatureConfig(method="train"),
    }
    folder = tmp_path_factory.mktemp("served")
    return export(
        ExportConfig(model=make_model(), filepath=str(folder / "my model"), signatures=declared, layout=SERVING)
    )


def read_requests(version: Path) -> Iterator[predict_pb2.PredictRequest]:
    for record in tf.data.TFRecordDataset(str(version / WARMUP)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        yield log.predict_log.request


def ask(version: str, endpoint: str, inputs: dict[str, Any]) -> dict[str, Array]:
    loaded = tf.saved_model.load(version)
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    return {name: value.numpy() for name, value in loaded.signatures[endpoint](**tensors).items()}


def test_every_record_is_a_request_that_the_artifact_answers(served: Receipt) -> None:
    requests = list(read_requests(Path(served.filepath)))
    asked = [(request.model_spec.name, request.model_spec.signature_name) for request in requests]
    assert asked == [("my_model", "serving_default"), ("my_model", "raw")] * 3
    model = make_model()
    for number, request in enumerate(requests):
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        assert [len(array) for array in inputs.values()] == [number // 2 + 1] * 2
        answer = ask(served.filepath, request.model_spec.signature_name, inputs)
        expected = model({name: tf.constant(array) for name, array in inputs.items()})
        np.testing.assert_allclose(answer["scores"], expected, rtol=1e-6)


def test_the_receipt_counts_the_requests_and_lists_their_file(served: Receipt) -> None:
    path = Path(served.filepath) / WARMUP
    [holding] = [holding for holding in served.held if holding.what == "warm-up"]
    assert holding.detail == f"6 requests, {format_bytes(path.stat().st_size)}"
    assert str(WARMUP) in {record.path for record in served.files}


def test_the_printed_line_asks_what_the_endpoint_declares(served: Receipt) -> None:
    stream = StringIO()
    print_summary(served, Path("receipt.json"), stream)
    [line] = [line for line in stream.getvalue().splitlines() if "curl" in line]
    _, flag, body, address = shlex.split(line)
    assert (flag, address) == ("-d", "http://localhost:8501/v1/models/my_model:predict")
    request = json.loads(body)
    assert request["signature_name"] == "serving_default"
    assert {name: np.shape(value) for name, value in request["inputs"].items()} == {"number": (1, 2), "word": (1, 1)}
    inputs = read_body(body, served.signatures["serving_default"])
    # The first request of the proof, bit for bit.
    first = next(read_requests(Path(served.filepath)))
    assert all(is_same(inputs[name], tf.make_ndarray(tensor)) for name, tensor in first.inputs.items())
    assert ask(served.filepath, "serving_default", inputs)["scores"].shape == (1, 2)


class ModelServer(BaseHTTPRequestHandler):
    """The REST interface of TF Serving over a SavedModel: a body becomes its PredictRequest, which is answered."""

    version: str
    requests: list[predict_pb2.PredictRequest]

    def do_POST(self) -> None:
        [name] = re.findall(r"^/v1/models/([A-Za-z0-9_.-]+):predict$", self.path)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body.keys() == {"signature_name", "inputs"}
        loaded = tf.saved_model.load(self.version)
        function = loaded.signatures[body["signature_name"]]
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = name, body["signature_name"]
        for key, spec in function.structured_input_signature[1].items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(body["inputs"][key], dtype=spec.dtype))
        self.requests.append(predict_pb2.PredictRequest.FromString(request.SerializeToString()))
        answer = function(**{key: tf.constant(tf.make_ndarray(tensor)) for key, tensor in request.inputs.items()})
        content = json.dumps({"outputs": {key: value.numpy().tolist() for key, value in answer.items()}}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing."""


def test_the_printed_line_is_answered_by_a_server(served: Receipt) -> None:
    stream = StringIO()
    print_summary(served, Path("receipt.json"), stream)
    [line] = [line.strip() for line in stream.getvalue().splitlines() if "curl" in line]
    requests: list[predict_pb2.PredictRequest] = []
    handler = type("Handler", (ModelServer,), {"version": served.filepath, "requests": requests})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = line.replace("localhost:8501", f"127.0.0.1:{server.server_port}")
        done = subprocess.run(["bash", "-c", f"{here} --silent --noproxy '*'"], capture_output=True, check=False)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    [request] = requests
    # What is asked is the first of the warm-up's requests, and the answer the one of the artifact.
    first = next(read_requests(Path(served.filepath)))
    assert request.inputs.keys() == first.inputs.keys()
    for name, tensor in request.inputs.items():
        assert is_same(tf.make_ndarray(tensor), tf.make_ndarray(first.inputs[name]))
    asked = {name: tf.make_ndarray(tensor) for name, tensor in first.inputs.items()}
    expected = ask(served.filepath, "serving_default", asked)["scores"]
    np.testing.assert_array_equal(np.float32(json.loads(done.stdout)["outputs"]["scores"]), expected)


def test_a_sparse_tensor_is_asked_for_by_its_parts(tmp_path: Path) -> None:
    words = keras.Input((3,), name="words", sparse=True)
    model = keras.Model(words, keras.layers.Dense(2, name="scores")(words))
    receipt = export(ExportConfig(model=model, filepath=str(tmp_path / "model"), layout=SERVING))
    assert {check.name for check in receipt.checks} >= {"predictions", "serving_default"}
    names = {"words_indices", "words_values", "words_dense_shape"}
    assert set(receipt.signatures["serving_default"].inputs) == names
    requests = list(read_requests(Path(receipt.filepath)))
    assert len(requests) == 3
    for size, request in enumerate(requests, start=1):
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        assert inputs["words_dense_shape"].tolist() == [size, 3]
        parts = [inputs[f"words_{part}"] for part in ("indices", "values", "dense_shape")]
        dense = tf.sparse.to_dense(tf.SparseTensor(*parts))
        answer = ask(receipt.filepath, "serving_default", inputs)
        np.testing.assert_allclose(answer["scores"], dense @ model.weights[0] + model.weights[1], rtol=1e-5)


def test_a_long_request_stands_in_a_file_beside_the_artifact(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((8, 8, 1), name="pixels"), keras.layers.Flatten()])
    verify = VerifyConfig(mode=VerifyMode.NONE)
    receipt = export(ExportConfig(model=model, filepath=str(tmp_path / "model"), verify=verify))
    assert receipt.request is not None
    assert receipt.request.body is None
    assert receipt.request.file == str(tmp_path / "model.request.json")
    [inputs] = read_body(Path(receipt.request.file).read_text(), receipt.signatures["serving_default"]).values()
    assert inputs.shape == (1, 8, 8, 1)
    assert not (tmp_path / "model" / WARMUP).exists()


@pytest.mark.parametrize("kind", [LayoutKind.SINGLE, LayoutKind.TF_SERVING])
def test_without_the_extra_nothing_is_built(kind: LayoutKind, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)  # as if it were not installed
    layout = LayoutConfig(kind=kind, warmup=True)
    config = ExportConfig(model={"_target_": "builtins.exit"}, filepath=str(tmp_path / "model"), layout=layout)
    with pytest.raises(UsageError) as caught:
        export(config)
    assert str(caught.value) == (
        "layout.warmup: needs tensorflow-serving-api, which is not installed; pip install 'keras-exporter[serving]', "
        "or set layout={'warmup': False}"
    )
    assert list(tmp_path.iterdir()) == []


# Records


def describe(**inputs: tuple[tuple[int | None, ...], str]) -> Endpoint:
    return Endpoint({name: Tensor(shape, dtype) for name, (shape, dtype) in inputs.items()}, {})


def ask_about(
    endpoint: Endpoint, *batches: tuple[Array, ...], name: str = "judge", by_sample: bool = True
) -> EndpointInputs:
    leaves = tuple(
        InputLeaf(name, tensor.shape, tensor.dtype)
        for name, tensor in endpoint.inputs.items()
        if tensor.shape is not None
    )
    return EndpointInputs(name, Inputs(leaves, tuple(range(len(leaves)))), batches, by_sample=by_sample)


ONE = np.ones(1, np.float32)
NUMBERS = describe(x=((None,), "float32"))


@pytest.mark.parametrize(
    ("mode", "missing", "why"),
    [
        pytest.param(
            VerifyMode.NONE,
            False,
            "only a proof runs them first, and a server loads no model whose request fails; set verify=full",
            id="not proven",
        ),
        pytest.param(
            VerifyMode.FULL,
            True,
            "pip install 'keras-exporter[serving]', or set layout.warmup=false",
            id="without the extra",
        ),
    ],
)
def test_versions_say_why_they_hold_no_requests(
    mode: VerifyMode, missing: bool, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if missing:
        monkeypatch.setitem(sys.modules, "tensorflow_serving", None)  # as if it were not installed
    config = ExportConfig(
        model=None,
        filepath=str(tmp_path),
        layout=LayoutConfig(kind=LayoutKind.TF_SERVING),
        verify=VerifyConfig(mode=mode),
    )
    assert add_warmup(config, tmp_path, "judge", [ask_about(NUMBERS, (ONE,))]) == (
        (),
        (Omission("warm-up requests", why),),
    )


def test_the_same_requests_give_the_same_bytes(tmp_path: Path) -> None:
    types: dict[str, tuple[tuple[int | None, ...], str]] = {"b": ((None, 2), "float32"), "a": ((None,), "string")}
    arrays = {"b": np.ones((2, 2), np.float32), "a": np.array([b"x", "y"], object)}
    written = []
    for order in ("ab", "ba"):
        endpoint = describe(**{name: types[name] for name in order})
        (tmp_path / order).mkdir()
        write_warmup(tmp_path / order, "m", [ask_about(endpoint, tuple(arrays[name] for name in order))])
        written.append((tmp_path / order / WARMUP).read_bytes())
    assert written[0] == written[1]


def test_there_are_no_more_records_than_a_server_takes(tmp_path: Path) -> None:
    counts = {"a": 2, "b": 2000}
    asked = [ask_about(NUMBERS, *[(ONE,)] * count, name=name) for name, count in counts.items()]
    [holding] = write_warmup(tmp_path, "m", asked)
    names = [request.model_spec.signature_name for request in read_requests(tmp_path)]
    assert holding.detail.startswith("1000 requests, ")
    assert names == ["a", "b", "a", *["b"] * 997]


def test_an_artifact_that_answers_nothing_is_not_warmed_up(tmp_path: Path) -> None:
    assert write_warmup(tmp_path, "m", []) == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shape", "array", "by_sample", "samples"),
    [
        pytest.param((None, 1024), np.ones((4096, 1024), np.float32), True, 1024, id="free batch"),
        pytest.param((4096, 1024), np.ones((4096, 1024), np.float32), True, 4096, id="fixed batch"),
        pytest.param((None,), np.array([b"x" * 1024 * 1024] * 8, object), True, 4, id="strings"),
        pytest.param((None,), np.array([b"x" * 8 * 1024 * 1024] * 2, object), True, 1, id="large samples"),
        pytest.param((None, 1024), np.ones((4096, 1024), np.float32), False, 4096, id="values of a ragged tensor"),
    ],
)
def test_a_record_is_not_larger_than_a_real_request(
    tmp_path: Path, shape: tuple[int | None, ...], array: Array, by_sample: bool, samples: int
) -> None:
    endpoint = describe(x=(shape, "string" if array.dtype == object else "float32"))
    write_warmup(tmp_path, "m", [ask_about(endpoint, (array,), by_sample=by_sample)])
    [request] = read_requests(tmp_path)
    assert request.inputs["x"].tensor_shape.dim[0].size == samples


# Bodies

ELEMENTS: dict[str, st.SearchStrategy[Any]] = {
    "float32": st.floats(width=32, allow_nan=False),
    "float64": st.floats(allow_nan=False),
    "int8": st.integers(-128, 127),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "bool": st.booleans(),
    "string": st.one_of(st.binary(max_size=6), st.text(max_size=6).map(str.encode)),
}


@st.composite
def arrays(draw: st.DrawFn) -> tuple[str, Array]:
    dtype = draw(st.sampled_from(sorted(ELEMENTS)))
    shape = draw(st.sampled_from([(), (1,), (1, 3), (1, 2, 2)]))
    items = draw(st.lists(ELEMENTS[dtype], min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    array = np.empty(len(items), object if dtype == "string" else dtype)
    array[:] = items
    return dtype, array.reshape(shape)


@given(arrays())
def test_a_body_gives_the_same_bits_back(drawn: tuple[str, Array]) -> None:
    dtype, array = drawn
    endpoint = describe(x=(array.shape, dtype))
    made = make_body([ask_about(endpoint, (array,))], {"judge": endpoint})
    assert made is not None
    assert is_same(read_body(made[1], endpoint)["x"], array)


def test_bytes_that_are_no_text_are_encoded() -> None:
    array = np.array([b"\xff\xd8", "grün"], object)
    endpoint = describe(x=((2,), "string"))
    made = make_body([ask_about(endpoint, (array,))], {"judge": endpoint})
    assert made == ("judge", '{"signature_name": "judge", "inputs": {"x": [{"b64": "/9g="}, "grün"]}}')


def test_the_default_endpoint_is_asked_with_one_sample() -> None:
    names = ("first", "serving_default")
    asked = [ask_about(NUMBERS, (np.array([0.1, 2], np.float32),), name=name) for name in names]
    made = make_body(asked, dict.fromkeys(names, NUMBERS))
    assert made == ("serving_default", '{"signature_name": "serving_default", "inputs": {"x": [0.1]}}')


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "complex64"])
def test_what_the_rest_interface_does_not_convert_is_not_asked(dtype: str) -> None:
    endpoint = describe(x=((None,), dtype))
    assert make_body([ask_about(endpoint, (ONE,))], {"judge": endpoint}) is None


def test_an_endpoint_without_inputs_is_not_asked() -> None:
    assert make_body([ask_about(describe(), ())], {"judge": describe()}) is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param('{"inputs": {}}', "The request has no input 'x'.", id="missing"),
        pytest.param(
            '{"inputs": {"x": [[1]]}}',
            "The request's input 'x' has the shape (1, 1), and (None,) is declared.",
            id="rank",
        ),
    ],
)
def test_a_body_that_does_not_fit_is_refused(body: str, message: str) -> None:
    with pytest.raises(ExportError) as caught:
        read_body(body, describe(x=((None,), "float32")))
    assert str(caught.value) == message
