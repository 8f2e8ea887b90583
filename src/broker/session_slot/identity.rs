//! Who a session's messages come from: for others, for itself when it asks for none of its own, and for other gateways.

use std::sync::Arc;

use super::SessionSlot;
use crate::mqtt::via::GatewayId;

impl SessionSlot {
    /// Who has published its messages: the client identifier; or the name of a bridge behind U+0000, which no client
    /// identifier has [MQTT-1.5.4-2], because a client may have the name of a bridge.
    pub fn publisher(&self) -> &Arc<str> {
        &self.publisher
    }

    /// Has all messages that go out and come in marked as having passed the gateway `id`. To be called before there is a
    /// connection.
    pub fn mark_with(&self, id: GatewayId) {
        // It does not change as long as the gateway runs.
        let _ = self.via.set(id);
    }

    /// What its messages are marked with.
    pub fn mark(&self) -> Option<GatewayId> {
        self.via.get().copied()
    }
}
