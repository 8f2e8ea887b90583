//! What happens later: keep alives, will delays, session expiry. One task and one heap for all sessions.
//!
//! Nothing is re-armed on the hot path: a keep alive that comes due looks when its session was last heard, and is put
//! back for the time that remains.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::clock;
use super::session_slot::SessionSlot;
use crate::mqtt::{Millis, ReasonCode};

/// What is due.
#[derive(Debug)]
pub(super) enum Due {
    /// The client of `epoch` should have been heard within `interval_ms` [MQTT-3.1.2-22].
    KeepAlive { slot: Weak<SessionSlot>, epoch: u64, interval_ms: u64 },
    /// The will of a session that has been without connection since `epoch` ended.
    Will { slot: Arc<SessionSlot>, epoch: u64 },
    /// The session has been without connection since `epoch` ended for as long as it may.
    Expiry { slot: Weak<SessionSlot>, epoch: u64 },
    /// Retained messages that have expired take room until somebody looks.
    ExpiredRetained,
}

impl Due {
    /// Whether it still means something. A keep alive of 18 hours outlives most connections.
    fn is_alive(&self) -> bool {
        match self {
            Self::KeepAlive { slot, epoch, .. } => slot.upgrade().is_some_and(|slot| slot.is_connected_in(*epoch)),
            Self::Will { slot, epoch } => slot.is_away_since(*epoch),
            Self::Expiry { slot, epoch } => slot.upgrade().is_some_and(|slot| slot.is_away_since(*epoch)),
            Self::ExpiredRetained => true,
        }
    }
}

/// Fewer timers than this are not worth looking through.
const FEW: usize = 1000;

/// Times to come. Its size is bounded by that of the sessions, each of which has a few: before it would grow beyond
/// twice what was alive, what has lost its meaning goes.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: Mutex<Heap>,
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Heap {
    timers: BinaryHeap<Reverse<Timer>>,
    /// Those that were alive when it was looked through.
    alive: usize,
}

#[derive(Debug)]
struct Timer {
    at: Millis,
    due: Due,
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
    /// Puts `due` at `at`.
    pub(super) fn schedule(&self, at: Millis, due: Due) {
        let mut guard = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        let Heap { timers: heap, alive } = &mut *guard;
        if heap.len() >= FEW && heap.len() >= 2 * *alive {
            heap.retain(|Reverse(timer)| timer.due.is_alive());
            *alive = heap.len();
        }
        let first = heap.peek().is_none_or(|Reverse(next)| at < next.at);
        heap.push(Reverse(Timer { at, due }));
        drop(guard);
        if first {
            self.sooner.notify_one();
        }
    }

    /// Times to come.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner).timers.len()
    }

    /// Hands what comes due to `handle`, until `cancelled`.
    pub(super) async fn run(&self, cancelled: CancellationToken, mut handle: impl FnMut(Due)) {
        loop {
            let next =
                self.heap.lock().unwrap_or_else(PoisonError::into_inner).timers.peek().map(|Reverse(timer)| timer.at);
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
            while let Some(due) = self.pop(now) {
                match due {
                    Due::KeepAlive { slot, epoch, interval_ms } => {
                        self.keep_alive(slot, epoch, interval_ms, now);
                    }
                    other => handle(other),
                }
            }
        }
    }

    fn pop(&self, now: Millis) -> Option<Due> {
        let heap = &mut self.heap.lock().unwrap_or_else(PoisonError::into_inner).timers;
        if heap.peek().is_some_and(|Reverse(timer)| timer.at <= now) {
            return heap.pop().map(|Reverse(timer)| timer.due);
        }
        None
    }

    fn keep_alive(&self, slot: Weak<SessionSlot>, epoch: u64, interval_ms: u64, now: Millis) {
        let Some(strong) = slot.upgrade() else {
            return;
        };
        if !strong.is_connected_in(epoch) {
            return;
        }
        let at = Millis(strong.last_heard().0 + interval_ms);
        if at <= now {
            strong.close(Some(epoch), ReasonCode::KeepAliveTimeout);
        } else {
            self.schedule(at, Due::KeepAlive { slot, epoch, interval_ms });
        }
    }
}
