//! Somebody who asks for the retained values again and again, whichever life it is.

use super::Phase;
use super::ledger::{Stream, retained_fault};
use crate::support::PATIENCE;
use crate::support::peer::{Happening, Lost, Peer, message};
use edgeway::mqtt::QoS;
use edgeway::mqtt::connection::ConnectOptions;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// The topic on which the inspector tells itself that it has all retained values.
const MARK: &str = "inspector";

/// Asks until the ending, and once more then; how often it got an answer.
pub async fn inspect(port: u16, streams: Vec<Arc<Stream>>, phase: watch::Receiver<Phase>) -> Result<u64, String> {
    let mut inspections = 0;
    loop {
        let is_last = phase.borrow().is_ending;
        match look(port, &streams).await {
            Ok(faults) if faults.is_empty() => inspections += 1,
            Ok(faults) => return Err(format!("in life {}: {}", phase.borrow().life, faults.join("; "))),
            Err(Lost(why)) if is_last => return Err(format!("no answer in the last life: {why}")),
            // It was killed meanwhile, or is not there yet.
            Err(Lost(_)) => {}
        }
        if is_last {
            return Ok(inspections);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// What is wrong with the retained values.
async fn look(port: u16, streams: &[Arc<Stream>]) -> Result<Vec<String>, Lost> {
    let acknowledged: Vec<_> = streams.iter().map(|stream| stream.newest_acknowledged()).collect();
    let mut peer = Peer::new(port, ConnectOptions::new("inspector"));
    peer.connect().await?;
    peer.subscribe(&[("plug/+/0".into(), QoS::AtLeastOnce), (MARK.into(), QoS::AtLeastOnce)]);
    let mut found = HashMap::new();
    loop {
        match timeout(PATIENCE, peer.next()).await.map_err(|_| Lost("no answer".into()))?? {
            // What comes for a subscription comes before what is published after it.
            Happening::Subscribed(_) => drop(peer.publish(message(MARK, b"", QoS::AtLeastOnce, false))),
            Happening::Message(delivery) if delivery.message.topic() == MARK => break,
            Happening::Message(delivery) if delivery.message.retain => {
                found.insert(delivery.message.topic().to_owned(), delivery.message);
            }
            Happening::Message(_) | Happening::Settled { .. } => {}
        }
    }
    let faults = streams.iter().zip(acknowledged).filter_map(|(stream, acknowledged)| {
        let number = match found.get(&stream.topic) {
            Some(message) => match stream.number_of(message) {
                Some(number) => Some(number),
                None => return Some(format!("{}: nobody published {message:?}", stream.topic)),
            },
            None => None,
        };
        retained_fault(number, acknowledged, stream.sent()).map(|fault| format!("{}: {fault}", stream.topic))
    });
    Ok(faults.collect())
}
