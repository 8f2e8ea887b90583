//! What the process before this one has left: its sessions, with all that they had, and the retained messages.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::Broker;
use super::delivery::Delivery;
use super::session_slot::{PagedEntry, Past, SessionSlot};
use crate::clock;
use crate::mqtt::session::Unsettled;
use crate::store::{Batch, Delivered, Queued, Record, Restored, RestoredSession, Sequences, SessionKind};

/// Messages that are read at once, and their bytes.
const PAGE: (usize, usize) = (256, 1024 * 1024);

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

    /// The session of a bridge: the one that the process before this one has left, or a new one. What waits there goes
    /// out as `deliveries` says, by the route that it came in by, else by the first that takes its topic; what none
    /// takes is dropped.
    ///
    /// # Errors
    /// Where messages cannot be read.
    pub fn bridge_slot(&self, name: &str, deliveries: &[Arc<Delivery>]) -> io::Result<Arc<SessionSlot>> {
        let Some(mut session) = self.orphans().remove(name) else {
            let slot = self.new_slot(name.into(), SessionKind::Bridge);
            slot.set_routes(deliveries.to_vec());
            slot.keep_for_ever();
            return Ok(slot);
        };
        let slot = self.slot_of(name.into(), SessionKind::Bridge, session.queue);
        slot.set_routes(deliveries.to_vec());
        slot.restore_notes(std::mem::take(&mut session.notes));
        self.fill(&slot, session, false)?;
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
        self.fill(&slot, session, is_shared)?;
        for (filter, options, identifier) in subscriptions {
            // What the client may read is said when it comes back.
            let delivery = Delivery::of_subscription(&filter, options, identifier, None);
            self.router.subscribe(&slot, &filter, Arc::new(delivery));
        }
        self.put_session(&slot);
        Ok(())
    }

    /// Gives a session what it had. What was in flight is read; what waited behind it is left on disk.
    fn fill(&self, slot: &Arc<SessionSlot>, session: RestoredSession, is_shared: bool) -> io::Result<()> {
        let RestoredSession { queue, state, queued, .. } = session;
        let mut unsettled = Vec::new();
        let mut batch = Batch::default();
        let (mut dropped, mut taken, mut from) = (0, 0, 0);
        // What was in flight is what is open of the first sequences: as many as the peer took, and at least up to the
        // last that bears a trace of it.
        let highest = session.received.iter().max().max(session.displaced.iter().map(|(sequence, _)| sequence).max());
        let window = usize::from(state.window);
        let was_in_flight =
            |sequence: u64, before: usize| before < window || highest.is_some_and(|&highest| sequence <= highest);
        let mut is_last = queued.messages == 0;
        while !is_last && was_in_flight(from, unsettled.len()) {
            let page = self.router.journal().read(queue, from, PAGE.0.min(window.max(1)), PAGE.1)?;
            is_last = page.is_last;
            let begin = from;
            let lost: u64 = page.lost.iter().map(|lost| lost.last - lost.first + 1).sum();
            taken += lost;
            dropped += lost;
            let end = page.lost.iter().map(|lost| lost.last + 1).max().unwrap_or(from);
            for entry in slot.entries_of(page.messages) {
                let sequence = entry.sequence();
                if !was_in_flight(sequence, unsettled.len()) {
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
                unsettled.push(Unsettled { sequence, packet_id, qos: item.qos, is_released, item });
            }
            if !is_last {
                from = from.max(end);
                is_last = from == begin;
            }
        }
        if dropped > 0 {
            tracing::warn!(
                session = %state.client_id, messages = dropped,
                "no route takes what was in flight, or it cannot be read; it is dropped"
            );
            self.metrics.dropped.add(dropped);
            self.router.finish(&mut batch);
        }
        let messages = queued.messages.saturating_sub(taken);
        let bytes = queued.bytes.checked_div(queued.messages).unwrap_or(0) * messages;
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
            waiting: Queued { messages, bytes },
            waiting_from: from,
            is_shared,
        });
        Ok(())
    }

    fn orphans(&self) -> MutexGuard<'_, Orphans> {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
