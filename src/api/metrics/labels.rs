//! The closed sets of label values, each an enum whose members index the counters.

/// Defines a set of label values.
macro_rules! labels {
    (
        $(#[$about:meta])*
        $name:ident { $($(#[$of_member:meta])* $member:ident = $text:literal,)+ }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$of_member])* $member,)+
        }

        impl $name {
            /// All of them, by index.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$member,)+];
            /// How many there are.
            pub const COUNT: usize = [$($text,)+].len();

            /// Its place in [`Self::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }

            /// Its text as a label value.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$member => $text,)+
                }
            }
        }
    };
}

labels! {
    /// What an event came in by.
    Front {
        /// A call over HTTP.
        Http = "http",
        /// A message on a WebSocket.
        WebSocket = "websocket",
        /// A tool of the Model Context Protocol.
        Mcp = "mcp",
        /// A connector's poll.
        Connector = "connector",
        /// The server itself: the end of an entity by its time to live or its connection.
        Server = "server",
    }
}

labels! {
    /// What a connection speaks.
    SessionKind {
        /// HTTP: what every connection begins as.
        Http = "http",
        /// WebSocket.
        WebSocket = "websocket",
        /// A stream of events over HTTP.
        Sse = "sse",
    }
}

labels! {
    /// What asks for subscriptions.
    SubscriberKind {
        /// A WebSocket.
        WebSocket = "websocket",
        /// A stream of events over HTTP.
        Sse = "sse",
        /// A poll for changes.
        Poll = "poll",
    }
}

labels! {
    /// The hundreds of a status.
    StatusClass {
        /// Protocol changes.
        Informational = "1xx",
        /// Successes.
        Success = "2xx",
        /// Redirections, among them "not modified".
        Redirection = "3xx",
        /// The client's fault.
        ClientError = "4xx",
        /// The server's fault, or not now.
        ServerError = "5xx",
    }
}

impl StatusClass {
    /// Of this status.
    pub const fn of(status: u16) -> Self {
        match status {
            0..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

labels! {
    /// Why a connection was closed.
    CloseCause {
        /// The client ended it, or asked for its end.
        Client = "client",
        /// The client did not take what it was owed.
        SlowReader = "slow_reader",
        /// A request did not arrive in time, or a connection was silent for too long.
        Timeout = "timeout",
        /// What came broke the protocol.
        Protocol = "protocol",
        /// There were too many connections.
        TooMany = "too_many",
        /// There was no memory for it.
        Memory = "memory",
        /// What it was to be told will never be durable.
        Storage = "storage",
        /// The server ended it in good order: its last answer, or the end of its access.
        Server = "server",
        /// The server is stopping.
        Shutdown = "shutdown",
    }
}

labels! {
    /// How a connector's poll ended.
    PollResult {
        /// It worked.
        Ok = "ok",
        /// It worked, and left something out.
        Partial = "partial",
        /// It failed.
        Failed = "failed",
    }
}

labels! {
    /// Why a shard takes no more events.
    RefusalReason {
        /// The disk is full.
        Full = "storage_full",
        /// The data directory can't be written.
        ReadOnly = "storage_read_only",
        /// The disk refuses the next segment for another reason.
        Unavailable = "storage_unavailable",
        /// A write or a flush failed; it takes a restart.
        Fault = "storage_fault",
    }
}

impl RefusalReason {
    /// By the code of the rejection that writers get.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.text() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_a_label_is_its_place() {
        for (place, front) in Front::ALL.into_iter().enumerate() {
            assert_eq!(front.index(), place);
        }
        for (place, cause) in CloseCause::ALL.into_iter().enumerate() {
            assert_eq!(cause.index(), place);
        }
        for (status, class) in [
            (101, "1xx"),
            (204, "2xx"),
            (304, "3xx"),
            (404, "4xx"),
            (503, "5xx"),
        ] {
            assert_eq!(StatusClass::of(status).text(), class);
        }
        assert_eq!(
            RefusalReason::of_code("storage_fault"),
            Some(RefusalReason::Fault)
        );
        assert_eq!(RefusalReason::of_code("overloaded"), None);
    }
}
