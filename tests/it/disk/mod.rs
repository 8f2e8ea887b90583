//! The journal on disks that run full or are damaged, and stores that another program wrote, as an operator meets them.

mod damage;
mod full;

use crate::support::peer::{Happening, Peer, message};
use edgeway::mqtt::connection::ConnectOptions;
use edgeway::mqtt::{Message, QoS};
use tokio::runtime::Runtime;

/// What the messages of a test are published on; numbers from 0 on.
const TOPIC: &str = "numbers";

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn durable(name: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new(name);
    options.clean_start = false;
    options.session_expiry_interval = 24 * 3600;
    options
}

/// A message with a number, of so many bytes.
fn numbered(number: u32, bytes: usize) -> Message {
    message(TOPIC, format!("{number:<bytes$}").as_bytes(), QoS::AtLeastOnce, false)
}

fn number_of(message: &Message) -> u32 {
    std::str::from_utf8(message.payload()).unwrap().trim_end().parse().unwrap()
}

/// A durable session `absent` that takes all numbers and goes away.
async fn leave_a_session(port: u16) {
    let mut absent = Peer::new(port, durable("absent"));
    absent.connect().await.unwrap();
    absent.subscribed(&[(TOPIC.into(), QoS::AtLeastOnce)]).await;
    absent.disconnect().await.unwrap();
}

/// Publishes numbers and waits until all of them are acknowledged.
async fn publish(port: u16, numbers: std::ops::Range<u32>, bytes: usize) {
    let mut publisher = Peer::new(port, ConnectOptions::new("publisher"));
    publisher.connect().await.unwrap();
    for number in numbers {
        publisher.publish(numbered(number, bytes));
        while publisher.unsettled() >= 500 {
            publisher.patient_next().await;
        }
    }
    publisher.settle().await;
    publisher.disconnect().await.unwrap();
}

/// All that waits for the session `absent`, which must still be there. The end is a QoS 1 message to itself.
async fn drain(port: u16) -> Vec<u32> {
    let mut absent = Peer::new(port, durable("absent"));
    assert!(absent.connect().await.unwrap().session_present, "the session is gone");
    absent.publish(message(TOPIC, b"4294967295", QoS::AtLeastOnce, false));
    let mut numbers = Vec::new();
    loop {
        if let Happening::Message(delivery) = absent.patient_next().await {
            match number_of(&delivery.message) {
                u32::MAX => break,
                number => numbers.push(number),
            }
        }
    }
    absent.settle().await;
    absent.disconnect().await.unwrap();
    numbers
}
