"""A machine that reports its sensors, and a watcher that tells of alarms and of machines that are gone.

    pip install ./clients/python
    python examples/machine_sensors.py watch
    python examples/machine_sensors.py machine press-1     # in another terminal, or several

A reading is written to a file of the machine before it is sent, and removed when the server has it.
So none is lost, whether the server is away or the machine is killed, and each keeps the time at which
it was taken. None counts twice either: the number of the last reading goes along with each batch, on
the condition that the server has no later one. If it has, the refusal says which.

`plant/press-1` is there while the machine is: each batch gives it another few seconds to live.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import signal
import sqlite3
import time
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from flux_client import AsyncFlux, ConflictError, Entity, Event, Expect, FluxError, NewEvent
from flux_client import Reset, Snapshot

# How long a machine counts as there after it was heard of, in seconds.
PRESENCE_TTL = 5.0
SEND_EVERY = 1.0
# Of a batch, which takes effect as a whole. The server takes 1,000 events.
BATCH_READINGS = 200
# Of the file, about a day at one a second. Of more, the oldest are dropped and counted.
SPOOL_READINGS_MAX = 100_000
# Sensor -> the value from which it is an alarm.
LIMITS = {"temperature": 80.0, "vibration": 9.0}


def read_sensors() -> dict[str, float]:
    """What the sensors say now. Yours stand here."""
    wave = math.sin(time.time() / 3)
    return {
        "temperature": round(72 + 10 * wave + random.uniform(-1, 1), 1),
        "vibration": round(abs(5 * wave) + random.uniform(0, 1), 2),
    }


class Spool:
    """The readings that the server does not have yet, in a file that outlives the machine."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        # A kill loses nothing so. A power cut would ask for FULL, at a flush for each reading.
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        self._db.execute(
            "create table if not exists reading"
            " (n integer primary key autoincrement, sensor text, value real, taken_at integer)"
        )
        self._db.execute("create table if not exists spool (id text, dropped integer)")
        if self._db.execute("select id from spool").fetchone() is None:
            # Another file counts from 1 again, and is known by another id.
            self._db.execute("insert into spool values (?, 0)", (uuid.uuid4().hex,))
        self.id: str = self._db.execute("select id from spool").fetchone()[0]

    def add(self, readings: Mapping[str, float], taken_at: int) -> None:
        rows = [(sensor, value, taken_at) for sensor, value in readings.items()]
        self._db.execute("begin immediate")
        self._db.executemany("insert into reading (sensor, value, taken_at) values (?, ?, ?)", rows)
        last = self._db.execute("select max(n) from reading").fetchone()[0]
        dropped = self._db.execute("delete from reading where n <= ?", (last - SPOOL_READINGS_MAX,))
        if dropped.rowcount > 0:
            self._db.execute("update spool set dropped = dropped + ?", (dropped.rowcount,))
        self._db.execute("commit")

    def first(self) -> list[tuple[int, str, float, int]]:
        query = "select n, sensor, value, taken_at from reading order by n limit ?"
        return self._db.execute(query, (BATCH_READINGS,)).fetchall()

    def remove_to(self, n: int) -> None:
        self._db.execute("delete from reading where n <= ?", (n,))

    @property
    def dropped(self) -> int:
        dropped: int = self._db.execute("select dropped from spool").fetchone()[0]
        return dropped


class Machine:
    """Takes readings on a schedule, and sends them in batches on another."""

    def __init__(self, flux: AsyncFlux, name: str, spool: Spool) -> None:
        self._flux = flux
        self._id = name
        self._spool = spool
        self._stopping = asyncio.Event()
        # Whether the server has heard of this machine. A refusal tells if this is wrong.
        self._is_known = True

    def stop(self) -> None:
        self._stopping.set()

    async def run(self, every: float) -> None:
        measuring = asyncio.create_task(self._measure(every))
        while not self._stopping.is_set():
            await self._send()
            await self._pause(SEND_EVERY)
        await measuring
        # What is left, and goodbye. What can't be sent now waits in the file.
        await self._send()
        try:
            await self._flux.delete(self._id)
        except FluxError as error:
            # It counts as there until its presence expires.
            print(f"{self._id}: {error}", flush=True)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except asyncio.TimeoutError:
            pass

    async def _measure(self, every: float) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            self._spool.add(read_sensors(), time.time_ns() // 1_000_000)
            # By the schedule, not by when the last one was done.
            due = max(due + every, time.monotonic())
            await self._pause(due - time.monotonic())

    async def _send(self) -> None:
        """Sends all that is in the file, or nothing but that the machine is there."""
        while True:
            rows = self._spool.first()
            try:
                await self._flux.publish_many(self._batch(rows), atomic=True)
            except ConflictError as error:
                if error.code != "precondition_failed":
                    raise
                self._learn(error.entity)
                continue
            except FluxError as error:
                if error.status not in (None, 429, 502, 503, 504):
                    raise
                print(f"{self._id}: {error}; what is read meanwhile is kept", flush=True)
                return
            if rows:
                self._spool.remove_to(rows[-1][0])
            if len(rows) < BATCH_READINGS:
                return

    def _learn(self, sent: Entity | None) -> None:
        """What a refusal tells: up to which reading the server has them, their answer was lost."""
        self._is_known = sent is not None
        if sent is not None and sent.properties["spool"] == self._spool.id:
            self._spool.remove_to(sent.properties["n"])

    def _batch(self, rows: list[tuple[int, str, float, int]]) -> list[NewEvent]:
        batch = [NewEvent(self._id, {"state": "running"}, stream="presence", ttl=PRESENCE_TTL)]
        if not rows:
            return batch
        is_new = f'or(ne(spool,"{self._spool.id}"),lt(n,{rows[0][0]}))'
        expect: Expect = {"filter": is_new} if self._is_known else {"absent": True}
        last = {"spool": self._spool.id, "n": rows[-1][0], "dropped": self._spool.dropped}
        batch.append(NewEvent(f"{self._id}/sent", last, stream="sent", expect=expect))
        for n, sensor, value, taken_at in rows:
            reading = {"n": n, "value": value}
            batch.append(
                NewEvent(f"{self._id}/{sensor}", reading, stream="readings", timestamp=taken_at)
            )
        return batch


async def run_machine(flux: AsyncFlux, id: str, spool: Spool, every: float) -> None:
    machine = Machine(flux, id, spool)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, machine.stop)
    await machine.run(every)


class Watcher:
    """Prints alarms as they begin and end, and machines as they come and go."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._machines: set[str] = set()
        self._alarms: set[str] = set()

    def take(self, update: Snapshot | Event | Reset) -> None:
        if isinstance(update, Snapshot):
            for entity in update.entities.values():
                self._take_entity(entity)
        elif isinstance(update, Event):
            self._take_event(update)
        else:
            # What follows is the present; what happened between is not told.
            print(f"readings were missed ({update.reason})", flush=True)

    def _is_machine(self, id: str) -> bool:
        return "/" not in id.removeprefix(self._prefix)

    def _take_entity(self, entity: Entity) -> None:
        if self._is_machine(entity.id):
            self._came(entity.id)
        elif "value" in entity.properties:
            self._check(entity.id, entity.properties["value"], entity.last_updated, timedelta())

    def _take_event(self, event: Event) -> None:
        properties: Mapping[str, Any] = event.payload.get("properties", {})
        if not self._is_machine(event.entity_id):
            if "value" in properties and event.timestamp is not None:
                taken_at = datetime.fromtimestamp(event.timestamp / 1000, event.accepted_at.tzinfo)
                late = event.accepted_at - taken_at
                self._check(event.entity_id, properties["value"], taken_at, late)
        elif properties.get("__deleted__") is not True:
            self._came(event.entity_id)
        elif event.entity_id in self._machines:
            self._machines.remove(event.entity_id)
            why = "is gone" if event.stream == "flux.expire" else "was switched off"
            print(f"{event.accepted_at:%H:%M:%S} {event.entity_id} {why}", flush=True)

    def _came(self, id: str) -> None:
        if id not in self._machines:
            self._machines.add(id)
            print(f"{id} is there", flush=True)

    def _check(self, id: str, value: float, taken_at: datetime, late: timedelta) -> None:
        limit = LIMITS.get(id.rpartition("/")[2], math.inf)
        if (value >= limit) == (id in self._alarms):
            return
        (self._alarms.add if value >= limit else self._alarms.discard)(id)
        told = "ALARM" if value >= limit else "well again"
        delay = f", {late.total_seconds():.0f} s late" if late > timedelta(seconds=5) else ""
        print(f"{taken_at:%H:%M:%S} {id} {value} {told}{delay}", flush=True)


async def run_watcher(flux: AsyncFlux, prefix: str) -> None:
    watcher = Watcher(prefix)
    # Every reading, not only the newest of each sensor: an alarm may be over in a moment.
    async with flux.watch(f"{prefix}*", mode="event", snapshot=True) as watch:
        print(f"watching {prefix}*", flush=True)
        async for update in watch:
            watcher.take(update)


async def main() -> None:
    parser = argparse.ArgumentParser(description="A machine's sensors, and who watches them.")
    parser.add_argument("--prefix", default="plant/", help="of all ids (plant/)")
    roles = parser.add_subparsers(dest="role", required=True)
    roles.add_parser("watch", help="print alarms, and which machines come and go")
    machine = roles.add_parser("machine", help="report the sensors of a machine")
    machine.add_argument("name")
    machine.add_argument("--every", type=float, default=0.5, help="seconds between readings (0.5)")
    machine.add_argument("--spool", help="the file of unsent readings (<name>.spool)")
    given = parser.parse_args()
    async with AsyncFlux(retry_for=5, source="machine_sensors") as flux:
        if given.role == "watch":
            print("waiting for the server", flush=True)
            await run_watcher(flux, given.prefix)
        else:
            spool = Spool(given.spool or f"{given.name}.spool")
            await run_machine(flux, f"{given.prefix}{given.name}", spool, given.every)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
