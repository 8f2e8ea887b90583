//! Reads back what durable queues have on disk: one task, one page at a time, away from the runtime's threads.
//!
//! A session asks once, under its own lock, when its queue wants a page; from then on it is the pager's to look whether
//! it wants another, until it says no. So none is forgotten, and none stands in the list twice.
//!
//! What a session that has ended had on disk of shared subscriptions is read, too, and given to the other members.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::delivery_queue::{PageAt, PageRequest, WINDOW_BYTES, WINDOW_MESSAGES};
use super::lanes;
use super::router::Router;
use super::session_slot::{PagedEntry, SessionSlot};
use crate::clock;
use crate::store::{Batch, Journal, Page, Record, Sequences};

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
    /// Whether what ended sessions had may be given to others: all that are restored are there.
    hands_on: AtomicBool,
}

#[derive(Debug)]
struct Wanting {
    slot: Arc<SessionSlot>,
    /// Pages in a row that could not be read.
    failures: u32,
    /// Of a session that has ended: what others get of it, as far as that has not been read.
    left: Option<Sequences>,
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
        Self { journal, wanting: Mutex::default(), woken: Notify::new(), hands_on: AtomicBool::new(false) }
    }

    /// Puts `slot` into the list. It does so once until the pager has found that it wants no page.
    pub(super) fn ask(&self, slot: &Arc<SessionSlot>) {
        self.add(Wanting { slot: Arc::clone(slot), failures: 0, left: None });
    }

    /// Gives what is `left` on disk of a session that has ended, as far as it is of shared subscriptions, to the others
    /// of their groups, and then records its end.
    pub(super) fn hand_on(&self, slot: &Arc<SessionSlot>, left: Sequences) {
        self.add(Wanting { slot: Arc::clone(slot), failures: 0, left: Some(left) });
    }

    /// Says that all groups are whole: what sessions had that have ended goes to others from now on.
    pub(super) fn begin_handing_on(&self) {
        self.hands_on.store(true, Ordering::Release);
    }

    /// Reads pages until `cancelled`.
    pub(super) async fn run(&self, router: &Router, cancelled: CancellationToken) {
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
                turn = self.turn(&mut wanting, router) => turn,
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
    async fn turn(&self, wanting: &mut Wanting, router: &Router) -> Next {
        let (lane, queue, request) = match wanting.left {
            Some(_) if !self.hands_on.load(Ordering::Acquire) => return Next::Later(UNREADABLE),
            Some(Sequences { first, last }) => {
                let (messages, bytes) = (WINDOW_MESSAGES, WINDOW_BYTES);
                let request = PageRequest { from: first, end: last + 1, messages, bytes };
                (lanes::NORMAL, wanting.slot.queue_id(), request)
            }
            None => match wanting.slot.next_page(&self.journal) {
                None => return Next::Done,
                Some((.., PageAt::Later(ticket))) => {
                    if let Some(ticket) = ticket {
                        self.journal.hurry(ticket);
                    }
                    return Next::Later(UNCOMMITTED);
                }
                Some((lane, queue, PageAt::Now(request))) => (lane, queue, request),
            },
        };
        let journal = Arc::clone(&self.journal);
        let read =
            tokio::task::spawn_blocking(move || journal.read(queue, request.from, request.messages, request.bytes));
        let error = match read.await {
            Ok(Ok(page)) => {
                wanting.failures = 0;
                return self.put(wanting, lane, request, page, router);
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        if wanting.failures == 0 {
            let client = wanting.slot.client_id();
            tracing::warn!(%client, error, "what waits on disk cannot be read; trying again");
        }
        let pause = UNREADABLE * 2u32.pow(wanting.failures.min(10));
        wanting.failures += 1;
        Next::Later(pause.min(MOST_UNREADABLE))
    }

    /// Puts a page where it belongs.
    fn put(&self, wanting: &mut Wanting, lane: u8, request: PageRequest, page: Page, router: &Router) -> Next {
        let slot = &wanting.slot;
        let mut batch = Batch::default();
        let now = clock::now();
        let Some(left) = wanting.left else {
            slot.put_page(lane, request, page, now, &mut batch);
            router.finish(&mut batch);
            return Next::Again;
        };
        let end = request.end_of(&page);
        let shared = slot.entries_of(lane, page.messages).filter_map(|entry| match entry {
            PagedEntry::Entry(entry) if entry.sequence < Some(end) && entry.delivery.share.is_some() => Some(entry),
            _ => None,
        });
        router.deliver_again(shared.collect(), now);
        // First what others get: a crash in between leaves both rather than neither.
        let queue = slot.queue_id();
        if left.last < end {
            batch.push(&Record::SessionEnd { queue });
            router.finish(&mut batch);
            return Next::Done;
        }
        if end <= left.first {
            return Next::Later(UNREADABLE);
        }
        batch.settle_all(queue, Sequences { first: left.first, last: end - 1 });
        router.finish(&mut batch);
        wanting.left = Some(Sequences { first: end, ..left });
        Next::Again
    }

    fn add(&self, wanting: Wanting) {
        self.lock().push_back(wanting);
        self.woken.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Wanting>> {
        self.wanting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
