//! Who writes, and when: sessions touched during a turn of the runtime's loop are flushed once, at its end.
//!
//! A worker thread of a runtime made by [`runtime`] runs its list when it is about to park, and after every few read
//! batches, because a busy worker does not park. Threads without that hook wake the sessions' own tasks instead.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;

use super::session_slot::SessionSlot;

/// Read batches after which a worker flushes without having parked.
const MAX_BATCHES_PER_TURN: u32 = 24;

/// Tasks that a busy worker runs before it looks at the sockets again. A publisher that floods makes each of its turns
/// long, and on a single core everybody else is heard only then.
const TASKS_BETWEEN_LOOKS: u32 = 8;

thread_local! {
    static TOUCHED: RefCell<Vec<Arc<SessionSlot>>> = const { RefCell::new(Vec::new()) };
    /// Set when this thread first parks as a worker: from then on it will park again.
    static HAS_HOOK: Cell<bool> = const { Cell::new(false) };
    static BATCHES: Cell<u32> = const { Cell::new(0) };
}

/// A multi-threaded runtime whose workers flush at the end of each turn.
///
/// # Errors
/// Where the operating system gives no threads.
pub fn runtime(worker_threads: usize) -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads.max(1))
        .thread_name("edgeway")
        .enable_all()
        .event_interval(TASKS_BETWEEN_LOOKS)
        .on_thread_park(|| {
            HAS_HOOK.set(true);
            flush();
        })
        .build()
}

/// Notes that `slot` has something to write. The slot calls this once until it is flushed.
pub(super) fn touch(slot: Arc<SessionSlot>) {
    TOUCHED.with_borrow_mut(|touched| touched.push(slot));
}

/// Ends a batch of deliveries: sees to it that what it touched is written soon.
pub(super) fn finish_batch() {
    if HAS_HOOK.get() {
        let batches = BATCHES.get() + 1;
        BATCHES.set(batches);
        if batches >= MAX_BATCHES_PER_TURN {
            flush();
        }
    } else {
        // Taken out first: waking runs foreign code.
        let touched = TOUCHED.take();
        for slot in &touched {
            slot.wake();
        }
    }
}

fn flush() {
    BATCHES.set(0);
    loop {
        let mut touched = TOUCHED.take();
        if touched.is_empty() {
            break;
        }
        for slot in touched.drain(..) {
            slot.flush();
        }
        // The list's memory serves the next turn; a flush may have touched others meanwhile.
        let done = TOUCHED.with_borrow_mut(|list| {
            if list.is_empty() {
                *list = touched;
                true
            } else {
                false
            }
        });
        if done {
            break;
        }
    }
}
