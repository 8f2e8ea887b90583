//! Tests of the protocol as a whole.

mod any_packet;
pub(crate) mod malformed;
mod pair;
mod reasons;
mod round_trip;
mod second_decoder;
mod second_fields;
