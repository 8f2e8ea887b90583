//! Reads back what durable queues have on disk: one task, one page at a time, away from the runtime's threads.
//!
//! A session asks once, under its own lock, when its queue wants a page; from then on it is the pager's to look whether
//! it wants another, until it says no. So none is forgotten, and none stands in the list twice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::delivery_queue::PageAt;
use super::{SessionSlot, turn};
use crate::clock;
use crate::store::{Batch, Journal};

/// Until a page is asked for again whose messages were not committed.
const UNCOMMITTED: Duration = Duration::from_millis(5);
/// Until a page is read again that could not be, doubled each time.
const UNREADABLE: Duration = Duration::from_millis(100);
/// The longest pause after pages that could not be read.
const MOST_UNREADABLE: Duration = Duration::from_secs(10);

/// Reads back what durable queues have on disk.
#[derive(Debug)]
pub(super) struct Pager {
    journal: Arc<Journal>,
    /// Sessions that want pages, each once.
    wanting: Mutex<VecDeque<Wanting>>,
    woken: Notify,
}

#[derive(Debug)]
struct Wanting {
    slot: Arc<SessionSlot>,
    /// Pages in a row that could not be read.
    failures: u32,
}

/// How it goes on with a session.
enum Next {
    /// It wants no page.
    Done,
    /// It probably wants another.
    Again,
    /// After this time.
    Later(Duration),
}

impl Pager {
    pub(super) fn new(journal: Arc<Journal>) -> Self {
        Self { journal, wanting: Mutex::default(), woken: Notify::new() }
    }

    /// Puts `slot` into the list. It does so once until the pager has found that it wants no page.
    pub(super) fn ask(&self, slot: &Arc<SessionSlot>) {
        self.lock().push_back(Wanting { slot: Arc::clone(slot), failures: 0 });
        self.woken.notify_one();
    }

    /// Reads pages until `cancelled`.
    pub(super) async fn run(&self, cancelled: CancellationToken) {
        let mut later: Vec<(Instant, Wanting)> = Vec::new();
        loop {
            let now = Instant::now();
            for (_, wanting) in later.extract_if(.., |(at, _)| *at <= now) {
                self.lock().push_back(wanting);
            }
            let next = self.lock().pop_front();
            let Some(mut wanting) = next else {
                let at = later.iter().map(|(at, _)| *at).min();
                tokio::select! {
                    () = cancelled.cancelled() => break,
                    () = self.woken.notified() => {}
                    () = async { sleep_until(at.unwrap_or(now)).await }, if at.is_some() => {}
                }
                continue;
            };
            let turn = tokio::select! {
                () = cancelled.cancelled() => break,
                turn = self.turn(&mut wanting) => turn,
            };
            match turn {
                Next::Done => {}
                Next::Again => self.lock().push_back(wanting),
                Next::Later(pause) => later.push((Instant::now() + pause, wanting)),
            }
        }
        // The sessions hold the pager, and are let go of.
        self.lock().clear();
    }

    /// Reads a page for a session, if it wants one.
    async fn turn(&self, wanting: &mut Wanting) -> Next {
        let slot = &wanting.slot;
        let request = match slot.next_page(&self.journal) {
            None => return Next::Done,
            Some(PageAt::Later(ticket)) => {
                if let Some(ticket) = ticket {
                    self.journal.hurry(ticket);
                }
                return Next::Later(UNCOMMITTED);
            }
            Some(PageAt::Now(request)) => request,
        };
        let (journal, queue) = (Arc::clone(&self.journal), slot.queue_id());
        let read =
            tokio::task::spawn_blocking(move || journal.read(queue, request.from, request.messages, request.bytes));
        let error = match read.await {
            Ok(Ok(page)) => {
                wanting.failures = 0;
                let mut batch = Batch::default();
                slot.put_page(request, page, clock::now(), &mut batch);
                self.journal.append(&mut batch);
                turn::finish_batch();
                return Next::Again;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        if wanting.failures == 0 {
            tracing::warn!(client = %slot.client_id(), error, "what waits on disk cannot be read; trying again");
        }
        let pause = UNREADABLE * 2u32.pow(wanting.failures.min(10));
        wanting.failures += 1;
        Next::Later(pause.min(MOST_UNREADABLE))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Wanting>> {
        self.wanting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
