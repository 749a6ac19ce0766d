"""What a person asks an endpoint with, before anything answers."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from exporter.errors import ArgumentError
from exporter.processes.arrays import Array
from exporter.saving.contents import Endpoint, Tensor
from exporter.verification.answers.inputs import Question, choose_endpoint, fit_question, read_question

DTYPES = ("float16", "float32", "float64", "int8", "uint8", "int32", "int64", "uint64", "bool")
ONE = Endpoint({"x": Tensor((None, 2), "float32")}, {})
TWO = Endpoint({"x": Tensor((None, 2), "float32"), "n": Tensor((None,), "int8")}, {})
TEXT = Endpoint({"t": Tensor((None,), "string")}, {})
TAKES_ONE = "serving_default takes x float32 (?, 2)."
TAKES_TWO = "serving_default takes x float32 (?, 2), n int8 (?)."


def fit(folder: Path, value: object, endpoint: Endpoint) -> dict[str, Array]:
    path = folder / "x.json"
    path.write_text(json.dumps(value))
    return dict(fit_question(read_question(path), "serving_default", endpoint).arrays)


@pytest.mark.parametrize(
    ("value", "endpoint", "expected"),
    [
        pytest.param({"instances": [[1, 2.5]]}, ONE, {"x": [[1, 2.5]]}, id="rows"),
        pytest.param({"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}, ONE, {"x": [[1, 2], [3, 4]]}, id="named rows"),
        pytest.param({"inputs": [[1, 2]]}, ONE, {"x": [[1, 2]]}, id="column"),
        pytest.param({"inputs": {"x": [[1, 2]], "n": [3]}}, TWO, {"x": [[1, 2]], "n": [3]}, id="columns"),
        pytest.param({"instances": [{"x": [1, 2], "n": 3}]}, TWO, {"x": [[1, 2]], "n": [3]}, id="rows of two"),
        pytest.param({"instances": ["é", {"b64": "/w=="}]}, TEXT, {"t": ["é".encode(), b"\xff"]}, id="texts"),
        pytest.param({"inputs": {"t": [{"b64": "YQ=="}]}}, TEXT, {"t": [b"a"]}, id="bytes in a column"),
    ],
)
def test_the_forms_of_a_request(tmp_path: Path, value: object, endpoint: Endpoint, expected: dict[str, Any]) -> None:
    found = fit(tmp_path, value, endpoint)
    assert {name: array.tolist() for name, array in found.items()} == expected
    assert all(
        array.dtype == (object if "t" in found else endpoint.inputs[name].dtype) for name, array in found.items()
    )


@pytest.mark.parametrize(
    ("value", "endpoint", "message"),
    [
        pytest.param([1], ONE, "x.json is no request: expected ", id="no mapping"),
        pytest.param({"instances": [], "inputs": {}}, ONE, "x.json is no request: expected ", id="both forms"),
        pytest.param({"inputs": [], "nothing": 1}, ONE, "x.json has the key nothing; expected inputs, and", id="key"),
        pytest.param({"inputs": [], "signature_name": 1}, ONE, "x.json has signature_name 1; expected", id="name"),
        pytest.param({"instances": []}, ONE, f"x.json has no list of samples under instances. {TAKES_ONE}", id="none"),
        pytest.param(
            {"inputs": [[1, 2]]},
            TWO,
            f"x.json does not name its inputs, and there are several or none. {TAKES_TWO}",
            id="unnamed",
        ),
        pytest.param(
            {"instances": [{"x": 1}, {"n": 1}]},
            TWO,
            f"x.json has samples with different inputs. {TAKES_TWO}",
            id="mixed",
        ),
        pytest.param(
            {"inputs": {"n": [300], "z": 1, "x": [[1, 2, 3]]}},
            TWO,
            "x.json does not fit: it has z, which is no input; x has the shape (1, 3); n has numbers that int8 cannot "
            f"hold. {TAKES_TWO}",
            id="all faults at once",
        ),
        pytest.param({"inputs": {"x": [[1, 2]]}}, TWO, f"x.json does not fit: it lacks n. {TAKES_TWO}", id="missing"),
        pytest.param(
            {"instances": [[1], [1, 2]]},
            ONE,
            f"x.json does not fit: x has rows of different lengths. {TAKES_ONE}",
            id="ragged",
        ),
        pytest.param(
            {"instances": [["a", 2]]},
            ONE,
            f"x.json does not fit: x has something else than numbers. {TAKES_ONE}",
            id="text",
        ),
        pytest.param(
            {"instances": [[1e39, 2]]},
            ONE,
            f"x.json does not fit: x has numbers that float32 cannot hold. {TAKES_ONE}",
            id="large",
        ),
        pytest.param({"instances": [[True, False]]}, ONE, f"x.json does not fit: x is bool. {TAKES_ONE}", id="bool"),
        pytest.param(
            {"inputs": {"x": [[1, 2]], "n": [1.5]}},
            TWO,
            f"x.json does not fit: n is float64. {TAKES_TWO}",
            id="fraction",
        ),
        pytest.param(
            {"instances": [{"b64": "?"}]},
            TEXT,
            "x.json does not fit: t has a b64 that is none. serving_default takes t string (?).",
            id="b64",
        ),
        pytest.param(
            {"instances": ["a", 1]},
            TEXT,
            'x.json does not fit: t has something else than texts, or {"b64": ...}, in rows of one length. '
            "serving_default takes t string (?).",
            id="no text",
        ),
    ],
)
def test_what_does_not_fit_names_what_the_endpoint_takes(
    tmp_path: Path, value: object, endpoint: Endpoint, message: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        fit(tmp_path, value, endpoint)
    assert str(caught.value).startswith(message)


def test_integers_on_both_sides_of_the_signed_ones_are_read(tmp_path: Path) -> None:
    endpoint = Endpoint({"x": Tensor((None,), "uint64")}, {})
    assert fit(tmp_path, {"instances": [0, 2**64 - 1]}, endpoint)["x"].tolist() == [0, 2**64 - 1]
    for wrong in ([0, 2**64], [-1, 2**63]):
        with pytest.raises(ArgumentError, match="x has numbers that uint64 cannot hold"):
            fit(tmp_path, {"instances": wrong}, endpoint)


@given(st.data(), st.sampled_from(DTYPES))
def test_json_says_every_array_that_an_endpoint_takes(data: st.DataObject, dtype: str) -> None:
    array = data.draw(arrays_of.arrays(dtype, arrays_of.array_shapes(max_dims=3, max_side=3)))
    endpoint = Endpoint({"x": Tensor(tuple(None for _ in array.shape), dtype)}, {})
    content = json.loads(json.dumps(array.astype(object).tolist(), default=float))
    found = fit_question(Question(name="x.json", form="inputs", content={"x": content}), "s", endpoint).arrays["x"]
    assert found.dtype == array.dtype
    assert np.array_equal(found, array, equal_nan=dtype.startswith("f"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda each: st.lists(each) | st.dictionaries(st.sampled_from(["x", "n", "b64", "t"]), each),
    ),
    st.sampled_from(["inputs", "instances"]),
    st.sampled_from([ONE, TWO, TEXT]),
)
def test_whatever_is_asked_fits_or_is_refused(content: Any, form: str, endpoint: Endpoint) -> None:
    with suppress(ArgumentError):  # and nothing else
        found = fit_question(Question(name="x.json", form=form, content=content), "s", endpoint).arrays
        assert found.keys() == endpoint.inputs.keys()


def test_arrays_of_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((3, 2)), n=np.arange(3))
    found = fit_question(read_question(tmp_path / "x.npz"), "s", TWO).arrays
    assert [(name, array.dtype.name, array.shape) for name, array in found.items()] == [
        ("x", "float32", (3, 2)),
        ("n", "int8", (3,)),
    ]
    np.savez(tmp_path / "x.npz", x=np.array([object()]))
    with pytest.raises(ArgumentError, match=r"x\.npz cannot be read: Object arrays cannot be loaded"):
        read_question(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("asked", "named", "chosen"),
    [
        pytest.param(None, None, "serving_default", id="neither"),
        pytest.param("b", None, "b", id="command line"),
        pytest.param(None, "b", "b", id="file"),
        pytest.param("b", "b", "b", id="both"),
    ],
)
def test_the_endpoint_that_is_asked(asked: str | None, named: str | None, chosen: str) -> None:
    question = Question(name="x.json", form="inputs", content={}, endpoint=named)
    assert choose_endpoint({"serving_default": ONE, "b": TWO}, asked, question) == chosen
    assert choose_endpoint({"only": ONE}, None, Question(name="x", form="inputs", content={})) == "only"


def test_an_endpoint_that_is_not_there(tmp_path: Path) -> None:
    question = Question(name="x.json", form="inputs", content={}, endpoint="b")
    with pytest.raises(ArgumentError) as caught:
        choose_endpoint({"serving_default": ONE, "a": TEXT}, "c", Question(name="x", form="inputs", content={}))
    assert str(caught.value) == (
        f"There is no endpoint c. Give one of these with --endpoint: {TAKES_ONE[:-1]}; a takes t string (?)."
    )
    with pytest.raises(ArgumentError, match=r"^x\.json asks the endpoint b, and --endpoint says c\. Leave one of them"):
        choose_endpoint({"b": ONE, "c": ONE}, "c", question)
