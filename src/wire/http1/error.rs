//! Why a request's bytes were refused, with the status and code that the answer carries (API.md
//! section 1).

use crate::limits;

/// A request that HTTP/1.1 or our limits forbid. Framing is lost with it: answer, then close the
/// connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The line is longer than [`limits::REQUEST_LINE_BYTES_MAX`].
    #[error("request line is over {} bytes", limits::REQUEST_LINE_BYTES_MAX)]
    RequestLineTooLong,
    /// No end of the head within [`limits::HEAD_BYTES_MAX`].
    #[error("request head is over {} bytes", limits::HEAD_BYTES_MAX)]
    HeadTooLarge,
    /// More fields than [`limits::HEADER_COUNT_MAX`].
    #[error("request has over {} header fields", limits::HEADER_COUNT_MAX)]
    TooManyFields,
    /// More than [`limits::TRAILER_BYTES_MAX`] after the last chunk.
    #[error("trailers are over {} bytes", limits::TRAILER_BYTES_MAX)]
    TrailersTooLarge,
    /// The body is, or says that it will be, longer than the limit given for it.
    #[error("body is over {limit} bytes")]
    BodyTooLarge {
        /// The limit in force, bytes.
        limit: usize,
    },
    /// The body is encoded in a way that nothing here decodes.
    #[error("header Content-Encoding names an encoding other than identity")]
    ContentEncodingUnsupported,
    /// Not `method SP target SP version`.
    #[error("request line is malformed")]
    RequestLineMalformed,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("HTTP version is neither 1.0 nor 1.1")]
    VersionUnsupported,
    /// Not origin-form, absolute-form of `http` or `https`, or `*` of OPTIONS (RFC 9112 §3.2).
    #[error("request target is malformed")]
    TargetMalformed,
    /// A bare CR or LF, or more empty lines before a request than
    /// [`limits::LEADING_EMPTY_LINES_MAX`].
    #[error("a line of the request head does not end with CRLF, or the head is missing")]
    LineEndMalformed,
    /// An invalid name, white space before the colon, or a folded line (RFC 9112 §5).
    #[error("a header field name is malformed")]
    FieldNameMalformed,
    /// A control character in a value.
    #[error("a header field value holds a control character")]
    FieldValueMalformed,
    /// HTTP/1.1 without `Host` (RFC 9112 §3.2).
    #[error("header Host is missing")]
    HostMissing,
    /// More than one `Host`.
    #[error("header Host is repeated")]
    HostRepeated,
    /// Not `host [":" port]`.
    #[error("header Host is malformed")]
    HostInvalid,
    /// Not digits alone, or beyond 64 bits.
    #[error("header Content-Length is not a number")]
    ContentLengthInvalid,
    /// More than one, even if they agree: the next hop may take another (RFC 9112 §6.3).
    #[error("header Content-Length is repeated")]
    ContentLengthRepeated,
    /// Anything but exactly `chunked`.
    #[error("header Transfer-Encoding is other than chunked")]
    TransferEncodingInvalid,
    /// HTTP/1.0 has no transfer codings, so somebody on the way misread the message (RFC 9112
    /// §6.1).
    #[error("header Transfer-Encoding in an HTTP/1.0 request")]
    TransferEncodingInOldVersion,
    /// `Content-Length` and `Transfer-Encoding` together: the classic of request smuggling.
    #[error("headers Content-Length and Transfer-Encoding exclude each other")]
    FramingConflict,
    /// Not a hexadecimal size of at most 16 digits, or junk after it.
    #[error("a chunk size line is malformed")]
    ChunkSizeInvalid,
    /// A size or trailer line over [`limits::CHUNK_LINE_BYTES_MAX`].
    #[error(
        "a chunk size or trailer line is over {} bytes",
        limits::CHUNK_LINE_BYTES_MAX
    )]
    ChunkLineTooLong,
    /// Over [`limits::CHUNK_EXTENSION_BYTES_MAX`] in one body.
    #[error(
        "chunk extensions are over {} bytes",
        limits::CHUNK_EXTENSION_BYTES_MAX
    )]
    ChunkExtensionsTooLong,
    /// The data of a chunk is not followed by CRLF.
    #[error("a chunk does not end with CRLF")]
    ChunkEndMissing,
    /// A line after the last chunk is no header field.
    #[error("a trailer field is malformed")]
    TrailerInvalid,
}

impl HttpError {
    /// The status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::BodyTooLarge { .. } => 413,
            Self::RequestLineTooLong => 414,
            Self::ContentEncodingUnsupported => 415,
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => 431,
            _ => 400,
        }
    }

    /// The stable code of the answer.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::RequestLineTooLong => "request_line_too_long",
            Self::ContentEncodingUnsupported => "unsupported_content_encoding",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyFields => "too_many_header_fields",
            Self::TrailersTooLarge => "trailers_too_large",
            Self::RequestLineMalformed
            | Self::VersionUnsupported
            | Self::TargetMalformed
            | Self::LineEndMalformed
            | Self::FieldNameMalformed
            | Self::FieldValueMalformed => "malformed_request",
            Self::HostMissing | Self::HostRepeated | Self::HostInvalid => "bad_host",
            Self::ContentLengthInvalid
            | Self::ContentLengthRepeated
            | Self::TransferEncodingInvalid
            | Self::TransferEncodingInOldVersion
            | Self::FramingConflict => "bad_framing",
            Self::ChunkSizeInvalid
            | Self::ChunkLineTooLong
            | Self::ChunkExtensionsTooLong
            | Self::ChunkEndMissing
            | Self::TrailerInvalid => "bad_chunk",
        }
    }
}
