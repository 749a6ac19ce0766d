"""A fresh Python process that answers requests: the one in which an artifact is proven.

It is started before the model is built, so that it imports TensorFlow while the main process works. This
module itself imports nothing heavy for the same reason.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from types import TracebackType
from typing import IO, Any, Self, cast

from exporter.errors import ExportError

_LAST_WORDS_CHARACTERS = 2000


class FreshProcess:
    """`python -m <module>` at the other end of two pipes; requests and replies are JSON, one a line.

    Use it as a context manager: the process is gone when the block ends. It also ends by itself when its
    standard input closes, so it never outlives its parent.
    """

    def __init__(self, module: str) -> None:
        """Starts the process and returns at once.

        Args:
            module: Dotted name of the module to run; it calls `exporter._prover`'s loop or one like it.
        """
        environment = os.environ.copy()
        environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
        # Two processes share the accelerator: neither may take all of its memory at once.
        environment.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        # What this process can import, the fresh one can: this path alone, so `-P` keeps the directory out that it
        # happens to be started in.
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
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

    def _read_replies(self) -> None:
        for line in self._output:
            self._replies.put(line)
        self._replies.put(None)

    def send(self, request: str, **arguments: Any) -> None:
        """Sends a request without waiting for its reply.

        Args:
            request: Its name.
            **arguments: What it takes; anything that JSON can say.

        Raises:
            ExportError: The process has ended.
        """
        try:
            self._requests.write(json.dumps({"request": request, **arguments}) + "\n")
            self._requests.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._describe_death(request) from error

    def receive(self, request: str, timeout: float) -> dict[str, Any]:
        """Waits for the reply to the oldest request that has none yet.

        Args:
            request: The name of that request, for the messages.
            timeout: Seconds to wait.

        Returns:
            The reply. A request that raised in the process replies with `error`.

        Raises:
            ExportError: The process died, or did not reply in time.
        """
        try:
            line = self._replies.get(timeout=timeout)
        except queue.Empty:
            raise ExportError(
                f"The proof's process did not answer `{request}` within {timeout:.0f} seconds; nothing was published. "
                "Give the proof more time or memory, or export with verify=none."
            ) from None
        if line is None:
            raise self._describe_death(request)
        reply: dict[str, Any] = json.loads(line)
        return reply

    def ask(self, request: str, timeout: float, **arguments: Any) -> dict[str, Any]:
        """Sends a request and waits for its reply; see `send` and `receive`."""
        self.send(request, **arguments)
        return self.receive(request, timeout)

    def _describe_death(self, request: str) -> ExportError:
        try:
            code: int | None = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            code = None
        self._complaints.seek(0)
        words = self._complaints.read().decode("utf-8", errors="replace").strip()[-_LAST_WORDS_CHARACTERS:]
        ending = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        return ExportError(
            f"The proof's process {ending} at `{request}`; nothing was published. Signal 9 usually means that memory "
            f"ran out. Its last words were:\n{words or '(none)'}"
        )

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def wait_seconds(size: int) -> float:
    """Returns how long a request may take that has to read an artifact of `size` bytes.

    A slow disk gives 20 MB a second; building the graphs of a large model takes minutes.
    """
    return 600.0 + size / 20e6
