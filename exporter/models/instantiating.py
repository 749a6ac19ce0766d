"""An object from a mapping that names its function with `_target_`, as Hydra makes it."""

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate

from exporter.errors import ArgumentError, ExporterError
from exporter.text.showing import escape_interpolations, join_lines


def instantiate(mapping: Mapping[str, Any], **extra: Any) -> Any:
    """Calls the function that a mapping names with `_target_`.

    Args:
        mapping: `_target_` and the arguments, plain data.
        **extra: More arguments, which may be any objects.

    Returns:
        What the function returns.

    Raises:
        ArgumentError: The function cannot be found or called like this, or it raised an error, which is the cause.
        ExporterError: The function raised one itself.
    """
    try:
        # What looks like an interpolation by now is text. Hydra resolves it as a whole, and each value once more.
        escaped = escape_interpolations(escape_interpolations(mapping))
        return hydra_instantiate({**escaped, "_convert_": "all"}, **extra)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ExporterError):
            raise cause from None
        reason = join_lines(error) if cause is None else f"{type(cause).__name__}: {join_lines(cause)}"
        raise ArgumentError(f"{mapping.get('_target_')} could not be called: {reason}") from (cause or error)
