//! What happens later to sessions: the end of a connection that is silent, and without one their will and their end.
//! One task and one heap for all.
//!
//! A session stands in the heap once, whatever happens to it meanwhile: when its time comes, it says what is due, and
//! is put back for what is not. Nothing is re-armed when a packet comes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::session_slot::SessionSlot;
use crate::clock;
use crate::mqtt::Millis;

/// So many timers are never searched for those of sessions that have gone.
const FEW: usize = 64;

/// Times to come: at most one for each session that still exists.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: Mutex<Heap>,
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Heap {
    timers: BinaryHeap<Reverse<Timer>>,
    /// With so many, those of sessions that have gone are looked for: twice as many as there were left last time.
    full: usize,
}

#[derive(Debug)]
struct Timer {
    at: Millis,
    slot: Weak<SessionSlot>,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl Timers {
    /// Sees to it that `slot` is handled when its next time comes, if it has one that is not waited for yet.
    pub(super) fn schedule(&self, slot: &Arc<SessionSlot>) {
        let Some(at) = slot.arm_timer() else {
            return;
        };
        let mut heap = self.lock();
        if heap.timers.len() >= heap.full {
            heap.timers.retain(|Reverse(timer)| timer.slot.strong_count() > 0);
            heap.full = FEW.max(2 * heap.timers.len());
        }
        let first = heap.timers.peek().is_none_or(|Reverse(next)| at < next.at);
        heap.timers.push(Reverse(Timer { at, slot: Arc::downgrade(slot) }));
        drop(heap);
        if first {
            self.sooner.notify_one();
        }
    }

    /// Times to come.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().timers.len()
    }

    /// Hands sessions to `handle` when their time has come, until `cancelled`.
    pub(super) async fn run(&self, cancelled: CancellationToken, mut handle: impl FnMut(&Arc<SessionSlot>, Millis)) {
        loop {
            let next = self.lock().timers.peek().map(|Reverse(timer)| timer.at);
            let wait = async {
                match next {
                    // The end of the millisecond, so that nothing is ever early.
                    Some(at) => tokio::time::sleep_until(clock::instant(Millis(at.0 + 1))).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = self.sooner.notified() => {}
                () = wait => {}
            }
            let now = clock::now();
            while let Some(slot) = self.pop(now) {
                if let Some(slot) = slot.upgrade() {
                    slot.disarm_timer();
                    handle(&slot, now);
                    self.schedule(&slot);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heap> {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop(&self, now: Millis) -> Option<Weak<SessionSlot>> {
        let mut heap = self.lock();
        if heap.timers.peek().is_some_and(|Reverse(timer)| timer.at <= now) {
            return heap.timers.pop().map(|Reverse(timer)| timer.slot);
        }
        None
    }
}
