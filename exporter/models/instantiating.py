"""An object from a mapping that names its function with `_target_`, as Hydra makes it."""

import re
from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate

from exporter.errors import ArgumentError, ExporterError
from exporter.text.failures import describe_failure
from exporter.text.showing import escape_interpolations, join_lines

# How Hydra names the function, of several that are nested in each other, of which it speaks.
_CALLED = re.compile(r"Error in call to target '([^']+)'")


def instantiate(mapping: Mapping[str, object], **extra: object) -> Any:
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
    except SystemExit as error:
        raise ArgumentError(f"{mapping.get('_target_')} ended the process: {describe_failure(error)}") from error
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ExporterError):
            raise cause from None
        called = _CALLED.match(str(error))
        target = called[1] if called else mapping.get("_target_")
        if cause is not None and called and _was_called(cause):
            raise ArgumentError(f"{target} raised {describe_failure(cause)}") from cause
        reason = join_lines(error) if cause is None else f"{type(cause).__name__}: {join_lines(cause)}"
        raise ArgumentError(f"{target} could not be called: {reason}") from (cause or error)


def _was_called(error: BaseException) -> bool:
    """Tells whether the function itself raised it: arguments that do not fit are refused before it runs."""
    is_inside = error.__traceback__ is not None and error.__traceback__.tb_next is not None
    return is_inside or not isinstance(error, TypeError)
