//! Bridges with `cloud:` presets to servers that enforce the rules of those clouds.

mod aws;
mod azure;
mod check;
mod server;
mod thingsboard;
