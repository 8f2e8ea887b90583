//! The receiver's half of QoS 2: which packet identifiers have been received and not yet released (section 4.3.3).

use std::collections::BTreeSet;

use crate::mqtt::PacketId;

/// Packet identifiers of QoS 2 messages between their PUBLISH and their PUBREL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inbound {
    received: BTreeSet<PacketId>,
}

impl Inbound {
    /// Takes the identifier of a QoS 2 PUBLISH. `true` where the message is new, `false` where it has been
    /// delivered before and only its PUBREC is due again [MQTT-4.3.3-10].
    pub fn handle_publish(&mut self, packet_id: PacketId) -> bool {
        self.received.insert(packet_id)
    }

    /// Takes the identifier of a PUBREL. `false` where there was nothing to release.
    pub fn handle_pubrel(&mut self, packet_id: PacketId) -> bool {
        self.received.remove(&packet_id)
    }

    /// Whether the identifier waits for its PUBREL.
    pub fn contains(&self, packet_id: PacketId) -> bool {
        self.received.contains(&packet_id)
    }

    /// Messages between PUBLISH and PUBREL; they count towards our receive maximum [MQTT-4.9].
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// Forgets all, as a clean start does.
    pub fn clear(&mut self) {
        self.received.clear();
    }
}
