//! A client that publishes faster than it may is slowed down, loses nothing, and takes nothing from others.

use super::Scale;
use super::pairs::Pairs;
use crate::support::edgeway::Edgeway;
use crate::support::peer::{Happening, Peer, message, subscriber};
use edgeway::mqtt::QoS;
use edgeway::mqtt::connection::ConnectOptions;
use std::time::{Duration, Instant};

/// Messages a second; the pairs stay below, and the hasty one would manage far more than ten times as many.
const RATE: u32 = 200;
const GATEWAY: &str = r#"
broker:
  listen: "mqtt://127.0.0.1:@PORT@"
  limits: { rate: 200/s }
log: { level: warn }
"#;

#[test]
fn one_who_publishes_too_fast_is_slowed_and_loses_nothing_and_others_do_not_notice() {
    let scale = Scale::from_environment();
    let edgeway = Edgeway::start(GATEWAY);
    let port = edgeway.port;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let pairs = Pairs::start(port);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let count = RATE * if scale.full { 10 } else { 2 };
        let elapsed = runtime.block_on(publish_in_haste(port, qos, count));
        println!("rate: {count} messages at QoS {qos} in {elapsed:.2?} where {RATE} a second are allowed");
        // Those of one second at once, and the others not faster than that: less time is too little on any machine.
        let least = Duration::from_secs(u64::from(count / RATE - 1)).mul_f64(0.9);
        assert!(elapsed >= least, "it took only {elapsed:?}");
    }
    println!("  pairs: {}", pairs.stop());
}

/// Publishes as fast as the gateway reads; how long it took until all had come.
async fn publish_in_haste(port: u16, qos: QoS, count: u32) -> Duration {
    let mut reader = subscriber(port, "reader", "haste", qos, None).await;
    let reading = tokio::spawn(async move {
        let mut expected = 0;
        while expected < count {
            if let Happening::Message(delivery) = reader.patient_next().await {
                assert_eq!(delivery.message.payload(), expected.to_string().as_bytes());
                expected += 1;
            }
        }
        reader.settle().await;
        reader.disconnect().await.unwrap();
    });
    let mut publisher = Peer::new(port, ConnectOptions::new("hasty"));
    publisher.connect().await.unwrap();
    let begun = Instant::now();
    for number in 0..count {
        publisher.publish(message("haste", number.to_string().as_bytes(), qos, false));
    }
    publisher.settle().await;
    reading.await.unwrap();
    publisher.disconnect().await.unwrap();
    begun.elapsed()
}
