//! What the process before this one has left: its sessions, with all that they had, and the retained messages.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::Broker;
use super::delivery::Delivery;
use super::delivery_queue::Entry;
use super::lanes::{self, Keeps, Lane, LaneSettings, Rank, SEPARATOR, lane_name};
use super::session_slot::{PagedEntry, Past, SessionSlot};
use crate::clock;
use crate::mqtt::session::{Unsettled, in_lane};
use crate::store::{Batch, Delivered, Queued, Record, Restored, RestoredSession, Sequences, SessionKind};

/// Messages that are read at once, and their bytes.
const PAGE: (usize, usize) = (256, 1024 * 1024);

/// Lanes that a bridge has at most, beside the normal one.
const MOST_LANES: usize = 255;

/// What was in flight of a lane, and what waited behind it.
#[derive(Debug)]
struct InFlight {
    unsettled: Vec<Unsettled<Entry>>,
    waiting: Queued,
    /// Where what waits begins.
    from: u64,
}

/// Sessions of bridges that no bridge has asked for yet, by their names.
pub(super) type Orphans = HashMap<Arc<str>, RestoredSession>;

impl Broker {
    /// Brings back what the journal has. To be called before anybody connects, publishes or makes a bridge;
    /// [`Broker::end_restoring`] follows.
    ///
    /// A session that had a connection goes on as if it had ended now: it expires, and its will is published, as long
    /// after that as the client said.
    ///
    /// # Errors
    /// Where messages cannot be read. Nothing is lost; but the broker has not all that it should have.
    pub fn restore(&self, restored: Restored) -> io::Result<()> {
        self.restore_identity(&restored.notes);
        self.router.restore_retained(restored.retained);
        for session in restored.sessions {
            match session.state.kind {
                SessionKind::Client => self.restore_client(session)?,
                SessionKind::Bridge => {
                    let name = Arc::clone(&session.state.client_id);
                    if let Some(older) = self.orphans().insert(name, session) {
                        self.end_orphan(&older);
                    }
                }
            }
        }
        Ok(())
    }

    /// The session of a bridge: the one that the process before this one has left, or a new one, with `lanes` beside the
    /// normal one. What waits there goes out as `deliveries` says, by the route that it came in by, else by the first
    /// that takes its topic; what none takes is dropped. A lane that is not configured any more is emptied.
    ///
    /// # Errors
    /// Where messages cannot be read.
    pub fn bridge_slot(
        &self,
        name: &str,
        deliveries: &[Arc<Delivery>],
        lanes: &[LaneSettings],
    ) -> io::Result<Arc<SessionSlot>> {
        let mut session = self.orphans().remove(name);
        let queue = session.as_ref().map_or_else(|| self.router.journal().next_queue(), |session| session.queue);
        let slot = self.slot_of(name.into(), SessionKind::Bridge, queue);
        slot.set_routes(deliveries.to_vec());
        if let Some(session) = &mut session {
            slot.restore_notes(std::mem::take(&mut session.notes));
        }
        let mut past = Vec::new();
        let mut known: Vec<Lane> = Vec::new();
        for settings in lanes {
            let name = lane_name(name, &settings.name);
            let session = self.orphans().remove(&name);
            let queue = session.as_ref().map_or_else(|| self.router.journal().next_queue(), |session| session.queue);
            known.push(Lane::new(settings, name, queue));
            past.push(session);
        }
        let left: Vec<Arc<str>> = {
            let orphans = self.orphans();
            let of_this = |other: &&Arc<str>| other.strip_prefix(name).is_some_and(|rest| rest.starts_with(SEPARATOR));
            orphans.keys().filter(of_this).cloned().collect()
        };
        for name in left {
            let Some(session) = self.orphans().remove(&name) else { continue };
            if session.queued.messages == 0 || known.len() >= MOST_LANES {
                self.end_orphan(&session);
            } else {
                known.push(Lane::new(&LaneSettings::plain(Rank::Normal), name, session.queue));
                past.push(Some(session));
            }
        }
        let keeps: Vec<Keeps> = known.iter().map(Lane::keeps).collect();
        slot.set_lanes(known);
        let mut unsettled = Vec::new();
        for ((at, past), keeps) in (1..).zip(past).zip(keeps) {
            let Some(session) = past else { continue };
            let next_number = session.next_sequence;
            let InFlight { unsettled: more, waiting, from } = self.read_in_flight(&slot, at, keeps, &session)?;
            slot.restore_lane(at, next_number, waiting, from);
            unsettled.extend(more);
        }
        match session {
            Some(session) => self.fill(&slot, session, false, unsettled)?,
            None => slot.keep_for_ever(),
        }
        Ok(slot)
    }

    /// Ends the sessions of bridges that no bridge has asked for, and has wills and ends of sessions come in their time.
    /// To be called when all bridges have been made, so that nothing is published before it is routed.
    pub fn end_restoring(&self) {
        self.drop_orphans();
        if let Some(pager) = &self.pager {
            pager.begin_handing_on();
        }
        for slot in self.all_sessions() {
            self.timers.schedule(&slot);
        }
    }

    fn drop_orphans(&self) {
        for (name, orphan) in self.orphans().drain() {
            let messages = orphan.queued.messages;
            tracing::warn!(bridge = %name, messages, "the bridge is not configured any more; what waited for it is dropped");
            self.metrics.dropped.add(messages);
            self.end_orphan(&orphan);
        }
    }

    fn end_orphan(&self, orphan: &RestoredSession) {
        let mut batch = Batch::default();
        batch.push(&Record::SessionEnd { queue: orphan.queue });
        self.router.finish(&mut batch);
    }

    fn restore_client(&self, mut session: RestoredSession) -> io::Result<()> {
        let slot = self.slot_of(Arc::clone(&session.state.client_id), SessionKind::Client, session.queue);
        if session.state.expiry_interval == 0
            && let Some(pager) = &self.pager
        {
            // It ended while others still got what it had.
            let last = session.next_sequence.saturating_sub(1);
            pager.hand_on(&slot, Sequences { first: 0, last });
            return Ok(());
        }
        let subscriptions = std::mem::take(&mut session.subscriptions);
        let is_shared = subscriptions.iter().any(|(filter, ..)| filter.share().is_some());
        self.fill(&slot, session, is_shared, Vec::new())?;
        for (filter, options, identifier) in subscriptions {
            // What the client may read is said when it comes back.
            let delivery = Delivery::of_subscription(&filter, options, identifier, None);
            self.router.subscribe(&slot, &filter, Arc::new(delivery));
        }
        self.put_session(&slot);
        Ok(())
    }

    /// Gives a session what it had. What was in flight is read, beside what its other lanes had in flight; what waited
    /// behind it is left on disk.
    fn fill(
        &self,
        slot: &Arc<SessionSlot>,
        session: RestoredSession,
        is_shared: bool,
        of_lanes: Vec<Unsettled<Entry>>,
    ) -> io::Result<()> {
        let InFlight { mut unsettled, waiting, from } =
            self.read_in_flight(slot, lanes::NORMAL, Keeps::First, &session)?;
        unsettled.extend(of_lanes);
        let state = session.state;
        slot.restore(Past {
            owner: state.owner,
            expiry_interval: state.expiry_interval,
            will: state.will.map(Into::into),
            away_since: session.away_since.unwrap_or_else(clock::now),
            is_known_away: session.away_since.is_some(),
            window: state.window,
            next_sequence: session.next_sequence,
            next_receipt: session.next_receipt,
            receipts: session.receipts,
            unsettled,
            waiting,
            waiting_from: from,
            is_shared,
        });
        Ok(())
    }

    /// Reads what was in flight of a lane.
    fn read_in_flight(
        &self,
        slot: &Arc<SessionSlot>,
        lane: u8,
        keeps: Keeps,
        session: &RestoredSession,
    ) -> io::Result<InFlight> {
        let RestoredSession { queue, state, queued, .. } = session;
        let queue = *queue;
        let mut unsettled = Vec::new();
        let mut batch = Batch::default();
        let (mut dropped, mut taken, mut from) = (0, 0, 0);
        // What was in flight is what is open of the first sequences: up to the last that bears a trace of it, and behind
        // that as many as the peer took. For what is settled at the peer may be open here, not being committed.
        let highest = session.received.iter().max().max(session.displaced.iter().map(|(sequence, _)| sequence).max());
        let window = match keeps {
            Keeps::First => usize::from(state.window),
            Keeps::Traced | Keeps::Nothing => 0,
        };
        let bears_a_trace = |sequence: u64| highest.is_some_and(|&highest| sequence <= highest);
        let mut behind = 0;
        let was_in_flight = |sequence: u64, before: usize| {
            let bears_a_trace = bears_a_trace(sequence);
            before < window || (bears_a_trace && keeps != Keeps::Nothing)
        };
        let mut is_last = queued.messages == 0;
        while !is_last && was_in_flight(from, behind) {
            let page = self.router.journal().read(queue, from, PAGE.0.min(window.max(1)), PAGE.1)?;
            is_last = page.is_last;
            let begin = from;
            let lost: u64 = page.lost.iter().map(|lost| lost.last - lost.first + 1).sum();
            taken += lost;
            dropped += lost;
            let end = page.lost.iter().map(|lost| lost.last + 1).max().unwrap_or(from);
            for entry in slot.entries_of(lane, page.messages) {
                let sequence = entry.sequence();
                if !was_in_flight(sequence, behind) {
                    is_last = true;
                    break;
                }
                taken += 1;
                from = sequence + 1;
                let item = match entry {
                    PagedEntry::Entry(item) => item,
                    PagedEntry::Astray(_) => {
                        dropped += 1;
                        batch.settle(Delivered { queue, sequence });
                        continue;
                    }
                };
                let displaced = session.displaced.iter().find(|(displaced, _)| *displaced == sequence);
                let packet_id = displaced.map(|&(_, packet_id)| packet_id);
                let is_released = session.received.contains(&sequence);
                behind += usize::from(!bears_a_trace(sequence));
                let sequence = in_lane(lane, sequence);
                unsettled.push(Unsettled { sequence, packet_id, qos: item.qos, is_released, item });
            }
            if !is_last {
                from = from.max(end);
                is_last = from == begin;
            }
        }
        if dropped > 0 {
            tracing::warn!(
                session = %slot.client_id(), messages = dropped,
                "no route takes what was in flight, or it cannot be read; it is dropped"
            );
            self.metrics.dropped.add(dropped);
            self.router.finish(&mut batch);
        }
        let messages = queued.messages.saturating_sub(taken);
        let bytes = queued.bytes.checked_div(queued.messages).unwrap_or(0) * messages;
        Ok(InFlight { unsettled, waiting: Queued { messages, bytes }, from })
    }

    fn orphans(&self) -> MutexGuard<'_, Orphans> {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
