//! SUBSCRIBE (section 3.8).

use crate::mqtt::codec::{CodecError, Version};
use crate::mqtt::properties::UserProperties;
use crate::mqtt::{PacketId, QoS};

/// A SUBSCRIBE, borrowed from the read buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Subscribe<'a> {
    /// Answered by the SUBACK.
    pub packet_id: PacketId,
    /// Identifier of these subscriptions, 1 to 268,435,455.
    pub subscription_identifier: Option<u32>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
    /// At least one filter with its options.
    pub filters: SubscribeFilters<'a>,
}

/// Filters and options in wire form, validated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubscribeFilters<'a>(&'a [u8]);

/// The options of one subscription (section 3.8.3.1); in 3.1.1 the QoS alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubscriptionOptions {
    /// The highest QoS that messages are sent with.
    pub qos: QoS,
    /// Whether the subscriber's own messages are left out.
    pub no_local: bool,
    /// Whether forwarded messages keep the RETAIN that they were published with.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

/// When the retained messages of a subscription are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetainHandling {
    /// At every SUBSCRIBE.
    #[default]
    Send = 0,
    /// Only where the subscription did not exist.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

impl<'a> SubscribeFilters<'a> {
    /// Takes what [`SubscribeFilters::put`] has written.
    pub const fn new(written: &'a [u8]) -> Self {
        Self(written)
    }

    /// Appends one filter with its options in wire form, for [`SubscribeFilters::new`].
    /// `filter` has been validated; for 3.1.1 only the QoS may be set.
    pub fn put(into: &mut Vec<u8>, filter: &str, options: SubscriptionOptions) {
        let _ = (into, filter, options);
        unimplemented!()
    }

    /// Each filter with its options.
    ///
    /// A filter is a UTF-8 string without U+0000, but may still be no valid topic filter:
    /// the server answers that per filter with 0x8F in the SUBACK.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, SubscriptionOptions)> + use<'a> {
        std::iter::empty()
    }
}

impl<'a> Subscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Self, CodecError> {
        let _ = (body, version);
        unimplemented!()
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, into: &mut Vec<u8>) {
        let _ = (version, into);
        unimplemented!()
    }
}
