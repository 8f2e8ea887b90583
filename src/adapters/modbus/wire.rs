//! The wire of a bus: a TCP connection or a serial port that is opened when needed and carries one request at a time.
//!
//! On TCP a late answer is known by its transaction id. On RTU nothing tells it from the answer to another request of
//! the same function and length: after a timeout such a request waits until the late answer would have come.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_serial::{ClearBuffer, SerialPort, SerialStream};

use super::frame::{self, Exception, FrameError, Request, Response};
use super::words::Framing;
use crate::adapters::line::{self, LineSettings};

/// Timeouts in a row without any byte after which a TCP connection is taken for dead and made anew.
const SILENT_TIMEOUTS: u32 = 3;
/// Bytes of noise that are discarded before a request; a line that is noisier than this is sent on all the same.
const MAX_DISCARD: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Nothing that fits came in time; whether the unit did what was asked is not known.
    #[error("timeout after {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The unit refused, or a gateway on the way did.
    #[error(transparent)]
    Exception(#[from] Exception),
    /// The connection ended while the answer was awaited.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The other side does not keep to the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// There is no connection, so no unit of this bus can be reached.
    #[error("cannot open {endpoint}: {reason}")]
    Unreachable {
        /// Host and port, or the port's path.
        endpoint: String,
        /// What the system said.
        reason: String,
    },
    /// The deadline came before the request could be sent; nothing was done.
    #[error("there was no time left to send it")]
    Late,
}

/// Whoever carries requests to units: one at a time.
pub trait Wire: Send + 'static {
    /// The answer of `unit` to `request`. Nothing is sent after `deadline`, and the call ends at it.
    ///
    /// Dropping the future before it is done is allowed.
    fn request(
        &mut self,
        unit: u8,
        request: &Request,
        deadline: Option<Instant>,
    ) -> impl Future<Output = Result<Response, WireError>> + Send;
}

/// Where a wire leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A host that speaks Modbus TCP, or RTU over TCP.
    Tcp {
        /// Name or address.
        host: String,
        /// Usually 502.
        port: u16,
    },
    /// A serial port.
    Serial(LineSettings),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Serial(line) => f.write_str(&line.path),
        }
    }
}

/// A [`Wire`] over a TCP connection or a serial port.
///
/// It opens by itself: a port that is gone or a host that is down is an error of the request and of nothing else.
#[derive(Debug)]
pub struct StreamWire {
    endpoint: Endpoint,
    framing: Framing,
    timeout: Duration,
    pause: Duration,
    /// Taken out while a request is under way: a request that is dropped leaves no half frame behind.
    connection: Option<Connection>,
    transaction: u16,
    /// Nothing is sent before.
    quiet_until: Instant,
    /// Requests without an answer that may still come, on RTU. Entries last as long as a timeout, so they are few.
    owed: Vec<Owed>,
}

#[derive(Debug)]
struct Connection {
    stream: Stream,
    received: Vec<u8>,
    silent_timeouts: u32,
}

#[derive(Debug)]
struct Owed {
    unit: u8,
    request: Request,
    until: Instant,
}

impl Wire for StreamWire {
    async fn request(&mut self, unit: u8, request: &Request, deadline: Option<Instant>) -> Result<Response, WireError> {
        let Some(deadline) = deadline else { return self.exchange(unit, request, &mut false).await };
        if Instant::now() >= deadline {
            return Err(WireError::Late);
        }
        let mut is_sent = false;
        match timeout_at(deadline, self.exchange(unit, request, &mut is_sent)).await {
            Ok(answer) => answer,
            Err(_) if is_sent => {
                self.owe(unit, request);
                Err(WireError::Timeout(self.timeout))
            }
            Err(_) => Err(WireError::Late),
        }
    }
}

impl StreamWire {
    /// A wire to `endpoint` on which an answer may take `timeout`, and with `pause` between requests, on a serial
    /// port never less than 3.5 characters.
    pub fn new(endpoint: Endpoint, framing: Framing, timeout: Duration, pause: Duration) -> Self {
        let pause = match &endpoint {
            Endpoint::Tcp { .. } => pause,
            Endpoint::Serial(line) => pause.max(shortest_silence(line.baud)),
        };
        Self {
            endpoint,
            framing,
            timeout,
            pause,
            connection: None,
            transaction: 0,
            quiet_until: Instant::now(),
            owed: Vec::new(),
        }
    }

    async fn exchange(&mut self, unit: u8, request: &Request, is_sent: &mut bool) -> Result<Response, WireError> {
        let is_repeated = self.wait_for_silence(unit, request).await;
        let mut connection = self.open().await?;
        self.transaction = self.transaction.wrapping_add(1);
        let bytes = match self.framing {
            Framing::Tcp => frame::encode_tcp(self.transaction, unit, request),
            Framing::Rtu => frame::encode_rtu(unit, request),
        };
        let on_the_line = self.endpoint.character() * (bytes.len() + frame::rtu_answer_bytes(request)) as u32;
        let patience = self.timeout + on_the_line;
        *is_sent = true;
        match timeout(patience, connection.stream.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(WireError::Lost(error.to_string())),
            Err(_) => return Err(WireError::Lost("it takes no more bytes".into())),
        }
        let deadline = Instant::now() + patience;
        let answer = self.receive(&mut connection, unit, request, deadline).await;
        self.quiet_until = Instant::now() + self.pause;
        match answer {
            Ok(answer) => {
                connection.silent_timeouts = 0;
                self.connection = Some(connection);
                if is_repeated {
                    // It may have been the answer to the earlier try: the second one is still to come.
                    self.owe(unit, request);
                }
                Ok(answer?)
            }
            Err(WireError::Timeout(after)) => {
                connection.silent_timeouts += 1;
                // A peer that went away without a word is found out by nothing else for many minutes.
                let is_dead =
                    matches!(self.endpoint, Endpoint::Tcp { .. }) && connection.silent_timeouts >= SILENT_TIMEOUTS;
                if !is_dead {
                    self.connection = Some(connection);
                }
                self.owe(unit, request);
                Err(WireError::Timeout(after))
            }
            Err(error) => Err(error),
        }
    }

    async fn receive(
        &self,
        connection: &mut Connection,
        unit: u8,
        request: &Request,
        deadline: Instant,
    ) -> Result<frame::Answer, WireError> {
        let mut chunk = [0; 512];
        loop {
            let received = &mut connection.received;
            let answer = match self.framing {
                Framing::Tcp => frame::take_tcp_answer(received, self.transaction, unit, request)?,
                Framing::Rtu => frame::take_rtu_answer(received, unit, request),
            };
            if let Some(answer) = answer {
                return Ok(answer);
            }
            match timeout_at(deadline, connection.stream.read(&mut chunk)).await {
                Err(_) => return Err(WireError::Timeout(self.timeout)),
                // Of a serial port that was unplugged this is all that is ever heard.
                Ok(Ok(0)) => return Err(WireError::Lost("closed by the other side".into())),
                Ok(Ok(count)) => {
                    connection.silent_timeouts = 0;
                    connection.received.extend_from_slice(&chunk[..count]);
                }
                Ok(Err(error)) => return Err(WireError::Lost(error.to_string())),
            }
        }
    }

    /// Waits until a request may be sent; says whether an earlier try of the same request may still be answered.
    async fn wait_for_silence(&mut self, unit: u8, request: &Request) -> bool {
        let now = Instant::now();
        self.owed.retain(|owed| owed.until > now);
        let mut is_repeated = false;
        let mut until = self.quiet_until;
        for owed in self.owed.iter().filter(|owed| owed.is_mistakable_for(unit, request)) {
            if owed.request == *request {
                is_repeated = true;
            } else {
                until = until.max(owed.until);
            }
        }
        sleep_until(until).await;
        is_repeated
    }

    fn owe(&mut self, unit: u8, request: &Request) {
        if self.framing == Framing::Rtu {
            self.owed.retain(|owed| owed.unit != unit || owed.request != *request);
            self.owed.push(Owed { unit, request: request.clone(), until: Instant::now() + self.timeout });
        }
    }

    /// The open connection, without what arrived on it unasked; a new one where there is none or it was closed.
    async fn open(&mut self) -> Result<Connection, WireError> {
        if let Some(mut connection) = self.connection.take()
            && connection.drain(self.framing).await.is_ok()
        {
            return Ok(connection);
        }
        let unreachable = |reason: String| WireError::Unreachable { endpoint: self.endpoint.to_string(), reason };
        let stream = match &self.endpoint {
            Endpoint::Tcp { host, port } => {
                match timeout(self.timeout, TcpStream::connect((host.as_str(), *port))).await {
                    Ok(Ok(stream)) => {
                        // Without it small frames may wait for the acknowledgement of earlier ones.
                        stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
                        Stream::Tcp(stream)
                    }
                    Ok(Err(error)) => return Err(unreachable(error.to_string())),
                    Err(_) => return Err(unreachable(format!("timeout after {} ms", self.timeout.as_millis()))),
                }
            }
            Endpoint::Serial(line) => Stream::Serial(line::open(line).await.map_err(&unreachable)?),
        };
        tracing::debug!(endpoint = %self.endpoint, "connected");
        let mut connection = Connection { stream, received: Vec::new(), silent_timeouts: 0 };
        connection.drain(self.framing).await.map_err(|error| unreachable(error.to_string()))?;
        Ok(connection)
    }
}

impl Owed {
    /// Whether the answer to this could pass for one to `request`. Writes are told apart by their content.
    fn is_mistakable_for(&self, unit: u8, request: &Request) -> bool {
        self.unit == unit && self.request.function() == request.function()
    }
}

impl Connection {
    /// Takes in what has arrived, without waiting. On RTU it is thrown away; on TCP it stays, for the stream to remain
    /// in step.
    async fn drain(&mut self, framing: Framing) -> io::Result<()> {
        if let Stream::Serial(port) = &self.stream {
            // Bytes that the runtime has not heard of yet.
            port.clear(ClearBuffer::Input)?;
        }
        let (stream, received) = (&mut self.stream, &mut self.received);
        poll_fn(|context| {
            let mut chunk = [0; 512];
            let mut count = 0;
            loop {
                let mut buffer = ReadBuf::new(&mut chunk);
                match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                    Poll::Pending => return Poll::Ready(Ok(())),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    Poll::Ready(Ok(())) => {
                        count += buffer.filled().len();
                        received.extend_from_slice(buffer.filled());
                    }
                }
                if framing == Framing::Rtu {
                    received.clear();
                }
                if count > MAX_DISCARD {
                    return match framing {
                        Framing::Rtu => Poll::Ready(Ok(())),
                        Framing::Tcp => Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                    };
                }
            }
        })
        .await?;
        if framing == Framing::Rtu {
            self.received.clear();
        }
        Ok(())
    }
}

impl Endpoint {
    /// The time that a character takes on the line; nothing that counts over TCP.
    fn character(&self) -> Duration {
        match self {
            Self::Tcp { .. } => Duration::ZERO,
            Self::Serial(line) => line.character(),
        }
    }
}

/// 3.5 characters of 11 bits, above 19,200 bit/s always 1.75 ms (Modbus over Serial Line 1.02, section 2.5.1.1).
fn shortest_silence(baud: u32) -> Duration {
    match baud {
        0..=19_200 => Duration::from_micros(38_500_000 / u64::from(baud.max(1))),
        _ => Duration::from_micros(1_750),
    }
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Serial(SerialStream),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Serial(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Serial(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A serial port's flush blocks the thread until the line is empty; the deadlines reckon with that time.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Serial(_) => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::super::super::patience::within;
    use super::super::frame::Table;
    use super::*;
    use crate::adapters::line::LineFormat;

    const TIMEOUT: Duration = Duration::from_millis(200);

    fn read(start: u16) -> Request {
        Request::Read { table: Table::Holding, start, count: 1 }
    }

    fn registers(value: u16) -> Result<Response, WireError> {
        Ok(Response::Registers(vec![value]))
    }

    /// The answer to `read` with one register, without framing.
    fn answer(value: u16) -> [u8; 4] {
        let [high, low] = value.to_be_bytes();
        [3, 2, high, low]
    }

    fn rtu(unit: u8, pdu: &[u8]) -> Vec<u8> {
        let mut bytes = [&[unit], pdu].concat();
        let check = frame::crc(&bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        bytes
    }

    fn tcp(transaction: [u8; 2], unit: u8, pdu: &[u8]) -> Vec<u8> {
        [&transaction[..], &[0, 0, 0, pdu.len() as u8 + 1, unit], pdu].concat()
    }

    async fn tcp_wire() -> (StreamWire, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = Endpoint::Tcp { host: "127.0.0.1".into(), port };
        (StreamWire::new(endpoint, Framing::Tcp, TIMEOUT, Duration::ZERO), listener)
    }

    fn serial(path: &str, baud: u32) -> Endpoint {
        Endpoint::Serial(LineSettings { path: path.into(), baud, format: LineFormat::default() })
    }

    /// A wire on one end of a pseudo terminal, and the other end. `_slave` keeps it alive while the wire is closed.
    fn rtu_wire() -> (StreamWire, SerialStream, SerialStream) {
        let (master, slave) = SerialStream::pair().unwrap();
        let path = slave.name().unwrap();
        let endpoint = serial(&path, 115_200);
        (StreamWire::new(endpoint, Framing::Rtu, TIMEOUT, Duration::ZERO), master, slave)
    }

    #[tokio::test]
    async fn a_late_answer_on_tcp_is_not_taken_for_the_next_one() {
        let (mut wire, listener) = tcp_wire().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut first, mut second) = ([0; 12], [0; 12]);
            stream.read_exact(&mut first).await.unwrap();
            stream.read_exact(&mut second).await.unwrap();
            stream.write_all(&tcp([first[0], first[1]], 1, &answer(1))).await.unwrap();
            stream.write_all(&tcp([second[0], second[1]], 1, &answer(2))).await.unwrap();
            // No second connection: the first one was kept.
            stream
        });
        assert_eq!(wire.request(1, &read(0), None).await, Err(WireError::Timeout(TIMEOUT)));
        assert_eq!(wire.request(1, &read(1), None).await, registers(2));
        within(server, || "the server's end".into()).await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_while_idle_is_opened_again_before_anything_is_sent() {
        let (mut wire, listener) = tcp_wire().await;
        let (closed, was_closed) = tokio::sync::oneshot::channel();
        let server = tokio::spawn(async move {
            for (value, closed) in [(1, Some(closed)), (2, None)] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 12];
                stream.read_exact(&mut request).await.unwrap();
                stream.write_all(&tcp([request[0], request[1]], 1, &answer(value))).await.unwrap();
                drop(stream);
                closed.map(|closed| closed.send(()));
            }
        });
        assert_eq!(wire.request(1, &read(0), None).await, registers(1));
        within(was_closed, || "a closed connection".into()).await.unwrap();
        assert_eq!(wire.request(1, &read(0), None).await, registers(2));
        within(server, || "the server's end".into()).await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_on_which_nothing_is_heard_is_made_anew() {
        let (mut wire, listener) = tcp_wire().await;
        let mut connections = Vec::new();
        for _ in 0..=SILENT_TIMEOUTS {
            let request = read(0);
            let answer = wire.request(1, &request, None);
            let accept = async {
                if connections.is_empty() {
                    connections.push(listener.accept().await.unwrap());
                }
            };
            assert_eq!(tokio::join!(answer, accept).0, Err(WireError::Timeout(TIMEOUT)));
        }
        within(listener.accept(), || "another connection".into()).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_listening_is_an_error_of_the_request() {
        let (mut wire, listener) = tcp_wire().await;
        drop(listener);
        assert!(matches!(wire.request(1, &read(0), None).await, Err(WireError::Unreachable { .. })));
        let endpoint = serial("/dev/no-such-port", 9_600);
        let mut wire = StreamWire::new(endpoint, Framing::Rtu, TIMEOUT, Duration::ZERO);
        let error = wire.request(1, &read(0), None).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot open /dev/no-such-port: "), "{error}");
    }

    #[tokio::test]
    async fn nothing_is_sent_after_the_deadline() {
        let (mut wire, listener) = tcp_wire().await;
        assert_eq!(wire.request(1, &read(0), Some(Instant::now())).await, Err(WireError::Late));
        drop(listener);
    }

    #[tokio::test]
    async fn a_late_answer_on_a_line_is_not_taken_for_the_next_one() {
        let (mut wire, mut master, _slave) = rtu_wire();
        wire.timeout = TIMEOUT * 3;
        let server = tokio::spawn(async move {
            let mut request = [0; 8];
            master.read_exact(&mut request).await.unwrap();
            // The answer comes when its request was given up, and before another of the same length is sent.
            tokio::time::sleep(TIMEOUT * 4).await;
            master.write_all(&rtu(1, &answer(1))).await.unwrap();
            master.read_exact(&mut request).await.unwrap();
            assert_eq!(request[3], 1, "the second request");
            master.write_all(&rtu(1, &answer(2))).await.unwrap();
            master
        });
        assert!(matches!(wire.request(1, &read(0), None).await, Err(WireError::Timeout(_))));
        assert_eq!(wire.request(1, &read(1), None).await, registers(2));
        within(server, || "the server's end".into()).await.unwrap();
    }

    #[tokio::test]
    async fn noise_and_answers_of_other_units_on_a_line_are_skipped() {
        let (mut wire, mut master, _slave) = rtu_wire();
        let server = tokio::spawn(async move {
            let mut request = [0; 8];
            master.read_exact(&mut request).await.unwrap();
            let bytes = [vec![0xFF, 0x00, 0x01], rtu(2, &answer(9)), rtu(1, &answer(1))].concat();
            for byte in bytes {
                master.write_all(&[byte]).await.unwrap();
            }
            master
        });
        assert_eq!(wire.request(1, &read(0), None).await, registers(1));
        within(server, || "the server's end".into()).await.unwrap();
    }

    #[tokio::test]
    async fn a_port_that_went_away_is_opened_again_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("port");
        let (mut wire, master, slave) = rtu_wire();
        wire.endpoint = serial(link.to_str().unwrap(), 115_200);
        let serve = |mut master: SerialStream, value| {
            tokio::spawn(async move {
                let mut request = [0; 8];
                master.read_exact(&mut request).await.unwrap();
                master.write_all(&rtu(1, &answer(value))).await.unwrap();
                master
            })
        };
        std::os::unix::fs::symlink(slave.name().unwrap(), &link).unwrap();
        let server = serve(master, 1);
        assert_eq!(wire.request(1, &read(0), None).await, registers(1));
        drop((within(server, || "the server's end".into()).await.unwrap(), slave));
        std::fs::remove_file(&link).unwrap();
        assert!(matches!(wire.request(1, &read(0), None).await, Err(WireError::Unreachable { .. })));
        let (master, slave) = SerialStream::pair().unwrap();
        std::os::unix::fs::symlink(slave.name().unwrap(), &link).unwrap();
        let server = serve(master, 2);
        assert_eq!(wire.request(1, &read(0), None).await, registers(2));
        within(server, || "the server's end".into()).await.unwrap();
    }

    #[test]
    fn the_pause_is_never_below_three_and_a_half_characters() {
        assert_eq!(shortest_silence(9_600), Duration::from_micros(4_010));
        assert_eq!(shortest_silence(115_200), Duration::from_micros(1_750));
    }
}
