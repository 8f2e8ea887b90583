//! What the process before this one has left: its sessions, with all that they had, and the retained messages.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::Broker;
use super::delivery::Delivery;
use super::delivery_queue::Entry;
use super::session_slot::{Past, SessionSlot};
use crate::clock;
use crate::mqtt::TopicFilter;
use crate::mqtt::session::Unsettled;
use crate::store::{Batch, Delivered, PagedMessage, Record, Restored, RestoredSession, SessionKind};

/// Messages that are read at once, and their bytes.
const PAGE: (usize, usize) = (256, 1024 * 1024);

/// Sessions of bridges that no bridge has asked for yet, by their names.
pub(super) type Orphans = HashMap<Arc<str>, RestoredSession>;

impl Broker {
    /// Brings back what the journal has. To be called before anybody connects, publishes or makes a bridge.
    ///
    /// A session that had a connection goes on as if it had ended now: it expires, and its will is published, as long
    /// after that as the client said.
    ///
    /// # Errors
    /// Where messages cannot be read. Nothing is lost; but the broker has not all that it should have.
    pub fn restore(&self, restored: Restored) -> io::Result<()> {
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
        let Some(session) = self.orphans().remove(name) else {
            let slot = self.new_slot(name.into(), SessionKind::Bridge);
            slot.keep_for_ever();
            return Ok(slot);
        };
        let slot = self.slot_of(name.into(), SessionKind::Bridge, session.queue);
        self.fill(&slot, session, |message| route_of(message, deliveries))?;
        Ok(slot)
    }

    /// Ends the sessions of bridges that no bridge has asked for. To be called when all have been made.
    pub fn drop_orphans(&self) {
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
        let subscriptions = std::mem::take(&mut session.subscriptions);
        // Mostly there are no identifiers and no shares, so that all share one.
        let mut last: Option<Arc<Delivery>> = None;
        self.fill(&slot, session, |message| {
            let share = message.share.as_deref().and_then(|share| TopicFilter::new(share).ok());
            let delivery = match last.take() {
                Some(last) if last.identifiers == message.identifiers && last.share == share => last,
                _ => Arc::new(Delivery {
                    identifiers: message.identifiers.clone(),
                    share,
                    ..Delivery::at_most(message.qos)
                }),
            };
            last = Some(Arc::clone(&delivery));
            Some(delivery)
        })?;
        for (filter, options, identifier) in subscriptions {
            // What the client may read is said when it comes back.
            let delivery = Delivery::of_subscription(&filter, options, identifier, None);
            self.router.subscribe(&slot, &filter, Arc::new(delivery));
        }
        self.put_session(&slot);
        self.timers.schedule(&slot);
        Ok(())
    }

    /// Gives a session what it had. `delivery_of` says how each message goes out, or that it does not.
    fn fill(
        &self,
        slot: &SessionSlot,
        session: RestoredSession,
        mut delivery_of: impl FnMut(&PagedMessage) -> Option<Arc<Delivery>>,
    ) -> io::Result<()> {
        let RestoredSession { queue, state, .. } = session;
        let (mut unsettled, mut waiting) = (Vec::new(), Vec::new());
        let mut batch = Batch::default();
        let mut dropped = 0;
        // What was in flight is what is open of the first sequences: as many as the peer took, and at least up to the
        // last that bears a trace of it.
        let highest = session.received.iter().max().max(session.displaced.iter().map(|(sequence, _)| sequence).max());
        self.read_queue(queue, |message| {
            let sequence = message.sequence;
            let Some(delivery) = delivery_of(&message) else {
                dropped += 1;
                batch.settle(Delivered { queue, sequence });
                return;
            };
            let PagedMessage { qos, retain, message, .. } = message;
            let item = Entry { sequence: Some(sequence), message, qos, retain, delivery, pending: None };
            if unsettled.len() < usize::from(state.window) || highest.is_some_and(|&highest| sequence <= highest) {
                let displaced = session.displaced.iter().find(|(displaced, _)| *displaced == sequence);
                let packet_id = displaced.map(|&(_, packet_id)| packet_id);
                let is_released = session.received.contains(&sequence);
                unsettled.push(Unsettled { sequence, packet_id, qos, is_released, item });
            } else {
                waiting.push(item);
            }
        })?;
        if dropped > 0 {
            tracing::warn!(bridge = %state.client_id, messages = dropped, "no route takes what waited; it is dropped");
            self.metrics.dropped.add(dropped);
            self.router.finish(&mut batch);
        }
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
        });
        Ok(())
    }

    fn read_queue(&self, queue: crate::store::QueueId, mut take: impl FnMut(PagedMessage)) -> io::Result<()> {
        let mut from = 0;
        loop {
            let page = self.router.journal().read(queue, from, PAGE.0, PAGE.1)?;
            let newest = page.messages.last().map(|message| message.sequence);
            let next = newest.max(page.lost.iter().map(|lost| lost.last).max()).map(|last| last + 1);
            page.messages.into_iter().for_each(&mut take);
            match next {
                Some(next) if !page.is_last => from = next,
                _ => return Ok(()),
            }
        }
    }

    fn orphans(&self) -> MutexGuard<'_, Orphans> {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a message goes out that came in by a route of a bridge, which may have other routes now.
fn route_of(message: &PagedMessage, deliveries: &[Arc<Delivery>]) -> Option<Arc<Delivery>> {
    let by_name = deliveries
        .iter()
        .find(|delivery| delivery.route.as_ref().is_some_and(|route| message.route.as_deref() == Some(&*route.name)));
    let topic = message.message.topic();
    let takes = |delivery: &&Arc<Delivery>| {
        delivery.route.as_ref().is_some_and(|route| route.remap.from().matches(topic) && route.takes(topic))
    };
    by_name.or_else(|| deliveries.iter().find(takes)).map(Arc::clone)
}
