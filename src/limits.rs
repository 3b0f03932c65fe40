//! Every bound of the server: its unit, its reason, and what happens when it is reached.
//!
//! Limits that an operator may change live in `config` and start from the defaults here.

/// Request line, bytes. Longer: 414.
pub const REQUEST_LINE_BYTES_MAX: usize = 8 * 1024;
/// Request head (request line, header fields and the empty line), bytes. Longer: 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields of one request. More: 431.
pub const HEADER_COUNT_MAX: usize = 64;
/// Default bound on the body of one event, bytes (`FLUX_BODY_SIZE_LIMIT_SINGLE_BYTES`). Longer: 413.
pub const BODY_SINGLE_BYTES_DEFAULT: usize = 1024 * 1024;
/// Default bound on the body of a batch, bytes (`FLUX_BODY_SIZE_LIMIT_BATCH_BYTES`). Longer: 413.
pub const BODY_BATCH_BYTES_DEFAULT: usize = 10 * 1024 * 1024;
/// Bound on every other body, bytes. Longer: 413.
pub const BODY_OTHER_BYTES_MAX: usize = 1024 * 1024;
/// Chunk-size line and its extensions, and each trailer line, bytes (RFC 9112 §7.1). Longer: 400.
pub const CHUNK_LINE_BYTES_MAX: usize = 1024;
/// All trailers of one chunked body, bytes. Longer: 431.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Nesting of JSON containers, the outermost counted. Deeper: 400.
pub const JSON_DEPTH_MAX: usize = 128;

/// Entity id, bytes. Longer: 400.
pub const ENTITY_ID_BYTES_MAX: usize = 512;
/// Event id, bytes. Longer: 400.
pub const EVENT_ID_BYTES_MAX: usize = 128;
/// Stream name, bytes. Longer: 400.
pub const STREAM_BYTES_MAX: usize = 256;
/// Source name, bytes. Longer: 400.
pub const SOURCE_BYTES_MAX: usize = 256;
/// `key` and `schema` of an event, bytes each. Longer: 400.
pub const METADATA_BYTES_MAX: usize = 1024;
/// Entities of one page of a listing. A larger `limit`: 400.
pub const PAGE_ENTITIES_MAX: usize = 10_000;
/// Bytes of one page of a listing: a page is held in memory to know its successor. A page that reaches it ends
/// early and links to the next.
pub const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Default bound on the entities that one batch delete may match (`max_batch_delete`). More: 400.
pub const BATCH_DELETE_MAX_DEFAULT: usize = 10_000;
