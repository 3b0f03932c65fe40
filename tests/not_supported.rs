//! What the contract has and this server does not do yet is refused and never ignored (API contract
//! §1, §13 to §15).

mod support;

use support::watch::Watcher;
use support::{batch, event, namespace, on_each};

#[test]
fn members_and_parameters_that_ask_for_more_are_refused() {
    on_each(|server| {
        let id = format!("{}/a", namespace("members"));
        let sound = event(&id, r#"{"n":1}"#);
        let expiring = sound.replace(r#""properties""#, r#""ttl":5,"properties""#);
        let code = server
            .post("/api/events", &expiring)
            .expect_error(400, "ttl");
        assert_eq!(code, "not_supported");
        server
            .entity(&id)
            .expect_error(404, "nothing was published");

        let both = server.post("/api/events/batch", &batch(&[expiring, sound]));
        let answer = both.json();
        assert_eq!(
            (&answer["successful"], &answer["failed"]),
            (&1.into(), &1.into())
        );
        assert_eq!(answer["results"][0]["code"], "not_supported");
        assert_eq!(server.entity(&id).json()["version"], 1);
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
