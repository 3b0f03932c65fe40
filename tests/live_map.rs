//! `examples/live_map.html` in a real Chromium: it shows what moves, goes on after the server was
//! killed, says what is stale, and takes no name for markup.

mod support;

use serde_json::Value;
use support::chromium::Chromium;
use support::server::{Server, Setup};
use support::source::{Answer, Source};
use support::tenants::Tenants;
use tempfile::TempDir;

/// Serves the example, as `python3 -m http.server` would.
fn page() -> Source {
    let head = vec!["Content-Type: text/html; charset=utf-8".to_owned()];
    let content = include_str!("../examples/live_map.html");
    Source::start(move |_| Answer::Http(200, head.clone(), content.to_owned()))
}

fn open(browser: &Chromium, page: &Source, server: &Server, settings: &str) {
    let address = page.url(&format!("/?server={}&{settings}", server.url()));
    browser.open(&address);
}

/// Waits until the map shows a thing; its place on the screen.
fn place(browser: &Chromium, id: &str, but: &Value) -> Value {
    let find = format!(
        "const thing = [...document.querySelectorAll('.thing')].find((it) => it.dataset.id === {});
         const place = thing?.style.transform;
         return place && place !== {but} && place",
        serde_json::json!(id)
    );
    browser.wait_for(id, &find)
}

fn status(browser: &Chromium, wanted: &str) {
    let is_so = format!("return document.getElementById('status').textContent === '{wanted}'");
    browser.wait_for(wanted, &is_so);
}

#[test]
fn a_marker_moves_with_its_entity_also_after_the_server_was_killed() {
    let Some(browser) = Chromium::start("the live map") else {
        return;
    };
    let dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(dir.path(), 2)
        .env("FLUX_OPEN", "")
        .env("FLUX_ALLOWED_ORIGINS", "");
    let (mut server, page) = (setup.start(), page());
    server.publish("yard/van", r#"{"lat":52.5,"lon":13.4}"#);
    server.publish("yard/crane", r#"{"lat":52.51,"lon":13.42}"#);
    server.publish("yard/no-place", r#"{"lat":"north","lon":null}"#);
    open(&browser, &page, &server, "prefix=yard/&stale=1");
    status(&browser, "live");
    let mut at = place(&browser, "yard/van", &Value::Null);
    server.publish("yard/van", r#"{"lat":52.505,"lon":13.41,"heading":45}"#);
    at = place(&browser, "yard/van", &at);
    browser.wait_for(
        "what is stale",
        "return document.querySelectorAll('.thing.stale').length == 2",
    );

    let markup = r#"yard/<img src=x onerror="window.hit=1"><b>bold</b>"#;
    server.publish(markup, r#"{"lat":52.502,"lon":13.405}"#);
    place(&browser, markup, &Value::Null);
    let made = browser.run("return [window.hit, document.querySelectorAll('#rows b, #rows img, svg b, svg img').length, document.querySelector('#rows').textContent.includes('<b>bold</b>')]");
    assert_eq!(made, serde_json::json!([null, 0, true]));

    let port = server.port;
    for n in 1..=2 {
        server.kill();
        status(&browser, "away, trying again");
        server = setup.start_on(port);
        server.publish("yard/van", &format!(r#"{{"lat":52.50{n},"lon":13.40{n}}}"#));
        at = place(&browser, "yard/van", &at);
        status(&browser, "live");
    }
    let gone = server.request("DELETE", "/api/state/entities/yard%2Fvan", "");
    assert_eq!(gone.status, 200);
    browser.wait_for("the van to go", "return ![...document.querySelectorAll('.thing')].some((it) => it.dataset.id === 'yard/van')");
    assert_eq!(browser.errors(false), Vec::<String>::new());
}

#[test]
fn the_simulation_feeds_the_map_in_both_colour_schemes() {
    let Some(browser) = Chromium::start("the live map's simulation") else {
        return;
    };
    let (server, page) = (Server::start(1), page());
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.show_as(scheme, 1000);
        open(&browser, &page, &server, "prefix=map/");
        status(&browser, "live");
        browser.run("document.getElementById('simulate').click()");
        browser.wait_for(
            "the vans",
            "return document.querySelectorAll('.thing').length == 8",
        );
        let at = place(&browser, "map/van-1", &Value::Null);
        place(&browser, "map/van-1", &at);
        browser.run("document.getElementById('simulate').click()");
        grounds.push(browser.run("return getComputedStyle(document.body).backgroundColor"));
    }
    assert_ne!(grounds[0], grounds[1]);
    assert_eq!(browser.errors(true), Vec::<String>::new());
}

#[test]
fn a_private_namespace_is_shown_to_whoever_enters_its_token() {
    let Some(browser) = Chromium::start("the live map with a token") else {
        return;
    };
    let tenants = Tenants::start_with_private(2, &["house"]);
    let (token, page) = (&tenants.first["house"], page());
    let publish = |properties: &str| {
        let event = support::event("house/robot", properties);
        let answer = tenants
            .server
            .with_token(("POST", "/api/events"), token, &event);
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    publish(r#"{"lat":1,"lon":2}"#);
    open(&browser, &page, &tenants.server, "prefix=house/");
    let says = "return document.getElementById('trouble').textContent.includes('token')";
    browser.wait_for("why there is nothing", says);
    let enter = format!(
        "document.getElementById('token').value = '{token}'; document.querySelector('form button').click()"
    );
    browser.run(&enter);
    status(&browser, "live");
    let at = place(&browser, "house/robot", &Value::Null);
    publish(r#"{"lat":1.5,"lon":2.1}"#);
    place(&browser, "house/robot", &at);
    assert_eq!(browser.errors(false), Vec::<String>::new());
}
