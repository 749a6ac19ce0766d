"""JSON that is shown, and log records: the same content, in which nothing steers a terminal or begins a line."""

import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.storage.logs import DiscreetFormatter
from exporter.text.printable import escape
from exporter.text.showing import escape_line, find_first_line, write_json

TEXTS = st.text(st.characters() | st.sampled_from("\x1b\x07\x9b\u202e\u2028\r\n\x7f\\\"'é✓模\ud800\U0001f600"))


@given(TEXTS)
def test_what_is_escaped_is_printable_and_stays_so(text: str) -> None:
    assert escape(text).isprintable()
    assert escape(escape(text)) == escape(text)
    assert escape_line(escape_line(text)) == escape_line(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | TEXTS, lambda each: st.lists(each) | st.dictionaries(TEXTS, each)
    )
)
def test_shown_json_says_the_same(value: object) -> None:
    written = write_json(value)

    assert json.loads(written) == value
    assert written.endswith("\n")
    assert all(line.isprintable() for line in written.split("\n"))


def test_json_keeps_letters_and_the_layout_of_lines() -> None:
    assert write_json({"zähler ✓": ["模型", "\u202e\x1b\n\x7f"]}) == (
        '{\n  "zähler ✓": [\n    "模型",\n    "\\u202e\\u001b\\n\\u007f"\n  ]\n}\n'
    )


def test_json_of_what_is_no_plain_data_is_made_by_the_caller() -> None:
    assert write_json({1, 2}, default=lambda value: sorted(value)) == "[\n  1,\n  2\n]\n"
    with pytest.raises(TypeError):
        write_json({1, 2})


def make_record(message: str, *arguments: object, fails: bool = False) -> logging.LogRecord:
    """Makes a record, with the traceback of an error of two lines if it fails."""
    try:
        raise ValueError("bad\n✓ forged\x1b[2J")
    except ValueError:
        return logging.LogRecord("n\n", logging.ERROR, "f", 1, message, arguments, sys.exc_info() if fails else None)


def test_a_record_is_one_line() -> None:
    written = DiscreetFormatter("%(name)s %(message)s").format(make_record("a\n%s", "✓ b\r\u202e"))
    assert written == "n\\n a\\n✓ b\\r\\u202e"


def test_a_traceback_is_indented_and_keeps_its_lines() -> None:
    record = make_record("it failed", fails=True)
    record.exc_text = "✓ kept by another handler"
    record.stack_info = "Stack\n✓ forged"
    first, *others = DiscreetFormatter("%(message)s").format(record).split("\n")

    assert first == "it failed"
    assert "  ValueError: bad" in others
    assert "  ✓ forged\\x1b[2J" in others
    assert "  ✓ forged" in others
    assert all(line.startswith("  ") for line in others)
    assert "kept by another" not in "".join(others)
    assert record.exc_text == "✓ kept by another handler"  # another handler writes what is its own


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("\n first \nsecond", "first", id="the first"),
        pytest.param("", "nothing", id="none"),
        pytest.param(
            'Graph execution error:\n\nDetected at node a (most recent call last):\n  File "a.py", line 1\n'
            "\nExpected size[0] in [0, 6], but got 7\n\t [[{{node a/Slice}}]]",
            "Expected size[0] in [0, 6], but got 7",
            id="TensorFlow's, below where it was",
        ),
        pytest.param(
            "Exception encountered when calling Picky.call().\n\n\x1b[1mtoo large\x1b[0m\n\nArguments received:",
            "too large",
            id="Keras's, below where it was",
        ),
        pytest.param("Graph execution error:", "Graph execution error:", id="a heading alone"),
    ],
)
def test_the_line_that_says_something_is_found(text: str, expected: str) -> None:
    assert find_first_line(text, "nothing") == expected
