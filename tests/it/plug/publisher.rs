//! A publisher with a durable session that notes what was acknowledged, in this process, which is never killed.

use super::Phase;
use super::ledger::{Noted, PARTS, Stream};
use super::reconnect;
use crate::support::PATIENCE;
use crate::support::peer::{Happening, Lost, Peer};
use crate::support::random::Random;
use edgeway::mqtt::QoS;
use edgeway::mqtt::connection::ConnectOptions;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// Messages that it has unacknowledged at most: one by one, a little, all that a client of 3.1.1 may have, and more.
const WINDOWS: [usize; 4] = [1, 5, 20, 60];

/// A publisher of a few streams.
pub struct Publisher {
    peer: Peer,
    random: Random,
    phase: watch::Receiver<Phase>,
    pub streams: [Arc<Stream>; PARTS],
    /// What was acknowledged of each stream.
    pub acknowledged: [Vec<Noted>; PARTS],
    /// Stream and number of what is under way, by its sequence.
    under_way: HashMap<u64, (usize, u32)>,
    pub connections: u64,
}

impl Publisher {
    /// Connected, and with the first message of each stream acknowledged.
    pub async fn start(
        port: u16,
        options: ConnectOptions,
        qos: QoS,
        random: Random,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        let streams = std::array::from_fn(|part| Arc::new(Stream::new(&options.client_id, part, qos)));
        let mut publisher = Self {
            peer: Peer::new(port, options),
            random,
            phase,
            streams,
            acknowledged: Default::default(),
            under_way: HashMap::new(),
            connections: 1,
        };
        assert!(!publisher.peer.connect().await.unwrap().session_present);
        for part in 0..PARTS {
            publisher.publish(part);
        }
        publisher.settle_all().await.unwrap();
        publisher
    }

    /// Publishes through all lives until the ending, and then until all of it is acknowledged.
    pub async fn run(mut self) -> Result<Self, String> {
        while !self.phase.borrow().is_ending {
            match self.talk().await {
                Ok(()) => {}
                Err(Lost(_)) => {
                    self.peer.cut();
                    reconnect(&mut self.peer, &self.phase).await?;
                    self.connections += 1;
                }
            }
        }
        // From now on the gateway lives; but the connection may be one of the last life.
        if let Err(Lost(_)) = self.settle_all().await {
            self.peer.cut();
            reconnect(&mut self.peer, &self.phase).await?;
            self.settle_all().await.map_err(|Lost(why)| format!("in the last life: {why}"))?;
        }
        self.peer.disconnect().await.map_err(|Lost(why)| why)?;
        Ok(self)
    }

    /// Some messages with one window, then a pause.
    async fn talk(&mut self) -> Result<(), Lost> {
        let window = WINDOWS[self.random.below(WINDOWS.len() as u64) as usize];
        for _ in 0..=self.random.below(60) {
            while self.peer.unsettled() >= window {
                let happening = self.peer.next().await?;
                self.note(&happening)?;
            }
            let part = self.random.below(PARTS as u64) as usize;
            self.publish(part);
        }
        let until = Instant::now() + Duration::from_millis(self.random.below(40));
        while let Ok(happening) = timeout_at(until, self.peer.next()).await {
            self.note(&happening?)?;
        }
        Ok(())
    }

    fn publish(&mut self, part: usize) {
        let (number, message) = self.streams[part].next_message();
        let sequence = self.peer.publish(message).expect("QoS 1 and 2 have one");
        self.under_way.insert(sequence, (part, number));
    }

    async fn settle_all(&mut self) -> Result<(), Lost> {
        while !self.under_way.is_empty() {
            let happening = timeout(PATIENCE, self.peer.next()).await;
            self.note(&happening.map_err(|_| Lost(format!("never acknowledged: {:?}", self.under_way)))??)?;
        }
        Ok(())
    }

    fn note(&mut self, happening: &Happening) -> Result<(), Lost> {
        let &Happening::Settled { sequence, reason } = happening else {
            return Err(Lost(format!("a publisher gets {happening:?}")));
        };
        assert!(!reason.is_error(), "{} is refused: {reason}", self.peer.options.client_id);
        let (part, number) = self.under_way.remove(&sequence).expect("each is settled once");
        let life = self.phase.borrow().life;
        self.acknowledged[part].push(Noted { number, life });
        self.streams[part].note_acknowledged(number);
        Ok(())
    }
}
