"""The steps around a model: each against NumPy, Keras or Pillow's numbers, and inside an artifact that was moved."""

import base64
import io
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from exporter import ExportConfig, UsageError, export, transforms
from exporter.config import SignatureConfig
from exporter.errors import ArgumentError
from exporter.models.endpoints.building import build_endpoints
from exporter.transforms._hooks import find_takes

pytestmark = pytest.mark.xdist_group("endpoints")

FLOATS = st.floats(-1e4, 1e4, width=32)
IMAGES = arrays.arrays(np.float32, arrays.array_shapes(min_dims=4, max_dims=4, max_side=5), elements=FLOATS)


def make_pixels(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def encode(pixels: Any, kind: str) -> bytes:
    return bytes((tf.io.encode_png if kind == "png" else tf.io.encode_jpeg)(pixels).numpy())


def test_every_transform_is_public_and_described() -> None:
    for name in transforms.__all__:
        function = getattr(transforms, name)
        assert function.__doc__
        assert name == "takes" or find_takes(function) is not None


# ---- pictures


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_png_is_decoded_to_its_pixels(channels: int) -> None:
    pixels = make_pixels(5, 7, channels)
    decoded = transforms.decode_images(tf.constant([encode(pixels, "png")] * 2), height=5, width=7, channels=channels)
    assert decoded.dtype == tf.float32
    assert np.array_equal(decoded, np.stack([pixels, pixels]).astype(np.float32))


def test_a_jpeg_is_decoded_as_pillow_does() -> None:
    content = encode(make_pixels(16, 24, 3), "jpeg")
    expected = np.asarray(Image.open(io.BytesIO(content)), np.float32)
    decoded = transforms.decode_images(tf.constant([content]), height=16, width=24)
    assert np.abs(decoded[0].numpy() - expected).max() == 0


def test_pictures_of_other_sizes_and_kinds_become_one_batch() -> None:
    small, large = make_pixels(4, 4, 1), make_pixels(9, 5, 3)
    content = tf.constant([encode(small, "png"), encode(large, "jpeg"), encode(large, "png")])
    decoded = transforms.decode_images(content, height=6, width=3, antialias=True)
    assert decoded.shape == (3, 6, 3, 3)
    expected = tf.image.resize(np.repeat(small, 3, axis=-1)[np.newaxis], [6, 3], antialias=True)
    assert np.array_equal(decoded[:1], expected)


def test_no_picture_is_an_empty_batch() -> None:
    decoded = transforms.decode_images(tf.constant([], tf.string), height=2, width=3)
    assert decoded.shape == (0, 2, 3, 3)


@settings(max_examples=20, deadline=None)
@given(IMAGES, st.integers(1, 6), st.integers(1, 6), st.sampled_from(["bilinear", "nearest", "area"]))
def test_resizing_is_that_of_tensorflow(images: Any, height: int, width: int, method: str) -> None:
    expected = tf.image.resize(images, [height, width], method)
    assert np.array_equal(transforms.resize(images, height=height, width=width, method=method), expected)


def test_resizing_is_that_of_the_keras_layer() -> None:
    images = make_pixels(2, 9, 7, 3)
    expected = keras.layers.Resizing(4, 5)(images.astype(np.float32))
    np.testing.assert_allclose(transforms.resize(images, height=4, width=5), expected, rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(IMAGES, FLOATS, FLOATS)
def test_rescaling_is_that_of_the_keras_layer(images: Any, scale: float, offset: float) -> None:
    expected = keras.layers.Rescaling(scale, offset)(images)
    np.testing.assert_allclose(
        transforms.rescale(tf.constant(images), scale=scale, offset=offset), expected, rtol=1e-6, atol=1e-6
    )


def test_rescaling_can_tell_channels_apart_and_takes_bytes() -> None:
    images = make_pixels(1, 2, 2, 3)
    scaled = transforms.rescale(tf.constant(images), scale=[1.0, 2.0, 4.0], offset=-1)
    assert np.array_equal(scaled, images * np.array([1, 2, 4], np.float32) - np.float32(1))


@settings(max_examples=20, deadline=None)
@given(IMAGES, FLOATS, st.floats(0.5, 100, width=32))
def test_normalizing_is_that_of_numpy(images: Any, mean: float, std: float) -> None:
    expected = (images - np.float32(mean)) / np.float32(std)
    np.testing.assert_allclose(
        transforms.normalize(tf.constant(images), mean=mean, std=std), expected, rtol=1e-6, atol=1e-6
    )


def test_normalizing_takes_a_mean_of_each_channel() -> None:
    images = make_pixels(2, 3, 3, 3).astype(np.float16)
    mean, std = [1.0, 2.0, 3.0], [2.0, 4.0, 8.0]
    normalized = transforms.normalize(tf.constant(images), mean=mean, std=std)
    assert normalized.dtype == tf.float16
    assert np.array_equal(normalized, (images - np.array(mean, np.float16)) / np.array(std, np.float16))


def test_the_order_of_channels() -> None:
    images = make_pixels(2, 3, 4, 3)
    assert np.array_equal(transforms.reverse_channels(tf.constant(images)), images[..., ::-1])
    first = transforms.channels_first(tf.constant(images))
    assert np.array_equal(first, np.moveaxis(images, -1, 1))
    assert np.array_equal(transforms.channels_last(first), images)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(
            lambda: transforms.resize(np.zeros((1, 2, 2, 1)), height=2, width=2, method="cubic"),
            "`method` is 'cubic'. Allowed: bilinear, nearest, bicubic, area, lanczos3, lanczos5, gaussian, "
            "mitchellcubic.",
            id="method",
        ),
        pytest.param(
            lambda: transforms.decode_images(tf.constant([b""]), height=0, width=2),
            "`height` is 0. Expected a number of pixels from 1.",
            id="size",
        ),
        pytest.param(
            lambda: transforms.top_k(tf.zeros([2, 3]), k=0),
            "`k` is 0. Expected a number from 1 to the 3 classes.",
            id="k",
        ),
        pytest.param(
            lambda: transforms.top_k(tf.zeros([2, 3]), k=1, labels="no_such_file.txt"),
            "`labels`: there is no file 'no_such_file.txt'. Give the path of a text file with a label a line.",
            id="labels",
        ),
        pytest.param(
            lambda: transforms.rename({"a": 1, "b": 2}, names={"c": "d"}),
            "there is no 'd' to be renamed. There are: a, b.",
            id="rename",
        ),
        pytest.param(
            lambda: transforms.parse_examples(tf.constant([b""]), features={"a": {"shpe": []}}),
            "`features.a.shpe` is not known. Allowed: shape, dtype, default.",
            id="feature",
        ),
        pytest.param(
            lambda: transforms.parse_examples(tf.constant([b""]), features={"a": {"shape": [None, 2]}}),
            "`features.a.shape` is [None, 2]. Expected numbers, or [null] for any length.",
            id="feature's shape",
        ),
    ],
)
def test_a_wrong_argument_is_said(call: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert str(caught.value) == message


# ---- text, records and numbers


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1), st.booleans(), st.booleans(), st.booleans())
def test_base64_of_every_kind_is_decoded(items: list[bytes], urlsafe: bool, padded: bool, broken: bool) -> None:
    encoded = [(base64.urlsafe_b64encode if urlsafe else base64.standard_b64encode)(item) for item in items]
    if not padded:
        encoded = [text.rstrip(b"=") for text in encoded]
    if broken:
        encoded = [b"\r\n".join(text[start : start + 8] for start in range(0, len(text), 8)) for text in encoded]
    assert transforms.decode_base64(tf.constant(encoded)).numpy().tolist() == items


def make_record(**values: Any) -> bytes:
    record = tf.train.Example()
    for name, value in values.items():
        feature = record.features.feature[name]
        if isinstance(value[0], bytes):
            feature.bytes_list.value.extend(value)
        elif isinstance(value[0], int):
            feature.int64_list.value.extend(value)
        else:
            feature.float_list.value.extend(value)
    return bytes(record.SerializeToString())


def test_records_are_parsed_by_their_features() -> None:
    records = [
        make_record(size=[1.5, 2.5], word=[b"a"], count=[3], ids=[1, 2, 3], flag=[1]),
        make_record(size=[0.5, 4.0], word=[b"b"], ids=[7], flag=[0]),
    ]
    parsed = transforms.parse_examples(
        tf.constant(records),
        features={
            "size": {"shape": [2]},
            "word": {"dtype": "string"},
            "count": {"dtype": "int32", "default": -1},
            "ids": {"shape": [None], "dtype": "int64"},
            "flag": {"dtype": "bool"},
        },
    )
    plain = {name: (tensor.dtype.name, tensor.numpy().tolist()) for name, tensor in parsed.items()}
    assert plain == {
        "size": ("float32", [[1.5, 2.5], [0.5, 4.0]]),
        "word": ("string", [b"a", b"b"]),
        "count": ("int32", [3, -1]),
        "ids": ("int64", [[1, 2, 3], [7, 0, 0]]),
        "flag": ("bool", [True, False]),
    }


def test_casting_reaches_every_tensor() -> None:
    cast = transforms.cast({"a": tf.constant([1.9, -1.9]), "b": tf.constant([3])}, dtype="int64")
    assert {name: tensor.numpy().tolist() for name, tensor in cast.items()} == {"a": [1, -1], "b": [3]}


# ---- answers


@settings(max_examples=20, deadline=None)
@given(arrays.arrays(np.float32, (3, 4), elements=st.floats(-50, 50, width=32)))
def test_probabilities_are_those_of_numpy(logits: Any) -> None:
    exact = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    np.testing.assert_allclose(
        transforms.softmax(tf.constant(logits)), exact / exact.sum(-1, keepdims=True), rtol=1e-5, atol=1e-7
    )
    expected = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(transforms.sigmoid(tf.constant(logits)), expected, rtol=1e-5, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(arrays.arrays(np.float32, (3, 5), elements=st.integers(0, 3)), st.integers(1, 5))
def test_the_best_are_those_of_a_stable_sort(scores: Any, k: int) -> None:
    labels = ["a", "b", "c", "d", "e"]
    best = transforms.top_k(tf.constant(scores), k=k, labels=labels)
    order = np.argsort(-scores, axis=-1, kind="stable")[:, :k]
    assert best["labels"].numpy().astype(str).tolist() == np.array(labels)[order].tolist()
    assert np.array_equal(best["scores"], np.take_along_axis(scores, order, axis=-1))
    assert np.array_equal(transforms.top_k(tf.constant(scores), k=k)["classes"], order)
    first = transforms.take_label(tf.constant(scores), labels=labels)
    assert first["label"].numpy().astype(str).tolist() == np.array(labels)[order[:, 0]].tolist()
    assert np.array_equal(first["score"], scores.max(axis=-1))
    assert np.array_equal(transforms.take_label(tf.constant(scores))["class"], order[:, 0])


def test_a_threshold_is_reached_by_itself() -> None:
    assert transforms.threshold(tf.constant([0.4, 0.5, 0.6])).numpy().tolist() == [False, True, True]
    assert transforms.threshold(tf.constant([1, 2]), threshold=2).numpy().tolist() == [False, True]


def test_renaming_selects() -> None:
    assert transforms.rename({"a": 1, "b": 2}, names={"c": "b"}) == {"c": 2}
    assert transforms.rename(3, names={"c": "whatever"}) == {"c": 3}


# ---- inside an artifact


def make_classifier() -> Any:
    keras.utils.set_random_seed(1)
    image, size = keras.Input((4, 4, 3), name="image"), keras.Input((2,), name="size")
    features = keras.layers.Concatenate()([keras.layers.Flatten()(image), size])
    return keras.Model([image, size], keras.layers.Dense(3, name="scores")(features), name="classifier")


DECODE = {"_target_": "exporter.transforms.decode_images", "height": 4, "width": 4}
PARSE = {
    "_target_": "exporter.transforms.parse_examples",
    "features": {"image": {"dtype": "string"}, "size": {"shape": [2], "dtype": "float32"}},
}


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, str]:
    """An artifact that is no longer where it was written, and whose file of labels is gone; and that file's folder."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "names.txt").write_text("red\ngreen\nblue\n")
    model = make_classifier()
    best = {"_target_": "exporter.transforms.top_k", "k": 2, "labels": str(folder / "names.txt")}
    receipt = export(
        ExportConfig(
            model=model,
            filepath=str(folder / "model"),
            signatures={
                "serving_default": SignatureConfig(preprocess={"image": DECODE}, postprocess=best),
                "records": SignatureConfig(
                    preprocess=[PARSE, {"image": DECODE}],
                    postprocess=[
                        {"_target_": "exporter.transforms.take_label", "labels": best["labels"]},
                        {"_target_": "exporter.transforms.rename", "names": {"name": "label"}},
                    ],
                ),
                "encoded": SignatureConfig(
                    preprocess={"image": [{"_target_": "exporter.transforms.decode_base64"}, DECODE]}
                ),
            },
        )
    )
    assert {check.name for check in receipt.checks if check.passed} >= {"serving_default", "records", "encoded"}
    place = tmp_path_factory.mktemp("moved") / "elsewhere"
    shutil.move(folder / "model", place)
    shutil.rmtree(folder)
    return model, place, str(folder)


def make_requests() -> tuple[Any, Any, list[bytes]]:
    pictures = make_pixels(3, 4, 4, 3)
    sizes = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    return pictures, sizes, [encode(picture, "png") for picture in pictures]


def test_labels_are_answered_where_their_file_is_gone(moved: tuple[Any, Path, str]) -> None:
    model, place, _ = moved
    pictures, sizes, content = make_requests()
    scores = np.asarray(model([pictures.astype(np.float32), sizes]))
    endpoints = tf.saved_model.load(str(place)).signatures
    answer = endpoints["serving_default"](image=tf.constant(content), size=tf.constant(sizes))
    order = np.argsort(-scores, axis=-1, kind="stable")[:, :2]
    names = np.array(["red", "green", "blue"])
    assert answer["labels"].numpy().astype(str).tolist() == names[order].tolist()
    np.testing.assert_allclose(answer["scores"], np.take_along_axis(scores, order, -1), rtol=1e-5)

    records = [make_record(image=[item], size=size.tolist()) for item, size in zip(content, sizes, strict=True)]
    assert endpoints["records"](examples=tf.constant(records))["name"].numpy().astype(str).tolist() == (
        names[order[:, 0]].tolist()
    )
    encoded = tf.constant([base64.b64encode(item) for item in content])
    plain = endpoints["encoded"](image=encoded, size=tf.constant(sizes))["scores"]
    np.testing.assert_allclose(plain, scores, rtol=1e-5)


def test_no_file_of_the_artifact_names_where_the_labels_were(moved: tuple[Any, Path, str]) -> None:
    _, place, folder = moved
    assert [path.name for path in (place / "assets").iterdir()] == ["names.txt"]
    for path in place.rglob("*"):
        if path.is_file() and path.name not in ("recipe.yaml", "inputs.json"):  # they say what was read
            assert folder.encode() not in path.read_bytes(), path


def test_what_the_endpoints_take(moved: tuple[Any, Path, str]) -> None:
    endpoints = tf.saved_model.load(str(moved[1])).signatures
    taken = {}
    for name, endpoint in endpoints.items():
        _, specs = endpoint.structured_input_signature
        taken[name] = {key: (spec.dtype.name, spec.shape.as_list()) for key, spec in specs.items()}
    picture, size = ("string", [None]), ("float32", [None, 2])
    assert taken == {
        "serving_default": {"image": picture, "size": size},
        "records": {"examples": picture},
        "encoded": {"image": picture, "size": size},
    }


def test_the_number_of_labels_in_a_file_is_checked(tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("a\nb\n")
    step = {"_target_": "exporter.transforms.take_label", "labels": str(tmp_path / "two.txt")}
    with pytest.raises(UsageError) as caught:
        build_endpoints(make_classifier(), {"serve": SignatureConfig(postprocess=step)})
    assert str(caught.value) == (
        "signatures.serve.postprocess: the step cannot run on scores float32 [null, 3]: the file "
        f"{step['labels']!r} of `labels` holds 2 classes, and the model tells 3 apart."
    )
