//! What runs in the gateway and how it is: bridges and adapters write it, `$SYS` and the status page read it.
//!
//! Whoever runs a part keeps its entry; the table forgets it when that is dropped.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

/// All parts of the gateway that can be well or not.
#[derive(Debug, Default)]
pub struct HealthTable {
    bridges: Mutex<Vec<Weak<BridgeHealth>>>,
    devices: Mutex<Vec<Weak<DeviceHealth>>>,
    changed: Arc<Notify>,
}

/// What waits for a bridge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages in its queue.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Messages sent and not yet acknowledged.
    pub in_flight: u64,
    /// Messages that its full queue has dropped so far.
    pub dropped: u64,
}

/// How a bridge is.
pub struct BridgeHealth {
    name: Arc<str>,
    state: State,
    connects: AtomicU64,
    backlog: Box<dyn Fn() -> Backlog + Send + Sync>,
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

impl HealthTable {
    /// An entry for the bridge `name`, which is not connected yet; `backlog` tells what waits for it when it is asked,
    /// and must not wait itself.
    pub fn bridge(&self, name: &str, backlog: impl Fn() -> Backlog + Send + Sync + 'static) -> Arc<BridgeHealth> {
        let health = Arc::new(BridgeHealth {
            name: name.into(),
            state: State::new(&self.changed),
            connects: AtomicU64::new(0),
            backlog: Box::new(backlog),
        });
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

impl BridgeHealth {
    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Notes that its link stands.
    pub fn connected(&self) {
        self.connects.fetch_add(1, Ordering::Relaxed);
        let last_error = self.last_error();
        self.state.set(true, last_error);
    }

    /// Notes that it has no link, and why.
    pub fn disconnected(&self, error: &str) {
        self.state.set(false, Some(error.into()));
    }

    /// Whether its link stands.
    pub fn is_connected(&self) -> bool {
        lock(&self.state.value).0
    }

    /// Times that its link came to stand.
    pub fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// Why the last link ended or did not come about. It stays when the next one stands.
    pub fn last_error(&self) -> Option<Arc<str>> {
        lock(&self.state.value).1.clone()
    }

    /// What waits for it.
    pub fn backlog(&self) -> Backlog {
        (self.backlog)()
    }
}

impl fmt::Debug for BridgeHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BridgeHealth").field("name", &self.name).field("state", &self.state).finish_non_exhaustive()
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
}
