//! Arbitrary packet sequences against a running broker. Whatever they are, afterwards a well-behaved pair is served, no
//! task has panicked, and nothing is left of those who are gone.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use edgeway::broker::{Broker, Limits, QueueLimits, WhenFull, turn};
use edgeway::net::Transport;
use edgeway::net::transport::ByteStream;
use edgeway::store::Journal;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpListener;

use super::wire::{CLIENTS, Course, courses};

/// Only ever passes where a test fails.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a reader of arbitrary answers takes before it no longer reads.
const MAX_READ: usize = 16 * 1024;

/// How clients reach the broker.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Tcp,
    Stream,
}

/// A broker in this process with narrow limits.
pub struct World {
    broker: Arc<Broker>,
    listener: TcpListener,
}

impl World {
    /// `session_expiry` is the longest that a session may outlive its connection, in seconds.
    async fn start(session_expiry: Option<u32>) -> Self {
        let limits = Limits {
            packet_bytes: 4096,
            inflight: 3,
            queue: QueueLimits { messages: 20, bytes: 64 * 1024, when_full: WhenFull::DropOldest },
            subscriptions: 8,
            retained: 8,
            session_expiry,
            connect_timeout: Duration::from_millis(200),
            ..Limits::default()
        };
        let broker = Broker::start(limits, Arc::new(Journal::in_memory()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { broker, listener }
    }

    async fn dial(&self, kind: Kind) -> Pin<Box<dyn ByteStream>> {
        let entrance = self.broker.entrance();
        match kind {
            Kind::Tcp => {
                let dialled = tokio::net::TcpStream::connect(self.listener.local_addr().unwrap());
                let (dialled, accepted) = tokio::join!(dialled, self.listener.accept());
                let (accepted, from) = accepted.unwrap();
                self.broker.accept_transport(Transport::tcp(accepted), Some(from.ip()), entrance);
                Box::pin(dialled.unwrap())
            }
            Kind::Stream => {
                let (near, far) = duplex(1024);
                self.broker.accept_transport(Transport::stream(far), None, entrance);
                Box::pin(near)
            }
        }
    }

    /// Says all of `course` on a connection of its own while it listens a little, then cuts it.
    pub async fn follow(&self, kind: Kind, course: &[Vec<u8>]) {
        let stream = self.dial(kind).await;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let say = async {
            for bytes in course {
                // The broker may have closed, or no longer read.
                let written = tokio::time::timeout(Duration::from_millis(50), writer.write_all(bytes)).await;
                if !matches!(written, Ok(Ok(()))) {
                    break;
                }
                tokio::task::yield_now().await;
            }
            // Some hang up, and what they said last is taken; some are cut.
            if course.len().is_multiple_of(2) {
                let _ = writer.shutdown().await;
                let _ = tokio::time::timeout(Duration::from_millis(50), std::future::pending::<()>()).await;
            }
        };
        let hear = async {
            let mut bytes = vec![0; MAX_READ];
            let mut at = 0;
            while at < MAX_READ {
                match reader.read(&mut bytes[at..]).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => at += count,
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = say => {}
            () = hear => {}
        }
    }

    /// What a pair of clients that keep to the rules gets: each QoS, at each version.
    pub async fn serves_a_pair(&self, kind: Kind) {
        let done = tokio::time::timeout(PATIENCE, async {
            for (level, properties) in [(4u8, &b""[..]), (5, b"\0")] {
                let mut subscriber = self.enter(kind, level, "subscriber").await;
                let subscribe = [b"\0\x01", properties, b"\0\x04pair\x02"].concat();
                subscriber.say(0x82, &subscribe).await;
                assert_eq!(subscriber.next().await, (0x90, [b"\0\x01", properties, b"\x02"].concat()));
                let mut publisher = self.enter(kind, level, "publisher").await;
                publisher.say(0x30, &[b"\0\x04pair", properties, b"0"].concat()).await;
                publisher.say(0x32, &[b"\0\x04pair\0\x01", properties, b"1"].concat()).await;
                assert_eq!(publisher.next().await, (0x40, b"\0\x01".to_vec()));
                publisher.say(0x34, &[b"\0\x04pair\0\x02", properties, b"2"].concat()).await;
                assert_eq!(publisher.next().await, (0x50, b"\0\x02".to_vec()));
                publisher.say(0x62, b"\0\x02").await;
                assert_eq!(publisher.next().await, (0x70, b"\0\x02".to_vec()));
                let published = |id: &[u8], payload: &[u8]| [b"\0\x04pair", id, properties, payload].concat();
                assert_eq!(subscriber.next().await, (0x30, published(b"", b"0")));
                assert_eq!(subscriber.next().await, (0x32, published(b"\0\x01", b"1")));
                subscriber.say(0x40, b"\0\x01").await;
                assert_eq!(subscriber.next().await, (0x34, published(b"\0\x02", b"2")));
                subscriber.say(0x50, b"\0\x02").await;
                assert_eq!(subscriber.next().await, (0x62, b"\0\x02".to_vec()));
                subscriber.say(0x70, b"\0\x02").await;
                for client in [publisher, subscriber] {
                    client.leave().await;
                }
            }
        });
        done.await.expect("the pair is served");
    }

    async fn enter(&self, kind: Kind, level: u8, client_id: &str) -> Client {
        let mut client = Client { stream: self.dial(kind).await };
        let mut hello = b"\0\x04MQTT".to_vec();
        hello.extend_from_slice(&[level, 2, 0, 60]);
        if level == 5 {
            hello.push(0);
        }
        hello.extend_from_slice(&[0, client_id.len() as u8]);
        hello.extend_from_slice(client_id.as_bytes());
        client.say(0x10, &hello).await;
        let (first, body) = client.next().await;
        assert_eq!((first, &body[..2]), (0x20, &b"\0\0"[..]));
        client
    }

    /// Waits until nobody is connected, and says how many sessions are left.
    pub async fn sessions_left(&self) -> usize {
        let done = tokio::time::timeout(PATIENCE, async {
            while self.broker.metrics.clients.value() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        done.await.expect("the connections of those who are gone are closed");
        self.broker.session_count()
    }
}

/// A client that keeps to the rules.
struct Client {
    stream: Pin<Box<dyn ByteStream>>,
}

impl Client {
    async fn say(&mut self, first: u8, body: &[u8]) {
        let packet = [&[first, u8::try_from(body.len()).unwrap()], body].concat();
        self.stream.write_all(&packet).await.unwrap();
    }

    /// First byte and body of the next packet, which is a short one.
    async fn next(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).await.unwrap();
        assert!(head[1] < 0x80);
        let mut body = vec![0; usize::from(head[1])];
        self.stream.read_exact(&mut body).await.unwrap();
        (head[0], body)
    }

    async fn leave(mut self) {
        self.say(0xE0, b"").await;
        assert_eq!(self.stream.read(&mut [0]).await.unwrap(), 0, "it is closed");
    }
}

/// Panics on the threads of a runtime of ours, which its tasks swallow.
fn panics() -> usize {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() == Some("edgeway") {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            before(panic);
        }));
    });
    PANICS.load(Ordering::Relaxed)
}

/// Runs `scenario` against a broker of its own on our runtime, and sees that nothing has panicked.
pub fn with_broker<F: Future<Output = ()>>(session_expiry: Option<u32>, scenario: impl FnOnce(Arc<World>) -> F) {
    // Whose panic it was, the hook cannot tell.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let before = panics();
    turn::runtime(2).unwrap().block_on(async {
        let world = Arc::new(World::start(session_expiry).await);
        scenario(Arc::clone(&world)).await;
        tokio::time::timeout(PATIENCE, world.broker.stop()).await.expect("every task of the broker ends");
    });
    assert_eq!(panics(), before, "a task has panicked");
}

/// All courses at once, then one after the other, which resumes their sessions.
async fn follow_all(world: &Arc<World>, kind: Kind, courses: &[Course]) {
    let mut running = tokio::task::JoinSet::new();
    for course in courses {
        let course = course.clone();
        let world = Arc::clone(world);
        running.spawn(async move { world.follow(kind, &course).await });
    }
    running.join_all().await;
    for course in courses {
        world.follow(kind, course).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_time: 30_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_clients_send_others_are_served_and_nothing_is_left_of_them(courses in courses(), stream: bool) {
        let kind = if stream { Kind::Stream } else { Kind::Tcp };
        // Sessions end with their connection, so that none may be left.
        with_broker(Some(0), async |world| {
            follow_all(&world, kind, &courses).await;
            world.serves_a_pair(kind).await;
            assert_eq!(world.sessions_left().await, 0);
        });
        // They stay for as long as they want, and are ended by clean starts.
        with_broker(None, async |world| {
            follow_all(&world, kind, &courses).await;
            world.serves_a_pair(kind).await;
            for client_id in CLIENTS {
                world.enter(kind, 4, client_id).await.leave().await;
            }
            world.sessions_left().await;
        });
    }
}

#[test]
fn a_panic_of_a_task_would_be_seen() {
    let seen = std::panic::catch_unwind(|| {
        with_broker(None, async |world| {
            let _ = world.broker.tasks().spawn(async { panic!("on purpose") }).await;
        });
    });
    assert!(seen.is_err());
}
