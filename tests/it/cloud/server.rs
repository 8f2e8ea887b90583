//! A cloud as tests have it: MQTT over TLS by Edgeway's pure codec, with rules over which it closes connections.

use crate::support::certificates::Authority;
use crate::support::ports::free_port;
use crate::support::process::wait_until;
use edgeway::mqtt::codec::{Framing, split_frame};
use edgeway::mqtt::packet::{Ack, ConnAck, Connect, Publish, PublishProperties, SubAck, Subscribe};
use edgeway::mqtt::{Packet, PacketId, QoS, ReasonCode, Version};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a connection listens before it looks whether it has something to say.
const LOOK: Duration = Duration::from_millis(10);

/// What a cloud takes, and says by itself. Each method is told of what came; an error closes the connection, and is
/// in the log.
pub trait Rules: Send + 'static {
    /// The protocols that TLS may name.
    fn alpn(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// Whether a client shows a certificate.
    fn wants_certificate(&self) -> bool {
        false
    }

    /// CONNECT.
    fn connect(&mut self, connect: &Connect<'_>, entry: &Entry) -> Result<ConnAck<'static>, String>;

    /// SUBSCRIBE.
    fn subscribe(&mut self, _: &Subscribe<'_>) -> Result<(), String> {
        Ok(())
    }

    /// PUBLISH, in a packet of so many bytes.
    fn publish(&mut self, publish: &Publish<'_>, bytes: usize) -> Result<(), String>;

    /// Called again and again: why the connection ends now.
    fn look(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// How a client came in.
pub struct Entry {
    /// The protocol that both named.
    pub alpn: Option<String>,
    /// Whether it has shown a certificate.
    pub has_certificate: bool,
}

/// A message that came.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    pub topic: String,
    pub qos: u8,
    pub retain: bool,
    pub payload: String,
}

/// What happened, in order.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    received: Vec<Received>,
    /// What the connection is to say next.
    commands: Vec<(String, String, QoS)>,
}

/// A cloud; one connection at a time has its ear.
pub struct Cloud {
    pub port: u16,
    log: Arc<Mutex<Log>>,
}

impl Cloud {
    /// Listens on a free port of 127.0.0.1 with a certificate of `authority`.
    pub fn start(authority: &Authority, rules: impl Rules) -> Self {
        Self::start_at(authority, TcpListener::bind(("127.0.0.1", free_port())).expect("the port is free"), rules)
    }

    pub fn start_at(authority: &Authority, listener: TcpListener, rules: impl Rules) -> Self {
        let config = server_config(authority, &rules);
        let port = listener.local_addr().expect("a listener has an address").port();
        let log: Arc<Mutex<Log>> = Arc::default();
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut rules = rules;
            while let Ok((socket, _)) = listener.accept() {
                let end = serve(socket, &config, &mut rules, &shared);
                lock(&shared).lines.push(format!("closed: {}", end.err().unwrap_or_else(|| "by the client".into())));
            }
        });
        Self { port, log }
    }

    /// What happened so far, in order.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.log).lines.clone()
    }

    /// How many lines begin so.
    pub fn count(&self, begin: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(begin)).count()
    }

    /// Waits for a line that begins so.
    pub fn until(&self, begin: &str) {
        wait_until(&format!("{begin:?} in the cloud's log"), || self.count(begin) > 0);
    }

    /// All messages so far.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.log).received.clone()
    }

    /// Waits for a message on `topic`, and gives the first.
    pub fn message(&self, topic: &str) -> Received {
        let find = || self.received().into_iter().find(|message| message.topic == topic);
        wait_until(&format!("a message on {topic} in the cloud: {:?}", self.lines()), || find().is_some());
        find().expect("it was there")
    }

    /// Says something on the connection.
    pub fn send(&self, topic: &str, payload: &str, qos: QoS) {
        lock(&self.log).commands.push((topic.into(), payload.into(), qos));
    }

    /// Asserts that no rule was broken.
    pub fn assert_content(&self) {
        let broken: Vec<String> = self.lines().into_iter().filter(|line| line.starts_with("closed: rule")).collect();
        assert_eq!(broken, Vec::<String>::new());
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn server_config(authority: &Authority, rules: &impl Rules) -> Arc<ServerConfig> {
    let identity = authority.sign("cloud");
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("it is PEM");
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("it is PEM");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().expect("ring has both versions");
    let builder = if rules.wants_certificate() {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority.path("ca.crt")).expect("it is PEM")).expect("it is one");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        builder.with_client_cert_verifier(verifier.expect("there is a root"))
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(vec![certificate], key).expect("the key is the certificate's");
    config.alpn_protocols = rules.alpn();
    Arc::new(config)
}

type Stream = StreamOwned<ServerConnection, TcpStream>;

fn serve(
    socket: TcpStream,
    config: &Arc<ServerConfig>,
    rules: &mut impl Rules,
    log: &Mutex<Log>,
) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut tls = ServerConnection::new(Arc::clone(config)).map_err(|error| error.to_string())?;
    let mut socket = socket;
    socket.set_nodelay(true).map_err(failed)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).map_err(failed)?;
    }
    let entry = Entry {
        alpn: tls.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        has_certificate: tls.peer_certificates().is_some(),
    };
    socket.set_read_timeout(Some(LOOK)).map_err(failed)?;
    let mut connection =
        Connection { stream: StreamOwned::new(tls, socket), version: Version::V5, is_in: false, next_id: 0 };
    let mut input = Vec::new();
    loop {
        while let Framing::Complete(frame, length) =
            split_frame(&input, usize::MAX).map_err(|error| format!("rule: {error}"))?
        {
            if frame.first >> 4 == 1 {
                connection.version = Connect::version_of(frame.body).ok_or("rule: no CONNECT")?;
            }
            let packet = Packet::decode(frame, connection.version).map_err(|error| format!("rule: {error}"))?;
            if !connection.handle(&packet, length, &entry, rules, log)? {
                return Ok(());
            }
            input.drain(..length);
        }
        let mut chunk = [0; 16 * 1024];
        match connection.stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => input.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(failed(error)),
        }
        if connection.is_in {
            rules.look().map_err(|error| format!("cloud: {error}"))?;
            let commands = std::mem::take(&mut lock(log).commands);
            for (topic, payload, qos) in commands {
                connection.publish(&topic, &payload, qos)?;
            }
        }
    }
}

struct Connection {
    stream: Stream,
    version: Version,
    is_in: bool,
    next_id: u16,
}

impl Connection {
    /// Whether the connection goes on.
    fn handle(
        &mut self,
        packet: &Packet<'_>,
        bytes: usize,
        entry: &Entry,
        rules: &mut impl Rules,
        log: &Mutex<Log>,
    ) -> Result<bool, String> {
        let rule = |reason: String| format!("rule: {reason}");
        match packet {
            Packet::Connect(connect) => {
                let line = format!("connect {} {:?} {:?}", connect.client_id, connect.version, connect.username);
                lock(log).lines.push(line);
                let connack = rules.connect(connect, entry).map_err(rule)?;
                self.is_in = connack.reason == ReasonCode::Success;
                self.send(&Packet::ConnAck(connack))?;
                return Ok(self.is_in);
            }
            Packet::Subscribe(subscribe) => {
                rules.subscribe(subscribe).map_err(rule)?;
                let mut codes = Vec::new();
                for (filter, options) in subscribe.filters.iter() {
                    lock(log).lines.push(format!("subscribe {filter} {}", options.qos));
                    codes.push(options.qos as u8);
                }
                self.send(&Packet::SubAck(SubAck::new(subscribe.packet_id, &codes)))?;
            }
            Packet::Publish(publish) => {
                rules.publish(publish, bytes).map_err(rule)?;
                lock(log).received.push(Received {
                    topic: publish.topic.into(),
                    qos: publish.qos as u8,
                    retain: publish.retain,
                    payload: String::from_utf8_lossy(publish.payload).into_owned(),
                });
                if let Some(packet_id) = publish.packet_id {
                    self.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)))?;
                }
            }
            Packet::PubAck(_) => lock(log).lines.push("puback".into()),
            Packet::PingReq => self.send(&Packet::PingResp)?,
            Packet::Disconnect(_) => {
                lock(log).lines.push("disconnect".into());
                return Ok(false);
            }
            _ => {}
        }
        Ok(true)
    }

    fn publish(&mut self, topic: &str, payload: &str, qos: QoS) -> Result<(), String> {
        self.next_id += 1;
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos,
            retain: false,
            topic,
            packet_id: (qos != QoS::AtMostOnce).then(|| PacketId::new(self.next_id).expect("it counts from 1")),
            properties: PublishProperties::default(),
            payload: payload.as_bytes(),
        }))
    }

    fn send(&mut self, packet: &Packet<'_>) -> Result<(), String> {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        let written = self.stream.write_all(&bytes).and_then(|()| self.stream.flush());
        written.map_err(|error| error.to_string())
    }
}
