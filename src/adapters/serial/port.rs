//! The port itself: opening it by its configured path, and how long to wait before trying again.

use std::io;
use std::time::Duration;

use tokio_serial::SerialStream;

use super::settings::Format;

/// Which port, and how fast it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSettings {
    /// The configured path: opened anew each time, because USB ports change their numbers.
    pub path: String,
    /// Symbols per second.
    pub baud: u32,
    /// Data bits, parity, stop bits.
    pub format: Format,
}

/// Opens the port for us alone.
///
/// # Errors
/// A reason in words, such as `cannot open /dev/ttyUSB0: No such file or directory`.
pub async fn open(settings: &PortSettings) -> Result<SerialStream, String> {
    let builder = tokio_serial::new(&settings.path, settings.baud)
        .data_bits(settings.format.data_bits)
        .parity(settings.format.parity)
        .stop_bits(settings.format.stop_bits);
    // Opening sets the line up by calls that some drivers are slow to answer.
    let opened = tokio::task::spawn_blocking(move || SerialStream::open(&builder)).await;
    match opened {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("cannot open {}: {error}", settings.path)),
        Err(_) => Err(format!("cannot open {}", settings.path)),
    }
}

/// Why a read that ended without data means that the port is gone.
pub fn gone(path: &str, read: &io::Result<usize>) -> Option<String> {
    match read {
        Ok(0) => Some(format!("{path} is gone")),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
        // After an unplug drivers say EIO, and pseudo terminals too.
        Err(error) => Some(format!("{path} is gone: {error}")),
    }
}

/// Growing pauses between attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Default for Backoff {
    /// 1 s, doubled up to 30 s.
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(30))
    }
}

impl Backoff {
    /// From `least`, doubled up to `most`.
    pub fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, next: least }
    }

    /// The pause before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.most);
        pause
    }

    /// It worked: the next pause is the shortest again.
    pub fn reset(&mut self) {
        self.next = self.least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_start_over() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u64> = (0..7).map(|_| backoff.pause().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.pause().as_secs(), 1);
    }

    #[tokio::test]
    async fn a_missing_port_is_a_reason_in_words() {
        let settings = PortSettings { path: "/nonexistent/port".into(), baud: 9600, format: Format::default() };
        let error = open(&settings).await.unwrap_err();
        assert_eq!(error, "cannot open /nonexistent/port: No such file or directory");
    }
}
