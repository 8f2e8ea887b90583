//! The receiver's half of QoS 2: which packet identifiers have been received and not yet released (section 4.3.3).

use std::collections::BTreeMap;

use crate::mqtt::PacketId;

/// Packet identifiers of QoS 2 messages between their PUBLISH and their PUBREL, each with the number of its exchange:
/// an identifier is used again and again, a number never.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inbound {
    received: BTreeMap<PacketId, u64>,
    next_number: u64,
}

impl Inbound {
    /// What was received before, with the number of the next exchange.
    pub fn restore(next_number: u64, received: impl IntoIterator<Item = (PacketId, u64)>) -> Self {
        Self { received: received.into_iter().collect(), next_number }
    }

    /// Takes the identifier of a QoS 2 PUBLISH. The number of its exchange where the message is new, `None` where it
    /// has been delivered before and only its PUBREC is due again [MQTT-4.3.3-10].
    pub fn handle_publish(&mut self, packet_id: PacketId) -> Option<u64> {
        if self.contains(packet_id) {
            return None;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.received.insert(packet_id, number);
        Some(number)
    }

    /// Takes the identifier of a PUBREL. The number of the exchange that it ends, `None` where there was none.
    pub fn handle_pubrel(&mut self, packet_id: PacketId) -> Option<u64> {
        self.received.remove(&packet_id)
    }

    /// Whether the identifier waits for its PUBREL.
    pub fn contains(&self, packet_id: PacketId) -> bool {
        self.received.contains_key(&packet_id)
    }

    /// Messages between PUBLISH and PUBREL; they count towards our receive maximum [MQTT-4.9].
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// Forgets all, as a clean start does. The numbers of the exchanges that will not be ended any more.
    pub fn clear(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.received).into_values().collect()
    }
}
