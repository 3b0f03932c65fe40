//! A Chromium without a window, driven by the `WebDriver` protocol (of the W3C) through
//! `chromedriver`. Both come as packages of the distribution; without them its tests say on
//! standard error that they were not run.

use super::server::free_port;
use super::{PATIENCE, not_checked, wait_for};
use serde_json::{Value, json};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A name that the browser takes for this machine, and for no loopback name.
pub(crate) const FOREIGN: &str = "page.example";

/// A running browser with one tab. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Chromium {
    driver: Child,
    port: u16,
    /// `/session/…`
    session: String,
    _profile: TempDir,
}

impl Chromium {
    /// `None`, and a line on standard error, if there is no Chromium here.
    pub(crate) fn start(what: &str) -> Option<Self> {
        let port = free_port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(driver) = driver else {
            not_checked(&format!("{what}: no chromedriver"));
            return None;
        };
        let profile = TempDir::new().expect("a temporary directory");
        let user_data = format!("--user-data-dir={}", profile.path().display());
        let mut browser = Self {
            driver,
            port,
            session: String::new(),
            _profile: profile,
        };
        wait_for("chromedriver", || {
            browser.call("GET", "/status", &Value::Null).ok()
        });
        let arguments = [
            "--headless".to_owned(),
            // It can't make a sandbox if it runs as root.
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-dev-shm-usage".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--disable-sync".into(),
            "--no-first-run".into(),
            format!("--host-resolver-rules=MAP {FOREIGN} 127.0.0.1"),
            user_data,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "acceptInsecureCerts": true,
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let made = browser.call("POST", "/session", &wanted);
        let made = made.expect("an answer of chromedriver");
        let Some(id) = made["sessionId"].as_str() else {
            not_checked(&format!("{what}: no Chromium: {made}"));
            return None;
        };
        browser.session = format!("/session/{id}");
        Some(browser)
    }

    /// Loads a page, and waits until it is loaded.
    pub(crate) fn open(&self, url: &str) {
        let answer = self.command("/url", &json!({"url": url}));
        assert!(answer.is_null(), "{url}: {answer}");
    }

    /// What the body of a function in the page returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until a function in the page returns something that is true.
    pub(crate) fn wait_for(&self, what: &str, script: &str) -> Value {
        wait_for(what, || {
            let answer = self.run(script);
            let is_there = !answer.is_null() && answer != false;
            is_there.then_some(answer)
        })
    }

    /// What a function of the page hands to the callback that is its last argument.
    pub(crate) fn run_async(&self, script: &str) -> Value {
        self.command("/execute/async", &json!({"script": script, "args": []}))
    }

    /// What `axe-core`, of which this is the script, finds serious or critical in the page.
    pub(crate) fn barriers(&self, axe: &str) -> Value {
        self.run(axe);
        self.run_async(
            "const done = arguments[arguments.length - 1];
            axe.run(document, { resultTypes: ['violations'] }).then((found) => done(found.violations
              .filter(({ impact }) => impact === 'serious' || impact === 'critical')
              .map(({ id, nodes }) => [id, ...nodes.slice(0, 3).map((node) => node.html)])));",
        )
    }

    /// Presses keys on the element that has the focus.
    pub(crate) fn press(&self, keys: &str) {
        let active = self.call(
            "GET",
            &format!("{}/element/active", self.session),
            &Value::Null,
        );
        let active = active.expect("an element with the focus");
        let (_, id) = active
            .as_object()
            .and_then(|reference| reference.iter().next())
            .expect("a reference");
        let path = format!("/element/{}/value", id.as_str().expect("an id"));
        self.command(&path, &json!({ "text": keys }));
    }

    /// The page is shown in this colour scheme and width from now on.
    pub(crate) fn show_as(&self, scheme: &str, width: u32) {
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.develop("Emulation.setEmulatedMedia", &media);
        let size = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false});
        self.develop("Emulation.setDeviceMetricsOverride", &size);
    }

    /// A command of the developer tools.
    fn develop(&self, name: &str, parameters: &Value) {
        let body = json!({"cmd": name, "params": parameters});
        self.command("/goog/cdp/execute", &body);
    }

    /// What pages have written to the console since the last call, errors only. Those of the
    /// network are left out if `network` is false.
    pub(crate) fn errors(&self, network: bool) -> Vec<String> {
        let log = self.command("/se/log", &json!({"type": "browser"}));
        let lines = log.as_array().expect("a log").iter();
        lines
            .filter(|line| line["level"] == "SEVERE" && (network || line["source"] != "network"))
            .map(|line| line["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        let path = format!("{}{path}", self.session);
        self.call("POST", &path, body)
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The member `value` of the answer.
    fn call(&self, method: &str, path: &str, body: &Value) -> io::Result<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let len = body.len();
        stream.set_read_timeout(Some(PATIENCE))?;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        let fields = format!("Content-Length: {len}\r\n\r\n");
        stream.write_all([head, fields, body].concat().as_bytes())?;
        // The driver keeps the connection open, so the length says where the answer ends.
        let mut lines = BufReader::new(stream);
        let mut len = 0;
        loop {
            let mut line = String::new();
            lines.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                len = value.trim().parse().map_err(io::Error::other)?;
            } else if line.is_empty() {
                break;
            }
        }
        let mut answer = vec![0; len];
        lines.read_exact(&mut answer)?;
        let mut answer: Value = serde_json::from_slice(&answer).map_err(io::Error::other)?;
        Ok(answer["value"].take())
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // Ends Chromium. If this fails, so does what follows, and a process is left.
            drop(self.call("DELETE", &self.session, &Value::Null));
        }
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}
