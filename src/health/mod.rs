//! What runs in the gateway and how it is: bridges, adapters and the journal write it, `$SYS` and `/healthz` read it.
//!
//! Whoever runs a part keeps its entry; the table forgets it when that is dropped.

mod bridge;
mod facts;
mod rates;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

pub use bridge::{Backlog, BridgeHealth, BridgeWarning, LinkState, LinkStatus};
pub use facts::Fact;

/// All parts of the gateway that can be well or not.
#[derive(Debug)]
pub struct HealthTable {
    store: StoreHealth,
    bridges: Mutex<Vec<Weak<BridgeHealth>>>,
    devices: Mutex<Vec<Weak<DeviceHealth>>>,
    changed: Arc<Notify>,
}

/// How the journal is.
#[derive(Debug)]
pub struct StoreHealth {
    failure: Mutex<Option<Arc<str>>>,
    warning: Mutex<Option<Arc<str>>>,
    changed: Arc<Notify>,
}

/// How well the gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All is well.
    Ok,
    /// Somebody should look, and nothing is lost or held up now.
    Warning,
    /// A promise is not kept: nothing can be committed, or a queue is full.
    Failed,
}

/// How well the gateway is, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What makes it [`Level::Failed`], in words.
    pub failures: Vec<String>,
    /// What somebody should look at, in words.
    pub warnings: Vec<String>,
}

/// How a device is.
#[derive(Debug)]
pub struct DeviceHealth {
    name: Arc<str>,
    state: State,
    readings: AtomicU64,
    errors: AtomicU64,
}

/// Whether a part is well, and what was last wrong with it.
#[derive(Debug)]
struct State {
    value: Mutex<(bool, Option<Arc<str>>)>,
    changed: Arc<Notify>,
}

impl Default for HealthTable {
    fn default() -> Self {
        let changed = Arc::<Notify>::default();
        let store = StoreHealth { failure: Mutex::default(), warning: Mutex::default(), changed: Arc::clone(&changed) };
        Self { store, bridges: Mutex::default(), devices: Mutex::default(), changed }
    }
}

impl HealthTable {
    /// The journal's entry.
    pub fn store(&self) -> &StoreHealth {
        &self.store
    }

    /// How well all of it is. That a bridge has no link or a device does not answer is what a gateway lives with:
    /// their entries say so.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        verdict.failures.extend(self.store.failure().map(|reason| format!("nothing can be committed: {reason}")));
        verdict.warnings.extend(self.store.warning().map(|warning| warning.to_string()));
        for bridge in self.bridges() {
            if bridge.backlog().is_full {
                verdict.failures.push(format!("the queue of the bridge {} is full", bridge.name()));
            }
            verdict.warnings.extend(bridge.warnings());
        }
        verdict
    }

    /// An entry for the bridge `name`, which is not connected yet; `backlog` tells what waits for it when it is asked,
    /// and must not wait itself.
    pub fn bridge(&self, name: &str, backlog: impl Fn() -> Backlog + Send + Sync + 'static) -> Arc<BridgeHealth> {
        let health = Arc::new(BridgeHealth::new(name, &self.changed, backlog));
        add(&self.bridges, &health);
        health
    }

    /// An entry for the device `name`, which has not answered yet.
    pub fn device(&self, name: &str) -> Arc<DeviceHealth> {
        let health = Arc::new(DeviceHealth {
            name: name.into(),
            state: State::new(&self.changed),
            readings: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        });
        add(&self.devices, &health);
        health
    }

    /// The bridges there are, in the order in which they were added.
    pub fn bridges(&self) -> Vec<Arc<BridgeHealth>> {
        lock(&self.bridges).iter().filter_map(Weak::upgrade).collect()
    }

    /// The devices there are, in the order in which they were added.
    pub fn devices(&self) -> Vec<Arc<DeviceHealth>> {
        lock(&self.devices).iter().filter_map(Weak::upgrade).collect()
    }

    /// Completes when a part has become well or unwell since this was awaited last. One task awaits it. Cancel-safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Verdict {
    /// How well.
    pub fn level(&self) -> Level {
        match (self.failures.is_empty(), self.warnings.is_empty()) {
            (false, _) => Level::Failed,
            (true, false) => Level::Warning,
            (true, true) => Level::Ok,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        })
    }
}

impl StoreHealth {
    /// Notes why nothing can be committed, or that everything can.
    pub fn set_failure(&self, reason: Option<&str>) {
        let mut failure = lock(&self.failure);
        if failure.as_deref() != reason {
            *failure = reason.map(Arc::from);
            drop(failure);
            self.changed.notify_one();
        }
    }

    /// Notes what somebody should know of until the gateway starts again.
    pub fn set_warning(&self, warning: &str) {
        *lock(&self.warning) = Some(warning.into());
        self.changed.notify_one();
    }

    /// Why nothing can be committed; `None` while all is well.
    pub fn failure(&self) -> Option<Arc<str>> {
        lock(&self.failure).clone()
    }

    /// What somebody should know of.
    pub fn warning(&self) -> Option<Arc<str>> {
        lock(&self.warning).clone()
    }
}

impl DeviceHealth {
    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Notes that it answers.
    pub fn online(&self) {
        self.state.set(true, None);
    }

    /// Notes that it does not answer, and why.
    pub fn offline(&self, error: &str) {
        self.state.set(false, Some(error.into()));
    }

    /// Notes that `count` readings of it were published.
    pub fn add_readings(&self, count: u64) {
        self.readings.fetch_add(count, Ordering::Relaxed);
    }

    /// Notes that reading it failed once.
    pub fn add_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it answers.
    pub fn is_online(&self) -> bool {
        lock(&self.state.value).0
    }

    /// Why it does not answer; `None` while it does.
    pub fn error(&self) -> Option<Arc<str>> {
        lock(&self.state.value).1.clone()
    }

    /// Readings published.
    pub fn readings(&self) -> u64 {
        self.readings.load(Ordering::Relaxed)
    }

    /// Times that reading it failed.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

impl State {
    fn new(changed: &Arc<Notify>) -> Self {
        Self { value: Mutex::default(), changed: Arc::clone(changed) }
    }

    fn set(&self, is_up: bool, error: Option<Arc<str>>) {
        let was_up = std::mem::replace(&mut *lock(&self.value), (is_up, error)).0;
        if was_up != is_up {
            self.changed.notify_one();
        }
    }
}

fn add<T>(entries: &Mutex<Vec<Weak<T>>>, entry: &Arc<T>) {
    let mut entries = lock(entries);
    // Those that are gone would add up over reloads.
    entries.retain(|entry| entry.strong_count() > 0);
    entries.push(Arc::downgrade(entry));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_there_as_long_as_somebody_keeps_it() {
        let table = HealthTable::default();
        let meter = table.device("meter");
        let plug = table.device("plug");
        drop(meter);
        let names =
            |table: &HealthTable| table.devices().iter().map(|device| device.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&table), ["plug"]);
        let _pump = table.device("pump");
        assert_eq!(names(&table), ["plug", "pump"]);
        assert_eq!(lock(&table.devices).len(), 2, "what is gone takes no room");
        drop(plug);
    }

    #[test]
    fn a_device_that_answers_again_has_no_error_and_a_bridge_keeps_its_last() {
        let table = HealthTable::default();
        let device = table.device("meter");
        device.offline("timeout");
        assert_eq!((device.is_online(), device.error().as_deref()), (false, Some("timeout")));
        device.online();
        assert_eq!((device.is_online(), device.error()), (true, None));

        let bridge = table.bridge("cloud", Backlog::default);
        assert_eq!((bridge.is_connected(), bridge.last_error()), (false, None));
        bridge.disconnected("refused");
        bridge.connected();
        assert_eq!((bridge.is_connected(), bridge.connects()), (true, 1));
        assert_eq!(bridge.last_error().as_deref(), Some("refused"));
    }
    #[test]
    fn a_full_queue_and_a_failing_journal_are_failures_and_what_is_over_is_a_warning() {
        let table = HealthTable::default();
        assert_eq!((table.verdict(), table.verdict().level()), (Verdict::default(), Level::Ok));
        let bridge = table.bridge("cloud", || Backlog { dropped: 2, ..Backlog::default() });
        bridge.disconnected("refused");
        table.device("meter").offline("timeout");
        table.store().set_warning("3 messages cannot be read");
        let verdict = table.verdict();
        let warnings = ["3 messages cannot be read", "the full queue of the bridge cloud has dropped 2 messages"];
        assert_eq!((verdict.level(), verdict.warnings), (Level::Warning, warnings.map(str::to_owned).to_vec()));
        let _full = table.bridge("office", || Backlog { is_full: true, ..Backlog::default() });
        table.store().set_failure(Some("no space left"));
        let verdict = table.verdict();
        let failures = ["nothing can be committed: no space left", "the queue of the bridge office is full"];
        assert_eq!((verdict.level(), verdict.failures), (Level::Failed, failures.map(str::to_owned).to_vec()));
        table.store().set_failure(None);
        assert_eq!(table.verdict().failures.len(), 1);
    }
}
