//! What waits for one session: bounded in messages and bytes, and what happens at the bound.
//!
//! ```text
//!  oldest                                         newest
//! +--------+ +--------------------------------+ +--------+
//! |  head  | |  on disk: counted, not in memory| |  tail  |
//! +--------+ +--------------------------------+ +--------+
//!      ^-------- pages ------'       ^-- spills ----'
//! ```
//!
//! Most queues are a head alone. A durable session's head takes no more than a window; what comes then goes to the
//! tail, whose older half is forgotten whenever it has filled a window: the journal has it. When the head falls below
//! half a window a page of what is on disk is put behind it, and once nothing is on disk the tail joins it. So a
//! receiver that has caught up is served from memory again, and what the journal has not committed yet is hardly ever
//! asked of it.
//!
//! Messages of QoS 1 and 2 leave in the order of their sequences. Those of QoS 0 are never on disk: they wait in the
//! head, behind what waits there, and so overtake what is on disk.

mod limits;
mod on_disk;
mod overflow;
mod uncommitted;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use super::delivery::Delivery;
use crate::mqtt::session::in_lane;
use crate::mqtt::{Message, Millis, QoS};
use crate::store::settings::WhenFull;
use crate::store::{Batch, Journal, Pending, Sequences};
pub use limits::QueueLimits;
use overflow::Overflow;
pub(super) use overflow::{PageAt, PageRequest};

/// Messages of QoS 1 and 2 that the head of a durable queue holds, and the tail again as many.
pub(super) const WINDOW_MESSAGES: usize = 1000;
/// Their bytes, with each message's bookkeeping. One larger message may come on top.
pub(super) const WINDOW_BYTES: usize = 1024 * 1024;

/// A message on its way to one session.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its lane; sessions of clients have the normal one alone.
    pub lane: u8,
    /// Its place in its lane; QoS 0 has none.
    pub sequence: Option<u64>,
    /// When it was put in.
    pub since: Millis,
    /// The message.
    pub message: Message,
    /// QoS of the hop.
    pub qos: QoS,
    /// RETAIN of the hop.
    pub retain: bool,
    /// How it is delivered: identifiers, remap.
    pub delivery: Arc<Delivery>,
    /// The batch that records it, where it must not be sent before that is committed.
    pub pending: Option<Arc<Pending>>,
    /// Where it stands for several: their places.
    pub settles: Option<Arc<[u64]>>,
}

impl Entry {
    /// Its place in the session, of a lane and its place there.
    pub fn key(&self) -> Option<u64> {
        self.sequence.map(|sequence| in_lane(self.lane, sequence))
    }

    /// Whether it is of no more use at `now`, or has waited for longer than its route lets it.
    pub fn is_expired(&self, now: Millis) -> bool {
        let expire = self.delivery.route.as_ref().and_then(|route| route.expire);
        self.message.is_expired(now) || expire.is_some_and(|expire| now.since(self.since) >= expire)
    }
}

/// Where the messages of a durable session are recorded.
#[derive(Debug)]
pub struct Recording<'a> {
    /// With the message that is being put in.
    pub batch: &'a mut Batch,
    /// Where the batch will be appended.
    pub journal: &'a Journal,
}

/// Messages that wait, oldest first.
#[derive(Debug, Default)]
pub struct DeliveryQueue {
    head: VecDeque<Entry>,
    head_bytes: usize,
    /// Entries of QoS 0, which all stand in the head, and their bytes.
    at_most_once: usize,
    at_most_once_bytes: usize,
    /// What is behind the head.
    overflow: Option<Box<Overflow>>,
}

impl DeliveryQueue {
    /// Says that `messages` of so many `bytes` wait on disk, with sequences from `first` on and below `end`. Not all
    /// sequences between need to be there. To be called before anything else is put in.
    pub fn restore(&mut self, messages: u64, bytes: u64, first: u64, end: u64) {
        debug_assert!(self.is_empty(), "what is restored comes first");
        if messages > 0 && first < end {
            self.overflow = Some(Box::new(Overflow::restored(messages, bytes, first, end)));
        }
    }

    /// Makes room for another message of `size` bytes within `limits`, of which it returns the messages that were
    /// dropped for it; `settle` is told those that had sequences. `None` where the new message is the one to drop.
    pub fn make_room(&mut self, size: usize, limits: &QueueLimits, mut settle: impl FnMut(Sequences)) -> Option<u64> {
        if size > limits.bytes || limits.messages == 0 {
            return None;
        }
        let mut dropped = 0;
        while self.len() >= limits.messages || self.bytes().saturating_add(size) > limits.bytes {
            if limits.when_full == WhenFull::DropNewest {
                return None;
            }
            let excess = (self.bytes().saturating_add(size)).saturating_sub(limits.bytes);
            match self.drop_oldest(excess as u64, &mut settle) {
                0 => break,
                count => dropped += count,
            }
        }
        Some(dropped)
    }

    /// Drops the oldest: one message of those in memory, or of those on disk as many as `bytes` probably are. Returns
    /// how many it were: 0 where nothing is left.
    pub fn drop_oldest(&mut self, bytes: u64, mut settle: impl FnMut(Sequences)) -> u64 {
        if let Some(entry) = self.pop() {
            if let Some(sequence) = entry.sequence {
                settle(Sequences { first: sequence, last: sequence });
            }
            return 1;
        }
        let Some(overflow) = &mut self.overflow else {
            return 0;
        };
        let Some((sequences, count)) = overflow.drop_from_disk(bytes) else {
            return 0;
        };
        settle(sequences);
        self.join();
        count
    }

    /// Puts `entry` behind the others, those of QoS 0 behind what is in memory. With a `recording` what is beyond the
    /// window is left to the journal. The caller has made room.
    pub fn push(&mut self, entry: Entry, recording: Option<Recording<'_>>) {
        let size = entry.message.size();
        if let Some(sequence) = entry.sequence
            && (self.overflow.is_some() || (recording.is_some() && self.head_has(WINDOW_MESSAGES, WINDOW_BYTES)))
        {
            self.overflow.get_or_insert_default().push(entry, sequence, recording);
            return;
        }
        if entry.sequence.is_none() {
            self.at_most_once += 1;
            self.at_most_once_bytes += size;
        }
        self.head_bytes += size;
        self.head.push_back(entry);
    }

    /// The oldest entry; `None` where nothing waits, or its page has not come.
    pub fn front(&self) -> Option<&Entry> {
        self.head.front()
    }

    /// Takes the oldest entry; `None` where nothing waits, or its page has not come.
    pub fn pop(&mut self) -> Option<Entry> {
        let entry = self.head.pop_front()?;
        let size = entry.message.size();
        self.head_bytes -= size;
        if entry.sequence.is_none() {
            self.at_most_once -= 1;
            self.at_most_once_bytes -= size;
        }
        if self.overflow.is_some() {
            self.join();
        }
        if self.head.is_empty() {
            // A queue that has drained holds no memory.
            self.head = VecDeque::new();
        }
        Some(entry)
    }

    /// Takes the first entries of those in memory for which `takes` says so, of the first `count`; the others keep their
    /// order.
    pub fn take_where(&mut self, count: usize, mut takes: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        for _ in 0..count {
            let Some(entry) = self.head.pop_front() else { break };
            if takes(&entry) {
                let size = entry.message.size();
                self.head_bytes -= size;
                if entry.sequence.is_none() {
                    self.at_most_once -= 1;
                    self.at_most_once_bytes -= size;
                }
                taken.push(entry);
            } else {
                left.push_back(entry);
            }
        }
        while let Some(entry) = left.pop_back() {
            self.head.push_front(entry);
        }
        if self.overflow.is_some() {
            self.join();
        }
        taken
    }

    /// Puts entries back before all others, in their order.
    pub fn put_back(&mut self, entries: Vec<Entry>) {
        for entry in entries.into_iter().rev() {
            let size = entry.message.size();
            self.head_bytes += size;
            if entry.sequence.is_none() {
                self.at_most_once += 1;
                self.at_most_once_bytes += size;
            }
            self.head.push_front(entry);
        }
    }

    /// Removes the entries for which `remove` says so, as far as they are in memory: what is on disk stays.
    pub fn remove_if(&mut self, mut remove: impl FnMut(&Entry) -> bool) {
        let Self { head, head_bytes, at_most_once, at_most_once_bytes, overflow } = self;
        head.retain(|entry| {
            let gone = remove(entry);
            if gone {
                let size = entry.message.size();
                *head_bytes -= size;
                if entry.sequence.is_none() {
                    *at_most_once -= 1;
                    *at_most_once_bytes -= size;
                }
            }
            !gone
        });
        if let Some(overflow) = overflow {
            overflow.remove_if(remove);
        }
        self.join();
    }

    /// Whether a page is to be read: something is on disk, and less than half a window stands before it.
    pub fn wants_page(&self) -> bool {
        self.has_on_disk() && !self.head_has(WINDOW_MESSAGES / 2, WINDOW_BYTES / 2)
    }

    /// Whether something waits on disk alone.
    pub fn has_on_disk(&self) -> bool {
        self.overflow.as_ref().is_some_and(|overflow| overflow.has_on_disk())
    }

    /// The page to read next, if one is wanted.
    pub fn next_page(&mut self, journal: &Journal) -> Option<PageAt> {
        if !self.wants_page() {
            return None;
        }
        let messages = WINDOW_MESSAGES.saturating_sub(self.head.len() - self.at_most_once);
        let bytes = WINDOW_BYTES.saturating_sub(self.head_bytes - self.at_most_once_bytes);
        self.overflow.as_mut().map(|overflow| overflow.next_page(messages, bytes, journal))
    }

    /// Puts what was read behind the head: `entries` are those that were found with sequences below `end`, all there
    /// are. Those that were dropped meanwhile are left out.
    pub fn put_page(&mut self, entries: Vec<Entry>, end: u64) {
        let Some(overflow) = &mut self.overflow else {
            return;
        };
        let first = overflow.first_on_disk();
        let taken = entries.into_iter().filter(|entry| entry.sequence >= first && entry.sequence < Some(end));
        let begin = self.head.len();
        self.head.extend(taken);
        let taken = self.head.range(begin..);
        self.head_bytes += taken.clone().map(|entry| entry.message.size()).sum::<usize>();
        overflow.advance(end, taken);
        self.join();
    }

    /// The first sequence that may be on disk alone.
    pub fn first_on_disk(&self) -> Option<u64> {
        self.overflow.as_ref().and_then(|overflow| overflow.first_on_disk())
    }

    /// Says that messages of shared subscriptions may be among those on disk.
    pub fn note_shared(&mut self) {
        if let Some(overflow) = &mut self.overflow {
            overflow.note_shared();
        }
    }

    /// What is on disk alone, if messages of shared subscriptions may be among it.
    pub fn shared_on_disk(&self) -> Option<Sequences> {
        self.overflow.as_ref().and_then(|overflow| overflow.shared_on_disk())
    }

    /// Entries of QoS 0 that wait, and their bytes.
    pub fn at_most_once(&self) -> (usize, usize) {
        (self.at_most_once, self.at_most_once_bytes)
    }

    /// Bytes of what waits, with each message's bookkeeping; of what was restored, roughly.
    pub fn bytes(&self) -> usize {
        self.head_bytes + self.overflow.as_ref().map_or(0, |overflow| overflow.bytes())
    }

    /// Entries that wait.
    pub fn len(&self) -> usize {
        self.head.len() + self.overflow.as_ref().map_or(0, |overflow| overflow.len())
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.overflow.is_none()
    }

    /// Entries in memory, and their bytes.
    #[cfg(test)]
    pub(super) fn in_memory(&self) -> (usize, usize) {
        let (tail, tail_bytes) = self.overflow.as_ref().map_or((0, 0), |overflow| overflow.in_memory());
        (self.head.len() + tail, self.head_bytes + tail_bytes)
    }

    /// Whether the head holds so many messages of QoS 1 and 2, or so many bytes of them.
    fn head_has(&self, messages: usize, bytes: usize) -> bool {
        self.head.len() - self.at_most_once >= messages || self.head_bytes - self.at_most_once_bytes >= bytes
    }

    /// Puts the tail behind the head once nothing is between them and the head has room.
    fn join(&mut self) {
        let has_room = !self.head_has(WINDOW_MESSAGES / 2, WINDOW_BYTES / 2);
        if let Some(overflow) = self.overflow.take_if(|overflow| {
            let is_over = overflow.is_empty();
            is_over || (has_room && !overflow.has_on_disk())
        }) {
            let (mut tail, bytes) = overflow.into_tail();
            self.head.append(&mut tail);
            self.head_bytes += bytes;
        }
    }
}
