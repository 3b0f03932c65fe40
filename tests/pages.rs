//! Static pages: what `GET /` says to a browser and to a program, how pages are compressed and
//! kept, and what is left if the dashboard is turned off (API contract §4, §17).

mod support;

use serde_json::json;
use support::http::{Connection, Response, answered, request};
use support::mcp::{legacy, modern};
use support::on_each;
use support::server::{Server, Setup};
use support::tls::Sealed;
use tempfile::TempDir;

const BROWSER: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8";

fn get(server: &Server, path: &str, fields: &[&str]) -> Response {
    answered(server, request("GET", path, fields, "").as_bytes(), path)
}

/// The paths of assets that a page names.
fn assets(page: &Response) -> Vec<String> {
    let parts = page.text().split('"');
    let assets = parts.filter(|part| part.starts_with("/assets/"));
    assets.map(str::to_owned).collect()
}

fn is_dashboard(response: &Response) -> bool {
    response.header("content-type") == Some("text/html; charset=utf-8")
}

#[test]
fn the_root_is_a_page_to_a_browser_and_names_the_api_to_a_program() {
    on_each(|server| {
        let page = get(server, "/", &[BROWSER]);
        assert_eq!(page.status, 200);
        assert!(is_dashboard(&page) && page.text().starts_with("<!doctype html>"));
        // The second is Java's.
        for accept in [
            "Accept: text/html, application/json",
            "Accept: text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
        ] {
            assert!(is_dashboard(&get(server, "/", &[accept])), "{accept}");
        }
        for fields in [
            &[][..],
            &["Accept: */*"],
            &["Accept: application/json"],
            &["Accept: text/html;q=0, */*"],
            &["Accept: application/json, text/html;q=0.1"],
            &["Accept: text/html;q=0.5, */*;q=0.8"],
        ] {
            let named = get(server, "/", fields);
            assert_eq!(named.header("content-type"), Some("application/json"));
            let json = named.json();
            assert_eq!(json["name"], "flux");
            assert_eq!(json["version"], server.get("/health").json()["version"]);
            assert_eq!(json["links"]["openapi"], "/openapi.json");
            assert_eq!(named.header("vary"), Some("Accept, Accept-Encoding"));
        }
    });
}

#[test]
fn load_balancers_get_200_for_get_head_and_options() {
    on_each(|server| {
        let mut connection = server.connect();
        let whole = connection.request("GET", "/", "");
        connection.send(request("HEAD", "/", &[], ""));
        let head = connection.response_to_head();
        assert_eq!((whole.status, head.status), (200, 200));
        assert_eq!(
            head.header("content-length"),
            whole.header("content-length")
        );
        let options = connection.request("OPTIONS", "/", "");
        assert_eq!((options.status, options.body.len()), (200, 0));
        assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS"));
        assert_eq!(
            connection.request("OPTIONS", "/nothing/there", "").status,
            204
        );
        let refused = connection.request("POST", "/", "");
        refused.expect_error(405, "POST /");
        assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS"));
    });
}

#[test]
fn a_page_is_asked_for_again_by_its_tag_and_an_asset_is_kept_for_ever() {
    on_each(|server| {
        let page = get(server, "/", &[BROWSER]);
        assert_eq!(page.header("cache-control"), Some("no-cache"));
        let tag = page.header("etag").expect("a tag");
        let field = format!("If-None-Match: \"other\", W/{tag}");
        let known = get(server, "/", &[BROWSER, &field]);
        assert_eq!((known.status, known.body.len()), (304, 0));
        assert_eq!(known.header("etag"), Some(tag));
        // It is no tag of the other page with this path.
        assert_eq!(get(server, "/", &[&field]).status, 200);
        let assets = assets(&page);
        assert!(!assets.is_empty());
        for path in &assets {
            let asset = server.get(path);
            assert_eq!(asset.status, 200, "{path}");
            let kept = asset.header("cache-control");
            assert_eq!(kept, Some("public, max-age=31536000, immutable"), "{path}");
            assert_eq!(asset.header("x-content-type-options"), Some("nosniff"));
            server.request("PUT", path, "").expect_error(405, path);
        }
        let other = "/assets/0000000000000000/main.js";
        server
            .get(other)
            .expect_error(404, "an asset of another version");
    });
}

#[test]
fn a_page_may_load_only_what_comes_with_it() {
    on_each(|server| {
        let page = get(server, "/", &[BROWSER]);
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("-inline") && !policy.contains("-eval"));
        let text = page.text();
        assert!(
            !text.contains("<style") && !text.contains("style="),
            "{text}"
        );
        assert!(!text.contains("<script>"), "{text}");
    });
}

#[test]
fn a_page_is_compressed_for_who_takes_it_so() {
    on_each(|server| {
        let script = assets(&get(server, "/", &[BROWSER]));
        let script = script.iter().find(|path| path.ends_with("dom.js"));
        let script = script.expect("a module");
        let plain = server.get(script);
        for (field, is_gzip) in [
            ("Accept-Encoding: gzip, deflate, br", true),
            ("Accept-Encoding: br, GZIP;q=0.1", true),
            ("Accept-Encoding: *", true),
            ("Accept-Encoding: gzip;q=0, *", false),
            ("Accept-Encoding: br", false),
            ("Accept-Encoding: identity", false),
        ] {
            let answer = get(server, script, &[field]);
            assert_eq!(answer.status, 200);
            let coding = answer.header("content-encoding");
            assert_eq!(coding, is_gzip.then_some("gzip"), "{field}");
            assert_eq!(answer.header("vary"), Some("Accept-Encoding"), "{field}");
            assert_eq!(answer.header("etag") == plain.header("etag"), !is_gzip);
            assert_eq!(answer.body.starts_with(&[0x1f, 0x8b]), is_gzip, "{field}");
            assert_eq!(answer.body.len() < plain.body.len(), is_gzip, "{field}");
            let tag = answer.header("etag").expect("a tag");
            let known = get(server, script, &[field, &format!("If-None-Match: {tag}")]);
            assert_eq!(known.status, 304, "{field}");
            assert_eq!(known.header("etag"), Some(tag), "{field}");
            assert_eq!(known.header("content-encoding"), None, "{field}");
            // Who has the other form has not this one.
            let tag = format!("If-None-Match: {}", plain.header("etag").expect("a tag"));
            let status = if is_gzip { 200 } else { 304 };
            assert_eq!(
                get(server, script, &[field, &tag]).status,
                status,
                "{field}"
            );
        }
    });
}

#[test]
fn a_dashboard_that_is_turned_off_leaves_json_for_everybody() {
    let assets = assets(&get(&Server::start(1), "/", &[BROWSER]));
    // The icon is that of /docs too.
    let asset = assets.into_iter().find(|path| path.contains("/main."));
    let asset = asset.expect("a script");
    let dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(dir.path(), 1).env("FLUX_DASHBOARD", "false");
    let server = setup.start();
    let root = get(&server, "/", &[BROWSER]);
    assert!(
        root.status == 200 && !is_dashboard(&root),
        "{}",
        root.text()
    );
    server.get(&asset).expect_error(404, &asset);
    server.request("POST", &asset, "").expect_error(404, &asset);
    // As on every path that is not there.
    let options = server.request("OPTIONS", &asset, "");
    let elsewhere = server.request("OPTIONS", "/nothing/there", "");
    assert_eq!(options.status, elsewhere.status);
    assert_eq!(options.header("allow"), elsewhere.header("allow"));
    drop(server);
    let server = setup.arg("--dashboard=true").start();
    assert!(is_dashboard(&get(&server, "/", &[BROWSER])));
}

#[test]
fn the_page_is_open_in_auth_mode_and_over_tls() {
    let server = Sealed::with(1, |setup| setup.env("FLUX_AUTH_ENABLED", "true"));
    let mut connection = server.connect();
    connection.send(request("GET", "/", &[BROWSER], ""));
    let page = connection.response();
    assert!(page.status == 200 && is_dashboard(&page));
    connection.send(request("GET", &assets(&page)[0], &[], ""));
    assert_eq!(connection.response().status, 200);
}

/// Pages between other answers on one connection, each in its place and whole.
fn pages_in_a_row(mut connection: Connection) {
    let asks = |method: &str, path: &str, fields: &[&str]| request(method, path, fields, "");
    connection.send(
        [
            asks("GET", "/openapi.json", &[]),
            asks("GET", "/api/state/entities/row%2Fnone", &[]),
            asks("HEAD", "/docs", &[]),
            legacy("tools/list", &json!({})),
            asks("GET", "/docs", &[]),
            modern("tools/list", &json!({}), &["Origin: http://localhost"]),
            asks("GET", "/asyncapi.json", &["Connection: close"]),
        ]
        .concat(),
    );
    assert_eq!(connection.response().json()["openapi"], "3.1.0");
    assert_eq!(connection.response().status, 404);
    let head = connection.response_to_head();
    let tools = connection.response().json()["result"]["tools"].clone();
    assert!(tools.as_array().is_some_and(|tools| tools.len() > 5));
    let page = connection.response();
    assert_eq!(page.header("content-length"), head.header("content-length"));
    assert!(page.text().ends_with("</html>\n"));
    let listed = connection.response();
    assert_eq!(listed.json()["result"]["tools"], tools);
    assert_eq!(listed.json()["result"]["cacheScope"], "public");
    let exposed = listed.header("access-control-expose-headers");
    assert!(exposed.is_some_and(|it| it.contains("www-authenticate")));
    assert!(connection.response().json()["asyncapi"].is_string());
    connection.expect_closed();
}

#[test]
fn pages_are_answered_in_the_order_of_requests() {
    on_each(|server| pages_in_a_row(server.connect()));
    pages_in_a_row(Sealed::start(2).connect());
}
