"""Leases of one client. That those of several never overlap is shown by the rig of all clients."""

from __future__ import annotations

import asyncio
import time

import pytest
from server import Server

from flux_client import (
    AsyncFlux,
    ConflictError,
    Flux,
    FluxError,
    LeaseLostError,
    NewEvent,
)
from flux_client._core import Attempt, Reply


def test_a_lease_has_one_holder_until_it_is_released(flux: Flux) -> None:
    mine, yours = flux.lease("leases/a", ttl=5), flux.lease("leases/a", ttl=5)
    assert mine.claim() and mine.held
    assert not yours.claim() and not yours.held
    with pytest.raises(LeaseLostError):
        yours.check()
    first = mine.sequence
    assert mine.release() and not mine.held
    assert yours.claim(wait=10)
    assert first is not None and yours.sequence is not None and yours.sequence > first
    assert not mine.renew() and not mine.release()
    assert yours.release()


def test_a_lease_is_kept_while_its_holder_lives_and_ends_after_it(flux: Flux) -> None:
    with flux.lease("leases/b", ttl=1, properties={"job": "print"}) as lease:
        time.sleep(2.5)
        assert lease.held
        entity = flux.get("leases/b")
        assert entity is not None
        assert entity.properties == {"job": "print", "holder": lease.holder}
    dead = flux.lease("leases/b", ttl=1)
    assert dead.claim()
    dead._stop()
    heir = flux.lease("leases/b", ttl=1)
    assert heir.claim(wait=30)
    assert not dead.held
    assert heir.release()


def test_a_holder_stops_by_its_own_clock_while_the_server_is_away(server: Server) -> None:
    with Flux(server.url) as flux:
        lease = flux.lease("leases/away", ttl=1)
        assert lease.claim()
        server.kill()
        end = time.monotonic() + 30
        while lease.held:
            assert time.monotonic() < end, "the holder never noticed"
            time.sleep(0.01)
        with pytest.raises(LeaseLostError):
            lease.check()
        server.start()
        heir = flux.lease("leases/away", ttl=1)
        assert heir.claim(wait=30)
        assert heir.release()


@pytest.mark.filterwarnings("error")
def test_a_client_that_is_closed_renews_no_lease(shared: Server) -> None:
    with Flux(shared.url) as closed, Flux(shared.url) as other:
        lease = closed.lease("leases/closed", ttl=1)
        assert lease.claim()
        thread = lease._thread
        closed.close()
        assert thread is not None
        thread.join(30)
        assert not thread.is_alive()
        assert other.lease("leases/closed", ttl=1).claim(wait=30)


def test_a_lease_that_is_claimed_again_is_still_held_and_one_of_no_time_is_refused(
    flux: Flux, shared: Server
) -> None:
    lease = flux.lease("leases/twice", ttl=5)
    assert lease.claim()
    sequence = lease.sequence
    assert lease.claim() and lease.held
    assert lease.sequence == sequence and lease.release()

    async def run() -> None:
        async with AsyncFlux(shared.url) as flux:
            lease = flux.lease("leases/twice", ttl=5)
            assert await lease.claim() and await lease.claim()
            assert await lease.release()

    asyncio.run(run())
    for ttl in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError):
            flux.lease("leases/twice", ttl=ttl)


def test_a_lease_that_its_holder_gave_back_is_not_lost(flux: Flux, shared: Server) -> None:
    with flux.lease("leases/back", ttl=5) as lease:
        assert lease.release()
    # A second holder is not disturbed by the end of `with`.
    with flux.lease("leases/back", ttl=5) as lease:
        assert lease.release()
        other = flux.lease("leases/back", ttl=5)
        assert other.claim()
    assert other.renew() and other.release()

    async def run() -> None:
        async with AsyncFlux(shared.url) as flux, flux.lease("leases/back", ttl=5) as lease:
            assert await lease.release()

    asyncio.run(run())


def test_what_needs_the_lease_is_refused_without_it(flux: Flux) -> None:
    with pytest.raises(LeaseLostError):
        with flux.lease("leases/c", ttl=5) as lease:
            work = NewEvent("leases/work", increment={"n": 1})
            flux.publish_many([lease.guard(), work], atomic=True)
            flux.delete("leases/c")
            with pytest.raises(ConflictError):
                flux.publish_many([lease.guard(), NewEvent("leases/work")], atomic=True)
            assert not lease.renew()
            with pytest.raises(LeaseLostError):
                lease.check()


def test_the_error_of_the_body_is_not_hidden(flux: Flux) -> None:
    with pytest.raises(KeyError):
        with flux.lease("leases/d"):
            flux.delete("leases/d")
            raise KeyError("mine")


def test_the_error_of_the_body_is_not_hidden_by_a_release_that_is_refused(
    flux: Flux, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> bool:
        raise FluxError(403, "not_writable", "no")

    lease = flux.lease("leases/h")
    with pytest.raises(KeyError):
        with lease:
            monkeypatch.setattr(lease, "release", refuse)
            raise KeyError("mine")
    lease._stop()
    lease = flux.lease("leases/i")
    with pytest.raises(FluxError, match="no"):
        with lease:
            monkeypatch.setattr(lease, "release", refuse)
    lease._stop()


def test_a_renewal_leaves_time_for_others_after_it(flux: Flux) -> None:
    lease = flux.lease("leases/j", ttl=20)
    call = lease.renew_call()
    first = next(call)
    second = call.send(OSError("cut"))
    assert (first.timeout, second.timeout) == (5.0, 5.0)
    assert first.body == second.body


def test_a_claim_that_is_cancelled_leaves_no_lease_behind(shared: Server) -> None:
    async def run() -> None:
        async with AsyncFlux(shared.url) as flux:
            answer, is_stored = flux._answer, asyncio.Event()

            async def lose_the_first(attempt: Attempt) -> Reply | Exception:
                reply = await answer(attempt)
                if not is_stored.is_set():
                    is_stored.set()
                    await asyncio.Event().wait()
                return reply

            flux._answer = lose_the_first  # type: ignore[method-assign]
            claim = asyncio.create_task(flux.lease("leases/k", ttl=60).claim())
            await is_stored.wait()
            claim.cancel()
            with pytest.raises(asyncio.CancelledError):
                await claim
            other = flux.lease("leases/k")
            assert await other.claim()
            assert await other.release()

    asyncio.run(run())


def test_a_lease_of_asyncio_is_kept_released_and_cancelled(shared: Server) -> None:
    async def run() -> None:
        async with AsyncFlux(shared.url) as flux:
            async with flux.lease("leases/f", ttl=1) as lease:
                await asyncio.sleep(2.5)
                assert lease.held
            assert await flux.get("leases/f") is None
            waiting = asyncio.create_task(flux.lease("leases/g").__aenter__())
            first = await waiting
            second = asyncio.create_task(flux.lease("leases/g").__aenter__())
            await asyncio.sleep(0.2)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert await first.release()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
