"""The plain client: `Flux`, `Watch`, `Lease`. Each call blocks its thread.

A `Flux` may be used by several threads. A watch is read by one, and may be closed by another.
"""

from __future__ import annotations

import logging
import random
import socket as socket_names
import ssl
import threading
import time
import weakref
from collections.abc import Iterator, Iterable, Mapping, Sequence
from contextlib import closing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, overload

import httpx2
from websockets.sync.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from ._core import PATIENT_RETRY_AFTER_MAX, Attempt, Call, Core, Page, Reply, Results, Time
from ._core import is_outage
from ._errors import ClosedError, FluxError, LeaseLostError, UnreachableError
from ._lease import CLAIM_PAUSE_MAX, LeaseCore
from ._settings import settings
from ._sockets import TRANSPORT_ERRORS, Sockets, Transport, is_proxied, proxy_of
from ._types import Entity, Event, Expect, Members, NewEvent, Number, Published, new_event
from ._watch import (
    CLOSE_TIMEOUT,
    OPEN_TIMEOUT,
    PING,
    Again,
    EntityUpdate,
    EventUpdate,
    WatchCore,
    WatchOptions,
    host_and_port,
    refusal,
    socket_options,
    socket_url,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")
U = TypeVar("U")
_log = logging.getLogger("flux_client")
# Inside of the client, `list` is its call.
_Published = list[Published]
_Parts = list[bytes]
_Watches = list["Watch[Any]"]
_Leases = list["Lease"]


class Flux:
    """A Flux server.

    `url`, `token` and `ca_file` (of `https`) default to FLUX_URL, FLUX_TOKEN and FLUX_CA_FILE.
    `source` and `stream` are those of events that name none. With `decimal`, numbers with a fraction
    or exponent come as `Decimal`, digit for digit. A call that gets no answer, or 429 or 503 with
    `Retry-After`, is repeated for `retry_for` seconds; no write counts twice for that.

    Calls raise `FluxError`: `ConflictError` for a condition that does not hold, `UnreachableError`
    if there was no answer.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        source: str | None = None,
        stream: str = "events",
        decimal: bool = False,
        retry_for: float = 30.0,
        ca_file: str | None = None,
    ) -> None:
        self._settings = settings(url, token, source, ca_file)
        self._core = Core(stream, self._settings.source, decimal, retry_for)
        self._closed = threading.Event()
        # For the two that follow, which must not grow while `close` goes over them, and for the
        # threads of leases.
        self._lock = threading.Lock()
        self._watches: weakref.WeakSet[Watch[Any]] = weakref.WeakSet()
        self._leases: weakref.WeakSet[Lease] = weakref.WeakSet()
        self._sockets = Sockets()
        self._http = httpx2.Client(
            base_url=self._settings.url,
            headers=self._settings.headers,
            transport=Transport(self._sockets, self._settings.tls, proxy_of(self._settings.url)),
        )

    def __enter__(self) -> Flux:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the client: its watches end, its calls raise ClosedError, its leases are renewed no
        longer."""
        self._closed.set()
        self._sockets.end()
        with self._lock:
            watches, leases = _Watches(self._watches), _Leases(self._leases)
        end = time.monotonic() + CLOSE_TIMEOUT
        for watch in watches:
            if time.monotonic() > end:
                # This server does not answer.
                watch._sockets.end()
            watch.close()
        for lease in leases:
            lease._stop()
        self._http.close()

    def _run(self, call: Call[T]) -> T:
        try:
            attempt = next(call)
            while True:
                if self._closed.wait(attempt.wait):
                    call.throw(ClosedError())
                answer = self._answer(attempt)
                if isinstance(answer, Exception) and self._closed.is_set():
                    call.throw(ClosedError())
                attempt = call.send(answer)
        except StopIteration as end:
            return cast(T, end.value)

    def _answer(self, attempt: Attempt) -> Reply | Exception:
        end = time.monotonic() + attempt.timeout
        # The library counts for each step anew: a connection first, then each read.
        timeout = httpx2.Timeout(attempt.timeout / 4, read=attempt.timeout * 3 / 4)
        try:
            with self._http.stream(
                attempt.method, attempt.target, content=attempt.body, timeout=timeout
            ) as response:
                parts: _Parts = []
                for part in response.iter_bytes():
                    parts.append(part)
                    if time.monotonic() > end:
                        return TimeoutError(f"no whole answer within {attempt.timeout} s")
        except TRANSPORT_ERRORS as error:
            return error
        except (RuntimeError, OSError) as error:
            # What a client that is closed meanwhile leads to.
            if self._closed.is_set():
                return error
            raise
        return Reply(response.status_code, response.headers, b"".join(parts))

    def get(self, entity_id: str, *, fields: Sequence[str] | None = None) -> Entity | None:
        """The entity, with only the properties in `fields` if given, or None if there is none."""
        return self._run(self._core.get(entity_id, fields, None))

    def at(
        self, entity_id: str, when: Time, *, fields: Sequence[str] | None = None
    ) -> Entity | None:
        """The entity as it was at a time (with a zone; RFC 3339 text; Unix milliseconds), or None."""
        return self._run(self._core.get(entity_id, fields, when))

    def list(
        self,
        *,
        prefix: str | None = None,
        namespace: str | None = None,
        filter: str | None = None,
        fields: Sequence[str] | None = None,
        at: Time | None = None,
    ) -> Iterator[Entity]:
        """The entities by id, page by page as they are asked for.

        `filter` is as in `eq(status,"open")`. The pages are no single moment, unless `at` names one.
        """
        params = self._core.list_params(prefix, namespace, filter, fields, at)
        for page in self._pages("/api/state/entities", params):
            for entity in page.rows:
                yield entity

    def history(
        self,
        entity_id: str | None = None,
        *,
        namespace: str | None = None,
        since: Time | None = None,
        until: Time | None = None,
        limit: int | None = None,
    ) -> Iterator[Event]:
        """The stored events of an entity or a namespace, newest first, page by page, at most `limit`.

        Raises 410 `history_removed` where retention has removed what comes next.
        """
        params = self._core.history_params(entity_id, namespace, since, until, limit)
        left = limit
        for page in self._pages("/api/events", params):
            for event in page.rows[:left]:
                yield event
            left = None if left is None else left - len(page.rows)
            if left is not None and left <= 0:
                return

    def _pages(self, path: str, params: Mapping[str, str]) -> Iterator[Page]:
        next_params: Mapping[str, str] | None = params
        while next_params is not None:
            page = self._run(self._core.page(path, next_params))
            yield page
            next_params = page.next_params

    def publish(
        self,
        event: NewEvent | str,
        properties: Mapping[str, Any] | None = None,
        **members: Unpack[Members],
    ) -> Published:
        """Stores an event: an entity's id, its properties, and members of `NewEvent` by name.

        `publish("shop/order-1", {"status": "paid"}, expect={"properties": {"status": "open"}})`
        """
        return self._run(self._core.publish(new_event(event, properties, members)))

    @overload
    def publish_many(
        self, events: Iterable[NewEvent], *, atomic: Literal[True]
    ) -> _Published: ...
    @overload
    def publish_many(
        self, events: Iterable[NewEvent], *, atomic: Literal[False] = False
    ) -> Results: ...
    @overload
    def publish_many(
        self, events: Iterable[NewEvent], *, atomic: bool
    ) -> _Published | Results: ...
    def publish_many(
        self, events: Iterable[NewEvent], *, atomic: bool = False
    ) -> _Published | Results:
        """Stores events in their order, in as many requests as it takes.

        Each is decided by itself: a result is a `Published`, or the error of that event, which is not
        published again (`rate_limited` too). If a request fails, the error has `results` and `events`. With
        `atomic` all are stored or none is, in one request: at most 1,000, of one namespace.
        """
        if atomic:
            return self._run(self._core.publish_atomic(events))
        return self._run(self._core.publish_many(events))

    def increment(
        self, entity_id: str, name: str, by: Number = 1, *, event_id: str | None = None
    ) -> Any:
        """Adds to a number, exactly, and returns the sum. An absent property counts as 0.

        Returns None, with the number counted, if the token may not read the namespace.
        """
        return self._run(self._core.increment(entity_id, name, by, event_id))

    def delete(
        self, entity_id: str, *, expect: Expect | None = None, event_id: str | None = None
    ) -> Published | None:
        """Deletes the entity, or returns None if there is none.

        Raises ConflictError if `expect` is given and does not hold.
        """
        return self._run(self._core.delete(entity_id, expect, event_id))

    @overload
    def watch(
        self,
        pattern: str = "*",
        *,
        mode: Literal["entity"] = "entity",
        properties: Sequence[str] | None = None,
        filter: str | None = None,
        max_hz: float | None = None,
        give_up_after: float | None = None,
        exact: bool = False,
    ) -> Watch[EntityUpdate]: ...
    @overload
    def watch(
        self,
        pattern: str = "*",
        *,
        mode: Literal["event"],
        properties: Sequence[str] | None = None,
        since: str | None = None,
        snapshot: bool = False,
        give_up_after: float | None = None,
        exact: bool = False,
    ) -> Watch[EventUpdate]: ...
    def watch(
        self, pattern: str = "*", *, mode: Literal["entity", "event"] = "entity", **options: Any
    ) -> Watch[EntityUpdate] | Watch[EventUpdate]:
        """Follows an entity, the ids that begin alike (`shop/*`) or everything (`*`).

        With `exact` the pattern is an id, also if it ends in `*`.

        Mode `entity` yields a `Snapshot`, then each `Change` and `Deleted`; `Watch.entities` is
        the state. Changes of an entity are merged if they come faster than they are read.
        Mode `event` yields every `Event` once, in order: from now on, from the cursor `since`, or
        after a `snapshot`.

        A connection that breaks is made again, with pauses of up to 10 s, and goes on where it was.
        If the server can't tell what was missed, a `Reset` and a new `Snapshot` come. An outage of
        `give_up_after` seconds raises UnreachableError; without it the watch goes on trying.
        """
        return Watch(self, WatchOptions(pattern, mode, **options))

    def lease(
        self, entity_id: str, *, ttl: float = 10.0, properties: Mapping[str, Any] | None = None
    ) -> Lease:
        """A lease on an id, not yet claimed. `with` claims it, waiting as long as it takes.

        It is an entity with the property `holder`, and further `properties`, that expires after `ttl`
        seconds; it is renewed in the background. What must not happen without the lease goes into
        `batch = [lease.guard(), …]` and `publish_many(batch, atomic=True)`.
        """
        return Lease(self, entity_id, ttl, properties)


class Watch(WatchCore, Generic[U]):
    """What `Flux.watch` returns: an iterator of updates, and a context manager.

    Entering it waits until the subscription is in force. One thread reads it.
    """

    def __init__(self, flux: Flux, options: WatchOptions) -> None:
        super().__init__(flux._settings, options, flux._core.decimal)
        self._socket: ClientConnection | None = None
        self._sockets = Sockets()
        self._closed = threading.Event()
        with flux._lock:
            flux._watches.add(self)
        if flux._closed.is_set():
            self._closed.set()

    def __del__(self) -> None:
        # A loop that was left without closing the watch: its connection has a thread that reads.
        socket = getattr(self, "_socket", None)
        if socket is not None:
            try:
                socket.socket.shutdown(socket_names.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self) -> Watch[U]:
        try:
            while not (self._subscription.acknowledged or self._closed.is_set()):
                self._step()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Watch[U]:
        return self

    def __next__(self) -> U:
        while not self._closed.is_set():
            if self._updates:
                return cast(U, self._updates.popleft())
            self._step()
        self._drop()
        raise StopIteration

    def close(self) -> None:
        """Ends the watch. A thread that waits for an update gets the end of the iteration."""
        self._closed.set()
        self._drop()
        self._sockets.end()

    def _drop(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close()

    def _step(self) -> None:
        """Takes one message, or makes a connection."""
        try:
            socket = self._socket
            if socket is None:
                self._pause()
                self._socket = self._open()
                return
            self._updates.extend(self._subscription.receive(self._message(socket)))
            if self._subscription.ended:
                self._drop()
        except ssl.SSLCertVerificationError as error:
            self.close()
            message = f"the server's certificate is not trusted: {error}"
            raise UnreachableError(None, "unreachable", message) from error
        except (OSError, EOFError, TimeoutError, WebSocketException, Again) as error:
            self._broke(error)
        except FluxError:
            self.close()
            raise

    def _message(self, socket: ClientConnection) -> str | bytes:
        try:
            return socket.recv(self.PING_INTERVAL)
        except TimeoutError:
            socket.send(PING)
            return socket.recv(self.PING_TIMEOUT)

    def _broke(self, error: Exception) -> None:
        if self._closed.is_set():
            return
        try:
            wait = self._subscription.broke(refusal(error), error)
        except FluxError:
            self.close()
            raise
        _log.info("watch of %s: %r", self._subscription.options.pattern, error)
        self._next_attempt = time.monotonic() + wait
        self._drop()

    def _pause(self) -> None:
        """Waits until the next attempt to connect is due, or the watch is closed."""
        self._closed.wait(max(0.0, self._next_attempt - time.monotonic()))

    def _open(self) -> ClientConnection | None:
        if self._closed.is_set():
            return None
        socket = self._connect()
        try:
            if self._closed.is_set():
                socket.close()
                return None
            text, updates = self._subscription.begin()
            self._updates.extend(updates)
            socket.send(text)
        except BaseException:
            socket.close()
            raise
        return socket

    def _connect(self) -> ClientConnection:
        url, options = socket_url(self._settings.url), socket_options(self._settings)
        host, port = host_and_port(url)
        # From version 17 on the library warns if its connections are not entered.
        if is_proxied(url):
            # Only the library knows how. What it waits for ends by its own bounds.
            connection: ClientConnection = connect(url, **options).__enter__()
            return connection
        sock = self._sockets.dial(host, port, OPEN_TIMEOUT)
        try:
            # The library makes another object of the socket for TLS; this one is the same socket.
            with closing(sock.dup()) as same:
                self._sockets.add(same)
                connection = connect(url, sock=sock, **options).__enter__()
        except BaseException as error:
            sock.close()
            # A redirect, which calls don't follow either.
            if isinstance(error, ValueError) and isinstance(error.__cause__, InvalidStatus):
                raise error.__cause__
            raise
        try:
            self._sockets.add(connection.socket)
        except BaseException:
            connection.close()
            raise
        return connection


class Lease(LeaseCore):
    """What `Flux.lease` returns. Leaving `with` raises LeaseLostError if the lease was lost meanwhile.

    `held` says whether it is still surely one's own, `check()` raises if not, and `sequence` rises
    with each holder, for checks elsewhere.
    """

    def __init__(
        self, flux: Flux, entity_id: str, ttl: float, properties: Mapping[str, Any] | None
    ) -> None:
        super().__init__(flux._core, entity_id, ttl, properties)
        self._flux = flux
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        with flux._lock:
            flux._leases.add(self)

    def claim(self, wait: float | None = 0.0) -> bool:
        """Tries to get the lease, for `wait` seconds or (None) until it has it.

        Within that time it also waits for a server that is away. One that is held is renewed.
        From then on a thread renews it until it is released or lost.
        """
        if self.held and self.renew():
            return True
        end = None if wait is None else time.monotonic() + wait
        self._stop()
        while True:
            pause = random.uniform(0.0, CLAIM_PAUSE_MAX)
            is_last = end is not None and time.monotonic() + pause >= end
            try:
                if self._flux._run(self.claim_call()):
                    break
                if is_last:
                    return False
            except FluxError as error:
                pause += min(error.retry_after or 0.0, PATIENT_RETRY_AFTER_MAX)
                is_late = end is not None and time.monotonic() + pause >= end
                if is_last or is_late or not is_outage(error):
                    raise
                _log.info("lease %s: %s", self.entity_id, error)
            if self._flux._closed.wait(pause):
                raise ClosedError
        thread = threading.Thread(target=self._keep, name="flux-lease", daemon=True)
        # `close` finds either no thread, and none begins after it, or one to stop.
        with self._flux._lock:
            if self._flux._closed.is_set():
                raise ClosedError
            self._stopping.clear()
            thread.start()
            self._thread = thread
        return True

    def renew(self) -> bool:
        """Renews the lease now. False if it is another's or gone."""
        return self._flux._run(self.renew_call())

    def release(self) -> bool:
        """Gives the lease back. False if it was no longer this holder's."""
        self._stop()
        return self._flux._run(self.release_call())

    def __enter__(self) -> Lease:
        self.claim(None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.is_released:
            return
        was_held = self.held
        try:
            was_held = self.release() and was_held
        except FluxError as error_of_release:
            self.not_given_back(error_of_release, is_error_of_body=kind is not None)
        if kind is None and not was_held:
            raise LeaseLostError(self.entity_id)

    def _keep(self) -> None:
        while self.held and not self._stopping.wait(self.renewal_pause):
            try:
                self._flux._run(self.keep_call())
            except ClosedError:
                # The lease ends by itself.
                return
            except FluxError as error:
                _log.warning("lease %s can't be renewed: %s", self.entity_id, error)

    def _stop(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            thread.join()
