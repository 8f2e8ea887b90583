//! A client that lives many lives: it connects, talks, and dies in one of several ways.

use super::ledger::{Published, WILL, will};
use crate::support::PATIENCE;
use crate::support::peer::{Happening, Lost, Peer, message, open};
use crate::support::random::Random;
use edgeway::mqtt::connection::{ConnectOptions, WillOptions};
use edgeway::mqtt::{QoS, Version};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
/// Topics `retained/0` and so on, with a retained message.
pub const RETAINED: u64 = 100;
/// How long the sessions last of those clients whose sessions expire.
const EXPIRY_SECONDS: u32 = 1;

/// What is left of a client between its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    /// A session for a long time, so that it always goes on.
    Session,
    /// A session that is over soon; whether it goes on depends.
    ShortSession,
}

/// A client and what it was promised.
pub struct Mortal {
    pub peer: Peer,
    number: usize,
    clients: usize,
    kind: Kind,
    random: Random,
    pub published: Published,
    /// Number and QoS of what is under way, by its sequence.
    under_way: HashMap<u64, (u32, QoS)>,
    life: u32,
    /// Sockets that are never read again.
    pub silent: Vec<TcpStream>,
}

impl Mortal {
    /// The one of this number among so many.
    pub fn new(port: u16, number: usize, clients: usize, random: Random) -> Self {
        let (version, kind) = match number % 5 {
            0 => (Version::V3, Kind::Nothing),
            1 => (Version::V5, Kind::Nothing),
            2 => (Version::V3, Kind::Session),
            3 => (Version::V5, Kind::Session),
            _ => (Version::V5, Kind::ShortSession),
        };
        let mut options = ConnectOptions::new(format!("client-{number}"));
        options.version = version;
        options.clean_start = kind == Kind::Nothing;
        options.session_expiry_interval = match kind {
            Kind::Nothing => 0,
            Kind::Session => 3600,
            Kind::ShortSession => EXPIRY_SECONDS,
        };
        Self {
            peer: Peer::new(port, options),
            number,
            clients,
            kind,
            random,
            published: Published::default(),
            under_way: HashMap::new(),
            life: 0,
            silent: Vec::new(),
        }
    }

    /// Lives until then; gives itself back, and how a connection was lost that should not have been.
    pub async fn run(mut self, until: Instant, lives: Arc<AtomicU64>) -> (Self, Option<Lost>) {
        // Not all of them at once.
        sleep(Duration::from_millis(self.random.below(1000))).await;
        let lived = self.live(until, &lives).await;
        (self, lived.err())
    }

    async fn live(&mut self, until: Instant, lives: &AtomicU64) -> Result<(), Lost> {
        while Instant::now() < until {
            self.begin().await?;
            lives.fetch_add(1, Ordering::Relaxed);
            for _ in 0..=self.random.below(5) {
                self.talk().await?;
                if Instant::now() > until {
                    break;
                }
            }
            self.die().await?;
            if self.random.chance(5) {
                self.stumble().await;
            }
            let pause = Duration::from_millis(self.random.below(400));
            sleep(pause).await;
        }
        if self.kind == Kind::Session {
            self.begin().await?;
            while self.peer.unsettled() > 0 {
                let happening = timeout(PATIENCE, self.peer.next()).await;
                let happening = happening.map_err(|_| Lost(format!("{} not acknowledged", self.under_way.len())))??;
                self.note(&happening)?;
            }
            self.peer.disconnect().await?;
            self.peer.end_session().await?;
        }
        Ok(())
    }

    /// A new life: another connection, perhaps of the old session.
    async fn begin(&mut self) -> Result<(), Lost> {
        self.life += 1;
        self.peer.options.will = Some(WillOptions { message: will(self.number, self.life), delay_interval: 0 });
        if self.kind == Kind::Nothing {
            self.peer.forget();
            self.under_way.clear();
        }
        let connected = self.peer.connect().await?;
        match self.kind {
            Kind::Nothing if connected.session_present => return Err(Lost("a clean start found a session".into())),
            Kind::Session if connected.session_present != (self.life > 1) => {
                return Err(Lost(format!("session present in life {}: {}", self.life, connected.session_present)));
            }
            _ => {}
        }
        // A neighbour at some QoS; now and then a filter that matches a tenth of all, or retained messages.
        let neighbour = (self.number + 1) % self.clients;
        let qos = QOS[self.random.below(3) as usize];
        let mut filters = vec![(format!("soak/{neighbour}/+"), qos)];
        if self.random.chance(10) {
            filters.push((format!("soak/{}/q{}", self.random.below(self.clients as u64), qos as u8), qos));
            filters.push((format!("retained/{}", self.random.below(RETAINED)), qos));
        }
        if self.random.chance(1) {
            filters.push(("retained/#".into(), qos));
        }
        self.peer.subscribe(&filters);
        Ok(())
    }

    /// Publishes a few messages and reads for a while.
    async fn talk(&mut self) -> Result<(), Lost> {
        self.publish_up_to(8);
        let until = Instant::now() + Duration::from_millis(20 + self.random.below(600));
        self.listen(until).await
    }

    fn publish_up_to(&mut self, most: u64) {
        for _ in 0..self.random.below(most) {
            // A short session may be gone with what it knew of QoS 2, and then exactly once is not promised.
            let highest = if self.kind == Kind::ShortSession { 2 } else { 3 };
            let qos = QOS[self.random.below(highest) as usize];
            let padding = self.random.below(300) as usize;
            let (number, message) = self.published.next_message(self.number, qos, padding);
            if let Some(sequence) = self.peer.publish(message) {
                self.under_way.insert(sequence, (number, qos));
            }
        }
        if self.random.chance(10) {
            let topic = format!("retained/{}", self.random.below(RETAINED));
            self.peer.publish(message(&topic, &[b'r'; 100], QoS::AtLeastOnce, true));
        }
    }

    async fn listen(&mut self, until: Instant) -> Result<(), Lost> {
        while let Ok(happening) = timeout_at(until, self.peer.next()).await {
            let happening = happening?;
            self.note(&happening)?;
        }
        Ok(())
    }

    fn note(&mut self, happening: &Happening) -> Result<(), Lost> {
        match happening {
            Happening::Message(_) => {}
            Happening::Subscribed(reasons) => {
                if let Some(refused) = reasons.iter().find(|reason| reason.is_error()) {
                    return Err(Lost(format!("a subscription is refused: {refused}")));
                }
            }
            Happening::Settled { sequence, reason } => {
                if reason.is_error() {
                    return Err(Lost(format!("a message is refused: {reason}")));
                }
                // What is retained is not counted.
                if let Some((number, qos)) = self.under_way.remove(sequence) {
                    self.published.promised[qos as usize].add(number);
                }
            }
        }
        Ok(())
    }

    async fn die(&mut self) -> Result<(), Lost> {
        if self.random.chance(50) {
            // In the midst of its work: the exchanges stand anywhere.
            self.publish_up_to(30);
            let until = Instant::now() + Duration::from_micros(self.random.below(3000));
            self.listen(until).await?;
        }
        match self.random.below(10) {
            0..3 => return self.peer.disconnect().await,
            3..6 => self.peer.cut(),
            6..8 => self.peer.cut_in_a_packet().await,
            _ => {
                // The next life takes the place of the one before, or finds it gone.
                self.silent.extend(self.peer.fall_silent());
                if self.random.chance(50) {
                    sleep(Duration::from_millis(self.random.below(1000))).await;
                    self.silent.clear();
                }
            }
        }
        self.published.promised[WILL].add(self.life);
        Ok(())
    }

    /// A connection that comes to nothing: without a word, in the middle of CONNECT, or with what is no MQTT.
    async fn stumble(&mut self) {
        const BEGINNINGS: [&[u8]; 3] = [b"", &[0x10, 60, 0, 4, b'M', b'Q'], b"GET / HTTP/1.1\r\n\r\n"];
        if let Ok(mut stream) = open(self.peer.port(), None).await {
            let beginning = BEGINNINGS[self.random.below(3) as usize];
            let _ = stream.write_all(beginning).await;
            if self.random.chance(50) {
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
