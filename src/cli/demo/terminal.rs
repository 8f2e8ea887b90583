//! The terminal while a picture stands on it: a screen of its own, no cursor, no echo; all as before when it is dropped.

use std::io::{self, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Another screen, without cursor, where long lines are cut.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
/// The screen that was there, with its cursor.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Where the terminal does not say how large it is.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// A terminal that shows a picture.
#[derive(Debug)]
pub struct Terminal {
    /// How the keyboard was set.
    before: Option<Termios>,
}

impl Terminal {
    /// Takes the terminal; `None` where standard output is none, or one that cannot show pictures.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn take() -> io::Result<Option<Self>> {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        if is_dumb || !io::stdout().is_terminal() {
            return Ok(None);
        }
        let mut out = io::stdout().lock();
        out.write_all(ENTER)?;
        out.flush()?;
        Ok(Some(Self { before: without_echo() }))
    }

    /// Columns and lines.
    pub fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (usize::from(size.ws_col), usize::from(size.ws_row)),
            _ => USUAL_SIZE,
        }
    }

    /// Puts `lines` in the place of what stands there.
    ///
    /// # Errors
    /// Where the terminal is gone.
    pub fn draw(&self, lines: &[String]) -> io::Result<()> {
        let mut picture = String::from("\x1b[H");
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                picture.push_str("\r\n");
            }
            picture.push_str(line);
            picture.push_str("\x1b[0m\x1b[K");
        }
        picture.push_str("\x1b[J");
        let mut out = io::stdout().lock();
        out.write_all(picture.as_bytes())?;
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let mut out = io::stdout().lock();
        let _ = out.write_all(LEAVE).and_then(|()| out.flush());
        if let Some(before) = &self.before {
            // What was typed meanwhile was meant for nobody.
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, before);
        }
    }
}

/// Keeps keys from being written into the picture, and from stopping the program while it stands there. Ctrl-C works.
fn without_echo() -> Option<Termios> {
    let before = tcgetattr(io::stdin()).ok()?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
    // 0 disables the key.
    quiet.special_codes[SpecialCodeIndex::VSUSP] = 0;
    tcsetattr(io::stdin(), OptionalActions::Now, &quiet).ok()?;
    Some(before)
}
