//! Damaged checkpoints: a checkpoint that loads is one that was written, and its readers return
//! what was written or an error.

use super::store::{Image, entities, lay_out, meta, open_checkpoints};
use crate::edits;
use flux_storage::{LayerStack, Sequence};
use std::sync::OnceLock;

static IMAGE: OnceLock<Image> = OnceLock::new();

/// Runs the target.
pub fn target(data: &[u8]) {
    let image = IMAGE.get_or_init(Image::make);
    let mut files = image.files.clone();
    files.retain(|path, _| path.starts_with(&image.checkpoints));
    edits::apply(data, &mut files, |_| true);
    let root = lay_out(&files);
    let path = root.path().join(&image.checkpoints);
    let Ok(load) = open_checkpoints(&path, image.owner).load() else {
        return;
    };
    let Some(found) = load.checkpoint else {
        return;
    };
    let version = found.meta.through.get();
    assert_eq!(found.meta, meta(version));
    check(&found.stack, &entities(version));
}

fn check(stack: &LayerStack, expected: &[(String, u64, String)]) {
    let mut cursor = stack.list(|_| false);
    let mut rest = expected.iter();
    let is_whole = loop {
        match cursor.next() {
            Err(_) => break false,
            Ok(None) => break true,
            Ok(Some(entity)) => {
                let (id, version, body) = rest.next().expect("no entity that nobody wrote");
                assert_eq!(entity.id, id);
                assert_eq!(
                    (entity.version, entity.body),
                    (*version, Some(body.as_str()))
                );
                assert_eq!(entity.sequence, Sequence::new(*version));
            }
        }
    };
    assert!(!is_whole || rest.next().is_none(), "all or an error");
    for (id, version, body) in expected {
        if let Ok(found) = stack.find(id) {
            let found = found.expect("what was written is found");
            assert_eq!((found.version, found.body), (*version, Some(body.as_str())));
        }
    }
    for absent in ["", "a", "fleet/robot-", "fleet/robot-9999", "z"] {
        assert!(
            stack.find(absent).is_ok_and(|found| found.is_none()) || stack.find(absent).is_err()
        );
    }
}
