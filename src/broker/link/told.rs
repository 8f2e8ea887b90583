//! What a server that we have dialled says apart from messages: of subscriptions, and why it parts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::mqtt::packet::{Disconnect, SubAck};
use crate::mqtt::{QoS, ReasonCode, TopicFilter};

/// What the server of one connection has said; its link writes it, its bridge reads it.
#[derive(Debug, Default)]
pub struct Answers {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// SUBSCRIBEs without an answer, in their order.
    subscribing: VecDeque<(TopicFilter, QoS)>,
    /// UNSUBSCRIBEs without an answer.
    unsubscribing: VecDeque<String>,
    /// What our session there is subscribed to.
    subscribed: BTreeMap<String, QoS>,
    has_changed: bool,
    refused: Vec<(TopicFilter, ReasonCode)>,
    parting: Option<Parting>,
}

/// A DISCONNECT of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parting {
    /// Why.
    pub reason: ReasonCode,
    /// What it said for people.
    pub text: Option<String>,
    /// Another server to use.
    pub server: Option<String>,
}

impl Answers {
    /// Takes what the session was subscribed to before, what it is being subscribed to now, and what no more.
    pub(super) fn begin(
        &self,
        subscribed: BTreeMap<String, QoS>,
        subscribing: impl IntoIterator<Item = (TopicFilter, QoS)>,
        unsubscribing: impl IntoIterator<Item = String>,
    ) {
        let mut told = self.lock();
        told.subscribed = subscribed;
        told.has_changed = true;
        told.subscribing.extend(subscribing);
        told.unsubscribing.extend(unsubscribing);
    }

    /// Takes the answer to the oldest SUBSCRIBE; each had one filter.
    pub(super) fn handle_suback(&self, suback: &SubAck<'_>) {
        let mut told = self.lock();
        for reason in suback.reasons() {
            let Some((filter, qos)) = told.subscribing.pop_front() else {
                return;
            };
            if reason.is_error() {
                told.refused.push((filter, reason));
            } else {
                told.subscribed.insert(filter.as_str().to_owned(), qos);
                told.has_changed = true;
            }
        }
    }

    /// Takes the answer to the oldest UNSUBSCRIBE.
    pub(super) fn handle_unsuback(&self) {
        let mut told = self.lock();
        if let Some(filter) = told.unsubscribing.pop_front() {
            told.subscribed.remove(&filter);
            told.has_changed = true;
        }
    }

    pub(super) fn handle_disconnect(&self, disconnect: &Disconnect<'_>) {
        self.lock().parting = Some(Parting {
            reason: disconnect.reason,
            text: disconnect.reason_string.map(Into::into),
            server: disconnect.server_reference.map(Into::into),
        });
    }

    /// Takes the subscriptions that were refused since it was asked last.
    pub fn take_refused(&self) -> Vec<(TopicFilter, ReasonCode)> {
        std::mem::take(&mut self.lock().refused)
    }

    /// What the session is subscribed to, where that has changed since it was asked last.
    pub fn take_subscribed(&self) -> Option<BTreeMap<String, QoS>> {
        let mut told = self.lock();
        std::mem::take(&mut told.has_changed).then(|| told.subscribed.clone())
    }

    /// What it said when it parted.
    pub fn parting(&self) -> Option<Parting> {
        self.lock().parting.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
