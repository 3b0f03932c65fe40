//! Failures to order, in tests: what the disk does to any operation on files that changes them.
//!
//! `files` asks here before each such operation. A test orders that one of them fails, or all from
//! one on, with an error of the system; and every operation is written down. In the program itself
//! nothing of this exists.
//!
//! Orders and notes are a thread's, because tests are threads. Stores into a mapping are no
//! operation: the disk refuses them when they are flushed.

#[cfg(not(test))]
pub(crate) use never::step;
#[cfg(test)]
pub(crate) use ordered::{Plan, operations, order, step};

#[cfg(not(test))]
mod never {
    use std::path::Path;

    use crate::StorageError;

    #[expect(
        clippy::unnecessary_wraps,
        reason = "operations fail here in tests only"
    )]
    #[inline]
    pub(crate) fn step(_: &'static str, _: &Path) -> Result<(), StorageError> {
        Ok(())
    }
}

#[cfg(test)]
mod ordered {
    use std::cell::RefCell;
    use std::io;
    use std::path::Path;

    use crate::StorageError;

    const EIO: i32 = 5;

    /// What to do at some operation.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Plan {
        /// Let every operation pass.
        Pass,
        /// Let so many pass and fail one with this error of the system.
        FailOnce(usize, i32),
        /// Let so many pass and fail all after them with this error of the system.
        FailFrom(usize, i32),
        /// Let so many pass and none after them: nothing more reaches the disk.
        Crash(usize),
    }

    thread_local! {
        static STATE: RefCell<(Plan, Vec<(&'static str, String)>)> =
            const { RefCell::new((Plan::Pass, Vec::new())) };
    }

    /// Orders a failure and forgets the operations so far.
    pub(crate) fn order(plan: Plan) {
        STATE.set((plan, Vec::new()));
    }

    /// Ends the order and tells the operations since: what was done, and to which name.
    pub(crate) fn operations() -> Vec<(&'static str, String)> {
        STATE.replace((Plan::Pass, Vec::new())).1
    }

    pub(crate) fn step(op: &'static str, path: &Path) -> Result<(), StorageError> {
        STATE.with_borrow_mut(|(plan, done)| {
            let count = done.len();
            let name = path.file_name().unwrap_or_default();
            done.push((op, name.to_string_lossy().into_owned()));
            let code = match *plan {
                Plan::FailOnce(passes, code) if count == passes => code,
                Plan::FailFrom(passes, code) if count >= passes => code,
                Plan::Crash(passes) if count >= passes => EIO,
                Plan::Pass | Plan::FailOnce(..) | Plan::FailFrom(..) | Plan::Crash(_) => {
                    return Ok(());
                }
            };
            Err(StorageError::io(
                op,
                path,
                io::Error::from_raw_os_error(code),
            ))
        })
    }
}
