//! One packet.
#![no_main]

#[allow(dead_code, reason = "each target takes one of the bodies")]
#[path = "../../tests/fuzz_bodies.rs"]
mod fuzz_bodies;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_bodies::packet(input));
