//! Ports for the demo: the usual one where it is free, another one where it is taken, and who took it.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

use crate::net::port_holder::holder_of;

/// Added to a usual port to get the one that is tried next: 1883 and 41883 look alike.
const BESIDE: u16 = 40_000;

/// A port of this machine that is ours.
#[derive(Debug)]
pub struct Port {
    listener: TcpListener,
    number: u16,
    /// What the user should know where it is not the usual one.
    pub remark: Option<String>,
}

impl Port {
    /// Opens `usual` for `whom`, or another one where it is taken.
    ///
    /// # Errors
    /// Where no port can be opened at all.
    pub fn open(usual: u16, whom: &str) -> io::Result<Self> {
        let opened = bind(usual);
        let taken = matches!(&opened, Err(error) if error.kind() == io::ErrorKind::AddrInUse);
        if !taken {
            return Ok(Self { listener: opened?, number: usual, remark: None });
        }
        let beside = usual.checked_add(BESIDE).ok_or(io::ErrorKind::AddrInUse);
        let listener = beside.map_err(io::Error::from).and_then(bind).or_else(|_| bind(0))?;
        let number = listener.local_addr()?.port();
        let by = holder_of(usual).map(|holder| format!(" by {holder}")).unwrap_or_default();
        let remark = format!("port {usual} is taken{by}, so {whom} listens on {number}");
        Ok(Self { listener, number, remark: Some(remark) })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The listening socket, for the current runtime.
    ///
    /// # Errors
    /// Where the runtime does not take it.
    pub fn listen(self) -> io::Result<tokio::net::TcpListener> {
        self.listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(self.listener)
    }

    /// Gives it up, for somebody who opens it by its number.
    pub fn give_up(self) {}
}

fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_replaced_and_its_holder_named() {
        let holder = Port::open(0, "nobody").unwrap();
        let usual = holder.listener.local_addr().unwrap().port();
        let port = Port::open(usual, "the gateway").unwrap();
        assert_ne!(port.number(), usual);
        let remark = port.remark.unwrap();
        let begin = format!("port {usual} is taken");
        let end = format!(", so the gateway listens on {}", port.number);
        assert!(remark.starts_with(&begin) && remark.ends_with(&end), "{remark}");
        #[cfg(target_os = "linux")]
        assert!(remark.contains(&format!("(process {})", std::process::id())), "{remark}");
    }

    #[test]
    fn a_free_port_is_taken_without_a_word() {
        let free = bind(0).unwrap().local_addr().unwrap().port();
        let port = Port::open(free, "the gateway").unwrap();
        assert_eq!((port.number(), &port.remark), (free, &None));
    }
}
