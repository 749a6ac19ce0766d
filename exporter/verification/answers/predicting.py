"""A question of a person, and what an artifact of any format answers to it, in a confined process."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from exporter.errors import ArtifactError
from exporter.processes.arrays import write_arrays
from exporter.saving.contents import Tensor
from exporter.text.showing import find_first_line
from exporter.verification.answers.inputs import choose_endpoint, describe_inputs, fit_question, read_question
from exporter.verification.answers.opening import open_askable


def predict(path: str, inputs: str, endpoint: str | None, answers: str, trusted: Sequence[str] = ()) -> dict[str, Any]:
    """Asks an artifact.

    Args:
        path: The artifact.
        inputs: The file of the question.
        endpoint: Which is asked; None for the one that a server takes, or that the file names.
        answers: Where the answers go, an array per output.
        trusted: See `exporter.verification.answers.opening.open_askable`.

    Returns:
        The `endpoint`, the `form` of the answer, what was `given`, and `notes` of how that was made.

    Raises:
        ArgumentError: The question does not fit.
        ArtifactError: The artifact cannot answer.
    """
    question = read_question(Path(inputs))
    with open_askable(Path(path), trusted) as artifact:
        name = choose_endpoint(artifact.endpoints, endpoint, question)
        given = fit_question(question, name, artifact.endpoints[name])
        try:
            answered = artifact.ask(name, given.arrays)
        except Exception as error:  # it is anybody's graph
            expected = describe_inputs(name, artifact.endpoints[name])
            raise ArtifactError(f"{name} cannot answer that: {find_first_line(error)}. {expected}.") from error
    write_arrays(Path(answers), answered)
    shown = {
        key: asdict(Tensor(tuple(array.shape), artifact.endpoints[name].inputs[key].dtype))
        for key, array in given.arrays.items()
    }
    return {"endpoint": name, "form": question.form, "given": shown, "notes": list(given.notes)}
