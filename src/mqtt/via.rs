//! The way of a message: the user property `via`, with the ids of the gateways that it has passed.
//!
//! ```text
//! via = "k7w2mq,9xq3fd"      oldest first, at most MAX_HOPS
//! ```
//!
//! A message that comes back to a gateway which it has passed is in a loop, and goes no further. A property `via` of
//! another make is left as it is.

use std::fmt;

use super::properties::{Forwardable, ForwardableBuilder, Property, id};
use super::wire;

/// The name of the property.
const NAME: &str = "via";
/// Characters of an id.
const ID_LENGTH: usize = 6;
/// Gateways that a message may pass.
pub const MAX_HOPS: usize = 8;
/// What ids are made of: no two that look alike.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// What a gateway is called in `via`: nothing that a person chose, because two may be called alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct GatewayId([u8; ID_LENGTH]);

/// Where a message has been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// Not here.
    Elsewhere,
    /// Here, too: it is in a loop.
    Here,
    /// At as many gateways as a message may.
    TooMany,
}

impl GatewayId {
    /// The id that stands for the lower 30 bits of `bits`.
    pub fn from_bits(bits: u64) -> Self {
        Self(std::array::from_fn(|index| ALPHABET[(bits >> (5 * index)) as usize % ALPHABET.len()]))
    }

    /// The id that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; ID_LENGTH] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|byte| ALPHABET.contains(byte)).then_some(Self(bytes))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        // Of ASCII, so this never fails.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The properties of a message that begins its way at `here`.
pub fn beginning_at(here: GatewayId) -> ForwardableBuilder {
    ForwardableBuilder::default().user_property(NAME, here.as_str())
}

/// Where a message with these properties has been, as the gateway `here` sees it.
pub fn passed(properties: Forwardable<'_>, here: GatewayId) -> Passed {
    let mut count = 0;
    for hop in properties.iter().filter_map(|property| hops(&property)).flat_map(|hops| hops.split(',')) {
        if hop == here.as_str() {
            return Passed::Here;
        }
        count += 1;
    }
    if count < MAX_HOPS { Passed::Elsewhere } else { Passed::TooMany }
}

/// Appends the properties in wire form, with `here` as the last of the gateways that were passed: once, whatever stood
/// there before.
pub fn mark(properties: Forwardable<'_>, here: GatewayId, into: &mut Vec<u8>) {
    into.reserve(properties.len() + 16);
    let mut before: Vec<&str> = Vec::new();
    for property in properties.iter() {
        match hops(&property) {
            Some(hops) => before.push(hops),
            None => into.extend_from_slice(property.raw),
        }
    }
    into.push(id::USER_PROPERTY);
    wire::put_string(into, NAME);
    let hops = before.iter().flat_map(|hops| hops.split(',')).filter(|hop| *hop != here.as_str());
    let length_at = into.len();
    into.extend_from_slice(&[0, 0]);
    // It was held to the bound when it came.
    for hop in hops.take(MAX_HOPS) {
        into.extend_from_slice(hop.as_bytes());
        into.push(b',');
    }
    into.extend_from_slice(&here.0);
    let length = (into.len() - length_at - 2) as u16;
    into[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
}

/// The value of a property that is a `via` of ours.
fn hops<'a>(property: &Property<'a>) -> Option<&'a str> {
    // Looked at before anything is decoded: hardly any property is one.
    if property.id != id::USER_PROPERTY || !property.value().starts_with(b"\x00\x03via") {
        return None;
    }
    let (_, value) = property.pair()?;
    value.split(',').all(|hop| GatewayId::parse(hop).is_some()).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> GatewayId {
        GatewayId::parse(text).unwrap()
    }

    fn marked(properties: &ForwardableBuilder, here: &str) -> Vec<(String, String)> {
        let mut bytes = vec![];
        mark(properties.as_forwardable(), id(here), &mut bytes);
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Forwardable::plain(&bytes).user_properties().map(owned).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_gateway_adds_itself_once_and_leaves_the_rest_as_it_is() {
        let none = ForwardableBuilder::default();
        assert_eq!(marked(&none, "aaaaaa"), pairs(&[("via", "aaaaaa")]));
        let some = none.user_property("via", "aaaaaa").user_property("a", "b").content_type("text");
        assert_eq!(marked(&some, "bbbbbb"), pairs(&[("a", "b"), ("via", "aaaaaa,bbbbbb")]));
        assert_eq!(marked(&some, "aaaaaa"), pairs(&[("a", "b"), ("via", "aaaaaa")]));
        let two = some.user_property("via", "cccccc,dddddd");
        assert_eq!(marked(&two, "cccccc"), pairs(&[("a", "b"), ("via", "aaaaaa,dddddd,cccccc")]));
        // An HTTP proxy of somebody's.
        let foreign = ForwardableBuilder::default().user_property("via", "1.1 proxy,aaaaaa");
        assert_eq!(marked(&foreign, "bbbbbb"), pairs(&[("via", "1.1 proxy,aaaaaa"), ("via", "bbbbbb")]));
        assert_eq!(passed(foreign.as_forwardable(), id("aaaaaa")), Passed::Elsewhere);
    }

    #[test]
    fn a_message_that_was_here_or_has_passed_eight_gateways_goes_no_further() {
        let via = |value: &str| ForwardableBuilder::default().user_property("x", "y").user_property("via", value);
        let passed = |value: &str, here| passed(via(value).as_forwardable(), id(here));
        assert_eq!(passed("aaaaaa,bbbbbb", "cccccc"), Passed::Elsewhere);
        assert_eq!(passed("aaaaaa,bbbbbb", "aaaaaa"), Passed::Here);
        assert_eq!(passed("aaaaaa,bbbbbb", "bbbbbb"), Passed::Here);
        let seven = ["aaaaaa"; MAX_HOPS - 1].join(",");
        assert_eq!(passed(&seven, "cccccc"), Passed::Elsewhere);
        assert_eq!(passed(&format!("{seven},bbbbbb"), "cccccc"), Passed::TooMany);
    }

    proptest! {
        #[test]
        fn what_is_marked_has_passed_here_and_every_id_is_read_again(
            bits in any::<u64>(),
            others in proptest::collection::vec(any::<u64>(), 0..7),
        ) {
            let here = GatewayId::from_bits(bits);
            prop_assert_eq!(GatewayId::parse(here.as_str()), Some(here));
            let mut properties = Vec::new();
            for other in &others {
                let mut next = Vec::new();
                mark(Forwardable::plain(&properties), GatewayId::from_bits(*other), &mut next);
                properties = next;
            }
            let mut marked = Vec::new();
            mark(Forwardable::plain(&properties), here, &mut marked);
            prop_assert_eq!(passed(Forwardable::plain(&marked), here), Passed::Here);
            prop_assert_eq!(Forwardable::plain(&marked).user_properties().count(), 1);
        }
    }
}
