//! A gate in front of a server: a network that can be cut, or swallow everything, and be restored.

use super::ports::free_port;
use super::process::wait_until;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Passes connections on while it is open; while it is shut they are refused.
pub struct Gate {
    /// Where it listens.
    pub port: u16,
    behind: u16,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    silence: Arc<Silence>,
    open: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

/// Whether nothing passes, though connections stand.
#[derive(Default)]
struct Silence {
    is_silent: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// An open gate in front of a port of this machine.
    pub fn open(behind: u16) -> Self {
        let mut gate = Self { port: free_port(), behind, streams: Arc::default(), silence: Arc::default(), open: None };
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
        let (goes_on, silence) = (Arc::clone(&is_open), Arc::clone(&self.silence));
        let thread = std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if !goes_on.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", behind)) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let clone = |stream: &TcpStream| stream.try_clone().expect("a socket can be cloned");
                    pass(clone(from), clone(to), Arc::clone(&silence));
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
        self.speak();
    }

    /// A black hole: connections stand and are accepted, and nothing passes, not even their end.
    pub fn fall_silent(&self) {
        self.silence.set(true);
    }

    /// Ends the silence: what was written meanwhile passes now.
    pub fn speak(&self) {
        self.silence.set(false);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if self.open.is_some() {
            self.shut();
        }
    }
}

impl Silence {
    fn set(&self, is_silent: bool) {
        *self.is_silent.lock().unwrap_or_else(PoisonError::into_inner) = is_silent;
        self.changed.notify_all();
    }

    fn await_end(&self) {
        let is_silent = self.is_silent.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(is_silent, |is_silent| *is_silent));
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, silence: Arc<Silence>) {
    std::thread::spawn(move || {
        let _ = from.set_nodelay(true);
        let mut bytes = [0; 16 * 1024];
        loop {
            let count = from.read(&mut bytes).unwrap_or(0);
            silence.await_end();
            if count == 0 || to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
