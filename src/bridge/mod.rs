//! Bridges: each is a session of our broker whose connection we dial.
//!
//! Its queue is that session's queue, and the far broker's acknowledgement settles the very entry that the router
//! made. A bridge differs from a client in its [`Delivery`](crate::broker::delivery::Delivery) values, and in who dials.

mod backoff;
pub mod cloud;
mod complaints;
pub mod forecast;
pub mod memory;
pub mod plan;
mod renewal;
mod servers;
pub mod settings;
mod supervise;
mod takeovers;
mod trouble;
mod vigil;
pub mod way;

pub use plan::Plan;
pub use supervise::Bridge;
