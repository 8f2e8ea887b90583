//! What a session's queue has on disk: reading it back, and holding it to the bounds of all queues.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::outgoing::{Attached, Outgoing};
use super::{SessionSlot, Waiting};
use crate::broker::budget::{Budget, Charge};
use crate::broker::delivery::{Delivery, DeliveryQoS, RetainRule};
use crate::broker::delivery_queue::{Entry, PageAt, PageRequest, QueueLimits};
use crate::broker::pager::Pager;
use crate::clock;
use crate::mqtt::{Millis, TopicFilter};
use crate::store::settings::WhenFull;
use crate::store::{Batch, Delivered, Journal, Page, PagedMessage, QueueId, Sequences, SessionKind};

/// A message that was read back.
#[derive(Debug)]
pub(in crate::broker) enum PagedEntry {
    /// As it waits in the queue.
    Entry(Entry),
    /// The sequence of one that no route of the bridge takes any more.
    Astray(u64),
}

impl PagedEntry {
    /// Its sequence.
    pub(in crate::broker) fn sequence(&self) -> u64 {
        match self {
            Self::Entry(entry) => entry.sequence.unwrap_or_default(),
            Self::Astray(sequence) => *sequence,
        }
    }
}

impl SessionSlot {
    /// Has the queue count in `budget`, and, with a pager, leave to the journal what does not fit into memory.
    pub(in crate::broker) fn set_storage(&self, budget: &Arc<Budget>, pager: Option<&Arc<Pager>>) {
        let mut outgoing = self.lock();
        outgoing.charge = Some(Charge::new(budget));
        outgoing.pager = pager.map(Arc::clone);
    }

    /// Gives a bridge's session its routes, in their order: what waits on disk is sent by them.
    pub(in crate::broker) fn set_routes(&self, routes: Vec<Arc<Delivery>>) {
        // They do not change as long as the bridge lives.
        let _ = self.routes.set(routes);
    }

    /// A bridge's routes, in their order.
    pub(in crate::broker) fn routes(&self) -> &[Arc<Delivery>] {
        self.routes.get().map_or(&[], Vec::as_slice)
    }

    /// The bounds of its queue for another message of `size`.
    pub(in crate::broker) fn limits_for(&self, size: usize) -> QueueLimits {
        self.lock().limits_for(size, self)
    }

    /// Whether it is a bridge's.
    pub(in crate::broker) fn is_bridge(&self) -> bool {
        self.kind == SessionKind::Bridge
    }

    /// Whether its queue is full and refuses.
    pub(in crate::broker) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    /// Counts a message that its full queue has not taken.
    pub(in crate::broker) fn note_dropped(&self) {
        self.lock().count_dropped(self, 1);
    }

    /// Messages that were read back, as they wait in the queue.
    pub(in crate::broker) fn entries_of(
        &self,
        lane: u8,
        messages: Vec<PagedMessage>,
    ) -> impl Iterator<Item = PagedEntry> {
        let mut known = None;
        messages.into_iter().map(move |paged| entry_of(paged, lane, self.routes.get(), &mut known))
    }

    /// The page to read next, with its lane and that one's queue in the journal. `None` where none is wanted: then it
    /// asks again when that changes.
    pub(in crate::broker) fn next_page(&self, journal: &Journal) -> Option<(u8, QueueId, PageAt)> {
        let mut outgoing = self.lock();
        let page = match outgoing.attached {
            Attached::Wire(_) => outgoing.queue.next_page(journal),
            _ => None,
        };
        outgoing.is_paging = page.is_some();
        page.map(|(lane, page)| (lane, outgoing.queue_id(self, lane), page))
    }

    /// Puts what was read into the queue, and sends as much as the connection takes.
    pub(in crate::broker) fn put_page(
        self: &Arc<Self>,
        lane: u8,
        request: PageRequest,
        page: Page,
        now: Millis,
        batch: &mut Batch,
    ) {
        let end = request.end_of(&page);
        let mut entries = Vec::with_capacity(page.messages.len());
        let mut astray = Vec::new();
        for entry in self.entries_of(lane, page.messages) {
            match entry {
                PagedEntry::Entry(entry) => entries.push(entry),
                PagedEntry::Astray(sequence) => astray.push(sequence),
            }
        }
        let mut guard = self.lock();
        let outgoing = &mut *guard;
        if outgoing.ended {
            return;
        }
        // What has been dropped meanwhile is neither lost nor astray.
        let first = outgoing.queue.first_on_disk(lane).unwrap_or(end);
        let lost: u64 =
            page.lost.iter().map(|lost| (lost.last + 1).min(end).saturating_sub(lost.first.max(first))).sum();
        astray.retain(|sequence| (first..end).contains(sequence));
        for outdated in outgoing.queue.put_page(lane, entries, end, now) {
            outgoing.record_over(self, &outdated, batch);
        }
        let queue = outgoing.queue_id(self, lane);
        for &sequence in &astray {
            batch.settle(Delivered { queue, sequence });
        }
        outgoing.count_dropped(self, lost + astray.len() as u64);
        outgoing.pump(self, now, batch);
        drop(guard);
        if lost > 0 {
            tracing::warn!(client = %self.client_id, messages = lost, "messages on disk cannot be read any more");
        }
        if !astray.is_empty() {
            tracing::warn!(client = %self.client_id, messages = astray.len(), "no route takes these messages any more");
        }
    }

    /// Drops the oldest of what is beyond `share`, up to `excess` bytes, where this queue drops the oldest; and looks
    /// whether it has room again.
    pub(in crate::broker) fn trim(self: &Arc<Self>, excess: u64, share: u64, batch: &mut Batch) {
        let mut guard = self.lock();
        let outgoing = &mut *guard;
        let begin = outgoing.queue.bytes() as u64;
        let least = share.max(begin.saturating_sub(excess));
        if outgoing.charges(self) && outgoing.when_full(self) == WhenFull::DropOldest && excess > 0 {
            let mut dropped = 0;
            while let Some(beyond) = (outgoing.queue.bytes() as u64).checked_sub(least).filter(|&beyond| beyond > 0) {
                match outgoing.queue.drop_oldest(beyond, |queue, sequences| {
                    batch.settle_all(queue.unwrap_or(self.queue_id), sequences);
                }) {
                    0 => break,
                    count => dropped += count,
                }
            }
            if dropped > 0 {
                outgoing.full_since.get_or_insert_with(clock::now);
                outgoing.count_dropped(self, dropped);
            }
        }
        outgoing.note_size(self);
    }
}

impl Outgoing {
    /// What happens when the queue is full.
    pub(super) fn when_full(&self, slot: &SessionSlot) -> WhenFull {
        match self.limits.when_full {
            // A client never holds up others.
            WhenFull::Refuse if !slot.is_bridge() => WhenFull::DropOldest,
            when_full => when_full,
        }
    }

    /// The bounds for another message of `size` bytes.
    pub(super) fn limits_for(&self, size: usize, slot: &SessionSlot) -> QueueLimits {
        let mut limits = QueueLimits { when_full: self.when_full(slot), ..self.limits };
        if let Some(charge) = self.charge.as_ref().filter(|_| self.charges(slot)) {
            let allowance = charge.budget().allowance(charge.bytes(), size as u64);
            limits.bytes = limits.bytes.min(usize::try_from(allowance).unwrap_or(usize::MAX));
        }
        limits
    }

    /// To be called when the queue has changed: tells the budget, asks for a page, and notes whether there is room.
    pub(super) fn note_size(&mut self, slot: &Arc<SessionSlot>) {
        let is_counted = self.charges(slot);
        if let Some(charge) = &mut self.charge {
            // Most are in memory, of clients.
            if self.pager.is_some() || slot.is_bridge() {
                let bytes = if is_counted { self.queue.bytes() as u64 } else { 0 };
                charge.set(bytes, slot);
            }
            if self.full_since.is_some() || self.limits.when_full == WhenFull::Refuse {
                self.note_fullness(slot);
            }
        }
        if self.queue.wants_page()
            && !self.is_paging
            && matches!(self.attached, Attached::Wire(_))
            && let Some(pager) = &self.pager
        {
            self.is_paging = true;
            pager.ask(slot);
        }
    }

    fn note_fullness(&mut self, slot: &Arc<SessionSlot>) {
        let QueueLimits { messages, bytes, .. } = self.limits;
        let (waiting, waiting_bytes) = (self.queue.len(), self.queue.bytes());
        let charged = self.charge.as_ref().filter(|_| self.charges(slot));
        let is_tight = waiting >= messages - messages / 8
            || waiting_bytes >= bytes - bytes / 8
            || charged.is_some_and(|charge| charge.budget().is_tight(charge.bytes()));
        let is_full = waiting >= messages
            || waiting_bytes >= bytes
            || charged.is_some_and(|charge| charge.budget().is_spent(charge.bytes()));
        let refuses = self.when_full(slot) == WhenFull::Refuse;
        if refuses && is_full {
            self.full_since.get_or_insert_with(clock::now);
        }
        if !is_tight {
            self.full_since = None;
        }
        let is_refusing = refuses && self.full_since.is_some();
        if let Some(charge) = &mut self.charge
            && charge.set_refusing(is_refusing, slot)
        {
            slot.refusing.store(is_refusing, Ordering::Relaxed);
        }
    }

    /// Whether the queue counts in the budget: those on disk, and those of bridges.
    fn charges(&self, slot: &SessionSlot) -> bool {
        self.durable && (self.pager.is_some() || slot.is_bridge())
    }

    pub(super) fn count_dropped(&mut self, slot: &SessionSlot, count: u64) {
        self.counts.dropped += count;
        slot.metrics.dropped.add(count);
    }
}

/// A message that was read back. `known` is the delivery of the
/// last one: most are like it.
fn entry_of(
    paged: PagedMessage,
    lane: u8,
    routes: Option<&Vec<Arc<Delivery>>>,
    known: &mut Option<Arc<Delivery>>,
) -> PagedEntry {
    let PagedMessage { sequence, qos, retain, identifiers, share, route, since, message } = paged;
    let delivery = if let Some(name) = route {
        let routes = routes.map_or(&[][..], Vec::as_slice);
        let takes = |delivery: &&Arc<Delivery>, same: bool| {
            delivery.route.as_ref().is_some_and(|route| {
                route.takes(message.topic(), message.payload())
                    && if same { route.name == name } else { route.remap.from().matches(message.topic()) }
            })
        };
        // Where the route has gone from the configuration, the first of those that are there.
        let found = routes.iter().find(|delivery| takes(delivery, true));
        let found = found.or_else(|| routes.iter().find(|delivery| takes(delivery, false)));
        match found {
            Some(delivery) => Arc::clone(delivery),
            None => return PagedEntry::Astray(sequence),
        }
    } else {
        let is_same = |delivery: &&Arc<Delivery>| {
            delivery.route.is_none()
                && delivery.identifiers == identifiers
                && delivery.share.as_ref().map(TopicFilter::as_str) == share.as_deref()
        };
        match known.as_ref().filter(is_same) {
            Some(delivery) => Arc::clone(delivery),
            None => Arc::new(Delivery {
                qos: DeliveryQoS::Exactly(qos),
                retain: RetainRule::AsPublished,
                no_local: false,
                identifiers,
                readable: None,
                share: share.and_then(|share| TopicFilter::new(&share).ok()),
                route: None,
            }),
        }
    };
    *known = Some(Arc::clone(&delivery));
    let since = since.unwrap_or_else(clock::now);
    let sequence = Some(sequence);
    PagedEntry::Entry(Entry { lane, sequence, since, message, qos, retain, delivery, pending: None, settles: None })
}

/// The sequences of one message.
pub(super) fn one(sequence: u64) -> Sequences {
    Sequences { first: sequence, last: sequence }
}

impl Waiting {
    /// Whether its queue is full, or was until little less waited: since when.
    pub fn is_full(&self) -> bool {
        self.full_since.is_some()
    }
}
