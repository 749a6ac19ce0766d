"""A real S3 API on loopback, which can be told to fail."""

import io
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]

_REFUSALS = {
    403: ("AccessDenied", "403 Forbidden"),
    500: ("InternalError", "500 Internal Server Error"),
    503: ("SlowDown", "503 Slow Down"),
}


@dataclass
class ObjectStore:
    """The server.

    Attributes:
        endpoint: Its URL.
        application: What answers.
        requests: The method and the path of each request.
        refuses: Whether a request, by its number, method and path, is answered by `refusal`.
        refusal: 503 or 500, which are tried again, or 403, which is not.
        pauses: How many seconds a request waits for its answer, by its number, method and path.
        spoils: Whether other bytes arrive than were sent, by the request's method and path.
    """

    endpoint: str
    application: Application
    requests: list[tuple[str, str]] = field(default_factory=list)
    refuses: Callable[[int, str, str], bool] = lambda number, method, path: False
    refusal: int = 503
    pauses: Callable[[int, str, str], float] = lambda number, method, path: 0.0
    spoils: Callable[[str, str], bool] = lambda method, path: False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        if self.refuses(len(self.requests), method, path):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            code, words = _REFUSALS[self.refusal]
            start_response(words, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>{words}</Message></Error>".encode()]
        time.sleep(self.pauses(len(self.requests), method, path))
        if self.spoils(method, path):
            environ["wsgi.input"] = io.BytesIO(bytes(len(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))))
            # They arrived well, and were spoiled later.
            for name in [name for name in environ if name.startswith("HTTP_X_AMZ_CHECKSUM")]:
                del environ[name]
        return self.application(environ, start_response)

    def list_sent(self) -> list[str]:
        """Returns the paths of the objects that were sent, in order."""
        return [path for method, path in self.requests if method == "PUT"]

    def forget(self) -> None:
        """Begins to record anew, and refuses nothing."""
        self.requests.clear()
        self.refuses = lambda number, method, path: False
        self.refusal = 503
        self.pauses = lambda number, method, path: 0.0
        self.spoils = lambda method, path: False


@contextmanager
def serve_objects() -> Iterator[ObjectStore]:
    """Runs the server in a thread of this process."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from s3fs import S3FileSystem
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        def handle_expect_100(self) -> bool:
            # Werkzeug and Python's server below it would say "continue" each. The second one may arrive when the body
            # is sent, where aiohttp takes it for an answer that begins, and forgets the client's time limit.
            return True

    store = ObjectStore("", DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=Handler)
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
