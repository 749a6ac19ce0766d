"""The parameters of a sweep: which keys vary, which of them name a model, and how their values are read."""

from typing import Any

import pytest

from exporter.sweeps.tables.comparing import join_numbers
from exporter.sweeps.tables.parameters import find_swept, name_model, read_parameters, read_value, shorten_keys


@pytest.mark.parametrize(
    ("jobs", "swept"),
    [
        pytest.param([["a=1", "b=1"], ["a=1", "b=2"]], ["b"], id="one-of-two"),
        pytest.param([["+a=1"], ["++a=2"]], ["a"], id="added"),
        pytest.param([["a=1"], []], ["a"], id="missing-in-one"),
        pytest.param([["a=1", "a=2"], ["a=3", "a=2"]], [], id="the-last-counts"),
        pytest.param([["b=1", "a=1"], ["b=2", "a=2"]], ["b", "a"], id="in-their-order"),
        pytest.param([["a=b=1"], ["a=b=2"]], ["a"], id="equals-in-a-value"),
        pytest.param([["a=1"]], [], id="one-job"),
        pytest.param([], [], id="no-job"),
    ],
)
def test_swept_keys(jobs: list[list[str]], swept: list[str]) -> None:
    assert find_swept(jobs) == swept


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("12", 12, id="whole"),
        pytest.param("-1e-3", -0.001, id="negative"),
        pytest.param("True", "True", id="truth"),
        pytest.param("tf", "tf", id="word"),
        pytest.param("[1,2]", "[1,2]", id="list"),
        pytest.param("(" * 10_000, "(" * 10_000, id="deep"),
        pytest.param("", "", id="empty"),
        pytest.param(None, None, id="none"),
    ],
)
def test_values(text: str | None, value: Any) -> None:
    assert read_value(text) == value
    assert type(read_value(text)) is type(value)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        pytest.param(["model.name=VGG16", "model.epochs=3", "save_format=tf"], "VGG16", id="a-word"),
        pytest.param(["model=file", "model.filepath=a.keras"], "file a.keras", id="group-and-file"),
        pytest.param(["model.epochs=3", "save_format=tf"], "", id="numbers-are-settings"),
        pytest.param(["model_kind=a"], "", id="another-key"),
    ],
)
def test_what_names_a_model(overrides: list[str], name: str) -> None:
    parameters = read_parameters(overrides)
    assert name_model(parameters, list(parameters)) == name


def test_keys_are_shortened_where_they_stay_apart() -> None:
    assert shorten_keys(["model.epochs", "save_format"]) == ["epochs", "save_format"]
    assert shorten_keys(["model.mode", "verify.mode"]) == ["model.mode", "verify.mode"]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        pytest.param([2], "job 2", id="one"),
        pytest.param([0, 1], "jobs 0, 1", id="two"),
        pytest.param([5, 0, 1, 2, 3], "jobs 0-3, 5", id="a-run"),
    ],
)
def test_numbers_of_jobs(numbers: list[int], words: str) -> None:
    assert join_numbers(numbers) == words
