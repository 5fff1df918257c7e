"""A TCP proxy on this machine that can break connections off, or let what is sent vanish."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

_PIECE = 1 << 16


class TcpProxy:
    """Passes bytes on between whoever connects and HOST:PORT, until it is told otherwise."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host.strip("[]"), int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._vanishing = self._closed = False
        self._start(self._accept)

    def reset(self) -> None:
        """Break every connection off with RST, as a machine does whose process was killed."""
        with self._lock:
            broken, self._sockets = self._sockets, []
        for one in broken:
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RD)  # wakes the thread that reads
            one.close()

    def vanish(self) -> None:
        """From now on nothing arrives, on either side, and nobody is told."""
        self._vanishing = True

    def refuse(self) -> None:
        """Break everything off, and let nobody in any more. Idempotent."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self.reset()

    def close(self) -> None:
        """End everything, and wait for its threads."""
        self.refuse()
        for thread in self._threads:
            thread.join()
        self.reset()
        self._listener.close()

    def _start(self, run: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket()
            with self._lock:
                self._sockets += [near, far]
            with contextlib.suppress(OSError):
                far.connect(self._target)
                self._start(self._pass, near, far)
                self._start(self._pass, far, near)

    def _pass(self, begin: socket.socket, end: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := begin.recv(_PIECE):
                if not self._vanishing:
                    end.sendall(piece)
            if not self._vanishing:
                end.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def tcp_proxy(target: str) -> Iterator[TcpProxy]:
    """A proxy before HOST:PORT."""
    proxy = TcpProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
