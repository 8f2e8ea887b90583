//! A client of the load generator: its link ends in any way, and its session goes on in the next one.

use super::PATIENCE;
use edgeway::mqtt::connection::{ConnectOptions, Connected, Connection, Delivery, Event};
use edgeway::mqtt::packet::SubscriptionOptions;
use edgeway::mqtt::session::Session;
use edgeway::mqtt::{Message, MessageBuilder, Millis, QoS, ReasonCode, TopicFilter, TopicName};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// A client, connected or not.
pub struct Peer {
    port: u16,
    pub options: ConnectOptions,
    /// Bytes that the system keeps for us unread; `None` is what it thinks best.
    pub receive_buffer: Option<u32>,
    origin: Instant,
    link: Option<Link>,
    session: Session,
}

struct Link {
    stream: TcpStream,
    connection: Connection,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// What [`Peer::next`] tells.
#[derive(Debug)]
pub enum Happening {
    Message(Delivery),
    Settled { sequence: u64, reason: ReasonCode },
    Subscribed(Vec<ReasonCode>),
}

/// The link ended, and we did not end it.
#[derive(Debug)]
pub struct Lost(pub String);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Peer {
    pub fn new(port: u16, options: ConnectOptions) -> Self {
        let origin = Instant::now();
        Self { port, options, receive_buffer: None, origin, link: None, session: Session::default() }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connects, with the session of the link before.
    pub async fn connect(&mut self) -> Result<Connected, Lost> {
        assert!(self.link.is_none(), "connected already");
        let stream = open(self.port, self.receive_buffer).await.map_err(|error| Lost(format!("opening: {error}")))?;
        let connection = Connection::client(&self.options, std::mem::take(&mut self.session), self.now());
        self.link = Some(Link { stream, connection, input: Vec::new(), output: Vec::new() });
        let origin = self.origin;
        let link = self.link.as_mut().expect("just made");
        let deadline = Instant::now() + PATIENCE;
        loop {
            match link.connection.poll_event() {
                Some(Event::Connected(connected)) => return Ok(connected),
                Some(other) => return Err(Lost(format!("instead of CONNACK: {other:?}"))),
                None => timeout_at(deadline, link.step(origin)).await.map_err(|_| Lost("no CONNACK".into()))??,
            }
        }
    }

    /// Forgets the session, as a client does that starts clean.
    pub fn forget(&mut self) {
        assert!(self.link.is_none(), "connected");
        self.session = Session::default();
    }

    /// Asks for filters, each with the highest QoS that it wants; [`Happening::Subscribed`] answers.
    pub fn subscribe(&mut self, filters: &[(String, QoS)]) {
        let now = self.now();
        let filters: Vec<_> = filters
            .iter()
            .map(|(filter, qos)| {
                let options = SubscriptionOptions { qos: *qos, ..SubscriptionOptions::default() };
                (TopicFilter::new(filter).unwrap(), options)
            })
            .collect();
        self.link.as_mut().expect("connected").connection.subscribe(&filters, now).unwrap();
    }

    /// Subscribes and waits for the answer; what comes before it is forgotten.
    pub async fn subscribed(&mut self, filters: &[(String, QoS)]) {
        self.subscribe(filters);
        loop {
            if let Happening::Subscribed(reasons) = self.patient_next().await {
                assert!(reasons.iter().all(|reason| !reason.is_error()), "{reasons:?}");
                return;
            }
        }
    }

    /// Hands a message over; it goes out while [`Peer::next`] waits. QoS 1 and 2 give what
    /// [`Happening::Settled`] will name.
    pub fn publish(&mut self, message: Message) -> Option<u64> {
        let now = self.now();
        self.link.as_mut().expect("connected").connection.publish(message, now).unwrap()
    }

    /// Bytes that were handed over and are not written.
    pub fn unwritten(&mut self) -> usize {
        self.link.as_mut().map_or(0, |link| {
            link.connection.poll_output(&mut link.output);
            link.output.len()
        })
    }

    /// Messages of QoS 1 and 2 whose exchange is not over.
    pub fn unsettled(&self) -> usize {
        self.link.as_ref().map_or(&self.session, |link| link.connection.session()).unsettled()
    }

    /// Waits for what happens next. It may be dropped at any time: nothing is lost by it.
    pub async fn next(&mut self) -> Result<Happening, Lost> {
        loop {
            let now = self.now();
            let origin = self.origin;
            let link = self.link.as_mut().ok_or_else(|| Lost("not connected".into()))?;
            match link.connection.poll_event() {
                Some(Event::Settled { sequence, reason }) => return Ok(Happening::Settled { sequence, reason }),
                Some(Event::Subscribed(reasons)) => return Ok(Happening::Subscribed(reasons)),
                Some(other) => return Err(Lost(format!("{other:?}"))),
                None => {}
            }
            if let Some(delivery) = link.connection.poll_message(now) {
                return Ok(Happening::Message(delivery));
            }
            link.step(origin).await?;
        }
    }

    /// As [`Peer::next`], where something must come.
    ///
    /// # Panics
    /// When nothing comes for long, or the link is lost.
    pub async fn patient_next(&mut self) -> Happening {
        match timeout(PATIENCE, self.next()).await {
            Ok(Ok(happening)) => happening,
            Ok(Err(lost)) => panic!("{}: {lost}", self.options.client_id),
            Err(_) => panic!("{}: nothing came", self.options.client_id),
        }
    }

    /// Waits until everything is settled and written; messages that come meanwhile are forgotten.
    pub async fn settle(&mut self) {
        while self.unsettled() > 0 {
            self.patient_next().await;
        }
        self.flush().await;
    }

    /// Waits until everything is written.
    pub async fn flush(&mut self) {
        while self.unwritten() > 0 {
            let origin = self.origin;
            let link = self.link.as_mut().expect("connected");
            link.step(origin).await.unwrap();
        }
    }

    /// DISCONNECT, and waits until the server has closed.
    pub async fn disconnect(&mut self) -> Result<(), Lost> {
        let Some(mut link) = self.link.take() else {
            return Ok(());
        };
        link.connection.disconnect(ReasonCode::Success);
        link.connection.poll_output(&mut link.output);
        let goodbye = timeout(PATIENCE, async {
            let (mut reader, mut writer) = link.stream.split();
            let say = async {
                writer.write_all(&link.output).await?;
                writer.shutdown().await
            };
            // Whoever closes over unread bytes resets the connection, and the DISCONNECT would be lost with it.
            let listen = async { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await };
            tokio::try_join!(say, listen)
        });
        let result = goodbye.await;
        self.session = link.connection.into_session();
        match result {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Lost(format!("at DISCONNECT: {error}"))),
            Err(_) => Err(Lost("the server does not close after DISCONNECT".into())),
        }
    }

    /// Ends the session, while it is not connected.
    pub async fn end_session(&mut self) -> Result<(), Lost> {
        self.forget();
        self.options.will = None;
        self.options.clean_start = true;
        self.options.session_expiry_interval = 0;
        self.connect().await?;
        self.disconnect().await
    }

    /// Closes the socket without DISCONNECT.
    pub fn cut(&mut self) {
        drop(self.fall_silent());
    }

    /// Closes the socket in the middle of a packet.
    pub async fn cut_in_a_packet(&mut self) {
        if let Some(link) = &mut self.link {
            link.connection.poll_output(&mut link.output);
            // A PUBLISH of 200 bytes, of which 60 come.
            link.output.extend_from_slice(&[0x30, 200, 1, 0, 4, b'p', b'a', b'r', b't']);
            link.output.resize(link.output.len() + 51, b'x');
            // Where the server takes it no more, it is cut somewhere before.
            let _ = timeout(Duration::from_secs(1), link.stream.write_all(&link.output)).await;
        }
        self.cut();
    }

    /// Leaves the socket open for as long as it is kept, and never reads it again.
    pub fn fall_silent(&mut self) -> Option<TcpStream> {
        let link = self.link.take()?;
        self.session = link.connection.into_session();
        Some(link.stream)
    }

    fn now(&self) -> Millis {
        millis_since(self.origin)
    }
}

impl Link {
    /// Reads or writes once, or lets time pass. Safe to drop while it waits.
    async fn step(&mut self, origin: Instant) -> Result<(), Lost> {
        if !self.input.is_empty() && !self.connection.is_full() {
            let consumed = self
                .connection
                .handle_input(&self.input, millis_since(origin))
                .map_err(|error| Lost(format!("the server breaks the protocol: {error}")))?;
            self.input.drain(..consumed);
            if consumed > 0 {
                return Ok(());
            }
        }
        self.connection.poll_output(&mut self.output);
        let due = self.connection.next_timeout().map(|due| origin + Duration::from_millis(due.0));
        if self.input.capacity() - self.input.len() < 4096 {
            self.input.reserve(16 * 1024);
        }
        let (mut reader, mut writer) = self.stream.split();
        tokio::select! {
            read = reader.read_buf(&mut self.input), if !self.connection.is_full() => {
                match read {
                    Ok(0) => return Err(Lost("the server closed".into())),
                    Ok(_) => {}
                    Err(error) => return Err(Lost(format!("reading: {error}"))),
                }
            }
            written = writer.write(&self.output), if !self.output.is_empty() => {
                let count = written.map_err(|error| Lost(format!("writing: {error}")))?;
                self.output.drain(..count);
            }
            () = sleep_until(due.unwrap_or(origin)), if due.is_some() => {
                self.connection.handle_timeout(millis_since(origin)).map_err(|_| Lost("the server is silent".into()))?;
            }
        }
        Ok(())
    }
}

/// A client that is connected and has subscribed.
pub async fn subscriber(port: u16, name: &str, filter: &str, qos: QoS, receive_buffer: Option<u32>) -> Peer {
    let mut options = ConnectOptions::new(name);
    // Who sleeps says nothing.
    options.keep_alive = 0;
    let mut peer = Peer::new(port, options);
    peer.receive_buffer = receive_buffer;
    peer.connect().await.unwrap();
    peer.subscribed(&[(filter.into(), qos)]).await;
    peer
}

/// Opens a socket to the gateway.
pub async fn open(port: u16, receive_buffer: Option<u32>) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    let stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A message for `topic`.
pub fn message(topic: &str, payload: &[u8], qos: QoS, retain: bool) -> Message {
    let topic = TopicName::new(topic).unwrap();
    MessageBuilder::new(&topic, payload).qos(qos).retain(retain).build()
}

fn millis_since(origin: Instant) -> Millis {
    Millis(u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX))
}
