"""What ends a process from outside: an exception while it works, and a moment later while it must not be ended."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# The terminal was closed; the system, a scheduler or a container asks the process to end.
_ENDINGS = (signal.SIGHUP, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """The process was asked to end; it cleans up as after Ctrl-C.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"signal {number}")


def raise_endings() -> None:
    """Lets signals that end this process raise `Terminated`, unless it was started to ignore them, as `nohup` does."""
    for number in _ENDINGS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise)


def raise_if_ended(error: BaseException) -> None:
    """Raises what ended the process again where code in between made another error of it while it cleaned up.

    Args:
        error: It.

    Raises:
        KeyboardInterrupt: It stands among what led to the error.
    """
    before: BaseException | None = error
    while before is not None:
        if isinstance(before, KeyboardInterrupt):
            raise before
        before = before.__cause__ or before.__context__


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    for each in _ENDINGS:  # once is enough: the next one would end the cleaning up
        signal.signal(each, signal.SIG_IGN)
    raise Terminated(number)


@contextmanager
def endings_delayed() -> Iterator[None]:
    """Lets Ctrl-C and the other endings come after the block, which must be short."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return
    came: list[int] = []
    former = {}
    for number in (signal.SIGINT, *_ENDINGS):
        if callable(signal.getsignal(number)):
            former[number] = signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
