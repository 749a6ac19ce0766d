"""The API of Google Cloud Storage on loopback."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import HTTPServer
from typing import Any


@contextmanager
def serve_google(bucket: str) -> Iterator[str]:
    """Runs the server in a thread of this process.

    The emulator ignores `ifGenerationMatch=0`, by which Google's API lets only one make an object
    (https://cloud.google.com/storage/docs/request-preconditions), so that is added to it here.

    Args:
        bucket: That there is.

    Yields:
        The value of STORAGE_EMULATOR_HOST.
    """
    from gcp_storage_emulator.exceptions import NotFound
    from gcp_storage_emulator.handlers.buckets import create_bucket
    from gcp_storage_emulator.server import RequestHandler
    from gcp_storage_emulator.storage import Storage
    from gcsfs import GCSFileSystem

    class Server(HTTPServer):
        only_new = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that needs no answer any more is no error."""
            if not isinstance(sys.exc_info()[1], ConnectionError):
                super().handle_error(request, client_address)

    class Handler(RequestHandler):
        def do_POST(self) -> None:
            server.only_new = "ifGenerationMatch=0" in self.path
            try:
                super().do_POST()
            except FileExistsError:
                self.send_response(412)
                self.send_header("Content-Length", "0")
                self.end_headers()

    class Objects(Storage):
        def create_file(self, bucket: str, name: str, *others: Any) -> None:
            if server.only_new:
                with suppress(NotFound):
                    self.get_file_obj(bucket, name)
                    raise FileExistsError
            super().create_file(bucket, name, *others)

    storage = Objects(use_memory_fs=True)
    server = Server(("127.0.0.1", 0), partial(Handler, storage))  # one request after the other
    create_bucket(bucket, storage)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    for name in ("gcp_storage_emulator", "api"):  # a line for what is asked for and is not there
        logging.getLogger(name).setLevel(logging.CRITICAL)
    GCSFileSystem.clear_instance_cache()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        GCSFileSystem.clear_instance_cache()
        server.shutdown()
        server.server_close()
        thread.join()
