"""Several processes of one run: where one of them is lost, the others end as well, with one sentence.

They would wait for it forever, or for minutes and then end by the messages of several libraries. So process 0 listens,
the others stay connected with it, and whoever is done says so. A connection that closes before that is a process which
was lost: the system closes those of a process that is killed at once, and asks about those of a host that is silent.
A thread watches, for the main thread waits inside of a collective operation.
"""

import contextlib
import selectors
import socket
import threading
from collections.abc import Mapping

from runtime import signals

# The exit status of a process that another one has left alone.
STATUS = 1
_DONE, _LOST = b"done", b"lost"
_PATIENCE_SECONDS = 60.0
# What follows from the loss of a process can be noticed before the loss itself.
_SETTLING_SECONDS = 1.0
# A host is lost that has not answered for so many seconds, then so many questions at this distance.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class _State:
    """The connections by the number of the process at the other end; `count` is that of all processes."""

    def __init__(self) -> None:
        self.connections: dict[int, socket.socket] = {}
        self.count = 1
        self.lost = threading.Event()


_state = _State()


def listen() -> socket.socket:
    """Return the socket at which process 0 waits for the others; its port is chosen by the system."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def accept(server: socket.socket, count: int) -> None:
    """Wait until the other processes of `count` have called `connect`, and watch them from now on; raises OSError."""
    connections = {}
    with server:
        server.settimeout(_PATIENCE_SECONDS)
        for _ in range(count - 1):
            connection, _ = server.accept()
            connection.settimeout(_PATIENCE_SECONDS)
            connections[int.from_bytes(connection.recv(4), "big")] = connection
    _watch(connections, count)


def connect(host: str, port: int, number: int, count: int) -> None:
    """Connect process `number` with process 0, which listens there, and watch it from now on; raises OSError."""
    connection = socket.create_connection((host, port), timeout=_PATIENCE_SECONDS)
    connection.sendall(number.to_bytes(4, "big"))
    _watch({0: connection}, count)


def leave() -> None:
    """Tell the other processes that this one is done; does nothing in a run of one process."""
    for connection in _state.connections.values():
        with contextlib.suppress(OSError):
            connection.sendall(_DONE)


def settle() -> None:
    """Wait for the end of this process where another one is lost; errors that follow from that are not to be reported.

    Does nothing in a run of one process.
    """
    if _state.connections and _state.lost.wait(_SETTLING_SECONDS):
        threading.Event().wait(_PATIENCE_SECONDS)


def _watch(connections: Mapping[int, socket.socket], count: int) -> None:
    for connection in connections.values():
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            if hasattr(socket, name):  # not all systems can be told how often to ask
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    _state.connections, _state.count = dict(connections), count
    threading.Thread(target=_read_all, args=(dict(connections),), daemon=True, name="other processes").start()


def _read_all(connections: dict[int, socket.socket]) -> None:
    with selectors.DefaultSelector() as selector:
        for number, connection in connections.items():
            selector.register(connection, selectors.EVENT_READ, number)
        while selector.get_map():
            for key, _ in selector.select():
                try:
                    said = key.fileobj.recv(8)
                except OSError:
                    said = b""
                if said.startswith(_DONE):
                    selector.unregister(key.fileobj)
                else:
                    _end(int.from_bytes(said[len(_LOST) :], "big") if said.startswith(_LOST) else key.data)


def _end(number: int) -> None:
    _state.lost.set()
    for connection in _state.connections.values():
        with contextlib.suppress(OSError):
            connection.sendall(_LOST + number.to_bytes(4, "big"))
    signals.end_now(
        f"process {number} of {_state.count} has ended before the run was complete; start the same command again for "
        "all processes to go on from the last complete checkpoint",
        STATUS,
    )
