"""Where in the user's own code an error came from: never in a library, in Python itself or in the package."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from exporter.errors import ModelError
from exporter.text.failures import describe_failure, find_own_place, locate_definition, name_origin
from exporter.text.hiding import hide
from exporter.text.showing import write_json

HERE = Path(__file__)


def raise_deep(count: int) -> None:
    if count == 0:
        raise KeyError("missing")
    raise_deep(count - 1)


def raise_from() -> None:
    try:
        raise_deep(2)
    except KeyError as error:
        raise RuntimeError("the vocabulary is broken\nand more") from error


def raise_again() -> None:
    """Raises the same error in longer words and without its frames, as Keras does."""
    try:
        raise_deep(0)
    except KeyError as error:
        raise RuntimeError("Exception encountered").with_traceback(error.__traceback__) from None


def call_back() -> None:
    json.loads("{}", object_hook=lambda found: raise_deep(1))


def catch(function: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        function()
    return caught.value


def find_line(text: str) -> int:
    return next(number for number, line in enumerate(HERE.read_text().splitlines(), 1) if line.strip() == text)


@pytest.fixture(autouse=True)
def in_its_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE.parent)


RAISING = find_line('raise KeyError("missing")')
DEEP = f"test_failures.py:{RAISING} in raise_deep"
CHAINED = find_line('raise RuntimeError("the vocabulary is broken\\nand more") from error')


@pytest.mark.parametrize(
    ("function", "told"),
    [
        pytest.param(lambda: raise_deep(3), f"KeyError: 'missing' ({DEEP})", id="deep"),
        pytest.param(call_back, f"KeyError: 'missing' ({DEEP})", id="through-a-library"),
        pytest.param(
            raise_from,
            f"RuntimeError: the vocabulary is broken (test_failures.py:{CHAINED} in raise_from); "
            f"its cause: KeyError: 'missing' ({DEEP})",
            id="chained",
        ),
        pytest.param(raise_again, f"KeyError: 'missing' ({DEEP})", id="raised-again-by-a-library"),
    ],
)
def test_it_names_the_innermost_line_of_own_code(function: Callable[[], object], told: str) -> None:
    assert describe_failure(catch(function)) == told


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(partial(json.loads, "{"), id="python"),
        pytest.param(partial(yaml.safe_load, "["), id="a-library"),
        pytest.param(partial(write_json, object()), id="the-package"),
    ],
)
def test_what_is_not_the_users_is_not_named(run: Callable[[], object]) -> None:
    error = catch(run)
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    assert frames is not None
    error.__traceback__ = frames
    assert (find_own_place(error), name_origin(error)) == ("", "")


def test_a_file_that_python_cannot_read_is_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "broken.py"
    file.write_text("x = 1\ndef f(:\n")
    monkeypatch.chdir(tmp_path)
    told = describe_failure(catch(lambda: compile(file.read_text(), str(file), "exec")))
    assert told == "SyntaxError: invalid syntax (broken.py:2)"


def test_the_text_of_a_graphs_error_names_the_place() -> None:
    text = f'Graph execution error:\n\nDetected at node X defined at:\n  File "{HERE}", line 7, in call\n\nbad shape'
    told = describe_failure(catch(lambda: raise_with(RuntimeError(text))))
    assert told == "RuntimeError: bad shape (test_failures.py:7 in call)"


def raise_with(error: BaseException) -> None:
    raise error


def test_an_error_that_cannot_be_written_is_named() -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert describe_failure(SilentError()) == "SilentError: cannot be described: ValueError"


def test_an_error_in_a_circle_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert describe_failure(first) == "ValueError: a; its cause: ValueError: b"


def test_one_of_ours_has_the_place_of_its_cause() -> None:
    error = ModelError("no")
    error.__cause__ = catch(lambda: raise_deep(0))
    assert find_own_place(error) == DEEP
    assert name_origin(error) == f" It came from KeyError: 'missing' ({DEEP})."


def test_a_definition_is_located() -> None:
    assert (
        locate_definition(raise_deep)
        == f"test_failures.py:{find_line('def raise_deep(count: int) -> None:')} in raise_deep"
    )
    assert [locate_definition(each) for each in (hide, json.loads, len)] == ["", "", ""]


def test_what_autograph_made_of_a_function_is_no_place_of_the_users(tmp_path: Path) -> None:
    made = tmp_path / "__autograph_generated_file1x2y.py"
    made.write_text("def tf__call():\n    raise TypeError('a tensor')\n")
    space: dict[str, Callable[[], None]] = {}
    exec(compile(made.read_text(), str(made), "exec"), space)
    assert describe_failure(catch(lambda: space["tf__call"]())).startswith("TypeError: a tensor (test_failures.py:")
