//! What the contract has and this server does not do yet is refused and never ignored (API contract
//! §1, §13 to §15).

mod support;

use support::http::request;
use support::watch::Watcher;
use support::{batch, event, namespace, on_each};

#[test]
fn a_conditional_write_is_refused_and_changes_nothing() {
    on_each(|server| {
        let id = format!("{}/a", namespace("conditional"));
        server.publish(&id, r#"{"n":1}"#);
        let etag = server.entity(&id).header("etag").expect("a tag").to_owned();
        let one = event(&id, r#"{"n":2}"#);
        let ids = format!(r#"{{"entity_ids":["{id}"]}}"#);
        let writes = [
            ("POST", "/api/events".to_owned(), one.clone()),
            ("POST", "/api/events/batch".to_owned(), batch(&[one])),
            ("POST", "/api/state/entities/delete".to_owned(), ids),
            ("DELETE", format!("/api/state/entities/{id}"), String::new()),
        ];
        for (method, target, body) in writes {
            for condition in [format!("If-Match: {etag}"), "If-None-Match: *".to_owned()] {
                let what = format!("{method} {target} {condition}");
                let mut connection = server.connect();
                connection.send(request(method, &target, &[&condition], &body));
                let code = connection.response().expect_error(400, &what);
                assert_eq!(code, "not_supported", "{what}");
            }
        }
        assert_eq!(server.entity(&id).header("etag"), Some(etag.as_str()));
    });
}

#[test]
fn members_and_parameters_that_ask_for_more_are_refused() {
    on_each(|server| {
        let id = format!("{}/a", namespace("members"));
        let sound = event(&id, r#"{"n":1}"#);
        let conditional = sound.replacen('{', r#"{"expect":{"absent":true},"#, 1);
        let code = server
            .post("/api/events", &conditional)
            .expect_error(400, "expect");
        assert_eq!(code, "not_supported");
        let expiring = sound.replace(r#""properties""#, r#""ttl":5,"properties""#);
        let code = server
            .post("/api/events", &expiring)
            .expect_error(400, "ttl");
        assert_eq!(code, "not_supported");
        server
            .entity(&id)
            .expect_error(404, "nothing was published");

        let both = server.post("/api/events/batch", &batch(&[conditional, sound.clone()]));
        let answer = both.json();
        assert_eq!(
            (&answer["successful"], &answer["failed"]),
            (&1.into(), &1.into())
        );
        assert_eq!(answer["results"][0]["code"], "not_supported");
        let atomic = batch(&[sound]).replacen('{', r#"{"atomic":true,"#, 1);
        let code = server
            .post("/api/events/batch", &atomic)
            .expect_error(400, "atomic");
        assert_eq!(code, "not_supported");
        assert_eq!(server.entity(&id).json()["version"], 1);
        let code = server
            .get("/api/state/entities?filter=exists(n)")
            .expect_error(400, "filter");
        assert_eq!(code, "not_supported");
    });
}

#[test]
fn a_subscription_with_options_is_refused_and_not_made() {
    on_each(|server| {
        let id = format!("{}/a", namespace("options"));
        let mut watcher = Watcher::connect(server);
        let message =
            format!(r#"{{"type":"subscribe","entity_id":"{id}","id":1,"snapshot":true}}"#);
        watcher.send(&message);
        assert_eq!(watcher.next()["code"], "not_supported");
        watcher.send(&format!(
            r#"{{"type":"unsubscribe","entity_id":"{id}","id":2}}"#
        ));
        assert_eq!(watcher.next()["code"], "not_subscribed");
    });
}
