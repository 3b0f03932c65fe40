//! The allocator's settings while clients hold much: large buffers go back to the system as soon as
//! they are freed.
//!
//! The account of memory counts buffers, and an operator's container counts pages. The C library's
//! allocator keeps them apart by default. It maps large buffers for themselves, but each one that
//! is freed raises the size from which it does so, up to 32 MiB. From then on the buffers of
//! clients lie side by side on the heap, and one that is freed in the middle stays with the
//! process. Buffers of thousands of slow clients that grew by turns took twice what they held, and
//! the process kept all of it when the clients had gone.
//!
//! A buffer with pages for itself costs a fault for each page. So buffers share the heap as long as
//! clients hold little, and what the heap kept is given back when they hold little again.
//!
//! The thread that does so sleeps while clients hold little, and the budget of memory wakes it.

#![expect(
    unsafe_code,
    reason = "rustix has no call for it, and the variable GLIBC_TUNABLES is read before main"
)]

use crate::faults;
use crate::shard::Counters;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, Thread};
use std::time::Duration;

/// Milliseconds between two looks at whether clients still hold much of the memory for them.
const LOOK_MS: u64 = 25;
/// The same while they hold little. The budget wakes the thread when they come to hold much; this
/// look makes up for a wake that came before the budget knew the thread.
const IDLE_LOOK_MS: u64 = 1000;

/// The thread that looks at what clients hold. It ends when this is dropped.
pub(super) struct AllocatorKeeper {
    ends: Arc<AtomicBool>,
    thread: Thread,
}

impl AllocatorKeeper {
    /// Begins to look. With another C library than GNU's it changes nothing.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn start(counters: Arc<Counters>) -> io::Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let (budget, end) = (Arc::clone(&counters.memory), Arc::clone(&ends));
        let builder = thread::Builder::new().name("allocator".to_owned());
        let handle = builder.spawn(move || look(&counters, &end))?;
        let thread = handle.thread().clone();
        budget.wake_when_much(thread.clone());
        Ok(Self { ends, thread })
    }
}

impl Drop for AllocatorKeeper {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        self.thread.unpark();
    }
}

fn look(counters: &Counters, ends: &AtomicBool) {
    let mut holds_much = false;
    while !ends.load(Relaxed) {
        faults::step();
        let held_much = holds_much;
        holds_much = counters.memory.holds_much(held_much);
        if holds_much != held_much {
            settings::choose(holds_much);
        }
        let pause_ms = if holds_much { LOOK_MS } else { IDLE_LOOK_MS };
        thread::park_timeout(Duration::from_millis(pause_ms));
    }
}

#[cfg(target_env = "gnu")]
mod settings {
    /// Bytes of a buffer that gets pages for itself while clients hold much. Smaller ones share the
    /// heap.
    const MAPPED_BUFFER_BYTES_MIN: i32 = 64 * 1024;
    /// Such buffers at a time, so that maps are left for files: the kernel gives a process 65,530.
    /// Others lie on the heap.
    const MAPPED_BUFFERS_MAX: i32 = 16 * 1024;
    /// Free bytes that each heap keeps at its end meanwhile, so that it does not ask the system for
    /// them again and again.
    const HEAP_TOP_BYTES_KEPT: i32 = 4 * 1024 * 1024;
    /// The largest that the allocator takes: the same that it comes to by itself.
    const HEAP_BUFFER_BYTES_MAX: i32 = 32 * 1024 * 1024;

    /// Settings for clients that hold much, or little.
    pub(super) fn choose(holds_much: bool) {
        if holds_much {
            set(libc::M_MMAP_THRESHOLD, MAPPED_BUFFER_BYTES_MIN);
            set(libc::M_MMAP_MAX, MAPPED_BUFFERS_MAX);
            set(libc::M_TRIM_THRESHOLD, HEAP_TOP_BYTES_KEPT);
        } else {
            set(libc::M_MMAP_THRESHOLD, HEAP_BUFFER_BYTES_MAX);
            set(libc::M_TRIM_THRESHOLD, 2 * HEAP_BUFFER_BYTES_MAX);
            // SAFETY: it takes a number, and gives back only pages of which no byte is in use. It
            // locks each heap itself, so that any thread may call it at any time.
            unsafe {
                libc::malloc_trim(0);
            }
        }
    }

    /// A setting that the allocator does not take leaves what was, which is slower to give memory
    /// back and otherwise right.
    fn set(parameter: i32, value: i32) {
        // SAFETY: `mallopt` takes two numbers and no memory of ours. It locks the allocator itself,
        // so that any thread may call it at any time.
        unsafe {
            libc::mallopt(parameter, value);
        }
    }
}

#[cfg(not(target_env = "gnu"))]
mod settings {
    pub(super) fn choose(_: bool) {}
}
