//! HTTP devices: sources that are polled, and webhooks to which others post. Values are found by JSONPath.
//!
//! ```text
//! poll::Poll  -- GET -->  device           device -- POST -->  webhook::Webhooks
//!     |  <- JSON, at most 1 MB -                                   | at most 256 KB
//!     +--> source::Source -> messages <----------------------------+
//!  write  <- …/set                          ?time: the reading's own time
//! ```

pub mod client;
pub mod digest;
pub mod poll;
pub mod settings;
pub mod webhook;
pub mod write;

#[cfg(test)]
mod tests;

use serde_json::Value as Json;

pub use self::client::Client;
pub use self::settings::{Planned, Settings, conflicting_hooks};
pub use self::webhook::{Hook, Webhooks};
use crate::clock;
use crate::mapping::{JsonPath, text};
use crate::mqtt::Sampled;

/// When the answer was sampled: by its own time where `path` finds one, else now. A missing time is logged once.
fn sampled_at(answer: &Json, path: Option<&JsonPath>, device: &str, missed: &mut bool) -> Sampled {
    let Some(path) = path else { return clock::sample() };
    path.find(answer).and_then(text::read_time).map(Sampled::at).unwrap_or_else(|| {
        if !std::mem::replace(missed, true) {
            tracing::warn!(device, %path, "the answer has no time of its own");
        }
        clock::sample()
    })
}
