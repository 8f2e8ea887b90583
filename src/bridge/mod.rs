//! Bridges: each is a session of our broker whose connection we dial.
//!
//! Its queue is that session's queue, and the far broker's acknowledgement settles the very entry that the router
//! made. A bridge differs from a client in its [`Delivery`](crate::broker::delivery::Delivery) values, and in who dials.

mod backoff;
pub mod cloud;
mod complaints;
pub mod forecast;
mod isolation;
mod keeping;
pub mod memory;
mod outcome;
pub mod plan;
mod renewal;
mod servers;
pub mod settings;
mod status;
mod supervise;
mod takeovers;
mod trial;
mod trouble;
mod vigil;
pub mod way;

pub use plan::{Plan, loops};
pub use supervise::Bridge;
