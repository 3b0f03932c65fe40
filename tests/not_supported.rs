//! What the contract has and this server does not do yet is refused and never ignored (API contract
//! §1, §13 to §15).

mod support;

use support::watch::Watcher;
use support::{namespace, on_each};

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
