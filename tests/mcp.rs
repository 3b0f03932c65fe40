//! `POST /mcp`: the Model Context Protocol over HTTP, in both of its eras (specification 2026-07-28
//! and 2025-11-25).

mod support;

use serde_json::{Map, Value, json};
use std::thread::scope;
use support::events::Events;
use support::http::{Connection, Response, request};
use support::mcp::{MODERN, ask, call, call_as, legacy, modern, publish, refused};
use support::server::Server;
use support::tenants::Tenants;
use support::{namespace, on_each, quoted};

#[test]
fn the_modern_era_is_spoken_without_a_session() {
    on_each(|server| {
        let mut connection = server.connect();
        let answer = ask(&mut connection, &modern("server/discover", &json!({}), &[]));
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("mcp-session-id"), None);
        let result = answer.json()["result"].clone();
        assert_eq!(result["supportedVersions"][0], MODERN);
        assert_eq!(result["capabilities"]["resources"]["subscribe"], true);
        assert_eq!(result["resultType"], "complete");
        let server_info = &result["_meta"]["io.modelcontextprotocol/serverInfo"];
        assert_eq!(server_info["name"], "flux");
        for (method, member) in [
            ("tools/list", "tools"),
            ("prompts/list", "prompts"),
            ("resources/list", "resources"),
            ("resources/templates/list", "resourceTemplates"),
        ] {
            let answer = ask(&mut connection, &modern(method, &json!({}), &[]));
            assert!(!answer.text().contains('\n'), "{method}: not one line");
            let result = answer.json()["result"].clone();
            assert!(result[member].is_array(), "{method}: {result}");
            assert!(result["ttlMs"].is_u64(), "{method}: {result}");
            let scope = result["cacheScope"].as_str().expect("a scope");
            assert!(matches!(scope, "public" | "private"), "{method}");
            assert_eq!(result["resultType"], "complete", "{method}");
        }
        let get = ask(
            &mut connection,
            &modern(
                "prompts/get",
                &json!({"name": "flux_coordinate", "arguments": {"goal": "x\"y"}}),
                &[],
            ),
        );
        let text = get.json()["result"]["messages"][0]["content"]["text"].clone();
        assert!(
            text.as_str().is_some_and(|text| text.ends_with("x\"y")),
            "{text}"
        );
    });
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table, or one story")]
fn what_is_wrong_with_a_modern_request_is_refused_by_status_and_code() {
    on_each(|server| {
        let mut connection = server.connect();
        let good = modern("tools/list", &json!({}), &[]);
        let call = modern(
            "tools/call",
            &json!({"name": "flux_list", "arguments": {}}),
            &[],
        );
        let unknown = MODERN.replace("2026", "2031");
        for (request, status, code) in [
            (good.replace("Mcp-Method: tools/list\r\n", ""), 400, -32020),
            (
                good.replace("Mcp-Method: tools", "Mcp-Method: TOOLS"),
                400,
                -32020,
            ),
            (call.replace("Mcp-Name: flux_list\r\n", ""), 400, -32020),
            (
                call.replace("Mcp-Name: flux_list", "Mcp-Name: flux_get"),
                400,
                -32020,
            ),
            (
                good.replace(
                    "MCP-Protocol-Version: 2026-07-28",
                    "mcp-protocol-version: 2025-11-25",
                ),
                400,
                -32020,
            ),
            (good.replace(MODERN, &unknown), 400, -32022),
            (
                good.replace("clientCapabilities", "clientCapabilitiez"),
                400,
                -32602,
            ),
            (good.replace("_meta", "_mete"), 400, -32602),
            (good.replace("tools/list", "tools/lost"), 404, -32601),
            (modern("initialize", &json!({}), &[]), 404, -32601),
            (modern("ping", &json!({}), &[]), 404, -32601),
            (
                modern(
                    "resources/subscribe",
                    &json!({"uri": "flux://entity/a"}),
                    &[],
                ),
                404,
                -32601,
            ),
            (request("POST", "/mcp", &[], "{"), 400, -32700),
            (request("POST", "/mcp", &[], "[]"), 400, -32600),
            (
                modern("tools/call", &json!({"name": "other"}), &[]),
                200,
                -32602,
            ),
            (
                modern("prompts/get", &json!({"name": "other"}), &[]),
                200,
                -32602,
            ),
        ] {
            let answer = ask(&mut connection, &request);
            let json = answer.json();
            assert_eq!(
                (answer.status, &json["error"]["code"]),
                (status, &json!(code)),
                "{request}\n{json}"
            );
            assert!(
                code == -32700 || code == -32600 || json["id"] == 1,
                "{json}"
            );
            if code == -32022 {
                let data = &json["error"]["data"];
                assert_eq!(
                    (&data["supported"][0], &data["requested"]),
                    (&json!(MODERN), &json!(unknown))
                );
            }
        }
        // In Base64, and with white space around it.
        for name in ["=?base64?Zmx1eF9saXN0?=", "  flux_list\t"] {
            let request = call.replace("Mcp-Name: flux_list", &format!("Mcp-Name: {name}"));
            assert_eq!(
                ask(&mut connection, &request).json()["error"],
                Value::Null,
                "{name}"
            );
        }
        for method in ["GET", "DELETE", "PUT"] {
            let answer = connection.request(method, "/mcp", "");
            assert_eq!(answer.status, 405, "{method}");
            assert_eq!(answer.header("allow"), Some("POST, OPTIONS"), "{method}");
        }
        let notification =
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
        let version = "MCP-Protocol-Version: 2026-07-28";
        let answer = ask(
            &mut connection,
            &request("POST", "/mcp", &[version], notification),
        );
        assert_eq!((answer.status, answer.body.len()), (202, 0));
    });
}

#[test]
fn hosts_that_begin_with_initialize_are_served_on_the_same_path() {
    on_each(|server| {
        let mut connection = server.connect();
        for (asked, answered) in [
            ("2025-11-25", "2025-11-25"),
            ("2025-06-18", "2025-06-18"),
            ("2025-03-26", "2025-03-26"),
            ("2024-11-05", "2025-11-25"),
        ] {
            let params = json!({"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
            let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
            let answer = ask(
                &mut connection,
                &request("POST", "/mcp", &[], &body.to_string()),
            );
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("mcp-session-id"), None, "it mints no session");
            let result = answer.json()["result"].clone();
            assert_eq!(result["protocolVersion"], answered);
            assert_eq!(result["serverInfo"]["name"], "flux");
            assert!(result["capabilities"]["tools"].is_object(), "{result}");
            assert_eq!(
                result["capabilities"]["resources"],
                json!({}),
                "no subscriptions"
            );
            assert_eq!(result["resultType"], Value::Null);
        }
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let answer = ask(&mut connection, &request("POST", "/mcp", &[], initialized));
        assert_eq!((answer.status, answer.body.len()), (202, 0));
        let pong = ask(&mut connection, &legacy("ping", &json!({})));
        assert_eq!(
            pong.json(),
            json!({"jsonrpc": "2.0", "id": "a", "result": {}})
        );
        let tools = ask(&mut connection, &legacy("tools/list", &json!({}))).json();
        assert_eq!(tools["result"]["tools"].as_array().map(Vec::len), Some(8));
        let arguments = json!({"name": "flux_list", "arguments": {"prefix": "none/"}});
        let listed = ask(&mut connection, &legacy("tools/call", &arguments)).json();
        assert_eq!(listed["result"]["structuredContent"]["entities"], json!([]));
        for method in [
            "resources/subscribe",
            "subscriptions/listen",
            "server/discover",
            "x",
        ] {
            let answer = ask(
                &mut connection,
                &legacy(method, &json!({"uri": "flux://entity/a"})),
            );
            assert_eq!(answer.status, 200, "{method}");
            assert_eq!(answer.json()["error"]["code"], -32601, "{method}");
        }
        let absent = json!({"uri": "flux://entity/none/at-all"});
        let answer = ask(&mut connection, &legacy("resources/read", &absent)).json();
        assert_eq!(answer["error"]["code"], -32002);
    });
}

#[test]
fn an_agent_claims_counts_and_is_told_what_is_there_if_it_comes_late() {
    on_each(|server| {
        let mut connection = server.connect();
        let id = format!("{}/task", namespace("mcp"));
        let made = publish(&mut connection, &id, json!({"status": "open", "n": 0}));
        assert_eq!(made["version"], 1);
        let claim = |owner: &str| {
            json!({"id": id, "properties": {"status": "claimed", "owner": owner},
                   "expect": {"properties": {"status": "open"}}})
        };
        call(&mut connection, "flux_publish", claim("a"));
        let (code, said) = refused(&mut connection, "flux_publish", claim("b"));
        assert_eq!(code, "precondition_failed");
        assert_eq!(said["entity"]["properties"]["owner"], "a", "{said}");
        assert_eq!(said["entity"]["version"], 2);
        let count = json!({"id": id, "increment": {"n": 5}, "event_id": format!("{id}-1")});
        for duplicate in [Value::Null, json!(true)] {
            let counted = call(&mut connection, "flux_publish", count.clone());
            assert_eq!(counted["properties"]["n"], 5, "{counted}");
            assert_eq!(counted["duplicate"], duplicate);
        }
        let delete = json!({"id": id, "expect": {"properties": {"owner": "b"}}});
        let (code, said) = refused(&mut connection, "flux_delete", delete);
        assert_eq!(
            (&*code, &said["entity"]["version"]),
            ("precondition_failed", &json!(3))
        );
        let got = call(
            &mut connection,
            "flux_get",
            json!({"id": id, "fields": ["n"]}),
        );
        assert_eq!(got["entity"]["properties"], json!({"n": 5}));
        let deleted = call(&mut connection, "flux_delete", json!({"id": id}));
        assert_eq!(deleted["entity_id"], json!(id));
        let (code, _) = refused(&mut connection, "flux_get", json!({"id": id}));
        assert_eq!(code, "entity_not_found");
        let events = call(
            &mut connection,
            "flux_history",
            json!({"id": id, "limit": 2}),
        );
        assert_eq!(events["events"].as_array().map(Vec::len), Some(2));
        let before = events["before"].clone();
        let rest = call(
            &mut connection,
            "flux_history",
            json!({"id": id, "before": before}),
        );
        assert_eq!(rest["events"].as_array().map(Vec::len), Some(2), "{rest}");
        assert_eq!(rest["truncated"], Value::Null);
        let time = rest["events"][0]["acceptedAt"].clone();
        let then = call(&mut connection, "flux_at", json!({"id": id, "time": time}));
        assert_eq!(then["entity"]["properties"]["owner"], "a", "{then}");
    });
}

#[test]
fn numbers_come_back_digit_for_digit() {
    on_each(|server| {
        let mut connection = server.connect();
        let id = format!("{}/n", namespace("mcp"));
        let numbers = r#"{"a":22.50,"b":1e2,"c":12345678901234567890123}"#;
        let body = modern(
            "tools/call",
            &json!({"name": "flux_publish", "arguments": {"id": id, "properties": "P"}}),
            &[],
        );
        let (head, body) = body.split_once("\r\n\r\n").expect("a body");
        let body = body.replace("\"P\"", numbers);
        let head: Vec<&str> = head.lines().filter(|line| line.starts_with('M')).collect();
        let answer = ask(&mut connection, &request("POST", "/mcp", &head, &body));
        assert_eq!(
            answer.json()["result"]["isError"],
            false,
            "{}",
            answer.text()
        );
        let params = json!({"name": "flux_get", "arguments": {"id": id}});
        let answer = ask(&mut connection, &modern("tools/call", &params, &[]));
        let structured = format!("\"properties\":{numbers}");
        assert!(answer.text().contains(&structured), "{}", answer.text());
        let escaped = quoted(&structured);
        let escaped = escaped.trim_matches('"');
        assert!(answer.text().contains(escaped), "{}", answer.text());
    });
}

#[test]
fn what_an_agent_gets_wrong_it_is_told_by_a_result() {
    on_each(|server| {
        let mut connection = server.connect();
        for (tool, arguments, code) in [
            ("flux_get", json!({}), "invalid_argument"),
            ("flux_get", json!({"id": 7}), "invalid_argument"),
            (
                "flux_get",
                json!({"id": "a", "expct": {}}),
                "invalid_argument",
            ),
            ("flux_get", json!([]), "invalid_argument"),
            ("flux_list", json!({"limit": 0}), "invalid_argument"),
            ("flux_list", json!({"limit": 1001}), "invalid_argument"),
            ("flux_list", json!({"fields": ["a,b"]}), "invalid_argument"),
            ("flux_list", json!({"filter": "eq(a"}), "invalid_filter"),
            ("flux_publish", json!({"id": "a"}), "missing_field"),
            (
                "flux_publish",
                json!({"id": "a", "properties": 1}),
                "invalid_field",
            ),
            (
                "flux_publish",
                json!({"id": "a", "properties": {}, "expect": {"absend": true}}),
                "invalid_field",
            ),
            (
                "flux_publish",
                json!({"id": "flux-core/x", "properties": {}}),
                "reserved_namespace",
            ),
            ("flux_wait_for", json!({}), "invalid_argument"),
            (
                "flux_wait_for",
                json!({"id": "a", "prefix": "b"}),
                "invalid_argument",
            ),
            (
                "flux_wait_for",
                json!({"id": "a", "timeout_seconds": 51}),
                "invalid_argument",
            ),
            (
                "flux_wait_for",
                json!({"id": "a", "since": "x"}),
                "invalid_cursor",
            ),
            ("flux_diff_since", json!({}), "invalid_argument"),
            ("flux_history", json!({}), "invalid_argument"),
            ("flux_at", json!({"id": "a"}), "invalid_argument"),
            (
                "flux_at",
                json!({"id": "a", "time": "noon"}),
                "invalid_query",
            ),
        ] {
            let (found, said) = refused(&mut connection, tool, arguments.clone());
            assert_eq!(found, code, "{tool} {arguments}: {said}");
        }
        let params = json!({"name": "flux_list"});
        let answer = ask(&mut connection, &modern("tools/call", &params, &[]));
        assert_eq!(
            answer.json()["result"]["isError"],
            false,
            "arguments may be absent"
        );
    });
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table, or one story")]
fn a_result_is_at_most_40_kb_and_says_where_to_go_on() {
    on_each(|server| {
        let mut connection = server.connect();
        let prefix = format!("{}/", namespace("mcp"));
        let start = call(&mut connection, "flux_list", json!({"prefix": prefix}));
        for number in 0..60 {
            let properties = json!({"number": number, "text": "x".repeat(3_000)});
            publish(&mut connection, &format!("{prefix}{number:02}"), properties);
        }
        let (mut seen, mut after) = (Vec::new(), Value::Null);
        loop {
            let mut arguments = json!({"prefix": prefix, "limit": 1000});
            if after.is_string() {
                arguments["after"] = after;
            }
            let page = call(&mut connection, "flux_list", arguments);
            let ids = page["entities"].as_array().expect("entities").iter();
            seen.extend(ids.map(|it| it["properties"]["number"].as_u64()));
            after = page["after"].clone();
            assert_eq!(page["truncated"].is_boolean(), after.is_string());
            if after.is_null() {
                break;
            }
        }
        assert_eq!(seen, (0..60).map(Some).collect::<Vec<_>>());
        let page = call(
            &mut connection,
            "flux_list",
            json!({"prefix": prefix, "fields": ["number"]}),
        );
        assert_eq!(
            page["entities"].as_array().map(Vec::len),
            Some(50),
            "by default"
        );
        assert_eq!(page["after"], json!(format!("{prefix}49")));
        let (mut told, mut cursor) = (Map::new(), start["cursor"].clone());
        loop {
            let arguments = json!({"prefix": prefix, "since": cursor, "limit": 1000});
            let diff = call(&mut connection, "flux_diff_since", arguments);
            for change in diff["changes"].as_array().expect("changes") {
                let id = change["entity_id"].as_str().expect("an id").to_owned();
                assert_eq!(change["whole"], true);
                told.insert(id, Value::Null);
            }
            cursor = diff["cursor"].clone();
            if diff["more"] == false {
                break;
            }
        }
        assert_eq!(told.len(), 60);
        let large = format!("{prefix}large");
        publish(
            &mut connection,
            &large,
            json!({"a": 1, "b": "y".repeat(100_000)}),
        );
        let got = call(&mut connection, "flux_get", json!({"id": large}));
        assert_eq!(
            (&got["truncated"], &got["entity"]["properties"]["a"]),
            (&json!(true), &json!(1))
        );
        assert_eq!(got["entity"]["omitted"]["b"], 100_002);
        let late = json!({"id": large, "properties": {}, "expect": {"absent": true}});
        let (code, said) = refused(&mut connection, "flux_publish", late);
        assert_eq!(
            (&*code, &said["entity_omitted"]),
            ("precondition_failed", &json!(true))
        );
        let history = call(&mut connection, "flux_history", json!({"id": large}));
        assert_eq!(history["events"][0]["value_omitted"], true);
        let diff = json!({"id": large, "since": cursor});
        let diff = call(&mut connection, "flux_diff_since", diff);
        assert_eq!(diff["changes"][0]["value_omitted"], true, "{diff}");
    });
}

#[test]
fn a_wait_ends_with_what_matches_and_a_timeout_is_a_result_with_a_cursor() {
    on_each(|server| {
        let mut connection = server.connect();
        let prefix = format!("{}/", namespace("mcp"));
        let id = format!("{prefix}1");
        publish(&mut connection, &id, json!({"status": "open"}));
        publish(
            &mut connection,
            &format!("{id}0"),
            json!({"status": "done"}),
        );
        let filter = "eq(status,\"done\")";
        let wait = |seconds: f64| json!({"id": id, "filter": filter, "timeout_seconds": seconds});
        let nothing = call(&mut connection, "flux_wait_for", wait(0.0));
        assert_eq!(nothing["timed_out"], true, "{nothing}");
        let there = json!({"prefix": prefix, "filter": filter});
        let there = call(&mut connection, "flux_wait_for", there);
        assert_eq!(there["timed_out"], false);
        assert_eq!(
            there["entities"].as_array().map(Vec::len),
            Some(1),
            "{there}"
        );
        scope(|scope| {
            let waiter = scope.spawn(|| call(&mut server.connect(), "flux_wait_for", wait(20.0)));
            // Changes that do not match do not end it, whenever it has begun.
            for number in 0..20 {
                publish(&mut connection, &id, json!({"number": number}));
            }
            publish(&mut connection, &id, json!({"status": "done"}));
            let found = waiter.join().expect("the waiter");
            assert_eq!(found["timed_out"], false, "{found}");
            let properties = &found["changes"][0]["properties"]["status"];
            let properties = [properties, &found["entities"][0]["properties"]["status"]];
            assert!(properties.contains(&&json!("done")), "{found}");
        });
        // What came between two waits is told by the second.
        let arguments = json!({"id": id, "timeout_seconds": 0});
        let cursor = call(&mut connection, "flux_wait_for", arguments)["cursor"].clone();
        call(&mut connection, "flux_delete", json!({"id": id}));
        let arguments = json!({"id": id, "since": cursor});
        let found = call(&mut connection, "flux_wait_for", arguments);
        assert_eq!(found["changes"][0]["type"], "entity_deleted", "{found}");
    });
}

#[test]
fn a_wait_with_a_token_for_progress_is_a_stream_that_ends_with_the_answer() {
    on_each(|server| {
        let id = format!("{}/x", namespace("mcp"));
        let params = json!({"name": "flux_wait_for", "_meta": {"progressToken": "p\"1"},
            "arguments": {"id": id, "timeout_seconds": 30}});
        let request = modern("tools/call", &params, &["Connection: close"]);
        let mut events = Events::send(server.port, &request);
        assert_eq!(events.head.status, 200);
        assert_eq!(
            events.head.header("content-type"),
            Some("text/event-stream")
        );
        assert_eq!(events.head.header("x-accel-buffering"), Some("no"));
        let progress = events.next().data;
        assert_eq!(progress["method"], "notifications/progress", "{progress}");
        assert_eq!(progress["params"]["progressToken"], "p\"1");
        assert_eq!(progress["params"]["total"], 30);
        publish(&mut server.connect(), &id, json!({"a": 1}));
        let answer = events.next().data;
        let found = &answer["result"]["structuredContent"];
        assert_eq!(
            (&answer["id"], &found["timed_out"]),
            (&json!(1), &json!(false))
        );
        assert_eq!(found["changes"][0]["entity_id"], json!(id), "{answer}");
        assert!(events.try_next().is_none(), "the answer is the last");
    });
}

#[test]
fn a_stream_of_notifications_names_the_resources_that_changed() {
    on_each(|server| {
        let mut connection = server.connect();
        let space = namespace("mcp");
        let uris =
            ["a", "b c"].map(|name| format!("flux://entity/{space}/{}", name.replace(' ', "%20")));
        let notifications = json!({"toolsListChanged": true, "resourceSubscriptions": [uris[0], uris[1], "file:///x"]});
        let params = json!({"notifications": notifications});
        let mut events = Events::send(server.port, &modern("subscriptions/listen", &params, &[]));
        let first = events.next().data;
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(
            first["params"]["notifications"],
            json!({"resourceSubscriptions": uris})
        );
        publish(&mut connection, &format!("{space}/other"), json!({}));
        for (name, uri) in [("a", &uris[0]), ("b c", &uris[1]), ("a", &uris[0])] {
            publish(&mut connection, &format!("{space}/{name}"), json!({"a": 1}));
            let told = events.next().data;
            assert_eq!(told["method"], "notifications/resources/updated");
            assert_eq!(told["params"]["uri"], json!(uri));
            let subscription = &told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"];
            assert_eq!(subscription, 1);
            let read = modern("resources/read", &json!({"uri": uri}), &[]);
            let read = ask(&mut connection, &read).json()["result"].clone();
            assert_eq!(
                (&read["ttlMs"], &read["cacheScope"]),
                (&json!(0), &json!("private"))
            );
            let text = read["contents"][0]["text"].as_str().expect("text");
            let entity: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(entity["id"], json!(format!("{space}/{name}")));
        }
        let mut empty = Events::send(
            server.port,
            &modern("subscriptions/listen", &json!({"notifications": {}}), &[]),
        );
        assert_eq!(empty.next().data["params"]["notifications"], json!({}));
        let none = ask(
            &mut connection,
            &modern("subscriptions/listen", &json!({}), &[]),
        );
        assert_eq!(none.json()["error"]["code"], -32602);
    });
}

#[test]
fn resources_are_listed_in_pages_and_what_is_not_there_is_not_found() {
    on_each(|server| {
        let mut connection = server.connect();
        let space = namespace("mcp");
        for number in 0..120 {
            publish(
                &mut connection,
                &format!("{space}/{number:03}"),
                json!({"a": 1}),
            );
        }
        let (mut uris, mut cursor) = (Vec::new(), Value::Null);
        loop {
            let params = if cursor.is_null() {
                json!({})
            } else {
                json!({"cursor": cursor})
            };
            let page = ask(&mut connection, &modern("resources/list", &params, &[])).json();
            let resources = page["result"]["resources"].as_array().expect("resources");
            uris.extend(
                resources
                    .iter()
                    .map(|it| it["uri"].as_str().unwrap_or_default().to_owned()),
            );
            cursor = page["result"]["nextCursor"].clone();
            if cursor.is_null() {
                break;
            }
        }
        let beginning = format!("flux://entity/{space}/");
        let own = uris.iter().filter(|uri| uri.starts_with(&beginning));
        assert_eq!(own.count(), 120);
        for uri in [format!("{beginning}none"), "file:///a".to_owned()] {
            let answer = ask(
                &mut connection,
                &modern("resources/read", &json!({"uri": uri}), &[]),
            );
            assert_eq!(answer.json()["error"]["code"], -32602, "{uri}");
            assert_eq!(answer.json()["error"]["data"]["uri"], json!(uri));
        }
        let bad = ask(
            &mut connection,
            &modern("resources/list", &json!({"cursor": "!"}), &[]),
        );
        assert_eq!(bad.json()["error"]["code"], -32602);
    });
}

#[test]
fn tokens_and_private_namespaces_hold_as_everywhere() {
    let tenants = Tenants::start_with_private(2, &["house"]);
    let server: &Server = &tenants.server;
    let mut connection = server.connect();
    let (house, garden) = (&tenants.first["house"], &tenants.first["garden"]);
    let request = modern("tools/list", &json!({}), &["Authorization: Bearer nobody"]);
    let answer = ask(&mut connection, &request);
    assert_eq!(
        answer.expect_error(401, "an unknown token"),
        "token_unknown"
    );
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    let publish = || {
        (
            "flux_publish",
            json!({"id": "house/a", "properties": {"a": 1}}),
        )
    };
    let mut called = |call: (&str, Value), token: &str| {
        let result = call_as(&mut connection, call, token);
        let said = result["structuredContent"].clone();
        (said["code"].as_str().map(str::to_owned), said)
    };
    for (token, code) in [("", "token_missing"), (&**garden, "not_namespace_owner")] {
        assert_eq!(called(publish(), token).0.as_deref(), Some(code));
    }
    assert_eq!(called(publish(), house).0, None);
    let get = || ("flux_get", json!({"id": "house/a"}));
    let list = || ("flux_list", json!({"prefix": "house/"}));
    let wait = || {
        (
            "flux_wait_for",
            json!({"id": "house/a", "timeout_seconds": 0}),
        )
    };
    for token in ["", garden] {
        assert_eq!(called(get(), token).0.as_deref(), Some("entity_not_found"));
        assert_eq!(called(list(), token).1["entities"], json!([]));
        let code = if token.is_empty() {
            "token_missing"
        } else {
            "not_readable"
        };
        assert_eq!(called(wait(), token).0.as_deref(), Some(code));
    }
    assert_eq!(called(get(), house).1["entity"]["id"], "house/a");
    assert_eq!(called(list(), house).1["entities"][0]["id"], "house/a");
    assert_eq!(called(wait(), house).1["timed_out"], true);
}

#[test]
fn a_namespace_that_has_used_up_its_rate_is_told_when_to_come_again() {
    let tenants = Tenants::start(1);
    let mut connection = tenants.server.connect();
    let fields = [format!("Authorization: Bearer {}", support::tenants::ADMIN)];
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let config = r#"{"rate_limit_per_namespace_per_minute":2}"#;
    let answer = ask(
        &mut connection,
        &request("PUT", "/api/admin/config", &fields, config),
    );
    assert_eq!(answer.status, 200);
    let token = &tenants.first["house"];
    let mut publish = || {
        let arguments = json!({"id": "house/a", "properties": {}});
        let result = call_as(&mut connection, ("flux_publish", arguments), token);
        result["structuredContent"].clone()
    };
    let answers = [publish(), publish(), publish()];
    assert_eq!(answers[2]["code"], "rate_limited", "{answers:?}");
    assert!(
        answers[2]["retry_after_seconds"].as_u64() > Some(0),
        "{answers:?}"
    );
}

#[test]
fn a_page_of_another_origin_does_not_reach_it() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let server = support::server::Setup::new(dir.path(), 1)
        .env("FLUX_OPEN", "")
        .env("FLUX_ALLOWED_ORIGINS", "")
        .start();
    let mut connection = server.connect();
    let request = modern("tools/list", &json!({}), &["Origin: https://evil.example"]);
    let answer = ask(&mut connection, &request);
    assert_eq!(answer.expect_error(403, "a foreign page"), "origin_refused");
    let request = modern("tools/list", &json!({}), &[]);
    let request = request.replace("Host: localhost", "Host: evil.example");
    let answer = ask(&mut connection, &request);
    assert_eq!(answer.expect_error(403, "a foreign name"), "host_refused");
    let request = modern("tools/list", &json!({}), &["Origin: http://localhost:9"]);
    assert_eq!(ask(&mut connection, &request).status, 200);
}

#[test]
fn a_page_that_may_reach_it_may_send_the_header_fields_of_every_version() {
    let server = support::server::shared(1);
    let mut connection = server.connect();
    let fields = [
        "Origin: http://localhost:9",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: mcp-protocol-version,mcp-method,mcp-name",
    ];
    let allowed = |connection: &mut Connection, path: &str| {
        let answer = ask(connection, &request("OPTIONS", path, &fields, ""));
        assert_eq!(answer.status, 204, "{path}");
        let allowed = answer.header("access-control-allow-headers");
        allowed.expect("header fields").to_owned()
    };
    let of_mcp = allowed(&mut connection, "/mcp");
    let of_events = allowed(&mut connection, "/api/events");
    let of_mcp: Vec<&str> = of_mcp.split(", ").collect();
    for name in of_events.split(", ").chain([
        "mcp-protocol-version",
        "mcp-method",
        "mcp-name",
        "mcp-session-id",
        "last-event-id",
        "content-type",
        "authorization",
    ]) {
        assert!(of_mcp.contains(&name), "{name}: {of_mcp:?}");
    }
    assert!(!of_events.contains("mcp"), "{of_events}");
    let listed = modern("tools/list", &json!({}), &fields[..1]);
    let exposed = |answer: &Response| {
        let exposed = answer.header("access-control-expose-headers");
        exposed.unwrap_or_default().to_owned()
    };
    let answer = ask(&mut connection, &listed);
    assert!(exposed(&answer).contains("www-authenticate"));
    let tenants = Tenants::start(1);
    let unknown = [fields[0], "Authorization: Bearer nobody"];
    let listed = modern("tools/list", &json!({}), &unknown);
    let answer = ask(&mut tenants.server.connect(), &listed);
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    assert!(exposed(&answer).contains("www-authenticate"));
}
