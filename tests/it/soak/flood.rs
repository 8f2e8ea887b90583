//! A publisher at QoS 0 that writes whenever the socket takes anything, and one who reads it.

use super::pairs::current_thread;
use crate::support::peer::{Happening, subscriber};
use edgeway::mqtt::packet::Connect;
use edgeway::mqtt::{Packet, QoS, Version};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::time::timeout;

/// Both, each with a thread of its own.
pub struct Flood {
    stop: Arc<AtomicBool>,
    threads: [JoinHandle<u64>; 2],
}

impl Flood {
    pub fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stops, reads) = (Arc::clone(&stop), Arc::clone(&stop));
        let publisher = std::thread::spawn(move || flood(port, &stops));
        let reader = std::thread::spawn(move || {
            current_thread().block_on(async {
                let mut peer = subscriber(port, "flood-reader", "flood", QoS::AtMostOnce, None).await;
                let mut received = 0;
                while !reads.load(Ordering::Relaxed) {
                    if let Ok(Ok(Happening::Message(_))) = timeout(Duration::from_millis(100), peer.next()).await {
                        received += 1;
                    }
                }
                received
            })
        });
        Self { stop, threads: [publisher, reader] }
    }

    /// Messages that the publisher has written.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let [written, received] = self.threads.map(|thread| thread.join().unwrap());
        assert!(written > 0 && received > 0, "{written} written, {received} received");
        written
    }
}

fn flood(port: u16, stop: &AtomicBool) -> u64 {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut connect = Vec::new();
    Packet::Connect(Connect::new(Version::V3, "flooder")).encode(Version::V3, &mut connect);
    stream.write_all(&connect).unwrap();
    let mut packet = vec![0x30, 62, 0, 5];
    packet.extend_from_slice(b"flood");
    packet.resize(64, b'x');
    let packets = packet.repeat(1000);
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        // It may take a part of a packet; the next begins there.
        match stream.write(&packets[written % packet.len()..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("the flood is cut: {error}"),
        }
    }
    (written / packet.len()) as u64
}
