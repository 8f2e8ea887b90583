//! Requests of a cloud that wait for the result of their command.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value as Json;

use super::json::{id_of_command, id_of_result};
use crate::clock;
use crate::mqtt::Millis;

/// The most that wait; another one is refused.
const MOST: usize = 256;
/// No cloud waits longer for an answer, in milliseconds.
const FORGOTTEN_AFTER_MS: u64 = 300_000;

/// Requests that wait, each with `A`, which says where its answer goes.
///
/// Commands of one topic are done one after the other, so a result answers the oldest request of its topic; where both
/// carry an `id`, the one with the same.
#[derive(Debug)]
pub struct Requests<A>(Mutex<VecDeque<Request<A>>>);

#[derive(Debug)]
struct Request<A> {
    result_topic: String,
    id: Option<Json>,
    asked_at: Millis,
    address: A,
}

/// No room for another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl<A> Default for Requests<A> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<A> Requests<A> {
    /// Notes that the result of `command` on `topic` goes to `address`.
    ///
    /// # Errors
    /// [`TooMany`] wait already.
    pub fn note(&self, topic: &str, command: &[u8], address: A) -> Result<(), TooMany> {
        let mut waiting = self.lock();
        if waiting.len() >= MOST {
            return Err(TooMany);
        }
        waiting.push_back(Request {
            result_topic: format!("{topic}/result"),
            id: id_of_command(command),
            asked_at: clock::now(),
            address,
        });
        Ok(())
    }

    /// Whether a request waits for `result` on `topic`.
    pub fn awaits(&self, topic: &str, result: &[u8]) -> bool {
        // Nearly all messages are no results.
        topic.ends_with("/set/result") && position(&self.lock(), topic, result).is_some()
    }

    /// Where `result` on `topic` goes; it is answered by that.
    pub fn take(&self, topic: &str, result: &[u8]) -> Option<A> {
        let mut waiting = self.lock();
        let index = position(&waiting, topic, result)?;
        waiting.remove(index).map(|request| request.address)
    }

    /// Forgets the newest request at `address`: nobody has taken its command.
    pub fn forget(&self, address: &A) -> bool
    where
        A: PartialEq,
    {
        let mut waiting = self.lock();
        let index = waiting.iter().rposition(|request| request.address == *address);
        index.is_some_and(|index| waiting.remove(index).is_some())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Request<A>>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        while waiting.front().is_some_and(|request| now.since(request.asked_at) > FORGOTTEN_AFTER_MS) {
            waiting.pop_front();
        }
        waiting
    }
}

fn position<A>(waiting: &VecDeque<Request<A>>, topic: &str, result: &[u8]) -> Option<usize> {
    if !waiting.iter().any(|request| request.result_topic == topic) {
        return None;
    }
    let id = id_of_result(result);
    waiting.iter().position(|request| request.result_topic == topic && request.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_answers_the_oldest_request_of_its_topic_and_id() {
        let requests = Requests::default();
        requests.note("e/plc/pump/set", b"true", 1).unwrap();
        requests.note("e/plc/pump/set", br#"{"value":1,"id":7}"#, 2).unwrap();
        requests.note("e/plc/pump/set", b"false", 3).unwrap();
        requests.note("e/plc/valve/set", b"1", 4).unwrap();
        let topic = "e/plc/pump/set/result";
        assert!(requests.awaits(topic, b"ok") && !requests.awaits("e/plc/other/set/result", b"ok"));
        assert_eq!(requests.take(topic, br#"{"id":7,"result":"ok"}"#), Some(2));
        assert_eq!(requests.take(topic, br#"{"id":8,"result":"ok"}"#), None, "a command of somebody else");
        assert_eq!(requests.take(topic, b"ok"), Some(1));
        assert_eq!(requests.take(topic, b"refused: no"), Some(3));
        assert_eq!(requests.take(topic, b"ok"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_there_is_room_for_and_none_for_ever() {
        let requests = Requests::default();
        for _ in 0..MOST {
            requests.note("t/set", b"1", ()).unwrap();
        }
        assert_eq!(requests.note("t/set", b"1", ()), Err(TooMany));
        tokio::time::advance(std::time::Duration::from_millis(FORGOTTEN_AFTER_MS + 1)).await;
        assert!(!requests.awaits("t/set/result", b"ok"));
        assert_eq!(requests.note("t/set", b"1", ()), Ok(()));
    }
}
