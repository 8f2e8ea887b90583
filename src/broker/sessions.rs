//! Sessions by client identifier: connecting, taking over, ending, expiring, and wills.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::access::Rights;
use super::router::Origin;
use super::session_slot::{Attachment, Remains, SessionSlot, Turn, Will};
use super::{Broker, Limits, sys_topics};
use crate::clock;
use crate::mqtt::connection::Sender;
use crate::mqtt::packet::{ConnAck, Connect, Will as ConnectWill};
use crate::mqtt::{Millis, Publication, ReasonCode, Version};
use crate::net::SocketWriter;
use crate::store::{Batch, Record, SessionKind, Ticket};

/// Sessions by client identifier.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_client_id: Mutex<HashMap<Arc<str>, Arc<SessionSlot>>>,
    /// Changed while the sessions are locked.
    ends: Mutex<Ends>,
}

/// Durable sessions that have ended, with what records that. They are forgotten when the newest is committed, so that
/// there are no more of them than the journal takes without committing.
#[derive(Debug, Default)]
struct Ends {
    by_client_id: HashMap<Arc<str>, Ticket>,
    newest: Ticket,
}

/// Sessions by client identifier, locked.
type Locked<'a> = MutexGuard<'a, HashMap<Arc<str>, Arc<SessionSlot>>>;

impl Sessions {
    fn lock(&self) -> Locked<'_> {
        self.by_client_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that may connect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entering<'a> {
    pub(super) connect: &'a Connect<'a>,
    /// The client identifier that it gets where it brings none.
    pub(super) assigned_client_id: Option<&'a str>,
    /// Those of its listener.
    pub(super) limits: &'a Limits,
    pub(super) rights: &'a Rights,
}

/// A connection that has been let in.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) slot: Arc<SessionSlot>,
    pub(super) epoch: u64,
}

impl Broker {
    /// Lets a client in: finds or makes its session, takes over a connection that it still has, and puts CONNACK and
    /// what is in flight into the new connection's buffer.
    ///
    /// # Errors
    /// The reason code to refuse with.
    pub(super) fn connect(
        self: &Arc<Self>,
        entering: &Entering<'_>,
        writer: Option<SocketWriter>,
        batch: &mut Batch,
    ) -> Result<Connected, (ReasonCode, Option<SocketWriter>)> {
        let &Entering { connect, assigned_client_id: assigned, limits, rights } = entering;
        if connect.authentication_method.is_some() {
            return Err((ReasonCode::BadAuthenticationMethod, writer));
        }
        let client_id = assigned.unwrap_or(connect.client_id);
        // Now, rather than when it would be published: whoever set it up sees it.
        if let Some(will) = &connect.will
            && (!rights.may_publish(will.topic) || sys_topics::is_system(will.topic))
        {
            rights.note_unwritten(client_id, will.topic);
            return Err((ReasonCode::NotAuthorized, writer));
        }
        let now = clock::now();
        let expiry_interval = connect.session_expiry_interval.min(limits.session_expiry.unwrap_or(u32::MAX));
        let mut connack = ConnAck::new(ReasonCode::Success, false);
        connack.receive_maximum = limits.inflight;
        connack.maximum_packet_size = Some(limits.packet_bytes as u32);
        connack.topic_alias_maximum = limits.topic_aliases;
        connack.assigned_client_identifier = assigned;
        connack.session_expiry_interval =
            (expiry_interval != connect.session_expiry_interval).then_some(expiry_interval);
        connack.server_keep_alive = limits.server_keep_alive(connect);
        let mut prelude = Vec::new();
        connack.encode(connect.version, &mut prelude);
        if connect.maximum_packet_size.is_some_and(|maximum| prelude.len() > maximum as usize) {
            // What the client must know of us does not fit into what it takes [MQTT-3.1.2-24].
            return Err((ReasonCode::PacketTooLarge, writer));
        }

        // Until the connection is attached: meanwhile nobody ends the session that was found, or finds the new one.
        let mut sessions = self.sessions.lock();
        let known = sessions.get(client_id).map(Arc::clone);
        if let Some(owner) = known.as_ref().and_then(|slot| slot.owner())
            && rights.user() != Some(&owner)
        {
            drop(sessions);
            tracing::warn!(client = client_id, %owner, user = rights.user().map(display), "the client id is another user's");
            return Err((ReasonCode::ClientIdentifierNotValid, writer));
        }
        if known.is_none() && sessions.len() >= self.limits().sessions {
            drop(sessions);
            tracing::warn!(client = client_id, limit = self.limits().sessions, "too many sessions");
            return Err((ReasonCode::QuotaExceeded, writer));
        }
        let was_connected = known.as_ref().is_some_and(|slot| slot.is_connected());
        let (slot, session_present) = match known {
            Some(slot) if !connect.clean_start && slot.is_durable() => (slot, true),
            old => {
                let slot = self.new_slot(client_id.into(), SessionKind::Client);
                // The key is the old session's name where there is one.
                sessions.remove(client_id);
                sessions.insert(Arc::clone(slot.client_id()), Arc::clone(&slot));
                // A clean start ends the session that was there, its connection included [MQTT-3.1.4-3]; and one that
                // does not outlive its connection ends with that, because it is taken over.
                if let Some(old) = old {
                    self.close_session(&old, &slot, now);
                }
                (slot, false)
            }
        };
        if session_present && expiry_interval == 0 {
            // From now on nothing of it is recorded: a restart must not find it as it was.
            self.record_end(&slot);
        }
        // A client that is told that its session is gone, or that it will be, uses its identifiers for something else. A
        // restart must not find them in a session that ended before.
        let held = (!session_present || expiry_interval == 0).then(|| self.uncommitted_end(client_id)).flatten();
        slot.set_limits(limits.queue);
        slot.set_owner(rights.user());
        if session_present {
            self.router.restrict(&slot, rights);
        }
        connack.session_present = session_present && !connect.is_3_1;
        prelude.clear();
        connack.encode(connect.version, &mut prelude);
        let alias_maximum = if connect.version == Version::V5 { connect.topic_alias_maximum } else { 0 };
        let attachment = Attachment {
            sender: Sender::new(connect.version, connect.maximum_packet_size, alias_maximum),
            writer,
            window: connect.receive_maximum.min(limits.inflight),
            prelude,
            session_present: true,
            expiry_interval,
            // What we choose is announced in CONNACK [MQTT-3.2.2-21].
            keep_alive: connack.server_keep_alive.unwrap_or(connect.keep_alive),
            will: connect.will.as_ref().map(|will| Box::new(will_of(will))),
            held,
            hop: None,
        };
        slot.heard(now);
        let (epoch, old_will) = slot.attach(attachment, now, batch);
        if !was_connected {
            self.metrics.clients.enter();
        }
        drop(sessions);
        self.timers.schedule(&slot);
        if self.cancellation().is_cancelled() {
            // The broker is stopping, and may have told its connections already.
            slot.close(Some(epoch), ReasonCode::ServerShuttingDown);
        }
        if let Some(will) = old_will {
            // The connection that was taken over ended without DISCONNECT; the session goes on, so a delayed will
            // is not sent [MQTT-3.1.3-9].
            if will.delay_interval == 0 {
                self.publish_will(&slot, &will, now);
            }
        }
        Ok(Connected { slot, epoch })
    }

    /// Ends the connection of `epoch`; the session ends with it, or waits for as long as it said.
    pub(super) fn disconnected(&self, slot: &Arc<SessionSlot>, epoch: u64, publish_will: bool) {
        let now = clock::now();
        let sessions = self.sessions.lock();
        if slot.detach(epoch, publish_will, now) {
            // A bridge's session has no place among those of clients.
            if sessions.get(slot.client_id()).is_some_and(|known| Arc::ptr_eq(known, slot)) {
                self.metrics.clients.leave();
            }
            self.handle_due_locked(sessions, slot, now);
            self.timers.schedule(slot);
            self.share_queued(slot, now);
            return;
        }
        drop(sessions);
        if slot.has_ended() {
            // What this connection subscribed to while its session was being ended.
            self.router.unsubscribe_all(slot);
        }
    }

    /// Does what is due for a session: ends a connection that is silent, or what waited for its return.
    pub(super) fn handle_due(&self, slot: &Arc<SessionSlot>, now: Millis) {
        if slot.close_silent(now) {
            return;
        }
        self.handle_due_locked(self.sessions.lock(), slot, now);
    }

    /// The sessions are locked until one that ends is not found any more, so that no new connection comes in between.
    fn handle_due_locked(&self, mut sessions: Locked<'_>, slot: &Arc<SessionSlot>, now: Millis) {
        let due = slot.take_due(now);
        if due.ends {
            if sessions.get(slot.client_id()).is_some_and(|known| Arc::ptr_eq(known, slot)) {
                sessions.remove(slot.client_id());
            }
            if slot.is_durable() {
                self.metrics.expired_sessions.add(1);
            }
            if let Some(will) = due.will {
                self.publish_will(slot, &will, now);
            }
            self.close_session(slot, slot, now);
        } else if let Some(will) = due.will {
            drop(sessions);
            self.publish_will(slot, &will, now);
            slot.record_published_will();
        }
    }

    /// Changes how long a session outlives its connection, as DISCONNECT may.
    pub(super) fn change_expiry(&self, slot: &Arc<SessionSlot>, epoch: u64, seconds: u32) {
        let _sessions = self.sessions.lock();
        if slot.set_expiry_interval(epoch, seconds) {
            self.record_end(slot);
        }
    }

    /// Records the end of a durable session. The sessions are locked, so that whoever finds it gone finds this, too.
    fn record_end(&self, slot: &SessionSlot) {
        let journal = self.router.journal();
        let mut batch = Batch::default();
        batch.set_recording(journal.is_durable());
        batch.push(&Record::SessionEnd { queue: slot.queue_id() });
        self.note_end(slot, journal.append(&mut batch));
    }

    /// Notes that `ticket` is that of the end of a session.
    fn note_end(&self, slot: &SessionSlot, ticket: Ticket) {
        let journal = self.router.journal();
        if !journal.is_committed(ticket) {
            let mut ends = self.sessions.ends();
            if journal.is_committed(ends.newest) {
                ends.by_client_id.clear();
            }
            ends.newest = ticket;
            ends.by_client_id.insert(Arc::clone(slot.client_id()), ticket);
        }
    }

    /// What records the end of a session of that name, where it is not committed; somebody will be waiting for it.
    fn uncommitted_end(&self, client_id: &str) -> Option<Ticket> {
        let journal = self.router.journal();
        let ticket = *self.sessions.ends().by_client_id.get(client_id)?;
        if journal.is_committed(ticket) {
            return None;
        }
        journal.hurry(ticket);
        Some(ticket)
    }

    /// What others get of a session that has ended: messages of shared subscriptions, and a will that still waited for
    /// its delay [MQTT-3.1.3-9].
    fn hand_on(&self, slot: &Arc<SessionSlot>, remains: Remains, now: Millis) {
        if !remains.shared.is_empty() {
            self.router.deliver_again(remains.shared, now);
        }
        if let Some(will) = remains.will {
            self.publish_will(slot, &will, now);
        }
    }

    /// What waited for a member of shared subscriptions that has gone goes to the others, if one is connected.
    fn share_queued(&self, slot: &Arc<SessionSlot>, now: Millis) {
        let filters = self.router.shared_with_others(slot);
        if !filters.is_empty() {
            let mut batch = Batch::default();
            let entries = slot.take_queued(&filters, &mut batch);
            self.router.deliver_again(entries, now);
            self.router.finish(&mut batch);
        }
    }

    /// Ends a session with all that it has; a connection that it still has is taken over. Its will is published in the
    /// name of `heir`. The sessions are locked.
    fn close_session(&self, slot: &Arc<SessionSlot>, heir: &Arc<SessionSlot>, now: Millis) {
        self.router.unsubscribe_all(slot);
        let remains = slot.end(ReasonCode::SessionTakenOver);
        let on_disk = remains.shared_on_disk;
        // First what others get, then the end: a crash in between leaves both rather than neither.
        self.hand_on(heir, remains, now);
        match (on_disk, &self.pager) {
            _ if !slot.is_durable() => {}
            (Some(left), Some(pager)) => {
                self.note_end(slot, slot.record_ending(left));
                pager.hand_on(slot, left);
            }
            _ => self.record_end(slot),
        }
    }

    /// Publishes a will of the client of `slot`, which does not get it itself where it said no local [MQTT-3.8.3-3].
    fn publish_will(&self, slot: &Arc<SessionSlot>, will: &Will, now: Millis) {
        let mut message = will.message.clone();
        message.expires_at = will.expiry_interval.map(|seconds| now.plus_seconds(seconds));
        let mut batch = Batch::default();
        let mut turn = Turn { now, batch: &mut batch };
        let origin = Origin { slot: Some(slot), received: None };
        self.router.publish(&Publication::from_message(&message), origin, &mut turn);
        self.metrics.local.add(1);
        self.router.finish(&mut batch);
    }

    /// A client identifier that nobody has.
    pub(super) fn assign_client_id(&self) -> String {
        use std::hash::{BuildHasher, RandomState};
        let unique = self.router.journal().next_queue().0;
        format!("edgeway-{:016x}", RandomState::new().hash_one(unique))
    }

    /// Closes every client's connection with `reason`.
    pub(super) fn close_all(&self, reason: ReasonCode) {
        for slot in self.sessions.lock().values() {
            slot.close(None, reason);
        }
    }

    /// Sessions, connected or not.
    pub fn session_count(&self) -> usize {
        self.sessions.lock().len()
    }

    /// All sessions, connected or not, in no order.
    pub(super) fn all_sessions(&self) -> Vec<Arc<SessionSlot>> {
        self.sessions.lock().values().map(Arc::clone).collect()
    }

    /// Has a session found by its client identifier. One that was found is over.
    pub(super) fn put_session(&self, slot: &Arc<SessionSlot>) {
        let mut sessions = self.sessions.lock();
        if let Some(old) = sessions.insert(Arc::clone(slot.client_id()), Arc::clone(slot)) {
            self.close_session(&old, slot, clock::now());
        }
    }

    /// The session of a client identifier.
    pub fn session(&self, client_id: &str) -> Option<Arc<SessionSlot>> {
        self.sessions.lock().get(client_id).map(Arc::clone)
    }
}

fn will_of(will: &ConnectWill<'_>) -> Will {
    let publication = Publication::new(will.topic, will.payload, will.forwardable, will.qos, will.retain);
    Will {
        message: publication.keep().clone(),
        delay_interval: will.delay_interval,
        expiry_interval: will.message_expiry_interval,
    }
}
