"""The calls of HTTP without I/O: what to send, when to send it again, what the answer means.

Each call is a generator. It yields an `Attempt`, is sent the `Reply` to it (or the error that came
instead), and returns the result. `Flux` and `AsyncFlux` run the same generators.

All calls are safe to repeat: reads anyway, and a write because its event id is made before the first
attempt, so the server counts it once. A deletion is therefore published as a tombstone with an id.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar, Union
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from ._errors import ConflictError, FluxError, UnreachableError, error_of
from ._numbers import decode, encode
from ._types import Entity, Event, Expect, NewEvent, Number, Published, field_names

PAUSE_MIN = 0.1
PAUSE_MAX = 10.0
# Seconds that a watch or a claim waits at most because `Retry-After` says so. A call gives up
# instead of waiting long; these may have nobody who would make them again.
PATIENT_RETRY_AFTER_MAX = 300.0
# What `Retry-After` asks for beyond a day counts as a day: clocks and sleeps overflow somewhere.
RETRY_AFTER_MAX = 86_400.0
# Events and bytes of a request of `publish_many`; the server's bounds are 150,000 and 10 MiB.
BATCH_EVENTS_MAX = 1000
BATCH_BYTES_MAX = 4 << 20
# Entities of a page of `list`, events of a page of `history`.
LIST_PAGE = 1000
HISTORY_PAGE = 500

T = TypeVar("T")
Results = list[Union[Published, FluxError]]
Time = Union[datetime, int, str]


@dataclass(frozen=True)
class Attempt:
    """A request, to be sent `wait` seconds from now and given up `timeout` seconds later, as a whole."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    timeout: float = 10.0
    wait: float = 0.0

    @property
    def target(self) -> str:
        """Path and query. A space is `%20`: to Flux a plus sign is a plus sign."""
        query = urlencode(self.params, quote_via=quote, safe="")
        return f"{self.path}?{query}" if query else self.path


@dataclass(frozen=True)
class Reply:
    """An answer. Names of header fields are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Call = Generator[Attempt, Union[Reply, Exception], T]


@dataclass(frozen=True)
class Page:
    """A page of a list or of history, and how to ask for the next."""

    rows: Sequence[Any]
    next_params: Mapping[str, str] | None


def jittered_pause(failures: int) -> float:
    """A pause after so many failures in a row, from 1: full jitter under a cap that doubles."""
    cap = min(PAUSE_MAX, PAUSE_MIN * 2.0 ** min(failures - 1, 10))
    return random.uniform(0.0, cap)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """`Retry-After`, which the server sends in seconds, and a proxy perhaps as a date.

    What is neither says no time, but still that waiting helps: 0. None if there is no such field.
    """
    text = headers.get("retry-after", "")
    if not text:
        return None
    if text.isascii() and text.isdigit():
        # Of any number of digits: what is too large for a float is infinite.
        return min(float(text), RETRY_AFTER_MAX)
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        seconds = (date - datetime.now(timezone.utc)).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), RETRY_AFTER_MAX)


def reply_error(reply: Reply, decimal: bool) -> FluxError:
    """The error in a reply, which may be that of a proxy and no JSON."""
    try:
        body = decode(reply.body, decimal)
    except ValueError:
        body = None
    if not isinstance(body, Mapping):
        body = {"error": f"the answer has status {reply.status}", "code": "unknown"}
    return error_of(body, reply.status, retry_after_seconds(reply.headers))


def may_retry(error: FluxError) -> bool:
    """Whether waiting can help: the server says so, or a proxy can't reach it."""
    if error.status in (429, 503) and error.retry_after is not None:
        return True
    return error.status in (502, 504)


def is_outage(error: FluxError) -> bool:
    """Whether the server can't be had for now, which says nothing of the call itself."""
    return isinstance(error, UnreachableError) or may_retry(error)


def is_untrusted(error: BaseException | None) -> bool:
    """Whether the server's certificate is not trusted, which no waiting changes."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _time_text(time_: Time) -> str:
    if isinstance(time_, datetime):
        if time_.tzinfo is None:
            raise ValueError("a time needs a time zone")
        return time_.isoformat()
    return str(time_)


class Core:
    """The calls of one client. `retry_for` is in seconds and holds for each call."""

    def __init__(self, stream: str, source: str, decimal: bool, retry_for: float) -> None:
        self.stream = stream
        self.source = source
        self.decimal = decimal
        self.retry_for = retry_for

    def _exchange(self, attempt: Attempt, retry_for: float | None = None) -> Call[Reply]:
        """The first reply that is no reason to try again. Errors that waiting can't help are raised.

        If `retry_for` is given, the last attempt too ends within it.
        """
        is_bounded = retry_for is not None
        if retry_for is None:
            retry_for = self.retry_for
        else:
            attempt = replace(attempt, timeout=min(attempt.timeout, retry_for))
        end = time.monotonic() + retry_for
        failures = 0
        while True:
            reply = yield attempt
            if isinstance(reply, Reply):
                if reply.status < 300:
                    return reply
                error = reply_error(reply, self.decimal)
                if not may_retry(error):
                    raise error
            else:
                error = UnreachableError(None, "unreachable", f"no answer came: {reply!r}")
                error.__cause__ = reply
                if is_untrusted(reply):
                    raise error
            failures += 1
            pause = jittered_pause(failures) + (error.retry_after or 0.0)
            left = end - time.monotonic() - pause
            if left <= 0:
                raise error
            timeout = min(attempt.timeout, left) if is_bounded else attempt.timeout
            attempt = replace(attempt, wait=pause, timeout=timeout)

    def _json(self, reply: Reply, member: str | None = None) -> Any:
        """The value of the body: an object with this member, or a list.

        What answers 200 with something else is no Flux server, but perhaps a proxy.
        """
        try:
            value = decode(reply.body, self.decimal)
        except ValueError as error:
            message = "the answer is no JSON"
            raise FluxError(reply.status, "unknown", message) from error
        is_right = isinstance(value, list) if member is None else isinstance(value, dict) and member in value
        if not is_right:
            raise FluxError(reply.status, "unknown", "the answer is none of a Flux server")
        return value

    def get(self, entity_id: str, fields: Sequence[str] | None, at: Time | None) -> Call[Entity | None]:
        params = {"id": entity_id}
        if fields is not None:
            params["fields"] = field_names(fields)
        if at is not None:
            params["at"] = _time_text(at)
        try:
            reply = yield from self._exchange(Attempt("GET", "/api/state/entity", params))
        except FluxError as error:
            if error.code == "entity_not_found":
                return None
            raise
        etag, cursor = reply.headers.get("etag"), reply.headers.get("flux-cursor")
        return Entity.from_json(self._json(reply, "id"), etag, cursor)

    def list_params(
        self,
        prefix: str | None,
        namespace: str | None,
        filter_: str | None,
        fields: Sequence[str] | None,
        at: Time | None,
    ) -> dict[str, str]:
        params = {"limit": str(LIST_PAGE)}
        given = {"prefix": prefix, "namespace": namespace, "filter": filter_}
        params.update({name: value for name, value in given.items() if value is not None})
        if fields is not None:
            params["fields"] = field_names(fields)
        if at is not None:
            params["at"] = _time_text(at)
        return params

    def history_params(
        self,
        entity_id: str | None,
        namespace: str | None,
        since: Time | None,
        until: Time | None,
        limit: int | None,
    ) -> dict[str, str]:
        params = {"limit": str(HISTORY_PAGE if limit is None else max(1, min(limit, HISTORY_PAGE)))}
        given = {"entity": entity_id, "namespace": namespace}
        params.update({name: value for name, value in given.items() if value is not None})
        times = {"since": since, "until": until}
        params.update({name: _time_text(at) for name, at in times.items() if at is not None})
        return params

    def page(self, path: str, params: Mapping[str, str]) -> Call[Page]:
        """A page of entities or events, as the server has it."""
        reply = yield from self._exchange(Attempt("GET", path, params))
        make = Event.from_json if path == "/api/events" else Entity.from_json
        rows = [make(row) for row in self._json(reply)]
        return Page(rows, _next_params(reply.headers.get("link", "")))

    def publish(
        self, event: NewEvent, retry_for: float | None = None, timeout: float = 10.0
    ) -> Call[Published]:
        body = encode(event.to_json(self.stream, self.source)).encode()
        attempt = Attempt("POST", "/api/events", body=body, timeout=timeout)
        reply = yield from self._exchange(attempt, retry_for)
        return Published.from_json(self._json(reply, "eventId"))

    def publish_atomic(self, events: Iterable[NewEvent]) -> Call[list[Published]]:
        events = list(events)
        texts = [encode(event.to_json(self.stream, self.source)) for event in events]
        try:
            results = yield from self._batch(texts, ',"atomic":true')
        except FluxError as error:
            error.events = events
            raise
        return [Published.from_json(result) for result in results]

    def publish_many(self, events: Iterable[NewEvent]) -> Call[Results]:
        """One request after the other, so that the order holds."""
        events = list(events)
        texts = [encode(event.to_json(self.stream, self.source)) for event in events]
        results: Results = []
        for chunk in _chunks(texts):
            try:
                answers = yield from self._batch(chunk, "")
            except FluxError as error:
                error.results, error.events = results, events
                raise
            for answer in answers:
                refused = "error" in answer
                results.append(error_of(answer) if refused else Published.from_json(answer))
        return results

    def _batch(self, texts: Sequence[str], options: str) -> Call[list[Any]]:
        if not texts:
            return []
        body = f'{{"events":[{",".join(texts)}]{options}}}'.encode()
        reply = yield from self._exchange(
            Attempt("POST", "/api/events/batch", body=body, timeout=30.0)
        )
        results: list[Any] = self._json(reply, "results")["results"]
        return results

    def increment(
        self, entity_id: str, name: str, by: Number, event_id: str | None
    ) -> Call[Any]:
        event = NewEvent(entity_id, increment={name: by})
        if event_id is not None:
            event = replace(event, event_id=event_id)
        published = yield from self.publish(event)
        return published.properties.get(name)

    def delete(
        self, entity_id: str, expect: Expect | None, event_id: str | None
    ) -> Call[Published | None]:
        condition: Expect = {"present": True}
        if expect is not None:
            condition.update(expect)
        event = NewEvent(entity_id, {"__deleted__": True}, expect=condition)
        if event_id is not None:
            event = replace(event, event_id=event_id)
        try:
            return (yield from self.publish(event))
        except ConflictError as error:
            if expect is None and error.code == "precondition_failed" and error.entity is None:
                return None
            raise


def _chunks(texts: Sequence[str]) -> Iterable[Sequence[str]]:
    start = size = 0
    for index, text in enumerate(texts):
        if index > start and (
            index - start >= BATCH_EVENTS_MAX or size + len(text) > BATCH_BYTES_MAX
        ):
            yield texts[start:index]
            start, size = index, 0
        # A character has at most four bytes.
        size += len(text) if text.isascii() else 4 * len(text)
    if start < len(texts):
        yield texts[start:]


def _next_params(link: str) -> dict[str, str] | None:
    """The query of the next page, from a `Link` field with one link."""
    target, _, relation = link.partition(">")
    if not target.startswith("<") or 'rel="next"' not in relation:
        return None
    # Here a plus sign is a plus sign, not a space as in forms.
    query = urlsplit(target[1:]).query.replace("+", "%2B")
    return {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
