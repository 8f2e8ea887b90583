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
/// From so many bytes on a commit is worth it at once where somebody is held up: it fills a page. Where more came lately
/// it is half of that, so that what many publishers wait for goes together.
const LARGE_COMMIT_BYTES: usize = 4096;
/// Room that is kept for the next commit.
const MAX_KEPT_BYTES: usize = 256 * 1024;
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
    commit: Duration,
    commit_readings: Duration,
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
    /// How many have said so since the last commit began.
    hurries: u32,
    /// Bytes that are worth a commit at once.
    large: usize,
    /// How often readers have asked for all that there was, readings too, and how many of them have it.
    flushes: u64,
    flushed: u64,
    /// Whether what was taken out of here is not committed yet.
    is_writing: bool,
    /// When the first record came that must not wait for long, and the first that may.
    prompt_since: Option<Instant>,
    lazy_since: Option<Instant>,
    is_closing: bool,
    is_closed: bool,
    writer: Sleep,
}

/// Whether the writer sleeps.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Sleep {
    #[default]
    Awake,
    Until(Instant),
    /// Until somebody wakes it.
    Idle,
}

impl Sleep {
    /// Whether it will not wake by `due`.
    fn misses(self, due: Instant) -> bool {
        match self {
            Self::Awake => false,
            Self::Until(at) => at > due,
            Self::Idle => true,
        }
    }
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
            commit: options.commit,
            commit_readings: options.commit_readings,
            statistics: Arc::clone(&options.statistics),
        });
        let writer = Writer {
            log,
            shared: Arc::clone(&shared),
            commit_min: options.commit_min.min(options.commit),
            last_commit: None,
            bytes: Vec::new(),
            void: Vec::new(),
            ticket: 0,
            flush: 0,
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
        let mut is_awaited = void.len() >= MAX_VOID;
        if added > 0 || !batch.readings.is_empty() {
            let now = Instant::now();
            for reading in batch.readings.drain(..) {
                readings.push(reading, now);
            }
            let readings_due = readings.due_at(self.shared.commit_readings);
            let records_wait = if is_prompt { self.shared.commit } else { self.shared.commit_readings };
            let records_due = (added > 0).then(|| now + records_wait);
            if is_prompt {
                pending.prompt_since.get_or_insert(now);
            }
            pending.lazy_since.get_or_insert(now);
            // Mostly it wakes by itself in time.
            let writer = pending.writer;
            is_awaited |= [readings_due, records_due].into_iter().flatten().any(|due| writer.misses(due));
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
        if is_awaited {
            pending.writer = Sleep::Awake;
        }
        drop(pending);
        if is_awaited {
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
        pending.hurries = pending.hurries.saturating_add(1);
        let is_large = pending.bytes.len() >= pending.large;
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
        let has_none = pending.bytes.is_empty() && pending.readings.is_empty() && pending.void.is_empty();
        if has_none && !pending.is_writing {
            return Ok(());
        }
        pending.flushes += 1;
        let flush = pending.flushes;
        self.shared.comes.notify_one();
        let until = Instant::now() + READ_PATIENCE;
        while pending.flushed < flush {
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

/// Says so where the writer ends by a panic: nothing is committed any more.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.is_failing.store(true, Ordering::Relaxed);
            self.0.lock().is_closed = true;
            self.0.statistics.failed("the journal's thread has ended by a fault of the program; restart it");
            self.0.over.notify_all();
        }
    }
}

/// The thread that writes.
struct Writer {
    log: Log,
    shared: Arc<Shared>,
    commit_min: Duration,
    /// When the last commit began.
    last_commit: Option<Instant>,
    /// What is being written; after a failure it is written again.
    bytes: Vec<u8>,
    /// What the log is told once these are committed: the sessions that it is about may begin with them.
    void: Vec<(QueueId, Sequences)>,
    ticket: u64,
    /// How often readers had asked for all that there was when this was taken.
    flush: u64,
    retry_at: Option<Instant>,
    /// Not before then: making room has failed.
    maintain_at: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        let _guard = Guard(Arc::clone(&self.shared));
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
                    // Whatever comes, a disk that failed is not tried earlier.
                    pending.writer = if self.retry_at.is_some() { Sleep::Awake } else { Sleep::Until(due) };
                    let waiting = self.shared.comes.wait_timeout(pending, due - now);
                    pending = waiting.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => {
                    pending.writer = Sleep::Idle;
                    pending = self.shared.comes.wait(pending).unwrap_or_else(PoisonError::into_inner);
                }
            }
            pending.writer = Sleep::Awake;
        }
        let is_all = pending.flushes > pending.flushed || pending.is_closing;
        let now = (!is_all).then(Instant::now);
        // A reading that is written now is not written twice.
        let Pending { bytes, readings, .. } = &mut *pending;
        let before = bytes.len();
        readings.encode_due(now, self.shared.commit_readings, bytes);
        self.shared.pending_bytes.fetch_add(bytes.len() - before, Ordering::Relaxed);
        if self.bytes.is_empty() {
            mem::swap(&mut self.bytes, bytes);
        } else {
            self.bytes.append(bytes);
        }
        self.void.append(&mut pending.void);
        self.ticket = pending.ticket;
        self.flush = pending.flushes;
        pending.is_writing = true;
        pending.hurries = 0;
        pending.large = LARGE_COMMIT_BYTES.max(self.bytes.len() / 2);
        pending.prompt_since = None;
        pending.lazy_since = None;
        true
    }

    /// When the next commit is due.
    fn due_at(&self, pending: &mut Pending, now: Instant) -> Option<Instant> {
        if let Some(retry_at) = self.retry_at {
            return Some(retry_at);
        }
        if pending.flushes > pending.flushed || pending.void.len() >= MAX_VOID {
            return Some(now);
        }
        let since = |spacing: Duration| self.last_commit.map_or(now, |last| last + spacing);
        let committed = self.shared.committed.load(Ordering::Relaxed);
        // A page that is hardly filled wears the disk as a full one does: where several wait, more soon come.
        let spacing = if pending.hurries > 1 { 3 * self.commit_min } else { self.commit_min };
        let held_up = (pending.hurried > committed)
            .then(|| if pending.bytes.len() >= pending.large { now } else { since(spacing) });
        let prompt = pending.prompt_since.map(|_| since(self.shared.commit));
        let settles = (!pending.bytes.is_empty()).then_some(pending.lazy_since).flatten();
        let lazy = settles.map(|at| at + self.shared.commit_readings);
        let large = (pending.bytes.len() >= MAX_PENDING_BYTES / 4).then_some(now);
        let readings = pending.readings.due_at(self.shared.commit_readings);
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
            if self.bytes.capacity() > MAX_KEPT_BYTES {
                self.bytes = Vec::new();
            }
            self.shared.pending_bytes.fetch_sub(length, Ordering::Relaxed);
        }
        self.log.forget(&mem::take(&mut self.void));
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
            pending.flushed = self.flush;
            pending.is_writing = false;
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

#[cfg(test)]
mod tests {
    use super::super::Filesystem;
    use super::super::record::{Delivered, How};
    use super::super::simulated::Simulated;
    use super::*;
    use crate::mqtt::{MessageBuilder, Publication, QoS, Reading, Sampled, TopicName};

    /// Waits until the writer sleeps, or the time is over.
    fn falls_asleep(disk: &Disk) -> bool {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            if disk.shared.lock().writer != Sleep::Awake {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    #[test]
    fn what_is_due_sooner_wakes_a_writer_that_waits_for_a_reading() {
        let folder = Arc::new(Simulated::new());
        let hour = Duration::from_secs(3600);
        let options = JournalOptions { commit: Duration::ZERO, commit_readings: hour, ..JournalOptions::default() };
        let lock = folder.try_lock().unwrap();
        let (log, _, _) = Log::open(folder, &options).unwrap();
        let disk = Disk::start(log, &options, lock).unwrap();
        let reading = Reading {
            sampled: Sampled::at(0),
            unit: None,
            quality: crate::mqtt::Quality::Good,
            device: "meter".into(),
            point: None,
            form: Default::default(),
        };
        let topic = TopicName::new("t").unwrap();
        let message = MessageBuilder::new(&topic, b"1").reading(Arc::new(reading)).build();
        let mut batch = Batch::default();
        batch.deliver(Delivered { queue: QueueId(1), sequence: 0 }, &How::plain(QoS::AtLeastOnce, false));
        batch.publish(&Publication::from_message(&message), None);
        disk.append(&mut batch);
        assert!(falls_asleep(&disk));
        let mut batch = Batch::default();
        batch.push(&Record::SessionEnd { queue: QueueId(1) });
        let ticket = disk.append(&mut batch);
        // Either it is awake now, or it is done.
        assert!(disk.is_committed(ticket) || disk.shared.lock().writer == Sleep::Awake);
    }
}
