//! A subscriber that reads 10 kB a second gets what it can, in order, the newest last; what it cannot get is counted.

use super::Scale;
use super::sys::await_told;
use crate::support::edgeway::Edgeway;
use crate::support::peer::{Happening, Peer, message};
use crate::support::vitals::Vitals;
use edgeway::mqtt::QoS;
use edgeway::mqtt::connection::ConnectOptions;
use std::time::Duration;
use tokio::time::sleep;

/// Messages that a queue holds here.
const QUEUE: u32 = 1000;
const GATEWAY: &str = r#"
broker:
  listen: "mqtt://127.0.0.1:@PORT@"
  limits: { queue: 1000 }
  sys_interval: 1s
log: { level: warn }
"#;

/// Messages of 1 kB: more than the gateway's queue and buffer and the system's buffers take.
const MESSAGES: u32 = 20_000;

#[test]
fn one_who_reads_slowly_gets_the_newest_in_order_and_the_rest_is_counted() {
    let scale = Scale::from_environment();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut edgeway = Edgeway::start(GATEWAY);
        let process = edgeway.peer().id();
        let before = Vitals::at_rest(process);
        let received = runtime.block_on(read_slowly(edgeway.port, qos, scale.duration / 4));
        let after = Vitals::of(process);
        let grown = after.peak_kib - before.resident_kib;
        println!(
            "slow reader at QoS {qos}: {} of {MESSAGES} arrived\n  {grown} KiB more at most; {after}",
            received.len()
        );
        let dropped = u64::from(MESSAGES) - received.len() as u64;
        runtime.block_on(await_told(edgeway.port, &[("publish/messages/dropped", dropped)]));
        assert!(received.is_sorted_by(|one, next| one < next), "out of order");
        let newest = &received[received.len() - QUEUE as usize..];
        let expected: Vec<u32> = (MESSAGES - QUEUE..MESSAGES).collect();
        assert_eq!(newest, expected);
        // The queue with its entries and the allocator's loss, and a buffer of 256 KiB that doubles as it grows.
        let bound = u64::from(QUEUE) * 3 / 2 + 512 + 4096;
        assert!(grown <= bound, "memory grew by {grown} KiB, the bound is {bound}");
    }
}

/// Numbers of the messages that arrive, when 10 kB are read in a second, for at least so long and for as long as
/// messages are published, and everything that is left afterwards.
async fn read_slowly(port: u16, qos: QoS, at_least: Duration) -> Vec<u32> {
    let mut reader = Peer::new(port, ConnectOptions::new("reader"));
    reader.receive_buffer = Some(4096);
    reader.connect().await.unwrap();
    reader.subscribed(&[("slow".into(), qos)]).await;
    let publishing = tokio::spawn(async move {
        let mut publisher = Peer::new(port, ConnectOptions::new("publisher"));
        publisher.connect().await.unwrap();
        for number in 0..MESSAGES {
            publisher.publish(message("slow", format!("{number:<1000}").as_bytes(), QoS::AtLeastOnce, false));
            while publisher.unsettled() >= 50 {
                publisher.patient_next().await;
            }
        }
        publisher.settle().await;
    });
    let mut received = Vec::new();
    let begun = tokio::time::Instant::now();
    while !publishing.is_finished() || begun.elapsed() < at_least {
        received.push(next_number(&mut reader).await);
        sleep(Duration::from_millis(100)).await;
    }
    publishing.await.unwrap();
    while received.last() != Some(&(MESSAGES - 1)) {
        received.push(next_number(&mut reader).await);
    }
    received
}

async fn next_number(reader: &mut Peer) -> u32 {
    loop {
        if let Happening::Message(delivery) = reader.patient_next().await {
            return std::str::from_utf8(delivery.message.payload()).unwrap().trim_end().parse().unwrap();
        }
    }
}
