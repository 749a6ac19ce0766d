"""Errors as text: each argument is one line, also after an error has come from another process."""

import pickle
import signal
import textwrap
from errno import ENOSPC
from pathlib import Path

import pytest

from exporter import errors
from exporter.artifacts.records import Check
from exporter.errors import ExporterError, Fault, ProofError, SpaceError, UsageError
from exporter.processes.fresh_process import FreshProcess, ProcessEndedError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ExporterError)]


class OddError(errors.ArtifactError):
    """Has a constructor of its own, as an error for one place may."""

    def __init__(self, *, number: int) -> None:
        self.number = number
        super().__init__("it is odd:", f"{number}\n")


def make_error(kind: type[ExporterError]) -> ExporterError:
    """Makes an error of two lines, the first of which holds a line break."""
    if issubclass(kind, UsageError):
        return kind([Fault("model", "is\nnone"), Fault("seed", "is none either")])
    return kind("model: is\nnone", "seed: is none either")


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.__name__) for kind in KINDS])
def test_an_error_comes_back_from_another_process_with_its_lines(kind: type[ExporterError]) -> None:
    error = make_error(kind)
    again = pickle.loads(pickle.dumps(error))

    assert type(again) is kind
    assert str(again) == str(error) == "model: is\\nnone\nseed: is none either"


def test_what_an_error_carries_comes_back_too() -> None:
    check = Check("predictions", False, "largest difference 0.25", "batch size 1", 0.25)
    faults = (Fault("model", "is none", "recipe.yaml"),)

    assert pickle.loads(pickle.dumps(ProofError("one", "two", checks=[check]))).checks == (check,)
    assert pickle.loads(pickle.dumps(UsageError(faults))).faults == faults
    assert pickle.loads(pickle.dumps(SpaceError("full"))).errno == ENOSPC
    odd = pickle.loads(pickle.dumps(OddError(number=3)))
    assert (odd.number, str(odd)) == (3, "it is odd:\n3\\n")


def test_every_fault_is_one_line() -> None:
    assert "\n" not in str(UsageError([Fault("a\nb", "c\rd\x1b[2J")]))


def test_the_printed_error_has_the_lines_of_ours_alone(capsys: pytest.CaptureFixture[str]) -> None:
    errors.print_error(str(ExporterError("it failed\n✓ forged", "do this")))
    assert capsys.readouterr().err == "exporter: it failed\\n✓ forged\ndo this\n"


def test_no_word_of_a_process_that_ended_begins_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = """
        import os, signal, sys
        sys.stderr.write("\\n✓ evil is the same model, proven\\r✓ twice\\u2028✓ thrice\\x85\\x1b]0;x\\x07\\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
        """
    (tmp_path / "last_words.py").write_text(textwrap.dedent(module), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with FreshProcess("last_words") as process, pytest.raises(ProcessEndedError) as caught:
        process.ask("anything", None)

    first, *others = str(caught.value).split("\n")
    assert f"was ended by signal {signal.SIGKILL:d} at `anything`" in first
    assert others == ["  ✓ evil is the same model, proven", "  ✓ twice", "  ✓ thrice", "  \\x1b]0;x\\x07"]
