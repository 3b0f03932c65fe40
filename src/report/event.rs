//! Every event that the program tells its operator: a stable name, a level, and whether others can
//! cause any number of them. docs/OPERATIONS.md says of each what to do.

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogLevel {
    /// Something failed.
    Error = 0,
    /// Something that needs a look.
    Warn = 1,
    /// Something the operator should know and need not act on.
    Info = 2,
    /// What the server does by itself, for who looks for a reason.
    Debug = 3,
}

impl LogLevel {
    /// What `FLUX_LOG` may be.
    pub const RULE: &str = "error, warn, info or debug";

    /// As `FLUX_LOG` names it.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Error, Self::Warn, Self::Info, Self::Debug];
        all.into_iter().find(|level| level.as_str() == text)
    }

    /// One lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// The priority of the journal (sd-daemon(3)).
    pub(super) const fn priority(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warn => 4,
            Self::Info => 6,
            Self::Debug => 7,
        }
    }
}

/// Whether lines of an event are bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeats {
    /// Each line is said: there are only so many.
    Each,
    /// A client, or a source that a connector polls, can cause any number of them.
    Bounded,
}

macro_rules! log_events {
    ($($(#[$doc:meta])* $variant:ident = $name:literal $level:ident $repeats:ident,)*) => {
        /// What a line is about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum LogEvent {
            $($(#[$doc])* $variant,)*
        }

        impl LogEvent {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// How much its lines matter.
            pub const fn level(self) -> LogLevel {
                match self { $(Self::$variant => LogLevel::$level,)* }
            }

            pub(super) const fn repeats(self) -> Repeats {
                match self { $(Self::$variant => Repeats::$repeats,)* }
            }
        }
    };
}

log_events! {
    // Start and end.
    /// The server listens.
    Listening = "listening" Info Each,
    /// An argument is none.
    WrongUsage = "wrong_usage" Error Each,
    /// A setting can't be used.
    SettingInvalid = "setting_invalid" Error Each,
    /// A variable looks like a setting and is none.
    SettingUnknown = "setting_unknown" Warn Each,
    /// The server did not start, or a core failed.
    ServerFailed = "server_failed" Error Each,
    /// The operator's token can be guessed.
    AdminTokenWeak = "admin_token_weak" Warn Each,
    /// There is no operator's token.
    AdminTokenMissing = "admin_token_missing" Info Each,
    /// Anyone may register a namespace.
    RegistrationOpen = "registration_open" Warn Each,
    /// The kernel gives no `io_uring`.
    IoUringRefused = "io_uring_refused" Warn Each,
    /// A certificate was read again.
    CertificateLoaded = "certificate_loaded" Info Each,
    /// A certificate that was read ends soon.
    CertificateExpiring = "certificate_expiring" Warn Each,
    /// A certificate could not be read again.
    CertificateKept = "certificate_kept" Warn Each,
    /// The control log was missing and is made anew.
    ControlLogMade = "control_log_made" Warn Each,
    /// Changes of the control log are missing.
    ControlChangesMissing = "control_changes_missing" Warn Each,
    /// An earlier change of the number of shards could not be finished.
    ShardChangeUnfinished = "shard_change_unfinished" Warn Each,
    /// How far a recovery is.
    RecoveryProgress = "recovery_progress" Info Each,
    /// A checkpoint is not used.
    CheckpointUnused = "checkpoint_unused" Warn Each,
    /// The torn end of a log was cut.
    LogTailCut = "log_tail_cut" Warn Each,
    /// A log has gaps.
    EventsMissing = "events_missing" Warn Each,
    /// A shard is recovered.
    ShardReady = "shard_ready" Info Each,
    /// A signal that means nothing.
    SignalIgnored = "signal_ignored" Info Each,
    /// The server was told to stop.
    Stopping = "stopping" Info Each,
    /// The server starts anew within its process.
    Restarting = "restarting" Warn Each,
    /// systemd could not be told how the server is.
    SystemdNotTold = "systemd_not_told" Warn Bounded,
    /// A thread panicked.
    Panicked = "panic" Error Each,

    // While it runs.
    /// Clients guess at the operator's token.
    TokenGuesses = "token_guesses" Warn Each,
    /// A connection could not be accepted.
    AcceptFailed = "accept_failed" Warn Bounded,
    /// The machine's clock was set.
    ClockSet = "clock_set" Warn Bounded,
    /// A core does not turn.
    CoreStalls = "core_stalls" Warn Each,
    /// A core that did not turn goes on.
    CoreGoesOn = "core_goes_on" Info Each,
    /// A core does not turn, and the process ends.
    CoreHangs = "core_hangs" Error Each,
    /// A file of the state can't be read now.
    StateUnreadable = "state_unreadable" Warn Bounded,
    /// A file of the state is damaged.
    StateDamaged = "state_damaged" Error Each,
    /// Where a damaged file is kept.
    DamageKept = "damage_kept" Info Each,
    /// No next segment: events will be refused.
    LogNotWritable = "log_not_writable" Error Each,
    /// Events are accepted again.
    LogWritable = "log_writable" Info Each,
    /// A write or a flush failed.
    ShardFailed = "shard_failed" Error Each,
    /// A query of the past failed by our fault.
    HistoryUnreadable = "history_unreadable" Error Bounded,
    /// An index of history was not written.
    IndexNotWritten = "index_not_written" Warn Each,
    /// Old history could not be removed.
    HistoryNotRemoved = "history_not_removed" Warn Each,
    /// A checkpoint was written.
    CheckpointWritten = "checkpoint_written" Debug Each,
    /// A checkpoint could not be written.
    CheckpointFailed = "checkpoint_failed" Warn Each,
    /// A checkpoint of before could not be removed.
    CheckpointNotRemoved = "checkpoint_not_removed" Warn Each,
    /// There is no room for the reserve.
    ReserveMissing = "reserve_missing" Warn Each,
    /// The reserve is in use.
    ReserveUsed = "reserve_used" Warn Each,
    /// The reserve could not be freed.
    ReserveKept = "reserve_kept" Warn Each,
    /// A change of namespaces or configuration was not stored.
    ControlNotStored = "control_not_stored" Warn Bounded,
    /// The control log was not closed in order.
    ControlNotClosed = "control_not_closed" Warn Each,
    /// The last uses of tokens were not stored.
    TokenUsesLost = "token_uses_lost" Warn Each,
    /// The directory could not be brought up to date.
    DirectoryStale = "directory_stale" Warn Bounded,
    /// A connector works.
    ConnectorRunning = "connector_running" Info Bounded,
    /// A connector's poll failed.
    ConnectorFailing = "connector_failing" Warn Bounded,
    /// A request is over; only with an access log.
    Access = "access" Info Each,
    /// Lines of the access log were lost.
    AccessLinesLost = "access_lines_lost" Warn Each,
    /// The access log can't be written.
    AccessLogFailed = "access_log_failed" Warn Bounded,
    /// Lines of an event were left out.
    LinesLeftOut = "log_lines_left_out" Warn Each,
    /// Lines were lost.
    LinesLost = "log_lines_lost" Warn Each,

    // Commands.
    /// A command did not do what it was asked for.
    CommandFailed = "command_failed" Error Each,
    /// A command has found something that needs a look.
    CommandWarning = "command_warning" Warn Each,
    /// A command has found damage.
    DamageFound = "damage_found" Error Each,
    /// How far a command is.
    CommandProgress = "command_progress" Info Each,
    /// What a command has done.
    CommandResult = "command_result" Info Each,
    /// A line of an import was passed over.
    LinePassedOver = "line_passed_over" Warn Each,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const OPERATIONS: &str = include_str!("../../docs/OPERATIONS.md");

    /// The events of the tables under `## Log events`, by name, with their level.
    fn documented() -> BTreeMap<&'static str, &'static str> {
        let (_, section) = OPERATIONS
            .split_once("\n## Log events\n")
            .expect("the document lists the events");
        let section = section.split("\n## ").next().unwrap();
        let rows = section.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            let (level, rest) = rest.split_once(" | ")?;
            assert!(rest.len() > 20, "{name}: nothing says what to do");
            Some((name, level))
        });
        let rows: Vec<_> = rows.collect();
        let count = rows.len();
        let events: BTreeMap<_, _> = rows.into_iter().collect();
        assert_eq!(events.len(), count, "an event is listed twice");
        events
    }

    #[test]
    fn the_document_lists_every_event_with_its_level_and_no_other() {
        let all = LogEvent::ALL.iter();
        let said: BTreeMap<_, _> = all.map(|it| (it.name(), it.level().as_str())).collect();
        assert_eq!(said, documented());
    }

    #[test]
    fn names_are_snake_case_and_unique_and_numbers_are_places() {
        let mut names: Vec<_> = LogEvent::ALL.iter().map(|event| event.name()).collect();
        for name in &names {
            let is_snake = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(name.bytes().all(is_snake), "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), LogEvent::ALL.len());
        for (place, event) in LogEvent::ALL.iter().enumerate() {
            assert_eq!(*event as usize, place);
        }
    }

    #[test]
    fn levels_are_named_and_ordered() {
        for text in LogLevel::RULE.split([',', ' ']) {
            let parsed = LogLevel::parse(text);
            assert_eq!(parsed.is_some(), !matches!(text, "" | "or"), "{text}");
        }
        assert_eq!(LogLevel::parse("INFO"), None);
        assert!(LogLevel::Error < LogLevel::Warn && LogLevel::Info < LogLevel::Debug);
    }
}
