//! What all durable queues may hold together, and which queues refuse: known without asking each of them.
//!
//! A queue below its fair share (the limit divided by the queues that are not empty) may always take a message. One
//! above it makes room among its own while all together are beyond the limit, and once a second the largest are
//! trimmed where that was not enough. So together they hold at most the limit and what comes in a second. Only queues
//! that drop the newest or refuse keep what they have, so n of them, each filled in its turn, may hold the limit times
//! 1 + 1/2 + ... + 1/n: half more for two, three times as much for ten. What is in flight is never dropped, and comes on
//! top: a window of each session.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

use super::SessionSlot;
use crate::store::settings::WhenFull;
use crate::store::{Batch, Journal};

/// Bytes of all durable queues together, where nothing else is said.
const DEFAULT_LIMIT: u64 = 512 * 1024 * 1024;

/// Wakers that are kept at most.
const MANY_HELD: usize = 4096;

/// What all durable queues may hold together, and which queues refuse. It never waits.
#[derive(Debug)]
pub struct Budget {
    limit: AtomicU64,
    when_full: AtomicU8,
    used: AtomicU64,
    /// Queues that hold anything.
    queues: AtomicUsize,
    /// Those that have ever held anything on disk, or refuse.
    members: Mutex<Vec<Weak<SessionSlot>>>,
    /// Queues that refuse now.
    refusing: AtomicUsize,
    /// Connections that are not read until one of them has room.
    held: Mutex<Vec<Waker>>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            limit: AtomicU64::new(DEFAULT_LIMIT),
            when_full: AtomicU8::new(0),
            used: AtomicU64::new(0),
            queues: AtomicUsize::new(0),
            members: Mutex::default(),
            refusing: AtomicUsize::new(0),
            held: Mutex::default(),
        }
    }
}

impl Budget {
    /// Sets the most bytes that all durable queues hold together, and what happens in bridges' queues that say nothing
    /// themselves. What waits beyond a smaller limit is dropped within seconds where it may be.
    pub fn set(&self, limit: u64, when_full: WhenFull) {
        self.limit.store(limit, Ordering::Relaxed);
        self.when_full.store(when_full as u8, Ordering::Relaxed);
    }

    /// The most bytes that all durable queues hold together. Default 512 MiB.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// What happens in bridges' queues that say nothing themselves.
    pub fn when_full(&self) -> WhenFull {
        match self.when_full.load(Ordering::Relaxed) {
            value if value == WhenFull::DropNewest as u8 => WhenFull::DropNewest,
            value if value == WhenFull::Refuse as u8 => WhenFull::Refuse,
            _ => WhenFull::DropOldest,
        }
    }

    /// Bytes that all durable queues hold.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The most bytes that a queue of `bytes` may hold after it has taken another `size`.
    pub(super) fn allowance(&self, bytes: u64, size: u64) -> u64 {
        match (self.used().saturating_add(size)).checked_sub(self.limit()) {
            None | Some(0) => u64::MAX,
            Some(excess) => self.fair_share().max((bytes + size).saturating_sub(excess)),
        }
    }

    /// Whether a queue of `bytes` holds about its share or more while little is left of the whole.
    pub(super) fn is_tight(&self, bytes: u64) -> bool {
        let (limit, share) = (self.limit(), self.fair_share());
        self.used() > limit - limit / 8 && bytes > share - share / 8
    }

    /// Whether a queue of `bytes` can take nothing more.
    pub(super) fn is_spent(&self, bytes: u64) -> bool {
        self.used() >= self.limit() && bytes >= self.fair_share()
    }

    /// Whether any queue refuses.
    pub(super) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed) > 0
    }

    /// Has `waker` woken when a queue ceases to refuse. Whoever asks looks again afterwards whether it still must wait.
    pub(super) fn wake_when_room(&self, waker: &Waker) {
        let mut held = lock(&self.held);
        if held.iter().any(|known| known.will_wake(waker)) {
            return;
        }
        // Connections that have gone leave theirs behind: rather all look again.
        let all = if held.len() >= MANY_HELD { std::mem::take(&mut *held) } else { Vec::new() };
        held.push(waker.clone());
        drop(held);
        all.into_iter().for_each(Waker::wake);
    }

    /// Trims the largest queues where all together are beyond the limit, and looks whether those that refuse have room
    /// because others have left it.
    pub(super) fn tend(&self, journal: &Journal) {
        let excess = || self.used().saturating_sub(self.limit());
        if excess() == 0 && !self.is_refusing() {
            return;
        }
        let mut slots: Vec<(u64, Arc<SessionSlot>)> = {
            let mut members = lock(&self.members);
            members.retain(|member| member.strong_count() > 0);
            members.iter().filter_map(Weak::upgrade).map(|slot| (slot.waiting().queued_bytes, slot)).collect()
        };
        slots.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let mut batch = Batch::default();
        batch.set_recording(journal.is_durable());
        for (_, slot) in slots {
            slot.trim(excess(), self.fair_share(), &mut batch);
        }
        journal.append(&mut batch);
    }

    fn fair_share(&self) -> u64 {
        self.limit() / self.queues.load(Ordering::Relaxed).max(1) as u64
    }
}

/// One queue's part of the budget; it gives back what it has when it is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
    is_member: bool,
    is_refusing: bool,
}

impl Charge {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0, is_member: false, is_refusing: false }
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Bytes that the queue was said to hold.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Says how many bytes the queue of `slot` holds.
    pub(super) fn set(&mut self, bytes: u64, slot: &Arc<SessionSlot>) {
        if bytes != self.bytes {
            self.join(slot);
            self.change(bytes);
        }
    }

    /// Says whether the queue of `slot` refuses. `true` where that is new.
    pub(super) fn set_refusing(&mut self, is_refusing: bool, slot: &Arc<SessionSlot>) -> bool {
        if is_refusing == self.is_refusing {
            return false;
        }
        self.join(slot);
        self.is_refusing = is_refusing;
        if is_refusing {
            self.budget.refusing.fetch_add(1, Ordering::Relaxed);
        } else {
            self.leave();
        }
        true
    }

    fn change(&mut self, bytes: u64) {
        let budget = &self.budget;
        match (self.bytes, bytes) {
            (0, 1..) => _ = budget.queues.fetch_add(1, Ordering::Relaxed),
            (1.., 0) => _ = budget.queues.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
        // Wraps where it is less: the sum is right again.
        budget.used.fetch_add(bytes.wrapping_sub(self.bytes), Ordering::Relaxed);
        self.bytes = bytes;
    }

    fn join(&mut self, slot: &Arc<SessionSlot>) {
        if !std::mem::replace(&mut self.is_member, true) {
            lock(&self.budget.members).push(Arc::downgrade(slot));
        }
    }

    /// Ceases to refuse.
    fn leave(&self) {
        self.budget.refusing.fetch_sub(1, Ordering::Relaxed);
        let held = std::mem::take(&mut *lock(&self.budget.held));
        for waker in held {
            waker.wake();
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.change(0);
        if self.is_refusing {
            self.leave();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::delivery_queue::QueueLimits;
    use crate::store::{QueueId, SessionKind};

    fn slot(number: u64) -> Arc<SessionSlot> {
        let limits = QueueLimits { messages: 1, bytes: 1, when_full: WhenFull::DropOldest };
        let journal = Arc::new(Journal::in_memory());
        SessionSlot::new("slot".into(), SessionKind::Bridge, QueueId(number), limits, journal, Arc::default())
    }

    #[test]
    fn whoever_has_less_than_its_share_may_always_have_more() {
        let budget = Arc::<Budget>::default();
        budget.set(1000, WhenFull::Refuse);
        assert_eq!((budget.limit(), budget.when_full()), (1000, WhenFull::Refuse));
        let slots = [slot(1), slot(2)];
        let [mut large, mut small] = [Charge::new(&budget), Charge::new(&budget)];
        large.set(900, &slots[0]);
        assert_eq!(budget.allowance(900, 100), u64::MAX, "there is room");
        assert_eq!(budget.allowance(900, 101), 1000, "the only queue has it all");
        small.set(100, &slots[1]);
        assert_eq!(budget.allowance(900, 50), 900, "it makes room for what it takes");
        assert_eq!(budget.allowance(100, 50), 500, "half of it is its own");
        small.set(400, &slots[1]);
        assert_eq!(budget.allowance(900, 50), 600, "and for what is beyond the limit");
        assert!(budget.is_spent(900) && !budget.is_spent(400));
        drop(large);
        assert_eq!((budget.used(), budget.allowance(400, 600)), (400, u64::MAX));
        small.set(0, &slots[1]);
        assert_eq!((budget.used(), budget.queues.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn queues_that_drop_nothing_hold_no_more_than_the_sum_of_their_shares() {
        let budget = Arc::<Budget>::default();
        let limit = 10_000;
        budget.set(limit, WhenFull::DropNewest);
        let slots: Vec<_> = (0..20).map(slot).collect();
        let mut charges: Vec<_> = slots.iter().map(|_| Charge::new(&budget)).collect();
        // Each in its turn takes as much as it may, and drops nothing.
        for (charge, slot) in charges.iter_mut().zip(&slots) {
            while charge.bytes() + 10 <= budget.allowance(charge.bytes(), 10) {
                charge.set(charge.bytes() + 10, slot);
            }
        }
        let most: u64 = (1..=20).map(|queues| limit / queues).sum();
        assert!(budget.used() <= most && budget.used() > most * 9 / 10, "{} of {most}", budget.used());
    }

    #[test]
    fn whoever_refuses_is_counted_until_it_goes() {
        let budget = Arc::<Budget>::default();
        let slot = slot(1);
        let mut charge = Charge::new(&budget);
        assert!(charge.set_refusing(true, &slot) && !charge.set_refusing(true, &slot));
        assert!(budget.is_refusing());
        drop(charge);
        assert!(!budget.is_refusing());
    }
}
