//! Messages of the Model Context Protocol and the arguments of tools.
//!
//! Each message is read as every tool reads it; what is refused is answered by JSON, and what is
//! not comes to queries and bodies that the parsers of the API read.

use flux::front::mcp::check_message;

/// Texts of messages.
pub const DICTIONARY: &[&[u8]] = &[
    br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"flux_get","arguments":{}}}"#,
    br#""jsonrpc":"2.0""#,
    br#""id":"#,
    br#""method":"#,
    br#""params":{"#,
    br#""name":"#,
    br#""uri":"flux://entity/"#,
    br#""cursor":"#,
    br#""arguments":{"#,
    br#""_meta":{"#,
    br#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#,
    br#""io.modelcontextprotocol/clientCapabilities":{}"#,
    br#""progressToken":"#,
    br#""result":{}"#,
    br#""prefix":"#,
    br#""filter":"#,
    br#""fields":["#,
    br#""limit":"#,
    br#""properties":{"#,
    br#""increment":{"#,
    br#""append":{"#,
    br#""unset":["#,
    br#""expect":{"#,
    br#""ttl":"#,
    br#""event_id":"#,
    br#""time":"#,
    br#""since":"#,
    br#""timeout_seconds":"#,
    br#""goal":"#,
    br"\u0061",
    b"%2F",
    b"1e2",
    b"-0",
    b"null",
    b",",
];

/// Runs the target.
pub fn target(data: &[u8]) {
    check_message(data);
    // Arguments are most of what a client sends: so is what the mutator makes.
    let arguments = [
        br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"flux_coordinate","arguments":"#,
        data,
        b"}}",
    ];
    check_message(&arguments.concat());
}
