"""The client for asyncio: `AsyncFlux`, `AsyncWatch`, `AsyncLease`.

Each call runs a generator of the core and does its I/O. A call, a watch or a wait for a lease may be
cancelled at any await; a watch goes on afterwards without a gap.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import weakref
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, overload

import httpcore2
import httpx2
from anyio import CancelScope, ClosedResourceError, fail_after
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from ._core import PATIENT_RETRY_AFTER_MAX, Attempt, Call, Core, Page, Reply, Results, Time
from ._core import is_outage
from ._errors import ClosedError, FluxError, LeaseLostError, UnreachableError
from ._lease import CLAIM_PAUSE_MAX, GIVE_BACK_TIMEOUT, LeaseCore
from ._settings import settings
from ._types import Entity, Event, Expect, Members, NewEvent, Number, Published
from ._types import new_event, new_event_id
from ._watch import (
    PING,
    Again,
    EntityUpdate,
    EventUpdate,
    WatchCore,
    WatchOptions,
    refusal,
    socket_options,
    socket_url,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")
U = TypeVar("U")
_log = logging.getLogger("flux_client")
_Published = list[Published]
_Watches = list["AsyncWatch[Any]"]
_Leases = list["AsyncLease"]
_Streams = list[httpcore2.AsyncNetworkStream]


class AsyncFlux:
    """A Flux server, for asyncio. `Flux` says what each call does; here each is awaited."""

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
        self._closed = asyncio.Event()
        self._watches: weakref.WeakSet[AsyncWatch[Any]] = weakref.WeakSet()
        self._leases: weakref.WeakSet[AsyncLease] = weakref.WeakSet()
        # Those of the attempts that are under way.
        self._scopes: set[CancelScope] = set()
        self._http = httpx2.AsyncClient(
            base_url=self._settings.url,
            headers=self._settings.headers,
            verify=True if self._settings.tls is None else self._settings.tls,
        )

    async def __aenter__(self) -> AsyncFlux:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the client: its watches end, its calls raise ClosedError, its leases are renewed no
        longer."""
        self._closed.set()
        for scope in self._scopes:
            scope.cancel()
        await asyncio.gather(*(watch.close() for watch in _Watches(self._watches)))
        await asyncio.gather(*(lease._stop() for lease in _Leases(self._leases)))
        await self._http.aclose()

    async def _sleep(self, seconds: float) -> None:
        """Raises ClosedError if the client is closed, at once also if that happens meanwhile."""
        if seconds > 0 and not self._closed.is_set():
            try:
                await asyncio.wait_for(self._closed.wait(), seconds)
            except asyncio.TimeoutError:
                pass
        if self._closed.is_set():
            raise ClosedError

    async def _run(self, call: Call[T]) -> T:
        try:
            attempt = next(call)
            while True:
                try:
                    await self._sleep(attempt.wait)
                    answer = await self._answer(attempt)
                    if isinstance(answer, Exception):
                        await self._sleep(0)
                except ClosedError as error:
                    call.throw(error)
                    raise
                attempt = call.send(answer)
        except StopIteration as end:
            return cast(T, end.value)

    async def _answer(self, attempt: Attempt) -> Reply | Exception:
        # Also what is left if the client is closed meanwhile.
        answer: Reply | Exception = ClosedError()
        try:
            with fail_after(attempt.timeout) as scope:
                self._scopes.add(scope)
                try:
                    response = await self._request(attempt)
                finally:
                    self._scopes.discard(scope)
                answer = Reply(response.status_code, response.headers, response.content)
        except (TimeoutError, httpx2.TransportError, httpx2.DecodingError) as error:
            return error
        except (RuntimeError, OSError, ClosedResourceError) as error:
            # What a client that is closed meanwhile leads to.
            if self._closed.is_set():
                return error
            raise
        return answer

    async def _request(self, attempt: Attempt) -> httpx2.Response:
        # Connections whose handshake of TLS is under way, of which the library closes none if the
        # request is cancelled.
        half_open: _Streams = []

        async def trace(name: str, info: Mapping[str, Any]) -> None:
            if name.endswith(".connect_tcp.complete"):
                half_open.append(info["return_value"])
            elif name.endswith(".start_tls.complete"):
                half_open.clear()

        try:
            return await self._http.request(
                attempt.method,
                attempt.target,
                content=attempt.body,
                timeout=None,
                extensions={} if self._settings.tls is None else {"trace": trace},
            )
        finally:
            for stream in half_open:
                with CancelScope(shield=True):
                    await stream.aclose()

    async def get(self, entity_id: str, *, fields: Sequence[str] | None = None) -> Entity | None:
        return await self._run(self._core.get(entity_id, fields, None))

    async def at(
        self, entity_id: str, when: Time, *, fields: Sequence[str] | None = None
    ) -> Entity | None:
        return await self._run(self._core.get(entity_id, fields, when))

    async def list(
        self,
        *,
        prefix: str | None = None,
        namespace: str | None = None,
        filter: str | None = None,
        fields: Sequence[str] | None = None,
        at: Time | None = None,
    ) -> AsyncIterator[Entity]:
        params = self._core.list_params(prefix, namespace, filter, fields, at)
        async for page in self._pages("/api/state/entities", params):
            for entity in page.rows:
                yield entity

    async def history(
        self,
        entity_id: str | None = None,
        *,
        namespace: str | None = None,
        since: Time | None = None,
        until: Time | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Event]:
        params = self._core.history_params(entity_id, namespace, since, until, limit)
        left = limit
        async for page in self._pages("/api/events", params):
            for event in page.rows[:left]:
                yield event
            left = None if left is None else left - len(page.rows)
            if left is not None and left <= 0:
                return

    async def _pages(self, path: str, params: Mapping[str, str]) -> AsyncIterator[Page]:
        next_params: Mapping[str, str] | None = params
        while next_params is not None:
            page = await self._run(self._core.page(path, next_params))
            yield page
            next_params = page.next_params

    async def publish(
        self,
        event: NewEvent | str,
        properties: Mapping[str, Any] | None = None,
        **members: Unpack[Members],
    ) -> Published:
        return await self._run(self._core.publish(new_event(event, properties, members)))

    @overload
    async def publish_many(
        self, events: Iterable[NewEvent], *, atomic: Literal[True]
    ) -> _Published: ...
    @overload
    async def publish_many(
        self, events: Iterable[NewEvent], *, atomic: Literal[False] = False
    ) -> Results: ...
    @overload
    async def publish_many(
        self, events: Iterable[NewEvent], *, atomic: bool
    ) -> _Published | Results: ...
    async def publish_many(
        self, events: Iterable[NewEvent], *, atomic: bool = False
    ) -> _Published | Results:
        if atomic:
            return await self._run(self._core.publish_atomic(events))
        return await self._run(self._core.publish_many(events))

    async def increment(
        self, entity_id: str, name: str, by: Number = 1, *, event_id: str | None = None
    ) -> Any:
        return await self._run(self._core.increment(entity_id, name, by, event_id))

    async def delete(
        self, entity_id: str, *, expect: Expect | None = None, event_id: str | None = None
    ) -> Published | None:
        return await self._run(self._core.delete(entity_id, expect, event_id))

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
    ) -> AsyncWatch[EntityUpdate]: ...
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
    ) -> AsyncWatch[EventUpdate]: ...
    def watch(
        self, pattern: str = "*", *, mode: Literal["entity", "event"] = "entity", **options: Any
    ) -> AsyncWatch[EntityUpdate] | AsyncWatch[EventUpdate]:
        return AsyncWatch(self, WatchOptions(pattern, mode, **options))

    def lease(
        self, entity_id: str, *, ttl: float = 10.0, properties: Mapping[str, Any] | None = None
    ) -> AsyncLease:
        return AsyncLease(self, entity_id, ttl, properties)


class AsyncWatch(WatchCore, Generic[U]):
    """What `AsyncFlux.watch` returns: an async iterator of updates, and an async context manager.

    Entering it waits until the subscription is in force. One task reads it at a time.
    """

    def __init__(self, flux: AsyncFlux, options: WatchOptions) -> None:
        super().__init__(flux._settings, options, flux._core.decimal)
        self._socket: ClientConnection | None = None
        self._closed = asyncio.Event()
        # That of the attempt to connect that is under way.
        self._opening: CancelScope | None = None
        flux._watches.add(self)
        if flux._closed.is_set():
            self._closed.set()

    def __del__(self) -> None:
        # A loop that was left without closing the watch: its connection has a task that reads.
        socket = getattr(self, "_socket", None)
        if socket is not None:
            try:
                socket.transport.abort()
            except RuntimeError:
                pass  # The event loop has ended.

    async def __aenter__(self) -> AsyncWatch[U]:
        try:
            while not (self._subscription.acknowledged or self._closed.is_set()):
                await self._step()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncWatch[U]:
        return self

    async def __anext__(self) -> U:
        while not self._closed.is_set():
            if self._updates:
                return cast(U, self._updates.popleft())
            await self._step()
        await self._drop()
        raise StopAsyncIteration

    async def close(self) -> None:
        """Ends the watch. A task that waits for an update gets the end of the iteration."""
        self._closed.set()
        if self._opening is not None:
            self._opening.cancel()
        await self._drop()

    async def _drop(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()

    async def _step(self) -> None:
        """Takes one message, or makes a connection. May be cancelled, and called again."""
        try:
            socket = self._socket
            if socket is None:
                await self._pause()
                with CancelScope() as self._opening:
                    self._socket = await self._open()
                self._opening = None
                return
            self._updates.extend(self._subscription.receive(await self._message(socket)))
            if self._subscription.ended:
                await self._drop()
        except ssl.SSLCertVerificationError as error:
            await self.close()
            message = f"the server's certificate is not trusted: {error}"
            raise UnreachableError(None, "unreachable", message) from error
        except (OSError, EOFError, asyncio.TimeoutError, WebSocketException, Again) as error:
            await self._broke(error)
        except FluxError:
            await self.close()
            raise

    async def _message(self, socket: ClientConnection) -> str | bytes:
        try:
            with fail_after(self.PING_INTERVAL):
                return await socket.recv()
        except TimeoutError:
            await socket.send(PING)
            with fail_after(self.PING_TIMEOUT):
                return await socket.recv()

    async def _broke(self, error: Exception) -> None:
        if self._closed.is_set():
            return
        try:
            wait = self._subscription.broke(refusal(error), error)
        except FluxError:
            await self.close()
            raise
        _log.info("watch of %s: %r", self._subscription.options.pattern, error)
        self._next_attempt = asyncio.get_running_loop().time() + wait
        await self._drop()

    async def _pause(self) -> None:
        """Waits until the next attempt to connect is due, or the watch is closed."""
        wait = self._next_attempt - asyncio.get_running_loop().time()
        if wait > 0:
            try:
                await asyncio.wait_for(self._closed.wait(), wait)
            except asyncio.TimeoutError:
                pass

    async def _open(self) -> ClientConnection | None:
        if self._closed.is_set():
            return None
        socket = await connect(
            socket_url(self._settings.url),
            **socket_options(self._settings),
        )
        try:
            if self._closed.is_set():
                await socket.close()
                return None
            text, updates = self._subscription.begin()
            self._updates.extend(updates)
            await socket.send(text)
        except BaseException:
            socket.transport.abort()
            raise
        return socket


class AsyncLease(LeaseCore):
    """What `AsyncFlux.lease` returns; see `Lease`. A task renews it.

    A claim that is cancelled gives back what it may have got, for which it takes 2 s at most.
    """

    def __init__(
        self, flux: AsyncFlux, entity_id: str, ttl: float, properties: Mapping[str, Any] | None
    ) -> None:
        super().__init__(flux._core, entity_id, ttl, properties)
        self._flux = flux
        self._task: asyncio.Task[None] | None = None
        flux._leases.add(self)

    async def claim(self, wait: float | None = 0.0) -> bool:
        loop = asyncio.get_running_loop()
        if self.held and await self.renew():
            return True
        end = None if wait is None else loop.time() + wait
        await self._stop()
        try:
            is_mine = await self._claim_until(end)
        except asyncio.CancelledError:
            if not self.claim_is_open:
                raise
            # The task goes on, for a bounded time, if this one is cancelled again.
            giving_back = loop.create_task(self._give_back())
            await asyncio.wait([giving_back])
            raise
        if not is_mine:
            return False
        self._task = loop.create_task(self._keep())
        return True

    async def _claim_until(self, end: float | None) -> bool:
        loop = asyncio.get_running_loop()
        while True:
            pause = random.uniform(0.0, CLAIM_PAUSE_MAX)
            is_last = end is not None and loop.time() + pause >= end
            try:
                if await self._flux._run(self.claim_call()):
                    return True
                if is_last:
                    return False
            except FluxError as error:
                pause += min(error.retry_after or 0.0, PATIENT_RETRY_AFTER_MAX)
                is_late = end is not None and loop.time() + pause >= end
                if is_last or is_late or not is_outage(error):
                    raise
                _log.info("lease %s: %s", self.entity_id, error)
            await self._flux._sleep(pause)

    async def _give_back(self) -> None:
        """Releases what a cancelled claim may have got."""
        try:
            with fail_after(GIVE_BACK_TIMEOUT):
                await self._flux._run(self.release_call())
        except (FluxError, TimeoutError) as error:
            # The lease ends by itself.
            _log.info("lease %s: %s", self.entity_id, error)
        finally:
            # A release that arrives late must not end a later lease.
            self.holder = new_event_id()

    async def renew(self) -> bool:
        return await self._flux._run(self.renew_call())

    async def release(self) -> bool:
        await self._stop()
        return await self._flux._run(self.release_call())

    async def __aenter__(self) -> AsyncLease:
        await self.claim(None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.is_released:
            return
        was_held = self.held
        try:
            was_held = await self.release() and was_held
        except FluxError as error_of_release:
            self.not_given_back(error_of_release, is_error_of_body=kind is not None)
        if kind is None and not was_held:
            raise LeaseLostError(self.entity_id)

    async def _keep(self) -> None:
        while self.held:
            try:
                await self._flux._sleep(self.renewal_pause)
                await self._flux._run(self.keep_call())
            except ClosedError:
                # The lease ends by itself.
                return
            except FluxError as error:
                _log.warning("lease %s can't be renewed: %s", self.entity_id, error)

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
