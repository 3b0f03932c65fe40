"""A lease without I/O: an entity that its holder creates, renews before it expires, and deletes.

There is never more than one holder by the server's order of events. The holder itself counts by its
own clock from before it sent the last renewal that succeeded, so it stops before the server would
give the lease to another.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from ._core import Call, Core, is_outage
from ._errors import ConflictError, FluxError, LeaseLostError
from ._types import Expect, NewEvent, new_event_id

_log = logging.getLogger("flux_client")
_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)

# Seconds between attempts to claim a lease that another holds, at most.
CLAIM_PAUSE_MAX = 1.0
# Seconds until a renewal without an answer is sent again, at most; else a quarter of `ttl`.
RENEWAL_TIMEOUT_MAX = 10.0
# Seconds.
TTL_MIN = 0.1
TTL_MAX = 315_360_000
# Seconds that giving back what a cancelled claim may have got may take, at most.
GIVE_BACK_TIMEOUT = 2.0


def _now() -> float:
    # Unlike the monotonic clock, this one goes on while the machine is suspended, as the server's.
    return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)


class LeaseCore:
    """What `Lease` and `AsyncLease` share. `holder` is the name of a single claim."""

    def __init__(
        self, core: Core, entity_id: str, ttl: float, properties: Mapping[str, Any] | None
    ) -> None:
        # The server's bounds. Times of attempts follow from it, so it is not left to the server.
        if not TTL_MIN <= ttl <= TTL_MAX:
            raise ValueError(f"the ttl of a lease has {TTL_MIN} to {TTL_MAX} s, not {ttl}")
        self._core = core
        self.entity_id = entity_id
        self.ttl = ttl
        self.holder = new_event_id()
        self._properties = dict(properties or {})
        self._held_until: float | None = None
        # Whether the server may have stored a claim whose answer has not come.
        self.claim_is_open = False
        # Whether the claim has ended by `release`.
        self.is_released = False
        # The place of the claim in the order of events. It rises with each holder.
        self.sequence: int | None = None

    @property
    def held(self) -> bool:
        """Whether the lease is surely still this holder's."""
        return self._held_until is not None and _now() < self._held_until

    def check(self) -> None:
        """Raises LeaseLostError if the lease is not surely held."""
        if not self.held:
            raise LeaseLostError(self.entity_id)

    @property
    def expect(self) -> Expect:
        """The condition that the lease is still this holder's."""
        return {"properties": {"holder": self.holder}}

    def guard(self) -> NewEvent:
        """An event for an atomic batch, which is then refused if the lease is another's.

        Each call makes another event. Make the list once, and send the same list again after
        UnreachableError: a batch of which only some events are known is 409 `event_id_reused`.
        """
        return NewEvent(self.entity_id, expect=self.expect)

    @property
    def renewal_pause(self) -> float:
        return self.ttl / 3

    @property
    def seconds_left(self) -> float:
        return 0.0 if self._held_until is None else max(0.0, self._held_until - _now())

    def claim_call(self) -> Call[bool]:
        """One attempt to get the lease."""
        if self.sequence is not None:
            # What was sent under the lease that ended must not count under this one.
            self.holder = new_event_id()
        self.sequence = self._held_until = None
        self.is_released = False
        properties = {**self._properties, "holder": self.holder}
        event = NewEvent(self.entity_id, properties, ttl=self.ttl, expect={"absent": True})
        before = _now()
        self.claim_is_open = True
        try:
            published = yield from self._core.publish(event, self.ttl)
        except ConflictError as error:
            entity = error.entity
            if entity is None or entity.properties.get("holder") != self.holder:
                self.claim_is_open = False
                return False
            # An earlier attempt, whose answer was lost, has got it.
            return (yield from self.renew_call())
        self.sequence = published.sequence
        self._held_until = before + self.ttl
        return self.held or (yield from self.renew_call())

    def renew_call(self) -> Call[bool]:
        """Makes the lease last for another `ttl` from now on. False if it is another's or gone."""
        before = _now()
        event = NewEvent(self.entity_id, ttl=self.ttl, expect=self.expect)
        try:
            # One renewal whose answer is lost leaves time for others.
            published = yield from self._core.publish(
                event, self.seconds_left or self.ttl, min(RENEWAL_TIMEOUT_MAX, self.ttl / 4)
            )
        except ConflictError:
            self._held_until = None
            return False
        if self.sequence is None:
            self.sequence = published.sequence
        self._held_until = before + self.ttl
        return True

    def keep_call(self) -> Call[bool]:
        """A renewal in the background: one without an answer is tried again until time is up."""
        try:
            return (yield from self.renew_call())
        except FluxError as error:
            if not is_outage(error):
                raise
            return self.held

    def release_call(self) -> Call[bool]:
        """Gives the lease back. False if it was no longer this holder's."""
        self._held_until = None
        event = NewEvent(self.entity_id, {"__deleted__": True}, expect=self.expect)
        try:
            yield from self._core.publish(event, self.ttl)
        except ConflictError:
            return False
        self.is_released = True
        return True

    def not_given_back(self, error: FluxError, *, is_error_of_body: bool) -> None:
        """The release at the end of `with` has failed. The error of the body is the one to see."""
        if not is_error_of_body and not is_outage(error):
            raise error
        # The lease ends by itself.
        _log.warning("lease %s is not given back: %s", self.entity_id, error)
