"""What runs in a confined process: work that ends in one way or another."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from exporter.errors import ArtifactError


def double(number: int) -> int:
    print("a line of the work", file=sys.stderr)
    return 2 * number


def refuse() -> None:
    raise ArtifactError("it is refused")


def stumble() -> None:
    raise ZeroDivisionError("by\nzero")


def leave(code: int) -> None:
    os._exit(code)


def fall(number: int) -> None:
    os.kill(os.getpid(), number)


def never_end(note: str) -> None:
    child = os.fork()
    if child == 0:
        time.sleep(3600)
    Path(note).write_text(str(child))
    time.sleep(3600)


def fill(size: int) -> int:
    return len(bytearray(size))


def fill_with_tensorflow(size: int) -> Any:
    import tensorflow as tf

    return int(tf.size(tf.fill([size], tf.constant(1, tf.uint8))))


def interrupted(note: str) -> None:
    try:
        Path(note).write_text("begun")  # from here on it may be interrupted, at once too
        time.sleep(3600)
    except KeyboardInterrupt:
        Path(note).write_text("cleaned up")
        raise
