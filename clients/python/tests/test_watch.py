"""Watches: what the rig of all clients does not look at."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
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


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


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


def test_a_slow_reader_gets_a_large_snapshot_whole(shared: Server) -> None:
    with Flux(shared.url) as flux:
        flux.publish_many(NewEvent(f"large/{n}", {"pad": "x" * 20_000}) for n in range(1500))
        watch = flux.watch("large/*", mode="event", snapshot=True)
        watch.PING_INTERVAL = watch.PING_TIMEOUT = 0.2
        seen: set[str] = set()
        for update in watch:
            assert isinstance(update, Snapshot), update
            seen.update(update.entities)
            if not update.more:
                break
            # All together that is much longer than a connection is silent.
            time.sleep(0.02)
        assert len(seen) == 1500


def test_an_idle_connection_stays_and_a_dead_one_is_given_up(server: Server) -> None:
    with Flux(server.url) as flux:
        watch = flux.watch("idle/*")
        assert isinstance(next(watch), Snapshot)
        watch.PING_INTERVAL, watch.PING_TIMEOUT = 0.1, 5.0
        socket = watch._socket
        updates: list[Any] = []

        def read() -> None:
            for update in watch:
                updates.append(update)

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(1)
        flux.publish("idle/a", {})
        wait_until(lambda: len(updates) == 1)
        assert watch._socket is socket
        watch.PING_TIMEOUT = 0.1
        server.stand_still()
        wait_until(lambda: not watch.is_current)
        watch.close()
        reader.join(60)
        assert len(updates) == 1


def test_an_id_that_ends_in_a_star_is_watched_alone(flux: Flux) -> None:
    ids = ["stars/*", "stars/**", "stars/*a", "stars/b"]
    flux.publish_many(NewEvent(id) for id in ids)
    assert set(next(flux.watch("stars/*")).entities) == set(ids)  # type: ignore[union-attr]
    with flux.watch("stars/*", exact=True) as watch, flux.watch("stars/*", mode="event", exact=True) as events:
        assert set(next(watch).entities) == {"stars/*"}  # type: ignore[union-attr]
        for id in (*ids[1:], ids[0]):
            flux.publish(id, {"x": 1})
        change, event = next(watch), next(events)
        assert isinstance(change, Change) and change.entity.id == "stars/*"
        assert isinstance(event, Event) and event.entity_id == "stars/*"
        for id in (*ids[1:], ids[0]):
            flux.delete(id)
        gone = next(watch)
        assert isinstance(gone, Deleted) and gone.entity_id == "stars/*"


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
