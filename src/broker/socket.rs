//! Listening sockets: accept connections, and go on accepting whatever happens.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::time::Instant;

use super::listener::Arrival;
use super::{Broker, Entrance};
use crate::net::server_tls::{HandshakeError, ServerTls};
use crate::net::websocket::{self, Upgraded};
use crate::net::{Stream, Transport};
use crate::settings::Endpoint;

/// Connections that may wait to be accepted.
pub const BACKLOG: u32 = 1024;
/// Pauses after accepting failed, from the first to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Between two lines in the log about connections that cannot be accepted.
const TELL_AGAIN: Duration = Duration::from_secs(600);
/// Accepting works again where it did not fail for so long.
const QUIET: Duration = Duration::from_secs(5);

/// A socket that listens.
#[derive(Debug)]
pub enum Listening {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// What lies between a TCP connection and MQTT.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// TLS.
    pub tls: Option<Arc<ServerTls>>,
    /// WebSocket, at this path or at any.
    pub websocket: Option<Option<Arc<str>>>,
}

type Handshake = Pin<Box<dyn Future<Output = io::Result<Arrival>> + Send>>;

/// Opens a listening socket whose connections send small packets at once.
///
/// # Errors
/// Where the address is taken or not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it on Linux; without it acknowledgements wait for one another.
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections for `broker` by the rules of `entrance` until it stops. A Unix socket has no layers.
pub fn serve(broker: &Arc<Broker>, listening: Listening, layers: Layers, entrance: Arc<Entrance>) {
    let serving = Arc::clone(broker);
    broker.tasks().spawn(async move {
        let cancelled = serving.cancellation();
        let mut trouble = Trouble::default();
        loop {
            let accepted = tokio::select! {
                () = cancelled.cancelled() => return,
                () = trouble.quiet() => {
                    trouble.is_over(Instant::now());
                    continue;
                }
                accepted = listening.accept() => accepted,
            };
            match accepted {
                Ok(Accepted::Unix(transport)) => serving.accept_transport(transport, None, &entrance),
                Ok(Accepted::Tcp(stream, from)) => {
                    if !cfg!(target_os = "linux") {
                        let _ = stream.set_nodelay(true);
                    }
                    let address = from.ip();
                    if layers.tls.is_none() && layers.websocket.is_none() {
                        serving.accept_transport(Transport::tcp(stream), Some(address), &entrance);
                    } else {
                        serving.accept(Some(address), &entrance, layers.clone().handshake(stream, address));
                    }
                }
                // The connection was over before we took it; the next one waits already.
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    let pause = trouble.pause(&error, Instant::now());
                    tokio::select! {
                        () = cancelled.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    });
}

enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(Transport),
}

impl Listening {
    /// The address of a TCP socket, with the port that it got.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, from)| Accepted::Tcp(stream, from)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(Transport::unix(stream))),
        }
    }
}

impl Layers {
    /// Goes through the handshakes. Boxed, so that a connection does not keep the room that they need.
    fn handshake(self, stream: TcpStream, from: IpAddr) -> Handshake {
        Box::pin(async move {
            let (stream, user) = match &self.tls {
                None => (Box::pin(stream) as Stream, None),
                Some(tls) => match tls.accept(stream).await {
                    Ok((stream, user)) => (Box::pin(stream) as Stream, user),
                    Err(error) => {
                        tracing::info!(%from, %error, "no TLS with a client");
                        return Err(match error {
                            HandshakeError::Failed(error) => error,
                            HandshakeError::Name(error) => io::Error::new(io::ErrorKind::InvalidData, error),
                        });
                    }
                },
            };
            let mut is_foreign = false;
            let transport = match &self.websocket {
                None => Transport::Stream(stream),
                Some(path) => match websocket::accept(stream, path.as_deref()).await {
                    Ok(Upgraded { socket, origin }) => {
                        if let Some(origin) = origin.filter(|origin| is_foreign_page(origin, from)) {
                            tracing::info!(%from, origin, "a page of elsewhere counts as another machine");
                            is_foreign = true;
                        }
                        Transport::stream(socket)
                    }
                    Err(websocket::UpgradeError::Failed(error)) => return Err(error),
                    Err(error) => {
                        tracing::info!(%from, %error, "no WebSocket with a client");
                        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                    }
                },
            };
            Ok(Arrival { transport, user, is_foreign })
        })
    }
}

/// Whether a web page of `origin` is not of this machine, but its browser is. Such a page has no rights of its own: it
/// must not get those of the machine that it is looked at from [RFC 6455 10.2].
fn is_foreign_page(origin: &str, browser: IpAddr) -> bool {
    browser.to_canonical().is_loopback() && !Endpoint::parse(origin).is_ok_and(|origin| origin.is_loopback())
}

/// Whether the next connection may be accepted at once [accept(2)].
fn concerns_one_connection(error: &io::Error) -> bool {
    let one = [
        Errno::CONNABORTED,
        Errno::CONNRESET,
        Errno::INTR,
        Errno::PERM,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NONET,
        Errno::OPNOTSUPP,
    ];
    Errno::from_io_error(error).is_some_and(|errno| one.contains(&errno))
}

/// Accepting fails, mostly because there are no file descriptors left.
#[derive(Debug, Default)]
struct Trouble {
    pause: Option<Duration>,
    last: Option<Instant>,
    told: Option<Instant>,
    /// Failures that no line in the log has told of.
    untold: u64,
    /// Whether the log says that it fails, and not yet that it works again.
    is_told: bool,
}

impl Trouble {
    /// Takes a failure, tells it in the log where that is due, and says how long to wait.
    fn pause(&mut self, error: &io::Error, now: Instant) -> Duration {
        self.untold += 1;
        self.last = Some(now);
        if self.told.is_none_or(|told| now - told >= TELL_AGAIN) {
            tracing::warn!(%error, failures = self.untold, "cannot accept connections; those that come wait");
            self.told = Some(now);
            self.untold = 0;
            self.is_told = true;
        }
        let pause = self.pause.map_or(PAUSES.0, |pause| (pause * 2).min(PAUSES.1));
        self.pause = Some(pause);
        pause
    }

    /// Comes when nothing has failed for a while; never where there is no trouble.
    async fn quiet(&self) {
        match self.last {
            Some(last) => tokio::time::sleep_until(last + QUIET).await,
            None => std::future::pending().await,
        }
    }

    fn is_over(&mut self, now: Instant) {
        if self.is_told {
            tracing::info!(failures = self.untold, "connections are accepted again");
            self.is_told = false;
        }
        let told = self.told.filter(|told| now - *told < TELL_AGAIN);
        *self = Self { told, untold: self.untold, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_descriptors() -> io::Error {
        Errno::MFILE.into()
    }

    #[test]
    fn pauses_grow_to_a_second_and_begin_anew_after_quiet() {
        let mut trouble = Trouble::default();
        let now = Instant::now();
        let pauses: Vec<u128> = (0..7).map(|_| trouble.pause(&no_descriptors(), now).as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
        trouble.is_over(now + QUIET);
        assert_eq!(trouble.pause(&no_descriptors(), now + QUIET), PAUSES.0);
    }

    #[test]
    fn a_failure_is_told_once_in_ten_minutes_with_a_count() {
        let mut trouble = Trouble::default();
        let begin = Instant::now();
        let mut told = Vec::new();
        for second in 0..1300 {
            let now = begin + Duration::from_secs(second);
            let before = trouble.told;
            trouble.pause(&no_descriptors(), now);
            if trouble.told != before {
                told.push(second);
            }
            // It comes and goes.
            trouble.is_over(now);
        }
        assert_eq!(told, [0, 600, 1200]);
        assert_eq!(trouble.untold, 99);
    }

    #[test]
    fn a_page_of_elsewhere_is_foreign_to_the_machine_that_looks_at_it() {
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 168, 1, 7]));
        for origin in ["https://evil.example.com", "http://192.168.1.5", "null", "", "http://localhost.evil.example"] {
            assert!(is_foreign_page(origin, here), "{origin}");
            assert!(!is_foreign_page(origin, there), "what it may do there was said for its address: {origin}");
        }
        for origin in ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:1880"] {
            assert!(!is_foreign_page(origin, here), "{origin}");
        }
    }

    #[test]
    fn a_connection_that_was_given_up_delays_no_other() {
        assert!(concerns_one_connection(&Errno::CONNABORTED.into()));
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(!concerns_one_connection(&errno.into()));
        }
    }
}
