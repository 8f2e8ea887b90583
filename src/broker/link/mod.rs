//! A link drives one transport for one session, whether we accepted it or dialled it.
//!
//! One task per connection: read, decode all of it, route, append once, acknowledge once; then yield. What is
//! delivered to its session is written by whoever ends the turn (sockets) or by this task (streams).

mod accept;

mod dial;
mod exchange;
mod pace;
mod promises;
mod reading;
mod subscribing;
mod told;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BufMut;
use tokio::io::AsyncWriteExt;
use tokio::time::{Sleep, timeout};
use tokio_util::io::poll_read_buf;

pub use accept::{Standing, drive, enter};
pub use dial::{DialError, Hello, Welcome, dial};
pub use exchange::ReceiveRoute;
pub use told::{Answers, Parting};

use super::buffers::{self, SCRATCH_BYTES};
use super::outbox::Outbox;
use super::session_slot::{Attention, SessionSlot, Turn};
use crate::clock;
use crate::mqtt::codec::CodecError;
use crate::mqtt::connection::{Received, Receiver, answers};
use crate::mqtt::frame::Frame;
use crate::mqtt::packet::Disconnect;
use crate::mqtt::{Millis, ReasonCode, Version};
use crate::net::{SocketReader, SocketWriter, Stream, Transport};
use crate::store::Batch;
use exchange::Exchange;
use reading::Reading;

/// How long a peer that is not read counts as heard, each time anew.
const DEAF: Duration = Duration::from_secs(5);

/// Reads in a row before others get their turn.
const MAX_READS_PER_TURN: u32 = 2;

/// How long a peer that is being sent away may take for our last words, and again for its own.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Bytes of a peer that broke the protocol which are read and forgotten, so that it learns the reason.
const MAX_UNREAD_BYTES: usize = 4 * 1024 * 1024;
/// How long what waits for room in a queue is left alone, where nobody says that there is any.
const HELD_LOOK: Duration = Duration::from_secs(1);
/// What is read of a packet that is probably a large one, before its length is known.
const FIRST_READ_BYTES: usize = 4 * 1024;

/// Why a link ended.
#[derive(Debug)]
pub enum End {
    /// The peer closed, with or without DISCONNECT; the reason it gave, if any.
    Peer(Option<ReasonCode>),
    /// The peer did what it may not.
    Protocol(CodecError),
    /// The transport failed.
    Transport(io::Error),
    /// Another connection took the session.
    TakenOver,
    /// We closed it.
    Closed(ReasonCode),
}

/// One connection of a session.
#[derive(Debug)]
pub struct Link {
    io: Io,
    receiver: Receiver,
    exchange: Exchange,
    /// The beginning of a packet whose rest has not come.
    partial: Vec<u8>,
    /// Bytes of that packet, once known.
    needed: Option<usize>,
    /// Whether the last packet was larger than the thread's read buffer.
    large: bool,
    /// While it is there, nothing is read: the peer has published faster than it may.
    pause: Option<Pin<Box<Sleep>>>,
    /// While it is there, nothing is read: the queue of a bridge has no room for what came.
    held: Option<Held>,
    /// While it is there, nothing is read: the journal does not keep up.
    deaf: Option<Pin<Box<Sleep>>>,
    /// When something that waits for its time may go, and the alarm for it.
    due: Option<(Millis, Pin<Box<Sleep>>)>,
}

/// What came and must wait until a queue has room.
#[derive(Debug)]
struct Held {
    input: HeldInput,
    /// When to look again, where nobody says so before.
    look: Pin<Box<Sleep>>,
}

#[derive(Debug)]
enum HeldInput {
    /// From the packet on that waits.
    Bytes(Vec<u8>),
    /// One large packet.
    Frame(Arc<Frame>),
}

enum Io {
    Socket(SocketReader),
    /// Boxed: most connections are sockets.
    Stream(Box<StreamIo>),
}

struct StreamIo {
    stream: Stream,
    output: Outbox,
    /// Whether the slot has given anything to write.
    begun: bool,
}

impl std::fmt::Debug for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Socket(_) => "Io::Socket",
            Self::Stream(_) => "Io::Stream",
        })
    }
}

thread_local! {
    /// The memory of a read batch, kept for the next one.
    static READING: std::cell::RefCell<Option<Box<Reading>>> = const { std::cell::RefCell::new(None) };
}

/// Splits a transport into what the link reads and what the slot writes.
fn split(transport: Transport) -> (Io, Option<SocketWriter>) {
    match transport {
        Transport::Socket(reader, writer) => (Io::Socket(reader), Some(writer)),
        Transport::Stream(stream) => {
            let io = StreamIo { stream, output: Outbox::default(), begun: false };
            (Io::Stream(Box::new(io)), None)
        }
    }
}

/// Reads until the first packet is whole, and returns its length.
async fn read_packet(io: &mut Io, receiver: &mut Receiver, input: &mut Vec<u8>) -> Result<usize, End> {
    loop {
        match receiver.receive(input) {
            Ok(Received::Packet(_, length)) => return Ok(length),
            Ok(Received::Incomplete { .. }) => {}
            Err(error) => return Err(End::Protocol(error)),
        }
        input.reserve(512);
        let count = poll_fn(|cx| io.poll_read(cx, &mut input.limit(512))).await.map_err(End::Transport)?;
        if count == 0 {
            return Err(End::Peer(None));
        }
    }
}

impl Link {
    fn new(io: Io, receiver: Receiver, exchange: Exchange, partial: Vec<u8>) -> Self {
        Self {
            io,
            receiver,
            exchange,
            partial,
            needed: None,
            large: false,
            pause: None,
            held: None,
            deaf: None,
            due: None,
        }
    }

    /// The session.
    pub fn slot(&self) -> &Arc<SessionSlot> {
        &self.exchange.slot
    }

    /// The epoch of this connection in its session.
    pub fn epoch(&self) -> u64 {
        self.exchange.epoch
    }

    /// Drives the connection until it ends.
    pub async fn run(&mut self) -> End {
        if !self.partial.is_empty() {
            // What came together with the handshake.
            let bytes = std::mem::take(&mut self.partial);
            if let Err(end) = self.take(&bytes, None) {
                return end;
            }
            if let Some(reason) = self.exchange.disconnect {
                return End::Peer(Some(reason));
            }
        }
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Ends the session's side of it: last words, will, expiry.
    pub async fn end(mut self, end: &End) {
        let exchange = &self.exchange;
        let (reason, publish_will) = match end {
            End::Protocol(error) => (Some(error.reason), true),
            End::Closed(reason) => (Some(*reason), true),
            End::Peer(Some(ReasonCode::Success)) => (None, false),
            End::Peer(_) | End::Transport(_) => (None, true),
            End::TakenOver => (Some(ReasonCode::SessionTakenOver), false),
        };
        let mut words = Vec::new();
        let is_answered = !matches!(end, End::Protocol(error) if !answers::is_answered(error));
        if let Some(reason) = reason
            && exchange.version == Version::V5
            && reason.is_error()
            && is_answered
        {
            Disconnect::new(reason).encode(Version::V5, &mut words);
        }
        if let End::TakenOver = end {
            // The slot belongs to the new connection. A socket it has given its last words itself.
            let _ = timeout(LAST_WORDS, self.say_last(&words)).await;
        } else if reason.is_some() {
            // Also without words of its own, as in 3.1.1: what was answered before must not be lost.
            exchange.slot.send(exchange.epoch, &words);
            let _ = timeout(LAST_WORDS, poll_fn(|cx| self.poll_last_words(cx))).await;
        } else if let End::Peer(_) = end {
            // Answers to what came last; whether the peer still reads them is its own affair.
            poll_fn(|cx| {
                let _ = self.poll_last_words(cx);
                Poll::Ready(())
            })
            .await;
        }
        let exchange = &self.exchange;
        exchange.broker.disconnected(&exchange.slot, exchange.epoch, publish_will);
        let _ = timeout(LAST_WORDS, self.part(end)).await;
    }

    /// Writes what a stream has begun, and `words`, past the slot.
    async fn say_last(&mut self, words: &[u8]) -> io::Result<()> {
        // Nothing comes before CONNACK, which went with the slot's buffer where it was not begun [MQTT-3.2.0-1].
        if let Io::Stream(io) = &mut self.io
            && io.begun
        {
            let StreamIo { stream, output, .. } = &mut **io;
            while !output.is_empty() {
                let count = stream.write(output.first()).await?;
                output.advance(count);
            }
            stream.write_all(words).await?;
            stream.flush().await?;
        }
        Ok(())
    }

    /// Parts from the peer in an orderly way, where it may still listen.
    async fn part(&mut self, end: &End) -> io::Result<()> {
        if let (Io::Stream(io), End::Peer(Some(_)) | End::Protocol(_) | End::Closed(_) | End::TakenOver) =
            (&mut self.io, end)
        {
            io.stream.shutdown().await?;
        }
        if let End::Protocol(_) = end {
            // Closing over bytes that were not read resets the connection, and the peer would not learn the reason.
            let mut scratch = Vec::with_capacity(4096);
            let mut left = MAX_UNREAD_BYTES;
            while left > 0 {
                scratch.clear();
                let count = poll_fn(|cx| self.io.poll_read(cx, &mut (&mut scratch).limit(4096))).await?;
                if count == 0 {
                    break;
                }
                left = left.saturating_sub(count);
            }
        }
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if let Some(pause) = &mut self.pause
            && pause.as_mut().poll(cx).is_ready()
        {
            self.pause = None;
        }
        let mut attention = self.exchange.slot.attend(self.exchange.epoch, cx);
        if let Io::Stream(_) = self.io
            && attention != Attention::TakenOver
        {
            if let Poll::Ready(Err(error)) = self.poll_write(cx) {
                return Poll::Ready(End::Transport(error));
            }
            if attention == Attention::Wait {
                // Writing has made room, perhaps, and nothing else would wake this task.
                attention = self.exchange.slot.attend(self.exchange.epoch, cx);
            }
        }
        match attention {
            Attention::TakenOver => return Poll::Ready(End::TakenOver),
            Attention::Close(reason) => return Poll::Ready(End::Closed(reason)),
            Attention::Read | Attention::Wait => {}
        }
        self.exchange.poll_commits(cx);
        if self.exchange.is_dialled() {
            self.poll_due(cx);
        }
        self.exchange.release_committed(cx);
        let is_deaf = self.poll_deaf(cx) || self.pause.is_some();
        if self.held.is_some()
            && !is_deaf
            && let Err(end) = self.take_held(cx)
        {
            return Poll::Ready(end);
        }
        if let Some(reason) = self.exchange.disconnect {
            return Poll::Ready(End::Peer(Some(reason)));
        }
        if is_deaf || self.held.is_some() {
            attention = Attention::Wait;
        }
        if attention == Attention::Read {
            for _ in 0..MAX_READS_PER_TURN {
                match self.poll_read(cx) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(End::Peer(self.exchange.disconnect)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(end)) => return Poll::Ready(end),
                    Poll::Pending => {
                        // What was read just now waits for its commit, and nothing else would wake this task.
                        self.exchange.release_committed(cx);
                        self.exchange.feed_retained();
                        return Poll::Pending;
                    }
                }
                if let Some(reason) = self.exchange.disconnect {
                    return Poll::Ready(End::Peer(Some(reason)));
                }
                if self.held.is_some() || self.poll_deaf(cx) {
                    break;
                }
                if let Some(pause) = self.exchange.pause() {
                    // Until then it is not heard because we do not listen.
                    self.exchange.slot.heard(Millis(clock::now().0 + pause.as_millis() as u64));
                    self.pause = Some(Box::pin(tokio::time::sleep(pause)));
                    break;
                }
            }
            self.exchange.feed_retained();
            // More may be there: after the others.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.exchange.feed_retained();
        Poll::Pending
    }

    /// Sends what has waited for its time.
    fn poll_due(&mut self, cx: &mut Context<'_>) {
        while let Some(at) = self.exchange.slot.due(self.exchange.epoch) {
            let (_, alarm) = match &mut self.due {
                Some(due) if due.0 == at => due,
                due => due.insert((at, Box::pin(tokio::time::sleep_until(clock::instant(at))))),
            };
            if alarm.as_mut().poll(cx).is_pending() {
                return;
            }
            // A clock of milliseconds may say that it is not quite there.
            self.exchange.pump(clock::now().max(at));
        }
        self.due = None;
    }

    /// Tries again to take what must wait. If it still must, the task of `cx` is woken when a queue has room, or it is
    /// time to look again.
    fn take_held(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        // First, so that nothing comes in between.
        self.exchange.broker.budget().wake_when_room(cx.waker());
        if let Some(held) = self.held.take() {
            match held.input {
                HeldInput::Bytes(bytes) => self.take(&bytes, None)?,
                HeldInput::Frame(frame) => self.take(&frame, Some(&frame))?,
            }
        }
        if let Some(held) = &mut self.held {
            // Until then it is not heard because we do not listen.
            self.exchange.slot.heard(Millis(clock::now().0 + HELD_LOOK.as_millis() as u64));
            let _ = held.look.as_mut().poll(cx);
        }
        Ok(())
    }

    /// Whether the peer is not read because of the journal. So long it is not heard because we do not listen.
    fn poll_deaf(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.exchange.poll_deaf(cx) {
            self.deaf = None;
            return false;
        }
        let slot = &self.exchange.slot;
        let listens_again = || Millis(clock::now().0 + DEAF.as_millis() as u64);
        let deaf = self.deaf.get_or_insert_with(|| {
            slot.heard(listens_again());
            Box::pin(tokio::time::sleep(DEAF))
        });
        while deaf.as_mut().poll(cx).is_ready() {
            slot.heard(listens_again());
            deaf.set(tokio::time::sleep(DEAF));
        }
        true
    }

    /// Reads once and takes all packets that are whole.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, End>> {
        if let Some(needed) = self.needed.filter(|&needed| needed > SCRATCH_BYTES) {
            // A large packet is read where it will stand.
            let missing = needed - self.partial.len();
            let partial = &mut self.partial;
            let count = match self.io.poll_read(cx, &mut partial.limit(missing)) {
                Poll::Ready(Ok(count)) => count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(End::Transport(error))),
                Poll::Pending => return Poll::Pending,
            };
            if count == missing {
                self.needed = None;
                let frame = Arc::new(Frame::new(std::mem::take(&mut self.partial)));
                self.take(&frame, Some(&frame))?;
            }
            return Poll::Ready(Ok(count));
        }
        let mut scratch = buffers::take_scratch();
        scratch.extend_from_slice(&self.partial);
        // After a large packet probably comes another: only its beginning is read here, the rest where it will stand.
        let limit = if self.large { FIRST_READ_BYTES } else { SCRATCH_BYTES };
        let room = limit.saturating_sub(scratch.len()).max(1);
        let result = match self.io.poll_read(cx, &mut (&mut scratch).limit(room)) {
            Poll::Ready(Ok(count)) if count > 0 => {
                self.partial = Vec::new();
                self.needed = None;
                Poll::Ready(self.take(&scratch, None).map(|()| count))
            }
            Poll::Ready(Ok(count)) => Poll::Ready(Ok(count)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(End::Transport(error))),
            Poll::Pending => Poll::Pending,
        };
        buffers::give_scratch(scratch);
        result
    }

    /// Takes the whole packets in `input`, and keeps the beginning of one that is not whole. `frame` is a large
    /// packet that may be kept as it is.
    fn take(&mut self, input: &[u8], frame: Option<&Arc<Frame>>) -> Result<(), End> {
        let mut reading = READING.take().unwrap_or_default();
        reading.frame = frame.map(Arc::clone);
        reading.batch.set_recording(self.exchange.broker.router.journal().is_durable());
        self.large = frame.is_some();
        reading.now = clock::now();
        let mut at = 0;
        let result = loop {
            match self.receiver.receive(&input[at..]) {
                Ok(Received::Packet(packet, _)) if self.exchange.is_held(&packet, reading.now) => {
                    let input = match frame {
                        Some(frame) => HeldInput::Frame(Arc::clone(frame)),
                        None => HeldInput::Bytes(input[at..].to_vec()),
                    };
                    self.held = Some(Held { input, look: Box::pin(tokio::time::sleep(HELD_LOOK)) });
                    break Ok(());
                }
                Ok(Received::Packet(packet, length)) => {
                    at += length;
                    reading.packets += 1;
                    if let Err(error) = self.exchange.handle(&packet, &mut reading) {
                        break Err(End::Protocol(error));
                    }
                    if self.exchange.disconnect.is_some() {
                        break Ok(());
                    }
                }
                Ok(Received::Incomplete { needed }) => {
                    let rest = &input[at..];
                    if !rest.is_empty() {
                        let mut partial = match needed {
                            Some(needed) if needed > SCRATCH_BYTES => Frame::buffer(needed),
                            _ => Vec::with_capacity(rest.len()),
                        };
                        partial.extend_from_slice(rest);
                        self.partial = partial;
                        self.needed = needed;
                        self.large = needed.is_some_and(|needed| needed > SCRATCH_BYTES);
                    }
                    break Ok(());
                }
                Err(error) => break Err(End::Protocol(error)),
            }
        };
        reading.bytes = at;
        let finished = self.exchange.finish(&mut reading);
        READING.set(Some(reading));
        result.and(finished.map_err(End::Protocol))
    }

    /// Ready when all that waits has been written, or cannot be.
    fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.io {
            Io::Socket(_) => self.exchange.slot.poll_flushed(self.exchange.epoch, cx),
            Io::Stream(_) => self.poll_write(cx).map(|_| ()),
        }
    }

    /// Writes what waits to a stream; ready when nothing does. A socket is written by its slot.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let exchange = &self.exchange;
        let Io::Stream(io) = &mut self.io else {
            return Poll::Ready(Ok(()));
        };
        let StreamIo { stream, output, begun } = &mut **io;
        loop {
            if output.is_empty() {
                let mut batch = Batch::default();
                let mut turn = Turn { now: clock::now(), batch: &mut batch };
                let next = exchange.slot.take_output(exchange.epoch, &mut turn);
                exchange.broker.router.journal().append(&mut batch);
                match next {
                    Some(next) => {
                        *output = next;
                        *begun = true;
                    }
                    None => return stream.as_mut().poll_flush(cx),
                }
            }
            match stream.as_mut().poll_write(cx, output.first()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => output.advance(count),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Io {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut impl BufMut) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(reader) => poll_read_buf(Pin::new(reader), cx, buffer),
            Self::Stream(io) => poll_read_buf(io.stream.as_mut(), cx, buffer),
        }
    }
}
