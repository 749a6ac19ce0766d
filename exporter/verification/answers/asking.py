"""Several artifacts are asked the same, in one process with a deadline and a bound on its memory."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.errors import ArtifactError
from exporter.processes.arrays import Array, read_arrays, write_arrays
from exporter.processes.confinement import GIB, run_confined
from exporter.processes.fresh_process import count_bytes, wait_seconds
from exporter.text.showing import find_first_line
from exporter.verification.answers.opening import open_askable

# TensorFlow, and the model in several copies.
_MEMORY = 4 * GIB
_TIMES = 16

Batches = Sequence[Mapping[str, Array]]


@dataclass(frozen=True, slots=True)
class Answers:
    """What one artifact answered.

    Attributes:
        batches: An array per output for each batch, by endpoint.
        faults: Why there is no answer, by endpoint.
    """

    batches: Mapping[str, list[dict[str, Array]]]
    faults: Mapping[str, str]


def ask_artifacts(paths: Sequence[Path], questions: Mapping[str, Batches]) -> list[Answers]:
    """Asks artifacts, which may be anybody's.

    Args:
        paths: The artifacts.
        questions: Batches of arrays by input, for each endpoint.

    Returns:
        What each of them answered.
    """
    endpoints = list(questions)
    arrays = {
        f"{place}/{number}/{key}": array
        for place, endpoint in enumerate(endpoints)
        for number, batch in enumerate(questions[endpoint])
        for key, array in batch.items()
    }
    size = sum(map(count_bytes, paths))
    with tempfile.TemporaryDirectory(prefix="exporter-answers-") as name:
        folder = Path(name)
        write_arrays(folder / "questions", arrays)
        asked = {"paths": [str(path.absolute()) for path in paths], "endpoints": endpoints, "folder": name}
        try:
            seconds = wait_seconds(size + count_bytes(folder))
            faults = run_confined(f"{__name__}:answer", asked, "Asking it", seconds, _MEMORY + _TIMES * size)
        except ArtifactError as error:
            if len(paths) > 1:  # one of them ended the process, and the others have to answer for themselves
                return [ask_artifacts([path], questions)[0] for path in paths]
            return [Answers({}, dict.fromkeys(endpoints, str(error)))]
        return [
            Answers(_split(read_arrays(folder / f"answers-{number}"), endpoints), fault)
            for number, fault in enumerate(faults)
        ]


def answer(paths: list[str], endpoints: list[str], folder: str) -> list[dict[str, str]]:
    """Answers in the confined process.

    Args:
        paths: See `ask_artifacts`.
        endpoints: In the order of the questions.
        folder: Where the questions are and the answers go.

    Returns:
        For each artifact, why an endpoint could not answer.
    """
    questions = _split(read_arrays(Path(folder) / "questions"), endpoints)
    faults = []
    for number, path in enumerate(paths):
        found, fault = _answer(Path(path), questions, endpoints)
        write_arrays(Path(folder) / f"answers-{number}", found)
        faults.append(fault)
    return faults


def _answer(
    path: Path, questions: Mapping[str, Batches], endpoints: Sequence[str]
) -> tuple[dict[str, Array], dict[str, str]]:
    found: dict[str, Array] = {}
    faults = {}
    try:
        with open_askable(path) as artifact:
            for place, endpoint in enumerate(endpoints):
                try:
                    for number, batch in enumerate(questions[endpoint]):
                        answered = artifact.ask(endpoint, batch)
                        found |= {f"{place}/{number}/{key}": value for key, value in answered.items()}
                except Exception as error:  # it is anybody's graph
                    faults[endpoint] = find_first_line(error)
    except Exception as error:  # and anybody's file
        faults = dict.fromkeys(endpoints, find_first_line(error))
    return found, faults


def _split(arrays: Mapping[str, Array], endpoints: Sequence[str]) -> dict[str, list[dict[str, Array]]]:
    """Returns the batches of each endpoint, from arrays that are called `<endpoint>/<batch>/<name>`."""
    batches: dict[str, dict[int, dict[str, Array]]] = {}
    for path, array in arrays.items():
        place, number, key = path.split("/", 2)
        batches.setdefault(endpoints[int(place)], {}).setdefault(int(number), {})[key] = array
    return {endpoint: [each for _, each in sorted(found.items())] for endpoint, found in batches.items()}
