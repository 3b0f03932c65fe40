"""Closing a client, and what is refused before anything is sent."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from server import Server

from flux_client import AsyncFlux, ClosedError, Flux, FluxError, NewEvent, Snapshot
from flux_client import UnreachableError, Watch

# Nobody listens there.
NOWHERE = "http://127.0.0.1:1"


def later(work: Any) -> None:
    threading.Timer(0.3, work).start()


def test_a_call_that_waits_for_its_next_attempt_ends_when_its_client_is_closed() -> None:
    began = time.monotonic()
    flux = Flux(NOWHERE, retry_for=600)
    later(flux.close)
    events = [NewEvent("a/1")]
    with pytest.raises(ClosedError) as raised:
        flux.publish_many(events)
    assert raised.value.events == events
    with pytest.raises(ClosedError):
        flux.get("a/1")
    with Flux(NOWHERE, retry_for=600) as flux:
        later(flux.close)
        with pytest.raises(ClosedError):
            flux.lease("a/1").claim(wait=None)
    assert time.monotonic() - began < 300


def test_a_call_of_asyncio_ends_when_its_client_is_closed() -> None:
    async def run() -> None:
        flux = AsyncFlux(NOWHERE, retry_for=600)
        calls = [asyncio.create_task(flux.get("a/1")), asyncio.create_task(flux.lease("a/1").claim(None))]
        await asyncio.sleep(0.3)
        await flux.close()
        for call in calls:
            with pytest.raises(ClosedError):
                await call
        with pytest.raises(ClosedError):
            await flux.get("a/1")

    asyncio.run(asyncio.wait_for(run(), 300))


def test_a_client_that_is_closed_ends_its_watches(shared: Server) -> None:
    flux = Flux(shared.url)
    watch = flux.watch("close/*")
    assert isinstance(next(watch), Snapshot)
    nowhere = Flux(NOWHERE)
    later(flux.close)
    later(nowhere.close)
    assert next(watch, None) is None
    assert next(nowhere.watch("close/*"), None) is None
    assert next(flux.watch("close/*"), None) is None

    async def run() -> None:
        flux = AsyncFlux(shared.url)
        watch = flux.watch("close/*")
        assert isinstance(await anext(watch), Snapshot)
        waiting = asyncio.create_task(anext(watch, None))
        await asyncio.sleep(0.1)
        await flux.close()
        assert await waiting is None

    asyncio.run(asyncio.wait_for(run(), 300))


def test_a_loop_that_is_left_leaves_no_connection_behind(shared: Server) -> None:
    before = threading.active_count()
    with Flux(shared.url) as flux:
        for _ in range(3):
            for update in flux.watch("close/*"):
                assert isinstance(update, Snapshot)
                break
        gc.collect()
        end = time.monotonic() + 30
        while threading.active_count() > before:
            assert time.monotonic() < end, "a connection is still read"
            time.sleep(0.01)

    async def run() -> None:
        async with AsyncFlux(shared.url) as flux:
            before = len(asyncio.all_tasks())
            async for _ in flux.watch("close/*"):
                break
            gc.collect()
            end = time.monotonic() + 30
            while len(asyncio.all_tasks()) > before:
                assert time.monotonic() < end, "a connection is still read"
                await asyncio.sleep(0.01)

    asyncio.run(run())


def test_what_would_be_passed_over_or_misread_is_refused(flux: Flux) -> None:
    mode: Any = "property"
    with pytest.raises(ValueError, match="mode"):
        flux.watch("a/*", mode=mode)
    with pytest.raises(TypeError, match="one name"):
        flux.publish("a/1", unset="owner")
    with pytest.raises(TypeError, match="one name"):
        flux.get("a/1", fields="owner")
    with pytest.raises(TypeError, match="one name"):
        next(flux.watch("a/*", properties="owner"))
    # Such as the end of the line of the file that it was read from.
    with pytest.raises(ValueError, match="token"):
        Flux(token="secret\n")
    # The server would take these for all properties, and for two.
    for names in ([], ["a,b"]):
        with pytest.raises(ValueError, match="name"):
            flux.get("a/1", fields=names)
        with pytest.raises(ValueError, match="name"):
            next(flux.list(fields=names))
    with pytest.raises(ValueError, match="name"):
        flux.watch("a/*", properties=[])
    # One would be passed over for the other.
    options: list[dict[str, Any]] = [
        {"mode": "event", "since": "C", "snapshot": True},
        {"since": "C"},
        {"snapshot": True},
    ]
    for both in options:
        with pytest.raises(ValueError, match="snapshot"):
            flux.watch("a/*", **both)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:3000",
        "ftp://localhost",
        "http://",
        "http://localhost:99999",
        "http://localhost:port",
        "http://localhost?x=1",
        "http://me:secret@localhost",
        " http://localhost",
        "http://localhost\n",
    ],
)
def test_what_is_no_address_of_a_server_is_refused_at_once(url: str) -> None:
    for make in (Flux, AsyncFlux):
        with pytest.raises(ValueError, match="URL") as raised:
            make(url)
        assert "secret" not in str(raised.value)


def test_a_file_without_certificates_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing\n")
    for name in ("absent.pem", "empty.pem", "."):
        with pytest.raises(ValueError, match=re.escape(str(tmp_path / name))):
            Flux("https://localhost", ca_file=str(tmp_path / name))


def test_a_watch_that_gives_up_says_why() -> None:
    with Flux(NOWHERE) as flux, pytest.raises(UnreachableError, match="refused") as raised:
        next(flux.watch("a/*", give_up_after=0.0))
    assert isinstance(raised.value.__cause__, OSError)


def test_a_refusal_has_a_status_whichever_way_it_came(flux: Flux) -> None:
    watch: Watch[Any] = flux.watch("a/*", filter="eq(")
    with pytest.raises(FluxError) as raised:
        next(watch)
    assert (raised.value.status, raised.value.code) == (400, "invalid_filter")
    [refused] = flux.publish_many([NewEvent("")])
    assert isinstance(refused, FluxError) and refused.status == 400
