//! Tests of the stored form of changes of the control plane.

use super::change::{Change, ChangeDecodeError, TokenUse};
use super::namespace::Namespace;
use super::token::{LastUse, NamespaceToken};
use crate::auth::TokenHash;
use crate::model::{ConfigPatch, ConnectorId, Scope, Scopes, Sealed, Timestamp, Visibility};
use flux_storage::Sequence;

fn connector(owner: &str) -> ConnectorId {
    ConnectorId {
        owner: owner.into(),
        name: "weather".into(),
    }
}

fn registered(after: Option<Sequence>) -> Change {
    Change::Registered(namespace(after))
}

fn registered_private() -> Change {
    Change::Registered(Namespace {
        visibility: Visibility::Private,
        ..namespace(Some(Sequence::new(0x0304)))
    })
}

fn namespace(after: Option<Sequence>) -> Namespace {
    Namespace {
        id: "ns_1".into(),
        name: "abc".into(),
        token: TokenHash::from_bytes([7; 32]),
        created: Timestamp::from_micros(0x0102),
        after,
        visibility: Visibility::Public,
    }
}

fn changes() -> Vec<(Change, Vec<u8>)> {
    let token = TokenHash::from_bytes([7; 32]);
    let registered_before = registered(None);
    let registered_after = registered(Some(Sequence::new(0x0304)));
    let replaced = Change::TokenReplaced {
        name: "abc".into(),
        token,
    };
    let deleted = Change::Deleted { name: "abc".into() };
    let configured = Change::Configured(ConfigPatch {
        rate_limit_enabled: Some(false),
        body_size_limit_batch_bytes: Some(0x0102_0304),
        max_subscriptions_per_address: Some(1),
        ..ConfigPatch::default()
    });
    vec![
        (
            registered_before,
            [
                b"\x01\x04ns_1\x03abc".as_slice(),
                &[7; 32],
                b"\x02\x01\0\0\0\0\0\0",
            ]
            .concat(),
        ),
        (
            registered_after,
            [
                b"\x09\x04ns_1\x03abc".as_slice(),
                &[7; 32],
                b"\x02\x01\0\0\0\0\0\0\x04\x03\0\0\0\0\0\0",
            ]
            .concat(),
        ),
        (replaced, [b"\x02\x03abc".as_slice(), &[7; 32]].concat()),
        (deleted, b"\x03\x03abc".to_vec()),
        (
            configured,
            b"\x04\x03\x01\0\0\0\0\x04\x04\x03\x02\x01\x09\x01\0\0\0".to_vec(),
        ),
        (
            Change::Configured(ConfigPatch::default()),
            b"\x04\0".to_vec(),
        ),
        (
            Change::ConnectorDefined {
                id: connector("house"),
                definition: "{}".into(),
            },
            b"\x05\x05house\x07weather\x02\0{}".to_vec(),
        ),
        (
            Change::ConnectorRemoved(connector("")),
            b"\x06\0\x07weather".to_vec(),
        ),
        (
            Change::CredentialStored {
                id: connector("house"),
                sealed: Sealed::new(&[7; 3]),
            },
            b"\x07\x05house\x07weather\x03\0\x07\x07\x07".to_vec(),
        ),
        (
            Change::CredentialRemoved(connector("house")),
            b"\x08\x05house\x07weather".to_vec(),
        ),
    ]
    .into_iter()
    .chain(token_changes())
    .chain(visibility_changes())
    .collect()
}

fn visibility_changes() -> Vec<(Change, Vec<u8>)> {
    let set = |visibility| Change::VisibilitySet {
        name: "abc".into(),
        visibility,
    };
    vec![
        (
            registered_private(),
            [
                b"\x0d\x04ns_1\x03abc".as_slice(),
                &[7; 32],
                b"\x02\x01\0\0\0\0\0\0\x04\x03\0\0\0\0\0\0",
            ]
            .concat(),
        ),
        (set(Visibility::Public), b"\x0e\x03abc\0".to_vec()),
        (set(Visibility::Private), b"\x0e\x03abc\x01".to_vec()),
    ]
}

fn token_changes() -> Vec<(Change, Vec<u8>)> {
    let plain = NamespaceToken {
        id: "tok_1".into(),
        hash: TokenHash::from_bytes([7; 32]),
        label: None,
        scopes: Scopes::ALL,
        prefix: None,
        created: Timestamp::from_micros(0x0102),
        expires: None,
        last_use: LastUse::default(),
    };
    let full = NamespaceToken {
        label: Some("x".into()),
        scopes: [Scope::Write].into_iter().collect(),
        prefix: Some("abc/d".into()),
        expires: Some(Timestamp::from_micros(0x0304)),
        ..plain.clone()
    };
    let made = |token| Change::TokenMade {
        name: "abc".into(),
        token: Box::new(token),
    };
    let begin = [b"\x0a\x03abc\x05tok_1".as_slice(), &[7; 32]].concat();
    let used = |id: &str| TokenUse {
        name: "abc".into(),
        id: id.into(),
        minute: 0x0506,
    };
    vec![
        (
            made(plain),
            [&*begin, b"\x0f\x02\x01\0\0\0\0\0\0\0"].concat(),
        ),
        (
            made(full),
            [
                &*begin,
                b"\x02\x02\x01\0\0\0\0\0\0\x07\x01x\x05\0abc/d\x04\x03\0\0\0\0\0\0",
            ]
            .concat(),
        ),
        (
            Change::TokenRevoked {
                name: "abc".into(),
                id: "tok_1".into(),
            },
            b"\x0b\x03abc\x05tok_1".to_vec(),
        ),
        (
            Change::TokensUsed([used("t"), used("u")].into()),
            b"\x0c\x02\0\x03abc\x01t\x06\x05\0\0\x03abc\x01u\x06\x05\0\0".to_vec(),
        ),
    ]
}

#[test]
fn the_stored_form_never_changes() {
    for (change, bytes) in changes() {
        let mut out = Vec::new();
        change.encode(&mut out);
        assert_eq!(out, bytes, "{change:?}");
        assert_eq!(Change::decode(&bytes), Ok(change));
    }
}

#[test]
fn what_is_cut_off_or_has_more_is_refused() {
    for (change, bytes) in changes() {
        for len in 0..bytes.len() {
            let cut = Change::decode(&bytes[..len]);
            assert_eq!(cut, Err(ChangeDecodeError::Truncated), "{change:?} {len}");
        }
        let longer = [&*bytes, b"\x01"].concat();
        let decoded = Change::decode(&longer);
        assert_eq!(decoded, Err(ChangeDecodeError::Excess), "{change:?}");
    }
}

#[test]
fn every_setting_comes_back_under_its_number() {
    for setting in 1..=9_u8 {
        let bytes = [4, 1, setting, 1, 0, 0, 0];
        let change = Change::decode(&bytes).unwrap();
        let mut out = Vec::new();
        change.encode(&mut out);
        assert_eq!(out, bytes);
        let Change::Configured(patch) = change else {
            panic!("{change:?}");
        };
        let values = [
            patch.rate_limit_enabled.map(u32::from),
            patch.rate_limit_per_namespace_per_minute,
            patch.body_size_limit_single_bytes,
            patch.body_size_limit_batch_bytes,
            patch.max_batch_delete,
            patch.max_connections,
            patch.max_connections_per_address,
            patch.max_subscriptions,
            patch.max_subscriptions_per_address,
        ];
        for (value, number) in values.into_iter().zip(1..) {
            assert_eq!(value, (number == setting).then_some(1), "setting {setting}");
        }
    }
}

#[test]
fn any_bytes_are_one_change_or_refused() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut accepted = 0_u32;
    for _ in 0..20_000 {
        for (_, mut bytes) in changes() {
            let at = random.usize(..bytes.len());
            bytes[at] ^= random.u8(..);
            if let Ok(change) = Change::decode(&bytes) {
                let mut again = Vec::new();
                change.encode(&mut again);
                assert_eq!(again, bytes, "a change has one stored form");
                accepted = accepted.saturating_add(1);
            }
        }
    }
    assert!(accepted > 1_000, "{accepted}");
}

#[test]
fn what_is_not_known_is_refused() {
    let check = |bytes: &[u8], expected| {
        assert_eq!(Change::decode(bytes), Err(expected), "{bytes:?}");
    };
    check(b"", ChangeDecodeError::Truncated);
    check(b"\x0f", ChangeDecodeError::Kind(15));
    check(b"\x0e\x03abc\x02", ChangeDecodeError::Visibility(2));
    check(b"\x0c\xff\xff", ChangeDecodeError::Count(0xffff));
    check(b"\x0b\x03abc\x03a/b", ChangeDecodeError::Text);
    let token = |scopes, has| {
        let before = [b"\x0a\x03abc\x05tok_1".as_slice(), &[7; 32]].concat();
        [&*before, &[scopes], &[0; 8], &[has]].concat()
    };
    check(&token(16, 0), ChangeDecodeError::Token);
    check(&token(1, 8), ChangeDecodeError::Token);
    check(b"\x05\0\x03abc\0\0", ChangeDecodeError::Length(0));
    let long = [&b"\x05\0\x03abc\xff\xff"[..], &vec![b'x'; 0xffff]].concat();
    check(&long, ChangeDecodeError::Length(0xffff));
    check(b"\x06\x02ab\x03abc", ChangeDecodeError::Text);
    check(b"\x06\0\0", ChangeDecodeError::Text);
    check(b"\x04\x01\x0a\x01\0\0\0", ChangeDecodeError::Setting(10));
    check(b"\x04\x01\x01\x02\0\0\0", ChangeDecodeError::Value(1));
    check(b"\x04\x01\x02\0\0\0\0", ChangeDecodeError::Value(2));
    check(b"\x04\x01\0\x01\0\0\0", ChangeDecodeError::Order(0));
    let twice = b"\x04\x02\x05\x01\0\0\0\x05\x01\0\0\0";
    check(twice, ChangeDecodeError::Order(5));
    check(b"\x03\x02ab", ChangeDecodeError::Text);
    check(b"\x03\x03a/b", ChangeDecodeError::Text);
    check(b"\x03\x03\xff\xff\xff", ChangeDecodeError::Text);
    check(b"\x03\x03abcd", ChangeDecodeError::Excess);
}

#[test]
fn no_change_shows_a_token_hash() {
    let digits = format!("{:?}", [7_u8; 32]);
    for (change, _) in changes() {
        let shown = format!("{change:?}");
        assert!(
            !shown.contains(&digits) && !shown.contains("7, 7"),
            "{shown}"
        );
    }
}
