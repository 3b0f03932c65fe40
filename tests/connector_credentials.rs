//! Connectors with credentials and owners: who sees them, which addresses they may reach, and that
//! no secret leaks.
//!
//! The tests search for credentials in every place where they must not be, kill the server and
//! start it with other keys, and let tenants try each other's connectors and the server's own
//! network. A server of the test plays GitHub.

mod support;

use serde_json::json;
use std::io::Write as _;
use std::sync::{Arc, OnceLock};
use support::connectors::{KEY, define, definition, show, store, wait_for_status};
use support::server::{Server, Setup};
use support::source::{Answer, Source, json as answer_json};
use support::{files, wait_for};
use tempfile::TempDir;

const ADMIN: &str = "operator-secret-0123456789";
const OTHER_KEY: &str = "//////////////////////////////////////////8=";

#[test]
fn the_credential_stays_with_its_host() {
    let dir = TempDir::new().unwrap();
    let server = Setup::new(dir.path(), 1)
        .env("FLUX_ENCRYPTION_KEY", KEY)
        .start();
    let other = Source::start(|_| answer_json(r#"{"city":"Bern"}"#));
    let elsewhere = other.url("/elsewhere");
    let source = Source::start(move |asked| match asked.target.as_str() {
        "/away" => Answer::Http(307, vec![format!("Location: {elsewhere}")], String::new()),
        "/near" => Answer::Http(301, vec!["Location: here?x=1".to_owned()], String::new()),
        _ => answer_json(r#"{"city":"Chur"}"#),
    });
    for (name, target, auth) in [
        ("away", "/away", json!({"type": "bearer"})),
        (
            "near",
            "/near",
            json!({"type": "header", "header": "X-Api-Key"}),
        ),
    ] {
        let mut definition = definition(name, &source.url(target));
        definition["auth"] = auth;
        definition["headers"] = json!({"X-Plan": "gold"});
        assert_eq!(define(&server, &definition).json()["enabled"], false);
        assert_eq!(store(&server, name, "s3cret-token").status, 200);
        wait_for_status(&server, name, "running");
    }
    let asked = source.asked();
    assert_eq!(
        asked[0].header("authorization"),
        Some("Bearer s3cret-token")
    );
    assert_eq!(asked[0].header("x-plan"), Some("gold"));
    let redirected: Vec<_> = asked.iter().filter(|it| it.target == "/here?x=1").collect();
    assert_eq!(
        redirected[0].header("x-api-key"),
        Some("s3cret-token"),
        "the same host"
    );
    assert!(
        redirected[0]
            .header("user-agent")
            .unwrap()
            .starts_with("flux/")
    );
    let away = &other.asked()[0];
    assert_eq!(
        (away.header("authorization"), away.header("x-plan")),
        (None, None),
        "{away:?}"
    );
}

#[test]
fn a_credential_is_not_sent_again_once_the_redirects_have_left_its_origin() {
    let dir = TempDir::new().unwrap();
    let server = Setup::new(dir.path(), 1)
        .env("FLUX_ENCRYPTION_KEY", KEY)
        .start();
    let home = Arc::new(OnceLock::<String>::new());
    let back = Arc::clone(&home);
    let other = Source::start(move |_| {
        let location = format!("Location: {}", back.get().expect("it is polled later"));
        Answer::Http(302, vec![location], String::new())
    });
    let elsewhere = other.url("/elsewhere");
    let source = Source::start(move |asked| match asked.target.as_str() {
        "/away" => Answer::Http(302, vec![format!("Location: {elsewhere}")], String::new()),
        _ => answer_json(r#"{"city":"Chur"}"#),
    });
    home.set(source.url("/back")).expect("it is set once");
    let mut away = definition("away", &source.url("/away"));
    away["auth"] = json!({"type": "header", "header": "X-Api-Key"});
    away["headers"] = json!({"X-Plan": "gold"});
    define(&server, &away);
    assert_eq!(store(&server, "away", "s3cret-token").status, 200);
    wait_for_status(&server, "away", "running");
    let asked = source.asked();
    let of = |target: &str| asked.iter().find(|it| it.target == target).expect(target);
    assert_eq!(of("/away").header("x-api-key"), Some("s3cret-token"));
    let back = of("/back");
    let sent = (back.header("x-api-key"), back.header("x-plan"));
    assert_eq!(sent, (None, None), "{back:?}");
}

#[test]
fn link_local_addresses_are_reached_only_if_the_operator_names_them() {
    let dir = TempDir::new().unwrap();
    let urls = [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.1.2]:9/",
        "http://[fe80::1]:9/",
        "http://0xa9.0xfe0102:9/",
    ];
    let error_of = |server: &Server, name: &str| {
        let shown = wait_for_status(server, name, "error");
        shown["last_error"].as_str().expect("a text").to_owned()
    };
    let setup = Setup::new(dir.path(), 1);
    let server = setup.start();
    let lead = Source::start(move |_| {
        Answer::Http(302, vec![format!("Location: {}", urls[0])], String::new())
    });
    let lead = lead.url("/");
    for (index, url) in urls.iter().copied().chain([&*lead]).enumerate() {
        let name = format!("door-{index}");
        assert_eq!(
            define(&server, &definition(&name, url)).status,
            201,
            "{url}"
        );
        let error = error_of(&server, &name);
        assert!(
            error.contains("FLUX_CONNECTORS_ALLOW_ADDRESSES"),
            "{url}: {error}"
        );
    }
    server.stop();
    let named = setup.env("FLUX_CONNECTORS_ALLOW_ADDRESSES", "10.0.0.1, 169.254.1.2");
    let server = named.start();
    let error = error_of(&server, "door-1");
    assert!(
        !error.contains("FLUX_CONNECTORS_ALLOW_ADDRESSES"),
        "{error}"
    );
    let error = error_of(&server, "door-2");
    assert!(error.contains("FLUX_CONNECTORS_ALLOW_ADDRESSES"), "{error}");
}

/// Whether any file below a directory contains these bytes.
fn is_stored(dir: &TempDir, text: &str) -> bool {
    files(dir.path(), "").iter().any(|path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        memmem(&bytes, text.as_bytes())
    })
}

fn memmem(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// All that a server says about its connectors to clients and to its operator.
fn shown(server: &Server) -> String {
    let list = server.get("/api/connectors");
    let one = server.get("/api/connectors/closed");
    format!("{}{}{}", list.text(), one.text(), server.said())
}

const SECRET: &str = "s3cret-do-not-show";

/// A source whose `/closed` asks for the secret. If it gets another one, it sends that back.
fn guarded_source() -> Source {
    Source::start(|asked| match asked.header("authorization") {
        Some(value) if value == format!("Bearer {SECRET}") => answer_json(r#"{"city":"Bern"}"#),
        Some(value) => Answer::Http(401, Vec::new(), format!("no: {value}")),
        None => answer_json(r#"{"city":"Chur"}"#),
    })
}

fn define_both(server: &Server, source: &Source) {
    let mut closed = definition("closed", &source.url("/closed"));
    closed["auth"] = json!({"type": "bearer"});
    assert_eq!(define(server, &closed).status, 201);
    assert_eq!(
        define(server, &definition("open", &source.url("/open"))).status,
        201
    );
}

#[test]
fn credentials_survive_a_kill_and_are_to_be_seen_nowhere() {
    let dir = TempDir::new().unwrap();
    let setup = Setup::new(dir.path(), 2).env("FLUX_ENCRYPTION_KEY", KEY);
    let source = guarded_source();
    let server = setup.start();
    define_both(&server, &source);
    assert_eq!(
        store(&server, "closed", "wrong-token").json(),
        json!({"success": true})
    );
    let error = wait_for_status(&server, "closed", "error")["last_error"].clone();
    assert_eq!(error, "the source answered 401 Unauthorized");
    assert_eq!(store(&server, "closed", SECRET).status, 200);
    wait_for_status(&server, "closed", "running");
    let mut said = shown(&server);
    server.kill();
    let server = setup.start();
    for (name, id) in [("closed", "closed/Bern"), ("open", "open/Chur")] {
        wait_for_status(&server, name, "running");
        assert_eq!(
            server.entity(id).json()["version"],
            1,
            "{id} is not published twice"
        );
    }
    let removed = server.request("DELETE", "/api/connectors/closed/token", "");
    assert_eq!(removed.json(), json!({"success": true}));
    let resting = show(&server, "closed");
    assert_eq!(
        (&resting["enabled"], &resting["status"]),
        (&json!(false), &json!("not_configured"))
    );
    said.push_str(&shown(&server));
    server.stop();
    for text in [SECRET, "wrong-token", KEY] {
        assert!(!said.contains(text), "{text} is shown");
        assert!(!is_stored(&dir, text), "{text} is stored in the clear");
    }
}

#[test]
fn another_key_or_none_stops_only_what_needs_it() {
    let dir = TempDir::new().unwrap();
    let setup = Setup::new(dir.path(), 1);
    let with_key = |key: &str| setup.clone().env("FLUX_ENCRYPTION_KEY", key);
    let source = guarded_source();
    let server = with_key(KEY).start();
    define_both(&server, &source);
    assert_eq!(store(&server, "closed", SECRET).status, 200);
    wait_for_status(&server, "closed", "running");
    server.kill();
    for (setup, part) in [
        (
            with_key(OTHER_KEY),
            "can't be decrypted with this FLUX_ENCRYPTION_KEY",
        ),
        (setup.clone(), "started without FLUX_ENCRYPTION_KEY"),
    ] {
        let server = setup.start();
        let polls = source.count("/closed");
        let closed = wait_for_status(&server, "closed", "error");
        assert!(
            closed["last_error"].as_str().unwrap().contains(part),
            "{closed}"
        );
        assert_eq!(closed["enabled"], true);
        wait_for_status(&server, "open", "running");
        assert_eq!(
            source.count("/closed"),
            polls,
            "nothing is sent without the credential"
        );
        server.kill();
    }
    let server = with_key(OTHER_KEY).start();
    wait_for_status(&server, "closed", "error");
    assert_eq!(
        store(&server, "closed", SECRET).status,
        200,
        "under the new key"
    );
    wait_for_status(&server, "closed", "running");
    server.stop();
}

#[test]
fn a_bad_key_keeps_the_server_from_starting_and_is_not_shown() {
    let dir = TempDir::new().unwrap();
    let bad = "bm90LTMyLWJ5dGVz";
    let output = Setup::new(dir.path(), 1)
        .env("FLUX_ENCRYPTION_KEY", bad)
        .run(0);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("FLUX_ENCRYPTION_KEY") && said.contains("32 bytes") && !said.contains(bad),
        "{said}"
    );
}

fn register(server: &Server, name: &str) -> String {
    let body = json!({ "name": name }).to_string();
    let answer = server.with_token(("POST", "/api/namespaces"), ADMIN, &body);
    answer.json()["token"].as_str().expect("a token").to_owned()
}

fn with_tokens(dir: &TempDir) -> Setup {
    Setup::new(dir.path(), 2)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", ADMIN)
        .env("FLUX_ENCRYPTION_KEY", KEY)
}

/// The names in the list of connectors that a token gets.
fn names(server: &Server, token: &str, query: &str) -> Vec<String> {
    let target = format!("/api/connectors{query}");
    let listed = server.with_token(("GET", &target), token, "").json();
    let listed = listed["connectors"].as_array().expect("a list");
    let name = |it: &serde_json::Value| it["name"].as_str().expect("a name").to_owned();
    listed.iter().map(name).collect()
}

#[test]
fn with_tokens_in_force_a_connector_belongs_to_its_namespace() {
    let dir = TempDir::new().unwrap();
    let server = with_tokens(&dir)
        .env("FLUX_CONNECTORS_ALLOW_PRIVATE", "true")
        .start();
    let (house, garden) = (register(&server, "house"), register(&server, "garden"));
    let source = Source::start(|_| answer_json(r#"{"city":"Bern"}"#));
    let define = |token: &str, definition: &str| {
        server.with_token(("POST", "/api/connectors"), token, definition)
    };
    let mut weather = definition("weather", &source.url("/house"));
    let refused = define(&house, &weather.to_string());
    assert_eq!(refused.expect_error(400, "an id outside"), "invalid_field");
    assert!(refused.text().contains("`house/`"), "{}", refused.text());
    weather["entity_id"] = json!("house/weather/{city}");
    let text = weather.to_string();
    for (token, status) in [
        ("", 401),
        ("unknown", 401),
        (&*house, 201),
        (&house, 409),
        (&garden, 400),
    ] {
        assert_eq!(define(token, &text).status, status, "{token}");
    }
    // The same name is free in another namespace.
    assert_eq!(
        define(&garden, &text.replace("house", "garden")).status,
        201
    );
    assert_eq!(
        define(&house, &text.replace("\"weather\"", "\"secret\"")).status,
        201
    );
    assert_eq!(names(&server, &house, ""), ["github", "secret", "weather"]);
    assert_eq!(names(&server, &garden, ""), ["github", "weather"]);
    for (method, rest, body) in [
        ("GET", "", ""),
        ("DELETE", "", ""),
        ("POST", "/token", r#"{"token":"x"}"#),
        ("DELETE", "/token", ""),
    ] {
        let target = format!("/api/connectors/secret{rest}");
        let status = |token: &str| server.with_token((method, &target), token, body).status;
        assert_eq!(
            (status(&garden), status("")),
            (404, 401),
            "{method} {target}"
        );
    }
    for id in ["house/weather/Bern", "garden/weather/Bern"] {
        wait_for(id, || (server.entity(id).status == 200).then_some(()));
    }
    // A connector is deleted with its namespace; a new owner of the name does not get it.
    let deleted = server.with_token(("DELETE", "/api/namespaces/house?purge=true"), ADMIN, "");
    assert_eq!(deleted.status, 204);
    assert_eq!(names(&server, ADMIN, ""), ["weather"]);
    let house = register(&server, "house");
    assert_eq!(names(&server, &house, ""), ["github"]);
}

#[test]
fn the_operator_sees_all_connectors_and_says_whose_is_meant() {
    let dir = TempDir::new().unwrap();
    let server = with_tokens(&dir).start();
    let tokens = ["house", "garden"].map(|name| (name, register(&server, name)));
    for (owner, token) in &tokens {
        for name in ["weather", owner] {
            let mut definition = definition(name, "http://127.0.0.1:1/");
            definition["entity_id"] = json!(format!("{owner}/x"));
            let body = definition.to_string();
            let answer = server.with_token(("POST", "/api/connectors"), token, &body);
            assert_eq!(answer.status, 201, "{}", answer.text());
        }
    }
    let all = names(&server, ADMIN, "");
    assert_eq!(all, ["garden", "weather", "house", "weather"]);
    assert_eq!(
        names(&server, ADMIN, "?namespace=garden"),
        ["garden", "github", "weather"]
    );
    let call = |method: &str, rest: &str, token: &str| {
        server.with_token((method, &format!("/api/connectors{rest}")), token, "")
    };
    let seen = call("GET", "/house", ADMIN).json();
    assert_eq!(
        (&seen["name"], &seen["namespace"]),
        (&json!("house"), &json!("house"))
    );
    assert_eq!(
        call("GET", "/weather", ADMIN).expect_error(400, "whose?"),
        "invalid_query"
    );
    assert_eq!(
        call("DELETE", "/weather", ADMIN).expect_error(400, "whose?"),
        "invalid_query"
    );
    assert_eq!(call("GET", "/weather?namespace=house", ADMIN).status, 200);
    assert_eq!(call("GET", "?namespace=nobody", ADMIN).status, 404);
    assert_eq!(call("GET", "?namespace=house", &tokens[1].1).status, 403);
    assert_eq!(
        call("DELETE", "/weather?namespace=house", ADMIN).status,
        204
    );
    assert_eq!(names(&server, &tokens[0].1, ""), ["github", "house"]);
}

#[test]
fn with_tokens_in_force_nothing_private_is_reached() {
    let dir = TempDir::new().unwrap();
    let server = with_tokens(&dir).start();
    let token = register(&server, "house");
    let source = Source::start(|_| answer_json(r#"{"city":"Bern"}"#));
    let port = source.port;
    let urls = [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://0x7f.1:{port}/"),
        format!("http://0.0.0.0:{port}/"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "https://10.0.0.1/".to_owned(),
    ];
    for (index, url) in urls.iter().enumerate() {
        let name = format!("door-{index}");
        let mut definition = definition(&name, url);
        definition["entity_id"] = json!("house/x");
        let body = definition.to_string();
        let answer = server.with_token(("POST", "/api/connectors"), &token, &body);
        assert_eq!(answer.status, 201, "{url}: {}", answer.text());
        let target = format!("/api/connectors/{name}");
        let shown = wait_for(url, || {
            let shown = server.with_token(("GET", &target), &token, "").json();
            (shown["status"] == "error").then_some(shown)
        });
        let error = shown["last_error"].as_str().unwrap();
        assert!(
            error.contains("the address is not public"),
            "{url}: {error}"
        );
    }
    assert_eq!(source.asked().len(), 0);
}

fn github_answer(target: &str, port: u16) -> Answer {
    let limited = || {
        let lines = ["x-ratelimit-remaining: 0", "x-ratelimit-reset: 32503680000"];
        let body = r#"{"message":"API rate limit exceeded for user ID 1."}"#;
        Answer::Http(403, lines.map(str::to_owned).to_vec(), body.to_owned())
    };
    let repository = |name: &str, open: u32| json!({"full_name": name, "owner": {"login": "ann"}, "open_issues_count": open, "stargazers_count": 7});
    match target {
        "/api/v3/user/repos?per_page=100" => {
            let link = format!(
                "Link: <http://127.0.0.1:{port}/api/v3/user/repos?per_page=100&page=2>; rel=\"next\""
            );
            Answer::Http(
                200,
                vec![link],
                json!([repository("ann/tools", 2)]).to_string(),
            )
        }
        "/api/v3/user/repos?per_page=100&page=2" => {
            answer_json(&json!([repository("ann/quiet", 0)]).to_string())
        }
        "/api/v3/repos/ann/tools/issues?state=open&per_page=100" => answer_json(
            r#"[{"number":1,"title":"It breaks","state":"open","user":{"login":"bob"},"labels":[{"name":"bug"}]},
                {"number":2,"title":"Mend it","state":"open","user":{"login":"ann"},"pull_request":{}}]"#,
        ),
        "/api/v3/notifications?per_page=100" => answer_json(
            r#"[{"id":"77","unread":true,"reason":"mention","subject":{"title":"Look","type":"Issue"}}]"#,
        ),
        _ => limited(),
    }
}

#[test]
fn tls_goes_by_the_certificates_that_the_system_trusts() {
    let dir = TempDir::new().unwrap();
    let (source, certificate) = Source::start_tls(|_| answer_json(r#"{"city":"Bern"}"#));
    let trusted = dir.path().join("trusted.pem");
    std::fs::File::create_new(&trusted)
        .and_then(|mut file| file.write_all(certificate.as_bytes()))
        .expect("a file");
    let url = |host: &str| format!("https://{host}:{}/", source.port);
    let data = dir.path().join("data");
    let server = Setup::new(&data, 1).start();
    define(&server, &definition("secure", &url("localhost")));
    let error = wait_for_status(&server, "secure", "error");
    let error = error["last_error"].as_str().unwrap();
    assert!(error.contains("certificate"), "{error}");
    server.kill();
    // A certificate in the system's store is accepted, but not for another name.
    let server = Setup::new(&data, 1)
        .env("SSL_CERT_FILE", trusted.to_str().unwrap())
        .start();
    wait_for_status(&server, "secure", "running");
    assert_eq!(server.entity("secure/Bern").status, 200);
    define(&server, &definition("other-name", &url("127.0.0.1")));
    let error = wait_for_status(&server, "other-name", "error");
    let error = error["last_error"].as_str().unwrap();
    assert!(error.contains("certificate"), "{error}");
    server.stop();
}

/// GitHub, with one good token and one that has used up its rate.
fn github() -> Source {
    Source::start(move |asked| {
        let host = asked.header("host").unwrap_or_default();
        let port = host
            .rsplit(':')
            .next()
            .and_then(|it| it.parse().ok())
            .unwrap_or(0);
        match asked.header("authorization") {
            Some("Bearer ghp_good") => github_answer(&asked.target, port),
            Some("Bearer ghp_limited") => github_answer("/limited", port),
            _ => Answer::Http(
                401,
                Vec::new(),
                r#"{"message":"Bad credentials"}"#.to_owned(),
            ),
        }
    })
}

#[test]
fn github_is_polled_with_a_token_and_its_limits_are_kept() {
    let dir = TempDir::new().unwrap();
    let source = github();
    let setup = with_tokens(&dir).env("FLUX_GITHUB_URL", &source.url("/api/v3"));
    let server = setup.start();
    let token = register(&server, "house");
    let put = |secret: &str| {
        let body = json!({ "token": secret }).to_string();
        let answer = server.with_token(("POST", "/api/connectors/github/token"), &token, &body);
        assert_eq!(answer.json(), json!({"success": true}));
    };
    let wait = |status: &str| {
        wait_for(&format!("github to be {status}"), || {
            let shown = server
                .with_token(("GET", "/api/connectors/github"), &token, "")
                .json();
            (shown["status"] == status).then_some(shown)
        })
    };
    wait("not_configured");
    put("ghp_bad");
    let error = wait("error")["last_error"].clone();
    assert_eq!(
        error,
        "GitHub answered 401 Unauthorized: the token is not valid: Bad credentials"
    );
    put("ghp_limited");
    let error = wait_for("the rate limit", || {
        let shown = wait("error")["last_error"].clone();
        shown
            .as_str()?
            .contains("rate limit is used up")
            .then_some(shown)
    });
    assert!(
        error.as_str().unwrap().contains("exceeded for user"),
        "{error}"
    );
    put("ghp_good");
    let running = wait("running");
    assert_eq!(running["events_published"], 5);
    let expected = [
        ("repo/ann/tools", "stars", json!(7)),
        ("repo/ann/quiet", "open_issues", json!(0)),
        ("issue/ann/tools/1", "labels", json!(["bug"])),
        ("pull/ann/tools/2", "title", json!("Mend it")),
        ("notification/77", "reason", json!("mention")),
    ];
    for (id, name, value) in expected {
        let entity = server.entity(&format!("house/github/{id}"));
        assert_eq!(
            entity.json()["properties"][name],
            value,
            "{id}: {}",
            entity.text()
        );
    }
    let asked = source.asked();
    let last = asked.last().unwrap();
    assert_eq!(last.header("accept"), Some("application/vnd.github+json"));
    assert_eq!(last.header("x-github-api-version"), Some("2022-11-28"));
}
