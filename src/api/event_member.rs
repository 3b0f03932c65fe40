//! The members of an event and of its payload, by name.

/// A member of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventMember {
    EventId,
    Stream,
    Source,
    Timestamp,
    Key,
    Schema,
    Payload,
    /// A condition.
    Expect,
}

/// A member of an event's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PayloadMember {
    EntityId,
    Properties,
    /// An operation or an expiry, which this server does not do yet; its path within the event.
    NotSupported(&'static str),
}

impl EventMember {
    /// The member of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "eventId" => Self::EventId,
            "stream" => Self::Stream,
            "source" => Self::Source,
            "timestamp" => Self::Timestamp,
            "key" => Self::Key,
            "schema" => Self::Schema,
            "payload" => Self::Payload,
            "expect" => Self::Expect,
            _ => return None,
        })
    }
}

impl PayloadMember {
    /// The member of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "entity_id" => Self::EntityId,
            "properties" => Self::Properties,
            "increment" => Self::NotSupported("payload.increment"),
            "min" => Self::NotSupported("payload.min"),
            "max" => Self::NotSupported("payload.max"),
            "append" => Self::NotSupported("payload.append"),
            "unset" => Self::NotSupported("payload.unset"),
            "ttl" => Self::NotSupported("payload.ttl"),
            _ => return None,
        })
    }
}
