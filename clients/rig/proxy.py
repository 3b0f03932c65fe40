"""A TCP proxy that breaks each connection after a random number of bytes, by a seed."""

from __future__ import annotations

import random
import socket
import struct
import threading

# A connection is cut after at most so many bytes, of both directions together.
CUT_BYTES_MAX = 60_000
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards to a port of this machine. `is_cutting` may be changed at any time."""

    def __init__(self, port: int, seed: int, cut_bytes_max: int = CUT_BYTES_MAX) -> None:
        self._target = port
        self._random = random.Random(seed)
        self._cut_bytes_max = cut_bytes_max
        self.is_cutting = True
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            left = _Budget(self, self._random.randint(1, self._cut_bytes_max), self._random.random())
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=left.forward, args=(source, sink), daemon=True).start()


class _Budget:
    """The bytes that a connection still has, and how it ends: by a reset or as if it were done."""

    def __init__(self, proxy: Proxy, left: int, end: float) -> None:
        self._proxy = proxy
        self._left = left
        self._is_reset = end < 0.5
        self._lock = threading.Lock()

    def _take(self, count: int) -> int:
        with self._lock:
            if not self._proxy.is_cutting:
                return count
            taken = max(0, min(count, self._left))
            self._left -= count
            return taken

    def forward(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(4096):
                taken = self._take(len(data))
                sink.sendall(data[:taken])
                if taken < len(data):
                    self._proxy.cuts += 1
                    if self._is_reset:
                        sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                        source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    break
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()
