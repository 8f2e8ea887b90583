//! A subscriber with a durable session that notes all that comes; some are away for several lives.

use super::ledger::{Life, Noted, Stream};
use super::{FENCE, Phase, reconnect};
use crate::support::PATIENCE;
use crate::support::peer::{Happening, Lost, Peer};
use crate::support::random::Random;
use edgeway::mqtt::connection::ConnectOptions;
use edgeway::mqtt::{Message, QoS};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Why somebody stops reading.
enum Why {
    Time,
    Lost,
    Fence,
}

/// A subscriber, and what it saw.
pub struct Subscriber {
    pub peer: Peer,
    pub qos: QoS,
    /// The most lives that it stays away at a time; 0 is one that always comes back at once.
    stays_away: Life,
    random: Random,
    phase: watch::Receiver<Phase>,
    streams: HashMap<String, Arc<Stream>>,
    /// What came on each topic, in its order.
    pub arrived: HashMap<String, Vec<Noted>>,
    pub connections: u64,
}

impl Subscriber {
    /// Connected, with its subscriptions.
    pub async fn start(
        port: u16,
        options: ConnectOptions,
        qos: QoS,
        stays_away: Life,
        random: Random,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        let mut peer = Peer::new(port, options);
        assert!(!peer.connect().await.unwrap().session_present);
        peer.subscribed(&[("plug/#".into(), qos), (FENCE.into(), QoS::ExactlyOnce)]).await;
        let (streams, arrived) = Default::default();
        Self { peer, qos, stays_away, random, phase, streams, arrived, connections: 1 }
    }

    /// Tells it what may come.
    pub fn expect(&mut self, stream: &Arc<Stream>) {
        self.streams.insert(stream.topic.clone(), Arc::clone(stream));
    }

    /// Reads through all lives until the fence comes, which it does after the last message.
    pub async fn run(mut self) -> Result<Self, String> {
        while !self.phase.borrow().is_ending {
            let until = Instant::now() + Duration::from_millis(100 + self.random.below(2000));
            match self.read_until(until).await? {
                Why::Fence => return self.end().await,
                Why::Lost => self.peer.cut(),
                Why::Time if self.stays_away == 0 => continue,
                // The gateway may be killed meanwhile.
                Why::Time if self.random.chance(50) => drop(self.peer.disconnect().await),
                Why::Time => self.peer.cut(),
            }
            if self.stays_away > 0 {
                let back = self.phase.borrow().life + 1 + self.random.below(self.stays_away.into()) as Life;
                let phase = self.phase.wait_for(|phase| phase.life >= back || phase.is_ending).await;
                drop(phase.map_err(|_| "the test is over before its end".to_owned())?);
            }
            reconnect(&mut self.peer, &self.phase).await?;
            self.connections += 1;
        }
        if self.read_to_the_fence().await.is_err() {
            // That was the link of a life before.
            self.peer.cut();
            reconnect(&mut self.peer, &self.phase).await?;
            self.read_to_the_fence().await.map_err(|Lost(why)| format!("before the fence: {why}"))?;
        }
        self.end().await
    }

    async fn end(mut self) -> Result<Self, String> {
        self.peer.flush().await;
        self.peer.disconnect().await.map_err(|Lost(why)| why)?;
        Ok(self)
    }

    /// Connects once more, after everything was acknowledged and the gateway stopped and started: nothing may come
    /// but another fence.
    pub async fn finds_nothing_again(mut self) -> Result<(), String> {
        reconnect(&mut self.peer, &self.phase).await?;
        let before = self.count();
        self.read_to_the_fence().await.map_err(|Lost(why)| why)?;
        match self.count() - before {
            0 => Ok(()),
            again => Err(format!("{again} messages came again after they had been acknowledged")),
        }
    }

    pub fn count(&self) -> usize {
        self.arrived.values().map(Vec::len).sum()
    }

    /// Reads, and says why no longer.
    async fn read_until(&mut self, until: Instant) -> Result<Why, String> {
        loop {
            match timeout_at(until, self.peer.next()).await {
                Err(_) => return Ok(Why::Time),
                Ok(Err(Lost(_))) => return Ok(Why::Lost),
                Ok(Ok(Happening::Message(delivery))) => {
                    if self.note(&delivery.message)? {
                        return Ok(Why::Fence);
                    }
                }
                Ok(Ok(other)) => return Err(format!("a subscriber gets {other:?}")),
            }
            if self.random.below(500) == 0 {
                // So that its window fills, and what it acknowledges comes late.
                sleep(Duration::from_millis(self.random.below(60))).await;
            }
        }
    }

    async fn read_to_the_fence(&mut self) -> Result<(), Lost> {
        loop {
            let happening = timeout(PATIENCE, self.peer.next()).await.map_err(|_| Lost("no fence came".into()))??;
            let Happening::Message(delivery) = happening else {
                return Err(Lost(format!("a subscriber gets {happening:?}")));
            };
            if self.note(&delivery.message).map_err(Lost)? {
                return Ok(());
            }
        }
    }

    /// Whether it is the fence.
    fn note(&mut self, message: &Message) -> Result<bool, String> {
        if message.topic() == FENCE {
            return Ok(true);
        }
        let life = self.phase.borrow().life;
        let number = self.streams.get(message.topic()).and_then(|stream| stream.number_of(message));
        let number = number.ok_or_else(|| format!("nobody published this, in life {life}: {message:?}"))?;
        self.arrived.entry(message.topic().to_owned()).or_default().push(Noted { number, life });
        Ok(false)
    }
}
