//! The two kinds of transport: plain sockets, which any thread may write, and streams, which only their task may.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

/// A connection below MQTT.
pub enum Transport {
    /// A plain socket: whoever delivers a message may write it, from any thread.
    Socket(SocketReader, SocketWriter),
    /// TLS, WebSocket, a proxy, or memory: the task that owns it is woken, and writes.
    Stream(Stream),
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Socket(..) => "Transport::Socket",
            Self::Stream(_) => "Transport::Stream",
        })
    }
}

/// A byte stream that one task owns.
pub type Stream = Pin<Box<dyn ByteStream>>;

/// What a [`Stream`] can do.
pub trait ByteStream: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> ByteStream for T {}

impl Transport {
    /// A TCP connection.
    pub fn tcp(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self::Socket(SocketReader::Tcp(reader), SocketWriter::Tcp(writer))
    }

    /// A connection over a Unix socket.
    pub fn unix(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self::Socket(SocketReader::Unix(reader), SocketWriter::Unix(writer))
    }

    /// Any byte stream, TLS for example.
    pub fn stream(stream: impl ByteStream + 'static) -> Self {
        Self::Stream(Box::pin(stream))
    }
}

/// The reading half of a plain socket.
#[derive(Debug)]
pub enum SocketReader {
    /// TCP.
    Tcp(tcp::OwnedReadHalf),
    /// A Unix socket.
    Unix(unix::OwnedReadHalf),
}

/// The writing half of a plain socket. Dropping it ends our side of the connection.
#[derive(Debug)]
pub enum SocketWriter {
    /// TCP.
    Tcp(tcp::OwnedWriteHalf),
    /// A Unix socket.
    Unix(unix::OwnedWriteHalf),
}

impl AsyncRead for SocketReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(reader) => Pin::new(reader).poll_read(cx, buffer),
            Self::Unix(reader) => Pin::new(reader).poll_read(cx, buffer),
        }
    }
}

impl SocketWriter {
    /// Writes what the socket takes now, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` where it takes nothing now, or what the socket says.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(writer) => writer.try_write(bytes),
            Self::Unix(writer) => writer.try_write(bytes),
        }
    }

    /// Like [`SocketWriter::try_write`], from several places in one call.
    ///
    /// # Errors
    /// As [`SocketWriter::try_write`].
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(writer) => writer.try_write_vectored(slices),
            Self::Unix(writer) => writer.try_write_vectored(slices),
        }
    }

    /// Like [`SocketWriter::poll_write`], from several places in one call.
    pub fn poll_write_vectored(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(writer) => Pin::new(writer).poll_write_vectored(cx, slices),
            Self::Unix(writer) => Pin::new(writer).poll_write_vectored(cx, slices),
        }
    }

    /// Writes all of `bytes`, waiting for the socket where it must.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self {
                Self::Tcp(writer) => writer.writable().await?,
                Self::Unix(writer) => writer.writable().await?,
            }
            match self.try_write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Like [`SocketWriter::try_write`]; where the socket takes nothing, the task of `cx` is woken when it does.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(writer) => Pin::new(writer).poll_write(cx, bytes),
            Self::Unix(writer) => Pin::new(writer).poll_write(cx, bytes),
        }
    }
}
