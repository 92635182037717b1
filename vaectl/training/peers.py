"""The processes of a training run that are on one machine, and the sockets by which they talk."""

import os
import pickle
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BufferedRandom, BytesIO
from typing import Any, TypeVar, cast

from vaectl.base.processes import local_rank, local_world_size

T = TypeVar("T")

HEADER_BYTES = 8  # the length of a value
MAX_FILES = 16  # in one value


@dataclass(frozen=True)
class Peers:
    """The processes of one machine. The first has a socket to each other one; the others have one to the first.

    Each process calls the same methods in the same order.

    Raises:
        ConnectionError: another process ended.
    """

    is_first: bool = True
    sockets: Sequence[socket.socket] = ()
    size: int = 1

    def barrier(self) -> None:
        """Wait for all: each tells the first one that it is here, which tells all to go on.

        If all come at once, this takes 12 µs; a message of gloo takes 200.
        """
        for act in (receive, send) if self.is_first else (send, receive):
            for connection in self.sockets:
                act(connection)

    def share(self, value: T) -> T:
        """The value of the first process. Files in it are open in all, as the same ones."""
        if not self.is_first:
            return cast(T, receive_value(self.sockets[0]))
        for connection in self.sockets:
            send_value(connection, value)
        return value


ALONE_HERE = Peers()


def connect_peers(rank: int, gather: Callable[[str], Sequence[str]]) -> Peers:
    """Connect the processes of this machine; `gather` returns the values of all processes, by rank."""
    size, is_first = local_world_size(), local_rank() == 0
    with tempfile.TemporaryDirectory(prefix="vaectl-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = os.path.join(folder, "socket")
        if is_first:
            listener.bind(path)
            listener.listen(size)
        path = gather(path)[rank - local_rank()]
        if is_first:
            sockets = [listener.accept()[0] for _ in range(size - 1)]
        else:
            sockets = [socket.socket(socket.AF_UNIX)]
            sockets[0].connect(path)
        gather("")  # all have connected before the folder is removed
    return Peers(is_first, sockets, size)


def send(connection: socket.socket) -> None:
    """Send a byte; raises ConnectionError if the other process has ended."""
    connection.send(b"\0")


def receive(connection: socket.socket) -> None:
    """Wait for a byte; raises ConnectionError if the other process has ended."""
    if not connection.recv(1):
        raise ConnectionError


class Pickler(pickle.Pickler):
    """Pickles a value whose files are sent beside it."""

    def __init__(self, stream: BytesIO) -> None:
        super().__init__(stream)
        self.files: list[int] = []

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, BufferedRandom):
            return None
        value.flush()
        self.files.append(value.fileno())
        return len(self.files) - 1


class Unpickler(pickle.Unpickler):
    """Reads what `Pickler` wrote, with the files that were sent beside it."""

    def __init__(self, stream: BytesIO, files: Sequence[int]) -> None:
        super().__init__(stream)
        self.files = files

    def persistent_load(self, index: int) -> BufferedRandom:
        return os.fdopen(self.files[index], "r+b")


def send_value(connection: socket.socket, value: Any) -> None:
    """Send a value and the files in it."""
    stream = BytesIO()
    pickler = Pickler(stream)
    pickler.dump(value)
    socket.send_fds(connection, [len(stream.getvalue()).to_bytes(HEADER_BYTES)], pickler.files)
    connection.sendall(stream.getvalue())


def receive_value(connection: socket.socket) -> Any:
    """Receive what `send_value` sent."""
    header, files, *_ = socket.recv_fds(connection, HEADER_BYTES, MAX_FILES)
    size = int.from_bytes(header)
    pickled = connection.recv(size, socket.MSG_WAITALL)
    if not header or len(pickled) < size:
        raise ConnectionError
    return Unpickler(BytesIO(pickled), files).load()
