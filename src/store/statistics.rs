//! What the journal does to the disk, and whether the disk takes it: counted by its writer, read by operators.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::restored::Report;

/// What a disk, and the flash behind it, writes at least, in bytes.
pub const PAGE: u64 = 4096;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Buckets of an hour that a day is counted in.
const HOURS: usize = 24;
/// The least time that a day's bytes are told from: opening a journal writes much at once.
const LEAST: Duration = HOUR;

/// What is called when the journal begins to fail, fails for another reason, or has recovered.
type OnChange = Box<dyn Fn(&Statistics) + Send + Sync>;

/// Counted by the journal's writer; whoever else has it reads.
pub struct Statistics {
    started: Instant,
    records: AtomicU64,
    commits: AtomicU64,
    failures: AtomicU64,
    bytes: AtomicU64,
    device_bytes: AtomicU64,
    moved_bytes: AtomicU64,
    messages_read: AtomicU64,
    segments: AtomicU64,
    disk_bytes: AtomicU64,
    alive_bytes: AtomicU64,
    last_commit_us: AtomicU64,
    longest_commit_us: AtomicU64,
    hours: Mutex<Hours>,
    failure: Mutex<Option<Failure>>,
    found: OnceLock<Report>,
    on_change: OnceLock<OnChange>,
}

/// Why nothing can be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In words: what was tried and what the system said.
    pub reason: Arc<str>,
    /// Since when.
    pub since: Instant,
}

/// The numbers, as they were at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Records appended.
    pub records: u64,
    /// Times that the disk has confirmed what was written.
    pub commits: u64,
    /// Times that writing or confirming failed.
    pub failures: u64,
    /// Bytes written: records, checkpoints, headers, and zeros that make room.
    pub bytes: u64,
    /// Bytes of the pages that these touched: what the device has to write, at least.
    pub device_bytes: u64,
    /// Bytes of living messages that were written again so that a segment could go. Part of `bytes`.
    pub moved_bytes: u64,
    /// Messages that were read back because their queue was longer than what is kept in memory.
    pub messages_read: u64,
    /// Files of the journal.
    pub segments: u64,
    /// Bytes that they take.
    pub disk_bytes: u64,
    /// Bytes in them that are still needed.
    pub alive_bytes: u64,
    /// How long the last commit took.
    pub last_commit: Duration,
    /// How long the longest took.
    pub longest_commit: Duration,
    /// What a day writes.
    pub day: Day,
}

/// What a day writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Day {
    /// Bytes that the device had to write in the last 24 hours.
    pub device_bytes: u64,
    /// Whether it has not been 24 hours: then it is what they would be at the rate so far.
    pub is_extrapolated: bool,
}

impl Default for Statistics {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            started: Instant::now(),
            records: zero(),
            commits: zero(),
            failures: zero(),
            bytes: zero(),
            device_bytes: zero(),
            moved_bytes: zero(),
            messages_read: zero(),
            segments: zero(),
            disk_bytes: zero(),
            alive_bytes: zero(),
            last_commit_us: zero(),
            longest_commit_us: zero(),
            hours: Mutex::default(),
            failure: Mutex::default(),
            found: OnceLock::new(),
            on_change: OnceLock::new(),
        }
    }
}

/// For the journal.
impl Statistics {
    /// Notes that `records` were taken.
    pub fn appended(&self, records: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    /// Notes that `bytes` were written, which touched `pages` of [`PAGE`] bytes, and that the disk confirmed them
    /// after `duration`.
    pub fn committed(&self, bytes: u64, pages: u64, duration: Duration) {
        self.written(bytes, pages);
        self.commits.fetch_add(1, Ordering::Relaxed);
        let micros = duration.as_micros() as u64;
        self.last_commit_us.store(micros, Ordering::Relaxed);
        self.longest_commit_us.fetch_max(micros, Ordering::Relaxed);
    }

    /// Notes that `bytes` were written, which touched `pages`, apart from a commit: zeros that make room.
    pub fn written(&self, bytes: u64, pages: u64) {
        self.written_after(self.started.elapsed(), bytes, pages);
    }

    fn written_after(&self, elapsed: Duration, bytes: u64, pages: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.device_bytes.fetch_add(pages * PAGE, Ordering::Relaxed);
        lock(&self.hours).add(elapsed, pages * PAGE);
    }

    /// Notes that `bytes` of those written were living messages that had to be moved.
    pub fn moved(&self, bytes: u64) {
        self.moved_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that `messages` were read back.
    pub fn read_back(&self, messages: u64) {
        self.messages_read.fetch_add(messages, Ordering::Relaxed);
    }

    /// Notes how many files there are, the bytes that they take and those that are needed.
    pub fn set_space(&self, segments: u64, disk_bytes: u64, alive_bytes: u64) {
        self.segments.store(segments, Ordering::Relaxed);
        self.disk_bytes.store(disk_bytes, Ordering::Relaxed);
        self.alive_bytes.store(alive_bytes, Ordering::Relaxed);
    }

    /// Notes what was found when the journal was opened. The first time counts.
    pub fn set_found(&self, report: &Report) {
        // A journal is opened once.
        let _ = self.found.set(report.clone());
    }

    /// Notes that nothing can be committed, and why. To be called at each try: a new reason, or the first, is told to
    /// whoever watches.
    pub fn failed(&self, reason: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        {
            let mut failure = lock(&self.failure);
            match &mut *failure {
                Some(known) if &*known.reason == reason => return,
                Some(known) => known.reason = reason.into(),
                None => *failure = Some(Failure { reason: reason.into(), since: Instant::now() }),
            }
        }
        self.tell();
    }

    /// Notes that what was held up has been committed.
    pub fn recovered(&self) {
        if lock(&self.failure).take().is_some() {
            self.tell();
        }
    }

    fn tell(&self) {
        if let Some(on_change) = self.on_change.get() {
            on_change(self);
        }
    }
}

/// For whoever looks.
impl Statistics {
    /// Has `on_change` called when the journal begins to fail, fails for another reason, or has recovered: on its own
    /// thread, so it must not wait. Called at once where it fails already. One may watch; a second is not called.
    pub fn watch(&self, on_change: impl Fn(&Self) + Send + Sync + 'static) {
        if self.on_change.set(Box::new(on_change)).is_ok() && self.failure().is_some() {
            self.tell();
        }
    }

    /// Why nothing can be committed; `None` while all is well.
    pub fn failure(&self) -> Option<Failure> {
        lock(&self.failure).clone()
    }

    /// What was found when the journal was opened; `None` where there is none on disk.
    pub fn found(&self) -> Option<&Report> {
        self.found.get()
    }

    /// All numbers.
    pub fn figures(&self) -> Figures {
        self.figures_after(self.started.elapsed())
    }

    fn figures_after(&self, elapsed: Duration) -> Figures {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            records: value(&self.records),
            commits: value(&self.commits),
            failures: value(&self.failures),
            bytes: value(&self.bytes),
            device_bytes: value(&self.device_bytes),
            moved_bytes: value(&self.moved_bytes),
            messages_read: value(&self.messages_read),
            segments: value(&self.segments),
            disk_bytes: value(&self.disk_bytes),
            alive_bytes: value(&self.alive_bytes),
            last_commit: Duration::from_micros(value(&self.last_commit_us)),
            longest_commit: Duration::from_micros(value(&self.longest_commit_us)),
            day: lock(&self.hours).day(elapsed),
        }
    }
}

impl fmt::Debug for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statistics").field("figures", &self.figures()).field("failure", &self.failure()).finish()
    }
}

/// Bytes by hour: the one at hand and those before it, counted from the start.
#[derive(Debug, Default)]
struct Hours {
    bytes: [u64; HOURS],
    /// The hour at hand.
    hour: u64,
}

impl Hours {
    fn add(&mut self, elapsed: Duration, bytes: u64) {
        self.turn(elapsed);
        self.bytes[self.hour as usize % HOURS] += bytes;
    }

    /// Forgets what is older than a day.
    fn turn(&mut self, elapsed: Duration) {
        let hour = (elapsed.as_secs() / HOUR.as_secs()).max(self.hour);
        for gone in (self.hour + 1..=hour).take(HOURS) {
            self.bytes[gone as usize % HOURS] = 0;
        }
        self.hour = hour;
    }

    fn day(&mut self, elapsed: Duration) -> Day {
        self.turn(elapsed);
        // The oldest hour leaves whole when the next begins: what is left counts for the time that it covers.
        let of_this_hour = elapsed.saturating_sub(HOUR * self.hour as u32);
        let covered = elapsed.min(HOUR * (HOURS as u32 - 1) + of_this_hour).max(LEAST);
        let bytes: u64 = self.bytes.iter().sum();
        let device_bytes = u128::from(bytes) * DAY.as_millis() / covered.as_millis();
        Day { device_bytes: device_bytes as u64, is_extrapolated: elapsed < DAY }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_commit_counts_its_bytes_its_pages_and_its_time() {
        let statistics = Statistics::default();
        statistics.appended(3);
        statistics.committed(500, 1, Duration::from_millis(40));
        statistics.committed(5000, 2, Duration::from_millis(5));
        statistics.written(1 << 20, 256);
        statistics.set_space(2, 2 << 20, 5500);
        let figures = statistics.figures();
        assert_eq!((figures.records, figures.commits, figures.failures), (3, 2, 0));
        assert_eq!((figures.bytes, figures.device_bytes), (5500 + (1 << 20), 259 * PAGE));
        assert_eq!((figures.last_commit.as_millis(), figures.longest_commit.as_millis()), (5, 40));
        assert_eq!((figures.segments, figures.disk_bytes, figures.alive_bytes), (2, 2 << 20, 5500));
    }

    #[test]
    fn before_a_day_is_over_the_rate_so_far_is_told_as_one() {
        let statistics = Statistics::default();
        let day = |elapsed| statistics.figures_after(elapsed).day;
        assert_eq!(day(Duration::ZERO), Day { device_bytes: 0, is_extrapolated: true });
        statistics.written_after(Duration::ZERO, 100, 1);
        // An hour at least: what the start wrote is no rate.
        assert_eq!(day(MINUTE), Day { device_bytes: 24 * PAGE, is_extrapolated: true });
        assert_eq!(day(6 * HOUR), Day { device_bytes: 4 * PAGE, is_extrapolated: true });
        statistics.written_after(7 * HOUR, 100, 5);
        assert_eq!(day(12 * HOUR), Day { device_bytes: 12 * PAGE, is_extrapolated: true });
        assert_eq!(day(DAY + 10 * MINUTE).device_bytes, 5 * PAGE * 1440 / (23 * 60 + 10), "the first hour is gone");
    }

    #[test]
    fn a_steady_rate_is_the_day_and_an_idle_one_is_nothing() {
        let statistics = Statistics::default();
        for minute in 0..60 * 60 {
            statistics.written_after(MINUTE * minute, 100, 10);
        }
        let day = statistics.figures_after(60 * HOUR).day;
        assert_eq!(day, Day { device_bytes: 10 * PAGE * 1440, is_extrapolated: false });
        assert_eq!(statistics.figures_after(84 * HOUR).day.device_bytes, 0);
        statistics.written_after(1000 * HOUR, 100, 1);
        assert_eq!(lock(&statistics.hours).bytes.iter().sum::<u64>(), PAGE);
    }

    #[test]
    fn whoever_watches_is_told_of_each_reason_once_and_of_the_recovery() {
        let statistics = Statistics::default();
        let told: Arc<Mutex<Vec<Option<Arc<str>>>>> = Arc::default();
        let list = Arc::clone(&told);
        statistics.failed("no space");
        statistics.watch(move |statistics| lock(&list).push(statistics.failure().map(|failure| failure.reason)));
        let since = statistics.failure().unwrap().since;
        statistics.failed("no space");
        statistics.failed("input/output error");
        assert_eq!(statistics.failure().unwrap().since, since);
        statistics.recovered();
        statistics.recovered();
        assert_eq!(*lock(&told), [Some("no space".into()), Some("input/output error".into()), None]);
        assert_eq!((statistics.figures().failures, statistics.failure()), (3, None));
    }
}
