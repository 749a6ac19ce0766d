"""A fresh Python process that answers requests: the one in which an artifact is proven.

It is started before the model is built, so that it imports TensorFlow while the main process works. This
module itself imports nothing heavy for the same reason.

Each artifact has a child of it, forked when nothing but the imports has happened: no module, cache or registered class
that came with one artifact is there for the next.
"""

import io
import itertools
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn, Self, cast

from exporter.errors import ExportError
from exporter.processes.interrupts import raise_endings
from exporter.text.failures import describe_failure, find_own_place

_LAST_WORDS_CHARACTERS = 2000

# Where software keeps what it wants to find again.
_HOMES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")

# The requests that bracket those which one child answers.
_BEGIN, _END = "begin", "end"


class ProcessEndedError(ExportError):
    """The process ended while something was asked of it."""


class FreshProcess:
    """`python -m <module>` at the other end of two pipes; requests and replies are JSON, one a line.

    Use it as a context manager: the process is gone when the block ends. It also ends by itself when its
    standard input closes, so it never outlives its parent.
    """

    def __init__(
        self,
        module: str,
        role: str = "The proof's process",
        remedy: str = "Give the proof more time or memory, or export with verify=none.",
        has_home: bool = True,
    ) -> None:
        """Starts the process and returns at once.

        Args:
            module: Dotted name of the module to run; it calls `answer_requests`.
            role: What it is, at the beginning of an error.
            remedy: What to do if it does not answer in time, at the end of an error.
            has_home: Whether it sees the user's home directory; else one of its own, which goes with it.
        """
        self._role, self._remedy = role, remedy
        environment = os.environ.copy()
        environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
        # Two processes share the accelerator: neither may take all of its memory at once.
        environment.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        # What this process can import, the fresh one can, wherever it works: this path alone, so `-P` keeps the
        # directory out that it happens to be started in.
        environment["PYTHONPATH"] = _write_path()
        # No TemporaryDirectory: a fork of this process would remove it when that ends.
        self._places = Path(tempfile.mkdtemp(prefix="exporter-fresh-"))
        # TensorFlow leaves files in the place for temporary ones where a process does not end by itself.
        environment["TMPDIR"] = str(self._places)
        if not has_home:
            environment.update(dict.fromkeys(_HOMES, str(self._places)))
        self._numbers = itertools.count(1)
        self._has_child = False
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=environment,
            text=True,
            encoding="utf-8",
        )
        self._requests = cast(IO[str], self._process.stdin)
        self._output = cast(IO[str], self._process.stdout)
        self._replies: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read_replies, name="exporter-proof-replies", daemon=True)
        self._reader.start()
        self._awaited: deque[bool] = deque()  # for each reply that is still to come, whether anybody wants it

    @property
    def id(self) -> int:
        """The number of the process."""
        return self._process.pid

    def is_ready(self) -> bool:
        """Whether it runs, and nobody waits for a reply."""
        return self._process.poll() is None and not any(self._awaited)

    def _read_replies(self) -> None:
        for line in self._output:
            self._replies.put(line)
        self._replies.put(None)

    def begin(self) -> None:
        """Lets the requests that follow be answered by a new child of the process, in an empty directory.

        It shares nothing with the child that answered the requests before, which ends. The module calls
        `answer_in_children`.

        Raises:
            ExportError: The process has ended.
        """
        self.end()
        place = self._places / str(next(self._numbers))
        place.mkdir()
        self._has_child = True
        self.tell(_BEGIN, place=str(place))

    def end(self) -> None:
        """Lets the child end that answered the requests so far, with all that it holds; the process goes on.

        Raises:
            ExportError: The process has ended.
        """
        if self._has_child:
            self._has_child = False
            self.tell(_END)

    def wait_until_ready(self) -> None:
        """Waits until it has imported what it needs and begun, so that this is no part of what is asked next.

        Raises:
            ExportError: The process has ended.
        """
        self.begin()
        while self._awaited:
            if self._replies.get() is None:
                raise self._describe_death(_BEGIN)
            self._awaited.popleft()

    def tell(self, request: str, **arguments: object) -> None:
        """Sends a request whose reply nobody will ask for; see `send`."""
        self._write(request, arguments, awaited=False)

    def send(self, request: str, **arguments: object) -> None:
        """Sends a request without waiting for its reply.

        Args:
            request: Its name.
            **arguments: What it takes; anything that JSON can say.

        Raises:
            ExportError: The process has ended.
        """
        self._write(request, arguments, awaited=True)

    def _write(self, request: str, arguments: dict[str, object], awaited: bool) -> None:
        try:
            self._requests.write(json.dumps({"request": request, **arguments}) + "\n")
            self._requests.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._describe_death(request) from error
        self._awaited.append(awaited)

    def receive(self, request: str, timeout: float | None) -> dict[str, Any]:
        """Waits for the reply to the oldest request that has none yet.

        Args:
            request: The name of that request, for the messages.
            timeout: Seconds to wait; None for as long as the process lives.

        Returns:
            The reply. A request that raised in the process replies with `error`.

        Raises:
            ExportError: The process died, or did not reply in time.
        """
        while True:
            try:
                line = self._replies.get(timeout=timeout)
            except queue.Empty:
                raise ExportError(
                    f"{self._role} did not answer `{request}` within {timeout:.0f} seconds; nothing was "
                    f"published. {self._remedy}"
                ) from None
            if line is None:
                raise self._describe_death(request)
            if self._awaited.popleft():
                reply: dict[str, Any] = json.loads(line)
                return reply

    def ask(self, request: str, timeout: float | None, **arguments: object) -> dict[str, Any]:
        """Sends a request and waits for its reply; see `send` and `receive`."""
        self.send(request, **arguments)
        return self.receive(request, timeout)

    def describe_end(self) -> str:
        """Returns how the process ended, such as `was ended by signal 9`; it waits for that."""
        try:
            code: int | None = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            code = None
        return f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"

    def read_last_words(self) -> str:
        """Returns the end of what the process wrote to its standard error."""
        self._complaints.seek(0)
        return self._complaints.read().decode("utf-8", errors="replace").strip()[-_LAST_WORDS_CHARACTERS:]

    def _describe_death(self, request: str) -> ExportError:
        return ProcessEndedError(
            f"{self._role} {self.describe_end()} at `{request}`; nothing was published. Signal 9 usually means "
            "that memory ran out. Its last words were:",
            *(f"  {line}" for line in (self.read_last_words() or "(none)").splitlines()),
        )

    def interrupt(self, seconds: float = 30.0) -> None:
        """Ends the process as Ctrl-C does, so that it can clean up; after some time, for good.

        Args:
            seconds: That time.
        """
        if self._process.poll() is None:
            # What a script runs in the background ignores Ctrl-C, and so does whatever it starts.
            is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            self._process.send_signal(signal.SIGTERM if is_ignored else signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.close()

    def close(self) -> None:
        """Ends the process and waits for it."""
        if self._process.poll() is None:
            # It holds nothing that must be kept: ending it saves the second that unloading TensorFlow takes.
            self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._requests, self._output, self._complaints):
            try:
                stream.close()
            except BrokenPipeError:  # a request that was still buffered when the process ended
                continue
        shutil.rmtree(self._places, ignore_errors=True)

    def abandon(self) -> None:
        """Lets go of the process in a fork of the one that started it, without a word to either.

        The fork holds the pipes too, and the process would outlive its parent for as long as the fork lives.
        """
        nothing = os.open(os.devnull, os.O_RDWR)
        # Not closed: threads of the parent that do not run here may have locked the streams above them.
        for stream in (self._requests, self._output, self._complaints):
            os.dup2(nothing, stream.fileno())
        os.close(nothing)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _write_path() -> str:
    """Writes where this process imports from, as a new one takes it, wherever that works."""
    return os.pathsep.join(map(os.path.abspath, sys.path))


def read_surroundings() -> tuple[str, Mapping[str, str]]:
    """Gives what a process would be started with now: where it imports from, and its environment."""
    return _write_path(), dict(os.environ)


def answer_requests(service: object) -> None:
    """Answers requests in the fresh process, until its standard input closes or it is interrupted.

    Args:
        service: Has a public method for each request; it takes the request's arguments and returns the reply. One
            that raises is answered with the first line of its error.
    """
    requests, replies = _take_pipes()
    raise_endings()
    with suppress(KeyboardInterrupt):
        for line in requests:
            _reply(replies, _answer(service, json.loads(line)))


def answer_in_children(make_service: Callable[[], object]) -> None:
    """Answers requests like `answer_requests`, each run of them between `begin` and `end` in a child of its own.

    Call it while this process has one thread, and before TensorFlow made its devices: both do not survive a fork. A
    child that ends in another way takes this process with it, so that whoever asked sees how.

    Args:
        make_service: Makes the service of one child.
    """
    requests, replies = _take_pipes()
    with suppress(KeyboardInterrupt):
        for line in requests:
            ours, theirs = socket.socketpair()
            child = os.fork()
            if child == 0:
                ours.close()
                _be_child(json.loads(line)["place"], make_service, requests, replies, theirs)
            theirs.close()
            _, status = os.waitpid(child, 0)
            with ours:
                if not _has_ended(ours):
                    _end_like(status)


def _be_child(
    place: str, make_service: Callable[[], object], requests: io.FileIO, replies: IO[str], parent: socket.socket
) -> NoReturn:
    """Answers requests until one says that it was the last, and tells the parent so."""
    code = 1
    try:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        os.chdir(place)
        service = make_service()
        _reply(replies, {})
        code = 0
        for line in requests:
            arguments = json.loads(line)
            if arguments["request"] == _END:
                parent.send(b".")
                _reply(replies, {})
                break
            _reply(replies, _answer(service, arguments))
    except KeyboardInterrupt:
        code = 0
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        # Nothing of it must be kept: unloading TensorFlow would take a second.
        sys.stderr.flush()
        os._exit(code)


def _end_with(parent: socket.socket) -> None:
    """Ends this process when its parent is gone, however that ended and whatever this one is doing."""
    parent.recv(1)
    os._exit(0)


def _has_ended(child: socket.socket) -> bool:
    """Tells whether a child that is gone answered the request that was to be its last."""
    child.setblocking(False)  # what the child has started may still hold the other end
    try:
        return bool(child.recv(1))
    except BlockingIOError:
        return False


def _end_like(status: int) -> NoReturn:
    """Ends this process as its child did."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def _take_pipes() -> tuple[io.FileIO, IO[str]]:
    """Takes the two pipes away from whatever prints or reads, in Python or below it.

    The requests are not buffered: what this process has not asked for is left for its children and its parent.
    """
    requests = io.FileIO(os.dup(0))
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return requests, replies


def _reply(replies: IO[str], reply: dict[str, object]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


def _answer(service: object, arguments: dict[str, Any]) -> dict[str, Any]:
    method: Callable[..., dict[str, Any]] = getattr(service, arguments.pop("request"))
    try:
        return method(**arguments)
    except Exception as error:  # it is no fault of this process: the other side names it and stops
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
        # Where a graph fails, the place comes first: a heading, the stack, the reason, and the name of the node.
        text = lines[0] if not lines[0].startswith("Graph execution error") else lines[-2]
        traceback.print_exc()  # among this process's complaints, which are shown if it dies
        # Keras adds the configuration of what it cannot find, which is as long as the model is large.
        told = f"{type(error).__name__}: {text.partition(' Full object config')[0]}"
        is_own = bool(find_own_place(error))
        return {"error": describe_failure(error), "is_own": True} if is_own else {"error": told}


def count_bytes(path: Path) -> int:
    """Counts the bytes of a file, or of all files of a directory."""
    return sum(each.stat().st_size for each in (path, *path.rglob("*")) if each.is_file())


def wait_seconds(size: int) -> float:
    """Returns how long a request may take that has to read an artifact of `size` bytes.

    A slow disk gives 20 MB a second; building the graphs of a large model takes minutes.
    """
    return 600.0 + size / 20e6
