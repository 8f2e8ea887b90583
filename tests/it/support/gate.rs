//! A gate in front of a server: a network that can be cut and restored.

use super::ports::free_port;
use super::process::wait_until;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Passes connections on while it is open; while it is shut they are refused.
pub struct Gate {
    /// Where it listens.
    pub port: u16,
    behind: u16,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    open: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Gate {
    /// An open gate in front of a port of this machine.
    pub fn open(behind: u16) -> Self {
        let mut gate = Self { port: free_port(), behind, streams: Arc::default(), open: None };
        gate.open_again();
        gate
    }

    /// Lets connections through again, after `shut`.
    pub fn open_again(&mut self) {
        assert!(self.open.is_none(), "the gate is open");
        let mut listener = None;
        wait_until("the gate's port is free", || {
            listener = TcpListener::bind(("127.0.0.1", self.port)).ok();
            listener.is_some()
        });
        let listener = listener.expect("it was bound just now");
        let (is_open, streams, behind) = (Arc::new(AtomicBool::new(true)), Arc::clone(&self.streams), self.behind);
        let goes_on = Arc::clone(&is_open);
        let thread = std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if !goes_on.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", behind)) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let clone = |stream: &TcpStream| stream.try_clone().expect("a socket can be cloned");
                    pass(clone(from), clone(to));
                }
                streams.lock().unwrap_or_else(PoisonError::into_inner).extend([client, server]);
            }
        });
        self.open = Some((is_open, thread));
    }

    /// Cuts all connections, and refuses others.
    pub fn shut(&mut self) {
        let (is_open, thread) = self.open.take().expect("the gate is open");
        is_open.store(false, Ordering::SeqCst);
        // One more connection, so that the thread looks.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        thread.join().expect("the gate does not panic");
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if self.open.is_some() {
            self.shut();
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}
