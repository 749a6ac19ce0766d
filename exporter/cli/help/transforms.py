"""The steps before and after a model that come with the package."""

import inspect

from exporter import transforms


def list_rows() -> list[tuple[str, str]]:
    """Gives each step with its arguments and the first line of what it says of itself."""
    steps = [getattr(transforms, name) for name in transforms.__all__ if name != transforms.takes.__name__]
    return [(each.__name__, f"{_list_arguments(each)}{_read_summary(each)}") for each in steps]


def _read_summary(step: object) -> str:
    return (inspect.getdoc(step) or "").partition("\n")[0]


def _list_arguments(step: object) -> str:
    assert callable(step)
    _, *named = inspect.signature(step).parameters
    return f"{', '.join(named)}: " if named else ""
