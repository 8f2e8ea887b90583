//! A serial line without wires: a pseudo terminal whose one end is a port, the other the device's.

use std::io;

use tokio_serial::{SerialPort, SerialStream};

/// The port's end of a line. Dropping it together with the device's end removes the line.
#[derive(Debug)]
pub struct Port {
    path: String,
    /// Kept open: a line does not hang up because the program that read it closes the port.
    _held: SerialStream,
}

impl Port {
    /// Opens a line, and gives the device's end too.
    ///
    /// # Errors
    /// Where the system has no more pseudo terminals.
    pub fn open() -> io::Result<(Self, SerialStream)> {
        let (device, port) = SerialStream::pair()?;
        let path = port.name().ok_or_else(|| io::Error::other("the pseudo terminal has no name"))?;
        Ok((Self { path, _held: port }, device))
    }

    /// The path to open it by, such as `/dev/pts/3`.
    pub fn path(&self) -> &str {
        &self.path
    }
}
