"""A watch without I/O: what to subscribe to, and what each message leads to.

`Subscription` outlives its connections. For each it says what to send first (`begin`), then takes the
messages one by one (`receive`), and says how long to wait when the connection broke (`broke`). It
keeps a cursor of what the server has sent completely, and what it has to know to recognise what
comes twice after that.

Messages come through the receive queue of the WebSocket library, which holds at most 16; when the
reader is slow the queue fills, the server can't send, and merges changes or reads them from its log
later. So a slow reader costs bounded memory on both sides. Mode `entity` holds a copy of the
entities it watches besides.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Union
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import InvalidStatus

from ._core import PATIENT_RETRY_AFTER_MAX, Reply, jittered_pause, reply_error
from ._errors import FluxError, UnreachableError, error_of
from ._numbers import decode, encode
from ._settings import Settings
from ._types import Change, Deleted, Entity, Event, Reset, Snapshot, _time, _time_or_none, names

EntityUpdate = Union[Snapshot, Change, Deleted, Reset]
EventUpdate = Union[Snapshot, Event, Reset]
Update = Union[Snapshot, Change, Deleted, Event, Reset]

# A message has at most 1 MiB, at which the library would close by default.
MESSAGE_BYTES_MAX = 2 << 20
MESSAGES_MAX = 16
OPEN_TIMEOUT = 10.0
PING = '{"type":"ping"}'
# The server is told that the connection ends, and need not agree.
CLOSE_TIMEOUT = 0.05

_SUBSCRIPTION = 1
# What goes wrong with a connection comes as an error too. That one which is being closed ends amid
# a message is nothing to tell a user.
_quiet_log = logging.getLogger("flux_client.websocket")
_quiet_log.setLevel(logging.CRITICAL)


class Again(Exception):
    """The connection is of no more use; another one may be."""


@dataclass(frozen=True)
class WatchOptions:
    pattern: str
    mode: Literal["entity", "event"]
    properties: Sequence[str] | None = None
    filter: str | None = None
    max_hz: float | None = None
    since: str | None = None
    snapshot: bool = False
    give_up_after: float | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        # Messages of other modes would be passed over.
        if self.mode not in ("entity", "event"):
            raise ValueError(f"{self.mode!r} is no mode of a watch: it is 'entity' or 'event'")
        if self.properties is not None and not names(self.properties):
            raise ValueError("at least one name of a property is needed")
        begins = (self.since is not None) + self.snapshot
        if begins > (self.mode == "event"):
            message = "a watch begins with `since` or a snapshot, and one of mode 'entity' always with a snapshot"
            raise ValueError(message)

    @property
    def sent_pattern(self) -> str:
        """What the server is asked for. It takes any `*` at the end for one of a pattern."""
        is_misread = self.exact and self.pattern.endswith("*")
        return self.pattern + "*" if is_misread else self.pattern

    def matches(self, entity_id: str) -> bool:
        """Whether what came for `sent_pattern` is what was asked for."""
        return not self.exact or entity_id == self.pattern


def socket_url(url: str) -> str:
    """The URL of live updates of the server at `url`."""
    parts = urlsplit(url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/api/ws", "metrics=false", ""))


def host_and_port(url: str) -> tuple[str, int]:
    """Where the server of live updates at `url` listens."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "wss" else 80)


def socket_options(settings: Settings) -> dict[str, Any]:
    """The options of both forms of `connect` in the WebSocket library."""
    return {
        "additional_headers": settings.headers,
        "ssl": settings.tls,
        "compression": None,
        "max_size": MESSAGE_BYTES_MAX,
        "max_queue": MESSAGES_MAX,
        "open_timeout": OPEN_TIMEOUT,
        # Its pongs would wait behind all messages that a slow reader has not taken yet.
        "ping_interval": None,
        "close_timeout": CLOSE_TIMEOUT,
        "logger": _quiet_log,
    }


def refusal(error: Exception) -> Reply | None:
    """The answer to a handshake that was refused, also if the library could not follow a redirect."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InvalidStatus):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    response = cause.response
    headers = {name.lower(): value for name, value in response.headers.raw_items()}
    return Reply(response.status_code, headers, bytes(response.body or b""))


def _may_pass(error: FluxError) -> bool:
    """Whether another attempt may succeed. Unlike a call, a watch has no one who would make it again."""
    return error.status is not None and (error.status in (408, 429) or error.status >= 500)


def namespace_of(entity_id: str) -> str:
    """What has one order of events: a namespace, with its slash, or an id that has none."""
    name, slash, _ = entity_id.partition("/")
    return name + slash


def has_one_order(pattern: str) -> bool:
    """Whether all that a pattern matches has one order of events."""
    return not pattern.endswith("*") or "/" in pattern


class Subscription:
    """One watch, over any number of connections."""

    def __init__(self, options: WatchOptions, decimal: bool) -> None:
        self.options = options
        self.decimal = decimal
        # All up to this place has been received. None: a snapshot is needed, or nothing came yet.
        self.cursor = options.since
        self.entities: dict[str, Entity] = {}
        # Whether all that the server has to tell so far has come, on a connection that stands.
        self.is_current = False
        self.acknowledged = False
        self._wants_snapshot = options.mode == "entity" or options.snapshot
        # Mode `entity`: the pages of a snapshot until it is whole.
        self._pages: dict[str, Entity] | None = None
        # Mode `entity`: what came after a break, until all of it is there.
        self._missed: list[Update] = []
        # The server ended the subscription: it is to be made anew, on another connection.
        self.ended = False
        # Mode `event`: a snapshot is under way; something has been handed out since it began.
        self._awaits_snapshot_end = False
        self._is_mid_snapshot = False
        # Mode `event`: namespace -> its last event that was handed out, since `cursor`.
        self._handed_out: dict[str, int] = {}
        # Mode `event`, if there is one order: the cursor of the last event, from which a connection
        # goes on. It may be far after `cursor`, while the server tells a long history.
        self._last_event: str | None = None
        self._failures = 0
        self._broken_since = time.monotonic()

    def begin(self) -> tuple[str, list[Update]]:
        """What to send on a new connection, and what to hand out before its messages."""
        updates: list[Update] = []
        options = self.options
        message: dict[str, Any] = {
            "type": "subscribe",
            "id": _SUBSCRIPTION,
            "entity_id": options.sent_pattern,
            "mode": options.mode,
        }
        given = {"filter": options.filter, "max_hz": options.max_hz}
        message.update({name: value for name, value in given.items() if value is not None})
        if options.properties is not None:
            message["properties"] = names(options.properties)
        self._pages = None
        self._awaits_snapshot_end = self.ended = False
        if self.cursor is not None:
            message["since"] = self._last_event or self.cursor
        elif self._wants_snapshot:
            message["snapshot"] = True
            self._pages = {} if options.mode == "entity" else None
            self._awaits_snapshot_end = options.mode == "event"
            if self._is_mid_snapshot:
                updates.append(Reset("interrupted"))
        self._is_mid_snapshot = False
        return encode(message), updates

    def broke(self, refused: Reply | None = None, cause: Exception | None = None) -> float:
        """The connection broke, or could not be made. Returns the seconds until the next attempt.

        `cause` is the error, for people, and `refused` the answer to the handshake, if there was one. Raises FluxError if another
        attempt would be refused too, or if it took too long already.
        """
        wait = 0.0
        if refused is not None:
            error = reply_error(refused, self.decimal)
            if not _may_pass(error):
                raise error
            wait = min(error.retry_after or 0.0, PATIENT_RETRY_AFTER_MAX)
            cause = error
        now = time.monotonic()
        if self.is_current or not self._failures:
            self._broken_since = now
        self.is_current = False
        self._failures += 1
        give_up_after = self.options.give_up_after
        wait += jittered_pause(self._failures)
        if give_up_after is None:
            return wait
        left = self._broken_since + give_up_after - now
        if left <= 0:
            message = "the server could not be reached" + (f": {str(cause) or repr(cause)}" if cause else "")
            raise UnreachableError(None, "unreachable", message) from cause
        return min(wait, left)

    def receive(self, text: str | bytes) -> list[Update]:
        """What a message leads to. Raises `Again` to reconnect, FluxError if that can't help."""
        message = decode(text, self.decimal)
        kind = message["type"]
        if kind == "entity":
            return self._change(message)
        if kind == "entity_deleted":
            return self._forget(message, "deleted")
        if kind == "event":
            return self._event(message)
        if kind == "snapshot":
            return self._page(message)
        if kind == "snapshot_end":
            return self._snapshot_end(message)
        if kind == "ack":
            self.acknowledged = True
            # With a snapshot or `since`, what lies before this place is still to come.
            if self.cursor is None and not self._wants_snapshot:
                self._reached(message["cursor"])
        elif kind in ("caught_up", "cursor"):
            self._reached(message["cursor"])
            missed, self._missed = self._missed, []
            return missed
        elif kind == "resync":
            self.cursor, self._pages, self.is_current = None, {}, False
            self._missed = []
            return [Reset(message["reason"])]
        elif kind == "error":
            return self._error(message)
        return []

    def _reached(self, cursor: str) -> None:
        self.cursor = cursor
        self.is_current = True
        self._failures = 0
        # What is sent again after a break lies behind the cursor.
        self._handed_out.clear()
        self._last_event = None

    def _error(self, message: Mapping[str, Any]) -> list[Update]:
        error = error_of(message)
        if error.code == "history_removed" and self.options.mode == "event":
            # The next connection begins with a snapshot. That events are gone is said here, once.
            self.cursor, self._wants_snapshot, self._is_mid_snapshot = None, True, False
            self._handed_out.clear()
            self._last_event = None
            self.ended = True
            return [Reset(error.code)]
        raise Again if _may_pass(error) else error

    def _page(self, message: Mapping[str, Any]) -> list[Update]:
        rows = [row for row in message["entities"] if self.options.matches(row["id"])]
        page = {row["id"]: Entity.from_json(row) for row in rows}
        if self._pages is not None:
            self._pages.update(page)
            return []
        self._is_mid_snapshot = True
        return [Snapshot(page, more=True)]

    def _snapshot_end(self, message: Mapping[str, Any]) -> list[Update]:
        self._is_mid_snapshot = self._awaits_snapshot_end = False
        if self._pages is None:
            self._reached(message["cursor"])
            return [Snapshot({})]
        self.entities, self._pages = self._pages, None
        self._reached(message["cursor"])
        return [Snapshot(dict(self.entities))]

    def _change(self, message: Mapping[str, Any]) -> list[Update]:
        if not self.options.matches(message["entity_id"]):
            return []
        if message.get("matches") is False:
            return self._forget(message, "unmatched")
        entities = self.entities if self._pages is None else self._pages
        entity_id = message["entity_id"]
        whole = message.get("whole", False)
        known = entities.get(entity_id)
        old = None if whole else known
        properties = {} if old is None else dict(old.properties)
        omitted = {} if old is None else dict(old.omitted)
        for name in (*message["removed"], *message["properties"]):
            omitted.pop(name, None)
        for name in (*message["removed"], *message.get("omitted", {})):
            properties.pop(name, None)
        properties.update(message["properties"])
        omitted.update(message.get("omitted", {}))
        expires_at = None if old is None else old.expires_at
        if "expiresAt" in message:
            expires_at = _time_or_none(message["expiresAt"])
        entity = Entity(
            entity_id,
            properties,
            message["version"],
            _time(message["timestamp"]),
            expires_at,
            omitted=omitted,
        )
        # What came after the cursor comes again after a break, whole.
        if whole and entity == known:
            return []
        entities[entity_id] = entity
        if self._pages is not None:
            return []
        set_ = message["properties"]
        return self._told(Change(entity, set_, message["removed"], whole, message["sequence"]))

    def _told(self, update: Update) -> list[Update]:
        # What was missed comes in no order: on the way through it the copy is as nothing ever was.
        if self.is_current:
            return [update]
        self._missed.append(update)
        return []

    def _forget(
        self, message: Mapping[str, Any], reason: Literal["deleted", "unmatched"]
    ) -> list[Update]:
        entities = self.entities if self._pages is None else self._pages
        known = entities.pop(message["entity_id"], None)
        if known is None or self._pages is not None:
            return []
        return self._told(Deleted(message["entity_id"], message.get("sequence", 0), reason))

    def _event(self, message: Mapping[str, Any]) -> list[Update]:
        event = Event.from_json(message)
        if not self.options.matches(event.entity_id):
            return []
        namespace = namespace_of(event.entity_id)
        if event.sequence <= self._handed_out.get(namespace, -1):
            return []
        self._handed_out[namespace] = event.sequence
        self._is_mid_snapshot = self._awaits_snapshot_end
        if has_one_order(self.options.sent_pattern):
            self._last_event = event.cursor
        return [event]


class WatchCore:
    """What `Watch` and `AsyncWatch` share."""

    # Seconds that somebody waits for a message until the server is asked whether it is there, and
    # from then on until the connection is taken for dead.
    PING_INTERVAL = 20.0
    PING_TIMEOUT = 20.0

    def __init__(self, settings: Settings, options: WatchOptions, decimal: bool) -> None:
        self._settings = settings
        self._subscription = Subscription(options, decimal)
        self._updates: deque[Update] = deque()
        self._next_attempt = 0.0

    @property
    def entities(self) -> Mapping[str, Entity]:
        """Mode `entity`: the entities as of the last update that was handed out.

        A view, which changes with the next update: `dict(watch.entities)` does not.
        """
        return MappingProxyType(self._subscription.entities)

    @property
    def cursor(self) -> str | None:
        """A place up to which all has been handed out, for `since` of a later watch."""
        return self._subscription.cursor

    @property
    def is_current(self) -> bool:
        """Whether the server is there to tell of changes, and has told all that came so far."""
        return self._subscription.is_current
