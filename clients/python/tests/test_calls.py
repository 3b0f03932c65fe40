"""The calls, against a real server."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from proxy import Proxy
from server import Server

from flux_client import (
    AsyncFlux,
    ConflictError,
    Event,
    Flux,
    FluxError,
    NewEvent,
    Published,
    UnreachableError,
)
from flux_client._core import Attempt


def test_an_entity_is_written_read_and_deleted(flux: Flux) -> None:
    published = flux.publish("crud/a", {"x": 1, "text": "é\u2028"}, ttl=1000)
    assert (published.version, published.duplicate) == (1, False)
    entity = flux.get("crud/a")
    assert entity is not None
    assert entity.properties == {"x": 1, "text": "é\u2028"}
    assert entity.expires_at is not None and entity.etag and entity.cursor
    left = entity.expires_at - datetime.now(timezone.utc)
    assert timedelta(0) < left <= timedelta(seconds=1001)
    flux.publish("crud/a", {"y": [1, None]}, unset=["x"], never_expires=True)
    entity = flux.get("crud/a", fields=["y"])
    assert entity is not None
    assert (entity.properties, entity.version, entity.expires_at) == ({"y": [1, None]}, 2, None)
    assert flux.delete("crud/a") is not None
    assert flux.get("crud/a") is None
    assert flux.delete("crud/a") is None


@pytest.mark.parametrize("entity_id", ["ids/a b+c", "ids/../x", "ids/é?&#%2F", "."])
def test_any_id_can_be_read(flux: Flux, entity_id: str) -> None:
    flux.publish(entity_id, {"x": 1})
    entity = flux.get(entity_id)
    assert entity is not None and entity.id == entity_id


class Redirect(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(308)
        self.send_header("location", f"https://localhost{self.path}")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_redirect_is_an_error_at_once() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Redirect) as redirecting:
        threading.Thread(target=redirecting.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{redirecting.server_address[1]}"

        async def run() -> None:
            async with AsyncFlux(url) as flux:
                for call in (flux.get("a/1"), anext(flux.watch("a/*"))):
                    with pytest.raises(FluxError) as raised:
                        await call
                    assert raised.value.status == 308

        asyncio.run(asyncio.wait_for(run(), 60))
        with Flux(url) as flux:
            for call in (lambda: flux.get("a/1"), lambda: next(flux.watch("a/*", give_up_after=60))):
                with pytest.raises(FluxError) as raised:
                    call()
                assert raised.value.status == 308
        redirecting.shutdown()


def test_an_event_is_part_of_a_trace(flux: Flux) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    flux.publish("trace/a", {"x": 1}, traceparent=trace)
    flux.publish_many([NewEvent("trace/a", {"x": 2}, traceparent=trace), NewEvent("trace/a")])
    assert [event.traceparent for event in flux.history("trace/a")] == [None, trace, trace]


def test_a_variable_chooses_an_atomic_batch(flux: Flux) -> None:
    # For the checks of types too.
    for atomic in (bool(0), bool(1)):
        results = flux.publish_many([NewEvent("chosen/a"), NewEvent("chosen/b")], atomic=atomic)
        assert all(isinstance(result, Published) for result in results)


def test_lists_and_history_go_over_all_pages(flux: Flux) -> None:
    ids = [f"pages/{index:04}+" for index in range(2500)]
    results = flux.publish_many(NewEvent(id, {"even": n % 2 == 0}) for n, id in enumerate(ids))
    assert all(isinstance(result, Published) for result in results)
    assert [entity.id for entity in flux.list(prefix="pages/")] == ids
    even = flux.list(namespace="pages", filter="eq(even,true)", fields=["odd"])
    assert [(entity.id, entity.properties) for entity in even] == [(id, {}) for id in ids[::2]]
    events = [event.entity_id for event in flux.history(namespace="pages")]
    assert events == ids[::-1]
    assert len(list(flux.history(namespace="pages", limit=700))) == 700
    [event] = flux.history("pages/0007+", since=0)
    assert event.payload["properties"] == {"even": False}


def test_the_past_is_as_it_was(flux: Flux) -> None:
    flux.publish("past/a", {"x": 1})
    [event] = flux.history("past/a")
    flux.publish("past/a", {"x": 2})
    entity = flux.at("past/a", event.accepted_at)
    assert entity is not None and entity.properties == {"x": 1}
    listed = flux.list(prefix="past/", at=event.accepted_at)
    assert [entity.properties for entity in listed] == [{"x": 1}]
    assert flux.at("past/a", event.accepted_at - timedelta(days=1)) is None


def test_sums_are_exact_and_numbers_keep_their_digits(shared: Server) -> None:
    with Flux(shared.url, decimal=True) as flux:
        assert flux.increment("sums/a", "n", Decimal("0.10")) == Decimal("0.1")
        assert str(flux.increment("sums/a", "n", Decimal("0.2"))) == "0.3"
        flux.publish("sums/b", {"price": Decimal("22.50"), "big": 12345678901234567890123})
        entity = flux.get("sums/b")
        assert entity is not None
        assert str(entity.properties["price"]) == "22.50"
        assert entity.properties["big"] == 12345678901234567890123
    with Flux(shared.url) as flux:
        entity = flux.get("sums/b")
        assert entity is not None
        assert isinstance(entity.properties["price"], float)
        assert flux.increment("sums/c", "n") == 1


def test_the_same_event_counts_once(flux: Flux) -> None:
    event = NewEvent("once/a", increment={"n": 1})
    first, second = flux.publish(event), flux.publish(event)
    assert (second.duplicate, second.sequence, second.properties) == (True, first.sequence, {"n": 1})
    with pytest.raises(ConflictError) as refused:
        flux.publish("once/a", {"n": 7}, event_id=event.event_id)
    assert refused.value.code == "event_id_reused"


def test_a_condition_that_fails_shows_the_entity(flux: Flux) -> None:
    flux.publish("claims/a", {"owner": "me"}, expect={"absent": True})
    with pytest.raises(ConflictError) as refused:
        flux.publish("claims/a", {"owner": "you"}, expect={"absent": True})
    error = refused.value
    assert (error.status, error.code) == (409, "precondition_failed")
    assert error.entity is not None and error.entity.properties == {"owner": "me"}
    with pytest.raises(ConflictError):
        flux.delete("claims/a", expect={"properties": {"owner": "you"}})
    assert flux.delete("claims/a", expect={"properties": {"owner": "me"}}) is not None


def test_an_item_of_a_batch_fails_alone_and_an_atomic_batch_as_a_whole(flux: Flux) -> None:
    good, bad = NewEvent("batch/a", {"x": 1}), NewEvent("batch/b", expect={"present": True})
    results = flux.publish_many([good, bad])
    assert isinstance(results[0], Published)
    assert isinstance(results[1], ConflictError) and results[1].entity is None
    with pytest.raises(ConflictError) as refused:
        flux.publish_many([NewEvent("batch/c", {"x": 1}), bad], atomic=True)
    assert refused.value.index == 1
    assert flux.get("batch/c") is None
    assert flux.publish_many([]) == []
    assert len(flux.publish_many([NewEvent("batch/c"), NewEvent("batch/d")], atomic=True)) == 2


def test_errors_carry_status_code_and_message(flux: Flux) -> None:
    with pytest.raises(FluxError) as refused:
        list(flux.list(filter="nonsense"))
    assert (refused.value.status, refused.value.code) == (400, "invalid_filter")
    assert refused.value.message and "invalid_filter" in str(refused.value)
    with pytest.raises(FluxError) as refused, flux.watch("*", filter="nonsense"):
        pass
    assert refused.value.code == "invalid_filter"
    with pytest.raises(ValueError):
        Flux("localhost:3000")


def test_nobody_there_is_an_error_in_time() -> None:
    with Flux("http://127.0.0.1:1", retry_for=0.3) as flux:
        with pytest.raises(UnreachableError) as refused:
            flux.get("a/b")
        assert refused.value.status is None
        with pytest.raises(UnreachableError), flux.watch(give_up_after=0.3):
            pass


def test_the_asyncio_client_has_the_same_calls(shared: Server) -> None:
    async def run() -> None:
        async with AsyncFlux(shared.url) as flux:
            await flux.publish("same/a", {"x": 1})
            before = [event async for event in flux.history("same/a")]
            assert await flux.increment("same/a", "x") == 2
            entity = await flux.get("same/a")
            assert entity is not None and entity.properties == {"x": 2}
            past = await flux.at("same/a", before[0].accepted_at)
            assert past is not None and past.properties == {"x": 1}
            await flux.publish_many([NewEvent("same/b"), NewEvent("same/c")], atomic=True)
            assert [e.id async for e in flux.list(prefix="same/")] == ["same/a", "same/b", "same/c"]
            assert await flux.delete("same/b") is not None
            assert await flux.delete("same/b") is None
            assert isinstance((await flux.publish_many([NewEvent("same/d")]))[0], Published)
            async with flux.lease("same/lease"):
                async with flux.watch("same/*", mode="event") as watch:
                    await flux.publish("same/e", {"x": 5})
                    async for event in watch:
                        assert isinstance(event, Event) and event.entity_id == "same/e"
                        break

    asyncio.run(run())


def test_writes_count_once_though_their_answers_are_lost(server: Server) -> None:
    """The proxy cuts each connection within a few answers; in the middle the server is killed."""
    proxy = Proxy(server.port, seed=1, cut_bytes_max=5000)
    with Flux(proxy.url, retry_for=120) as flux:
        for count in range(1, 51):
            assert flux.increment("lost/a", "n") == count
            flux.publish_many([NewEvent("lost/b", increment={"n": 1})])
            flux.publish_many([NewEvent("lost/c", increment={"n": 1})], atomic=True)
            if count == 25:
                server.kill()
                server.start()
        for name in "bc":
            entity = flux.get(f"lost/{name}")
            assert entity is not None and entity.properties == {"n": 50}
    assert proxy.cuts > 20
    proxy.close()


def test_an_answer_that_trickles_in_is_given_up_in_time() -> None:
    def trickle(client: socket.socket) -> None:
        with client:
            client.recv(4096)
            try:
                client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
                for _ in range(100):
                    time.sleep(0.03)
                    client.sendall(b" ")
            except OSError:
                pass  # The client has given up.

    def serve() -> None:
        for _ in range(2):
            threading.Thread(target=trickle, args=(listener.accept()[0],), daemon=True).start()

    async def answer() -> object:
        async with AsyncFlux(url) as flux:
            return await flux._answer(attempt)

    attempt = Attempt("GET", "/api/state/entity", timeout=0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Flux(url) as flux:
            assert isinstance(flux._answer(attempt), TimeoutError)
        assert isinstance(asyncio.run(answer()), TimeoutError)
