//! Every bound of the server: its unit, its reason, and what happens when it is reached.
//!
//! Limits that an operator may change live in `config` and start from the defaults here.

/// Request line, bytes. Longer: 414.
pub const REQUEST_LINE_BYTES_MAX: usize = 8 * 1024;
/// Request head (request line, header fields and the empty line), bytes. Longer: 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields of one request. More: 431.
pub const HEADER_COUNT_MAX: usize = 64;
/// Default bound on the body of one event, bytes (`FLUX_BODY_SIZE_LIMIT_SINGLE_BYTES`). Longer:
/// 413.
pub const BODY_SINGLE_BYTES_DEFAULT: u32 = 1024 * 1024;
/// Default bound on the body of a batch, bytes (`FLUX_BODY_SIZE_LIMIT_BATCH_BYTES`). Longer: 413.
pub const BODY_BATCH_BYTES_DEFAULT: u32 = 10 * 1024 * 1024;
/// The largest that either can be set to: a batch of one event must fit a log record.
pub const BODY_BYTES_SETTABLE_MAX: u32 = 256 * 1024 * 1024;
/// Bound on every other body, bytes. Longer: 413.
pub const BODY_OTHER_BYTES_MAX: usize = 1024 * 1024;
/// Chunk-size line and its extensions, and each trailer line, bytes (RFC 9112 §7.1). Longer: 400.
pub const CHUNK_LINE_BYTES_MAX: usize = 1024;
/// All trailers of one chunked body, bytes. Longer: 431.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Empty lines before a request line that are passed over (RFC 9112 §2.2): clients that end a body
/// with a spare CRLF send one. More: 400.
pub const LEADING_EMPTY_LINES_MAX: u8 = 4;
/// All chunk extensions of one body, bytes: nothing here reads them, and without a bound one-byte
/// chunks with long extensions would cost a thousand times the body. More: 400.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 16 * 1024;
/// One WebSocket message from a client, over all its fragments, bytes. Longer: closed with 1009.
pub const WS_MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Nesting of JSON containers, the outermost counted. Deeper: 400.
pub const JSON_DEPTH_MAX: usize = 128;

/// Bounds of a `ttl` in seconds, as JSON: below a tenth of one, the lateness that is allowed would
/// be most of it; the longest is ten years. Outside: 400.
pub const TTL_SECONDS_MIN: &str = "0.1";
/// See [`TTL_SECONDS_MIN`].
pub const TTL_SECONDS_MAX: &str = "315360000";
/// Records of what expires that a shard looks at in one turn, without ending an entity: some
/// hundred microseconds. The rest in later turns.
pub const DEADLINE_LOOKS_MAX: usize = 256;
/// Microseconds after which an end that the log had no room for is tried again, if no room was made
/// before.
pub const DEADLINE_RETRY_MICROS: i64 = 1_000_000;

/// Digits of a number that is calculated with, from the first that is not zero to the last that was
/// sent: far more than a double has, and few enough for a buffer on the stack. More: 400.
pub const DECIMAL_DIGITS_MAX: usize = 1_000;

/// Text of a filter, bytes: read and kept for as long as it is asked. Longer: 400.
pub const FILTER_BYTES_MAX: usize = 4 * 1024;
/// Comparisons of a filter, each of which may look at a whole entity. More: 400.
pub const FILTER_COMPARISONS_MAX: usize = 64;
/// How deep a filter's expressions nest, since each level is a call on the stack. Deeper: 400.
pub const FILTER_DEPTH_MAX: usize = 16;
/// Entities that a filtered page looks at, matching or not: some tens of milliseconds of work, in
/// parts. The page then ends, and links to the next.
pub const FILTER_PAGE_ENTITIES_MAX: usize = 100_000;
/// Bytes of entities that one part of a filtered listing looks at, before the entity that crosses
/// it, for the reason of [`LIST_CHUNK_BYTES_MAX`].
pub const FILTER_CHUNK_BYTES_MAX: usize = 256 * 1024;

/// Units (see [`REQUEST_UNITS`]) that a filter may look at in one go, of entities of a list: half a
/// millisecond, or one comparison if that is more. The rest in later turns.
pub const FILTER_SLICE_UNITS: u64 = 1024 * 1024;
/// Units that the conditions of a write may look at, and the conditions of all events of an atomic
/// batch together: some 9 ms, since they are decided in one go. That is one `like` of 4 MiB, and
/// more comparisons than there may be of values of 64 KiB. More: 400 `filter_too_costly`.
pub const CONDITION_UNITS_MAX: u64 = 18 * 1024 * 1024;
/// Units that the filter of a subscription or of a poll may look at, of one entity. More: error
/// `filter_too_costly`, and the subscription ends.
pub const FILTER_ENTITY_UNITS_MAX: u64 = 18 * 1024 * 1024;
/// Units that the filters of all subscriptions may look at when an entity changes, before it and
/// after it each: some 4 ms, in which the change waits. A filter that needs more than an equal
/// share has a part of what the others leave. One that needs more still ends as above.
pub const FILTER_CHANGE_UNITS_MAX: u64 = 8 * 1024 * 1024;
/// Comparisons of all filters that one shard asks of changes: each is made twice for each change
/// that they name. More: an error message, and nothing is subscribed.
pub const FILTER_COMPARISONS_PER_SHARD_MAX: usize = 4_096;

/// Items of one batch: more than valid events fit the default body limit, and a bound on the answer
/// to invalid ones. More: 400.
pub const BATCH_ITEMS_MAX: usize = 150_000;
/// Events of an atomic batch: they take effect in one go. More: 400.
pub const ATOMIC_EVENTS_MAX: usize = 1_000;
/// Entity id, bytes. Longer: 400.
pub const ENTITY_ID_BYTES_MAX: usize = 512;
/// Properties of one entity: what a change of one may cost, since an entity is kept as one text.
/// An event that would make it more: 400. Entities of older logs that have more may shrink.
pub const ENTITY_PROPERTIES_MAX: usize = 10_000;
/// Bytes of the names and the values (as JSON text) of one entity's properties, for the same
/// reason. An event that would make it more: 400.
pub const ENTITY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of the entities that failed items of a batch show, and of the results of operations, for
/// each shard: a small item may name a large entity. Beyond it: an item says how many bytes it
/// leaves out.
pub const BATCH_ENTITIES_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of the entities of an atomic batch, each counted for each event that is about it: they are
/// decided and applied in one go, and an entity is copied for each. Some milliseconds. More: 400
/// `batch_too_costly`.
pub const ATOMIC_ENTITIES_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Event id, bytes. Longer: 400.
pub const EVENT_ID_BYTES_MAX: usize = 128;
/// Stream name, bytes. Longer: 400.
pub const STREAM_BYTES_MAX: usize = 256;
/// Source name, bytes. Longer: 400.
pub const SOURCE_BYTES_MAX: usize = 256;
/// `key` and `schema` of an event, bytes each. Longer: 400.
pub const METADATA_BYTES_MAX: usize = 1024;
/// Elements of an array that elements may be appended to, and of what is appended. More: 400.
pub const APPEND_ELEMENTS_MAX: usize = 10_000;
/// Default for the seconds for which the id of an event is known (`FLUX_DEDUP_SECONDS`). Sent again
/// later, it is another event.
pub const DEDUP_SECONDS_DEFAULT: u64 = 600;
/// The most that it can be set to.
pub const DEDUP_SECONDS_SETTABLE_MAX: u64 = 86_400;
/// Default for the later events of its shard after which it is not known any more
/// (`FLUX_DEDUP_EVENTS`); an id takes 40 bytes.
pub const DEDUP_EVENTS_DEFAULT: u64 = 1_000_000;
/// The most that it can be set to: a start reads so many events of each shard.
pub const DEDUP_EVENTS_SETTABLE_MAX: u64 = 100_000_000;
/// Entities of one page of a listing. A larger `limit`: 400.
pub const PAGE_ENTITIES_MAX: usize = 10_000;
/// Bytes of one page of a listing: a page is held in memory to know its successor. A page that
/// reaches it ends early and links to the next.
pub const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Events of one page of history. A larger `limit`: 400.
pub const EVENTS_PAGE_MAX: usize = 500;
/// Bytes of one page of events, which is held in memory whole: 500 events of a usual size. The
/// event that would cross it begins the next page, which a `Link` leads to. A larger event is a
/// page of its own.
pub const EVENTS_PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Events of one page of history if the request does not say.
pub const EVENTS_PAGE_DEFAULT: usize = 100;
/// Events of one entity that are applied to learn what it was at an earlier time: a second of work.
/// More: 400.
pub const HISTORY_ENTITY_EVENTS_MAX: usize = 500_000;
/// Events that are read to learn which entities there were at an earlier time: about a second of
/// work. More: 400.
pub const HISTORY_LIST_EVENTS_MAX: u64 = 2_000_000;
/// Bytes of events, read newest first, that are kept until they are applied in their order. More:
/// 400.
pub const HISTORY_EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of the entities of an earlier time that one request may hold in memory. More: 400.
pub const HISTORY_STATE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Readers of logs that the requests of one core hold, each up to 48 KiB: a request about the past
/// takes one, or one for each shard. Beyond it requests wait.
pub const HISTORY_READERS_MAX: usize = 1024;
/// Events that a short read of the past looks at, and entities that it lists: about 10 ms. A read
/// that takes more begins anew among the long ones.
pub const HISTORY_SHORT_STEPS_MAX: u64 = 10_000;
/// Short reads of one core that have readers of logs or wait for them, the one that runs included:
/// a shard hands out a reader after its next flush, and the helper thread should not wait for that.
/// Further ones wait for their turn.
pub const HISTORY_SHORT_STARTED_MAX: usize = 8;
/// The same of long reads: one runs, and the readers of the next are gathered.
pub const HISTORY_LONG_STARTED_MAX: usize = 2;
/// Events that one part of what a resuming subscriber has missed looks at: with what the first
/// attempt may have cost, fewer than a short read has. The next part goes on after its turn.
pub const FORWARD_STEPS_MAX: u64 = HISTORY_SHORT_STEPS_MAX / 2 - 1;
/// Bytes of the events of one such part, as they are stored: half of what an outbox takes before it
/// counts as full. The event that would cross it begins the next part. A larger event is a part of
/// its own.
pub const FORWARD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one page of a snapshot, but for one that a single entity fills.
pub const SNAPSHOT_PAGE_BYTES_MAX: usize = 256 * 1024 - 1024;
/// Bytes of an entity's JSON in a snapshot. A larger one is announced without its properties:
/// clients close the connection at a message over 1 MiB.
pub const SNAPSHOT_VALUE_BYTES_MAX: usize = WS_MESSAGE_BYTES_MAX - 1024;
/// Entities that changed since a cursor and are not sent yet, of one subscription. More: the
/// client gets a snapshot.
pub const CHANGED_IDS_MAX: usize = 65_536;
/// Bytes of their ids. More: the same.
pub const CHANGED_ID_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Entities that are asked of their shard at once.
pub const CHANGED_BATCH_IDS_MAX: usize = 256;
/// Events that are looked at to learn which entities changed: some seconds of a helper thread.
/// More: the client gets a snapshot.
pub const SINCE_EVENTS_MAX: u64 = 2_000_000;
/// How often the owner of an entity that it does not have is asked again, until what deleted it has
/// come by: a few turns of the loop. More: the deletion is told with the end of the log as its
/// sequence.
pub const DELETION_ASKS_MAX: u8 = 16;
/// How many events are remembered that were pushed before a subscription was in force. More may
/// come again for another subscription of the connection.
pub const EARLY_EVENTS_MAX: usize = 256;
/// Milliseconds after which what a shard was too busy for is asked again, for a subscription that
/// catches up.
pub const CATCH_UP_RETRY_MS: u64 = 20;
/// Bytes of live events that are kept for a subscription of mode `event` while it reads the rest of
/// a log. More: they are read from the log too.
pub const TAIL_KEPT_BYTES_MAX: usize = 256 * 1024;
/// Default bound on the entities that one batch delete may match (`max_batch_delete`). More: 400.
pub const BATCH_DELETE_MAX_DEFAULT: u32 = 10_000;
/// The largest that it can be set to: their ids are held in memory. A shard collects and deletes
/// its part in slices.
pub const BATCH_DELETE_SETTABLE_MAX: u32 = 100_000;
/// Ids that are collected for it in one go: a millisecond or two, since the entities lie in layers.
pub const COLLECT_IDS_MAX: usize = 2048;
/// Entities that are deleted in one go when a namespace is purged.
pub const PURGE_ENTITIES_MAX: usize = 1_000;

/// Bytes of one part of a listing, before the entity that crosses it. Larger parts would keep the
/// core from its other connections; smaller ones cost a pass of the loop each.
pub const LIST_CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Entities of one part of a listing, for the same reason.
pub const LIST_CHUNK_ENTITIES_MAX: usize = 1024;
/// Times that one part of a listing passes over what its reader may not see, a namespace each time:
/// each is a search of about a microsecond. Then the part ends, and the next goes on from there.
pub const LIST_SKIPS_MAX: usize = 512;

/// Messages that a core's inbox holds. More wait at their sender.
pub const MAILBOX_MESSAGES_MAX: usize = 8192;
/// Messages that a core keeps for another whose inbox is full. Beyond it, requests for that core
/// get 503.
pub const MAILBOX_OVERFLOW_MESSAGES_MAX: usize = 8192;
/// Writes that wait for the log's next segment. Beyond it: 503.
pub const DEFERRED_WRITES_MAX: usize = 4096;

/// Bytes of the events in them. Beyond it: 503.
pub const DEFERRED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Requests of one connection that are worked on at once. While as many are unanswered, the
/// connection is not read, and the client's own sends come to a halt.
pub const PIPELINE_REQUESTS_MAX: usize = 256;
/// Reads of one connection that other cores work on at once: nobody knows how large their answers
/// are.
pub const PIPELINE_READS_MAX: usize = 16;
/// Bytes of an entity that is answered at once. A larger one is read when the answers before it are
/// taken: pipelined reads of it would else be held all at once.
pub const ANSWER_AT_ONCE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the bodies of writes that one connection may have unanswered before it is no longer
/// read.
pub const PIPELINE_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of answers that one HTTP connection may owe before it is no longer read.
pub const RESPONSE_BYTES_PENDING_MAX: usize = 1024 * 1024;
/// Bytes of pages and descriptions that one connection may owe before it is no longer read. They
/// are not copied; the heads of many requests for them would be.
pub const STATIC_BYTES_PENDING_MAX: usize = 64 * 1024;
/// Bytes from which a page is sent from where the program holds it, and not copied behind its head:
/// that takes a second call of the system.
pub const STATIC_BYTES_MIN: usize = 2 * 1024;
/// Bytes of one `recv`; the buffer is the core's and serves all its connections.
pub const RECEIVE_BYTES: usize = 64 * 1024;
/// Last times that a shard keeps of namespaces and ids that hold nothing any more: somewhat more
/// than one call deletes, and a copy of them all takes 2 ms. Beyond it the lowest is given up: see
/// `state::floors`.
pub const TIME_FLOORS_MAX: usize = 16_384;
/// Entities of a shard from which on a core looks ahead at which of them are going to be asked for:
/// fewer are in the processor's cache.
pub const PREFETCH_ENTITIES_MIN: usize = 4096;
/// Microseconds for which a flush is put off for the clients that the last one answered, while
/// others keep the core busy: about what answering and reading two hundred clients takes. Then it
/// covers the clients that are back.
pub const GROUP_COMMIT_DELAY_MICROS_MAX: u64 = 1500;
/// Microseconds, in all, for which a core sleeps for them while nothing is ready: what it takes to
/// wake a client that slept, and a fifth of what a flush takes. Then the flush goes.
pub const GROUP_COMMIT_IDLE_MICROS_MAX: u64 = 40;
/// The same if some clients were answered through other cores: two messages more each way, and the
/// other core may flush meanwhile. About what a flush takes.
pub const GROUP_COMMIT_REMOTE_MICROS_MAX: u64 = 200;
/// Heap that a connection may keep between requests, bytes in each direction; the rest goes back
/// when it is idle.
pub const IDLE_BUFFER_BYTES_MAX: usize = 2048;
/// Connections of the process, by default; each costs a descriptor. Beyond it: 503 and closed.
pub const CONNECTIONS_MAX_DEFAULT: u32 = 65_536;
/// The largest that either bound on connections can be set to.
pub const CONNECTIONS_SETTABLE_MAX: u32 = 1_000_000;
/// Connections from one address, by default: generous, since everyone behind a proxy shares one.
/// Beyond it: 429 and closed.
pub const CONNECTIONS_PER_ADDRESS_MAX_DEFAULT: u32 = 65_536;
/// Connections beyond the bound that are told so in good order; further ones are told and dropped
/// at once.
pub const CONNECTIONS_REFUSED_MAX: u64 = 64;
/// Descriptors besides those of connections: the process's own, those of polls with what they keep
/// open for a moment, and those of each shard (rings, sockets, segments).
pub const DESCRIPTORS_RESERVED: u64 = 64 + CONNECTIONS_REFUSED_MAX + 2 * POLLS_IN_FLIGHT_MAX as u64;
/// See [`DESCRIPTORS_RESERVED`].
pub const DESCRIPTORS_PER_SHARD: u64 = 24;
/// Connections that the kernel holds for a core until it accepts them.
pub const LISTEN_BACKLOG: i32 = 4096;
/// Connections accepted in one pass of the loop, so that a flood of new ones does not starve the
/// old.
pub const ACCEPTS_PER_TURN_MAX: usize = 64;

/// Bytes that `FLUX_MEMORY_BYTES` may be set to at least: room for a batch of the default size.
pub const MEMORY_BYTES_MIN: usize = 16 * 1024 * 1024;
/// `FLUX_MEMORY_BYTES` if it is not set is the machine's memory, or the container's, divided by
/// this.
pub const MEMORY_SHARE: u64 = 4;
/// The least that one address or token may hold of it, if a quarter is less: a batch of the default
/// size and what is left to small holdings.
pub const MEMORY_CLIENT_BYTES_MIN: usize = 12 * 1024 * 1024;
/// What one connection may hold and still count as small, bytes: what one `recv` brings. Larger
/// holdings wait first when memory runs out.
pub const MEMORY_SMALL_BYTES_MAX: usize = 128 * 1024;
/// What large holdings leave to small ones, at most, bytes; and never more than an eighth.
pub const MEMORY_SMALL_RESERVE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that a connection holds without being counted for it: a request and an answer of a usual
/// size. A connection that holds no more is read and answered also when memory has run out.
pub const MEMORY_UNCOUNTED_BYTES_MAX: usize = 4 * 1024;
/// Seconds that a request or a message waits for memory. Longer: 503, or closed with 1013; in
/// each sweep half of them.
pub const MEMORY_WAIT_SECONDS_MAX: u64 = 5;
/// Seconds that a client may take no byte of what waits for it, and that its body may take in all
/// beyond its own timeout, while memory is short. Longer: closed.
pub const MEMORY_STALL_SECONDS_MAX: u64 = 5;
/// Connections that wait for memory and are looked at again in one tick, in turn.
pub const MEMORY_RETRIES_PER_TICK_MAX: usize = 256;

/// Shards that the gauges of `GET /metrics` tell apart. Of more, they tell sums: the answer has a
/// bound.
pub const METRICS_SHARDS_MAX: u16 = 8;
/// The same of its histograms, which take most of the answer.
pub const METRICS_HISTOGRAM_SHARDS_MAX: u16 = 4;
/// Bytes of an answer of `GET /metrics`, which a test holds it to.
pub const METRICS_BYTES_MAX: usize = 64 * 1024;
/// Units of the work of one such answer.
pub const METRICS_UNITS: u64 = 256 * 1024;
/// Turns of a core whose events wait for their flush and are timed apart. The events of more count
/// from the last of these.
pub const PUBLISH_TIMES_MAX: usize = 1024;
/// Seconds between two looks at what the kernel says of the process and the disk.
pub const PROCESS_SAMPLE_SECONDS: u64 = 2;

/// Bytes of a handshake of TLS before its last read: certificates of clients are not asked for, and
/// all else takes 2 KiB. More: the connection ends.
pub const TLS_HANDSHAKE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of TLS records without a plain byte, after the handshake: updates of keys and alerts take
/// some dozens each. More: the connection ends. rustls would hold 64 KiB of a message whose end has
/// not come.
pub const TLS_SILENT_BYTES_MAX: usize = 8 * 1024;
/// Bytes that are received at once while a handshake goes on.
pub const TLS_HANDSHAKE_RECEIVE_BYTES: usize = 16 * 1024;
/// Bytes of a file with certificates or a key: some hundred certificates. More: it is not used.
pub const TLS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes that are read of a file with a secret. What is behind them makes it no secret.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Plain bytes that are encrypted at once. What the socket does not take of them waits encrypted,
/// so this is also what TLS adds to the answers that a connection owes.
pub const TLS_SEAL_BYTES_MAX: usize = 64 * 1024;
/// Seconds before the end of a certificate in which each start and each reading of its file warns.
pub const CERTIFICATE_WARNING_SECONDS: i64 = 14 * 86_400;
/// Seconds for a request head, from its first byte. Longer: 408. A handshake of TLS has as long,
/// from the beginning of the connection. Longer: closed.
pub const HEAD_TIMEOUT_SECONDS_DEFAULT: u64 = 10;
/// Seconds that a body may pause. Longer: 408.
pub const BODY_TIMEOUT_SECONDS_DEFAULT: u64 = 20;
/// Seconds without a request after which a connection is closed.
pub const IDLE_TIMEOUT_SECONDS_DEFAULT: u64 = 75;
/// Seconds that a client may take no byte of the bytes that wait for it. Longer: closed. A client
/// that reads 1 KB a second with the 64 KiB window that Linux begins with opens it again after 64 s
/// (`__tcp_select_window` in the kernel waits for half of it on loopback), and has to be seen to.
pub const STALL_TIMEOUT_SECONDS_DEFAULT: u64 = 120;
/// Milliseconds between two questions to the kernel about what a client has acknowledged that seems
/// to take nothing. One takes some 3 µs: 65,536 such clients, 20 ms a second.
pub const ACKNOWLEDGED_LOOK_MS_MAX: u64 = 10_000;
/// Such questions in one tick; the next sweep goes on with the others. They take some 0.8 ms.
pub const ACKNOWLEDGED_LOOKS_PER_TICK_MAX: u32 = 256;
/// Errors in place of an answer after which a kernel that has never answered is not asked any more.
pub const ACKNOWLEDGED_ERRORS_MAX: u32 = 3;
/// Such questions at least before a client is closed for it.
pub const ACKNOWLEDGED_LOOKS_MIN: u64 = 3;
/// Seconds without a byte after which a WebSocket client is pinged.
pub const WEBSOCKET_PING_SECONDS: u64 = 30;
/// Seconds after a ping without a byte after which a WebSocket client is taken for dead.
pub const WEBSOCKET_PONG_SECONDS: u64 = 20;
/// Seconds that the bytes of an HTTP client are still taken, and discarded, after the last answer.
pub const LINGER_SECONDS_MAX: u64 = 1;
/// Seconds that a WebSocket client has to answer a close frame.
pub const CLOSE_SECONDS_MAX: u64 = 5;
/// Milliseconds that all clients together have when the server is told to stop: for requests in
/// flight, for taking what waits for them, and for answering a close frame. Then it flushes and
/// exits: a service manager, or an operator, waits for no client that has stalled.
pub const SHUTDOWN_MS_MAX: u64 = 1_500;
/// Ticks in which every connection is looked at once for being overdue. Each tick looks at an equal
/// part of them: a look at 65,536 in one go takes some 10 ms.
pub const SWEEP_TICKS: usize = 20;
/// Connections that are given a `metrics_update` in one tick, for the same reason. The others
/// follow in the next ticks.
pub const METRICS_PER_TICK_MAX: u32 = 4096;
/// Connections whose streams are looked at in one turn because their time has come. The others
/// follow in the next turns.
pub const STREAM_TIMERS_PER_TURN_MAX: usize = 4096;
/// Seconds between two `metrics_update` messages.
pub const METRICS_INTERVAL_SECONDS: u64 = 2;
/// Distinct sources that `publishers.active` counts at most.
pub const ACTIVE_SOURCES_MAX: usize = 10_000;
/// Seconds for which a source that published counts as an active publisher.
pub const PUBLISHER_ACTIVE_SECONDS: u64 = 10;
/// Seconds between two attempts to prepare a segment after one failed.
pub const SPARE_RETRY_SECONDS: u64 = 1;
/// Milliseconds between two looks at everything that depends on time.
pub const TICK_MS: u64 = 25;
/// Seconds without a turn after which a core is reported. A turn takes some milliseconds at most,
/// and there are forty a second if nothing happens.
pub const WATCHDOG_REPORT_SECONDS: u64 = 5;
/// Seconds without a turn after which the process ends with exit code 1.
pub const WATCHDOG_END_SECONDS: u64 = 30;
/// From a message about the progress of a start, the time in which systemd waits for the next one,
/// seconds. As much as it waits by default: parts of a start that count nothing take less.
pub const SYSTEMD_EXTENSION_SECONDS: u32 = 90;
/// For which `flux health` waits for an answer, seconds. Docker gives a check 30 s by default.
pub const HEALTH_SECONDS_MAX: u64 = 5;
/// Messages to systemd's watchdog in the time after which it ends the process: three may be late.
pub const SYSTEMD_WATCHDOG_SHARE: u32 = 4;
/// Milliseconds from the beginning of a flush to the next in `async` durability. A power cut costs
/// that, and the time that a flush takes.
pub const FLUSH_INTERVAL_MS_DEFAULT: u64 = 50;
/// Shards for each core that the process may use: each is a thread that a core has to itself, so
/// more than a few make all of them slower. More: the setting is refused.
pub const SHARDS_PER_CORE_MAX: u16 = 4;
/// Shards that a server may have; an index of one fits a `u16` with room for marks.
pub const SHARDS_MAX: u16 = 1024;

/// Encoded frames that wait for the socket of one subscriber, bytes: several times a socket's send
/// buffer, so that only a reader that stalls is noticed. More: its updates are conflated.
pub const OUTBOX_DIRECT_BYTES_MAX: usize = 256 * 1024;
/// Heap of what is conflated for one slow subscriber, bytes, keys and tables counted. More: it is
/// closed with 1013.
pub const OUTBOX_CONFLATED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Frames conflated for one slow subscriber: bounds the time to deliver them, however small. More:
/// it is closed with 1013.
pub const OUTBOX_CONFLATED_ENTRIES_MAX: usize = 65_536;
/// The `id` of a WebSocket message, bytes of JSON text. Longer: an error message.
pub const MESSAGE_ID_BYTES_MAX: usize = 256;
/// Patterns that one stream over HTTP names. More: 400.
pub const STREAM_ENTITY_IDS_MAX: usize = 64;
/// Seconds between two comments on a stream over HTTP: less than proxies wait for a byte.
pub const STREAM_COMMENT_SECONDS: u64 = 15;
/// Milliseconds by which a comment may be early: connections are looked at twice a second.
pub const STREAM_COMMENT_EARLY_MS: u64 = 500;
/// Changes of one answer to a poll. A larger `limit`: 400.
pub const CHANGES_MAX: usize = 1_000;
/// The same if the request does not say.
pub const CHANGES_DEFAULT: usize = 100;
/// Seconds that a poll may wait: less than proxies do. More: 400.
pub const CHANGES_WAIT_SECONDS_MAX: f64 = 60.0;
/// Bytes of an answer to a poll at which nothing more is added. The rest is there for the next.
pub const CHANGES_BYTES_MAX: usize = 1024 * 1024;
/// Parts of the logs that one poll reads: some hundred thousand events. It then answers what it
/// has found, if that is nothing too, and the next poll goes on.
pub const CHANGES_PARTS_MAX: usize = 32;
/// Milliseconds after which a client that has lost its stream is told to ask again.
pub const STREAM_RETRY_MS: u64 = 2_000;
/// Names in `properties` of a subscription. More: an error message.
pub const STREAM_PROPERTIES_MAX: usize = 64;
/// Bytes of a message to a subscriber: what WebSocket libraries take by default. What would make a
/// longer one is announced in its place.
pub const STREAM_MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Distinct filters of the subscriptions that concern one shard: each that a change's id falls to
/// is asked twice when the change is applied. More: an error message.
pub const FILTERS_PER_SHARD_MAX: usize = 1_024;
/// Entities and properties that one connection's `max_hz` keeps the times of. More: what is new is
/// sent unpaced until an earlier one was not sent for its interval.
pub const PACED_ENTRIES_MAX: usize = 65_536;
/// Bytes that one connection's `max_hz` keeps. More: as above, and what grows is sent early.
pub const PACED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Milliseconds after a push at which its cursor follows, at the next tick: a client that breaks
/// off gets again what came since.
pub const CURSOR_DELAY_MS: u64 = 50;
/// Subscriptions that one connection may hold at a time; each costs memory on every shard that it
/// concerns. More: an error message, and the connection stays.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: usize = 1_024;
/// Entities of one shard that one connection may bind to itself at a time: what one client makes
/// the server delete at once. More: error `too_many_bindings`, and nothing is stored.
pub const BOUND_ENTITIES_PER_CONNECTION_MAX: usize = 1_024;
/// Entities of one shard that may be bound to connections or linger; each takes its id and about
/// 300 bytes. More: 503, and nothing is stored. What was bound before a start is kept however much
/// it is.
pub const BOUND_ENTITIES_MAX: usize = 262_144;
/// For how long a bound entity may stay after its connection has ended, seconds: minutes, so that
/// what an agent left behind does not stand for it. More: 400.
pub const BINDING_LINGER_SECONDS_MAX: u32 = 300;
/// The same in milliseconds, as it is stored.
pub const BINDING_LINGER_MS_MAX: u32 = BINDING_LINGER_SECONDS_MAX * 1_000;
/// The same if it is not said, milliseconds: for a client that connects again.
pub const BINDING_LINGER_MS_DEFAULT: u32 = 5_000;
/// Entities that were bound before the start and are taken in at a time: a fraction of a
/// millisecond. More: in later turns.
pub const ORPHANS_PER_SLICE_MAX: usize = 256;
/// Subscriptions of all connections, by default, as far as there is memory for them. More: an error
/// message.
pub const SUBSCRIPTIONS_MAX_DEFAULT: u32 = 4_000_000;
/// Subscriptions of the connections from one address, by default. More: an error message, and the
/// connection stays.
pub const SUBSCRIPTIONS_PER_ADDRESS_MAX_DEFAULT: u32 = 1_000_000;
/// Unknown tokens of one network within a minute, on calls that take any token: so many clients may
/// have a dead token. More count as guesses of the operator's: they are answered late, and end a
/// WebSocket connection.
pub const UNKNOWN_TOKENS_FREE: u32 = 1_000;
/// Namespaces that one address may register at once if the server has no operator, by default, and
/// again in each ten minutes: as many as the people of a class who share one address. More: 429.
pub const REGISTRATIONS_PER_ADDRESS_MAX_DEFAULT: u32 = 30;
/// Addresses whose registrations are counted; an entry lives for ten minutes at most. Further
/// addresses share one count.
pub const REGISTRATION_ADDRESSES_MAX: usize = 16_384;
/// Tokens of a namespace besides its first, expired ones not counted; about 300 bytes each on each
/// core. More: 400.
pub const TOKENS_PER_NAMESPACE_MAX: usize = 1_000;
/// A ticket is good so long, seconds: as long as a page takes to connect.
pub const TICKET_SECONDS: i64 = 30;
/// Tickets of all tokens of a namespace, or of the operator, at a time, unused; one more is refused
/// until the oldest has ended.
pub const TICKETS_PER_NAMESPACE_MAX: usize = 1_000;
/// Tickets of all tokens together, about 350 bytes each; one more takes the place of one of the
/// namespace that has most.
pub const TICKETS_MAX: usize = 20_000;
/// Tokens that a WebSocket connection may add to that of its handshake; the next is refused. Each
/// request is judged by all of them.
pub const TOKENS_PER_CONNECTION_MAX: usize = 16;
/// Bytes of a token's label. More: 400.
pub const TOKEN_LABEL_BYTES_MAX: usize = 255;
/// The longest that a token that expires may live, seconds: ten years. More: 400.
pub const TOKEN_SECONDS_MAX: i64 = 315_360_000;
/// Uses of tokens that one record of the control log tells of: about 40 KB. More: further records.
pub const TOKEN_USES_PER_CHANGE_MAX: usize = 500;
/// Milliseconds after which the first wrong operator's token is answered. Each further one doubles
/// them.
pub const GUESS_DELAY_MS_MIN: u64 = 50;
/// The longest that a wrong operator's token is kept waiting, milliseconds: then ten characters of
/// a token that was chosen by a person outlast anybody's patience.
pub const GUESS_DELAY_MS_MAX: u64 = 1000;
/// Seconds without a wrong operator's token after which the delay begins anew, and between two
/// lines about them.
pub const GUESS_REPORT_SECONDS: u64 = 60;
/// An operator's token of fewer characters is warned of at start: it could be guessed.
pub const ADMIN_TOKEN_CHARS_MIN: usize = 16;
/// Events that a namespace may publish in a minute, by default, in auth mode. More: 429.
pub const RATE_PER_MINUTE_DEFAULT: u32 = 10_000;
/// Bytes of an event's JSON for each of which, if they are full, it costs one token of its
/// namespace's rate more than one.
pub const RATE_TOKEN_BYTES: usize = 16 * 1024;
/// Namespaces that `flux-core/directory` lists: the ones that were updated last.
pub const DIRECTORY_NAMESPACES_MAX: usize = 1_000;
/// Seconds between two pushes of an entity that the server keeps itself: with a thousand namespaces
/// `flux-core/directory` is 90 KB, and it changes all the time.
pub const SYSTEM_PUSH_SECONDS: i64 = 10;
/// Milliseconds between two looks at a shard for `flux-core/directory`, which is at most a second
/// behind.
pub const DIRECTORY_INTERVAL_MS: u64 = 500;
/// Namespaces whose counts are asked for in one go.
pub const NAMESPACES_PER_SLICE: usize = 1_000;
/// Bytes of changes that the tokens of a namespace may have stored in the control log at once: a
/// thousand tokens and as many connectors. It is kept for ever. More: 429.
pub const CONTROL_BYTES_BURST: i64 = 4 * 1024 * 1024;
/// And again each second: 88 MB a day.
pub const CONTROL_BYTES_PER_SECOND: i64 = 1024;
/// Bytes that a record of it counts beside its change.
pub const CONTROL_RECORD_BYTES: i64 = 64;
/// Control calls (namespaces, configuration) that wait their turn. More: 503.
pub const CONTROL_CALLS_MAX: usize = 1_024;
/// Names that the server tries before it gives up finding a free one for a namespace.
pub const NAME_ATTEMPTS_MAX: usize = 64;
/// Names and frames of one change batch from a shard to a core, bytes: the one that reaches it is
/// the batch's last. The changes go on in the next batch.
pub const CHANGE_BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Default for the seconds between two checkpoints (`FLUX_CHECKPOINT_SECONDS`). What a start after
/// a crash replays is at most what came since.
pub const CHECKPOINT_SECONDS_DEFAULT: u64 = 60;
/// Default for the bytes of a shard's log at which a checkpoint is taken before its time
/// (`FLUX_CHECKPOINT_BYTES`): two to three seconds of replay.
pub const CHECKPOINT_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;
/// Bytes a second from which on a log grows too fast for checkpoints that give way to events:
/// beside a core that is never idle such a one writes some 25 MB of changes a second, and what a
/// start replays would have no bound.
pub const CHECKPOINT_FAST_BYTES_PER_SECOND: u64 = 20 * 1024 * 1024;
/// How many times the bytes at which a checkpoint is taken the log of such a shard has to be beyond
/// the last one for the next to be taken. One that is begun beyond as many does not give way,
/// however fast the log grows.
pub const CHECKPOINT_BEHIND_FACTOR: u64 = 2;
/// Seconds until a checkpoint that failed, for want of room say, is tried again.
pub const CHECKPOINT_RETRY_SECONDS: u64 = 10;
/// The same after the first failure in a row: room may have been made for it at once.
pub const CHECKPOINT_FIRST_RETRY_SECONDS: u64 = 1;
/// Seconds that the last checkpoint may take while the server stops. It is given up then: the log
/// has everything.
pub const CHECKPOINT_STOP_SECONDS_MAX: u64 = 4;
/// Seconds between two lines in the log while a shard replays.
pub const RECOVERY_REPORT_SECONDS: u64 = 2;
/// Seconds between two looks at what retention may remove.
pub const RETENTION_INTERVAL_SECONDS: u64 = 1;
/// The same for earlier generations, whose files are looked at anew each time. After a pass that
/// removed something the next one follows at once.
pub const SEALED_RETENTION_INTERVAL_SECONDS: u64 = 10;
/// Segments that one pass of retention removes: a bound on the memory for working them into the
/// base. More go in the next pass, which follows at once.
pub const RETENTION_SEGMENTS_MAX: usize = 8;
/// Bytes of the disk that are held back, so that a server whose disk is full can still shut down in
/// order, and so that retention can make room on it.
pub const RESERVE_BYTES: u64 = 4 * 1024 * 1024;
/// Seconds between two attempts to hold them back again.
pub const RESERVE_INTERVAL_SECONDS: u64 = 10;
/// One line of an import, bytes: an event of the largest body that can be set, and room for what
/// the line says besides. Longer: the import ends.
pub const IMPORT_LINE_BYTES_MAX: usize = 257 * 1024 * 1024;
/// Bytes that an import appends to a log between two flushes.
pub const IMPORT_FLUSH_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of the longest connector definition as it is stored. A longer one is refused.
pub const CONNECTOR_DEFINITION_BYTES_MAX: usize = 16 * 1024;
/// Credential of a connector, bytes. Longer: 400.
pub const CREDENTIAL_BYTES_MAX: usize = 4096;
/// Address of an HTTP source, bytes. Longer: 400.
pub const SOURCE_URL_BYTES_MAX: usize = 2048;
/// Properties that an HTTP source takes, and headers that it sends. More: 400.
pub const SOURCE_MEMBERS_MAX: usize = 256;
/// Seconds between two polls of an HTTP source, at least and at most.
pub const POLL_SECONDS: std::ops::RangeInclusive<u32> = 5..=86_400;
/// Seconds between two polls of a built-in connector.
pub const POLL_SECONDS_BUILT_IN: u32 = 60;
/// Seconds that one request of a poll may take, redirects included.
pub const POLL_REQUEST_SECONDS: u64 = 10;
/// Bytes of one answer to a poll. More: the poll fails.
pub const POLL_ANSWER_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Bytes of an answer to a poll that is an error: its beginning is looked at for a reason. The rest
/// is not read.
pub const POLL_ERROR_BYTES_MAX: usize = 64 * 1024;
/// Bytes of memory that a poll holds of its answer, what it takes of the items included. More: it
/// fails.
pub const POLL_HELD_BYTES_MAX: usize = 12 * 1024 * 1024;
/// Bytes of memory that a poll holds of its answer without a turn among the large ones. At this it
/// stops reading until it has one.
pub const POLL_SMALL_BYTES_MAX: usize = 128 * 1024;
/// Large answers of one owner that are in memory at a time: others wait, unread.
pub const LARGE_ANSWERS_PER_OWNER_MAX: usize = 1;
/// Large answers of all owners that are in memory at a time: others wait, unread.
pub const LARGE_ANSWERS_MAX: usize = 4;
/// Fewer than these if they could take more than the memory for clients divided by this; one in any
/// case.
pub const LARGE_ANSWERS_SHARE: usize = 8;
/// Bytes of memory that the polls of one owner hold of their answers.
pub const POLL_BYTES_PER_OWNER_MAX: usize = 16 * 1024 * 1024;
/// Bytes of memory that all polls hold of their answers.
pub const POLL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of an answer that are read before another poll has its turn on the thread: some
/// milliseconds.
pub const POLL_SLICE_BYTES: usize = 64 * 1024;
/// Members of an item whose members are all taken: what an entity may hold. More: the item is left
/// out.
pub const FINDING_PROPERTIES_MAX: usize = 10_000;
/// Bytes that are taken of one item: what an entity may hold. More: the item is left out.
pub const FINDING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Redirects that one request of a poll follows.
pub const POLL_REDIRECTS_MAX: u32 = 5;
/// Events that one poll publishes; what is left of what it found waits for the next.
pub const POLL_EVENTS_MAX: usize = 1_000;
/// Entities that one poll may find. More: it fails.
pub const POLL_ENTITIES_MAX: usize = 10_000;
/// Requests of one poll. Pages beyond wait for nobody: the poll fails.
pub const POLL_REQUESTS_MAX: u32 = 1_000;
/// Polls in flight at a time; others wait for their turn.
pub const POLLS_IN_FLIGHT_MAX: usize = 64;
/// Polls of one owner that are in flight at a time; others wait for their turn. An owner also has
/// no more than are free, so that there is always room for another owner's.
pub const POLLS_IN_FLIGHT_PER_OWNER_MAX: usize = 32;
/// Names of hosts that are looked up at a time, each on a thread: the system's resolver blocks.
/// Others wait.
pub const LOOKUPS_MAX: usize = 16;
/// Names of hosts that are looked up for one owner at a time. Others wait.
pub const LOOKUPS_PER_OWNER_MAX: usize = 8;
/// Seconds that a poll waits for the look-up of a name. The look-up itself can't be ended: it
/// counts until the system's resolver gives up.
pub const LOOKUP_SECONDS: u64 = 5;
/// Entities that the connectors of one owner remember, to publish only what is new. Of what is
/// forgotten the state is asked again.
pub const REMEMBERED_ENTITIES_PER_OWNER_MAX: usize = 1_000_000;
/// Seconds that failures put the next poll off for at most, if the interval is not longer.
pub const POLL_BACKOFF_SECONDS_MAX: u64 = 3600;
/// Seconds that a `Retry-After` puts the next poll off for at most.
pub const POLL_RETRY_AFTER_SECONDS_MAX: u64 = 86_400;

/// Work is counted in units, so that a turn of the loop ends at the same place each time it is run
/// with the same bytes. A unit is about half a nanosecond of the machines that this was measured
/// on. One request, besides its bytes: what finding and answering a small one takes.
pub const REQUEST_UNITS: u64 = 1024;
/// Units of one WebSocket message from a client, besides its bytes.
pub const WS_MESSAGE_UNITS: u64 = 512;
/// Units of an event that is applied, besides its bytes, and of an item of a batch that is decoded.
pub const EVENT_UNITS: u64 = 384;
/// Units of one byte of JSON from a client.
pub const JSON_BYTE_UNITS: u64 = 2;
/// Units of the end of a connection, besides what it held.
pub const END_UNITS: u64 = 64 * 1024;
/// Bytes that are given back to the system for one unit.
pub const FREED_BYTES_PER_UNIT: u64 = 8;
/// Bytes of answers up to which they are sent before those of connections that are owed more.
pub const SMALL_ANSWER_BYTES_MAX: usize = 32 * 1024;
/// Bytes that the kernel keeps for a connection and has not sent yet; it takes no more until they
/// are half as many. Without a bound it would take megabytes for each client that reads nothing,
/// which no account counts.
pub const KERNEL_UNSENT_BYTES_MAX: u32 = 256 * 1024;
/// Units of one byte of an answer that is written for a client.
pub const ANSWER_BYTE_UNITS: u64 = 1;
/// Bytes of the JSON that a tool of `POST /mcp` answers, about 10,000 tokens. Hosts cut a result at
/// 25,000 tokens, and it comes twice: as a structure and as text. What has no room is left out, and
/// the answer says so and where to go on.
pub const MCP_RESULT_BYTES_MAX: usize = 40_000;
/// Entities or changes that such a tool answers unless it is told how many.
pub const MCP_LIST_DEFAULT: usize = 50;
/// Entities that it answers at most.
pub const MCP_LIST_MAX: usize = 1_000;
/// Events that it answers unless it is told how many.
pub const MCP_EVENTS_DEFAULT: usize = 20;
/// Bytes of changes that it gathers, but for the last one. More are told next time.
pub const MCP_CHANGES_BYTES_MAX: usize = 16 * 1024;
/// Milliseconds that `flux_wait_for` waits unless it is told how long.
pub const MCP_WAIT_DEFAULT_MS: u64 = 25_000;
/// Milliseconds that it waits at most: hosts give a call up after 60 seconds.
pub const MCP_WAIT_MAX_MS: u64 = 50_000;
/// Milliseconds between two progress notifications of it, and between two signs of life of a
/// stream of notifications.
pub const MCP_PROGRESS_MS: u64 = 10_000;
/// Bytes of a line that `flux mcp` takes; a longer one ends it. The server takes no more either.
pub const MCP_LINE_BYTES_MAX: usize = BODY_OTHER_BYTES_MAX;
/// Messages that wait in `flux mcp` to be written or sent; then nothing more is read.
pub const MCP_REQUESTS_MAX: usize = 64;
/// Units of one change that is given to one subscriber, besides the bytes of its frames.
pub const PUSH_UNITS: u64 = 256;
/// Bytes of frames that are copied for one unit.
pub const FRAME_BYTES_PER_UNIT: u64 = 4;
/// Units of one send to a socket, besides the bytes: what the kernel takes to bring it to a client.
pub const SEND_UNITS: u64 = 8 * 1024;
/// Units of one byte that a socket takes.
pub const SEND_BYTE_UNITS: u64 = 1;
/// Bytes that are given to a socket in one go. More follow in the same turn or the next.
pub const SEND_BYTES_MAX: usize = 256 * 1024;
/// Units of what is sent to one connection before the next one's turn comes.
pub const SEND_SLICE_UNITS: u64 = 256 * 1024;
/// Units of a slice of work from which a connection counts as heavy: its next slice comes after
/// those of the connections that do not. A full slice of what is sent to it counts as that too.
pub const HEAVY_UNITS: u64 = 256 * 1024;
/// Small slices after which a heavy connection counts as small again.
pub const HEAVY_SLICES: u8 = 8;
/// Heavy connections have one of so many shares of a turn's reads at least, whatever the others
/// need.
pub const HEAVY_SHARES: u64 = 4;
/// The same of a turn's writes, units.
pub const HEAVY_TURN_UNITS_MIN: u64 = TURN_UNITS_MAX / HEAVY_SHARES;
/// Units of encrypting or decrypting one byte.
pub const TLS_BYTE_UNITS: u64 = 1;
/// Replies that a shard hands out in one go, each of which is encoded for its client: some
/// milliseconds. More go in the next turn, and the changes behind them.
pub const RELEASED_REPLIES_MAX: usize = 4096;
/// Bytes of changes that wait for a core's subscribers at which the core reads next to nothing
/// until they are fewer: changes are made faster than it can give them to all. Below it, the core
/// reads the less the more wait.
pub const FAN_OUT_BEHIND_BYTES: usize = 256 * 1024;
/// Units that a core reads in a turn however many changes wait: some requests of others.
pub const FAN_OUT_READ_UNITS_MIN: u64 = 16 * REQUEST_UNITS;
/// Bytes of changes that wait for a core's subscribers: more than a batch of the default size
/// makes. Beyond it the core does nothing else until they are fewer.
pub const FAN_OUT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Units for all connections of a core before it looks at its timers, its flush, its messages and
/// the sockets again; and once more for the messages.
pub const TURN_UNITS_MAX: u64 = 4 * 1024 * 1024;
/// Bytes of an entity that an event is about for one unit: they are copied, and not decoded.
pub const ENTITY_BYTES_PER_UNIT: u64 = 2;
/// Units of one byte of an event with the results of operations: an array that one element is
/// appended to is counted, copied several times, stored whole, and answered whole.
pub const OPERATION_BYTE_UNITS: u64 = 8;
/// Units that a core does in a microsecond: what connections are given to spend as time passes.
pub const UNITS_PER_MICRO: u64 = 2048;
/// Connections up to which a core lets each do all that it can. Of more, each may take so many
/// times an equal share of the core's time; what it takes beyond, it waits for. Connections that
/// send one request after the other never come near.
pub const EQUAL_SHARES_MAX: u64 = 4;
/// Microseconds in which a connection has to be worked on to count as active.
pub const ACTIVE_MICROS: u64 = 10_000;
/// Microseconds that a connection waits for its next turn at most.
pub const REST_MICROS_MAX: u64 = 100_000;

/// Lines of one event that are said in [`LOG_REPEATS_SECONDS`], if a client or a source can cause
/// any number of them. The rest is counted, and said in one line.
pub const LOG_REPEATS_MAX: u64 = 30;
/// Seconds for which lines of an event are counted.
pub const LOG_REPEATS_SECONDS: u64 = 60;
/// Milliseconds that a line of a server waits for stderr. It is then lost, and counted: a core
/// stands still meanwhile.
pub const LOG_WAIT_MS: i64 = 50;
/// Bytes of a line that are written to stderr at once: a pipe that is ready takes so many
/// (`PIPE_BUF`).
pub const LOG_PIECE_BYTES: usize = 4096;
/// Bytes of a path and its query that a line of the access log shows. The rest is left out.
pub const ACCESS_TARGET_BYTES_MAX: usize = 2048;
/// Bytes of a `User-Agent` that such a line shows. The rest is left out.
pub const ACCESS_USER_AGENT_BYTES_MAX: usize = 256;
/// Bytes of lines that a core collects before it hands them to the writer of the access log.
pub const ACCESS_BATCH_BYTES: usize = 16 * 1024;
/// Such batches that may wait for the writer. More are dropped, and counted.
pub const ACCESS_BATCHES_MAX: usize = 256;
/// Seconds between two lines about lines of the access log that were lost.
pub const ACCESS_REPORT_SECONDS: u64 = 10;
/// Milliseconds that the writer of the access log has when the server stops. What is left then is
/// dropped.
pub const ACCESS_END_MS: u64 = 1000;
