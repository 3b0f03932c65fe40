//! The dashboard in a real Chromium: what is published appears, the past is shown, a server that is
//! gone is noticed and gone on with, text is never markup, tokens are taken, and nothing but what
//! the page's policy allows is loaded or run (API contract §13, §16, §17).

mod support;

use serde_json::{Value, json};
use support::chromium::Chromium;
use support::server::{Server, Setup};
use support::tenants::Tenants;
use support::tls::Sealed;
use support::{batch, event, npm_tool, publish_all, wait_for};
use tempfile::TempDir;

/// What each test asks of the page, by names that read well.
const ASK: &str = r"
const one = (selector) => document.querySelector(selector);
const row = (id) => [...document.querySelectorAll('tbody tr')].find((row) => row.querySelector('th')?.textContent === id);
const type = (selector, text) => {
  const field = one(selector);
  field.value = text;
  field.form.requestSubmit();
  return true;
};
";

/// A browser, and an address that it shows.
struct Page {
    browser: Chromium,
    url: String,
}

impl Page {
    /// `None` if there is no browser here.
    fn open(server: &Server, view: &str) -> Option<Self> {
        let page = Self {
            browser: Chromium::start("the dashboard")?,
            url: server.url(),
        };
        page.show(view);
        Some(page)
    }

    /// Shows a view, `#/entities` or another, from the beginning.
    fn show(&self, view: &str) {
        self.browser.open("about:blank");
        self.browser.open(&format!("{}/{view}", self.url));
        self.wait("the page", "one('.status')");
    }

    /// Waits until an expression is true, and gives its value.
    fn wait(&self, what: &str, expression: &str) -> Value {
        let script = format!("{ASK} return {expression};");
        self.browser.wait_for(what, &script)
    }

    fn run(&self, expression: &str) -> Value {
        self.browser.run(&format!("{ASK} return {expression};"))
    }

    /// Waits until changes come.
    fn wait_until_live(&self) {
        self.wait("the connection", "one('.status').textContent === 'live'");
    }

    /// Waits until the row of an entity says this.
    fn wait_for_row(&self, id: &str, text: &str) {
        let expression = format!("row({})?.textContent.includes({})", json!(id), json!(text));
        self.wait(&format!("{id}: {text}"), &expression);
    }

    /// The console holds no error, and so no breach of the page's policy.
    fn expect_no_errors(&self, network: bool) {
        let errors = self.browser.errors(network);
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

#[test]
fn an_empty_server_says_what_to_type_and_what_is_published_appears_without_a_reload() {
    let server = Server::start(2);
    let Some(page) = Page::open(&server, "#/entities") else {
        return;
    };
    let guide = page.wait("the guide", "one('.guide')?.textContent");
    let guide = guide.as_str().expect("text");
    let curl = format!("curl {}/api/events -d '{{", server.url());
    assert!(guide.contains(&curl), "{guide}");
    assert!(guide.contains("scripts/flux.sh publish"), "{guide}");
    page.wait_until_live();
    page.run("(window.sameDocument = true)");
    server.publish("house/room", r#"{"temperature":22.50}"#);
    page.wait_for_row("house/room", "temperature 22.50");
    server.publish("house/room", r#"{"temperature":23}"#);
    page.wait_for_row("house/room", "temperature 23");
    server.publish("house/attic", r#"{"big":12345678901234567890123}"#);
    page.wait_for_row("house/attic", "12345678901234567890123");
    // In the order of ids, and gone when it is gone.
    let order =
        "[...document.querySelectorAll('tbody th')].map((cell) => cell.textContent).join(' ')";
    assert_eq!(
        page.run(order),
        "flux-core/directory house/attic house/room"
    );
    server.request("DELETE", "/api/state/entities/house/attic", "");
    page.wait("the deletion", "!row('house/attic')");
    assert_eq!(page.run("!!window.sameDocument && !one('.guide')"), true);
    page.expect_no_errors(true);
}

#[test]
fn a_filter_and_a_prefix_choose_live_and_pages_follow_each_other() {
    let server = Server::start(2);
    let ids: Vec<String> = (0..250).map(|n| format!("plant/pump-{n:03}")).collect();
    publish_all(&server, &ids, r#"{"rpm":1000}"#);
    server.publish("house/room", r#"{"rpm":1}"#);
    let Some(page) = Page::open(&server, "#/entities?prefix=plant/&limit=100") else {
        return;
    };
    page.wait_for_row("plant/pump-000", "1000");
    let shown = "document.querySelectorAll('tbody tr').length";
    assert_eq!(page.run(shown), 100);
    page.run("one('a[rel=next]').click()");
    page.wait_for_row("plant/pump-100", "1000");
    page.run("one('a[rel=next]').click()");
    page.wait_for_row("plant/pump-249", "1000");
    assert_eq!(page.run(shown), 50);
    // What belongs to another page does not appear on this one.
    page.wait_until_live();
    server.publish("plant/pump-0005", "{}");
    server.publish("plant/pump-999", r#"{"rpm":7}"#);
    page.wait_for_row("plant/pump-999", "7");
    assert_eq!(page.run(shown), 51);
    page.run("type('#filter', 'gt(rpm,2000)')");
    page.wait(
        "nothing to match",
        "one('.quiet')?.textContent.includes('No entity matches')",
    );
    page.wait_until_live();
    server.publish("plant/pump-007", r#"{"rpm":2500}"#);
    page.wait_for_row("plant/pump-007", "2500");
    server.publish("plant/pump-007", r#"{"rpm":900}"#);
    page.wait("the row to leave", "!row('plant/pump-007')");
    page.expect_no_errors(true);
    page.run("type('#filter', 'gt(rpm')");
    page.wait(
        "the problem",
        "one('#filter').getAttribute('aria-invalid') && one('#filter-problem').textContent",
    );
    // An address is all that a view is made of.
    page.show("#/entities?prefix=plant/&filter=eq(rpm,7)");
    page.wait_for_row("plant/pump-999", "7");
    assert_eq!(
        page.run("one('#prefix').value + one('#filter').value"),
        "plant/eq(rpm,7)"
    );
    page.expect_no_errors(false);
}

#[test]
fn the_slider_shows_an_entity_as_it_was_and_changes_come_meanwhile() {
    let server = Server::start(2);
    for n in 1..=5 {
        server.publish("house/room", &format!(r#"{{"temperature":2{n}}}"#));
    }
    let Some(page) = Page::open(&server, "#/entity?id=house%2Froom") else {
        return;
    };
    let value = |text: &str| format!("one('td.value')?.textContent === '{text}'");
    page.wait("the state", &value("25"));
    page.wait(
        "the events",
        "document.querySelectorAll('.events tbody tr').length === 5",
    );
    page.wait(
        "the plot",
        "one('figure svg path')?.getAttribute('d').length > 20",
    );
    page.wait_until_live();
    server.publish("house/room", r#"{"temperature":26}"#);
    page.wait("the change", &value("26"));
    page.wait("its event", "one('#time').max === '6'");
    // By keyboard: two steps back from now is the fifth event.
    page.run("one('#time').focus()");
    page.browser.press("\u{E012}\u{E012}");
    page.wait("the past", &value("25"));
    page.browser.press("\u{E011}");
    page.wait("the first event", &value("21"));
    page.wait(
        "its time",
        "one('output').textContent.includes('event 1 of 6')",
    );
    page.wait("its point", "one('figure .now').textContent === '21'");
    server.publish("house/room", r#"{"temperature":27}"#);
    page.wait("another event", "one('#time').max === '7'");
    assert_eq!(page.run(&value("21")), true);
    // A reload shows the same moment.
    page.browser.run("location.reload()");
    page.wait("the same moment", &value("21"));
    page.run("one('.travel button').click()");
    page.wait("now", &value("27"));
    page.expect_no_errors(true);
}

#[test]
fn a_server_that_is_gone_is_noticed_and_what_changed_meanwhile_is_shown_when_it_is_back() {
    let dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(dir.path(), 2);
    let server = setup.start();
    let port = server.port;
    server.publish("yard/crane", r#"{"load":1}"#);
    server.publish("yard/truck", r#"{"at":"gate"}"#);
    let Some(page) = Page::open(&server, "#/entities?prefix=yard/") else {
        return;
    };
    page.wait_for_row("yard/crane", "load 1");
    page.wait_until_live();
    let mut server = server;
    for round in 2..=3 {
        server.kill();
        page.wait("the banner", LOST);
        let is_grey = "document.body.classList.contains('stale')";
        assert_eq!(page.run(is_grey), true);
        let between = setup.start();
        between.publish("yard/crane", &format!(r#"{{"load":{round}}}"#));
        between.request("DELETE", "/api/state/entities/yard/truck", "");
        between.stop();
        server = setup.start_on(port);
        page.run("one('.banner button').click()");
        page.wait_until_live();
        page.wait_for_row("yard/crane", &format!("load {round}"));
        page.wait(
            "the deletion",
            "!row('yard/truck') && one('.banner').hidden",
        );
        server.publish("yard/crane", r#"{"more":true}"#);
        page.wait_for_row("yard/crane", "more true");
        server.publish("yard/truck", r#"{"at":"gate"}"#);
        page.wait_for_row("yard/truck", "gate");
    }
    page.expect_no_errors(false);
}

#[test]
fn an_entity_that_comes_into_being_while_nobody_listens_is_shown() {
    let dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(dir.path(), 1);
    let server = setup.start();
    let port = server.port;
    server.publish("yard/crane", "{}");
    let Some(page) = Page::open(&server, "#/entity?id=yard%2Ftruck") else {
        return;
    };
    page.wait(
        "the absence",
        "one('.quiet').textContent === 'There is no such entity.' && one('.travel').hidden",
    );
    page.wait_until_live();
    server.kill();
    page.wait("the banner", LOST);
    let server = setup.start_on(port);
    server.publish("yard/truck", r#"{"at":"gate"}"#);
    page.run("one('.banner button').click()");
    page.wait(
        "the entity",
        "one('td.value')?.textContent === '\"gate\"' && !one('.quiet').textContent",
    );
    server.publish("yard/truck", r#"{"at":"road"}"#);
    page.wait("its change", "one('td.value')?.textContent === '\"road\"'");
    // When it expires is a part of what a change says, as is that it no longer does.
    let is_expiring =
        "[...document.querySelectorAll('dt')].some((it) => it.textContent === 'Expires')";
    let with_ttl = |ttl: Value| {
        let mut event: Value = serde_json::from_str(&event("yard/truck", "{}")).expect("JSON");
        event["payload"]["ttl"] = ttl;
        let body = event.to_string();
        let answer = server.post("/api/events", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    assert_eq!(page.run(is_expiring), false);
    with_ttl(json!(3600));
    page.wait("the expiry", is_expiring);
    with_ttl(Value::Null);
    page.wait("its end", &format!("!{is_expiring}"));
    page.expect_no_errors(false);
}

/// The banner says since when what is shown may be old.
const LOST: &str =
    "!one('.banner').hidden && one('.banner').textContent.includes('Connection lost at')";

/// Texts that run something if they are taken for markup, an address or code.
const MARKUP: [&str; 5] = [
    "<img src=x onerror=ran()>",
    "<script>ran()</script>",
    "\"><svg onload=ran()>",
    "javascript:ran()",
    "</td></table>{{constructor}}__proto__",
];

#[test]
fn markup_in_ids_names_and_values_is_text() {
    let server = Server::start(1);
    let mut properties = json!({"__proto__": {"polluted": true}, "constructor": 5});
    for text in MARKUP {
        properties[text] = json!(text);
    }
    let properties = properties.to_string();
    let ids: Vec<String> = MARKUP.iter().map(|text| format!("{text}/{text}")).collect();
    for id in &ids {
        server.publish(id, &properties);
        let noisy = event(id, &properties)
            .replace("test.events", "a")
            .replace("\"tests\"", &json!(MARKUP[0]).to_string());
        assert_eq!(server.post("/api/events", &noisy).status, 200);
    }
    let Some(page) = Page::open(&server, "#/entities") else {
        return;
    };
    let set_trap = "(window.ran = () => { window.hasRun = true; }, true)";
    let is_clean = "!window.hasRun && !document.querySelector('main img, main script, main td svg, main a[href^=javascript]') && ({}).polluted === undefined";
    page.run(set_trap);
    page.wait_until_live();
    for id in &ids {
        page.wait_for_row(id, MARKUP[1]);
    }
    server.publish(&ids[0], r#"{"<b>live</b>":"<i>live</i>"}"#);
    page.wait_for_row(&ids[0], "live");
    assert_eq!(page.run(is_clean), true);
    for id in &ids {
        page.run(&format!("row({}).querySelector('a').click()", json!(id)));
        page.wait(
            "its page",
            &format!("one('h1').textContent === {}", json!(id)),
        );
        page.wait("its events", "one('.events tbody tr') && one('td.value')");
        let text = page.run("one('main').textContent");
        let text = text.as_str().expect("text");
        assert!(MARKUP.iter().all(|markup| text.contains(markup)), "{text}");
        assert_eq!(page.run(is_clean), true, "{id}");
        page.browser.run("history.back()");
        page.wait("the list", &format!("row({})", json!(id)));
    }
    page.run("[...document.querySelectorAll('header nav a')][1].click()");
    page.wait(
        "the namespaces",
        &format!("row({})", json!(MARKUP[0].split('/').next())),
    );
    assert_eq!(page.run(is_clean), true);
    // An address made by somebody else.
    page.show("#/entity?id=%3Cimg%20src%3Dx%20onerror%3Dran()%3E&at=%3Cb%3E");
    page.run(set_trap);
    page.wait(
        "the id as text",
        "one('h1').textContent === '<img src=x onerror=ran()>'",
    );
    page.wait("a problem", "one('.problem').textContent");
    // That the time is none does not say that there was no entity.
    let is_said = "one('main').textContent.includes('did not exist')";
    assert_eq!(page.run(is_said), false);
    assert_eq!(page.run(is_clean), true);
    page.expect_no_errors(false);
}

#[test]
fn a_private_namespace_is_shown_to_its_token_which_stays_in_the_tab() {
    let tenants = Tenants::start_with_private(2, &["shed"]);
    let (server, token) = (&tenants.server, tenants.first["shed"].as_str());
    let publish = |properties: &str| {
        let body = event("shed/tool", properties);
        let answer = server.with_token(("POST", "/api/events"), token, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    publish(r#"{"sharp":1}"#);
    let Some(page) = Page::open(server, "#/entities?prefix=shed/") else {
        return;
    };
    page.wait(
        "the refusal",
        "one('main').textContent.includes('Enter a token')",
    );
    let enter = |token: &str| {
        page.run("(one('.side button').click(), true)");
        page.run(&format!("type('#token', {})", json!(token)));
    };
    enter("flux_nobodys");
    page.wait(
        "the refusal",
        "one('#token-problem').textContent.length > 10 && one('dialog').open",
    );
    page.run("(one('dialog button:last-child').click(), true)");
    enter(token);
    page.wait_for_row("shed/tool", "sharp 1");
    page.wait_until_live();
    publish(r#"{"sharp":2}"#);
    page.wait_for_row("shed/tool", "sharp 2");
    // A token that is refused takes nothing from the one in use.
    enter("flux_nobodys");
    page.wait(
        "the refusal",
        "one('#token-problem').textContent.length > 10",
    );
    page.run("(one('dialog button:last-child').click(), true)");
    let button = "one('.side button').textContent";
    assert_eq!(page.run(button), "Token in use");
    // Nowhere but in this tab, and not in an address.
    page.browser.run("location.reload()");
    page.wait_for_row("shed/tool", "sharp 2");
    let addresses = page.run("JSON.stringify([location.href, ...performance.getEntries().map((entry) => entry.name)]) + JSON.stringify({...localStorage}) + document.cookie");
    assert!(!addresses.as_str().expect("text").contains(token));
    page.run("(one('.side button').click(), true)");
    page.run("([...document.querySelectorAll('dialog button')].find((button) => button.textContent === 'Forget it').click(), true)");
    page.wait(
        "the refusal",
        "!row('shed/tool') && one('main').textContent.includes('Enter a token')",
    );
    page.expect_no_errors(false);
}

#[test]
fn a_token_that_dies_ends_what_it_alone_showed() {
    let tenants = Tenants::start_with_private(1, &["shed"]);
    let made = tenants.make("shed", &json!({"scopes": ["read"]}));
    let body = event("shed/tool", r#"{"sharp":1}"#);
    let first = tenants.first["shed"].as_str();
    let call = ("POST", "/api/events");
    assert_eq!(tenants.server.with_token(call, first, &body).status, 200);
    let Some(page) = Page::open(&tenants.server, "#/entities?prefix=shed/") else {
        return;
    };
    page.run("(one('.side button').click(), true)");
    page.run(&format!("type('#token', {})", json!(made.token)));
    page.wait_for_row("shed/tool", "sharp 1");
    page.wait_until_live();
    // Its subscription is in force once a change has come.
    let body = event("shed/tool", r#"{"sharp":2}"#);
    assert_eq!(tenants.server.with_token(call, first, &body).status, 200);
    page.wait_for_row("shed/tool", "sharp 2");
    tenants.revoke("shed", &made.id);
    page.wait("the end", ENDED);
    page.wait("the row to leave", "!row('shed/tool')");
    assert_eq!(page.run("one('main').textContent.includes('sharp')"), false);
    page.expect_no_errors(false);
}

/// The page says that the token in use gives nothing any more.
const ENDED: &str = "[...document.querySelectorAll('.problem')].some((it) => it.textContent.includes('Enter another token'))";

#[test]
fn an_entity_that_may_not_be_read_any_more_leaves_the_screen_with_its_past() {
    let tenants = Tenants::start_with_private(1, &["shed"]);
    let made = tenants.make("shed", &json!({"scopes": ["read"]}));
    let first = tenants.first["shed"].as_str();
    let publish = |sharp: u32| {
        let body = event("shed/tool", &format!(r#"{{"sharp":{sharp}}}"#));
        let call = ("POST", "/api/events");
        assert_eq!(tenants.server.with_token(call, first, &body).status, 200);
    };
    publish(1);
    publish(2);
    let Some(page) = Page::open(&tenants.server, "#/entity?id=shed%2Ftool") else {
        return;
    };
    page.run("(one('.side button').click(), true)");
    page.run(&format!("type('#token', {})", json!(made.token)));
    page.wait("its plot", "one('figure svg path')");
    page.wait_until_live();
    publish(3);
    page.wait("a change", "one('td.value')?.textContent === '3'");
    tenants.revoke("shed", &made.id);
    page.wait("the end", ENDED);
    page.wait(
        "an empty page",
        "!one('td.value') && !one('.events tbody tr') && !one('figure svg')",
    );
    let is_denied = "one('main').textContent.includes('no such entity')";
    assert_eq!(page.run(is_denied), false, "nothing is known of it");
    page.expect_no_errors(false);
}

#[test]
fn rows_of_a_namespace_that_becomes_private_leave_a_list_that_goes_on() {
    let tenants = Tenants::start(1);
    let server = &tenants.server;
    for namespace in ["shed", "house"] {
        let body = event(&format!("{namespace}/tool"), r#"{"sharp":1}"#);
        let token = tenants.first[namespace].as_str();
        let answer = server.with_token(("POST", "/api/events"), token, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let Some(page) = Page::open(server, "#/entities") else {
        return;
    };
    page.wait_for_row("shed/tool", "sharp 1");
    page.wait_for_row("house/tool", "sharp 1");
    page.wait_until_live();
    let call = ("PATCH", "/api/namespaces/shed");
    let token = tenants.first["shed"].as_str();
    let answer = server.with_token(call, token, r#"{"read":"private"}"#);
    assert_eq!(answer.status, 200, "{}", answer.text());
    page.wait(
        "the row to leave, and why",
        "!row('shed/tool') && one('main').textContent.includes('be read here any more')",
    );
    assert_eq!(page.run("!!row('house/tool')"), true);
    page.expect_no_errors(true);
}

#[test]
fn an_entity_whose_id_ends_in_a_star_is_watched_alone() {
    let server = Server::start(1);
    server.publish("lab/a*", r#"{"n":1}"#);
    server.publish("lab/ab", r#"{"n":1}"#);
    let Some(page) = Page::open(&server, "#/entities") else {
        return;
    };
    page.wait_for_row("lab/a*", "n 1");
    page.wait_until_live();
    page.run(
        "(window.heard = [], window.sent = [], WebSocket.prototype.send = ((send) => function (text) {
            if (sent.push(text) === 1) this.addEventListener('message', (event) => heard.push(event.data));
            send.call(this, text);
        })(WebSocket.prototype.send), row('lab/a*').querySelector('a').click(), true)",
    );
    let value = |text: &str| format!("one('td.value')?.textContent === '{text}'");
    page.wait("its page", &value("1"));
    page.wait(
        "its watch",
        "heard.some((text) => text.includes('\"ack\"'))",
    );
    for n in 2..5 {
        server.publish("lab/ab", &format!(r#"{{"n":{n}}}"#));
    }
    server.publish("lab/a*", r#"{"n":5}"#);
    page.wait("its change", &value("5"));
    let others = "heard.filter((text) => text.includes('\"lab/ab\"')).length";
    assert_eq!(page.run(others), 0);
    page.expect_no_errors(true);
}

#[test]
fn the_page_works_over_tls_and_by_keyboard() {
    let sealed = Sealed::start(1);
    for n in 0..3 {
        sealed.publish(&format!("house/room-{n}"), r#"{"n":1}"#);
    }
    let Some(browser) = Chromium::start("the dashboard over TLS") else {
        return;
    };
    let url = sealed.url();
    let page = Page { browser, url };
    page.show("#/entities?prefix=house/");
    page.wait_for_row("house/room-0", "n 1");
    page.wait_until_live();
    sealed.publish("house/room-0", r#"{"n":2}"#);
    page.wait_for_row("house/room-0", "n 2");
    page.run("(row('house/room-0').querySelector('a').focus(), true)");
    page.browser.press("\u{E015}\u{E015}");
    let focused = "document.activeElement.textContent === 'house/room-2'";
    page.wait("the third row", focused);
    // A change of the row that has the focus leaves it there.
    sealed.publish("house/room-2", r#"{"n":3}"#);
    page.wait_for_row("house/room-2", "n 3");
    assert_eq!(page.run(focused), true);
    page.browser.press("/");
    page.wait("the search", "document.activeElement.id === 'prefix'");
    page.run("(row('house/room-1').querySelector('a').focus(), true)");
    page.browser.press("\u{E007}");
    page.wait(
        "its page",
        "document.activeElement === one('h1') && one('td.value')?.textContent === '1'",
    );
    page.expect_no_errors(true);
}

#[test]
fn the_server_view_draws_rates_and_latencies_and_the_namespaces_follow() {
    let server = Server::start(2);
    server.publish("house/room", r#"{"n":0}"#);
    let Some(page) = Page::open(&server, "#/server") else {
        return;
    };
    page.wait(
        "the shards",
        "document.querySelectorAll('tbody tr').length === 2",
    );
    let flush = "[...document.querySelectorAll('figure')].find((figure) => figure.textContent.includes('Flush'))";
    let mut n = 0;
    wait_for("a latency", || {
        n += 1;
        server.publish("house/room", &format!(r#"{{"n":{n}}}"#));
        let latency = page.run(&format!("/[0-9] (µs|ms|s)/.test({flush}?.textContent)"));
        (latency == true).then_some(())
    });
    page.wait(
        "its line",
        &format!("{flush}.querySelector('path').getAttribute('d')"),
    );
    page.run("(one('a[href=\"#/namespaces\"]').click(), true)");
    page.wait_for_row("house", "1");
    page.wait_until_live();
    server.publish("house/attic", "{}");
    page.wait_for_row("house", "2");
    page.run("(one('a[href=\"#/connectors\"]').click(), true)");
    page.wait_for_row("github", "not configured");
    page.expect_no_errors(true);
}

#[test]
fn every_view_can_be_used_by_everyone_in_both_colour_schemes() {
    let Some(axe) = npm_tool("axe-core/axe.min.js", "accessibility of the dashboard") else {
        return;
    };
    let axe = std::fs::read_to_string(axe).expect("a readable script");
    let server = Server::start(2);
    let Some(page) = Page::open(&server, "#/entities") else {
        return;
    };
    let check = |view: &str, ready: &str| {
        for (scheme, width) in [("light", 1280), ("dark", 1280), ("light", 400)] {
            page.browser.show_as(scheme, width);
            page.show(view);
            page.wait(view, ready);
            let found = page.browser.barriers(&axe);
            assert_eq!(found, json!([]), "{view}, {scheme}, {width}");
        }
    };
    check("#/entities", "one('.guide')");
    for n in 0..20 {
        let properties = format!(r#"{{"temperature":{n},"text":"x","deep":{{"a":[1]}}}}"#);
        server.publish("house/room", &properties);
    }
    check("#/entities", "row('house/room')");
    check(
        "#/entities?filter=eq(",
        "one('#filter').getAttribute('aria-invalid')",
    );
    check(
        "#/entity?id=house/room",
        "one('figure svg') && one('.events tbody tr')",
    );
    check(
        "#/entity?id=house/room&at=2000-01-01T00:00:00Z",
        "one('section.then') && (one('.quiet').textContent.includes('did not exist') || one('.problem').textContent)",
    );
    check("#/namespaces", "row('house')");
    check("#/connectors", "row('github')");
    check("#/server", "one('.facts dd')");
    page.run("(one('.side button').click(), true)");
    page.browser.errors(true);
}

#[test]
fn the_modules_are_typed() {
    let Some(compiler) = npm_tool("typescript/bin/tsc", "types of the dashboard") else {
        return;
    };
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pages/dashboard");
    let files = std::fs::read_dir(&folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path());
    let modules = files.filter(|path| path.extension().is_some_and(|ending| ending == "js"));
    let output = std::process::Command::new("node")
        .arg(compiler)
        .args("--noEmit --allowJs --checkJs --strict --noUncheckedIndexedAccess --exactOptionalPropertyTypes".split(' '))
        .args("--target es2023 --module esnext --lib es2023,dom,dom.iterable".split(' '))
        .args(modules)
        .output();
    let output = output.expect("node");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}

#[test]
fn a_thousand_rows_follow_two_hundred_changes_a_second() {
    let server = Server::start(2);
    let ids: Vec<String> = (0..1000).map(|n| format!("plant/pump-{n:04}")).collect();
    publish_all(
        &server,
        &ids,
        r#"{"rpm":0,"status":"running","pressure":4.25}"#,
    );
    let Some(page) = Page::open(&server, "#/entities?prefix=plant/&limit=1000") else {
        return;
    };
    page.wait_for_row("plant/pump-0999", "running");
    page.wait_until_live();
    page.run(
        "(window.gaps = [], requestAnimationFrame(function next(now) {
            if (window.before) gaps.push(now - before);
            window.before = now;
            requestAnimationFrame(next);
        }), true)",
    );
    for round in 1..=60 {
        let changed = (0..10).map(|n| (round * 37 + n * 101) % 1000);
        let events: Vec<String> = changed
            .map(|n| {
                event(
                    &format!("plant/pump-{n:04}"),
                    &format!(r#"{{"rpm":{round}}}"#),
                )
            })
            .collect();
        server.post("/api/events/batch", &batch(&events));
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    let last = format!("plant/pump-{:04}", (60 * 37) % 1000);
    page.wait_for_row(&last, "rpm 60");
    let gaps = page.run("(gaps.sort((a, b) => a - b), [gaps.length, gaps[gaps.length >> 1], gaps[Math.floor(gaps.length * 0.99)], gaps.at(-1)].map(Math.round).join(' '))");
    // No figure is asserted: the machine may be busy with other tests.
    say(&format!(
        "frames, and milliseconds between two (median, p99, longest): {gaps}"
    ));
    assert_eq!(
        page.run("document.querySelectorAll('tbody tr').length"),
        1000
    );
    page.expect_no_errors(true);
}

/// Tells whoever runs the test.
fn say(line: &str) {
    use std::io::Write as _;
    // Nothing can be done about a closed standard error.
    drop(writeln!(std::io::stderr(), "{line}"));
}
