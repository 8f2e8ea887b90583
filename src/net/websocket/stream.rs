//! A byte stream in binary frames.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use ring::rand::{SecureRandom, SystemRandom};

use super::frame::{
    CloseCode, FrameError, Header, MAX_CONTROL_BYTES, MAX_HEADER_BYTES, Opcode, Sender, apply_mask, encode_header,
    encode_masked,
};

/// What is read and forgotten while we wait for the other side's Close.
const MAX_UNREAD_BYTES: usize = 64 * 1024;
/// The most that a client masks at a time: a masked frame is a copy.
const MAX_MASKED_BYTES: usize = 16 * 1024;

/// What comes in binary frames, as a stream of bytes, and what is written, each write a frame.
///
/// Pings are answered by the task that reads or writes next; of several the newest [RFC 6455 5.5.3]. A frame that the
/// other side may not send ends the connection with a Close frame and an error of kind `InvalidData`.
///
/// A client's frame is taken whole, at most 16 KB of what is written: `poll_flush` sends what is left of it. A server's
/// write that was taken in part is to be gone on with before anything else is expected to reach the other side:
/// the frame that it began has its whole length.
pub struct WebSocket<S> {
    stream: S,
    /// Where we are the client.
    client: Option<Box<Client>>,
    /// What came behind the upgrade.
    early: Vec<u8>,
    incoming: Incoming,
    /// Whether a message in several frames has begun and not ended.
    in_pieces: bool,
    /// Bytes that go before everything else: what is left of a header, or a control frame.
    first: Small<{ MAX_CONTROL_BYTES + 2 }>,
    /// Payload bytes of the frame that is being written.
    left_to_write: usize,
    /// What the newest ping held, until it is answered.
    ping: Option<Small<MAX_CONTROL_BYTES>>,
    closing: Closing,
    /// Whether the other side has sent Close, or its end.
    ended: bool,
}

/// What a client has besides.
struct Client {
    /// Keys that nobody foresees [RFC 6455 5.3].
    random: SystemRandom,
    /// Frames on their way.
    masked: Vec<u8>,
    /// How much of them is written.
    written: usize,
}

/// What the next byte that comes belongs to.
enum Incoming {
    Header(Small<MAX_HEADER_BYTES>),
    Payload { left: u64, mask: [u8; 4] },
    Control { opcode: Opcode, left: usize, mask: [u8; 4], content: Small<MAX_CONTROL_BYTES> },
}

/// Our Close frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    Wanted(CloseCode),
    Sent,
}

/// A few bytes, without memory of their own while there are none.
#[derive(Default)]
struct Small<const LIMIT: usize>(Vec<u8>);

impl<const LIMIT: usize> Small<LIMIT> {
    /// Appends what fits, and says how much.
    fn fill(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(LIMIT - self.0.len());
        self.0.extend_from_slice(&bytes[..count]);
        count
    }
}

impl<S> std::fmt::Debug for WebSocket<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSocket").finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// The server's side of a connection after its upgrade; `early` are bytes that came behind the request.
    pub(super) fn server(stream: S, early: Vec<u8>) -> Self {
        Self::new(stream, early, None)
    }

    /// The client's side of one; `early` are bytes that came behind the answer.
    pub(super) fn client(stream: S, early: Vec<u8>) -> Self {
        let client = Client { random: SystemRandom::new(), masked: Vec::new(), written: 0 };
        Self::new(stream, early, Some(Box::new(client)))
    }

    fn new(stream: S, early: Vec<u8>, client: Option<Box<Client>>) -> Self {
        Self {
            stream,
            client,
            early,
            incoming: Incoming::Header(Small::default()),
            in_pieces: false,
            first: Small::default(),
            left_to_write: 0,
            ping: None,
            closing: Closing::No,
            ended: false,
        }
    }

    /// Takes the frames out of `bytes` and moves what binary frames hold to the front; returns its length.
    fn decode(&mut self, bytes: &mut [u8]) -> Result<usize, FrameError> {
        let (mut from, mut to) = (0, 0);
        let sender = if self.client.is_some() { Sender::Server } else { Sender::Client };
        while from < bytes.len() && !self.ended {
            match &mut self.incoming {
                Incoming::Header(begun) => {
                    // Mostly a header stands here whole; only one that does not is put together.
                    let known = begun.0.len();
                    let decoded = if known == 0 {
                        Header::decode(&bytes[from..], sender)?
                    } else {
                        begun.fill(&bytes[from..]);
                        Header::decode(&begun.0, sender)?
                    };
                    let Some((header, length)) = decoded else {
                        if known == 0 {
                            begun.fill(&bytes[from..]);
                        }
                        break;
                    };
                    from += length - known;
                    self.begin(header)?;
                }
                Incoming::Payload { left, mask } => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - from);
                    bytes.copy_within(from..from + count, to);
                    *mask = apply_mask(&mut bytes[to..to + count], *mask);
                    *left -= count as u64;
                    if *left == 0 {
                        self.incoming = Incoming::Header(Small::default());
                    }
                    from += count;
                    to += count;
                }
                Incoming::Control { left, content, .. } => {
                    let count = (*left).min(bytes.len() - from);
                    content.fill(&bytes[from..from + count]);
                    *left -= count;
                    from += count;
                    self.finish_control();
                }
            }
        }
        Ok(to)
    }

    fn begin(&mut self, header: Header) -> Result<(), FrameError> {
        let Header { last, opcode, length, mask } = header;
        match opcode {
            Opcode::Binary | Opcode::Continuation => {
                if (opcode == Opcode::Continuation) != self.in_pieces {
                    return Err(FrameError::Order);
                }
                self.in_pieces = !last;
                self.incoming = match length {
                    0 => Incoming::Header(Small::default()),
                    left => Incoming::Payload { left, mask },
                };
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                let left = usize::try_from(length).unwrap_or(usize::MAX);
                self.incoming = Incoming::Control { opcode, left, mask, content: Small::default() };
                self.finish_control();
            }
        }
        Ok(())
    }

    /// Does what a control frame asks for, once it is whole.
    fn finish_control(&mut self) {
        let Incoming::Control { opcode, left: 0, mask, content } = &mut self.incoming else {
            return;
        };
        apply_mask(&mut content.0, *mask);
        match opcode {
            Opcode::Ping => self.ping = Some(std::mem::take(content)),
            Opcode::Close => {
                self.ended = true;
                self.want_close(CloseCode::Normal);
            }
            _ => {}
        }
        self.incoming = Incoming::Header(Small::default());
    }

    fn want_close(&mut self, code: CloseCode) {
        if self.closing == Closing::No {
            self.closing = Closing::Wanted(code);
        }
    }

    /// Writes control frames that wait, where no frame is half written, and what is left of a header.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(client) = &mut self.client {
                ready!(client.poll_write(&mut self.stream, cx))?;
            }
            while !self.first.0.is_empty() {
                let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.first.0))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.first.0.drain(..count);
            }
            // An empty one holds no memory.
            self.first = Small::default();
            if self.left_to_write > 0 {
                return Poll::Ready(Ok(()));
            }
            let (opcode, content) = match (self.closing, self.ping.take()) {
                (Closing::Wanted(code), _) => {
                    self.closing = Closing::Sent;
                    (Opcode::Close, (code as u16).to_be_bytes().to_vec())
                }
                (Closing::No, Some(ping)) => (Opcode::Pong, ping.0),
                (Closing::No, None) | (Closing::Sent, _) => return Poll::Ready(Ok(())),
            };
            if let Some(client) = &mut self.client {
                client.mask(opcode, &content)?;
                continue;
            }
            let (header, length) = encode_header(opcode, content.len());
            self.first.fill(&header[..length]);
            self.first.fill(&content);
        }
    }

    /// Writes control frames as far as they go now: whoever reads does not wait for that.
    fn try_first(&mut self, cx: &mut Context<'_>) {
        if (self.ping.is_some() || self.closing != Closing::No) && self.poll_first(cx).is_ready() {
            let _ = Pin::new(&mut self.stream).poll_flush(cx);
        }
    }
}

impl Client {
    /// Masks a frame, which is written next.
    fn mask(&mut self, opcode: Opcode, content: &[u8]) -> io::Result<()> {
        let mut key = [0; 4];
        self.random.fill(&mut key).map_err(|_| io::Error::other("the system has no random numbers"))?;
        encode_masked(opcode, content, key, &mut self.masked);
        Ok(())
    }

    /// Writes the frames that are masked.
    fn poll_write(&mut self, stream: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.masked.len() {
            let count = ready!(Pin::new(&mut *stream).poll_write(cx, &self.masked[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.masked.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let begin = buffer.filled().len();
        loop {
            if this.ended || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if this.early.is_empty() {
                ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            } else {
                let count = this.early.len().min(buffer.remaining());
                buffer.put_slice(&this.early[..count]);
                this.early.drain(..count);
                if this.early.is_empty() {
                    this.early = Vec::new();
                }
            }
            let came = buffer.filled().len() - begin;
            if came == 0 {
                this.ended = true;
                return Poll::Ready(Ok(()));
            }
            // What was read stands decoded where it was read to: a frame is never shorter than what it holds.
            let decoded = this.decode(&mut buffer.filled_mut()[begin..]);
            buffer.set_filled(begin + decoded.unwrap_or(0));
            if let Err(error) = decoded {
                this.ended = true;
                this.want_close(error.close_code());
                this.try_first(cx);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            this.try_first(cx);
            if buffer.filled().len() > begin {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(this.poll_first(cx))?;
        if this.left_to_write == 0 {
            if this.closing != Closing::No {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if let Some(client) = &mut this.client {
                let count = bytes.len().min(MAX_MASKED_BYTES);
                client.mask(Opcode::Binary, &bytes[..count])?;
                // It is taken; what the stream does not take now goes before the next write, or with a flush.
                if let Poll::Ready(Err(error)) = client.poll_write(&mut this.stream, cx) {
                    return Poll::Ready(Err(error));
                }
                return Poll::Ready(Ok(count));
            }
            let (header, length) = encode_header(Opcode::Binary, bytes.len());
            let slices = [IoSlice::new(&header[..length]), IoSlice::new(bytes)];
            // Nothing of the frame exists until some of it is written.
            let count = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, &slices))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.left_to_write = bytes.len();
            match count.checked_sub(length) {
                Some(count) if count > 0 => {
                    this.left_to_write -= count;
                    return Poll::Ready(Ok(count));
                }
                _ => {
                    this.first.fill(&header[count.min(length)..length]);
                    ready!(this.poll_first(cx))?;
                }
            }
        }
        let count = bytes.len().min(this.left_to_write);
        let count = ready!(Pin::new(&mut this.stream).poll_write(cx, &bytes[..count]))?;
        this.left_to_write -= count;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_first(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    /// Sends Close and waits for the other side's, or its end: closing over bytes that were not read would reset the
    /// connection, and what we wrote last could be lost on its way.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // In the middle of a frame there is no room for Close.
        if this.left_to_write == 0 {
            this.want_close(CloseCode::Normal);
            ready!(this.poll_first(cx))?;
            ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
            let mut scratch = [0; 1024];
            let mut read = 0;
            while !this.ended && read < MAX_UNREAD_BYTES {
                let mut buffer = ReadBuf::new(&mut scratch);
                ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer))?;
                let count = buffer.filled().len();
                read += count;
                if count == 0 || this.decode(buffer.filled_mut()).is_err() {
                    this.ended = true;
                }
            }
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
