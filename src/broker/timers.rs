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
}

/// Times to come. Its size is bounded by that of the sessions: at most a few per connection.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: Mutex<BinaryHeap<Reverse<Timer>>>,
    sooner: Notify,
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
        let mut heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        let first = heap.peek().is_none_or(|Reverse(next)| at < next.at);
        heap.push(Reverse(Timer { at, due }));
        drop(heap);
        if first {
            self.sooner.notify_one();
        }
    }

    /// Hands what comes due to `handle`, until `cancelled`.
    pub(super) async fn run(&self, cancelled: CancellationToken, mut handle: impl FnMut(Due)) {
        loop {
            let next = self.heap.lock().unwrap_or_else(PoisonError::into_inner).peek().map(|Reverse(timer)| timer.at);
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
        let mut heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        if heap.peek().is_some_and(|Reverse(timer)| timer.at <= now) {
            return heap.pop().map(|Reverse(timer)| timer.due);
        }
        None
    }

    fn keep_alive(&self, slot: Weak<SessionSlot>, epoch: u64, interval_ms: u64, now: Millis) {
        let Some(strong) = slot.upgrade() else {
            return;
        };
        if strong.epoch() != epoch || !strong.is_connected() {
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
