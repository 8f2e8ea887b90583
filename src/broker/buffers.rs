//! Byte buffers of a thread: an idle session holds none.

use std::cell::RefCell;

/// Buffers kept per thread.
const MAX_KEPT: usize = 64;
/// The largest that is kept, in bytes.
const MAX_KEPT_BYTES: usize = 64 * 1024;
/// A read takes at most this much, in bytes.
pub(super) const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static SCRATCH: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// An empty buffer.
pub(super) fn take() -> Vec<u8> {
    KEPT.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(1024))
}

/// Gives a buffer back.
pub(super) fn give(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > MAX_KEPT_BYTES {
        return;
    }
    KEPT.with_borrow_mut(|kept| {
        if kept.len() < MAX_KEPT {
            buffer.clear();
            kept.push(buffer);
        }
    });
}

/// The thread's read buffer, empty, with room for [`SCRATCH_BYTES`].
pub(super) fn take_scratch() -> Vec<u8> {
    SCRATCH.take().unwrap_or_else(|| Vec::with_capacity(SCRATCH_BYTES))
}

/// Gives the read buffer back.
pub(super) fn give_scratch(mut scratch: Vec<u8>) {
    if scratch.capacity() == SCRATCH_BYTES {
        scratch.clear();
        SCRATCH.set(Some(scratch));
    }
}
