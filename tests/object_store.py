"""A real S3 API on loopback, which can be told to fail."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


@dataclass
class ObjectStore:
    """The server.

    Attributes:
        endpoint: Its URL.
        application: What answers.
        requests: The method and the path of each request.
        refuses: Whether a request, by its number, method and path, is answered by `refusal`.
        refusal: 503, which is tried again, or 403, which is not.
    """

    endpoint: str
    application: Application
    requests: list[tuple[str, str]] = field(default_factory=list)
    refuses: Callable[[int, str, str], bool] = lambda number, method, path: False
    refusal: int = 503

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        if self.refuses(len(self.requests), method, path):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            code, words = ("SlowDown", "503 Slow Down") if self.refusal == 503 else ("AccessDenied", "403 Forbidden")
            start_response(words, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>{words}</Message></Error>".encode()]
        return self.application(environ, start_response)

    def list_sent(self) -> list[str]:
        """Returns the paths of the objects that were sent, in order."""
        return [path for method, path in self.requests if method == "PUT"]

    def forget(self) -> None:
        """Begins to record anew, and refuses nothing."""
        self.requests.clear()
        self.refuses = lambda number, method, path: False
        self.refusal = 503


@contextmanager
def serve_objects() -> Iterator[ObjectStore]:
    """Runs the server in a thread of this process."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from s3fs import S3FileSystem
    from werkzeug.serving import make_server

    store = ObjectStore("", DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, store, threaded=True)
    store.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    # A file system that was made for another server would be taken again: the endpoint is no argument of it.
    S3FileSystem.clear_instance_cache()
    try:
        yield store
    finally:
        S3FileSystem.clear_instance_cache()
        server.shutdown()
        server.server_close()
        thread.join()
