//! Where `pub` has its payloads from: a flag, a file, or standard input.

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Lines that wait between standard input and the broker; the reader waits while they are full.
const LINES: usize = 64;

/// The largest payload that fits any packet.
const MAX_PAYLOAD_BYTES: u64 = 268_435_455;

/// Gives one payload after the other.
pub(super) enum Payloads {
    /// The same one, several times.
    Repeated { payload: Vec<u8>, left: u32, pace: Option<Interval> },
    /// A line each.
    Lines(mpsc::Receiver<io::Result<Vec<u8>>>),
}

impl Payloads {
    /// `payload`, `times` times, with `delay` between them.
    pub(super) fn repeated(payload: Vec<u8>, times: u32, delay: Duration) -> Self {
        let pace = (!delay.is_zero()).then(|| {
            let mut pace = interval(delay);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            pace
        });
        Self::Repeated { payload, left: times, pace }
    }

    /// Each line of standard input, without its end; blank lines are left out, as mosquitto_pub does.
    pub(super) fn lines() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(LINES);
        // A thread of its own, because a read of standard input cannot be called off: it ends with the process.
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || read_lines(&mut io::stdin().lock(), &sender))?;
        Ok(Self::Lines(receiver))
    }

    /// The next payload, `None` after the last. It may be dropped while it waits.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        match self {
            Self::Repeated { left: 0, .. } => Ok(None),
            Self::Repeated { payload, left, pace } => {
                if let Some(pace) = pace {
                    pace.tick().await;
                }
                *left -= 1;
                Ok(Some(if *left == 0 { std::mem::take(payload) } else { payload.clone() }))
            }
            Self::Lines(lines) => lines.recv().await.transpose().context("cannot read standard input"),
        }
    }
}

/// All of a file.
pub(super) fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    read_all(file).with_context(|| format!("cannot read {}", path.display()))
}

/// All of standard input.
pub(super) fn read_stdin() -> anyhow::Result<Vec<u8>> {
    read_all(io::stdin().lock()).context("cannot read standard input")
}

fn read_all(from: impl Read) -> io::Result<Vec<u8>> {
    let mut payload = Vec::new();
    if from.take(MAX_PAYLOAD_BYTES + 1).read_to_end(&mut payload)? as u64 > MAX_PAYLOAD_BYTES {
        return Err(too_large());
    }
    Ok(payload)
}

fn read_lines(input: &mut impl BufRead, sender: &mpsc::Sender<io::Result<Vec<u8>>>) {
    loop {
        let line = match read_line(input) {
            Ok(Some(line)) if line.is_empty() => continue,
            Ok(Some(line)) => Ok(line),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let last = line.is_err();
        if sender.blocking_send(line).is_err() || last {
            return;
        }
    }
}

/// One line without its end, `None` at the end of the input.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if input.take(MAX_PAYLOAD_BYTES + 1).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 > MAX_PAYLOAD_BYTES {
        return Err(too_large());
    }
    Ok(Some(line))
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "more than 268,435,455 bytes, which no MQTT packet can carry")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_and_blank_ones_left_out() {
        let (sender, mut receiver) = mpsc::channel(8);
        read_lines(&mut &b"one\n\ntwo \r\n\xFF\nlast"[..], &sender);
        drop(sender);
        let mut lines = Vec::new();
        while let Ok(line) = receiver.try_recv() {
            lines.push(line.unwrap());
        }
        assert_eq!(lines, [&b"one"[..], b"two \r", b"\xFF", b"last"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_payload_is_repeated_at_its_pace() {
        let mut payloads = Payloads::repeated(b"x".to_vec(), 3, Duration::from_secs(2));
        let start = tokio::time::Instant::now();
        for _ in 0..3 {
            assert_eq!(payloads.next().await.unwrap().as_deref(), Some(&b"x"[..]));
        }
        assert_eq!(start.elapsed(), Duration::from_secs(4));
        assert_eq!(payloads.next().await.unwrap(), None);
    }
}
