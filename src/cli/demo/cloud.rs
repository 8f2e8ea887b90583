//! The broker that plays the cloud: one that can go away for a while and keeps its sessions meanwhile.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::socket::{self, Layers, Listening};
use crate::broker::{Broker, Limits};
use crate::net::Transport;
use crate::store::Journal;

/// Bytes that are under way in each direction of a connection.
const CABLE_BYTES: usize = 64 * 1024;
/// How long to wait where the port cannot be opened again at once.
const PAUSE: Duration = Duration::from_millis(200);

/// The cloud's broker, reached by a cable that can be pulled.
#[derive(Debug)]
pub struct Cloud {
    broker: Arc<Broker>,
    address: SocketAddr,
    cable: Option<Cable>,
}

/// All connections from outside. Pulling it closes them and the port.
#[derive(Debug)]
struct Cable {
    pulled: CancellationToken,
    tasks: TaskTracker,
}

impl Cloud {
    /// Serves on `listener`.
    ///
    /// # Errors
    /// Where the listener has no address.
    pub fn start(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let broker = Broker::start(Limits::default(), Arc::new(Journal::in_memory()));
        let cable = Some(Cable::plug(Arc::clone(&broker), listener));
        Ok(Self { broker, address, cable })
    }

    /// Opens a port that stays when the cloud goes away: for whoever watches from inside.
    ///
    /// # Errors
    /// Where no port can be opened.
    pub fn inside(&self) -> io::Result<SocketAddr> {
        let listener = socket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = listener.local_addr()?;
        socket::serve(&self.broker, Listening::Tcp(listener), Layers::default(), Arc::clone(self.broker.entrance()));
        Ok(address)
    }

    /// Goes away: all connections end without a word, and nobody answers any more.
    pub async fn go_away(&mut self) {
        if let Some(cable) = self.cable.take() {
            cable.pull().await;
        }
    }

    /// Comes back on the same port, with the sessions that it had. Tries until that works.
    pub async fn come_back(&mut self) {
        while self.cable.is_none() {
            match socket::bind(self.address) {
                Ok(listener) => self.cable = Some(Cable::plug(Arc::clone(&self.broker), listener)),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Stops for good.
    pub async fn stop(mut self) {
        self.go_away().await;
        self.broker.stop().await;
    }
}

impl Cable {
    fn plug(broker: Arc<Broker>, listener: TcpListener) -> Self {
        let cable = Self { pulled: CancellationToken::new(), tasks: TaskTracker::new() };
        let (pulled, tasks) = (cable.pulled.clone(), cable.tasks.clone());
        cable.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = pulled.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, from)) => {
                        let (near, far) = tokio::io::duplex(CABLE_BYTES);
                        broker.accept_transport(Transport::stream(far), Some(from.ip()), broker.entrance());
                        tasks.spawn(carry(stream, near, pulled.clone()));
                    }
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        });
        cable
    }

    async fn pull(self) {
        self.pulled.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Carries bytes both ways until one side ends or the cable is pulled.
async fn carry(mut stream: TcpStream, mut near: tokio::io::DuplexStream, pulled: CancellationToken) {
    let _ = stream.set_nodelay(true);
    tokio::select! {
        () = pulled.cancelled() => {}
        // How a connection ends is between the two that use it.
        _ = tokio::io::copy_bidirectional(&mut stream, &mut near) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Address, Client, ClientError};
    use crate::mqtt::connection::ConnectOptions;

    #[tokio::test]
    async fn it_goes_away_and_comes_back_with_its_sessions() {
        let listener = socket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let mut cloud = Cloud::start(listener).unwrap();
        let options = ConnectOptions { clean_start: false, session_expiry_interval: 60, ..ConnectOptions::new("c") };
        let address = Address { host: "127.0.0.1".into(), port: cloud.address.port() };
        let mut client = Client::new(address, options);
        assert!(!client.connect().await.unwrap().session_present);
        cloud.go_away().await;
        assert!(matches!(client.next().await, Err(ClientError::Lost(_))));
        assert!(matches!(client.connect().await, Err(ClientError::ConnectionRefused(_))));
        cloud.come_back().await;
        assert!(client.connect().await.unwrap().session_present);
        client.disconnect().await;
        cloud.stop().await;
    }
}
