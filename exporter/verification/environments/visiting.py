"""Lets the Python of another environment open an artifact and answer questions."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from exporter.processes.arrays import Array
from exporter.processes.fresh_process import count_bytes, wait_seconds
from exporter.text.printable import escape
from exporter.text.showing import find_first_line
from exporter.verification.environments import visitor
from exporter.verification.environments.interpreters import Environment, clean_variables


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of an artifact.

    Attributes:
        endpoint: The name of an endpoint; any name where the model itself is called.
        names: Of the inputs.
        batches: One array per input, for each batch; texts as `bytes`.
        specs: The shape and dtype of each input, where the model itself is called.
        structure: The arguments of its call; see `exporter.saving.graph.inputs.Inputs`.
        moves_state: Whether a call changes variables that are trained.
    """

    endpoint: str
    names: Sequence[str]
    batches: Sequence[Sequence[Array]]
    specs: Sequence[tuple[Sequence[int | None], str]] = ()
    structure: Sequence[Any] = ()
    moves_state: bool = False

    def to_json(self) -> dict[str, Any]:
        """Returns what the visitor reads of it."""
        return {
            "endpoint": self.endpoint,
            "names": list(self.names),
            "batches": len(self.batches),
            "specs": [[list(shape), dtype] for shape, dtype in self.specs],
            "structure": list(self.structure),
            "moves": self.moves_state,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What came back.

    Attributes:
        versions: Of Python and of what opened the artifact, in a few words.
        opened: Whether it was opened.
        error: What it could not do; empty if nothing.
        facts: What else the visitor said.
        answers: For each question, an array per output by name, for each batch.
    """

    versions: str
    opened: bool
    error: str
    facts: Mapping[str, Any]
    answers: Sequence[Sequence[Mapping[str, Array]]] = field(default=())


def visit(
    environment: Environment,
    reader: str,
    artifact: Path,
    questions: Sequence[Question],
    *,
    tags: Sequence[str] = (),
    safe_mode: bool = True,
    objects: Sequence[Mapping[str, object]] = (),
) -> Visit:
    """Opens an artifact in another environment and asks it.

    Args:
        environment: The environment.
        reader: With what it is opened there.
        artifact: Where it is.
        questions: What it is asked.
        tags: Of a SavedModel's graph, beside `serve`.
        safe_mode: Whether Keras refuses code inside the artifact.
        objects: The model's own classes and functions, as `custom_objects.Needs.to_json` gives them.

    Returns:
        What came back; also where it could not be opened.
    """
    request = {
        "reader": reader,
        "path": str(artifact.absolute()),
        "tags": ["serve", *tags],
        "safe_mode": safe_mode,
        "objects": list(objects),
        "questions": [each.to_json() for each in questions],
    }
    with TemporaryDirectory(prefix="exporter-visit-") as name:
        folder = Path(name)
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        arrays = {
            f"{number}/{index}/{leaf}": _to_plain(array)
            for number, question in enumerate(questions)
            for index, batch in enumerate(question.batches)
            for leaf, array in enumerate(batch)
        }
        np.savez(folder / "questions.npz", allow_pickle=False, **arrays)
        # Where it stands, everything else of this package would be importable.
        script = str(shutil.copy(visitor.__file__, folder))
        failure = _run(
            [str(environment.python), "-s", script, str(folder)], folder, wait_seconds(count_bytes(artifact))
        )
        return _read(folder, questions, failure)


def _run(command: list[str], folder: Path, seconds: float) -> str:
    """Runs it; returns why it failed, or nothing."""
    try:
        done = subprocess.run(
            command, cwd=folder, env=clean_variables(), capture_output=True, text=True, timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return find_first_line(error)
    said = done.stderr.strip().splitlines() or ["it said nothing"]
    return f"its Python ended with the code {done.returncode}: {escape(said[-1])}" if done.returncode else ""


def _read(folder: Path, questions: Sequence[Question], failure: str) -> Visit:
    reply = folder / "reply.json"
    if failure or not reply.exists():
        return Visit(versions="", opened=False, error=failure or "its Python said nothing", facts={})
    facts = json.loads(reply.read_text(encoding="utf-8"))
    answers: list[list[dict[str, Array]]] = [[{} for _ in question.batches] for question in questions]
    with np.load(folder / "answers.npz", allow_pickle=False) as arrays:
        for place, key in enumerate(facts["answers"]):
            number, index, name = json.loads(key)
            array = arrays[str(place)]
            answers[number][index][name] = array.astype(object) if array.dtype.kind == "S" else array
    named = [f"{name} {version}" for name, version in {**facts["versions"], "Python": facts["python"]}.items()]
    return Visit(
        versions=escape(", ".join(named)),
        opened="opened" in facts,
        error=escape(facts.get("error", "")),
        facts=facts,
        answers=answers,
    )


def _to_plain(array: Array) -> Array:
    """Makes an array one that NumPy's own files hold without a pickle."""
    if array.dtype.kind in "OU":
        texts = [text.encode() if isinstance(text, str) else bytes(text) for text in array.ravel().tolist()]
        return np.array(texts, np.bytes_).reshape(array.shape)
    return array.astype(np.float32) if array.dtype.kind == "V" or array.dtype.name == "bfloat16" else array
