"""What a stranger's file computes runs in a process of its own, with a deadline and a bound on its memory.

That process says what it found in the one agreed way. One that ends in any other, also with exit code 0, has failed.
"""

import importlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from exporter.errors import ArtifactError, ExporterError, ExportError
from exporter.processes.interrupts import Terminated, raise_endings
from exporter.text.showing import find_first_line

GIB = 1 << 30

# What a process that was asked to end may take to clean up.
_FAREWELL_SECONDS = 30.0
_LONGEST_REPLY = 64 << 20


def run_confined(work: str, arguments: Mapping[str, object], what: str, seconds: float, memory: int) -> Any:
    """Runs a function in a process of its own.

    Args:
        work: The function, as `module:name`; one of ours.
        arguments: Its arguments by keyword, as JSON can say them.
        what: What is done, for errors: the beginning of a sentence.
        seconds: After which it is stopped.
        memory: How many bytes each of its processes may allocate, where the system can hold it to that (Linux).

    Returns:
        What the function returned, as JSON can say it.

    Raises:
        ExportError: The function raised an `ExporterError`; with its text.
        ArtifactError: It failed in another way, took too long, or the process ended before it said what it found.
    """
    ours, theirs = socket.socketpair()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    command = [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(memory)]
    with ours:
        with theirs:
            # Ctrl-C comes to this process alone, which hands it on once.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, env=environment, pass_fds=[theirs.fileno()], process_group=0
            )
        try:
            with suppress(BrokenPipeError):
                ours.sendall(json.dumps({"work": work, "arguments": dict(arguments)}).encode() + b"\n")
            reply = _read_reply(ours, time.monotonic() + seconds)
        except BaseException as ending:
            _end(process, ending)
            raise
        if reply is None:
            _kill(process)
            raise ArtifactError(
                f"{what} did not end within {seconds:,.0f} seconds, and was stopped. Give it more with --timeout "
                "SECONDS, if you trust where the file comes from."
            )
        if not reply.endswith(b"\n"):
            _kill(process, wait=5.0)
            raise ArtifactError(
                f"{what} {_describe_end(process.returncode)} before it said what it found. It may take "
                f"{memory / GIB:,.1f} GiB of memory: give it more with --memory GIB, if you trust where the file "
                "comes from."
            )
        process.wait()
    return _read_answer(json.loads(reply), what)


def _read_reply(ours: socket.socket, deadline: float) -> bytes | None:
    """Reads one line, or what came of it before the other end was closed; None after the deadline."""
    received = bytearray()
    while not received.endswith(b"\n") and len(received) <= _LONGEST_REPLY:
        ready, _, _ = select.select([ours], [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            return None
        with suppress(ConnectionResetError):
            if part := ours.recv(1 << 16):
                received += part
                continue
        break
    return bytes(received)


def _read_answer(answer: Mapping[str, Any], what: str) -> Any:
    if "refused" in answer:
        raise ExportError(*answer["refused"].splitlines())
    if "failed" in answer:
        raise ArtifactError(f"{what} failed: {answer['failed']}")
    return answer["returned"]


def _describe_end(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _end(process: subprocess.Popen[bytes], ending: BaseException) -> None:
    """Lets the process clean up in its turn."""
    with suppress(ProcessLookupError):
        process.send_signal(ending.number if isinstance(ending, Terminated) else signal.SIGINT)
    _kill(process, _FAREWELL_SECONDS)


def _kill(process: subprocess.Popen[bytes], wait: float = 0.0) -> None:
    """Ends the process, after some seconds in which it may end by itself, and whatever it has started."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(wait)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> None:
    """Does what the other end of the socket asks for, and answers."""
    parent = socket.socket(fileno=int(sys.argv[1]))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    raise_endings()
    request = json.loads(parent.makefile("rb").readline())
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    module, _, name = request["work"].partition(":")
    try:
        answer = _answer(getattr(importlib.import_module(module), name), request["arguments"])
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    sys.stdout.flush()
    sys.stderr.flush()
    parent.sendall(json.dumps(answer).encode() + b"\n")
    os._exit(0)  # nothing of it must be kept: unloading TensorFlow would take a second


def _answer(work: Callable[..., object], arguments: Mapping[str, object]) -> dict[str, Any]:
    try:
        return {"returned": work(**arguments)}
    except ExporterError as error:
        return {"refused": str(error)}
    except Exception as error:  # it is anybody's graph
        return {"failed": f"{type(error).__name__}: {find_first_line(error)}"}


def _end_with(parent: socket.socket) -> None:
    """Ends this process when its parent is gone, whatever this one is doing."""
    parent.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)  # it may clean up, unless a graph does not return
    time.sleep(_FAREWELL_SECONDS)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
