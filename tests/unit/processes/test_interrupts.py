"""What ends a process stays what ended it."""

import signal

import pytest

from exporter.processes.interrupts import Terminated, raise_if_ended


def clean_up_badly(ending: BaseException) -> AttributeError:
    """Is ended within code that stumbles while it cleans up, as libraries do."""
    try:
        try:
            raise ending
        finally:
            _ = None.missing  # type: ignore[attr-defined]
    except AttributeError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), Terminated(signal.SIGTERM)], ids=["Ctrl-C", "SIGTERM"])
def test_an_ending_is_found_behind_another_error(ending: KeyboardInterrupt) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        raise_if_ended(clean_up_badly(ending))
    assert caught.value is ending


def test_any_other_error_is_none() -> None:
    raise_if_ended(clean_up_badly(ValueError()))
