//! The router: which sessions a message goes to, and which message each topic retains.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};

use super::access::{Reading, Rights};
use super::delivery::Delivery;
use super::delivery_queue::Entry;
use super::retained::{Change, Retained};
use super::session_slot::{SessionSlot, Turn};
use super::shared::Group;
use super::trie::Trie;
use super::{Limits, sys_topics, turn};
use crate::metrics::BrokerMetrics;
use crate::mqtt::{Message, Millis, Publication, QoS, TopicFilter};
use crate::store::{Batch, Delivered, How, Journal, QueueId, Receipt, RestoredRetained, Ticket};

/// Routes messages. One lock guards all routes; nothing waits and nothing is written to a socket under it.
#[derive(Debug)]
pub struct Router {
    routes: RwLock<Routes>,
    journal: Arc<Journal>,
    metrics: Arc<BrokerMetrics>,
}

#[derive(Debug, Default)]
struct Routes {
    subscriptions: Trie<Subscription>,
    /// Groups by the filter that they share.
    shared: Trie<Group>,
    retained: Retained,
}

/// Who gets the messages that a filter matches, and how.
#[derive(Debug)]
struct Subscription {
    slot: Arc<SessionSlot>,
    delivery: Arc<Delivery>,
}

/// Who published a message.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The session; `None` for adapters and the broker itself.
    pub slot: Option<&'a Arc<SessionSlot>>,
    /// With QoS 2, from a durable session: what is received with it.
    pub received: Option<Receipt>,
}

impl Origin<'_> {
    /// The gateway itself.
    pub const LOCAL: Self = Self { slot: None, received: None };
}

thread_local! {
    /// Lists of matches, kept for the next publication.
    static MATCHES: RefCell<Vec<(Arc<SessionSlot>, Arc<Delivery>)>> = const { RefCell::new(Vec::new()) };
}

impl Router {
    /// A router without routes.
    pub fn new(journal: Arc<Journal>, metrics: Arc<BrokerMetrics>) -> Self {
        Self { routes: RwLock::default(), journal, metrics }
    }

    /// The journal that it records in.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Delivers a publication to every session that subscribed to it, and retains it where it says so.
    /// Returns whether anybody got it. [`Router::finish`] ends the batch.
    pub fn publish(&self, publication: &Publication<'_>, origin: Origin<'_>, turn: &mut Turn<'_>) -> bool {
        if publication.retain {
            self.retain(publication, origin, turn.batch);
        }
        let mut anybody = false;
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let mut lists: [&[Subscription]; 2] = [&[]; 2];
        let mut count = 0;
        routes.subscriptions.matching(publication.topic, |list| {
            if let Some(place) = lists.get_mut(count) {
                *place = list;
            }
            count += 1;
        });
        if count <= 1 {
            // One filter holds a client once, so there is nothing to merge.
            for subscription in lists[0] {
                if !subscription.is_preceded(lists[0], publication, origin) {
                    anybody |= subscription.deliver(publication, origin, turn);
                }
            }
        } else {
            anybody = publish_merged(&routes.subscriptions, publication, origin, turn);
        }
        if !routes.shared.is_empty() {
            routes.shared.matching(publication.topic, |groups| {
                for group in groups {
                    anybody |= group.deliver(publication, turn);
                }
            });
        }
        drop(routes);
        turn.batch.publish(publication, origin.received);
        anybody
    }

    /// Whether a bridge whose full queue refuses has a route that takes the publication of a client, at QoS 1 or 2.
    pub(super) fn is_refused(&self, publication: &Publication<'_>, origin: Origin<'_>) -> bool {
        // The first route of each bridge that refuses; there is hardly ever more than one.
        let mut first: Vec<&Subscription> = Vec::new();
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.subscriptions.matching(publication.topic, |list| {
            for subscription in list {
                let refuses = subscription.delivery.route.is_some() && subscription.slot.is_refusing();
                if refuses && subscription.takes(publication, origin) {
                    match first.iter_mut().find(|known| Arc::ptr_eq(&known.slot, &subscription.slot)) {
                        Some(known) if known.route_order() <= subscription.route_order() => {}
                        Some(known) => *known = subscription,
                        None => first.push(subscription),
                    }
                }
            }
        });
        first.iter().any(|subscription| subscription.delivery.qos.of(publication.qos) != QoS::AtMostOnce)
    }

    /// Ends a batch: its records are appended once, and what it touched is flushed at the end of the turn.
    /// Acknowledgements of the batch leave when the ticket is committed.
    pub fn finish(&self, batch: &mut Batch) -> Ticket {
        let ticket = self.journal.append(batch);
        turn::finish_batch();
        ticket
    }

    /// Publishes messages of the gateway itself.
    pub fn publish_all(&self, messages: &[Message], now: Millis) {
        let mut batch = Batch::default();
        let mut turn = Turn { now, batch: &mut batch };
        for message in messages {
            self.publish(&Publication::from_message(message), Origin::LOCAL, &mut turn);
        }
        self.metrics.local.add(messages.len() as u64);
        self.finish(&mut batch);
    }

    /// Subscribes `slot` to `filter`, or changes how it is delivered. `true` where the subscription is new.
    pub fn subscribe(&self, slot: &Arc<SessionSlot>, filter: &TopicFilter, delivery: Arc<Delivery>) -> bool {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let new = if let Some((name, shared)) = filter.share() {
            let group = routes.shared.find_or_insert(shared, |group| group.name() == name, || Group::new(name));
            group.insert(slot, delivery)
        } else {
            let subscription = Subscription { slot: Arc::clone(slot), delivery };
            let order = subscription_order(&subscription.delivery);
            let same = |other: &Subscription| Arc::ptr_eq(&other.slot, slot) && other.route_order() == order;
            routes.subscriptions.insert(filter.as_str(), subscription, same).is_none()
        };
        if new {
            slot.filters().push(filter.clone());
        }
        new
    }

    /// Ends a subscription. `false` where there was none.
    pub fn unsubscribe(&self, slot: &Arc<SessionSlot>, filter: &TopicFilter) -> bool {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let removed = routes.remove(slot, filter);
        if removed {
            let mut filters = slot.filters();
            if let Some(index) = filters.iter().position(|known| known == filter) {
                filters.swap_remove(index);
            }
        }
        removed
    }

    /// Ends all subscriptions of `slot`.
    pub fn unsubscribe_all(&self, slot: &Arc<SessionSlot>) {
        let filters = std::mem::take(&mut *slot.filters());
        if filters.is_empty() {
            return;
        }
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        for filter in &filters {
            routes.remove(slot, filter);
        }
    }

    /// Holds the subscriptions of a session that is resumed to what its new connection may read.
    pub(super) fn restrict(&self, slot: &Arc<SessionSlot>, rights: &Rights) {
        let filters = slot.filters().clone();
        for filter in filters {
            let readable = match rights.reading(filter.unshared()) {
                Reading::Everything => None,
                Reading::Partly(readable) => Some(readable),
                Reading::Nothing => {
                    self.unsubscribe(slot, &filter);
                    continue;
                }
            };
            let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(delivery) = routes.delivery_mut(slot, &filter)
                && delivery.readable != readable
            {
                *delivery = Arc::new(Delivery { readable, ..(**delivery).clone() });
            }
        }
    }

    /// Gives messages of shared subscriptions that a member who has gone will not acknowledge to others of their groups.
    pub(super) fn deliver_again(&self, entries: Vec<Entry>, now: Millis) {
        let mut batch = Batch::default();
        let mut turn = Turn { now, batch: &mut batch };
        for Entry { message, delivery, .. } in entries {
            let Some((name, filter)) = delivery.share.as_ref().and_then(TopicFilter::share) else {
                continue;
            };
            let publication = Publication::from_message(&message);
            let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(group) = routes.shared.find_mut(filter, |group| group.name() == name) {
                group.deliver(&publication, &mut turn);
            }
            drop(routes);
            turn.batch.publish(&publication, None);
        }
        self.finish(&mut batch);
    }

    /// The shared subscriptions of `slot` whose groups have another member that is connected.
    pub(super) fn shared_with_others(&self, slot: &Arc<SessionSlot>) -> Vec<TopicFilter> {
        let mut shared: Vec<TopicFilter> =
            slot.filters().iter().filter(|filter| filter.share().is_some()).cloned().collect();
        if !shared.is_empty() {
            let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
            shared.retain(|filter| {
                filter.share().is_some_and(|(name, filter)| {
                    let group = routes.shared.find_mut(filter, |group| group.name() == name);
                    group.is_some_and(|group| group.has_others(slot))
                })
            });
        }
        shared
    }

    /// Delivers retained messages that `filter` matches as `delivery` says, each in its newest state: those behind the
    /// topic `after`, which follows, as long as `has_room` says so. `true` where none is left.
    pub fn deliver_retained(
        &self,
        slot: &Arc<SessionSlot>,
        filter: &str,
        after: &mut Option<Arc<str>>,
        delivery: &Arc<Delivery>,
        turn: &mut Turn<'_>,
        has_room: impl Fn(&Message) -> bool,
    ) -> bool {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let begin = after.clone();
        routes.retained.matching(filter, begin.as_deref(), turn.now, |topic, stored| {
            if !has_room(&stored.message) {
                return ControlFlow::Break(());
            }
            *after = Some(Arc::clone(topic));
            let is_left_out = delivery.no_local && stored.publisher.as_ref() == Some(slot.publisher());
            if is_left_out || !delivery.may_read(topic) || !slot.goes_by(delivery, topic, stored.message.payload()) {
                return ControlFlow::Continue(());
            }
            let publication = Publication::from_message(&stored.message);
            if delivery.leaves_out(&publication) {
                return ControlFlow::Continue(());
            }
            slot.deliver(&publication, delivery, true, turn);
            turn.batch.publish(&publication, None);
            ControlFlow::Continue(())
        })
    }

    /// Retains messages that were retained before.
    pub(super) fn restore_retained(&self, retained: Vec<RestoredRetained>) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        for RestoredRetained { sequence, publisher, message } in retained {
            let publication = Publication::from_message(&message);
            routes.retained.store(&publication, publisher.as_ref(), || Some(sequence));
        }
    }

    /// Whether a retained publication finds room within `limits`.
    pub fn may_retain(&self, publication: &Publication<'_>, limits: &Limits) -> bool {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.retained.has_room(publication, limits.retained, limits.retained_bytes)
    }

    /// Retained messages.
    pub fn retained_count(&self) -> usize {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).retained.len()
    }

    /// Bytes of retained messages, with their bookkeeping.
    pub fn retained_bytes(&self) -> usize {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).retained.bytes()
    }

    /// Forgets retained messages that have expired.
    pub fn remove_expired(&self, now: Millis) {
        // Publishing goes on while nothing is found, which is the rule.
        if !self.routes.read().unwrap_or_else(PoisonError::into_inner).retained.has_expired(now) {
            return;
        }
        let expired = self.routes.write().unwrap_or_else(PoisonError::into_inner).retained.remove_expired(now);
        let mut batch = Batch::default();
        for sequence in expired {
            batch.settle(Delivered { queue: QueueId::RETAINED, sequence });
        }
        self.journal.append(&mut batch);
    }

    fn retain(&self, publication: &Publication<'_>, origin: Origin<'_>, batch: &mut Batch) {
        // The broker's own values are new every few seconds and mean nothing after a restart: no disk is worn for them.
        let is_recorded = !sys_topics::is_system(publication.topic);
        let publisher = origin.slot.map(|slot| slot.publisher());
        let next_sequence = || is_recorded.then(|| self.journal.next_retained());
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let mut change = routes.retained.replace(publication, publisher, next_sequence);
        drop(routes);
        if change.is_none() {
            let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
            change = Some(routes.retained.store(publication, publisher, next_sequence));
        }
        let Change { old, new } = change.unwrap_or_default();
        let queue = QueueId::RETAINED;
        if let Some(sequence) = old {
            batch.settle(Delivered { queue, sequence });
        }
        if let Some(sequence) = new {
            let how = How { publisher: publisher.map(|name| &**name), ..How::plain(QoS::AtLeastOnce, true) };
            batch.deliver(Delivered { queue, sequence }, &how);
        }
    }
}

impl Routes {
    fn remove(&mut self, slot: &Arc<SessionSlot>, filter: &TopicFilter) -> bool {
        let Some((name, shared)) = filter.share() else {
            return self.subscriptions.remove(filter.as_str(), |other| Arc::ptr_eq(&other.slot, slot)).is_some();
        };
        let same = |group: &Group| group.name() == name;
        let Some(group) = self.shared.find_mut(shared, same) else {
            return false;
        };
        let removed = group.remove(slot);
        if group.is_empty() {
            self.shared.remove(shared, same);
        }
        removed
    }

    fn delivery_mut(&mut self, slot: &Arc<SessionSlot>, filter: &TopicFilter) -> Option<&mut Arc<Delivery>> {
        if let Some((name, shared)) = filter.share() {
            let group = self.shared.find_mut(shared, |group| group.name() == name)?;
            return group.member(slot).map(|member| &mut member.delivery);
        }
        let mine = |other: &Subscription| Arc::ptr_eq(&other.slot, slot);
        self.subscriptions.find_mut(filter.as_str(), mine).map(|subscription| &mut subscription.delivery)
    }
}

impl Subscription {
    fn route_order(&self) -> Option<u16> {
        subscription_order(&self.delivery)
    }

    /// Whether an earlier route of the same bridge, with the same filter in `list`, takes the message.
    fn is_preceded(&self, list: &[Self], publication: &Publication<'_>, origin: Origin<'_>) -> bool {
        let order = self.route_order();
        order.is_some()
            && list.iter().any(|other| {
                Arc::ptr_eq(&other.slot, &self.slot) && other.route_order() < order && other.takes(publication, origin)
            })
    }

    fn takes(&self, publication: &Publication<'_>, origin: Origin<'_>) -> bool {
        if self.delivery.no_local && origin.slot.is_some_and(|slot| Arc::ptr_eq(slot, &self.slot)) {
            return false;
        }
        self.delivery.route.as_ref().is_none_or(|route| route.takes(publication.topic, publication.payload))
            && self.delivery.may_read(publication.topic)
    }

    fn deliver(&self, publication: &Publication<'_>, origin: Origin<'_>, turn: &mut Turn<'_>) -> bool {
        let takes = self.takes(publication, origin);
        if takes {
            hand(&self.slot, &self.delivery, publication, origin, turn);
        }
        takes
    }
}

fn subscription_order(delivery: &Delivery) -> Option<u16> {
    delivery.route.as_ref().map(|route| route.order)
}

/// Delivers to `slot`, unless its queue is full and refuses, and nobody was promised that it takes the publication.
fn hand(
    slot: &Arc<SessionSlot>,
    delivery: &Arc<Delivery>,
    publication: &Publication<'_>,
    origin: Origin<'_>,
    turn: &mut Turn<'_>,
) {
    let was_asked = || publication.qos != QoS::AtMostOnce && origin.slot.is_some_and(|slot| !slot.is_bridge());
    if delivery.leaves_out(publication) {
        return;
    }
    if delivery.route.is_some()
        && slot.is_refusing()
        && delivery.qos.of(publication.qos) != QoS::AtMostOnce
        && !was_asked()
    {
        slot.note_dropped();
        return;
    }
    slot.deliver(publication, delivery, false, turn);
}

/// Delivers to sessions that several filters matched: each gets the message once [MQTT-3.3.4-2].
fn publish_merged(
    subscriptions: &Trie<Subscription>,
    publication: &Publication<'_>,
    origin: Origin<'_>,
    turn: &mut Turn<'_>,
) -> bool {
    let mut matches = MATCHES.take();
    subscriptions.matching(publication.topic, |list| {
        for subscription in list {
            if subscription.takes(publication, origin) {
                matches.push((Arc::clone(&subscription.slot), Arc::clone(&subscription.delivery)));
            }
        }
    });
    matches.sort_by_key(|(slot, _)| Arc::as_ptr(slot));
    for same in matches.chunk_by(|(a, _), (b, _)| Arc::ptr_eq(a, b)) {
        let (slot, delivery) = &same[0];
        if same.len() == 1 {
            hand(slot, delivery, publication, origin, turn);
        } else {
            let merged = same[1..].iter().fold((**delivery).clone(), |merged, (_, other)| merged.merge(other));
            hand(slot, &Arc::new(merged), publication, origin, turn);
        }
    }
    let anybody = !matches.is_empty();
    matches.clear();
    MATCHES.set(matches);
    anybody
}
