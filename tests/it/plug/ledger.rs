//! What publishers were promised, what a subscriber saw, and what of it breaks a promise.
//!
//! ```text
//! stream   plug/{publisher}/{part}, numbers that rise by one; part 0 is retained
//! payload  the number in decimal, a space, then letters that follow from stream and number
//! ```

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::peer::message;
use edgeway::mqtt::{Message, QoS};

/// Topics of each publisher.
pub const PARTS: usize = 3;

/// Which life of the gateway it was.
pub type Life = u32;

/// What one publisher says on one topic.
#[derive(Debug)]
pub struct Stream {
    pub topic: String,
    pub qos: QoS,
    pub retain: bool,
    /// Numbers below this one were handed to the client.
    sent: AtomicU32,
    /// Numbers below this one, at least, were acknowledged.
    acknowledged: AtomicU32,
}

/// A number, and in which life it was acknowledged, or came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    pub number: u32,
    pub life: Life,
}

/// How a promise was broken.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// Acknowledged in that life, and never came.
    Lost(Noted),
    /// Came again, at QoS 2.
    Doubled { first: Noted, again: Life },
    /// Came for the first time after a later one.
    Reordered { late: Noted, after: u32 },
    /// Nobody published it.
    Invented(Noted),
}

impl Stream {
    pub fn new(publisher: &str, part: usize, qos: QoS) -> Self {
        let topic = format!("plug/{publisher}/{part}");
        Self { topic, qos, retain: part == 0, sent: AtomicU32::new(0), acknowledged: AtomicU32::new(0) }
    }

    /// The next message, and its number.
    pub fn next_message(&self) -> (u32, Message) {
        let number = self.sent.fetch_add(1, Ordering::SeqCst);
        (number, message(&self.topic, &self.payload(number), self.qos, self.retain))
    }

    pub fn note_acknowledged(&self, number: u32) {
        self.acknowledged.fetch_max(number + 1, Ordering::SeqCst);
    }

    /// Numbers below this one were handed to the client.
    pub fn sent(&self) -> u32 {
        self.sent.load(Ordering::SeqCst)
    }

    /// The newest that was acknowledged.
    pub fn newest_acknowledged(&self) -> Option<u32> {
        self.acknowledged.load(Ordering::SeqCst).checked_sub(1)
    }

    /// The number of a message of this stream; `None` where it is not as it was published.
    pub fn number_of(&self, message: &Message) -> Option<u32> {
        self.number_in(message.payload())
    }

    /// [`Stream::number_of`], of a message with this payload.
    pub fn number_in(&self, payload: &[u8]) -> Option<u32> {
        let end = payload.iter().position(|&byte| byte == b' ')?;
        let number = std::str::from_utf8(&payload[..end]).ok()?.parse().ok()?;
        (payload == self.payload(number)).then_some(number)
    }

    /// Up to 400 bytes; now and then as large as several records of the usual size.
    fn payload(&self, number: u32) -> Vec<u8> {
        let mut payload = format!("{number} ").into_bytes();
        let length = if number % 101 == 100 { 20_000 } else { payload.len() + (number as usize * 37) % 400 };
        let letters = self.topic.bytes().cycle().skip(number as usize % 7);
        payload.extend(letters.take(length));
        payload
    }
}

/// What breaks the promise to a subscriber that asked for everything of a stream at `qos`, which is that of the stream
/// or lower: `acknowledged` must have come, `arrived` is all that came, in that order.
///
/// At QoS 1 a message may come again, at any time; its first coming keeps the order.
pub fn faults(qos: QoS, sent: u32, acknowledged: &[Noted], arrived: &[Noted]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut seen: HashMap<u32, Life> = HashMap::new();
    let mut newest = None;
    for &arrival in arrived {
        if arrival.number >= sent {
            faults.push(Fault::Invented(arrival));
        } else if let Some(&life) = seen.get(&arrival.number) {
            if qos == QoS::ExactlyOnce {
                let first = Noted { number: arrival.number, life };
                faults.push(Fault::Doubled { first, again: arrival.life });
            }
        } else {
            match newest {
                Some(after) if arrival.number < after => faults.push(Fault::Reordered { late: arrival, after }),
                _ => newest = Some(arrival.number),
            }
            seen.insert(arrival.number, arrival.life);
        }
    }
    faults.extend(acknowledged.iter().filter(|noted| !seen.contains_key(&noted.number)).copied().map(Fault::Lost));
    faults
}

/// What is wrong with the retained value that somebody found who asked when `acknowledged` was the newest acknowledged
/// number, and got the answer when numbers below `sent` were published.
pub fn retained_fault(found: Option<u32>, acknowledged: Option<u32>, sent: u32) -> Option<String> {
    match (found, acknowledged) {
        (None, Some(acknowledged)) => Some(format!("no retained value, {acknowledged} was acknowledged")),
        (Some(found), Some(acknowledged)) if found < acknowledged => {
            Some(format!("the retained value is {found}, {acknowledged} was acknowledged"))
        }
        (Some(found), _) if found >= sent => Some(format!("the retained value {found} was never published")),
        _ => None,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(Noted { number, life }) => write!(f, "{number} lost, acknowledged in life {life}"),
            Self::Doubled { first: Noted { number, life }, again } => {
                write!(f, "{number} twice, in life {life} and in life {again}")
            }
            Self::Reordered { late: Noted { number, life }, after } => {
                write!(f, "{number} after {after}, in life {life}")
            }
            Self::Invented(Noted { number, life }) => write!(f, "{number} in life {life}, which nobody published"),
        }
    }
}

/// The checker finds what it is there to find.
#[cfg(test)]
mod tests {
    use super::*;

    fn noted(numbers: &[u32]) -> Vec<Noted> {
        numbers.iter().map(|&number| Noted { number, life: number / 10 }).collect()
    }

    fn told(qos: QoS, acknowledged: &[u32], arrived: &[u32]) -> Vec<String> {
        let faults = faults(qos, 100, &noted(acknowledged), &noted(arrived));
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_keeps_the_promise_is_no_fault() {
        // 12 was published and not acknowledged: it may come or not.
        assert_eq!(told(QoS::ExactlyOnce, &[10, 11, 13], &[10, 11, 13]), [""; 0]);
        assert_eq!(told(QoS::ExactlyOnce, &[10, 11, 13], &[10, 11, 12, 13]), [""; 0]);
        assert_eq!(told(QoS::AtLeastOnce, &[10, 11, 12], &[10, 11, 10, 11, 12, 11]), [""; 0]);
    }

    #[test]
    fn a_lost_one_is_found_at_either_qos() {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            assert_eq!(told(qos, &[10, 21, 22], &[10, 22]), ["21 lost, acknowledged in life 2"]);
            assert_eq!(told(qos, &[10], &[]), ["10 lost, acknowledged in life 1"]);
        }
    }

    #[test]
    fn a_doubled_one_is_found_at_qos_2() {
        assert_eq!(told(QoS::ExactlyOnce, &[10, 11], &[10, 11, 10]), ["10 twice, in life 1 and in life 1"]);
    }

    #[test]
    fn a_reordered_one_is_found_at_either_qos() {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            assert_eq!(told(qos, &[10, 11, 12], &[10, 12, 11]), ["11 after 12, in life 1"]);
        }
    }

    #[test]
    fn an_invented_one_is_found() {
        assert_eq!(told(QoS::AtLeastOnce, &[], &[100]), ["100 in life 10, which nobody published"]);
    }

    #[test]
    fn an_older_retained_value_or_none_is_found() {
        assert_eq!(retained_fault(Some(5), Some(5), 9), None);
        assert_eq!(retained_fault(Some(8), Some(5), 9), None);
        assert_eq!(retained_fault(None, None, 9), None);
        assert!(retained_fault(Some(4), Some(5), 9).is_some());
        assert!(retained_fault(None, Some(0), 9).is_some());
        assert!(retained_fault(Some(9), None, 9).is_some());
    }

    #[test]
    fn a_payload_that_changed_on_its_way_is_found() {
        let stream = Stream::new("p", 0, QoS::AtLeastOnce);
        let (number, sent) = stream.next_message();
        assert_eq!(stream.number_of(&sent), Some(number));
        let mut payload = sent.payload().to_vec();
        payload.push(b'x');
        assert_eq!(stream.number_of(&message(&stream.topic, &payload, QoS::AtLeastOnce, false)), None);
    }
}
