//! Running the scripts of `scripts/` as an operator types them.

use super::server::Server;
use serde_json::Value;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts")
        .join(name)
}

/// `flux.sh` for the server at `url`.
pub(crate) fn flux(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(script("flux.sh"));
    command
        .args(arguments)
        .env("FLUX_URL", url)
        .env_remove("FLUX_CA_FILE")
        .env_remove("FLUX_TOKEN")
        .env_remove("FLUX_ADMIN_TOKEN");
    command.stdin(Stdio::null());
    command
}

pub(crate) fn run(server: &Server, arguments: &[&str]) -> Output {
    flux(&server.url(), arguments)
        .output()
        .expect("the script runs")
}

/// Runs a command that must succeed with nothing on standard error; returns its output as JSON.
pub(crate) fn succeed(server: &Server, arguments: &[&str]) -> Value {
    let output = run(server, arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    assert_eq!(complaint, "", "{arguments:?}");
    assert!(output.stdout.ends_with(b"\n"), "{arguments:?}");
    serde_json::from_slice(&output.stdout).expect("JSON on standard output")
}

/// Expects an exit code and nothing on standard output; returns standard error.
pub(crate) fn complain(output: &Output, code: i32, what: &str) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{what}: {complaint}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{what}");
    assert!(!complaint.is_empty(), "{what} says nothing");
    complaint
}

/// One request, as a listener received it.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) request_line: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: String,
}

/// Runs `flux.sh` against a listener that answers `{}` to one request.
pub(crate) fn record(arguments: &[&str], environment: &[(&str, &str)]) -> Recorded {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut command = flux(&format!("http://127.0.0.1:{port}/"), arguments);
    command
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().expect("the script runs");
    let (stream, _) = listener.accept().expect("a connection");
    let recorded = read_request(&stream);
    let mut answer = &stream;
    answer
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        .expect("curl reads");
    let output = child.wait_with_output().expect("the script ends");
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    recorded
}

pub(crate) fn read_request(stream: &std::net::TcpStream) -> Recorded {
    use std::io::{BufRead as _, BufReader, Read as _};
    stream
        .set_read_timeout(Some(super::PATIENCE))
        .expect("a socket");
    let mut reader = BufReader::new(stream);
    let mut lines: Vec<String> = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a head");
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let prefix = format!("{name}: ");
        lines
            .iter()
            .find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
    };
    let len = header("Content-Length").map_or(0, |len| len.parse::<usize>().expect("a number"));
    let mut body = vec![0; len];
    reader.read_exact(&mut body).expect("a body");
    Recorded {
        request_line: lines[0].clone(),
        authorization: header("Authorization"),
        body: String::from_utf8(body).expect("UTF-8"),
    }
}
