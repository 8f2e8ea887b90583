//! The bytes of one large packet, kept by whoever keeps its message.

use std::cell::RefCell;
use std::ops::Deref;

/// Buffers that a thread keeps for the next large packet: giving such memory back to the system and taking it again
/// costs more than reading the packet.
const MAX_KEPT: usize = 8;
/// The largest that is kept, in bytes.
const MAX_KEPT_BYTES: usize = 256 * 1024;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A whole packet, fixed header included. Its memory serves another when the last message in it is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame(Vec<u8>);

impl Frame {
    /// Takes a packet.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// An empty buffer with room for at least `capacity` bytes.
    pub fn buffer(capacity: usize) -> Vec<u8> {
        let kept = KEPT.with_borrow_mut(|kept| {
            // Not much larger either: what is kept in a queue is counted by the packet's length.
            let fits = kept.iter().position(|buffer| (capacity..=2 * capacity).contains(&buffer.capacity()))?;
            Some(kept.swap_remove(fits))
        });
        kept.unwrap_or_else(|| Vec::with_capacity(capacity))
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        if buffer.capacity() > MAX_KEPT_BYTES {
            return;
        }
        // A thread that is ending has no list any more; then the memory is simply freed.
        let _ = KEPT.try_with(|kept| {
            if let Ok(mut kept) = kept.try_borrow_mut()
                && kept.len() < MAX_KEPT
            {
                buffer.clear();
                kept.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_packet_serves_the_next_and_little_is_kept() {
        let mut first = Frame::buffer(100_000);
        first.push(1);
        let place = first.as_ptr();
        drop(Frame::new(first));
        let second = Frame::buffer(90_000);
        assert_eq!((second.as_ptr(), second.len()), (place, 0));
        drop(Frame::new(Vec::with_capacity(MAX_KEPT_BYTES + 1)));
        for _ in 0..3 * MAX_KEPT {
            drop(Frame::new(Vec::with_capacity(1000)));
        }
        let kept = KEPT.with_borrow(|kept| (kept.len(), kept.iter().all(|buffer| buffer.capacity() <= MAX_KEPT_BYTES)));
        assert_eq!(kept, (MAX_KEPT, true));
    }
}
