//! The writing half of a connection: version, the peer's limits, outbound topic aliases.

use std::collections::HashMap;

use crate::mqtt::packet::PublishHeader;
use crate::mqtt::properties::Forwardable;
use crate::mqtt::{Packet, Version};

/// The most topic aliases that we use on one connection, whatever the peer allows.
const MAX_ALIASES: u16 = 1024;

/// A packet is larger than the peer takes; it was not written [MQTT-3.1.2-24].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the packet is larger than the peer's maximum packet size")]
pub struct TooLarge;

/// How much of a PUBLISH is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// All but the payload.
    Head,
}

/// The writing half of a connection. It encodes into the buffer that it is handed.
#[derive(Debug)]
pub struct Sender {
    version: Version,
    max_packet_bytes: usize,
    alias_maximum: u16,
    #[expect(clippy::box_collection, reason = "most connections have none, and a broker has many connections")]
    aliases: Option<Box<HashMap<Box<str>, u16, foldhash::fast::RandomState>>>,
}

impl Sender {
    /// A sender of `version` to a peer that takes packets of at most `max_packet_bytes` (`None` is no limit) and
    /// topic aliases up to `alias_maximum`.
    pub fn new(version: Version, max_packet_bytes: Option<u32>, alias_maximum: u16) -> Self {
        Self {
            version,
            max_packet_bytes: max_packet_bytes.map_or(usize::MAX, |bytes| bytes as usize),
            alias_maximum: alias_maximum.min(MAX_ALIASES),
            aliases: None,
        }
    }

    /// The version that is spoken.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Bytes of the largest packet that the peer takes.
    pub fn maximum_packet(&self) -> usize {
        self.max_packet_bytes
    }

    /// Appends a packet that is no PUBLISH. Where it is too large for the peer, its reason string and user
    /// properties should have been left out by the caller.
    pub fn encode(&self, packet: &Packet<'_>, into: &mut Vec<u8>) {
        packet.encode(self.version, into);
    }

    /// Appends a PUBLISH; a topic alias stands for its topic where the peer takes aliases. With
    /// [`Part::Head`] the caller sends the payload itself.
    ///
    /// # Errors
    /// [`TooLarge`], and nothing was written.
    pub fn encode_publish(
        &mut self,
        mut header: PublishHeader<'_>,
        forwardable: Forwardable<'_>,
        payload: &[u8],
        part: Part,
        into: &mut Vec<u8>,
    ) -> Result<(), TooLarge> {
        if self.max_packet_bytes != usize::MAX
            && header.packet_length(self.version, forwardable, payload) > self.max_packet_bytes
        {
            return Err(TooLarge);
        }
        if self.alias_maximum > 0 {
            self.use_alias(&mut header);
        }
        match part {
            Part::Whole => header.encode(self.version, forwardable, payload, into),
            Part::Head => header.encode_head(self.version, forwardable, payload, into),
        }
        Ok(())
    }

    /// The first topics that come get an alias: they are what a device or a dashboard repeats.
    fn use_alias(&mut self, header: &mut PublishHeader<'_>) {
        // An alias costs 3 bytes.
        if header.topic.len() <= 3 {
            return;
        }
        let aliases = self.aliases.get_or_insert_with(Box::default);
        if let Some(&alias) = aliases.get(header.topic) {
            header.topic = "";
            header.topic_alias = Some(alias);
        } else if aliases.len() < usize::from(self.alias_maximum) {
            let alias = aliases.len() as u16 + 1;
            // Naming the alias adds 3 bytes to this packet, which may be one too many for the peer.
            let room = self.max_packet_bytes == usize::MAX;
            if room {
                aliases.insert(header.topic.into(), alias);
                header.topic_alias = Some(alias);
            }
        }
    }
}
