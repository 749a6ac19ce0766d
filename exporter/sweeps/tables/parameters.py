"""The parameters of a sweep: the keys that not all of its jobs have the same value for."""

import ast
from collections.abc import Mapping, Sequence

Parameter = float | str | None

# The key that chooses the model, and those below it.
_MODEL = "model"


def read_parameters(overrides: Sequence[str]) -> dict[str, str]:
    """Reads the keys that a job was composed with, and their values as they were written.

    Args:
        overrides: Of the job, such as `+seed=1`; of one that is given twice, the last one counts.

    Returns:
        Key -> value; empty for what takes a key away.
    """
    pairs = (each.lstrip("+").partition("=") for each in overrides)
    return {key: value for key, _, value in pairs}


def find_swept(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Finds the keys that not all jobs have the same value for, in the order in which they were written.

    Args:
        jobs: The overrides of each job.

    Example:
        >>> find_swept([["save_format=tf", "seed=1"], ["save_format=h5", "seed=1"]])
        ['save_format']
    """
    read = [read_parameters(overrides) for overrides in jobs]
    keys = dict.fromkeys(key for parameters in read for key in parameters)
    return [key for key in keys if len({parameters.get(key) for parameters in read}) > 1]


def read_value(text: str | None) -> Parameter:
    """Reads a value as a number where it is one, so that a column of them is sorted by size.

    Args:
        text: As it was written; None where a job has none.
    """
    if text is None:
        return None
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else text


def name_model(parameters: Mapping[str, str], swept: Sequence[str]) -> str:
    """Names which model a job exports, where the sweep has several: a number is a setting, a word is another model.

    Args:
        parameters: Of the job, see `read_parameters`.
        swept: The keys that the sweep's jobs differ in.

    Example:
        >>> name_model({"model.name": "VGG16", "model.epochs": "3"}, ["model.name", "model.epochs"])
        'VGG16'
    """
    return " ".join(parameters[key] for key in find_naming(parameters, swept))


def find_naming(parameters: Mapping[str, str], swept: Sequence[str]) -> list[str]:
    """Finds the keys that name which model a job exports; see `name_model`."""
    of_the_model = (key for key in swept if key.partition(".")[0] == _MODEL)
    return [key for key in of_the_model if parameters.get(key) and isinstance(read_value(parameters[key]), str)]


def shorten_keys(keys: Sequence[str]) -> list[str]:
    """Shortens keys to their last words, where these differ.

    Example:
        >>> shorten_keys(["model.epochs", "save_format"])
        ['epochs', 'save_format']
    """
    last = [key.rpartition(".")[2] for key in keys]
    return [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]
