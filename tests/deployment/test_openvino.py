"""OpenVINO: what its converter writes, what its runtime makes of that, and what is read of anybody's files."""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ArtifactError
from exporter.processes.arrays import Array, write_arrays
from exporter.processes.fresh_process import FreshProcess
from exporter.saving.contents import Endpoint, Tensor
from exporter.saving.deployment.conversions import Conversion, RefusedError
from exporter.saving.deployment.converters.openvino import convert
from exporter.saving.deployment.documents import Document
from exporter.saving.deployment.graph import write_graph
from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.deployment.runtimes.openvino import OpenVinoRuntime, import_openvino
from exporter.sources import digits, digits_data

pytestmark = pytest.mark.xdist_group("openvino")

Inputs = Mapping[str, Array]
FLOAT, PIXELS = tf.float32, (None, 8, 8, 1)


def spec(*shape: int | None, dtype: Any = FLOAT) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A SavedModel for the converter, with inputs for each endpoint and what TensorFlow makes of them."""

    conversion: Conversion
    inputs: Mapping[str, Inputs]
    call: Mapping[str, Callable[..., Any]]

    def expect(self, endpoint: str, inputs: Inputs) -> dict[str, Array]:
        tensors = {name: tf.constant(array) for name, array in inputs.items()}
        return {name: value.numpy() for name, value in self.call[endpoint](**tensors).items()}


def make(folder: Path, endpoints: Mapping[str, tuple[Callable[..., Any], Mapping[str, Any], Inputs]]) -> Made:
    """Writes functions of tensors by name, each with what it takes and with inputs, as the pipeline does."""
    folder.mkdir()
    traced = {
        name: tf.function(function, autograph=False).get_concrete_function(**specs)
        for name, (function, specs, _) in endpoints.items()
    }
    found = write_graph(traced, folder / "graph")
    for name, (_, _, inputs) in endpoints.items():
        write_arrays(folder / f"{name}.npz", {each: array[:50] for each, array in inputs.items() if array.ndim})
    return Made(
        conversion=Conversion(
            saved_model=folder / "graph",
            endpoints=found,
            target=folder / "artifact",
            document=Document(endpoints=found, notes={"recipe": 'model: "<&>"\n'}).to_json(),
            calibration={name: folder / f"{name}.npz" for name in endpoints},
        ),
        inputs={name: inputs for name, (_, _, inputs) in endpoints.items()},
        call=traced,
    )


def make_digits(folder: Path) -> Made:
    keras.utils.set_random_seed(1)
    model = digits(epochs=1)

    def recognize(pixels: Any) -> dict[str, Any]:
        probabilities = model(tf.cast(pixels, FLOAT) / 255, training=False)
        return {"class": tf.argmax(probabilities, -1), "score": tf.reduce_max(probabilities, -1)}

    images = digits_data()[1][0]
    scores = (lambda pixels: {"probabilities": model(pixels, training=False)}, {"pixels": spec(*PIXELS)})
    classes = (recognize, {"pixels": spec(*PIXELS, dtype=tf.uint8)})
    return make(
        folder,
        {
            "serving_default": (*scores, {"pixels": images}),
            "recognize": (*classes, {"pixels": (images * 255).astype(np.uint8)}),
        },
    )


def make_transformer(folder: Path) -> Made:
    layers = keras.layers
    keras.utils.set_random_seed(2)
    words = keras.Input((10, 16))
    attended = layers.LayerNormalization()(words + layers.MultiHeadAttention(2, 8)(words, words))
    model = keras.Model(words, layers.Dense(16)(layers.Dense(32, activation="gelu")(attended)))
    inputs = {"words": np.random.default_rng(0).normal(size=(5, 10, 16)).astype(np.float32)}
    call = (lambda words: {"features": model(words)}, {"words": spec(None, 10, 16)})
    return make(folder, {"serving_default": (*call, inputs)})


def make_lstm(folder: Path) -> Made:
    layers = keras.layers
    keras.utils.set_random_seed(3)
    tokens = keras.Input((20,), dtype="int32")
    model = keras.Model(tokens, layers.Dense(3, "softmax")(layers.LSTM(16)(layers.Embedding(100, 16)(tokens))))
    inputs = {"tokens": np.random.default_rng(0).integers(0, 100, (5, 20), np.int32)}
    call = (lambda tokens: {"topic": model(tokens)}, {"tokens": spec(None, 20, dtype=tf.int32)})
    return make(folder, {"serving_default": (*call, inputs)})


def make_masked_gru(folder: Path) -> Made:
    layers = keras.layers
    keras.utils.set_random_seed(4)
    tokens = keras.Input((None,), dtype="int32")
    embedded = layers.Embedding(100, 16, mask_zero=True)(tokens)
    model = keras.Model(tokens, layers.Dense(3, "softmax")(layers.Bidirectional(layers.GRU(8))(embedded)))
    ids = np.random.default_rng(0).integers(1, 100, (5, 11), np.int32)
    ids[0, 4:] = ids[3, 8:] = 0
    call = (lambda tokens: {"topic": model(tokens)}, {"tokens": spec(None, None, dtype=tf.int32)})
    return make(folder, {"serving_default": (*call, {"tokens": ids})})


def make_several(folder: Path) -> Made:
    layers = keras.layers
    keras.utils.set_random_seed(5)
    numbers, kinds = keras.Input((6,)), keras.Input((3,), dtype="int64")
    hidden = layers.Concatenate()([numbers, layers.Flatten()(layers.Embedding(10, 4)(kinds))])
    hidden = layers.Dense(8, "relu")(hidden)
    model = keras.Model([numbers, kinds], [layers.Dense(2)(hidden), layers.Dense(5)(hidden)])

    def call(numbers: Any, kinds: Any) -> dict[str, Any]:
        few, many = model([numbers, kinds])
        best = tf.argmax(many, -1, output_type=tf.int32)
        # The same tensor twice, what came in, the name of an operation, and a name with marks of XML.
        return {"few": few, "again": few, "numbers_too": numbers, "MatMul": many, "a <&> b": few > 0, "best": best}

    random = np.random.default_rng(0)
    inputs: Inputs = {"numbers": random.normal(size=(5, 6)).astype(np.float32), "kinds": random.integers(0, 10, (5, 3))}
    return make(
        folder, {"serving_default": (call, {"numbers": spec(None, 6), "kinds": spec(None, 3, dtype=tf.int64)}, inputs)}
    )


MAKERS = {
    "digits": make_digits,
    "transformer": make_transformer,
    "lstm": make_lstm,
    "masked_gru": make_masked_gru,
    "several": make_several,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Made]:
    folder = tmp_path_factory.mktemp("openvino")
    return {name: maker(folder / name) for name, maker in MAKERS.items()}


@pytest.fixture(scope="module")
def written(models: Mapping[str, Made]) -> Mapping[str, Made]:
    """The same, after each was converted."""
    for made in models.values():
        convert(made.conversion)
    return models


def tell_apart(found: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """Returns the largest difference in units of the largest number; dtypes and shapes are the same."""
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
    pairs = [(found[name].astype(float), array.astype(float)) for name, array in expected.items()]
    return max(float(np.abs(a - b).max() / (np.abs(b).max() or 1)) for a, b in pairs)


def take_floats(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Takes what a quantised artifact is only near to; a decision may be another one."""
    return {name: array for name, array in arrays.items() if array.dtype == np.float32}


def count_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())


@pytest.mark.parametrize("name", MAKERS)
def test_an_artifact_computes_what_the_model_computes(name: str, written: Mapping[str, Made]) -> None:
    made = written[name]
    runtime = OpenVinoRuntime(made.conversion.target)

    assert runtime.endpoints == made.conversion.endpoints
    for endpoint, inputs in made.inputs.items():
        for rows in (1, 2, len(next(iter(inputs.values())))):
            some = {each: array[:rows] for each, array in inputs.items()}
            assert tell_apart(runtime.call(endpoint, some), made.expect(endpoint, some)) < 2e-6


def test_what_was_returned_stays_when_another_is_asked(written: Mapping[str, Made]) -> None:
    made = written["several"]
    inputs = {name: array.copy() for name, array in made.inputs["serving_default"].items()}
    runtime = OpenVinoRuntime(made.conversion.target)
    first = runtime.call("serving_default", inputs)
    kept = {name: array.copy() for name, array in first.items()}
    inputs["numbers"] += 1

    runtime.call("serving_default", inputs)

    assert all(np.array_equal(first[name], kept[name]) for name in kept)


def test_the_names_are_those_that_openvino_itself_takes(written: Mapping[str, Made]) -> None:
    openvino = import_openvino()
    made = written["several"]
    inputs = made.inputs["serving_default"]
    compiled = openvino.compile_model(made.conversion.target / "serving_default.xml", "CPU")

    returned = compiled(dict(inputs))

    found = {name: returned[name] for name in sorted(made.conversion.endpoints["serving_default"].outputs)}
    assert tell_apart(found, made.expect("serving_default", inputs)) < 0.02  # it may compute in bfloat16


# The kinds of arrays that the digits' weights become, and how far off the probabilities may be.
QUANTIZED = {
    Quantize.FLOAT16: ("float16", 0.003, ""),
    Quantize.INT8: ("int8", 0.15, ""),
    Quantize.INT8_WEIGHTS: ("int8", 0.05, ""),
    Quantize.INT4_WEIGHTS: (
        "uint4",
        0.3,
        "Of the 9,872 weights of the endpoint {!r}, 5,120 are int4, 4,752 are int8: NNCF has int4 for matrix products "
        "and embeddings, not for convolutions.",
    ),
}


@pytest.mark.parametrize("quantize", QUANTIZED)
def test_quantizing_makes_it_smaller_and_no_worse(
    quantize: Quantize, written: Mapping[str, Made], tmp_path: Path
) -> None:
    made = written["digits"]
    kind, limit, remark = QUANTIZED[quantize]
    conversion = replace(made.conversion, target=tmp_path / "artifact", quantize=quantize)
    handlers = {handler: handler.level for handler in logging.getLogger().handlers}

    converted = convert(conversion)

    assert handlers == {handler: handler.level for handler in logging.getLogger().handlers}
    runtime = OpenVinoRuntime(conversion.target)
    assert converted.remarks == tuple(remark.format(name) for name in sorted(conversion.endpoints) if remark)
    assert runtime.endpoints == conversion.endpoints
    assert count_bytes(conversion.target) < 0.75 * count_bytes(made.conversion.target)
    constants = OpenVinoRuntime.read_file(conversion.target).constants.values()
    assert sum(each.size for each in constants if each.dtype == kind) > 2000
    labels = digits_data()[1][1]
    for endpoint, inputs in made.inputs.items():
        expected, found = made.expect(endpoint, inputs), runtime.call(endpoint, inputs)
        right = [
            (each["class"] if "class" in each else each["probabilities"].argmax(-1)) == labels
            for each in (expected, found)
        ]
        assert right[1].mean() >= right[0].mean() - 0.01
        assert 0 < tell_apart(take_floats(found), take_floats(expected)) < limit


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "digits"])
@pytest.mark.parametrize("quantize", [Quantize.INT8, Quantize.INT4_WEIGHTS])
def test_what_is_no_network_of_convolutions_is_quantized(
    name: str, quantize: Quantize, models: Mapping[str, Made], tmp_path: Path
) -> None:
    made = models[name]
    convert(replace(made.conversion, target=tmp_path / "artifact", quantize=quantize))

    runtime = OpenVinoRuntime(tmp_path / "artifact")
    assert runtime.endpoints == made.conversion.endpoints
    inputs = made.inputs["serving_default"]
    found, expected = runtime.call("serving_default", inputs), made.expect("serving_default", inputs)
    assert 0 < tell_apart(take_floats(found), take_floats(expected)) < 0.2


def make_fixed(folder: Path, count: int) -> Made:
    """Makes an endpoint of two samples at a time and a number alone, with so many samples to calibrate it with."""
    weights = tf.Variable(np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32))
    call = (
        lambda pair, scale: {"scores": tf.nn.relu(tf.matmul(pair * scale, weights))},
        {"pair": spec(2, 3), "scale": spec()},
    )
    inputs = {"pair": np.linspace(-1, 1, 6).reshape(2, 3).astype(np.float32), "scale": np.array(2, np.float32)}
    made = make(folder, {"serving_default": (*call, inputs)})
    samples = {"pair": np.random.default_rng(0).uniform(-1, 1, (count, 3)), "scale": np.full(count, 2.0)}
    write_arrays(folder / "serving_default.npz", {name: array.astype(np.float32) for name, array in samples.items()})
    return replace(made, conversion=replace(made.conversion, quantize=Quantize.INT8))


def test_samples_are_given_as_many_as_an_endpoint_takes(tmp_path: Path) -> None:
    made = make_fixed(tmp_path / "fixed", 31)

    assert convert(made.conversion).remarks == ()

    runtime = OpenVinoRuntime(made.conversion.target)
    assert runtime.endpoints["serving_default"].inputs["pair"] == Tensor((2, 3), "float32")
    inputs = made.inputs["serving_default"]
    found, expected = runtime.call("serving_default", inputs), made.expect("serving_default", inputs)
    assert 0 < tell_apart(found, expected) < 0.03


def test_fewer_samples_than_an_endpoint_takes_are_refused(tmp_path: Path) -> None:
    made = make_fixed(tmp_path / "fixed", 1)

    with pytest.raises(RefusedError) as caught:
        convert(made.conversion)

    assert str(caught.value) == (
        "The endpoint 'serving_default' takes 2 samples at a time, and there are 1 to calibrate it with: give 2 or "
        "more."
    )


def test_it_says_which_weights_stay_as_they_were(models: Mapping[str, Made], tmp_path: Path) -> None:
    conversion = models["lstm"].conversion

    converted = convert(replace(conversion, target=tmp_path / "artifact", quantize=Quantize.INT8_WEIGHTS))

    assert converted.remarks == (
        "Of the 3,696 weights of the endpoint 'serving_default', 1,648 are int8, 2,048 stay floating-point numbers: "
        "NNCF quantises no operation that takes those.",
    )


def test_it_says_where_openvino_computes_in_less(tmp_path: Path) -> None:
    whole = spec(None, 3, dtype=tf.int64)
    inputs = {"ids": np.array([[1, 2, 2**40]]), "scale": np.array(3.0)}
    call = (
        lambda ids, scale: {"next": ids + 1, "third": tf.cast(ids, tf.float64) / scale},
        {"ids": whole, "scale": spec(dtype=tf.float64)},
    )
    made = make(tmp_path / "wide", {"serving_default": (*call, inputs)})

    converted = convert(made.conversion)

    assert converted.remarks == (
        "OpenVINO computes the endpoint 'serving_default' in float32, also the float64 of 'scale', 'third'.",
        "OpenVINO computes whole numbers in int32: what the endpoint 'serving_default' takes as 'ids' must lie below "
        "2,147,483,648.",
    )
    found = OpenVinoRuntime(made.conversion.target).call("serving_default", inputs)
    expected = made.expect("serving_default", inputs)
    assert np.array_equal(found["next"][:, :2], expected["next"][:, :2])
    assert not np.array_equal(found["next"], expected["next"])
    assert 0 < np.abs(found["third"] - expected["third"])[0, :2].max() < 1e-7


def test_the_document_and_the_arrays_are_read_back(written: Mapping[str, Made]) -> None:
    made = written["digits"]

    content = OpenVinoRuntime.read_file(made.conversion.target)

    assert content.document is not None
    assert content.document.to_json() == made.conversion.document
    assert content.writer.startswith("OpenVINO 20")
    assert content.operations["Convolution"] == 4
    assert content.operations["Const"] == len(content.constants)
    kernels = [each for each in content.constants.values() if each.dtype == "float32" and len(each.shape) == 4]
    assert {(32, 16, 3, 3), (16, 1, 3, 3)} <= {each.shape for each in kernels}
    for constant in content.constants.values():
        assert (constant.read().shape, constant.read().nbytes) == (constant.shape, constant.size)
    assert {name.partition("/")[0] for name in content.constants} == set(made.inputs)


# Converts in a process of its own in which nothing may be told to anybody, and prints what came of it.
ALONE = """
import hashlib, json, os, sys
from pathlib import Path
told = []
# NNCF and OpenVINO tell from a process that they fork.
AWAY = ("socket.", "urllib.", "http.", "subprocess.", "os.fork", "os.posix_spawn", "os.exec", "os.system")
sys.addaudithook(lambda event, _: told.append(event) if event.startswith(AWAY) else None)
from exporter.saving.deployment.converters.openvino import convert
from exporter.saving.deployment.conversions import Conversion
conversion = Conversion.from_json(json.loads(sys.argv[1]))
convert(conversion)
heavy = sorted({"tensorflow", "keras", "torch", "h5py"} & set(sys.modules))
hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(conversion.target.iterdir())}
print(json.dumps({"told": told, "heavy": heavy, "hashes": hashes}))
"""


def test_two_processes_write_the_same_bytes_and_tell_nobody(
    models: Mapping[str, Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, moved = tmp_path / "home", tmp_path / "moved"
    home.mkdir()
    first = models["digits"].conversion
    shutil.copytree(first.saved_model, moved)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    first = replace(first, target=tmp_path / "first", quantize=Quantize.INT8)
    second = replace(first, target=tmp_path / "second", saved_model=moved)
    with FreshProcess("exporter.saving.deployment.converters.openvino") as process:
        process.begin()
        assert process.ask("convert", 120, **first.to_json()) == {"remarks": []}
    monkeypatch.setenv("PYTHONHASHSEED", "2")

    command = [sys.executable, "-c", ALONE, json.dumps(second.to_json())]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=1500)

    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["told"], report["heavy"]) == ([], [])
    assert list(home.iterdir()) == []
    written = {file.name: file.read_bytes() for file in first.target.iterdir()}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in written.items()} == report["hashes"]
    places = (str(tmp_path), str(first.saved_model), sys.prefix, os.getcwd())
    assert not [place for place in places for data in written.values() if place.encode() in data]


def lose(a: Any) -> dict[str, Any]:
    return {"twice": a * 2, "three": tf.constant([3.0])}


# What is refused, what is said, and the same as the text tells one to make it.
REFUSED: dict[str, tuple[Callable[..., Any], Any, str, Callable[..., Any], Any]] = {
    "operation": (
        lambda a: {"y": tf.math.lgamma(a)},
        spec(None, 3),
        "OpenVINO lacks what the endpoint 'serving_default' computes with: Lgamma. Compute that outside of the "
        "endpoint, or write another format, such as save_format=tf.",
        lambda a: {"y": a * 1},
        spec(None, 3),
    ),
    "complex": (
        lambda a: {"y": a * 2},
        spec(None, 3, dtype=tf.complex64),
        "The endpoint 'serving_default' has 'a' of the dtype complex64, which OpenVINO lacks: give it another dtype "
        "with a cast inside of the endpoint.",
        lambda a: {"y": tf.math.real(tf.complex(a, a)) * 2},
        spec(None, 3),
    ),
    "text": (
        lambda a: {"y": tf.strings.length(a)},
        spec(None, dtype=tf.string),
        "The endpoint 'serving_default' has texts ('a'), and OpenVINO has no operations for texts: export an endpoint "
        "that takes token ids and returns numbers.",
        lambda a: {"y": a + 1},
        spec(None, dtype=tf.int32),
    ),
    "any_rank": (
        lambda a: {"y": a * 2},
        tf.TensorSpec(None, FLOAT),
        "The endpoint 'serving_default' takes 'a' with any number of dimensions, and OpenVINO needs to know their "
        "number: give the input a shape, with None for each size that is free.",
        lambda a: {"y": a * 2},
        spec(None, None),
    ),
    "rank_within": (
        lambda a: {"y": tf.squeeze(a)},
        spec(None, 3),
        "OpenVINO cannot compute the endpoint 'serving_default': Unexpected: CPU plug-in doesn't support Squeeze "
        "operation with dynamic rank. Operation name: Squeeze. Compute that outside of the endpoint, or write another "
        "format, such as save_format=tf.",
        lambda a: {"y": a * 1},
        spec(None, 3),
    ),
    "constant_output": (
        lose,
        spec(None, 3),
        "OpenVINO drops the output 'three' of the endpoint 'serving_default': it depends on no input. Leave it out of "
        "the endpoint.",
        lambda a: {"twice": lose(a)["twice"]},
        spec(None, 3),
    ),
    "shared_name": (
        lambda a: {"a": a + 1},
        spec(None, 3),
        "The endpoint 'serving_default' calls an input and an output 'a', and OpenVINO gives a name to one tensor "
        "only: give the output another name.",
        lambda a: {"b": a + 1},
        spec(None, 3),
    ),
    "unprintable_name": (
        lambda a: {"b\1": a + 1},
        spec(None, 3),
        "The endpoint 'serving_default' has an input or output 'b\\x01', and OpenVINO keeps no name with a backslash "
        "or with what cannot be printed: give it another name.",
        lambda a: {"é, \";0'": a + 1},
        spec(None, 3),
    ),
    "backslash": (
        lambda a: {"b\\": a},
        spec(None, 3),
        "The endpoint 'serving_default' has an input or output 'b\\\\', and OpenVINO keeps no name with a backslash "
        "or with what cannot be printed: give it another name.",
        lambda a: {"b/": a},
        spec(None, 3),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_cannot_hold_is_refused_with_a_remedy_that_works(case: str, tmp_path: Path) -> None:
    call, taken, text, mended, taken_then = REFUSED[case]
    refused = make(tmp_path / "refused", {"serving_default": (call, {"a": taken}, {})})
    sound = {"a": np.ones([size or 2 for size in taken_then.shape], taken_then.dtype.as_numpy_dtype)}
    made = make(tmp_path / "mended", {"serving_default": (mended, {"a": taken_then}, sound)})

    root = logging.getLogger()
    before = root.level, root.filters[:], root.handlers[:]

    with pytest.raises(RefusedError) as caught:
        convert(refused.conversion)
    convert(made.conversion)

    assert str(caught.value) == text
    assert (root.level, root.filters, root.handlers) == before
    found = OpenVinoRuntime(made.conversion.target).call("serving_default", sound)
    assert tell_apart(found, made.expect("serving_default", sound)) < 1e-6


def test_a_policy_of_bfloat16_is_refused_and_one_of_float16_is_not(tmp_path: Path) -> None:
    def make_with(policy: str) -> Made:
        layers = [keras.layers.LayerNormalization(dtype=policy), keras.layers.Dense(4, "gelu", dtype=policy)]
        model = keras.Sequential([keras.Input((3,)), *layers])
        inputs = {"a": np.linspace(-1, 1, 6).reshape(2, 3).astype(np.float32)}
        return make(tmp_path / policy, {"serving_default": (lambda a: {"b": model(a)}, {"a": spec(None, 3)}, inputs)})

    refused, made = make_with("mixed_bfloat16"), make_with("mixed_float16")

    with pytest.raises(RefusedError) as caught:
        convert(refused.conversion)
    convert(made.conversion)

    assert str(caught.value) == (
        "OpenVINO lacks constants of bfloat16, with which the endpoint 'serving_default' computes: give the model "
        "another dtype policy, such as mixed_float16."
    )
    inputs = made.inputs["serving_default"]
    found = OpenVinoRuntime(made.conversion.target).call("serving_default", inputs)
    assert tell_apart(found, made.expect("serving_default", inputs)) < 0.004


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "two words", "é"])
def test_an_endpoint_that_is_no_name_of_a_file_is_refused(name: str, tmp_path: Path) -> None:
    tensor = Tensor((None, 3), "float32")
    endpoints = {name: Endpoint({"a": tensor}, {"b": tensor})}

    with pytest.raises(RefusedError) as caught:
        convert(Conversion(saved_model=tmp_path, endpoints=endpoints, target=tmp_path / "artifact", document="{}"))

    assert str(caught.value) == (
        f"The endpoint {name!r} would be a file of that name: give it one of letters, digits, '_', '-' and '.'."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_single_model_of_others_is_the_one_that_is_served(written: Mapping[str, Made], tmp_path: Path) -> None:
    made = written["digits"]
    for suffix in (".xml", ".bin"):
        shutil.copy(made.conversion.target / f"recognize{suffix}", tmp_path / f"model{suffix}")
    graph = tmp_path / "model.xml"
    assert list(OpenVinoRuntime(tmp_path).endpoints) == ["model"]
    graph.write_text(graph.read_text().replace("<document", "<another"))

    runtime = OpenVinoRuntime(tmp_path, threads=2)

    inputs = made.inputs["recognize"]
    assert runtime.endpoints == {"serving_default": made.conversion.endpoints["recognize"]}
    assert tell_apart(runtime.call("serving_default", inputs), made.expect("recognize", inputs)) < 2e-6
    content = OpenVinoRuntime.read_file(tmp_path)
    assert content.document is None
    assert content.operations["Convolution"] == 2


def test_texts_and_names_that_come_twice_are_told_apart(tmp_path: Path) -> None:
    openvino = import_openvino()
    from openvino import opset13

    texts, numbers = (opset13.parameter([-1], dtype) for dtype in (openvino.Type.string, openvino.Type.f32))
    positive = opset13.relu(numbers)
    results = [opset13.result(each) for each in (texts, positive, positive, numbers)]
    for node in (texts, numbers, *results):
        node.set_friendly_name("same")
    openvino.save_model(openvino.Model(results, [texts, numbers]), tmp_path / "any.xml", False)

    runtime = OpenVinoRuntime(tmp_path)

    text, number = Tensor((None,), "string"), Tensor((None,), "float32")
    assert runtime.endpoints["serving_default"] == Endpoint(
        {"same": text, "same_1": number}, {"same": text, "same_2": number, "same (2)": number, "same_1": number}
    )
    inputs = {"same": np.array([b"", "hé".encode()], object), "same_1": np.array([-1, 2], np.float32)}
    found = {name: array.tolist() for name, array in runtime.call("serving_default", inputs).items()}
    assert found == {"same": [b"", "hé".encode()], "same_2": [0, 2], "same (2)": [0, 2], "same_1": [-1, 2]}


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What is done to one of the files, and what is said of it: `{}` stands for the directory."""

    file: str = "model.xml"
    change: Callable[[bytes], bytes | None]
    text: str


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return change


LAUGHS = b"<!DOCTYPE net [<!ENTITY a 'ha'>%s]><net>&z;</net>" % b"".join(
    b"<!ENTITY %c '%s'>" % (letter, b"&%c;" % (letter - 1) * 100) for letter in range(ord("b"), ord("z") + 1)
)
CONST = (
    b'<net><layers><layer name="w" type="Const"><data element_type="%s" shape="%s" offset="%s" size="%s"/>'
    b"</layer></layers></net>"
)
NUMBER = "is damaged: {!r} is no number of bytes or elements."
DAMAGES = {
    "empty": Damage(
        change=lambda _: b"", text="{}/model.xml is damaged: it is no XML: no element found: line 1, column 0."
    ),
    "cut": Damage(
        change=lambda data: data[: len(data) // 2].rpartition(b"<")[0],
        text="{}/model.xml is damaged: it is no XML: no element found: line ",
    ),
    "page": Damage(
        change=lambda _: b"<html/>", text="{}/model.xml is damaged: it is no OpenVINO model: it begins with 'html'."
    ),
    "laughs": Damage(
        change=lambda _: LAUGHS, text="{}/model.xml is refused: it has a document type, which no OpenVINO model has."
    ),
    "outside": Damage(
        change=lambda _: b"<!DOCTYPE net SYSTEM '/etc/passwd'><net/>",
        text="{}/model.xml is refused: it has a document type, which no OpenVINO model has.",
    ),
    "deep": Damage(
        change=lambda _: b"<net>" + b"<a>" * 100_000, text="{}/model.xml is refused: it is nested too deeply."
    ),
    "layers": Damage(
        change=lambda _: b"<net>" + b"<layer/>" * 400_001 + b"</net>",
        text="{}/model.xml is refused: it has more than 200,000 layers.",
    ),
    "no_weights": Damage(file="model.bin", change=lambda _: None, text="{} lacks 'model.bin': it is incomplete."),
    "few_weights": Damage(
        file="model.bin",
        change=lambda data: data[:-1],
        text="{}/model.bin is damaged or incomplete: it has ",
    ),
    "far": Damage(
        change=lambda _: CONST % (b"f32", b"1", b"999999999999999999", b"4"),
        text="{}/model.bin is damaged or incomplete: it has ",
    ),
    "before": Damage(change=lambda _: CONST % (b"f32", b"1", b"-4", b"4"), text="{}/model.xml " + NUMBER.format("-4")),
    "huge_number": Damage(
        change=lambda _: CONST % (b"f32", b"9" * 5000, b"0", b"4"), text="{}/model.xml " + NUMBER.format("9" * 80)
    ),
    "other_shape": Damage(
        change=lambda _: CONST % (b"f32", b"2, 3", b"0", b"4"),
        text="{}/model.xml is damaged: an array float32 [2, 3] has 4 bytes, not 24.",
    ),
    "large_shape": Damage(
        change=lambda _: CONST % (b"u1", b"0, 99999999999, 99999999999", b"0", b"0"),
        text="{}/model.xml is damaged: it has an array of the shape (0, 99999999999, 99999999999).",
    ),
    "many_dimensions": Damage(
        change=lambda _: CONST % (b"f32", b",".join([b"1"] * 65), b"0", b"4"),
        text="{}/model.xml is damaged: it has an array of the shape (1, 1, 1,",
    ),
    "unknown_type": Damage(
        change=lambda _: CONST % (b"f31", b"1", b"0", b"4"),
        text="{}/model.xml is damaged: it has an array of the unknown type 'f31'.",
    ),
    "document": Damage(
        change=swap(b"&quot;version&quot;: 1", b"&quot;version&quot;: true"),
        text="The document of {} is damaged: the document.version is true or false, not a whole number.",
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_file_is_refused_in_words(case: str, written: Mapping[str, Made], tmp_path: Path) -> None:
    damage = DAMAGES[case]
    for suffix in (".xml", ".bin"):
        shutil.copy(written["several"].conversion.target / f"serving_default{suffix}", tmp_path / f"model{suffix}")
    file = tmp_path / damage.file
    changed = damage.change(file.read_bytes())
    file.unlink()
    if changed is not None:
        file.write_bytes(changed)

    with pytest.raises(ArtifactError) as caught:
        OpenVinoRuntime.read_file(tmp_path)

    expected = damage.text.replace("{}", str(tmp_path))
    assert str(caught.value).startswith(expected)
    assert not damage.text.endswith(".") or str(caught.value) == expected


def test_files_of_different_exports_are_no_artifact(written: Mapping[str, Made], tmp_path: Path) -> None:
    for name in ("lstm", "masked_gru"):
        for suffix in (".xml", ".bin"):
            shutil.copy(written[name].conversion.target / f"serving_default{suffix}", tmp_path / f"{name}{suffix}")
    graph = tmp_path / "lstm.xml"
    graph.write_text(graph.read_text().replace("recipe", "reciple"))

    with pytest.raises(ArtifactError) as caught:
        OpenVinoRuntime.read_file(tmp_path)

    assert str(caught.value) == f"{tmp_path} is damaged: its files are of different exports."


def test_a_directory_without_a_graph_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        OpenVinoRuntime.read_file(tmp_path)

    assert str(caught.value) == f"{tmp_path} holds no OpenVINO model: it has no .xml file."


# OpenVINO's names of types below a byte, with what they are called here and the bytes of nine of them.
PACKED = {
    "i4": ("int4", 5),
    "u1": ("uint1", 2),
    "u2": ("uint2", 3),
    "u3": ("uint3", 6),
    "u4": ("uint4", 5),
    "u6": ("uint6", 9),
    "nf4": ("nf4", 5),
    "f4e2m1": ("float4_e2m1fn", 5),
}
WHOLE = ("f8e4m3", "f8e5m2", "f8e8m0", "bf16", "f16", "f32", "f64", "i8", "u64", "boolean")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of others with an array of every type that OpenVINO has."""
    openvino = import_openvino()
    from openvino import opset13

    results = []
    for name in (*PACKED, *WHOLE):
        constant = openvino.op.Constant(getattr(openvino.Type, name), openvino.Shape([3, 3]), [1] * 9)
        constant.set_friendly_name("same name")
        results.append(opset13.result(constant))
    results.append(opset13.result(openvino.op.Constant(openvino.Tensor(np.array(["ab", "", "hé"])))))
    taken = opset13.parameter([-1], openvino.Type.f32, name="t")
    folder = tmp_path_factory.mktemp("small")
    openvino.save_model(openvino.Model([*results, opset13.result(taken)], [taken]), folder / "any.xml", False)
    return folder


def test_arrays_of_every_type_are_read(small: Path) -> None:
    constants = OpenVinoRuntime.read_file(small).constants

    assert {"same name", "same name (2)", "same name (18)"} <= set(constants)
    read = {each.dtype: each.read() for each in constants.values()}
    assert read.pop("string").tolist() == [b"ab", b"", "hé".encode()]
    assert {name: read.pop(name).size for name, _ in PACKED.values()} == dict(PACKED.values())
    assert len(read) == len(WHOLE)
    for name, array in read.items():
        assert array.dtype.name == name
        assert array.astype(np.float64).tolist() == [[1.0] * 3] * 3


@given(data=st.data())
def test_changed_bytes_are_read_or_refused(data: st.DataObject, small: Path) -> None:
    folder = small.parent / "changed"
    folder.mkdir(exist_ok=True)
    for suffix in (".xml", ".bin"):
        content = bytearray((small / f"any{suffix}").read_bytes())
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
            content[place] = data.draw(st.sampled_from(b"\0 \"'<>&/019-,\xff"))
        (folder / f"any{suffix}").write_bytes(bytes(content[: data.draw(st.sampled_from([len(content), 40, 0]))]))
    with suppress(ArtifactError):
        for constant in OpenVinoRuntime.read_file(folder).constants.values():
            constant.read()
