//! A disk that runs full under load: nothing is acknowledged that is not on it, and it goes on when there is room.

use super::{drain, durable, leave_a_session, numbered, runtime};
use crate::support::PATIENCE;
use crate::support::edgeway::Edgeway;
use crate::support::peer::{Happening, Peer, subscriber};
use crate::support::ports::free_port;
use crate::support::small_disk::SmallDisk;
use edgeway::mqtt::QoS;
use std::io::{Read, Write};
use std::net::TcpStream;
use tokio::time::timeout;

const GATEWAY: &str = r#"
broker:
  listen: "mqtt://127.0.0.1:@PORT@"
  sys_interval: 1s
  limits: { queue: 1000000, queue_bytes: 1GB }
storage: { path: "@DIR@/disk/store", limit: 1GB }
admin: { listen: "127.0.0.1:@ADMIN@" }
log: { level: warn }
"#;

const DISK_BYTES: u64 = 48 * 1024 * 1024;
/// What the gateway has of it before room is made.
const FIRST_BYTES: u64 = 16 * 1024 * 1024;

#[test]
fn a_full_disk_gets_no_acknowledgement_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path().join("disk");
    std::fs::create_dir(&mount).unwrap();
    let Some(disk) = SmallDisk::mount(&mount, DISK_BYTES) else { return };
    disk.fill(FIRST_BYTES);
    let within = disk.within();
    let within: Vec<&str> = within.iter().map(String::as_str).collect();
    let admin = free_port();
    let mut edgeway = Edgeway::start_within(folder, &GATEWAY.replace("@ADMIN@", &admin.to_string()), &within);
    let port = edgeway.port;
    runtime().block_on(async {
        leave_a_session(port).await;
        let mut state = State::watch(port).await;
        let mut writer = Writer::connect(port).await;

        writer.publish_until(&mut state, "failed").await;
        assert!(writer.peer.unsettled() > 0, "all was acknowledged on a full disk");
        answers_a_ping(port);
        assert!(edgeway.peer().is_running());
        let said = health(admin);
        assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("nothing can be committed"), "{said}");
        let at_first = writer.acknowledged();

        disk.make_room();
        writer.settle().await;
        state.until("ok").await;
        assert!(writer.acknowledged() > at_first);
        assert!(health(admin).starts_with("HTTP/1.1 200 "));

        // Now to the last byte, and it is killed like that.
        disk.fill(0);
        writer.publish_until(&mut state, "failed").await;
        answers_a_ping(port);
        let acknowledged = writer.acknowledged();
        edgeway.kill();
        writer.peer.cut();
        edgeway.start_again();
        answers_a_ping(port);

        disk.make_room();
        let numbers = drain(port).await;
        let whole: Vec<u32> = (0..numbers.len() as u32).collect();
        assert_eq!(numbers, whole, "not each message once and in order");
        assert!(numbers.len() as u32 >= acknowledged, "{acknowledged} acknowledged, {} are there", numbers.len());
        // The publisher's session goes on too: what was not acknowledged goes again.
        let connected = writer.peer.connect().await.unwrap();
        assert!(connected.session_present);
        writer.settle().await;
        println!(
            "full: {at_first} messages acknowledged before the disk was full, {acknowledged} before it was full again, \
             {} are there",
            numbers.len()
        );
    });
}

/// Publishes numbers in turn, and counts what is acknowledged.
struct Writer {
    peer: Peer,
    next: u32,
}

impl Writer {
    async fn connect(port: u16) -> Self {
        let mut peer = Peer::new(port, durable("writer"));
        peer.connect().await.unwrap();
        Self { peer, next: 0 }
    }

    /// How many were acknowledged: the first ones, since that goes in order.
    fn acknowledged(&self) -> u32 {
        self.next - self.peer.unsettled() as u32
    }

    /// Publishes as fast as it is let until the store's state is that. There must be little room.
    async fn publish_until(&mut self, state: &mut State, wanted: &str) {
        let publishing = async {
            while state.last != wanted {
                while self.peer.unsettled() < 50 {
                    self.peer.publish(numbered(self.next, 1000));
                    self.next += 1;
                }
                tokio::select! {
                    happening = self.peer.next() => assert_taken(&happening.unwrap()),
                    happening = state.peer.next() => state.note(&happening.unwrap()),
                }
            }
        };
        let told = timeout(PATIENCE * 3, publishing).await;
        assert!(told.is_ok(), "the store's state is {:?} and never {wanted:?}", state.last);
    }

    async fn settle(&mut self) {
        while self.peer.unsettled() > 0 {
            assert_taken(&self.peer.patient_next().await);
        }
    }
}

fn assert_taken(happening: &Happening) {
    match happening {
        Happening::Settled { reason, .. } => assert!(!reason.is_error(), "refused: {reason}"),
        other => panic!("a publisher gets {other:?}"),
    }
}

/// What the gateway says of its store.
struct State {
    peer: Peer,
    last: String,
}

impl State {
    async fn watch(port: u16) -> Self {
        let peer = subscriber(port, "watcher", "$SYS/gateway/store/state", QoS::AtMostOnce, None).await;
        Self { peer, last: String::new() }
    }

    async fn until(&mut self, wanted: &str) {
        while self.last != wanted {
            let happening = self.peer.patient_next().await;
            self.note(&happening);
        }
    }

    fn note(&mut self, happening: &Happening) {
        if let Happening::Message(delivery) = happening {
            self.last = String::from_utf8_lossy(delivery.message.payload()).into_owned();
        }
    }
}

/// Connects, and has a PINGREQ answered.
fn answers_a_ping(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"\x10\x10\0\x04MQTT\x04\x02\0\0\0\x04ping\xC0\0").unwrap();
    let mut answers = [0; 6];
    stream.read_exact(&mut answers).unwrap();
    assert_eq!(answers, [0x20, 2, 0, 0, 0xD0, 0]);
}

/// What `/healthz` answers, with its head.
fn health(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
