//! The broker: sessions, routing and the tasks that drive connections.
//!
//! ```text
//! listener -> link -> Receiver -> Router -> SessionSlot (of each receiver) -> buffer -> socket
//! ```
//!
//! Lock order: sessions, a session's awaiting retained, routes, then one slot. Nothing awaits under any of them, and
//! nobody holds two slots.

pub mod access;
mod budget;
mod buffers;
pub mod delivery;
mod delivery_queue;
pub mod envelope;
mod first_values;
mod identity;
pub mod lanes;
mod limits;
pub mod link;
pub mod listener;
mod local_client;
pub mod outbox;
mod pager;
mod restore;
mod retained;
pub mod router;
pub mod session_slot;
mod sessions;
pub mod settings;
mod shared;
pub mod socket;
pub mod sys_topics;
mod timers;
pub mod trie;
pub mod turn;

#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use budget::Budget;
pub use delivery_queue::QueueLimits;
pub use limits::Limits;
pub use listener::Entrance;
pub use local_client::LocalClient;
pub use router::Router;
pub use session_slot::SessionSlot;

pub use crate::store::settings::WhenFull;

use crate::clock;
use crate::metrics::BrokerMetrics;
use crate::store::{Journal, QueueId, SessionKind};
use pager::Pager;
use sessions::Sessions;
use timers::Timers;

/// Between two looks for retained messages that have expired: until then they only take room.
const RETAINED_EXPIRY: std::time::Duration = std::time::Duration::from_secs(60);

/// Between two looks whether all queues together are beyond their limit.
const BUDGET_CHECK: std::time::Duration = std::time::Duration::from_secs(1);

/// A broker. It owns its sessions, routes and tasks; dropping it does not stop the tasks, [`Broker::stop`] does.
#[derive(Debug)]
pub struct Broker {
    /// Where messages are published and subscribed.
    pub router: Router,
    /// What it counts.
    pub metrics: Arc<BrokerMetrics>,
    /// The rules for what reaches the broker without a listener, and for the gateway itself.
    entrance: Arc<Entrance>,
    /// What all durable queues may hold together.
    budget: Arc<Budget>,
    /// Where the journal keeps anything: reads back what does not fit into memory.
    pager: Option<Arc<Pager>>,
    identity: identity::Identity,
    sessions: Sessions,
    orphans: Mutex<restore::Orphans>,
    timers: Timers,
    connected: AtomicUsize,
    tasks: TaskTracker,
    cancelled: CancellationToken,
}

impl Broker {
    /// A broker that records in `journal`. It runs its timers on the current runtime.
    pub fn start(limits: Limits, journal: Arc<Journal>) -> Arc<Self> {
        let metrics = Arc::<BrokerMetrics>::default();
        let pager = journal.is_durable().then(|| Arc::new(Pager::new(Arc::clone(&journal))));
        let broker = Arc::new(Self {
            router: Router::new(journal, Arc::clone(&metrics)),
            budget: Arc::default(),
            pager,
            metrics,
            entrance: Entrance::new(access::Access::default(), limits),
            identity: identity::Identity::default(),
            sessions: Sessions::default(),
            orphans: Mutex::default(),
            timers: Timers::default(),
            connected: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
            cancelled: CancellationToken::new(),
        });
        let timed = Arc::clone(&broker);
        broker.tasks.spawn(async move {
            timed.timers.run(timed.cancelled.clone(), |slot, now| timed.handle_due(slot, now)).await;
        });
        if let Some(pager) = broker.pager.as_ref().map(Arc::clone) {
            let paged = Arc::clone(&broker);
            broker.tasks.spawn(async move { pager.run(&paged.router, paged.cancelled.clone()).await });
        }
        let tended = Arc::clone(&broker);
        broker.tasks.spawn(async move {
            let mut interval = tokio::time::interval(BUDGET_CHECK);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = tended.cancelled.cancelled() => return,
                    _ = interval.tick() => tended.budget.tend(tended.router.journal()),
                }
            }
        });
        let forgetting = Arc::clone(&broker);
        broker.tasks.spawn(async move {
            let mut interval = tokio::time::interval(RETAINED_EXPIRY);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = forgetting.cancelled.cancelled() => return,
                    _ = interval.tick() => forgetting.router.remove_expired(clock::now()),
                }
            }
        });
        broker
    }

    /// What all durable queues may hold together.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// What all clients are allowed together, and each where its listener says nothing else.
    pub fn limits(&self) -> &Limits {
        &self.entrance.limits
    }

    /// The rules for what reaches the broker without a listener: everybody may do everything.
    pub fn entrance(&self) -> &Arc<Entrance> {
        &self.entrance
    }

    /// Cancelled when the broker stops.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// The broker's tasks.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Stops: no more connections, DISCONNECT 0x8B for those there are, and waits for their tasks.
    pub async fn stop(&self) {
        self.cancelled.cancel();
        self.close_all(crate::mqtt::ReasonCode::ServerShuttingDown);
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A session that nobody finds by its name yet.
    fn new_slot(&self, name: Arc<str>, kind: SessionKind) -> Arc<SessionSlot> {
        let queue = self.router.journal().next_queue();
        self.slot_of(name, kind, queue)
    }

    fn slot_of(&self, name: Arc<str>, kind: SessionKind, queue: QueueId) -> Arc<SessionSlot> {
        let (journal, metrics) = (Arc::clone(self.router.journal()), Arc::clone(&self.metrics));
        let slot = SessionSlot::new(name, kind, queue, self.limits().queue, journal, metrics);
        slot.set_storage(&self.budget, self.pager.as_ref());
        slot
    }
}
