"""Watches, over a server that is killed and connections that are cut: the rig.

Changes flow while the server is killed and restarted and a proxy cuts connections at random bytes. At
each quiet point a copy equals the server's state; in mode `event` nothing is missing or twice.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from proxy import Proxy
from server import Server

from flux_client import (
    AsyncFlux,
    Change,
    Deleted,
    Entity,
    Event,
    Flux,
    NewEvent,
    Reset,
    Snapshot,
)

SEED = int(os.environ.get("FLUX_CLIENT_SEED", "1"))
PATIENCE = 60.0


def wait_until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"{what} (seed {SEED})"
        time.sleep(0.01)


def state(flux: Flux) -> dict[str, Entity]:
    return {entity.id: replace(entity, etag=None, cursor=None) for entity in flux.list(prefix="rig/")}


class Copy:
    """What a user makes of the updates of a watch alone, without `Watch.entities`."""

    def __init__(self) -> None:
        self.entities: dict[str, Entity] = {}
        self.resets: list[str] = []
        self.updates = 0

    def take(self, update: Snapshot | Change | Deleted | Reset) -> None:
        self.updates += 1
        if isinstance(update, Snapshot):
            self.entities = dict(update.entities)
        elif isinstance(update, Change):
            self.entities[update.entity.id] = update.entity
        elif isinstance(update, Deleted):
            del self.entities[update.entity_id]
        else:
            self.resets.append(update.reason)


class Writer:
    """Publishes changes of all kinds through the client, and so through what breaks."""

    def __init__(self, flux: Flux) -> None:
        self._flux = flux
        self._random = random.Random(SEED)
        self.count = 0

    def write(self, rounds: int) -> None:
        for _ in range(rounds):
            events = [self._event() for _ in range(20)]
            self._flux.publish_many(events)
            self.count += len(events)

    def _event(self) -> NewEvent:
        draw = self._random
        entity_id = f"rig/{draw.randrange(40)}"
        if draw.random() < 0.1:
            return NewEvent(entity_id, {"__deleted__": True})
        if draw.random() < 0.2:
            return NewEvent(entity_id, unset=["a", "b"])
        name = draw.choice("abcd")
        return NewEvent(entity_id, {name: draw.random(), "pad": "x" * draw.randrange(100)})


def run_rig(server: Server, proxy: Proxy, is_same: Callable[[Flux], bool]) -> int:
    """Three rounds of changes, each with a quiet point after it. Returns the number of changes.

    In the first the server is killed, in the second stopped, in the third it stands still.
    """
    with Flux(proxy.url, retry_for=120) as broken, Flux(server.url) as direct:
        writer = Writer(broken)
        for disturb in (server.kill, server.stop, lambda: server.pause(0.5)):
            proxy.is_cutting = True
            thread = threading.Thread(target=writer.write, args=(30,))
            thread.start()
            time.sleep(0.2)
            disturb()
            if not server.is_running:
                server.start()
            thread.join()
            proxy.is_cutting = False
            wait_until(lambda: is_same(direct), "the client never had the server's state")
        assert proxy.cuts > 10, "the proxy cut too little for this to prove anything"
        return writer.count


def test_a_copy_equals_the_state_at_each_quiet_point(server: Server) -> None:
    proxy = Proxy(server.port, SEED)
    copy = Copy()
    with Flux(proxy.url) as flux:
        watch = flux.watch("rig/*")

        def follow() -> None:
            for update in watch:
                copy.take(update)

        follower = threading.Thread(target=follow)
        follower.start()
        count = run_rig(server, proxy, lambda direct: state(direct) == copy.entities)
        assert count == 1800 and copy.updates > 100 and copy.resets == []
        assert dict(watch.entities) == copy.entities
        watch.close()
        follower.join(PATIENCE)
        assert not follower.is_alive()
    proxy.close()


def test_no_event_is_missing_or_twice(server: Server) -> None:
    proxy = Proxy(server.port, SEED + 1)
    seen: list[tuple[int, str]] = []

    def stored(direct: Flux) -> list[tuple[int, str]]:
        return [(e.sequence, e.event_id) for e in direct.history(namespace="rig")][::-1]

    async def follow(stop: asyncio.Event) -> None:
        async with AsyncFlux(proxy.url) as flux, flux.watch("rig/*", mode="event", since=start) as watch:
            stopping = asyncio.ensure_future(stop.wait())
            while not stop.is_set():
                # Each wait for an event is cancelled some time, which must lose none.
                try:
                    event = await asyncio.wait_for(watch.__anext__(), 0.05)
                except asyncio.TimeoutError:
                    continue
                assert isinstance(event, Event)
                seen.append((event.sequence, event.event_id))
            stopping.cancel()

    with Flux(server.url) as direct:
        start = direct.publish("rig/0", {"a": 1}).cursor
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    follower = threading.Thread(target=loop.run_until_complete, args=(follow(stop),))
    follower.start()
    count = run_rig(server, proxy, lambda direct: stored(direct)[1:] == seen)
    loop.call_soon_threadsafe(stop.set)
    follower.join(PATIENCE)
    assert not follower.is_alive()
    loop.close()
    assert count == 1800 and len(seen) > 1500
    proxy.close()


def test_lost_history_is_a_reset_and_a_new_snapshot(server: Server) -> None:
    with Flux(server.url) as flux:
        flux.publish("rig/old", {"x": 1})
        server.stop()
        server.keep_copy()
        server.start()
        flux.publish("rig/new", {"x": 1})
        copies, events = flux.watch("rig/*"), flux.watch("rig/*", mode="event")
        with copies, events:
            first = next(copies)
            assert isinstance(first, Snapshot) and set(first.entities) == {"rig/old", "rig/new"}
            flux.publish("rig/newer", {"x": 1})
            assert isinstance(next(copies), Change)
            assert isinstance(next(events), Event)
            # The cursors that cover these follow them, within 100 ms.
            time.sleep(0.5)
            server.stop()
            server.restore_copy()
            server.start()
            assert next(copies) == Reset("history_removed")
            second = next(copies)
            assert isinstance(second, Snapshot) and set(second.entities) == {"rig/old"}
            assert next(events) == Reset("history_removed")
            page = next(events)
            assert isinstance(page, Snapshot) and set(page.entities) == {"rig/old"} and page.more
            assert next(events) == Snapshot({})
            flux.publish("rig/last", {"x": 1})
            event = next(events)
            assert isinstance(event, Event) and event.entity_id == "rig/last"


def test_an_event_snapshot_comes_in_pages_and_then_every_event(shared: Server) -> None:
    with Flux(shared.url) as flux:
        flux.publish_many(NewEvent(f"rig/{n}", {"pad": "x" * 1000}) for n in range(1000))
        with flux.watch("rig/*", mode="event", snapshot=True) as watch:
            flux.publish("rig/new", {"x": 1})
            entities: dict[str, Entity] = {}
            pages = 0
            has_event = False
            for update in watch:
                if isinstance(update, Snapshot):
                    entities.update(update.entities)
                    pages += 1
                has_event = has_event or isinstance(update, Event)
                if isinstance(update, Snapshot) and not update.more:
                    break
            assert pages > 3 and len([id for id in entities if id != "rig/new"]) == 1000
            assert has_event or isinstance(next(watch), Event)


def test_a_slow_reader_holds_little_and_loses_no_event(shared: Server) -> None:
    with Flux(shared.url) as flux:
        with flux.watch("slow/*", mode="event") as watch:
            pad = "x" * 20_000
            for start in range(0, 2000, 100):
                numbers = range(start, start + 100)
                flux.publish_many(NewEvent("slow/a", {"n": n, "pad": pad}) for n in numbers)
            socket = watch._socket
            assert socket is not None
            # What the library has taken from the connection while nobody read.
            queued = socket.recv_messages.frames.qsize()
            assert queued <= 64
            for index in range(2000):
                event = next(watch)
                assert isinstance(event, Event) and event.payload["properties"]["n"] == index


def test_a_closed_watch_ends_its_iteration(shared: Server) -> None:
    with Flux(shared.url) as flux:
        watch = flux.watch("closed/*")
        assert isinstance(next(watch), Snapshot)
        threading.Timer(0.1, watch.close).start()
        assert list(watch) == []


def test_a_watch_of_a_dead_server_is_closed_at_once() -> None:
    with Flux("http://127.0.0.1:1") as flux:
        watch = flux.watch("closed/*")
        threading.Timer(0.5, watch.close).start()
        assert list(watch) == []


def test_a_cancelled_watch_leaves_nothing_behind(shared: Server) -> None:
    async def run() -> None:
        async with AsyncFlux(shared.url) as flux:

            async def follow() -> None:
                async with flux.watch("cancelled/*") as watch:
                    async for _ in watch:
                        ready.set()

            ready = asyncio.Event()
            task = asyncio.create_task(follow())
            await ready.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

            watch = flux.watch("cancelled/*")
            closing = asyncio.get_running_loop().call_later(
                0.1, lambda: asyncio.ensure_future(watch.close())
            )
            assert [type(update) async for update in watch] == [Snapshot]
            closing.cancel()

    asyncio.run(run())
