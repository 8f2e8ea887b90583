//! Opening the broker's sockets; where one is taken, it is said by whom.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixSocket, UnixStream, lookup_host};

use crate::broker::settings::{Listener, Socket};
use crate::broker::socket::{self, BACKLOG, Layers, Listening};
use crate::net::port_holder::holder_of;

/// Why a socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The host has no address.
    #[error("{host} has no address: {error}")]
    NoAddress {
        /// The host as it was given.
        host: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// The port is taken.
    #[error("port {} is taken{}; stop it, or change `listen`", address.port(), by(holder.as_ref()))]
    Taken {
        /// The address.
        address: SocketAddr,
        /// The process that holds it, where that can be seen.
        holder: Option<String>,
    },
    /// Another process listens on the Unix socket.
    #[error("{} is taken by another process; stop it, or change `listen`", path.display())]
    PathTaken {
        /// The socket's file.
        path: PathBuf,
    },
    /// The file is there and is no socket.
    #[error("{} is there and is no socket; take it away, or change `listen`", path.display())]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// The folder of a Unix socket is not there.
    #[error("there is no folder {} for the socket {}", folder(path).display(), path.display())]
    NoFolder {
        /// The socket's file.
        path: PathBuf,
    },
    /// A Unix socket cannot be made for another reason.
    #[error("{}: {error}", path.display())]
    PathFailed {
        /// The socket's file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Anything else: the address is not ours, or the port needs a privilege.
    #[error("{address}: {error}")]
    Failed {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

/// A socket that listens; its file goes when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: a file of that name that another process made stays.
    made: (u64, u64),
}

/// The sockets of a listener, and the file of a Unix socket.
///
/// # Errors
/// Where none can be opened, or one is taken.
pub async fn open(listener: &Listener) -> Result<(Vec<Listening>, Option<SocketFile>), ListenError> {
    match &listener.socket {
        Socket::Tcp { host, port } => {
            let listeners = bind(host, *port).await?;
            Ok((listeners.into_iter().map(Listening::Tcp).collect(), None))
        }
        Socket::Unix { path, mode } => {
            let (listener, file) = bind_unix(path, *mode).await?;
            Ok((vec![Listening::Unix(listener)], Some(file)))
        }
    }
}

/// What lies between the sockets of a listener and MQTT.
pub fn layers(listener: &Listener) -> Layers {
    let websocket = listener.websocket.as_ref().map(|websocket| websocket.path.as_deref().map(Into::into));
    Layers { tls: listener.tls.clone(), websocket }
}

fn by(holder: Option<&String>) -> String {
    holder.map(|holder| format!(" by {holder}")).unwrap_or_default()
}

/// Opens a socket on each address of `host`.
///
/// # Errors
/// Where none can be opened, or a port is taken.
pub async fn bind(host: &str, port: u16) -> Result<Vec<TcpListener>, ListenError> {
    let addresses: Vec<SocketAddr> =
        lookup_host((host, port)).await.map_err(|error| ListenError::NoAddress { host: host.into(), error })?.collect();
    let mut listeners = Vec::new();
    let mut failed = None;
    for address in addresses {
        match socket::bind(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(ListenError::Taken { address, holder: holder_of(address.port()) });
            }
            // A host with two kinds of addresses may have only one of them up.
            Err(error) => failed = Some(ListenError::Failed { address, error }),
        }
    }
    match failed {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

/// Opens a Unix socket. The file of a process that died without taking it away is replaced.
async fn bind_unix(path: &Path, mode: u32) -> Result<(UnixListener, SocketFile), ListenError> {
    let failed = |error| ListenError::PathFailed { path: path.into(), error };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NoSocket { path: path.into() }),
        Ok(_) => match UnixStream::connect(path).await {
            // Nobody listens: it was left behind.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed)?,
            // Somebody answers, or is too busy to, or does not let us.
            _ => return Err(ListenError::PathTaken { path: path.into() }),
        },
        Err(_) if !folder(path).is_dir() => return Err(ListenError::NoFolder { path: path.into() }),
        Err(_) => {}
    }
    let socket = UnixSocket::new_stream().map_err(failed)?;
    socket.bind(path).map_err(failed)?;
    // Before it listens: nobody connects by the permissions that it was made with.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
    let listener = socket.listen(BACKLOG).map_err(failed)?;
    let made = identity(path).map_err(failed)?;
    Ok((listener, SocketFile { path: path.into(), made }))
}

fn folder(path: &Path) -> &Path {
    // A name alone stands in the folder that we are in.
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = identity(&self.path).is_ok_and(|found| found == self.made);
        // A file that was made anew may have got the number of the old one: nobody listens on ours any more.
        let answer = is_ours.then(|| std::os::unix::net::UnixStream::connect(&self.path));
        if let Some(Err(error)) = answer
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            // Where that fails, the next start takes it away.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_unix_socket_has_its_permissions_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (listener, file) = bind_unix(&path, 0o620).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
        UnixStream::connect(&path).await.unwrap();
        assert!(matches!(bind_unix(&path, 0o660).await, Err(ListenError::PathTaken { .. })));
        drop((listener, file));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (listener, old) = bind_unix(&path, 0o660).await.unwrap();
        drop(listener);
        let (_listener, _new) = bind_unix(&path, 0o660).await.unwrap();
        drop(old);
        UnixStream::connect(&path).await.unwrap();

        let file = folder.path().join("file");
        fs::write(&file, "kept").unwrap();
        assert!(matches!(bind_unix(&file, 0o660).await, Err(ListenError::NoSocket { .. })));
        assert_eq!(fs::read(&file).unwrap(), b"kept");
        assert_eq!(super::folder(Path::new("s")), Path::new("."));
        let missing = folder.path().join("missing/s");
        assert!(matches!(bind_unix(&missing, 0o660).await, Err(ListenError::NoFolder { .. })));
    }
}
