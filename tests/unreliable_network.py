"""A network on loopback that loses connections: in the middle of what is sent, or of what is answered."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# How many bytes a connection carries, by its number; None for all of them.
Limit = Callable[[int], int | None]


class UnreliableNetwork:
    """A proxy before one server.

    Attributes:
        endpoint: Its URL.
        connections: How many there have been.
        sent: After how many bytes from the client a connection is reset.
        received: After how many bytes from the server a connection is reset.
    """

    def __init__(self, port: int) -> None:
        """Listens; `port` is that of the server."""
        self._to = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self.sent: Limit = lambda number: None
        self.received: Limit = lambda number: None

    def serve(self) -> None:
        """Takes connections until the listener is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                number, self.connections = self.connections, self.connections + 1
                server = socket.create_connection(self._to)
                for source, target, limit in (
                    (client, server, self.sent(number)),
                    (server, client, self.received(number)),
                ):
                    threading.Thread(target=_carry, args=(source, target, client, limit), daemon=True).start()

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _carry(source: socket.socket, target: socket.socket, client: socket.socket, left: int | None) -> None:
    with suppress(OSError):
        while content := source.recv(1 << 16):
            target.sendall(content if left is None else content[:left])
            if left is not None and (left := left - len(content)) <= 0:
                # Closed like this, a socket sends a reset and no farewell.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                for each in (source, target):
                    each.shutdown(socket.SHUT_RD)  # wakes the one who carries the other way
                    each.close()
                return
        target.shutdown(socket.SHUT_WR)
    if target is client:  # a server that has ended has answered
        source.close()
        client.close()


@contextmanager
def lose_connections(port: int) -> Iterator[UnreliableNetwork]:
    """Runs the proxy in threads of this process."""
    network = UnreliableNetwork(port)
    thread = threading.Thread(target=network.serve, daemon=True)
    thread.start()
    try:
        yield network
    finally:
        network.close()
        thread.join()
