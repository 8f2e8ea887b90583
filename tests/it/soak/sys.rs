//! What the gateway tells of itself under `$SYS`, awaited.

use crate::support::PATIENCE;
use crate::support::peer::{Happening, subscriber};
use edgeway::mqtt::QoS;
use std::collections::HashMap;
use tokio::time::{Instant, timeout_at};

/// Waits until each topic under `$SYS/broker/` has its value; who asks is a client with one subscription itself. The
/// gateway must tell at an interval well below `PATIENCE`.
///
/// # Panics
/// When they do not; the message names what they were last.
pub async fn await_told(port: u16, expected: &[(&str, u64)]) {
    let mut peer = subscriber(port, "sys", "$SYS/broker/#", QoS::AtMostOnce, None).await;
    let mut told: HashMap<String, u64> = HashMap::new();
    let deadline = Instant::now() + PATIENCE;
    while !expected.iter().all(|(topic, value)| told.get(*topic) == Some(value)) {
        let Ok(happening) = timeout_at(deadline, peer.next()).await else {
            let last = expected.iter().map(|(topic, value)| (topic, told.get(*topic), value));
            panic!("not told in time (topic, last value, expected): {:?}", last.collect::<Vec<_>>());
        };
        if let Happening::Message(delivery) = happening.unwrap() {
            let topic = delivery.message.topic().strip_prefix("$SYS/broker/").unwrap();
            if let Some(value) = std::str::from_utf8(delivery.message.payload()).ok().and_then(|text| text.parse().ok())
            {
                told.insert(topic.to_owned(), value);
            }
        }
    }
    peer.disconnect().await.unwrap();
}
