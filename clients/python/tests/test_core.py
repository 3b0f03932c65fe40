"""What needs no server: numbers, retries, and what a subscription makes of messages."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from email.utils import format_datetime
from types import MappingProxyType
from typing import Any

import pytest

from flux_client import (
    Change,
    ConflictError,
    Deleted,
    FluxError,
    NewEvent,
    Reset,
    Snapshot,
    UnreachableError,
)
from flux_client import _core
from flux_client._core import Attempt, Core, Reply, jittered_pause
from flux_client._numbers import decode, encode
from flux_client._settings import settings
from flux_client._watch import Again, Subscription, WatchOptions

STORED = b'{"eventId":"e","stream":"s","version":1,"sequence":1,"cursor":"c"}'
CORE = Core("s", "me", False, 30.0)


@pytest.mark.parametrize("text", ["22.50", "-0", "-0.0", "12345678901234567890123", "1E+2"])
def test_numbers_keep_their_digits_as_decimals(text: str) -> None:
    nested = f'{{"a":[{text},{{"b":{text}}}],"c":"é"}}'
    assert encode(decode(nested, True)) == nested


@pytest.mark.parametrize("value", [float("nan"), Decimal("Infinity"), {1: Decimal(2)}, {"a": {1}}])
def test_what_json_does_not_have_is_refused(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode(value)


def attempts(replies: list[Reply | Exception], core: Core = CORE) -> tuple[list[Attempt], Any]:
    """What a publish sends if it is answered so, and what it returns or raises."""
    call = core.publish(NewEvent("a/b", {"x": 1}))
    sent = [next(call)]
    try:
        for reply in replies:
            sent.append(call.send(reply))
    except StopIteration as end:
        return sent, end.value
    except FluxError as error:
        return sent, error
    raise AssertionError("the call goes on")


def refusal(status: int, **headers: str) -> Reply:
    body = json.dumps({"error": "no", "code": "why"}).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def test_a_repeated_publish_is_the_same_event() -> None:
    sent, published = attempts([OSError(), refusal(503, retry_after="1"), Reply(200, {}, STORED)])
    assert published.sequence == 1
    assert len(sent) == 3
    assert len({attempt.body for attempt in sent}) == 1
    assert json.loads(sent[0].body or b"")["eventId"]


def test_retry_after_is_the_least_that_is_waited() -> None:
    sent, _ = attempts([refusal(429, retry_after="7"), Reply(200, {}, STORED)])
    assert 7 <= sent[1].wait <= 7.1


def test_only_what_waiting_can_help_is_repeated() -> None:
    for status in (400, 401, 403, 404, 409, 410, 413, 500, 503):
        sent, error = attempts([refusal(status)])
        assert (len(sent), error.status, error.code, error.message) == (1, status, "why", "no")
    for reply in (refusal(429, retry_after="1"), refusal(503, retry_after="1"), refusal(502)):
        assert len(attempts([reply, Reply(200, {}, STORED)])[0]) == 2


def test_a_call_ends_before_a_pause_that_is_longer_than_its_time() -> None:
    sent, error = attempts([refusal(503, retry_after="60")])
    assert (len(sent), error.status, error.retry_after) == (1, 503, 60)
    sent, error = attempts([OSError("cut")], Core("s", "me", False, 0.0))
    assert (len(sent), error.code) == (1, "unreachable")


def test_pauses_have_full_jitter_under_a_cap_that_doubles() -> None:
    for failures, cap in [(1, 0.1), (2, 0.2), (5, 1.6), (8, 10.0), (1000, 10.0)]:
        pauses = [jittered_pause(failures) for _ in range(500)]
        assert max(pauses) <= cap
        assert max(pauses) > cap * 0.9
        assert min(pauses) < cap * 0.1


@pytest.mark.parametrize("body", [b"<html>", b"", b"{}", b"[]", b"null"])
def test_a_success_that_is_none_of_a_flux_server_is_an_error(body: bytes) -> None:
    calls: list[Any] = [CORE.get("a", None, None), CORE.publish(NewEvent("a")), CORE.publish_many([NewEvent("a")])]
    for call in calls:
        next(call)
        with pytest.raises(FluxError) as raised:
            call.send(Reply(200, {}, body))
        assert (raised.value.status, raised.value.code) == (200, "unknown")


def test_a_large_batch_is_sent_in_parts_that_fit() -> None:
    texts = ["x" * 1000] * 2500 + ["y" * (_core.BATCH_BYTES_MAX + 1)] + ["z"]
    chunks = list(_core._chunks(texts))
    assert [text for chunk in chunks for text in chunk] == texts
    assert [len(chunk) for chunk in chunks] == [1000, 1000, 500, 1, 1]


def test_the_next_page_is_as_the_link_says() -> None:
    link = '</api/state/entities?limit=2&prefix=a%2Fb+c&after=a%2Fb%26>; rel="next"'
    assert _core._next_params(link) == {"limit": "2", "prefix": "a/b+c", "after": "a/b&"}
    assert _core._next_params("") is None


def row(entity_id: str, version: int = 1, **properties: Any) -> dict[str, Any]:
    return {
        "id": entity_id,
        "properties": properties,
        "version": version,
        "lastUpdated": "2026-01-31T12:00:00.000120Z",
    }


def changed(entity_id: str, version: int, properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "type": "entity",
        "entity_id": entity_id,
        "properties": properties,
        "removed": [],
        "version": version,
        "sequence": 10 + version,
        "timestamp": "2026-01-31T12:00:00.000120Z",
        **more,
    }


def event(entity_id: str, sequence: int) -> dict[str, Any]:
    return {
        "type": "event",
        "eventId": str(sequence),
        "stream": "s",
        "source": "me",
        "payload": {"entity_id": entity_id, "properties": {}},
        "sequence": sequence,
        "acceptedAt": "2026-01-31T12:00:00.000120Z",
        "cursor": "one",
    }


def end(cursor: str) -> dict[str, Any]:
    return {"type": "snapshot_end", "id": 1, "cursor": cursor}


class Feed:
    """A subscription, fed with messages."""

    def __init__(self, mode: Any = "entity", pattern: str = "*", **options: Any) -> None:
        self.subscription = Subscription(WatchOptions(pattern, mode, **options), False)

    def begin(self) -> dict[str, Any]:
        text, self.first = self.subscription.begin()
        message: dict[str, Any] = json.loads(text)
        return message

    def feed(self, *messages: dict[str, Any]) -> list[Any]:
        return [update for m in messages for update in self.subscription.receive(json.dumps(m))]


def test_a_copy_is_exact_after_the_snapshot_and_each_change() -> None:
    feed = Feed()
    assert feed.begin()["snapshot"] is True
    page = {"type": "snapshot", "id": 1, "entities": [row("a", x=1), row("b", x=1)], "more": True}
    gone = {"type": "entity_deleted", "entity_id": "b", "sequence": 3, "timestamp": "…"}
    updates = feed.feed(page, changed("a", 2, {"y": 2}), gone, end("C"))
    assert [type(update) for update in updates] == [Snapshot]
    assert {id: dict(e.properties) for id, e in updates[0].entities.items()} == {"a": {"x": 1, "y": 2}}
    [change] = feed.feed(changed("a", 3, {"z": 3}, removed=["x"]))
    assert isinstance(change, Change)
    assert change.entity.properties == {"y": 2, "z": 3}
    assert feed.feed({"type": "entity_deleted", "entity_id": "never", "sequence": 4}) == []
    [deleted] = feed.feed({"type": "entity_deleted", "entity_id": "a", "sequence": 5})
    assert deleted == Deleted("a", 5)
    assert feed.subscription.entities == {}


def test_what_is_sent_again_after_a_break_is_handed_out_once() -> None:
    feed = Feed()
    feed.begin()
    feed.feed(end("C"), changed("a", 1, {"x": 1}))
    feed.subscription.broke()
    assert feed.begin()["since"] == "C"
    whole = changed("a", 1, {"x": 1}, whole=True)
    news = changed("b", 1, {"x": 1}, whole=True)
    updates = feed.feed(whole, news, {"type": "caught_up", "id": 1, "cursor": "D"})
    assert [update.entity.id for update in updates] == ["b"]


def test_what_was_missed_is_handed_out_when_all_of_it_is_there() -> None:
    feed = Feed()
    feed.begin()
    feed.feed(end("C"), changed("left", 1, {}))
    feed.subscription.broke()
    feed.begin()
    # The one that came is told before the one that went, in no order of the server's.
    came = changed("came", 1, {"x": 1}, whole=True)
    assert feed.feed(came) == []
    feed.subscription.broke()
    assert feed.begin()["since"] == "C"
    gone = {"type": "entity_deleted", "entity_id": "left", "sequence": 3}
    assert feed.feed(came, gone) == []
    updates = feed.feed({"type": "caught_up", "id": 1, "cursor": "D"})
    assert [type(update) for update in updates] == [Change, Deleted]
    assert [type(update) for update in feed.feed(changed("came", 2, {"x": 2}))] == [Change]
    # What a snapshot replaces is told by it alone.
    feed.subscription.broke()
    feed.begin()
    reset = {"type": "resync", "id": 1, "reason": "too_far"}
    assert feed.feed(changed("new", 1, {}, whole=True), reset) == [Reset("too_far")]
    assert [type(update) for update in feed.feed(end("E"))] == [Snapshot]


def test_lost_history_is_a_reset_and_a_new_snapshot() -> None:
    feed = Feed()
    feed.begin()
    feed.feed(end("C"), changed("a", 1, {"x": 1}))
    updates = feed.feed({"type": "resync", "id": 1, "reason": "too_far"})
    assert updates == [Reset("too_far")]
    assert feed.subscription.cursor is None
    feed.subscription.broke()
    assert "snapshot" in feed.begin()
    assert feed.feed(end("D")) == [Snapshot({})]
    assert feed.subscription.entities == {}


def test_events_come_once_and_lost_ones_are_a_reset() -> None:
    feed = Feed("event", since="C")
    assert feed.begin()["since"] == "C"
    assert len(feed.feed(event("a/1", 1), event("b/1", 1), event("a/2", 2))) == 3
    feed.subscription.broke()
    assert feed.begin()["since"] == "C"
    again = feed.feed(event("a/1", 1), event("b/1", 1), event("a/2", 2), event("a/3", 3))
    assert [update.sequence for update in again] == [3]
    lost = {"type": "error", "id": 1, "error": "gone", "code": "history_removed"}
    assert feed.feed(lost) == [Reset("history_removed")]
    assert feed.subscription.ended
    assert feed.begin()["snapshot"] is True


def test_a_long_history_goes_on_at_its_last_event_if_there_is_one_order() -> None:
    for pattern, since in (("a/*", "one"), ("a/1", "one"), ("a", "one"), ("a*", "C"), ("*", "C")):
        feed = Feed("event", pattern, since="C")
        feed.begin()
        feed.feed(event("a/1", 1))
        feed.subscription.broke()
        assert feed.begin()["since"] == since
        assert feed.subscription.cursor == "C"
        feed.feed({"type": "caught_up", "id": 1, "cursor": "D"})
        feed.subscription.broke()
        assert feed.begin()["since"] == "D"


def test_an_event_snapshot_that_is_cut_off_says_so() -> None:
    feed = Feed("event", snapshot=True)
    feed.begin()
    assert feed.first == []
    feed.feed({"type": "ack", "id": 1, "cursor": "A"}, event("a/1", 1))
    feed.subscription.broke()
    assert feed.begin()["snapshot"] is True
    assert feed.first == [Reset("interrupted")]


def test_a_refusal_ends_a_watch_and_an_overload_does_not() -> None:
    feed = Feed()
    feed.begin()
    with pytest.raises(Again):
        feed.feed({"type": "error", "id": 1, "error": "busy", "code": "overloaded"})
    with pytest.raises(FluxError, match="no such path"):
        feed.feed({"type": "error", "id": 1, "error": "no such path", "code": "invalid_filter"})
    assert feed.subscription.broke(refusal(503, retry_after="5")) >= 5
    assert 300 <= feed.subscription.broke(refusal(503, retry_after="9" * 400)) <= 310
    for status in (408, 429, 500, 503):
        assert feed.subscription.broke(refusal(status)) <= _core.PAUSE_MAX
    for status in (301, 401, 403, 404):
        with pytest.raises(FluxError):
            feed.subscription.broke(refusal(status))


def test_no_wait_outlasts_the_time_of_an_outage() -> None:
    feed = Feed(give_up_after=3.0)
    feed.begin()
    assert 2 < feed.subscription.broke(refusal(503, retry_after="600")) <= 3
    feed.subscription._broken_since -= 3
    with pytest.raises(UnreachableError):
        feed.subscription.broke(refusal(503, retry_after="600"))


def test_retry_after_may_be_a_date() -> None:
    now = datetime.now(timezone.utc)
    for then, least, most in [(60, 57, 60), (-60, 0, 0)]:
        text = format_datetime(now + timedelta(seconds=then), usegmt=True)
        wait = _core.retry_after_seconds({"retry-after": text})
        assert wait is not None and least <= wait <= most
    for text in ("soon", "-1", "1.5"):
        assert _core.retry_after_seconds({"retry-after": text}) == 0
    assert _core.retry_after_seconds({}) is None


def test_an_endless_retry_after_is_a_day() -> None:
    for text in ("86401", "9" * 400, "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT"):
        assert _core.retry_after_seconds({"retry-after": text}) == 86_400, text[:40]
    for text in (
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +99999999999999999999",
    ):
        assert _core.retry_after_seconds({"retry-after": text}) == 0, text
    feed = Feed()
    feed.begin()
    wait = feed.subscription.broke(refusal(503, retry_after="9" * 400))
    assert 300 <= wait < 400, "a watch asks again sooner"
    _, error = attempts([refusal(503, retry_after="9" * 400)])
    assert (error.status, error.retry_after) == (503, 86_400)


def test_a_conflict_shows_the_entity() -> None:
    body = {"error": "no", "code": "precondition_failed", "entity": row("a", x=1), "index": 2}
    _, error = attempts([Reply(409, {}, json.dumps(body).encode())])
    assert isinstance(error, ConflictError)
    assert error.entity is not None
    assert (error.entity.properties, error.index) == ({"x": 1}, 2)


def test_a_conflict_keeps_the_digits_of_decimals() -> None:
    text = json.dumps({"error": "no", "code": "why", "entity": row("a", x=0)}).replace("0}", "1.50}")
    _, error = attempts([Reply(409, {}, text.encode())], Core("s", "me", True, 30.0))
    assert str(error.entity.properties["x"]) == "1.50"


def test_the_default_source_outlives_the_process_and_the_token_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["/opt/é/worker.py"])
    monkeypatch.setattr("socket.gethostname", lambda: "host-1")
    made = settings(None, "secret", None, None)
    assert made.source == "worker.py@host-1"
    assert "secret" not in repr(made)


def test_a_batch_that_fails_midway_shows_its_results() -> None:
    events = [NewEvent("a/b", {"n": n}) for n in range(_core.BATCH_EVENTS_MAX + 1)]
    stored = STORED.decode()
    results = ",".join([stored] * (_core.BATCH_EVENTS_MAX - 1) + ['{"error":"no","code":"rate_limited"}'])
    call = CORE.publish_many(iter(events))
    next(call)
    call.send(Reply(200, {}, f'{{"results":[{results}]}}'.encode()))
    with pytest.raises(FluxError) as caught:
        call.send(refusal(403))
    error = caught.value
    assert len(error.results) == _core.BATCH_EVENTS_MAX
    last = error.results[-1]
    assert isinstance(last, FluxError) and last.status == 429
    assert error.events == events


@pytest.mark.parametrize("body", [b"<html>", b"", b"\xff"])
def test_a_success_without_json_is_an_error_of_flux(body: bytes) -> None:
    sent, error = attempts([Reply(200, {}, body)])
    assert isinstance(error, FluxError)
    assert (len(sent), error.status) == (1, 200)


def test_any_mapping_is_an_object() -> None:
    assert encode(MappingProxyType({"a": MappingProxyType({"b": 1})})) == '{"a":{"b":1}}'
    assert encode({"a": MappingProxyType({"b": Decimal("1.50")})}) == '{"a":{"b":1.50}}'


def test_an_increment_whose_result_may_not_be_read_is_none() -> None:
    call = CORE.increment("a/b", "n", 1, None)
    next(call)
    with pytest.raises(StopIteration) as end:
        call.send(Reply(200, {}, STORED))
    assert end.value.value is None
