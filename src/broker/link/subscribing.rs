//! SUBSCRIBE and UNSUBSCRIBE of a client, and their answers.

use std::sync::Arc;

use super::exchange::Exchange;
use super::reading::Reading;
use crate::broker::access::Reading as Readable;
use crate::broker::delivery::Delivery;
use crate::broker::session_slot::AwaitingRetained;
use crate::mqtt::codec::CodecError;
use crate::mqtt::packet::{RetainHandling, SubAck, Subscribe, Unsubscribe};
use crate::mqtt::{Packet, ReasonCode, TopicFilter};
use crate::store::Record;

impl Exchange {
    pub(super) fn handle_subscribe(&mut self, subscribe: &Subscribe<'_>, reading: &mut Reading) {
        let mut codes = Vec::new();
        for (filter, options) in subscribe.filters.iter() {
            let Ok(filter) = TopicFilter::new(filter) else {
                codes.push(ReasonCode::TopicFilterInvalid as u8);
                continue;
            };
            let limits = &self.entrance.limits;
            if !limits.allow_topic(filter.unshared()) {
                codes.push(ReasonCode::TopicFilterInvalid as u8);
                continue;
            }
            let is_full = {
                let filters = self.slot.filters();
                filters.len() >= limits.subscriptions && !filters.contains(&filter)
            };
            if is_full {
                codes.push(ReasonCode::QuotaExceeded as u8);
                continue;
            }
            let readable = match self.rights.reading(filter.unshared()) {
                Readable::Everything => None,
                Readable::Partly(readable) => Some(readable),
                Readable::Nothing => {
                    self.rights.note_unread(self.slot.client_id(), filter.as_str());
                    codes.push(ReasonCode::NotAuthorized as u8);
                    continue;
                }
            };
            let identifier = subscribe.subscription_identifier;
            let delivery = Arc::new(Delivery::of_subscription(&filter, options, identifier, readable));
            let new = self.broker.router.subscribe(&self.slot, &filter, Arc::clone(&delivery));
            codes.push(options.qos as u8);
            if self.slot.is_durable() {
                reading.batch.push(&Record::Subscribe {
                    queue: self.slot.queue_id(),
                    filter: filter.as_str(),
                    options,
                    identifier,
                });
            }
            let send_retained = match options.retain_handling {
                // A group gets what comes from now on: none of its members is the one for what was stored.
                _ if delivery.share.is_some() => false,
                RetainHandling::Send => true,
                RetainHandling::SendIfNew => new,
                RetainHandling::DoNotSend => false,
            };
            self.await_retained(filter, delivery, send_retained);
        }
        Packet::SubAck(SubAck::new(subscribe.packet_id, &codes)).encode(self.version, &mut reading.replies);
    }

    /// Notes that the reply at `begin` is SUBACK or UNSUBACK. It promises something where the session is durable.
    pub(super) fn note_answer(&self, begin: usize, reading: &mut Reading) {
        if self.slot.is_durable() {
            reading.is_asked = true;
        } else {
            reading.unbound.push(begin..reading.replies.len());
        }
    }

    /// Checks that the client takes the reply at `begin`. An answer to many filters may be too long, and has no code
    /// that may be left out; all others are shorter than CONNACK was.
    pub(super) fn check_reply(&self, begin: usize, reading: &mut Reading) -> Result<(), CodecError> {
        if reading.replies.len() - begin <= self.maximum_packet_size {
            return Ok(());
        }
        reading.replies.truncate(begin);
        Err(CodecError::new(ReasonCode::PacketTooLarge, "the answer is larger than the client takes [MQTT-3.1.2-24]"))
    }

    /// Notes that a subscription is to get retained messages: all, or those that it still awaits from before.
    fn await_retained(&mut self, filter: TopicFilter, delivery: Arc<Delivery>, all: bool) {
        let mut awaiting = self.slot.awaiting_retained();
        match awaiting.iter_mut().find(|known| known.filter == filter) {
            Some(known) => {
                known.delivery = delivery;
                if all {
                    known.after = None;
                }
            }
            None if all => awaiting.push_back(AwaitingRetained { filter, delivery, after: None }),
            None => {}
        }
        self.awaits_retained = !awaiting.is_empty();
    }

    pub(super) fn handle_unsubscribe(&self, unsubscribe: &Unsubscribe<'_>, reading: &mut Reading) {
        let mut codes = Vec::new();
        for filter in unsubscribe.filters.iter() {
            let code = match TopicFilter::new(filter) {
                Ok(filter) if self.broker.router.unsubscribe(&self.slot, &filter) => {
                    // Nothing more is added for it [MQTT-3.10.4-2].
                    self.slot.awaiting_retained().retain(|known| known.filter != filter);
                    if self.slot.is_durable() {
                        let (queue, filter) = (self.slot.queue_id(), filter.as_str());
                        reading.batch.push(&Record::Unsubscribe { queue, filter });
                    }
                    ReasonCode::Success
                }
                Ok(_) => ReasonCode::NoSubscriptionExisted,
                Err(_) => ReasonCode::TopicFilterInvalid,
            };
            codes.push(code as u8);
        }
        Packet::UnsubAck(SubAck::new(unsubscribe.packet_id, &codes)).encode(self.version, &mut reading.replies);
    }
}
