"""Whatever is given for an argument: one short message of an error of ours, and the artifact in place is untouched."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import exporter
from exporter.storage.digests import record_files
from exporter.text.showing import describe_value

pytestmark = pytest.mark.xdist_group("safety")

Call = Callable[[keras.Model, str, Any], object]


class Talkative:
    """Has a long text with what steers a terminal."""

    def __repr__(self) -> str:
        return "\x1b[31m\n\u202e" * 10_000


class Silent:
    """Has no text at all."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


def nest(depth: int) -> list[Any]:
    """Nests lists deeper than Python writes them."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


# None of them is right for any argument; a text that names no format would be a path.
LEAVES = st.one_of(st.integers(), st.floats(), st.binary(), st.text())
VALUES = st.one_of(
    st.integers(),
    st.floats(),
    st.binary(max_size=20_000),
    st.recursive(LEAVES, lambda inner: st.lists(inner, min_size=1) | st.dictionaries(st.text(), inner, min_size=1)),
    st.builds(object),
    st.just(int),
    st.builds(lambda: np.zeros((200, 200))),
    st.builds(lambda: tf.zeros((200, 200))),
).filter(lambda value: not isinstance(value, str))
# Values that hypothesis itself could not write.
UNUSUAL = [Talkative(), Silent(), nest(5_000), 10**6_000]
TEXTS = st.text(min_size=1) | st.sampled_from(["x" * 100_000, "a b", "a=b", "\ud800", "\x1b[31m", "\0", "模型"])

ARGUMENTS: dict[str, tuple[Call, st.SearchStrategy[Any]]] = {
    "model": (lambda model, path, value: exporter.save_model(value, path), VALUES | TEXTS | st.none()),
    "filepath": (lambda model, path, value: exporter.save_model(model, value), VALUES | st.none()),
    "filepath of a load": (lambda model, path, value: exporter.load_model(value), VALUES | TEXTS | st.none()),
    "overwrite": (lambda model, path, value: exporter.save_model(model, path, overwrite=value), VALUES | TEXTS),
    "include_optimizer": (
        lambda model, path, value: exporter.save_model(model, path, include_optimizer=value),
        VALUES | TEXTS | st.none(),
    ),
    "save_format": (
        lambda model, path, value: exporter.save_model(model, path, save_format=value),
        VALUES | TEXTS.filter(lambda text: text not in ("tf", "h5", "keras")),
    ),
    "signatures": (lambda model, path, value: exporter.save_model(model, path, signatures=value), VALUES | TEXTS),
    "one of the signatures": (
        lambda model, path, value: exporter.save_model(model, path, signatures={"a" * 9_999: value}),
        VALUES | TEXTS | st.none(),
    ),
    "options": (lambda model, path, value: exporter.save_model(model, path, options=value), VALUES | TEXTS),
    "compile": (lambda model, path, value: exporter.load_model(path, compile=value), VALUES | TEXTS | st.none()),
    "safe_mode": (lambda model, path, value: exporter.load_model(path, safe_mode=value), VALUES | TEXTS | st.none()),
    "custom_objects": (
        lambda model, path, value: exporter.load_model(path, custom_objects=value),
        VALUES.filter(lambda value: not isinstance(value, dict)) | TEXTS,
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, Path]:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    return model, exporter.save_model(model, tmp_path_factory.mktemp("saved") / "model")


def check_message(message: str) -> None:
    assert len(message) <= 600
    assert len(message.splitlines()) <= 6
    assert all(each.isprintable() or each == "\n" for each in message)
    message.encode()


def check_line(text: str) -> None:
    assert text.isprintable()
    assert len(text) <= 120
    text.encode()


@pytest.mark.parametrize(("call", "values"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_whatever_is_given_for_an_argument(
    saved: tuple[keras.Model, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Call,
    values: st.SearchStrategy[Any],
) -> None:
    model, path = saved
    monkeypatch.chdir(tmp_path)
    before = record_files(path, path.name)

    def refuse(value: Any) -> None:
        with pytest.raises(exporter.ExporterError) as caught:
            call(model, str(path), value)
        check_message(str(caught.value))

    @settings(max_examples=40, deadline=60_000, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @given(value=values)
    def refuse_any(value: Any) -> None:
        refuse(value)

    for value in UNUSUAL:
        refuse(value)
    refuse_any()
    assert record_files(path, path.name) == before
    assert list(path.parent.iterdir()) == [path]
    assert list(tmp_path.iterdir()) == []


def test_a_thousand_faulty_options_are_a_few_lines(saved: tuple[keras.Model, Path]) -> None:
    model, path = saved
    options = tf.saved_model.SaveOptions(function_aliases={f"alias {number}": number for number in range(1_000)})
    with pytest.raises(exporter.ArgumentError) as caught:
        exporter.save_model(model, path, options=options)
    assert str(caught.value).splitlines() == [
        "`options` cannot be used.",
        *(
            f"`function_aliases`: received 'alias {number}': {number}; expected a name and a tf.function or a concrete "
            "function."
            for number in range(3)
        ),
        "and 997 more.",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("tensorflow", "'tensorflow'", id="text"),
        pytest.param("a\nb", r"'a\nb'", id="lines"),
        pytest.param([1, [2, [3, [4, [5]]]]], "[1, [2, [3, [...]]]]", id="depth"),
        pytest.param(10**6000, "<int of 19932 bits>", id="integer"),
        pytest.param(np.arange(2), "array([0, 1])", id="array"),
        pytest.param({"b": 1, "a": None}, "{'a': None, 'b': 1}", id="dict"),
    ],
)
def test_a_value_is_described(value: object, text: str) -> None:
    assert describe_value(value) == text


@pytest.mark.parametrize("value", UNUSUAL, ids=["steering", "silent", "deep", "integer"])
def test_an_unusual_value_is_described_on_one_short_line(value: object) -> None:
    check_line(describe_value(value))


@given(value=VALUES | TEXTS)
@settings(max_examples=100, deadline=60_000, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
def test_any_value_is_described_on_one_short_line(value: object) -> None:
    check_line(describe_value(value))
