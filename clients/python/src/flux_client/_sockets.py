"""The sockets of the plain client, at which another thread can end every wait.

Closing a socket does not wake the thread that waits at it: to connect, for a TLS handshake, or for
an answer. `shutdown` does. So all sockets of a client are made here, `Sockets.end` shuts them down,
and none can be made after that. Only the look-up of a name can't be ended.
"""

from __future__ import annotations

import errno
import os
import select
import selectors
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore2
import httpx2

_MAX_BYTES = 1 << 16
# What `connect_ex` of a socket that does not block says if it goes on.
_UNDER_WAY = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, getattr(errno, "WSAEWOULDBLOCK", 0)}
_Sockets = list[socket.socket]
# What a transport raises if no whole answer comes.
TRANSPORT_ERRORS = (
    httpx2.TransportError,
    httpx2.DecodingError,
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
)


def _authority(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def proxy_of(url: str) -> str | None:
    """The URL of the proxy that the environment asks for, as HTTPS_PROXY and NO_PROXY say it."""
    proxies = getproxies()
    proxy = proxies.get(urlsplit(url).scheme) or proxies.get("all")
    if not proxy or proxy_bypass(_authority(url)):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def is_proxied(url: str) -> bool:
    """Whether a WebSocket may go through some proxy of the environment."""
    return len(getproxies().keys() - {"no"}) > 0 and not proxy_bypass(_authority(url))


class Sockets:
    """The sockets that end together. Threads may use it at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._is_ended = False

    def add(self, sock: socket.socket) -> None:
        with self._lock:
            self._add(sock)

    def _add(self, sock: socket.socket) -> None:
        if self._is_ended:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the client is closed")
        self._open.add(sock)

    def end(self) -> None:
        """Wakes all that wait at these sockets, with an error. No socket is made from now on."""
        with self._lock:
            self._is_ended = True
            for sock in _Sockets(self._open):
                try:
                    # That of `SSLSocket` changes what the thread that reads it relies on.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
                except OSError:
                    pass  # It is not connected, or closed.

    def dial(self, host: str, port: int, timeout: float | None) -> socket.socket:
        """A connection to the first address that takes one. `timeout` is in seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        failure: OSError = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            sock = socket.socket(family, kind, protocol)
            try:
                self._connect(sock, address, None if end is None else end - time.monotonic())
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
            except BaseException as error:
                sock.close()
                if self._is_ended or not isinstance(error, OSError):
                    raise
                failure = error
        raise failure

    def _connect(self, sock: socket.socket, address: Any, timeout: float | None) -> None:
        sock.setblocking(False)
        with self._lock:
            # `shutdown` ends an attempt only after it has begun.
            self._add(sock)
            code = sock.connect_ex(address)
        if code in _UNDER_WAY:
            with selectors.DefaultSelector() as selector:
                selector.register(sock, selectors.EVENT_WRITE)
                if not selector.select(None if timeout is None else max(0.0, timeout)):
                    raise TimeoutError(errno.ETIMEDOUT, "the connection did not open in time")
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        sock.setblocking(True)

    def secure(self, sock: socket.socket, tls: ssl.SSLContext, host: str | None) -> ssl.SSLSocket:
        """The socket with TLS. Its timeout holds for each step of the handshake."""
        # A handshake by `wrap_socket` would be at a socket that nobody else has yet.
        secured = tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        try:
            self.add(secured)
            secured.do_handshake()
        except BaseException:
            secured.close()
            raise
        return secured


@contextmanager
def _named(late: type[Exception], failed: type[Exception]) -> Generator[None, None, None]:
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from error
    except OSError as error:
        raise failed(str(error)) from error


class _Stream(httpcore2.NetworkStream):
    def __init__(self, sockets: Sockets, sock: socket.socket) -> None:
        self._sockets = sockets
        self._sock = sock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _named(httpcore2.ReadTimeout, httpcore2.ReadError):
            self._sock.settimeout(timeout)
            return self._sock.recv(min(max_bytes, _MAX_BYTES))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with _named(httpcore2.WriteTimeout, httpcore2.WriteError):
            left = memoryview(buffer)
            while left:
                self._sock.settimeout(timeout)
                left = left[self._sock.send(left) :]

    def close(self) -> None:
        self._sock.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        with _named(httpcore2.ConnectTimeout, httpcore2.ConnectError):
            self._sock.settimeout(timeout)
            try:
                secured = self._sockets.secure(self._sock, ssl_context, server_hostname)
            except BaseException:
                self._sock.close()
                raise
        return _Stream(self._sockets, secured)

    def get_extra_info(self, info: str) -> Any:
        if info == "socket":
            return self._sock
        if info == "is_readable":
            return _is_readable(self._sock)
        return None


def _is_readable(sock: socket.socket) -> bool:
    """Whether something, or the end, has come. So a connection in the pool is known to be over."""
    if sock.fileno() < 0:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([sock], [], [], 0)[0])


class _Backend(httpcore2.NetworkBackend):
    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        with _named(httpcore2.ConnectTimeout, httpcore2.ConnectError):
            return _Stream(self._sockets, self._sockets.dial(host, port, timeout))


class _Body(httpx2.SyncByteStream):
    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


class Transport(httpx2.BaseTransport):
    """HTTP over sockets that end together."""

    def __init__(self, sockets: Sockets, tls: ssl.SSLContext | None, proxy: str | None) -> None:
        given = None if proxy is None else httpx2.Proxy(proxy)
        self._pool = httpcore2.ConnectionPool(
            ssl_context=tls,
            proxy=None if given is None else httpcore2.Proxy(str(given.url), auth=given.raw_auth),
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=_Backend(sockets),
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        response = self._pool.handle_request(
            httpcore2.Request(
                method=request.method,
                url=httpcore2.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx2.Response(response.status, headers=response.headers, stream=_Body(response))

    def close(self) -> None:
        self._pool.close()
