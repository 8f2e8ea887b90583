//! Shared subscriptions: each message goes to one member of the group (MQTT 5.0, section 4.8.2).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::delivery::Delivery;
use super::session_slot::{Readiness, SessionSlot, Turn};
use crate::mqtt::Publication;

/// The members of one `$share/NAME/FILTER`.
#[derive(Debug)]
pub(super) struct Group {
    name: Box<str>,
    members: Vec<Member>,
    /// Whose turn it is.
    next: AtomicUsize,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) slot: Arc<SessionSlot>,
    pub(super) delivery: Arc<Delivery>,
}

impl Group {
    /// A group of that name without members.
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.into(), members: Vec::new(), next: AtomicUsize::new(0) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Adds a member, or changes how it gets its messages. `true` where it is new.
    pub(super) fn insert(&mut self, slot: &Arc<SessionSlot>, delivery: Arc<Delivery>) -> bool {
        match self.member(slot) {
            Some(member) => {
                member.delivery = delivery;
                false
            }
            None => {
                self.members.push(Member { slot: Arc::clone(slot), delivery });
                true
            }
        }
    }

    pub(super) fn member(&mut self, slot: &Arc<SessionSlot>) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| Arc::ptr_eq(&member.slot, slot))
    }

    /// `false` where `slot` was no member.
    pub(super) fn remove(&mut self, slot: &Arc<SessionSlot>) -> bool {
        let count = self.members.len();
        self.members.retain(|member| !Arc::ptr_eq(&member.slot, slot));
        self.members.len() < count
    }

    /// Whether somebody else than `slot` is connected.
    pub(super) fn has_others(&self, slot: &Arc<SessionSlot>) -> bool {
        self.members.iter().any(|member| !Arc::ptr_eq(&member.slot, slot) && member.slot.is_connected())
    }

    /// Delivers to the member whose turn it is: the next that can send at once, else one that is connected, else one
    /// whose session keeps the message until it comes back. `false` where there is none.
    pub(super) fn deliver(&self, publication: &Publication<'_>, turn: &mut Turn<'_>) -> bool {
        let count = self.members.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut best: Option<(Readiness, usize)> = None;
        for offset in 0..count {
            let index = (first.wrapping_add(offset)) % count;
            let Member { slot, delivery } = &self.members[index];
            if !delivery.may_read(publication.topic) {
                continue;
            }
            let readiness = slot.readiness();
            if readiness == Readiness::Ready {
                best = Some((readiness, index));
                break;
            }
            if best.is_none_or(|(known, _)| readiness > known) {
                best = Some((readiness, index));
            }
        }
        let Some((_, index)) = best else {
            return false;
        };
        let Member { slot, delivery } = &self.members[index];
        slot.deliver(publication, delivery, false, turn);
        true
    }
}
