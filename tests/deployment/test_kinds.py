"""Models of many kinds through every format: what is sound passes, and what is not is refused with a remedy."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from language_models import make_gemma

from exporter.config import SignatureConfig, TensorConfig
from exporter.errors import ModelError, ProofError
from exporter.saving.deployment import graph
from exporter.saving.deployment.conversions import CalibrationData, RefusedError
from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.deployment.remedies import refusals_explained
from exporter.saving.formats import FORMATS
from exporter.saving.formats.deployed import DeployedFormat

from .conftest import Bench

pytestmark = pytest.mark.xdist_group("deployment")

Place = Callable[[DeployedFormat], Path]
Make = Callable[[], keras.Model]


class Compute(layers.Layer):
    """A layer of any function."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__(name="compute")
        self._function = function

    def call(self, values: Any) -> Any:
        return self._function(values)


def make_computing(function: Callable[[Any], Any], width: int = 4, dtype: str = "float32") -> Make:
    """Makes a dense layer, and a function of what it gives."""

    def make() -> keras.Model:
        keras.utils.set_random_seed(7)
        numbers = keras.Input((6,), dtype=dtype, name="numbers")
        hidden = layers.Dense(width)(numbers) if dtype == "float32" else numbers
        return keras.Model(numbers, Compute(function)(hidden), name="computing")

    return make


def make_stack(shape: tuple[int, ...], *stack: Callable[[], layers.Layer], dtype: str = "float32") -> Make:
    """Makes layers on top of each other."""

    def make() -> keras.Model:
        keras.utils.set_random_seed(7)
        given = keras.Input(shape, dtype=dtype, name="given")
        values = given
        for each in stack:
            values = each()(values)
        return keras.Model(given, values, name="stack")

    return make


def find(name: str) -> DeployedFormat:
    found = FORMATS[name]
    assert isinstance(found, DeployedFormat)
    return found


# Outputs of one model, so that each format converts them all at once.
COMPUTED: Mapping[str, Callable[[Any], Any]] = {
    "indices_of_the_largest": lambda values: ops.top_k(values, 2)[1],
    "step": lambda values: ops.where(values > 0, 1.0, 0.0),
    "logarithm_of_what_is_negative": ops.log,
    "nothing_but_nan": lambda values: values * np.nan,
    "tiny": lambda values: values * 1e-30,
    "huge": lambda values: values * 1e30,
    "zeros": ops.zeros_like,
    "half": lambda values: ops.cast(values, "float16"),
    "scalar": ops.sum,
    "booleans": lambda values: values > 0,
    "argmax_of_tensorflow": lambda values: tf.argmax(values, axis=-1),
    "mask_of_a_large_number": lambda values: ops.where(values > 0, values, -1e9),
}


def make_all_computed() -> keras.Model:
    keras.utils.set_random_seed(7)
    numbers = keras.Input((6,), name="numbers")
    hidden = layers.Dense(4)(numbers)
    outputs = {}
    for name, function in COMPUTED.items():
        layer = Compute(function)
        layer.name = name
        outputs[name] = layer(hidden)
    return keras.Model(numbers, outputs, name="computing")


SOUND: Mapping[str, Make] = {
    "whatever is computed": make_all_computed,
    "grouped convolution": make_stack((6, 6, 4), lambda: layers.Conv2D(8, 3, groups=2)),
    "a volume made larger": make_stack((3, 3, 3, 1), lambda: layers.UpSampling3D(2)),
    "resized": make_stack(
        (6, 6, 3), lambda: layers.Resizing(9, 4), lambda: layers.Resizing(3, 3, interpolation="nearest")
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_is_sound_is_proven(bench: Bench, save_format: DeployedFormat, name: str, place: Place) -> None:
    model, target = SOUND[name](), place(save_format)
    contents = bench.convert(save_format, model, target)
    assert bench.prove(save_format, model, target, contents).is_proven


def test_words_are_looked_up(bench: Bench, place: Place) -> None:
    model = make_stack((2,), lambda: layers.StringLookup(vocabulary=["the", "fox"]), dtype="string")()
    for save_format in (find("litert"), find("onnx")):
        target = place(save_format)
        contents = bench.convert(save_format, model, target)
        assert bench.prove(save_format, model, target, contents).is_proven


ARGMAX = (
    "Where it comes of keras.ops.argmax, argmin or signbit, which look into the bits of a number, take tf.argmax "
    "or exporter.transforms.take_label as the endpoint's postprocess; leave it out of the endpoint otherwise."
)
RESIZE = "Resize with interpolation=bilinear or nearest, and without antialias, or outside of the endpoint."
OTHER = "Leave that out of the endpoint, or export it in another format, such as save_format=onnx or tf."

REFUSED: Mapping[str, tuple[str, Make, str]] = {
    "litert: bits": ("litert", make_computing(ops.argmax), f"LiteRT has no operation for BitwiseAnd. {ARGMAX}"),
    "onnx: bits": (
        "onnx",
        make_computing(ops.argmax),
        f"(endpoint 'serving_default'). {ARGMAX}",
    ),
    "openvino: bits": (
        "openvino",
        make_computing(ops.argmax),
        f"OpenVINO lacks what the endpoint 'serving_default' computes with: Bitcast. {ARGMAX}",
    ),
    "litert: lanczos": (
        "litert",
        make_stack((6, 6, 3), lambda: layers.Resizing(3, 3, interpolation="lanczos3")),
        f"LiteRT has no operation for ScaleAndTranslate. {RESIZE}",
    ),
    "onnx: antialias": (
        "onnx",
        make_stack((6, 6, 3), lambda: layers.Resizing(3, 3, antialias=True)),
        f"(endpoint 'serving_default'). {RESIZE}",
    ),
    "litert: pooled volume": (
        "litert",
        make_stack((4, 4, 4, 1), layers.MaxPooling3D),
        f"LiteRT has no operation for MaxPool3D. {OTHER}",
    ),
    "litert: float64": (
        "litert",
        make_stack((6,), lambda: layers.Dense(2, dtype="float64"), dtype="float64"),
        "LiteRT has no operation for what the model computes in float64 (BiasAdd, MatMul). Build the model with dtype "
        "policy float32.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_lacking_is_named_with_a_remedy(bench: Bench, case: str, place: Place) -> None:
    name, make, words = REFUSED[case]
    target = place(find(name))
    with pytest.raises(ModelError) as caught:
        bench.convert(find(name), make(), target)
    assert str(caught.value).endswith(words)
    assert not target.exists()


HALF = make_stack(
    (6, 6, 1), lambda: layers.Conv2D(2, 3, dtype="mixed_float16"), lambda: layers.Flatten(dtype="float32")
)
EARLY: Mapping[str, tuple[str, Make, str]] = {
    "litert: any batch of a recurrent layer": (
        "litert",
        make_stack((4, 3), lambda: layers.LSTM(2)),
        "LiteRT cannot hold a recurrent layer for batches of any size: the length of its list of states has to be "
        "known. Set batch=1, or another number, for the endpoint under `signatures`, or make the layer with "
        "unroll=True.",
    ),
    "litert: half precision": (
        "litert",
        HALF,
        "LiteRT has no operation for what the model computes in half precision (Conv2D). Build the model with dtype "
        "policy float32, and ask for quantize=float16.",
    ),
    "litert: bfloat16": (
        "litert",
        make_computing(lambda values: ops.cast(values, "bfloat16")),
        "The endpoint 'serving_default' has 'compute' of the dtype bfloat16, which a LiteRT file cannot take or return"
        ": give it another dtype with a cast inside of the endpoint.",
    ),
    "onnx: bfloat16": (
        "onnx",
        make_computing(lambda values: ops.cast(values, "float32"), dtype="bfloat16"),
        "The endpoint 'serving_default' has 'numbers' of the dtype bfloat16, which an ONNX file cannot take or "
        "return: give it another dtype with a cast inside of the endpoint.",
    ),
    "onnx: complex": (
        "onnx",
        make_computing(lambda values: tf.complex(values, values)),
        "The endpoint 'serving_default' has 'compute' of the dtype complex64, which an ONNX file cannot take or "
        "return: give it another dtype with a cast inside of the endpoint.",
    ),
    "openvino: text": (
        "openvino",
        make_computing(lambda values: tf.gather(["a", "b", "c", "d"], tf.argmax(values, axis=-1))),
        "The endpoint 'serving_default' has texts ('compute'), and OpenVINO has no operations for texts: export an "
        "endpoint that takes token ids and returns numbers.",
    ),
}


@pytest.mark.parametrize("case", EARLY)
def test_what_a_trace_tells_is_refused_before_anything_is_written(
    bench: Bench, case: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, make, words = EARLY[case]
    target = place(find(name))
    monkeypatch.setattr(graph, "write_graph", lambda *_: pytest.fail("it was written"))
    with pytest.raises(ModelError) as caught:
        bench.convert(find(name), make(), target)
    assert str(caught.value).endswith(f"cannot be exported like this: {words}")
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make_stack((4, 3), lambda: layers.LSTM(2, unroll=True)), id="unrolled"),
        pytest.param(make_stack((3, 5, 5, 1), lambda: layers.TimeDistributed(layers.Conv2D(2, 3))), id="distributed"),
    ],
)
def test_no_list_of_states_is_no_reason_to_refuse(bench: Bench, make: Make, place: Place) -> None:
    model, target = make(), place(find("litert"))
    contents = bench.convert(find("litert"), model, target)
    assert bench.prove(find("litert"), model, target, contents).is_proven


def test_a_random_model_is_not_proven_by_its_own_scatter(bench: Bench, place: Place) -> None:
    model = make_computing(lambda values: values + tf.random.normal(tf.shape(values)))()
    target = place(find("onnx"))
    contents = bench.convert(find("onnx"), model, target)
    with pytest.raises(
        ProofError, match="the model's own compute is another one each time, so that there is nothing to"
    ):
        bench.prove(find("onnx"), model, target, contents)


def test_an_infinity_that_the_converter_lost_is_told(bench: Bench, place: Place) -> None:
    model = make_computing(lambda values: ops.where(values > 0, values, -np.inf))()
    target = place(find("litert"))
    contents = bench.convert(find("litert"), model, target)
    expected = "compute has finite numbers where the model's are not: not every runtime has infinities; take a large "
    with pytest.raises(ProofError, match=re.escape(f"{expected}number in place of them, such as -1e9 in a mask")):
        bench.prove(find("litert"), model, target, contents)


def test_what_a_runtime_computes_otherwise_is_found(bench: Bench, place: Place) -> None:
    model = make_computing(lambda values: ops.softplus(values * 1000))()  # LiteRT's overflows
    target = place(find("litert"))
    contents = bench.convert(find("litert"), model, target)
    with pytest.raises(ProofError, match="compute has numbers that are not finite where the model's are"):
        bench.prove(find("litert"), model, target, contents)


def test_a_fixed_batch_of_recurrent_layers_is_no_open_list(bench: Bench) -> None:
    model = make_stack((4, 3), lambda: layers.LSTM(2))()
    for batch, is_open in ((2, False), (None, True)):
        endpoints = bench.build(model, serving_default=SignatureConfig(batch=batch))
        described = graph.describe("serving_default", endpoints["serving_default"].function)
        assert described.has_open_lists is is_open


def test_too_few_samples_to_calibrate_with_are_counted_before_a_converter_starts(
    bench: Bench, save_format: DeployedFormat, place: Place
) -> None:
    model, target = make_stack((6,), lambda: layers.Dense(2))(), place(save_format)
    endpoints = bench.build(model, serving_default=SignatureConfig(batch=8))
    data = CalibrationData(origin="few", samples={"serving_default": {"given": np.zeros((5, 6), "float32")}})
    expected = "takes 8 samples at a time, and there are 5 to calibrate it with: give 8 or more."
    with pytest.raises(ModelError, match=re.escape(expected)):
        bench.convert(save_format, model, target, endpoints, quantize=Quantize.INT8, calibration=data)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("quantize", [Quantize.INT8_DYNAMIC, Quantize.INT8_WEIGHTS])
def test_what_has_nothing_to_quantise_says_so(bench: Bench, quantize: Quantize, place: Place) -> None:
    model, target = make_stack((6,), layers.ReLU)(), place(find("litert"))
    contents = bench.convert(find("litert"), model, target, quantize=quantize)
    [remark] = [each.detail for each in contents.held if each.what == "remark"]
    assert remark.startswith("nothing in it is quantised: it has no weights that LiteRT quantises")


def test_what_has_weights_says_nothing(bench: Bench, place: Place) -> None:
    model, target = make_stack((64,), lambda: layers.Dense(64))(), place(find("litert"))
    contents = bench.convert(find("litert"), model, target, quantize=Quantize.INT8_DYNAMIC)
    assert [each.detail for each in contents.held if each.what == "remark"] == []


def test_an_error_of_a_quantiser_is_a_refusal() -> None:
    for error, words in (
        (RuntimeError("\n  no shape.\nat line 7"), "NNCF refused the model: no shape. Take float16."),
        (KeyError(), "NNCF refused the model: KeyError. Take float16."),
        (RefusedError("Our own."), "Our own."),
    ):
        with pytest.raises(RefusedError) as caught, refusals_explained("NNCF", "Take float16."):
            raise error
        assert str(caught.value) == words


def test_a_model_that_cannot_compute_is_told(bench: Bench, place: Place) -> None:
    model = make_stack(
        (4, 4, 4, 1), lambda: layers.MaxPooling3D(dtype="float16")
    )()  # TensorFlow has none for processors
    target = place(find("onnx"))
    contents = bench.convert(find("onnx"), model, target)
    with pytest.raises(
        ModelError, match=r"^The model cannot compute its own outputs of serving_default for batch sizes"
    ):
        bench.prove(find("onnx"), model, target, contents)


def test_nothing_is_left_of_what_did_not_become_whole(bench: Bench, place: Place) -> None:
    save_format = find("openvino")  # its directory is there before its converter is through
    target = place(save_format)
    with pytest.raises(ModelError, match="OpenVINO lacks what"):
        bench.convert(save_format, make_computing(ops.argmax)(), target)
    assert list(target.parent.iterdir()) == []


def test_the_remedy_for_unknown_lengths_works(bench: Bench, place: Place) -> None:
    keras.utils.set_random_seed(7)
    model = make_gemma(30)
    litert, target = find("litert"), place(find("litert"))
    with pytest.raises(ModelError, match=r"no operation for StridedSlice\. Give each input a known length: declare it"):
        bench.convert(litert, model, target)
    known = TensorConfig(shape=[None, 8], dtype="int32")
    endpoints = bench.build(model, serving_default=SignatureConfig(inputs={"token_ids": known, "padding_mask": known}))
    contents = bench.convert(litert, model, target, endpoints)
    assert bench.prove(litert, model, target, contents, endpoints).is_proven


def test_the_label_is_a_remedy_for_the_argmax_of_keras(bench: Bench, save_format: DeployedFormat, place: Place) -> None:
    model, target = make_stack((6,), lambda: layers.Dense(3))(), place(save_format)
    take_label = {"_target_": "exporter.transforms.take_label"}
    endpoints = bench.build(model, serving_default=SignatureConfig(postprocess=take_label))
    contents = bench.convert(save_format, model, target, endpoints)
    assert bench.prove(save_format, model, target, contents, endpoints).is_proven
