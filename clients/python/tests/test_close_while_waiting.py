"""Closing a client that waits for a server which never answers: to connect, for TLS, for an answer."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from server import Server

from flux_client import AsyncFlux, ClosedError, Flux, Snapshot

# What is left open says so when it is collected.
pytestmark = [pytest.mark.filterwarnings("error")]

# Less than the client waits by itself for anything here.
PATIENCE = 1.5


class Silent:
    """A server that takes connections and never says anything, or does not even take them."""

    def __init__(self, kind: str) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0 if kind == "connect" else 16)
        self._held: list[socket.socket] = []
        port = self._listener.getsockname()[1]
        scheme = "https" if kind == "tls" else "http"
        self.url = f"{scheme}://127.0.0.1:{port}"
        if kind == "connect":
            # The system takes no connection beyond those that nobody has accepted.
            for _ in range(4):
                held = socket.socket()
                held.setblocking(False)
                held.connect_ex(("127.0.0.1", port))
                self._held.append(held)
            self.wait_until_waited_for: Callable[[], object] = lambda: time.sleep(0.2)
        else:
            self.wait_until_waited_for = self._take

    def _take(self) -> None:
        connection, _ = self._listener.accept()
        # The client has sent its request, or the first of the handshake.
        assert connection.recv(1)
        self._held.append(connection)

    def close(self) -> None:
        for held in (*self._held, self._listener):
            held.close()


def wait_for_threads(count: int) -> None:
    """Those that have no more work may take a moment to end."""
    end = time.monotonic() + PATIENCE
    while threading.active_count() > count:
        assert time.monotonic() < end, threading.enumerate()
        time.sleep(0.01)


@pytest.fixture(params=["connect", "tls", "answer"])
def silent(request: pytest.FixtureRequest) -> Iterator[Silent]:
    silent = Silent(request.param)
    yield silent
    silent.close()
    gc.collect()


def get(flux: Flux) -> None:
    with pytest.raises(ClosedError):
        flux.get("a/1")


def claim(flux: Flux) -> None:
    with pytest.raises(ClosedError), flux.lease("a/1"):
        pass


def iterate(flux: Flux) -> None:
    assert list(flux.watch("a/*")) == []


def enter(flux: Flux) -> None:
    with flux.watch("a/*") as watch:
        assert next(watch, None) is None


@pytest.mark.parametrize("work", [get, claim, iterate, enter])
def test_what_waits_for_a_silent_server_ends_with_the_client(
    silent: Silent, work: Callable[[Flux], None]
) -> None:
    before = threading.active_count()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work(flux)
        except BaseException as error:
            failures.append(error)

    with Flux(silent.url, retry_for=600) as flux:
        thread = threading.Thread(target=run)
        thread.start()
        silent.wait_until_waited_for()
        began = time.monotonic()
    thread.join(60)
    assert time.monotonic() - began < PATIENCE
    assert failures == []
    wait_for_threads(before)


async def aget(flux: AsyncFlux) -> None:
    with pytest.raises(ClosedError):
        await flux.get("a/1")


async def aclaim(flux: AsyncFlux) -> None:
    with pytest.raises(ClosedError):
        async with flux.lease("a/1"):
            pass


async def aiterate(flux: AsyncFlux) -> None:
    assert [update async for update in flux.watch("a/*")] == []


async def aenter(flux: AsyncFlux) -> None:
    async with flux.watch("a/*") as watch:
        assert await anext(watch, None) is None


@pytest.mark.parametrize("work", [aget, aclaim, aiterate, aenter])
def test_what_waits_for_a_silent_server_ends_with_the_client_of_asyncio(
    silent: Silent, work: Callable[[AsyncFlux], Any]
) -> None:
    async def run() -> float:
        async with AsyncFlux(silent.url, retry_for=600) as flux:
            task = asyncio.create_task(work(flux))
            await asyncio.to_thread(silent.wait_until_waited_for)
            began = time.monotonic()
        await asyncio.wait_for(task, 60)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return time.monotonic() - began

    assert asyncio.run(run()) < PATIENCE


def test_one_watch_is_closed_alone(silent: Silent) -> None:
    with Flux(silent.url, retry_for=600) as flux:
        watch = flux.watch("a/*")
        thread = threading.Thread(target=lambda: list(watch))
        thread.start()
        silent.wait_until_waited_for()
        began = time.monotonic()
        watch.close()
        thread.join(60)
        assert time.monotonic() - began < PATIENCE


def test_a_client_ends_beside_a_server_that_stands_still(server: Server) -> None:
    before = threading.active_count()
    flux = Flux(server.url)
    watch = flux.watch("still/*")
    assert isinstance(next(watch), Snapshot)
    lease = flux.lease("hold/lease", ttl=60)
    assert lease.claim()
    thread = threading.Thread(target=lambda: list(watch))
    thread.start()
    server.stand_still()
    began = time.monotonic()
    flux.close()
    assert time.monotonic() - began < PATIENCE
    thread.join(60)
    # Neither the reader of the watch nor the thread that renews the lease.
    wait_for_threads(before)


def test_a_client_of_asyncio_ends_beside_a_server_that_stands_still(server: Server) -> None:
    async def run() -> float:
        flux = AsyncFlux(server.url)
        watch = flux.watch("still/*")
        assert isinstance(await anext(watch), Snapshot)
        assert await flux.lease("hold/lease", ttl=60).claim()
        waiting = asyncio.create_task(anext(watch, None))
        await asyncio.sleep(0.1)
        server.stand_still()
        began = time.monotonic()
        await flux.close()
        assert await waiting is None
        took = time.monotonic() - began
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return took

    assert asyncio.run(run()) < PATIENCE


def test_a_client_may_be_closed_at_any_moment(shared: Server) -> None:
    before = threading.active_count()
    draw = random.Random(1)
    failures: list[BaseException] = []

    def call(flux: Flux) -> None:
        while True:
            flux.get("moment/a")

    def watch(flux: Flux) -> None:
        for _ in flux.watch("moment/*"):
            pass

    def hold(flux: Flux) -> None:
        while True:
            with flux.lease("moment/lease", ttl=1):
                pass

    def run(work: Callable[[Flux], None], flux: Flux) -> None:
        try:
            work(flux)
        except ClosedError:
            pass
        except BaseException as error:
            failures.append(error)

    for _ in range(40):
        flux = Flux(shared.url)
        works = [call, call, watch, watch, hold]
        threads = [threading.Thread(target=run, args=(work, flux)) for work in works]
        for thread in threads:
            thread.start()
        time.sleep(draw.uniform(0, 0.05))
        flux.close()
        for thread in threads:
            thread.join(60)
    assert failures == []
    wait_for_threads(before)
    gc.collect()
