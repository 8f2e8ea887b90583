//! The journal on disk: what is pending, the thread that writes it, and who waits for that.
//!
//! ```text
//! append -> pending (under one small lock) --- writer: when it is time ---> log: one write, one sync
//!    <- ticket                                     committed, waiters woken <-+
//! ```
//!
//! It is time when somebody is held up (at most every `commit_min`, or at once where much waits), when `commit` has
//! gone by since the last commit, and for settles and readings alone only after `commit_readings`: a settle that is
//! lost makes one repetition, and a reading has mostly been delivered by then.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::filesystem::Lock;
use super::journal::{JournalOptions, Ticket};
use super::log::{Index, Log};
use super::reader::Bookmark;
use super::readings::Readings;
use super::record::{QueueId, Record, Sequences};
use super::statistics::Statistics;
use crate::clock::{self, Moment};

/// Bytes that may wait for the disk; beyond that nobody is read who makes records.
const MAX_PENDING_BYTES: usize = 16 * 1024 * 1024;
/// From so many bytes on a commit is worth it at once where somebody is held up.
const LARGE_COMMIT_BYTES: usize = 64 * 1024;
/// Between two tries of a disk that fails.
const RETRY: Duration = Duration::from_secs(1);
/// Void sequences that wait at most to be told to the fold.
const MAX_VOID: usize = 4096;
/// How long a reader waits for what is being written.
const READ_PATIENCE: Duration = Duration::from_secs(5);

/// The journal on disk.
#[derive(Debug)]
pub(super) struct Disk {
    shared: Arc<Shared>,
    index: Arc<Index>,
    /// Where each queue's last page ended.
    bookmarks: Mutex<HashMap<QueueId, Bookmark, foldhash::fast::RandomState>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held until the writer has ended.
    lock: Mutex<Option<Lock>>,
}

#[derive(Debug)]
struct Shared {
    pending: Mutex<Pending>,
    /// Something has come that the writer should look at.
    comes: Condvar,
    /// A commit is over, however it ended.
    over: Condvar,
    committed: AtomicU64,
    waiters: Mutex<Vec<(u64, Waker)>>,
    /// Bytes that wait for the disk.
    pending_bytes: AtomicUsize,
    room_waiters: Mutex<Vec<Waker>>,
    is_failing: AtomicBool,
    statistics: Arc<Statistics>,
}

/// What waits to be written.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    readings: Readings,
    /// Sequences that were over before they were written.
    void: Vec<(QueueId, Sequences)>,
    /// The ticket of the last batch in `bytes`.
    ticket: u64,
    /// Somebody is held up until this ticket is committed.
    hurried: u64,
    /// Readers wait for all that there is, readings too.
    is_flush_wanted: bool,
    /// When the first record came that must not wait for long, and the first that may.
    prompt_since: Option<Instant>,
    lazy_since: Option<Instant>,
    is_closing: bool,
    is_closed: bool,
    /// Whether the writer sleeps without a time to wake by itself.
    is_idle: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    pub fn start(log: Log, options: &JournalOptions, lock: Lock) -> io::Result<Self> {
        let index = Arc::clone(log.index());
        let shared = Arc::new(Shared {
            pending: Mutex::default(),
            comes: Condvar::new(),
            over: Condvar::new(),
            committed: AtomicU64::new(0),
            waiters: Mutex::default(),
            pending_bytes: AtomicUsize::new(0),
            room_waiters: Mutex::default(),
            is_failing: AtomicBool::new(false),
            statistics: Arc::clone(&options.statistics),
        });
        let writer = Writer {
            log,
            shared: Arc::clone(&shared),
            commit: options.commit,
            commit_min: options.commit_min.min(options.commit),
            commit_readings: options.commit_readings,
            last_commit: None,
            bytes: Vec::new(),
            ticket: 0,
            retry_at: None,
            maintain_at: None,
        };
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || writer.run())?;
        Ok(Self {
            shared,
            index,
            bookmarks: Mutex::default(),
            writer: Mutex::new(Some(thread)),
            lock: Mutex::new(Some(lock)),
        })
    }

    pub fn append(&self, batch: &mut Batch) -> Ticket {
        self.shared.statistics.appended(batch.records);
        let mut pending = self.shared.lock();
        let Pending { bytes, readings, void, .. } = &mut *pending;
        let before = bytes.len();
        bytes.append(&mut batch.bytes);
        let is_prompt = bytes.len() > before;
        for (queue, sequences) in batch.settled.drain(..) {
            readings.settle(
                queue,
                sequences,
                |sequences| Record::Settle { queue, sequences }.put(bytes),
                |sequences| match void.last_mut() {
                    Some((last, range)) if *last == queue && range.last + 1 == sequences.first => {
                        range.last = sequences.last;
                    }
                    _ => void.push((queue, sequences)),
                },
            );
        }
        let added = bytes.len() - before;
        let mut is_first_prompt = false;
        if added > 0 || !batch.readings.is_empty() {
            let now = Instant::now();
            for reading in batch.readings.drain(..) {
                readings.push(reading, now);
            }
            if is_prompt {
                is_first_prompt = pending.prompt_since.is_none();
                pending.prompt_since.get_or_insert(now);
            }
            pending.lazy_since.get_or_insert(now);
        }
        let mut ticket = Ticket::NONE;
        if added > 0 {
            pending.ticket += 1;
            // Nothing is promised of what is settled: losing it makes one repetition.
            ticket = if is_prompt { Ticket(pending.ticket) } else { Ticket::NONE };
            self.shared.pending_bytes.fetch_add(added, Ordering::Relaxed);
        }
        if let Some(receipt) = &batch.receipt {
            receipt.resolve(pending.ticket);
        }
        // Who waits for the spacing has a time to wake by itself, which is too late where there was nothing prompt yet.
        let is_idle = is_first_prompt || mem::take(&mut pending.is_idle) || pending.void.len() >= MAX_VOID;
        drop(pending);
        if is_idle {
            self.shared.comes.notify_one();
        }
        ticket
    }

    pub fn is_committed(&self, ticket: Ticket) -> bool {
        ticket.0 <= self.shared.committed.load(Ordering::Acquire)
    }

    pub fn poll_committed(&self, ticket: Ticket, cx: &Context<'_>) -> Poll<()> {
        if self.is_committed(ticket) {
            return Poll::Ready(());
        }
        let mut waiters = lock(&self.shared.waiters);
        waiters.push((ticket.0, cx.waker().clone()));
        drop(waiters);
        // The commit may have come in between, and have woken all whom it saw.
        if self.is_committed(ticket) { Poll::Ready(()) } else { Poll::Pending }
    }

    pub fn hurry(&self, ticket: Ticket) {
        if self.is_committed(ticket) {
            return;
        }
        let mut pending = self.shared.lock();
        let was_hurried = pending.hurried > self.shared.committed.load(Ordering::Acquire);
        pending.hurried = pending.hurried.max(ticket.0);
        let is_large = pending.bytes.len() >= LARGE_COMMIT_BYTES;
        drop(pending);
        if !was_hurried || is_large {
            self.shared.comes.notify_one();
        }
    }

    pub fn has_room(&self) -> bool {
        self.shared.pending_bytes.load(Ordering::Relaxed) < MAX_PENDING_BYTES
    }

    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        let mut waiters = lock(&self.shared.room_waiters);
        // It may last for hours, in which a task looks again and again.
        if !waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
            waiters.push(cx.waker().clone());
        }
        drop(waiters);
        if self.has_room() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// What is alive, and where it stands.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Where each queue's last page ended.
    pub fn bookmarks(&self) -> MutexGuard<'_, HashMap<QueueId, Bookmark, foldhash::fast::RandomState>> {
        lock(&self.bookmarks)
    }

    pub fn statistics(&self) -> &Arc<Statistics> {
        &self.shared.statistics
    }

    /// Returns once all that was appended before is committed.
    ///
    /// # Errors
    /// Where the disk does not take it for now.
    pub fn flush(&self) -> io::Result<()> {
        let mut pending = self.shared.lock();
        if pending.bytes.is_empty() && pending.readings.is_empty() && self.is_committed(Ticket(pending.ticket)) {
            return Ok(());
        }
        let ticket = pending.ticket;
        pending.is_flush_wanted = true;
        self.shared.comes.notify_one();
        let until = Instant::now() + READ_PATIENCE;
        while pending.is_flush_wanted || !self.is_committed(Ticket(ticket)) {
            let left = until.saturating_duration_since(Instant::now());
            if self.shared.is_failing.load(Ordering::Relaxed) || left.is_zero() || pending.is_closed {
                return Err(io::Error::other("what was just published has not been written yet"));
            }
            pending = self.shared.over.wait_timeout(pending, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Writes all that there is, and ends. Returns whether all of it was written.
    pub fn close(&self) -> bool {
        let writer = lock(&self.writer).take();
        if let Some(writer) = writer {
            self.shared.lock().is_closing = true;
            self.shared.comes.notify_one();
            let _ = writer.join();
        }
        drop(lock(&self.lock).take());
        self.shared.pending_bytes.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread that writes.
struct Writer {
    log: Log,
    shared: Arc<Shared>,
    commit: Duration,
    commit_min: Duration,
    commit_readings: Duration,
    /// When the last commit began.
    last_commit: Option<Instant>,
    /// What is being written; after a failure it is written again.
    bytes: Vec<u8>,
    ticket: u64,
    retry_at: Option<Instant>,
    /// Not before then: making room has failed.
    maintain_at: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        while self.wait() {
            self.write();
        }
        let mut pending = self.shared.lock();
        pending.is_closed = true;
        drop(pending);
        self.shared.over.notify_all();
    }

    /// Waits until it is time, and takes what is pending. `false` where all is over.
    fn wait(&mut self) -> bool {
        let mut pending = self.shared.lock();
        loop {
            let now = Instant::now();
            if pending.is_closing {
                let is_done = pending.bytes.is_empty() && pending.readings.is_empty() && self.bytes.is_empty();
                if is_done || pending.is_closed {
                    return false;
                }
                // One try more; what cannot be written now is lost to the process.
                pending.is_closed = true;
                break;
            }
            match self.due_at(&mut pending, now) {
                Some(due) if due <= now => break,
                Some(due) => {
                    let waiting = self.shared.comes.wait_timeout(pending, due - now);
                    pending = waiting.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => {
                    pending.is_idle = true;
                    pending = self.shared.comes.wait(pending).unwrap_or_else(PoisonError::into_inner);
                    pending.is_idle = false;
                }
            }
        }
        let is_all = pending.is_flush_wanted || pending.is_closing;
        let now = (!is_all).then(Instant::now);
        // A reading that is written now is not written twice.
        let Pending { bytes, readings, ticket, .. } = &mut *pending;
        let before = bytes.len();
        readings.encode_due(now, self.commit_readings, bytes);
        if bytes.len() > before {
            // Whoever flushes while they are being written waits for them, too.
            *ticket += 1;
        }
        self.shared.pending_bytes.fetch_add(bytes.len() - before, Ordering::Relaxed);
        if self.bytes.is_empty() {
            mem::swap(&mut self.bytes, bytes);
        } else {
            self.bytes.append(bytes);
        }
        let void = mem::take(&mut pending.void);
        self.ticket = pending.ticket;
        pending.prompt_since = None;
        pending.lazy_since = None;
        drop(pending);
        self.log.forget(&void);
        true
    }

    /// When the next commit is due.
    fn due_at(&self, pending: &mut Pending, now: Instant) -> Option<Instant> {
        if let Some(retry_at) = self.retry_at {
            return Some(retry_at);
        }
        if pending.is_flush_wanted || pending.void.len() >= MAX_VOID {
            return Some(now);
        }
        let since = |spacing: Duration| self.last_commit.map_or(now, |last| last + spacing);
        let committed = self.shared.committed.load(Ordering::Relaxed);
        let held_up = (pending.hurried > committed)
            .then(|| if pending.bytes.len() >= LARGE_COMMIT_BYTES { now } else { since(self.commit_min) });
        let prompt = pending.prompt_since.map(|_| since(self.commit));
        let settles = (!pending.bytes.is_empty()).then_some(pending.lazy_since).flatten();
        let lazy = settles.map(|at| at + self.commit_readings);
        let large = (pending.bytes.len() >= MAX_PENDING_BYTES / 4).then_some(now);
        let readings = pending.readings.due_at(self.commit_readings);
        [held_up, prompt, lazy, large, readings, self.maintain_at].into_iter().flatten().min()
    }

    fn write(&mut self) {
        let time = clock::moment();
        if !self.bytes.is_empty() {
            self.last_commit = Some(Instant::now());
            let length = self.bytes.len();
            if let Err(error) = self.log.commit(&mut self.bytes, time) {
                self.shared.pending_bytes.fetch_add(self.bytes.len() - length, Ordering::Relaxed);
                return self.fail(&error);
            }
            self.bytes.clear();
            if self.bytes.capacity() > 4 * LARGE_COMMIT_BYTES {
                self.bytes = Vec::new();
            }
            self.shared.pending_bytes.fetch_sub(length, Ordering::Relaxed);
        }
        self.succeed();
        self.maintain(time);
    }

    /// Keeps room for what comes. Where that fails, commits go on as long as they can; it has recovered only when this
    /// has, too.
    fn maintain(&mut self, time: Moment) {
        if self.maintain_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        match self.log.maintain(time) {
            Ok(()) => {
                self.maintain_at = None;
                self.shared.statistics.recovered();
            }
            Err(error) => {
                self.maintain_at = Some(Instant::now() + RETRY);
                self.shared.statistics.failed(&describe(&error));
            }
        }
    }

    fn succeed(&mut self) {
        self.retry_at = None;
        self.shared.is_failing.store(false, Ordering::Relaxed);
        {
            // Under the lock that readers wait with.
            let mut pending = self.shared.lock();
            self.shared.committed.store(self.ticket, Ordering::Release);
            pending.is_flush_wanted = false;
        }
        self.shared.over.notify_all();
        let mut waiters = lock(&self.shared.waiters);
        let ticket = self.ticket;
        let mut woken = Vec::new();
        waiters.retain_mut(|(waits_for, waker)| {
            let waits = *waits_for > ticket;
            if !waits {
                woken.push(waker.clone());
            }
            waits
        });
        drop(waiters);
        woken.into_iter().for_each(Waker::wake);
        if self.shared.pending_bytes.load(Ordering::Relaxed) < MAX_PENDING_BYTES / 2 {
            mem::take(&mut *lock(&self.shared.room_waiters)).into_iter().for_each(Waker::wake);
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.shared.is_failing.store(true, Ordering::Relaxed);
        self.shared.statistics.failed(&describe(error));
        self.retry_at = Some(Instant::now() + RETRY);
        self.shared.over.notify_all();
    }
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full".into(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".into(),
        _ => error.to_string(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
