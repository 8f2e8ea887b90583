//! A small MQTT client over TCP: it drives one [`Connection`] for the commands, the demo and trials, never for bridges.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::mqtt::connection::{CommandError, ConnectOptions, Connected, Connection, Delivery, Event};
use crate::mqtt::packet::SubscriptionOptions;
use crate::mqtt::session::Session;
use crate::mqtt::{CodecError, Message, Millis, ReasonCode, TopicFilter, Version};

/// Bytes of output that may wait before [`Client::has_room`] says no.
const MAX_OUTPUT_BYTES: usize = 256 * 1024;

/// Messages whose exchange is not over, or was not told yet, before [`Client::has_room`] says no.
const MAX_UNSETTLED: usize = 2000;

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Name or IP address; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Why the client cannot go on. After the variants that end a connection, [`Client::connect`] may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("connection refused by {0}: is a broker running?")]
    ConnectionRefused(Address),
    /// The host was not found or not reached.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// Where to.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// No connection, or no CONNACK, in time.
    #[error("no answer from {0} in time")]
    Timeout(Address),
    /// The broker refused the connection.
    #[error("the broker refused the connection: {}", with_words(*reason, reason_string.as_deref()))]
    Refused {
        /// Why.
        reason: ReasonCode,
        /// The broker's words.
        reason_string: Option<String>,
    },
    /// The broker ended the connection with a reason.
    #[error("the broker ended the connection: {}", with_words(*reason, reason_string.as_deref()))]
    Disconnected {
        /// Why.
        reason: ReasonCode,
        /// The broker's words.
        reason_string: Option<String>,
    },
    /// The link is gone without a word.
    #[error("the link to the broker is lost: {0}")]
    Lost(io::Error),
    /// The broker does not answer a PINGREQ.
    #[error("the broker has been silent for longer than the keep alive")]
    Silent,
    /// What came is not MQTT, or not allowed.
    #[error("what the broker sent is no MQTT: {0}")]
    Protocol(#[from] CodecError),
    /// The message or the request was not taken.
    #[error("{0}")]
    Command(#[from] CommandError),
    /// Received messages wait to be taken by [`Client::next`], so no answer can be read.
    #[error("too many received messages wait to be taken")]
    Unread,
}

/// What [`Client::next`] tells.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientEvent {
    /// A message came. It is acknowledged by the next call of any method that waits.
    Message(Delivery),
    /// The exchange of a message that was enqueued is over.
    Settled {
        /// What [`Client::enqueue`] returned.
        sequence: u64,
        /// `Success`, or why the broker did not take it.
        reason: ReasonCode,
    },
}

/// A client of one broker. It has no task of its own: it reads, writes and sends its pings while one of its methods
/// waits, so whoever has nothing else to do waits in [`Client::next`].
///
/// What was published with QoS 1 or 2 and is not settled survives a lost link in memory; it goes on after the next
/// [`Client::connect`].
#[derive(Debug)]
pub struct Client {
    address: Address,
    options: ConnectOptions,
    fall_back: bool,
    connect_timeout: Duration,
    /// Its clock starts here.
    origin: Instant,
    link: Option<Link>,
    /// The session while there is no link.
    session: Session,
    settled: VecDeque<(u64, ReasonCode)>,
    answers: VecDeque<Vec<ReasonCode>>,
    connected: Option<Connected>,
}

#[derive(Debug)]
struct Link {
    stream: TcpStream,
    connection: Connection,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Why it is over; what had come before is taken first.
    ended: Option<ClientError>,
}

impl Client {
    /// A client that is not connected yet.
    pub fn new(address: Address, options: ConnectOptions) -> Self {
        Self {
            address,
            options,
            fall_back: false,
            connect_timeout: Duration::from_secs(10),
            origin: Instant::now(),
            link: None,
            session: Session::default(),
            settled: VecDeque::new(),
            answers: VecDeque::new(),
            connected: None,
        }
    }

    /// Speaks 3.1.1 from then on where the broker refuses 5.0.
    pub fn fall_back_to_3(mut self) -> Self {
        self.fall_back = true;
        self
    }

    /// Bounds the time until the CONNACK; default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The version that is spoken, or will be tried.
    pub fn version(&self) -> Version {
        self.options.version
    }

    /// Connects, anew where it was connected before. The session goes on where the broker still has it.
    ///
    /// # Errors
    /// All but [`ClientError::Command`] and [`ClientError::Unread`].
    pub async fn connect(&mut self) -> Result<Connected, ClientError> {
        let first = self.connect_once().await;
        let unknown_version = match &first {
            Err(ClientError::Refused { reason, .. }) => *reason == ReasonCode::UnsupportedProtocolVersion,
            // Some old servers hang up, or answer what cannot be read.
            Err(ClientError::Lost(_) | ClientError::Protocol(_)) => true,
            _ => false,
        };
        if !(self.fall_back && self.options.version == Version::V5 && unknown_version) {
            return first;
        }
        self.options.version = Version::V3;
        let second = self.connect_once().await;
        if second.is_err() {
            self.options.version = Version::V5;
            return first;
        }
        tracing::debug!(address = %self.address, "the broker does not speak 5.0, so 3.1.1 is spoken");
        second
    }

    /// Hands a message to the connection without waiting. With QoS 1 and 2 it returns the sequence that
    /// [`ClientEvent::Settled`] will name. Call it while [`Client::has_room`].
    ///
    /// # Errors
    /// [`ClientError::Command`].
    pub fn enqueue(&mut self, message: Message) -> Result<Option<u64>, ClientError> {
        let now = self.now();
        let link = self.link.as_mut().ok_or(CommandError::NotConnected)?;
        Ok(link.connection.publish(message, now)?)
    }

    /// Whether another message may be enqueued without piling up: 256 KiB of output, 2000 unsettled messages.
    pub fn has_room(&self) -> bool {
        self.unsettled() + self.settled.len() < MAX_UNSETTLED
            && self.link.as_ref().is_some_and(|link| link.output.len() < MAX_OUTPUT_BYTES)
    }

    /// Messages that were published with QoS 1 or 2 and whose exchange is not over.
    pub fn unsettled(&self) -> usize {
        self.link.as_ref().map_or(&self.session, |link| link.connection.session()).unsettled()
    }

    /// Publishes a message and waits until it was written (QoS 0) or its exchange is over (QoS 1 and 2). A reason from
    /// 0x80 up says that the broker did not take it.
    ///
    /// # Errors
    /// Those of a lost link; the message stays in the session then, and goes again after [`Client::connect`].
    /// [`ClientError::Command`] where it was not taken.
    pub async fn publish(&mut self, message: Message) -> Result<ReasonCode, ClientError> {
        let Some(sequence) = self.enqueue(message)? else {
            self.flush().await?;
            return Ok(ReasonCode::Success);
        };
        loop {
            self.take_events();
            if let Some(index) = self.settled.iter().position(|&(settled, _)| settled == sequence) {
                let reason = self.settled.remove(index).map(|(_, reason)| reason);
                return Ok(reason.unwrap_or(ReasonCode::Success));
            }
            self.wait_for_answer().await?;
        }
    }

    /// Subscribes and returns one reason per filter: the QoS that was granted, or from 0x80 up why it was refused.
    ///
    /// # Errors
    /// Those of a lost link, and [`ClientError::Command`].
    pub async fn subscribe(
        &mut self,
        filters: &[(TopicFilter, SubscriptionOptions)],
    ) -> Result<Vec<ReasonCode>, ClientError> {
        let now = self.now();
        self.link.as_mut().ok_or(CommandError::NotConnected)?.connection.subscribe(filters, now)?;
        self.answer().await
    }

    /// Ends subscriptions and returns one reason per filter (none in 3.1.1).
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn unsubscribe(&mut self, filters: &[TopicFilter]) -> Result<Vec<ReasonCode>, ClientError> {
        let now = self.now();
        self.link.as_mut().ok_or(CommandError::NotConnected)?.connection.unsubscribe(filters, now)?;
        self.answer().await
    }

    /// Waits for the next message, or the end of an exchange. It may be dropped at any time: nothing is lost by it.
    ///
    /// # Errors
    /// Those of a lost link, after everything that had come before.
    pub async fn next(&mut self) -> Result<ClientEvent, ClientError> {
        loop {
            self.take_events();
            if let Some((sequence, reason)) = self.settled.pop_front() {
                return Ok(ClientEvent::Settled { sequence, reason });
            }
            let now = self.now();
            if let Some(delivery) = self.link.as_mut().and_then(|link| link.connection.poll_message(now)) {
                return Ok(ClientEvent::Message(delivery));
            }
            self.step().await?;
        }
    }

    /// Waits until all output is written.
    ///
    /// # Errors
    /// Those of a lost link.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        while self.link.as_mut().is_some_and(Link::has_output) {
            self.step().await?;
        }
        Ok(())
    }

    /// Says goodbye, waiting at most two seconds, and hangs up. The will is not published.
    pub async fn disconnect(&mut self) {
        if let Some(link) = &mut self.link {
            link.connection.disconnect(ReasonCode::Success);
            // Dropped half-way, the goodbye is lost; there is nobody to tell.
            let _ = timeout(GOODBYE, link.say_goodbye()).await;
        }
        self.hang_up();
    }

    /// Gives the link up without a goodbye, as a crash does; the broker publishes the will.
    pub fn hang_up(&mut self) {
        if let Some(link) = self.link.take() {
            self.session = link.connection.into_session();
        }
    }

    /// Whether [`Client::next`] has the end of an exchange to tell at once.
    pub fn has_settled(&mut self) -> bool {
        self.take_events();
        !self.settled.is_empty()
    }

    /// The time on this client's clock, for [`Message::expires_at`].
    pub fn now(&self) -> Millis {
        millis_since(self.origin)
    }

    async fn connect_once(&mut self) -> Result<Connected, ClientError> {
        self.hang_up();
        self.answers.clear();
        self.connected = None;
        let opened = timeout(self.connect_timeout, self.open()).await;
        if !matches!(opened, Ok(Ok(_))) {
            self.hang_up();
        }
        opened.unwrap_or_else(|_| Err(ClientError::Timeout(self.address.clone())))
    }

    async fn open(&mut self) -> Result<Connected, ClientError> {
        let Address { host, port } = &self.address;
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|source| {
            let address = self.address.clone();
            match source.kind() {
                io::ErrorKind::ConnectionRefused => ClientError::ConnectionRefused(address),
                _ => ClientError::Unreachable { address, source },
            }
        })?;
        stream.set_nodelay(true).map_err(ClientError::Lost)?;
        let connection = Connection::client(&self.options, std::mem::take(&mut self.session), self.now());
        self.link = Some(Link { stream, connection, input: Vec::new(), output: Vec::new(), ended: None });
        loop {
            self.take_events();
            if let Some(connected) = self.connected.take() {
                return Ok(connected);
            }
            self.step().await?;
        }
    }

    async fn answer(&mut self) -> Result<Vec<ReasonCode>, ClientError> {
        loop {
            self.take_events();
            if let Some(reasons) = self.answers.pop_front() {
                return Ok(reasons);
            }
            self.wait_for_answer().await?;
        }
    }

    async fn wait_for_answer(&mut self) -> Result<(), ClientError> {
        if self.link.as_ref().is_some_and(|link| link.ended.is_none() && link.connection.is_full()) {
            return Err(ClientError::Unread);
        }
        self.step().await
    }

    /// Sorts what has happened to where somebody waits for it.
    fn take_events(&mut self) {
        let Some(link) = &mut self.link else {
            return;
        };
        while let Some(event) = link.connection.poll_event() {
            match event {
                Event::Connected(connected) => self.connected = Some(connected),
                Event::Refused { reason, reason_string } => {
                    link.ended = Some(ClientError::Refused { reason, reason_string });
                }
                Event::Settled { sequence, reason } => self.settled.push_back((sequence, reason)),
                Event::Subscribed(reasons) | Event::Unsubscribed(reasons) => self.answers.push_back(reasons),
                Event::Disconnected { reason, reason_string } => {
                    link.ended = Some(ClientError::Disconnected { reason, reason_string });
                }
                // A client's connection has none of these.
                Event::ConnectRequested { .. }
                | Event::SubscribeRequested { .. }
                | Event::UnsubscribeRequested { .. } => {}
            }
        }
    }

    /// Reads or writes once, or lets time pass. Safe to drop while it waits.
    async fn step(&mut self) -> Result<(), ClientError> {
        let origin = self.origin;
        let link = self.link.as_mut().ok_or(CommandError::NotConnected)?;
        if let Some(error) = link.ended.take() {
            self.hang_up();
            return Err(error);
        }
        if let Err(error) = link.step(origin).await {
            if matches!(error, ClientError::Protocol(_) | ClientError::Silent) {
                // Our DISCONNECT with the reason; a courtesy, so nobody waits for it.
                link.connection.poll_output(&mut link.output);
                let _ = link.stream.try_write(&link.output);
            }
            // What had come before is told first.
            link.ended = Some(error);
        }
        Ok(())
    }
}

impl Link {
    async fn step(&mut self, origin: Instant) -> Result<(), ClientError> {
        enum Happened {
            Read(usize),
            Written(usize),
            TimeOut,
        }
        if !self.input.is_empty() && !self.connection.is_full() {
            let consumed = self.connection.handle_input(&self.input, millis_since(origin))?;
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
        // All three branches are cancel-safe: bytes are read into the buffer, or taken from it, only on completion.
        let happened = tokio::select! {
            read = reader.read_buf(&mut self.input), if !self.connection.is_full() => {
                read.map(Happened::Read)
            }
            written = writer.write(&self.output), if !self.output.is_empty() => written.map(Happened::Written),
            () = sleep_until(due.unwrap_or(origin)), if due.is_some() => Ok(Happened::TimeOut),
            else => return Err(ClientError::Unread),
        };
        match happened.map_err(ClientError::Lost)? {
            Happened::Read(0) => {
                return Err(ClientError::Lost(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker hung up")));
            }
            // The next step takes it.
            Happened::Read(_) => {}
            Happened::Written(count) => {
                self.output.drain(..count);
            }
            Happened::TimeOut => {
                self.connection.handle_timeout(millis_since(origin)).map_err(|_| ClientError::Silent)?;
            }
        }
        Ok(())
    }

    fn has_output(&mut self) -> bool {
        self.connection.poll_output(&mut self.output);
        self.ended.is_some() || !self.output.is_empty()
    }

    async fn say_goodbye(&mut self) -> io::Result<()> {
        self.connection.poll_output(&mut self.output);
        self.stream.write_all(&self.output).await?;
        self.stream.shutdown().await?;
        // Hanging up on unread bytes would reset the connection, and with it the DISCONNECT under way.
        self.input.clear();
        while self.stream.read_buf(&mut self.input).await? > 0 {
            self.input.clear();
        }
        Ok(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why a text is no `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an address reads HOST, HOST:PORT or [IPV6]:PORT")]
pub struct AddressError;

/// `host`, `host:port`, `[ipv6]` or `[ipv6]:port`; the port is 1883 where none is given.
impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or(AddressError)?;
                (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or(AddressError)?) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = port.map_or(Ok(1883), |port| port.parse().map_err(|_| AddressError))?;
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(AddressError);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

fn with_words(reason: ReasonCode, words: Option<&str>) -> String {
    words.map_or_else(|| reason.to_string(), |words| format!("{reason}: {words}"))
}

fn millis_since(origin: Instant) -> Millis {
    Millis(u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_a_port() {
        let address = |host: &str, port| Ok(Address { host: host.to_owned(), port });
        assert_eq!("broker".parse(), address("broker", 1883));
        assert_eq!("10.0.0.1:1884".parse(), address("10.0.0.1", 1884));
        assert_eq!("[::1]:8883".parse(), address("::1", 8883));
        assert_eq!("[::1]".parse(), address("::1", 1883));
        assert_eq!(Address { host: "::1".into(), port: 1 }.to_string(), "[::1]:1");
        for wrong in ["", ":1883", "a:b", "::1", "[::1", "a b"] {
            assert_eq!(wrong.parse::<Address>(), Err(AddressError), "{wrong}");
        }
    }

    #[tokio::test]
    async fn where_nobody_listens_the_error_says_so() {
        // A port that was free a moment ago.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut client = Client::new(Address { host: "127.0.0.1".into(), port }, ConnectOptions::new("c"));
        let error = client.connect().await.unwrap_err();
        assert_eq!(error.to_string(), format!("connection refused by 127.0.0.1:{port}: is a broker running?"));
    }
}
