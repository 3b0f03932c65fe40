//! Panics to order, in tests: on which thread. In the program itself nothing of this exists.
//!
//! Each thread of a server asks here once in each of its rounds. A test orders a panic in a process
//! of its own, since that is what it ends.

#[cfg(not(test))]
pub(crate) use never::step;
#[cfg(test)]
pub(crate) use ordered::{order, step};

#[cfg(not(test))]
mod never {
    #[inline]
    pub(crate) fn step() {}
}

#[cfg(test)]
mod ordered {
    use std::sync::OnceLock;

    static ORDER: OnceLock<String> = OnceLock::new();

    /// Orders that the thread whose name begins so panics.
    pub(crate) fn order(thread: &str) {
        ORDER.get_or_init(|| thread.to_owned());
    }

    pub(crate) fn step() {
        let Some(ordered) = ORDER.get() else {
            return;
        };
        let thread = std::thread::current();
        let is_ordered = thread.name().is_some_and(|name| name.starts_with(ordered));
        assert!(!is_ordered, "ordered by a test\nin two lines");
    }
}
