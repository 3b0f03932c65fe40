//! `flux mcp`: the Model Context Protocol over standard input and output, for hosts that start a
//! program: each line is sent to `POST /mcp` of the server that `FLUX_URL` names, and what that
//! answers is written as lines.
//!
//! ```text
//! stdin ─line─▶ task of the request ─POST─▶ server
//! stdout ◀line── its answer, or each event of its stream ◀┘
//! ```
//!
//! Messages pass as they are, so that numbers keep their digits; a message is read only for what
//! HTTP needs in its head. Requests run beside each other, since one may wait for a minute. Nothing
//! but messages is written to standard output; what goes wrong on the way is a JSON-RPC error.

use super::{EXIT_FAILURE, usage, variable};
use crate::limits::{MCP_LINE_BYTES_MAX, MCP_REQUESTS_MAX};
use crate::report::{self, LogEvent};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Command;
use reqwest::Client;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::sync::{OnceCell, mpsc};
use tokio::task::AbortHandle;

/// The server that is asked if `FLUX_URL` names none.
const URL: &str = "http://localhost:3000";

/// The subcommand.
pub(super) fn command() -> Command {
    Command::new("mcp")
        .about("Speak the Model Context Protocol on standard input and output, for agents' hosts")
        .after_help(
            "FLUX_URL names the server (default http://localhost:3000), FLUX_TOKEN the token",
        )
}

/// Runs until standard input ends.
pub(super) fn run() -> ExitCode {
    let read = |name| variable(name).map(|value| value.filter(|value| !value.is_empty()));
    let (url, token) = match (read("FLUX_URL"), read("FLUX_TOKEN")) {
        (Ok(url), Ok(token)) => (url, token),
        (Err(error), _) | (_, Err(error)) => return usage(&error),
    };
    let bridge = match Bridge::new(url.as_deref().unwrap_or(URL), token.as_deref()) {
        Ok(bridge) => bridge,
        Err(error) => return usage(&error),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let end = runtime.block_on(serve(Arc::new(bridge)));
            // The thread that reads may still wait for a line.
            runtime.shutdown_background();
            match end {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    report::say(
                        LogEvent::CommandFailed,
                        &format!("can't write to standard output: {error}"),
                    );
                    ExitCode::from(EXIT_FAILURE)
                }
            }
        }
        Err(error) => {
            report::say(
                LogEvent::CommandFailed,
                &format!("can't start the client: {error}"),
            );
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// What has happened.
enum News {
    /// A line came; `None` at the end of standard input.
    Line(Option<String>),
    /// A message is to be written.
    Message(String),
    /// A request is answered, by its number.
    Done(u64),
}

/// Requests that are under way, each by its number: the JSON of its id, whether it is a stream that
/// ends only with its client, and what ends it.
type UnderWay = BTreeMap<u64, (Value, bool, AbortHandle)>;

async fn serve(bridge: Arc<Bridge>) -> io::Result<()> {
    let (sender, mut news) = mpsc::channel(MCP_REQUESTS_MAX);
    let lines = sender.clone();
    tokio::task::spawn_blocking(move || read_lines(&lines));
    let mut under_way = UnderWay::new();
    let (mut next, mut is_over) = (0, false);
    while let Some(happened) = news.recv().await {
        match happened {
            News::Message(message) => {
                let mut out = io::stdout().lock();
                out.write_all(one_line(&message).as_bytes())?;
                out.flush()?;
            }
            News::Done(number) => {
                under_way.remove(&number);
            }
            News::Line(None) => {
                is_over = true;
                for (_, (_, _, task)) in under_way.iter().filter(|(_, it)| it.1) {
                    task.abort();
                }
                under_way.retain(|_, (_, is_stream, _)| !*is_stream);
            }
            News::Line(Some(line)) => {
                let message = serde_json::from_str(&line).unwrap_or(Value::Null);
                if message["method"] == "notifications/cancelled" {
                    cancel(&mut under_way, &message["params"]["requestId"]);
                    continue;
                }
                next += 1;
                let (bridge, sender) = (Arc::clone(&bridge), sender.clone());
                let (number, is_stream) = (next, message["method"] == "subscriptions/listen");
                let id = message["id"].clone();
                let task = tokio::spawn(async move {
                    bridge.pass(&message, line, &sender).await;
                    // Without a receiver all is over.
                    drop(sender.send(News::Done(number)).await);
                });
                under_way.insert(number, (id, is_stream, task.abort_handle()));
            }
        }
        if is_over && under_way.is_empty() {
            // What they have sent before they were done is written.
            return Ok(());
        }
    }
    Ok(())
}

/// A message as a line. A line break in JSON is white space between its parts, since strings hold
/// none that is not escaped.
fn one_line(message: &str) -> String {
    let mut line = message.replace(['\n', '\r'], " ");
    line.push('\n');
    line
}

/// Ends the request of this id; nothing more is written of it but what is on its way.
fn cancel(under_way: &mut UnderWay, id: &Value) {
    let found = under_way
        .iter()
        .find(|(_, it)| !id.is_null() && it.0 == *id);
    if let Some(number) = found.map(|(number, _)| *number)
        && let Some((_, _, task)) = under_way.remove(&number)
    {
        task.abort();
    }
}

/// Reads lines until standard input ends. A line that is too long, or no text, ends it too.
fn read_lines(sender: &mpsc::Sender<News>) {
    let mut input = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let limit = MCP_LINE_BYTES_MAX as u64 + 1;
        let read = io::Read::take(&mut input, limit).read_until(b'\n', &mut line);
        let is_end = !matches!(read, Ok(count) if count > 0);
        let is_long = line.len() > MCP_LINE_BYTES_MAX;
        let line = String::from_utf8(line).ok().filter(|_| !is_long);
        let line = match line {
            Some(line) if !is_end => line,
            _ => {
                if !is_end {
                    report::say(
                        LogEvent::CommandFailed,
                        "a line on standard input is too long, or not UTF-8",
                    );
                }
                drop(sender.blocking_send(News::Line(None)));
                return;
            }
        };
        if line.trim().is_empty() {
            continue;
        }
        if sender.blocking_send(News::Line(Some(line))).is_err() {
            return;
        }
    }
}

/// The way to the server.
struct Bridge {
    client: Client,
    endpoint: reqwest::Url,
    /// What `initialize` has agreed on, which later requests say in their heads.
    version: OnceCell<String>,
}

impl Bridge {
    fn new(url: &str, token: Option<&str>) -> Result<Self, String> {
        let text = format!("{}/mcp", url.trim_end_matches('/'));
        let endpoint = reqwest::Url::parse(&text).ok();
        let endpoint = endpoint.filter(|url| matches!(url.scheme(), "http" | "https"));
        let endpoint = endpoint.ok_or("invalid FLUX_URL: an http or https address is needed")?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let accept = HeaderValue::from_static("application/json, text/event-stream");
        headers.insert(ACCEPT, accept);
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|error| format!("invalid FLUX_TOKEN: {error}"))?;
            value.set_sensitive(true);
            headers.insert(reqwest::header::AUTHORIZATION, value);
        }
        let client = Client::builder().default_headers(headers).build();
        Ok(Self {
            client: client.map_err(|error| format!("can't start the client: {error}"))?,
            endpoint,
            version: OnceCell::new(),
        })
    }

    /// Sends a message, and what it is answered with to the writer.
    async fn pass(&self, message: &Value, line: String, sender: &mpsc::Sender<News>) {
        let is_request = message.get("id").is_some() && message.get("method").is_some();
        let passed = self.exchange(message, line, sender).await;
        if let Err(error) = passed
            && (is_request || message.is_null())
        {
            let mut answer = json!({
                "jsonrpc": "2.0",
                "error": {"code": -32603, "message": error.message, "data": error.data},
            });
            if is_request {
                answer["id"] = message["id"].clone();
            }
            drop(sender.send(News::Message(answer.to_string())).await);
        }
    }

    async fn exchange(
        &self,
        message: &Value,
        line: String,
        sender: &mpsc::Sender<News>,
    ) -> Result<(), Failure> {
        let request = self.client.post(self.endpoint.clone());
        let request = request.headers(self.headers(message)).body(line);
        let mut response = request.send().await.map_err(Failure::of)?;
        let status = response.status().as_u16();
        let is_stream = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        if is_stream {
            return pass_events(&mut response, sender).await;
        }
        let body = response.text().await.map_err(Failure::of)?;
        if body.is_empty() {
            return Ok(());
        }
        let answer: Value = serde_json::from_str(&body).unwrap_or(Value::Null);
        if answer["jsonrpc"] != "2.0" {
            return Err(Failure::http(status, &answer));
        }
        if message["method"] == "initialize"
            && let Some(version) = answer["result"]["protocolVersion"].as_str()
        {
            // A host initializes once.
            drop(self.version.set(version.to_owned()));
        }
        drop(sender.send(News::Message(body)).await);
        Ok(())
    }

    /// What the head of a message's request says of it.
    fn headers(&self, message: &Value) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, value: Option<&str>| {
            if let Some(value) = value.and_then(header_value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        let params = &message["params"];
        let version = params["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str();
        if version.is_none() {
            let agreed = self.version.get().map(String::as_str);
            add(
                "mcp-protocol-version",
                agreed.filter(|_| message["method"] != "initialize"),
            );
            return headers;
        }
        add("mcp-protocol-version", version);
        add("mcp-method", message["method"].as_str());
        let name = match message["method"].as_str() {
            Some("tools/call" | "prompts/get") => &params["name"],
            Some("resources/read") => &params["uri"],
            _ => &Value::Null,
        };
        add("mcp-name", name.as_str());
        headers
    }
}

/// A field's value; what is no plain ASCII is sent in Base64 (Streamable HTTP, "Value Encoding").
fn header_value(value: &str) -> Option<HeaderValue> {
    let is_plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && value.trim() == value
        && !value.starts_with("=?base64?");
    let text = if is_plain {
        value.to_owned()
    } else {
        format!("=?base64?{}?=", STANDARD.encode(value))
    };
    HeaderValue::from_str(&text).ok()
}

/// Passes the events of a stream on until it ends.
async fn pass_events(
    response: &mut reqwest::Response,
    sender: &mpsc::Sender<News>,
) -> Result<(), Failure> {
    let (mut received, mut is_answered) = (Vec::new(), false);
    while let Some(piece) = response.chunk().await.map_err(Failure::of)? {
        received.extend_from_slice(&piece);
        while let Some(end) = received.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = received.drain(..end + 2).collect();
            let event = String::from_utf8_lossy(&event);
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            if let Some(data) = data {
                let message: Value = serde_json::from_str(data).unwrap_or(Value::Null);
                is_answered |= message.get("id").is_some();
                drop(sender.send(News::Message(data.to_owned())).await);
            }
        }
    }
    if is_answered {
        Ok(())
    } else {
        Err(Failure {
            message: "the server has ended the stream".to_owned(),
            data: json!({"code": "stream_ended"}),
        })
    }
}

/// Why a message was not answered by the server.
struct Failure {
    message: String,
    data: Value,
}

impl Failure {
    #[expect(clippy::needless_pass_by_value, reason = "used as the map of an error")]
    fn of(error: reqwest::Error) -> Self {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Self {
            message: format!("can't reach the Flux server that FLUX_URL names: {cause}"),
            data: json!({"code": "unreachable"}),
        }
    }

    /// An answer that is no message: a refusal before the message was looked at.
    fn http(status: u16, answer: &Value) -> Self {
        let said = answer["error"]
            .as_str()
            .unwrap_or("no Flux server answers there");
        Self {
            message: format!("{status}: {said}"),
            data: json!({"status": status, "code": answer["code"]}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_several_lines_is_written_as_one() {
        let message = "{\n\"a\":\r\n[1,\n \"b\\n\"]}\n";
        let line = one_line(message);
        assert_eq!(line.find('\n'), Some(line.len() - 1), "{line}");
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(read(&line), read(message));
    }
}
