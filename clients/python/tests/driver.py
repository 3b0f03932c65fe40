"""The driver of this client for clients/rig: what it reads as lines of JSON, it does."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from flux_client import (
    AsyncFlux,
    Change,
    Entity,
    Event,
    Flux,
    FluxError,
    NewEvent,
    Reset,
    Snapshot,
    Watch,
)

RETRY_FOR = 120


class Driver:
    """Copies are kept through `Flux`, events are read through `AsyncFlux`."""

    def __init__(self) -> None:
        self._url = ""
        self._flux = Flux()
        self._entities: dict[str, Entity] = {}
        self._events: list[tuple[int, str]] = []
        self._resets: list[str] = []
        self._updates = 0
        self._watch: Watch[Any] | None = None
        self._turns: list[tuple[float, float, int]] = []
        self._done = threading.Event()
        self._threads: list[threading.Thread] = []

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments)
        thread.start()
        self._threads.append(thread)

    def open(self, url: str) -> None:
        self._url = url
        self._flux = Flux(url, retry_for=RETRY_FOR)

    def publish(self, events: list[dict[str, Any]]) -> int:
        results = self._flux.publish_many(
            NewEvent(event["entity_id"], event.get("properties"), unset=event.get("unset"))
            for event in events
        )
        return sum(isinstance(result, FluxError) for result in results)

    def watch(self, pattern: str, mode: str, since: str | None = None) -> None:
        if mode == "event":
            is_ready = threading.Event()
            self._start(lambda: asyncio.run(self._follow_events(pattern, since, is_ready)))
            is_ready.wait()
            return
        self._watch = self._flux.watch(pattern)
        self._watch.__enter__()
        self._start(self._follow, self._watch)

    def _follow(self, watch: Watch[Any]) -> None:
        for update in watch:
            self._updates += 1
            if isinstance(update, Snapshot):
                self._entities = dict(update.entities)
            elif isinstance(update, Change):
                self._entities[update.entity.id] = update.entity
            elif isinstance(update, Reset):
                self._resets.append(update.reason)
            else:
                del self._entities[update.entity_id]

    async def _follow_events(
        self, pattern: str, since: str | None, is_ready: threading.Event
    ) -> None:
        async with AsyncFlux(self._url) as flux:
            async with flux.watch(pattern, mode="event", since=since) as watch:
                is_ready.set()
                while not self._done.is_set():
                    # Each wait for an event is cancelled some time, which must lose none.
                    try:
                        event = await asyncio.wait_for(watch.__anext__(), 0.05)
                    except asyncio.TimeoutError:
                        continue
                    if isinstance(event, Event):
                        self._events.append((event.sequence, event.event_id))
                    elif isinstance(event, Reset):
                        self._resets.append(event.reason)

    def view(self) -> dict[str, Any]:
        entities = dict(self._entities)
        return {
            "entities": {
                id: {"version": entity.version, "properties": dict(entity.properties)}
                for id, entity in entities.items()
            },
            "is_equal": self._watch is not None and dict(self._watch.entities) == entities,
            "events": list(self._events),
            "resets": self._resets,
            "updates": self._updates,
        }

    def compete(self, entity_id: str, ttl: float, holds: list[float]) -> None:
        self._start(self._compete, entity_id, ttl, holds)

    def _compete(self, entity_id: str, ttl: float, holds: list[float]) -> None:
        with Flux(self._url) as flux:
            lease = flux.lease(entity_id, ttl=ttl)
            for hold in holds:
                if self._done.is_set():
                    return
                try:
                    if not lease.claim(wait=2):
                        continue
                    began = ended = now = time.monotonic()
                    while lease.held and now < began + hold:
                        ended, now = now, time.monotonic()
                        time.sleep(0.005)
                    assert lease.sequence is not None
                    self._turns.append((began, ended, lease.sequence))
                    lease.release()
                except FluxError:
                    continue  # No answer within the time of the lease: it is not held.

    def turns(self) -> list[tuple[float, float, int]]:
        self.close()
        return self._turns

    def close(self) -> None:
        self._done.set()
        if self._watch is not None:
            self._watch.close()
        for thread in self._threads:
            thread.join()
        self._flux.close()


def main() -> None:
    driver = Driver()
    lock = threading.Lock()

    def answer(command: dict[str, Any]) -> None:
        id_, do = command.pop("id"), command.pop("do")
        try:
            said = {"id": id_, "result": getattr(driver, do)(**command)}
        except Exception as error:
            said = {"id": id_, "error": repr(error)}
        with lock:
            print(json.dumps(said), flush=True)

    threads: list[threading.Thread] = []
    for line in sys.stdin:
        threads.append(threading.Thread(target=answer, args=(json.loads(line),)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    driver.close()


if __name__ == "__main__":
    main()
