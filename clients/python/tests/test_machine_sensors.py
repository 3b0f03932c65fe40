"""`examples/machine_sensors.py`, while its machine and the server are killed: no reading is lost or
counted twice, and a machine that died is seen as gone."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from proxy import Proxy
from server import Server

from flux_client import Event, Flux

EXAMPLE = Path(__file__).parents[3] / "examples" / "machine_sensors.py"
ID = "plant/press-1"
PRESENCE_TTL = 5.0


class Programs:
    """The example in its two roles, as a user starts it."""

    def __init__(self, server: Server, proxy: Proxy, folder: Path) -> None:
        self._server = server
        self._proxy = proxy
        self._spool = folder / "spool"
        self._told = folder / "told"
        self._started: list[subprocess.Popen[bytes]] = []

    def _start(self, url: str, *arguments: str, output: Path | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(EXAMPLE), *arguments]
        environment = {**os.environ, "FLUX_URL": url}
        with open(output or os.devnull, "wb") as told:
            program = subprocess.Popen(command, env=environment, stdout=told)
        self._started.append(program)
        return program

    def watch(self) -> None:
        self._start(self._server.url, "watch", output=self._told)

    def machine(self) -> subprocess.Popen[bytes]:
        """A machine whose connections break at random bytes, so that answers are lost."""
        role = ("machine", "press-1", "--every", "0.05", "--spool", str(self._spool))
        return self._start(self._proxy.url, *role)

    def put_back(self, event: Event) -> None:
        """A reading that the server has is in the file again, as if the machine had died between."""
        reading = event.payload["properties"]
        sensor = event.entity_id.rpartition("/")[2]
        row = (reading["n"], sensor, reading["value"], event.timestamp)
        with sqlite3.connect(self._spool) as db:
            db.execute("insert or ignore into reading values (?, ?, ?, ?)", row)

    @property
    def told(self) -> str:
        return self._told.read_text()

    @property
    def read(self) -> tuple[int, int]:
        """How many readings were taken, and how many of them the server has not confirmed."""
        with sqlite3.connect(self._spool) as db:
            (taken,) = db.execute("select seq from sqlite_sequence").fetchone()
            (left,) = db.execute("select count(*) from reading").fetchone()
            return taken, left

    @property
    def cuts(self) -> int:
        return self._proxy.cuts

    def end(self) -> None:
        for program in self._started:
            if program.poll() is None:
                program.kill()
            program.wait()


@pytest.fixture
def programs(server: Server, tmp_path: Path) -> Iterator[Programs]:
    proxy = Proxy(server.port, seed=1, cut_bytes_max=200_000)
    programs = Programs(server, proxy, tmp_path)
    yield programs
    programs.end()
    proxy.close()


def wait_until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def readings(flux: Flux) -> list[Event]:
    events = [event for event in flux.history(namespace="plant") if event.stream == "readings"]
    return events[::-1]


def test_no_reading_is_lost_or_doubled_and_a_dead_machine_is_gone(
    server: Server, programs: Programs
) -> None:
    programs.watch()
    machine = programs.machine()
    with Flux(server.url, retry_for=60) as flux:
        wait_until(lambda: flux.get(f"{ID}/sent") is not None, "nothing came")
        server.kill()
        time.sleep(2)  # Readings gather.
        server.start()
        wait_until(lambda: len(readings(flux)) > 60, "the machine did not catch up")

        machine.kill()
        machine.wait()
        wait_until(lambda: flux.get(ID) is None, "a dead machine is there for ever")
        tombstone, last = list(flux.history(ID, limit=2))
        assert tombstone.stream == "flux.expire"
        # The server may be a second late, and this machine is busy.
        lived = (tombstone.accepted_at - last.accepted_at).total_seconds()
        assert PRESENCE_TTL <= lived < PRESENCE_TTL + 5
        wait_until(lambda: f"{ID} is gone" in programs.told, programs.told)

        for event in readings(flux)[-5:]:
            programs.put_back(event)
        machine = programs.machine()
        wait_until(lambda: flux.get(ID) is not None, "the machine did not come back")
        server.kill()
        server.start()
        time.sleep(1)
        machine.terminate()
        assert machine.wait(60) == 0
        taken, left = programs.read
        assert left == 0
        stored = readings(flux)
        assert [event.payload["properties"]["n"] for event in stored] == list(range(1, taken + 1))
        times = [event.timestamp for event in stored]
        assert None not in times and times == sorted(times, key=lambda it: it or 0)
        late = [event.accepted_at.timestamp() - (event.timestamp or 0) / 1000 for event in stored]
        assert max(late) > 1.5, "what was read while the server was away has its own time"
        assert programs.cuts > 0
        wait_until(lambda: f"{ID} was switched off" in programs.told, programs.told)
        assert re.search(rf"^{ID} is there$", programs.told, re.MULTILINE)


def test_a_machine_ends_well_while_its_server_is_away(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    command = [sys.executable, str(EXAMPLE), "machine", "press-1", "--spool", str(spool)]
    machine = subprocess.Popen(
        command, env={**os.environ, "FLUX_URL": "http://127.0.0.1:1"}, stdout=subprocess.PIPE, text=True
    )
    assert machine.stdout is not None and "is kept" in machine.stdout.readline()
    machine.terminate()
    assert machine.wait(60) == 0
    with sqlite3.connect(spool) as db:
        assert db.execute("select count(*) from reading").fetchone()[0] > 0


def test_an_alarm_begins_and_ends_once(server: Server, programs: Programs) -> None:
    programs.watch()
    with Flux(server.url) as flux:
        id = f"{ID}/temperature"
        # Whether the watcher sees the first in its snapshot or as an event, it is one alarm.
        flux.publish(id, {"n": 1, "value": 99.5}, stream="readings", timestamp=1_000)
        wait_until(lambda: "ALARM" in programs.told, "no alarm")
        for n, value in enumerate((99.5, 85.0, 20.0, 21.0), start=2):
            now = time.time_ns() // 1_000_000
            flux.publish(id, {"n": n, "value": value}, stream="readings", timestamp=now)
        wait_until(lambda: "well again" in programs.told, "no end")
        assert programs.told.count("ALARM") == 1, programs.told
        assert programs.told.count("well again") == 1, programs.told
