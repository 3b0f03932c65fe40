"""What goes to the server and what comes from it, as types."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypedDict, Union

Number = Union[int, float, Decimal]


class Expect(TypedDict, total=False):
    """Conditions of a write. All must hold when its turn comes, else it is refused with 409."""

    version: int
    etag: str
    absent: Literal[True]
    present: Literal[True]
    properties: Mapping[str, Any]
    absent_properties: Sequence[str]
    filter: str


class Members(TypedDict, total=False):
    """The optional members of a `NewEvent`, as keyword arguments of `publish`."""

    stream: str
    source: str
    event_id: str
    timestamp: int
    key: str
    schema: str
    traceparent: str
    expect: Expect
    ttl: Number
    never_expires: bool
    increment: Mapping[str, Number]
    min: Mapping[str, Number]
    max: Mapping[str, Number]
    append: Mapping[str, Sequence[Any]]
    unset: Sequence[str]


def names(given: Sequence[str]) -> list[str]:
    """A list of names. A text is a sequence of texts too, but meant as one name."""
    if isinstance(given, str):
        raise TypeError(f"{given!r} is one name: a list of names is needed")
    return list(given)


def field_names(given: Sequence[str]) -> str:
    """The names of a query: the server takes none for all, and a comma for the end of one."""
    listed = names(given)
    if not listed or any("," in name for name in listed):
        raise ValueError(f"{listed!r}: at least one name is needed, and none with a comma")
    return ",".join(listed)


def new_event_id() -> str:
    """An event id that nobody else makes."""
    return str(uuid.uuid4())


@dataclass(frozen=True)
class NewEvent:
    """An event to publish. The same object sent twice counts once: its `event_id` is in it.

    `stream` and `source` default to those of the client, and are part of what an `event_id` stands
    for: the same id with other ones is refused with 409 `event_id_reused`. `ttl` (seconds) deletes the entity that
    long after the event; without it the expiry stays as it is, and `never_expires` takes it away.
    """

    entity_id: str
    properties: Mapping[str, Any] | None = None
    stream: str | None = None
    source: str | None = None
    event_id: str = field(default_factory=new_event_id)
    timestamp: int | None = None
    key: str | None = None
    schema: str | None = None
    traceparent: str | None = None
    expect: Expect | None = None
    ttl: Number | None = None
    never_expires: bool = False
    increment: Mapping[str, Number] | None = None
    min: Mapping[str, Number] | None = None
    max: Mapping[str, Number] | None = None
    append: Mapping[str, Sequence[Any]] | None = None
    unset: Sequence[str] | None = None

    def to_json(self, stream: str, source: str) -> dict[str, Any]:
        """The event as the server takes it."""
        if self.never_expires and self.ttl is not None:
            raise ValueError("an event has a ttl, or it never expires, not both")
        payload: dict[str, Any] = {"entity_id": self.entity_id}
        payload["properties"] = {} if self.properties is None else self.properties
        for name in ("ttl", "increment", "min", "max", "append", "unset"):
            value = getattr(self, name)
            if value is not None:
                payload[name] = names(value) if name == "unset" else value
        if self.never_expires:
            payload["ttl"] = None
        event: dict[str, Any] = {
            "eventId": self.event_id,
            "stream": stream if self.stream is None else self.stream,
            "source": source if self.source is None else self.source,
            "payload": payload,
        }
        for name in ("timestamp", "key", "schema", "traceparent", "expect"):
            value = getattr(self, name)
            if value is not None:
                event[name] = value
        return event


def new_event(
    event: NewEvent | str, properties: Mapping[str, Any] | None, members: Members
) -> NewEvent:
    """The event that the arguments of `publish` name."""
    if isinstance(event, str):
        return NewEvent(event, properties, **members)
    if properties is not None or members:
        raise TypeError("a NewEvent has its properties and members itself")
    return event


@dataclass(frozen=True)
class Published:
    """The answer to a stored event. `properties` are the results of its operations, if it had any.

    `version` is None if there is no entity after the event. `duplicate` says that the event had
    been stored before, and this is the answer of that time. A token that may not read the namespace
    gets no `properties`.
    """

    event_id: str
    stream: str
    version: int | None
    sequence: int
    cursor: str
    duplicate: bool = False
    properties: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @staticmethod
    def from_json(body: Mapping[str, Any]) -> Published:
        return Published(
            body["eventId"],
            body["stream"],
            body.get("version"),
            body["sequence"],
            body["cursor"],
            body.get("duplicate", False),
            body.get("properties", {}),
        )


def _time(text: str) -> datetime:
    # `fromisoformat` knows `Z` from Python 3.11 on.
    return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)


def _time_or_none(text: str | None) -> datetime | None:
    return None if text is None else _time(text)


@dataclass(frozen=True)
class Entity:
    """An entity at one moment.

    `etag` and `cursor` are there if one entity was read. `omitted` names what was too large for a
    message of a watch, with its bytes: read it with `get`. The name `""` stands for all properties.
    """

    id: str
    properties: Mapping[str, Any]
    version: int
    last_updated: datetime
    expires_at: datetime | None = None
    etag: str | None = field(default=None, compare=False)
    cursor: str | None = field(default=None, compare=False)
    omitted: Mapping[str, int] = field(default_factory=dict[str, int])

    @staticmethod
    def from_json(
        body: Mapping[str, Any], etag: str | None = None, cursor: str | None = None
    ) -> Entity:
        return Entity(
            body["id"],
            body.get("properties", {}),
            body["version"],
            _time(body["lastUpdated"]),
            _time_or_none(body.get("expiresAt")),
            etag,
            cursor,
            {"": body["bytes"]} if body.get("value_omitted") else {},
        )


@dataclass(frozen=True)
class Event:
    """A stored event. `payload` is as it was sent; `omitted_bytes` is its size if it was too large
    for a message of a watch, and it then holds `entity_id` alone."""

    event_id: str
    stream: str
    source: str
    payload: Mapping[str, Any]
    sequence: int
    accepted_at: datetime
    cursor: str
    timestamp: int | None = None
    key: str | None = None
    schema: str | None = None
    omitted_bytes: int | None = None
    traceparent: str | None = None

    @property
    def entity_id(self) -> str:
        entity_id: str = self.payload["entity_id"]
        return entity_id

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Event:
        omitted = row.get("payload_omitted", False)
        return Event(
            row["eventId"],
            row["stream"],
            row["source"],
            {"entity_id": row["entity_id"]} if omitted else row["payload"],
            row["sequence"],
            _time(row["acceptedAt"]),
            row["cursor"],
            row.get("timestamp"),
            row.get("key"),
            row.get("schema"),
            row["bytes"] if omitted else None,
            row.get("traceparent"),
        )


@dataclass(frozen=True)
class Snapshot:
    """The current entities. In mode `event` they come in pages, of which the last has no `more`."""

    entities: Mapping[str, Entity]
    more: bool = False


@dataclass(frozen=True)
class Change:
    """An entity was created or changed. `entity` is all of it; `properties` is what the change set,
    `removed` what it took away. With `whole` it came whole: what of it is new is not known."""

    entity: Entity
    properties: Mapping[str, Any]
    removed: Sequence[str]
    whole: bool
    sequence: int


@dataclass(frozen=True)
class Deleted:
    """An entity is gone, or no longer matches the filter of the watch."""

    entity_id: str
    sequence: int
    reason: Literal["deleted", "unmatched"] = "deleted"


@dataclass(frozen=True)
class Reset:
    """Changes are missing between what came before and the snapshot that follows.

    `reason`: `history_removed` (retention removed them, or an older copy of the data was restored),
    `too_far` (a snapshot is less work), `interrupted` (mode `event`: a snapshot was cut off).
    """

    reason: str
