#!/usr/bin/env python3
"""The rig of all clients: a server that is killed, stopped, paused and cut off, and a client's view of it.

    FLUX_BIN=target/release/flux clients/rig/rig.py [--only watches | leases] -- COMMAND [ARGUMENT …]

The command is a driver: a program that does with its client what it reads from standard input. A command
is a line of JSON with an `id`, and so is its answer: `{"id", "result"}` or `{"id", "error"}`. It works on
several commands at once. When its input ends it closes all and exits with 0.

| `do` | |
| --- | --- |
| `open` (`url`) | makes the client, which is to retry for 120 s |
| `publish` (`events` of `entity_id`, `properties`, `unset`) | publishes them as one batch; the number that was refused |
| `watch` (`pattern`, `mode`, `since`) | waits until the watch is in force, then follows it in the background |
| `view` | `entities` (id to `version` and `properties`) as its user has them by the updates alone, `is_equal` (to what the client keeps itself), `events` of mode `event` (`sequence`, `eventId`), `resets`, `updates` |
| `compete` (`entity_id`, `ttl`, `holds`) | claims the lease again and again, and holds it for one of so many seconds in turn |
| `turns` | ends that; for each turn the times of CLOCK_MONOTONIC between which it was held, and its `sequence` |

FLUX_CLIENT_SEED repeats a run, as far as times allow. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from proxy import Proxy
from server import Server

PATIENCE = 60.0
PATTERN = "rig/*"
BATCHES = 30
BATCH_EVENTS = 20
# Connections for leases carry little, so they are cut after few bytes.
LEASE_CUT_BYTES_MAX = 6_000
LEASE_TTL = 1.0


class Driver:
    """A running driver. Commands may be sent by several threads."""

    def __init__(self, command: list[str], url: str) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._ids = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._is_over = False
        threading.Thread(target=self._read, daemon=True).start()
        self.ask("open", url=url)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            with self._changed:
                self._answers[answer["id"]] = answer
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def ask(self, do: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        with self._changed:
            id_ = next(self._ids)
            self._process.stdin.write(json.dumps({"id": id_, "do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            is_there = self._changed.wait_for(
                lambda: id_ in self._answers or self._is_over, 3 * PATIENCE
            )
            assert is_there, f"{do}: the driver does not answer"
            assert id_ in self._answers, f"{do}: the driver has ended"
            answer = self._answers.pop(id_)
        assert "error" not in answer, f"{do}: {answer['error']}"
        return answer["result"]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(PATIENCE) == 0, "the driver did not end well"

    def pause(self, seconds: float) -> None:
        """It stands still, as a machine that is suspended, while time goes on."""
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()


class Rig:
    """One run against a server and a proxy of its own."""

    def __init__(self, command: list[str], seed: int) -> None:
        self.command = command
        self.seed = seed
        self.random = random.Random(seed)
        self.server = Server()
        self.drivers: list[Driver] = []

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        for driver in self.drivers:
            driver.kill()
        self.server.remove()

    def drive(self, proxy: Proxy) -> Driver:
        driver = Driver(self.command, proxy.url)
        self.drivers.append(driver)
        return driver

    def publish(self, event: dict[str, Any]) -> dict[str, Any]:
        body = {"stream": "rig", "source": "rig", "payload": event}
        request = urllib.request.Request(f"{self.server.url}/api/events", json.dumps(body).encode())
        with urllib.request.urlopen(request) as answer:
            result: dict[str, Any] = json.load(answer)
            return result

    def rows(self, path: str, **params: str) -> list[dict[str, Any]]:
        """The rows of all pages, as the server has them."""
        rows: list[dict[str, Any]] = []
        target = f"{path}?{urllib.parse.urlencode(params)}"
        while target:
            with urllib.request.urlopen(self.server.url + target) as answer:
                rows += json.load(answer)
                link = answer.headers.get("link", "")
            target = link[1 : link.index(">")] if 'rel="next"' in link else ""
        return rows

    def state(self) -> dict[str, Any]:
        rows = self.rows("/api/state/entities", prefix="rig/", limit="1000")
        return {row["id"]: {"version": row["version"], "properties": row["properties"]} for row in rows}

    def stored(self, after: int) -> list[list[Any]]:
        rows = self.rows("/api/events", namespace="rig", limit="500")
        events = [[row["sequence"], row["eventId"]] for row in reversed(rows)]
        return [event for event in events if event[0] > after]

    def event(self) -> dict[str, Any]:
        draw = self.random
        entity_id = f"rig/{draw.randrange(40)}"
        if draw.random() < 0.1:
            return {"entity_id": entity_id, "properties": {"__deleted__": True}}
        if draw.random() < 0.2:
            return {"entity_id": entity_id, "unset": ["a", "b"]}
        properties = {draw.choice("abcd"): draw.random(), "pad": "x" * draw.randrange(100)}
        return {"entity_id": entity_id, "properties": properties}

    def write(self, driver: Driver, refused: list[int]) -> None:
        for _ in range(BATCHES):
            refused.append(driver.ask("publish", events=[self.event() for _ in range(BATCH_EVENTS)]))

    def disturbances(self) -> list[Callable[[], object]]:
        def kill_for(seconds: float) -> None:
            self.server.kill()
            time.sleep(seconds)
            self.server.start()

        def stop() -> None:
            self.server.stop()
            self.server.start()

        return [lambda: kill_for(0.0), stop, lambda: self.server.pause(0.5), lambda: kill_for(1.0)]

    def watches(self) -> None:
        """At each quiet point the client's view equals the server's; no event is missing or twice."""
        proxy = Proxy(self.server.port, self.seed)
        driver = self.drive(proxy)
        start = self.publish({"entity_id": "rig/0", "properties": {"a": 1}})
        driver.ask("watch", pattern=PATTERN, mode="entity")
        driver.ask("watch", pattern=PATTERN, mode="event", since=start["cursor"])
        refused: list[int] = []
        disturbances = self.disturbances()
        for disturb in disturbances:
            proxy.is_cutting = True
            writer = threading.Thread(target=self.write, args=(driver, refused))
            writer.start()
            time.sleep(self.random.uniform(0.1, 0.5))
            disturb()
            writer.join()
            proxy.is_cutting = False
            self.wait_for_quiet(driver, start["sequence"])
        view = driver.ask("view")
        count = len(disturbances) * BATCHES * BATCH_EVENTS
        assert len(refused) * BATCH_EVENTS == count and sum(refused) == 0, "writes are missing"
        assert len(view["events"]) == count, "writes are missing, or were counted twice"
        assert view["resets"] == [], view["resets"]
        assert view["updates"] > 100, view["updates"]
        assert proxy.cuts > 10, "the proxy cut too little for this to prove anything"
        driver.close()
        proxy.close()
        print(f"- watches: {count} changes, {proxy.cuts} cuts, the view was the server's each time")

    def wait_for_quiet(self, driver: Driver, start: int) -> None:
        state, stored = self.state(), self.stored(start)
        end = time.monotonic() + PATIENCE
        while True:
            view = driver.ask("view")
            is_same = view["entities"] == state and view["is_equal"]
            if is_same and view["events"] == stored:
                return
            seen = [event[0] for event in view["events"]]
            assert seen == sorted(set(seen)), "an event came twice or out of order"
            assert time.monotonic() < end, (
                f"the client never had the server's view: {is_same=}, {len(view['events'])} events of {len(stored)}"
            )
            time.sleep(0.05)

    def leases(self) -> None:
        """The turns of holders never overlap, though server and holders stand still and answers are lost."""
        proxy = Proxy(self.server.port, self.seed, LEASE_CUT_BYTES_MAX)
        drivers = [self.drive(proxy) for _ in range(2)]
        for _ in range(2):
            for driver in drivers:
                # Often longer than the lease lasts without a renewal.
                holds = [self.random.choice((0.3, 1.8, 4.0)) for _ in range(50)]
                driver.ask("compete", entity_id="rig/lease", ttl=LEASE_TTL, holds=holds)
        for down in (0.0, 1.5):
            time.sleep(1.5)
            self.server.kill()
            time.sleep(down)
            self.server.start()
        time.sleep(1.5)
        self.server.pause(1.5)
        # A holder that goes on after a pause must not take itself for one.
        for driver in drivers * 2:
            time.sleep(0.5)
            driver.pause(2.0)
        # An answer that got lost costs a turn, so at the end there is none.
        proxy.is_cutting = False
        time.sleep(1.5)
        turns = sorted(turn for driver in drivers for turn in driver.ask("turns"))
        assert len(turns) > 4, turns
        long = [turn for turn in turns if turn[1] - turn[0] > LEASE_TTL]
        assert long, "no turn outlasted its ttl, so no renewal was proved"
        for (_, ended, earlier), (began, _, later) in zip(turns, turns[1:]):
            assert ended <= began, f"two holders between {began} and {ended}"
            assert earlier < later, "a later holder has no later sequence"
        assert proxy.cuts > 10, "the proxy cut too little for this to prove anything"
        for driver in drivers:
            driver.close()
        proxy.close()
        print(f"- leases: {len(turns)} turns of 4 holders, {len(long)} longer than the ttl, {proxy.cuts} cuts, no overlap")


def main() -> None:
    parser = argparse.ArgumentParser(description="The rig of all clients.")
    parser.add_argument("--only", choices=["watches", "leases"])
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    seed = int(os.environ.get("FLUX_CLIENT_SEED") or random.randrange(1 << 30))
    print(f"- the rig, FLUX_CLIENT_SEED={seed}", flush=True)
    for check in (Rig.watches, Rig.leases):
        if arguments.only in (None, check.__name__):
            with Rig(arguments.command, seed) as rig:
                check(rig)


if __name__ == "__main__":
    main()
