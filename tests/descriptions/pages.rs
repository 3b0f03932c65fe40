//! The descriptions are served as they stand in the repository, `/docs` shows every call without a
//! script, and what `llms.txt` says can be done as it stands.

use super::support::chromium::Chromium;
use super::support::described::{asyncapi, openapi};
use super::support::http::request;
use super::support::npm_tool;
use super::support::schema::members;
use super::support::server::Server;
use super::{Call, calls};
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

const PAGES: [(&str, &str); 4] = [
    ("/openapi.json", "application/json"),
    ("/asyncapi.json", "application/json"),
    ("/docs", "text/html; charset=utf-8"),
    ("/llms.txt", "text/plain; charset=utf-8"),
];

#[test]
fn each_description_is_served_with_a_tag_and_asked_for_again_by_it() {
    let server = Server::start(1);
    for (path, content_type) in PAGES {
        let page = server.get(path);
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.header("content-type"), Some(content_type));
        assert_eq!(page.header("cache-control"), Some("no-cache"), "{path}");
        let tag = page.header("etag").expect("a tag");
        let mut connection = server.connect();
        let field = format!("If-None-Match: {tag}");
        connection.send(request("GET", path, &[&field], ""));
        assert_eq!(connection.response_to_head().status, 304, "{path}");
        connection.send(request("HEAD", path, &[], ""));
        let head = connection.response_to_head();
        assert_eq!(
            (head.status, head.header("etag")),
            (200, Some(tag)),
            "{path}"
        );
        let refused = server.post(path, "");
        assert_eq!(
            refused.header("allow"),
            Some("GET, HEAD, OPTIONS"),
            "{path}"
        );
        refused.expect_error(405, path);
    }
}

#[test]
fn the_descriptions_that_are_served_are_those_that_are_checked() {
    let server = Server::start(1);
    let version = server.get("/health").json()["version"].clone();
    for (path, source) in [
        (
            "/openapi.json",
            include_str!("../../src/pages/openapi.json"),
        ),
        (
            "/asyncapi.json",
            include_str!("../../src/pages/asyncapi.json"),
        ),
    ] {
        let mut checked: Value = serde_json::from_str(source).expect("JSON");
        checked["info"]["version"] = version.clone();
        assert!(server.get(path).json() == checked, "{path}");
    }
}

#[test]
fn the_page_shows_every_call_message_schema_and_code_and_runs_nothing() {
    let server = Server::start(1);
    let page = server.get("/docs");
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    let html = page.text();
    let anchors = |id: &str| {
        assert_eq!(html.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
    };
    calls().iter().map(Call::id).for_each(anchors);
    for name in members(&openapi().0["components"]["schemas"]).keys() {
        let is_list = name == "ErrorCode";
        anchors(&if is_list {
            "codes".to_owned()
        } else {
            format!("schema-{name}")
        });
    }
    for name in members(&asyncapi().0["components"]["messages"]).keys() {
        anchors(&format!("message-{name}"));
    }
    for target in html.split("href=\"#").skip(1) {
        anchors(target.split('"').next().expect("a target"));
    }
    for never in ["<script", "style=", " on", "{{", "javascript:"] {
        let is_attribute = never == " on";
        let found = if is_attribute {
            ["onclick=", "onload=", "onerror="]
                .iter()
                .any(|it| html.contains(it))
        } else {
            html.contains(never)
        };
        assert!(!found, "{never}");
    }
    let sheet = html
        .split("href=\"")
        .find(|it| it.starts_with("/assets/") && it.contains("/docs.css\""));
    let sheet = sheet
        .and_then(|it| it.split('"').next())
        .expect("a style sheet");
    let sheet = server.get(sheet);
    assert_eq!(
        sheet.header("content-type"),
        Some("text/css; charset=utf-8")
    );
    assert!(sheet.text().contains("light-dark("), "both colour schemes");
}

#[test]
fn the_page_can_be_read_by_everyone_on_any_screen_and_in_both_colour_schemes() {
    let Some(axe) = npm_tool("axe-core/axe.min.js", "accessibility of /docs") else {
        return;
    };
    let axe = fs::read_to_string(axe).expect("a readable script");
    let Some(browser) = Chromium::start("/docs") else {
        return;
    };
    let server = Server::start(1);
    for (scheme, width) in [("light", 1280), ("dark", 1280), ("light", 360)] {
        browser.show_as(scheme, width);
        browser.open(&format!("{}/docs", server.url()));
        let is_narrower = "return document.documentElement.scrollWidth <= innerWidth;";
        assert_eq!(browser.run(is_narrower), true, "{width}");
        // What is folded is looked at too.
        browser.run("document.querySelectorAll('details').forEach((it) => it.open = true)");
        assert_eq!(browser.barriers(&axe), json!([]), "{scheme}, {width}");
    }
    // By keyboard: past all that is linked, to the calls.
    browser.press("\u{E004}\u{E007}");
    let is_there = "return location.hash === '#calls';";
    browser.wait_for("the calls", is_there);
    assert_eq!(browser.errors(true), Vec::<String>::new());
}

#[test]
fn the_parser_of_asyncapis_makers_finds_nothing_wrong() {
    let what = "asyncapi.json by its official parser";
    let Some(parser) = npm_tool("@asyncapi/parser/package.json", what) else {
        return;
    };
    let parser = parser.parent().expect("its folder");
    // A description that holds a mistake shows that mistakes are found.
    let script = r#"
        const { Parser } = require(process.argv[1]);
        const { readFileSync } = require("node:fs");
        const text = readFileSync(0, "utf8");
        const check = async (text) => {
          const { document, diagnostics } = await new Parser().parse(text);
          return { isRead: document !== undefined, found: diagnostics.map((it) => `${it.path.join("/")}: ${it.message}`) };
        };
        const broken = text.replace('"action": "send"', '"action": "tell"');
        Promise.all([text, broken].map(check)).then((all) => console.log(JSON.stringify(all)));"#;
    let mut node = Command::new("node")
        .args(["-e", script])
        .arg(parser)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node");
    let text = include_str!("../../src/pages/asyncapi.json");
    let mut input = node.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).expect("room in the pipe");
    drop(input);
    let output = node.wait_with_output().expect("its output");
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(all[0], json!({"isRead": true, "found": []}));
    assert_eq!(all[1]["isRead"], false, "{all}");
}

#[test]
fn what_the_page_for_agents_says_can_be_done_as_it_stands() {
    let server = Server::start(2);
    let page = server.get("/llms.txt");
    assert!(page.body.len() <= 2048, "{} bytes", page.body.len());
    let blocks = page.text().split("```sh\n").skip(1);
    let commands: Vec<&str> = blocks
        .flat_map(|block| block.split("```").next().expect("a block").lines())
        .collect();
    assert!(commands.len() > 7, "{commands:?}");
    for command in commands {
        let output = Command::new("sh")
            .args(["-c", command])
            .env("FLUX", server.url())
            .output();
        let Ok(output) = output else {
            return super::support::not_checked("the commands of llms.txt: there is no shell");
        };
        if output.status.code() == Some(127) {
            return super::support::not_checked("the commands of llms.txt: there is no curl");
        }
        let said = String::from_utf8_lossy(&output.stdout);
        // 28: a stream goes on until the time is over.
        let is_over = output.status.success() || output.status.code() == Some(28);
        assert!(
            is_over && !said.is_empty() && !said.contains("\"code\""),
            "{command}: {said}"
        );
    }
}
