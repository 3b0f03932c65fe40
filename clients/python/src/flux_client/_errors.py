"""What is raised if a call does not succeed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Union

from ._types import Entity, NewEvent, Published


class FluxError(Exception):
    """The server refused a call, or could not be reached.

    `status` is that of HTTP, None if there was no answer; `code` is stable; `message` says what is
    wrong. `entity` is what a failed condition met, None also if there is no entity. `index` names
    the event of an atomic batch. `retry_after` is in seconds.

    If `publish_many` fails after a part of it succeeded, `results` are those of the first events, and
    `events` are all that were to be published.
    """

    def __init__(
        self,
        status: int | None,
        code: str,
        message: str,
        *,
        entity: Entity | None = None,
        index: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message if status is None else f"{message} ({status} {code})")
        self.status = status
        self.code = code
        self.message = message
        self.entity = entity
        self.index = index
        self.retry_after = retry_after
        self.results: Sequence[Union[Published, FluxError]] = ()
        self.events: Sequence[NewEvent] = ()


class ConflictError(FluxError):
    """409: a condition did not hold, or the event id was used for something else."""


class UnreachableError(FluxError):
    """No answer came for as long as the client retries. The write may or may not have happened."""


class ClosedError(FluxError):
    """The client was closed before the call had its answer. A write may or may not have happened."""

    def __init__(self) -> None:
        super().__init__(None, "closed", "the client is closed")


class LeaseLostError(FluxError):
    """The lease is no longer the holder's, or it can't know that it still is."""

    def __init__(self, entity_id: str) -> None:
        super().__init__(None, "lease_lost", f"the lease {entity_id} is no longer held")


# The statuses that the codes of refused batch items and WebSocket messages have over HTTP. What is
# not here is 400: it says what is wrong with what was sent.
_STATUS = {
    "precondition_failed": 409,
    "event_id_reused": 409,
    "history_removed": 410,
    "rate_limited": 429,
    "record_too_large": 413,
    "token_missing": 401,
    "token_malformed": 401,
    "token_unknown": 401,
    "ticket_unknown": 401,
    "reserved_namespace": 403,
    "not_namespace_owner": 403,
    "scope_missing": 403,
    "outside_prefix": 403,
    "not_readable": 403,
    "access_ended": 403,
    "overloaded": 503,
    "storage_full": 503,
    "storage_fault": 503,
    "storage_read_only": 503,
    "storage_unavailable": 503,
    "state_damaged": 503,
    "history_unreadable": 503,
    "not_ready": 503,
    "shutting_down": 503,
}


def error_of(
    body: Mapping[str, Any], status: int | None = None, retry_after: float | None = None
) -> FluxError:
    """The error that a body, an item of a batch or a message names."""
    code = str(body.get("code", "unknown"))
    status = _STATUS.get(code, 400) if status is None else status
    entity = body.get("entity")
    return (ConflictError if status == 409 else FluxError)(
        status,
        code,
        str(body.get("error", "the server said no more")),
        entity=Entity.from_json(entity) if isinstance(entity, Mapping) else None,
        index=body.get("index"),
        retry_after=retry_after,
    )
