//! `edgeway passwd`: makes the hash of a password for `users`.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::broker::access::hash::hash_password;

/// The longest password that CONNECT can carry (MQTT 5.0, section 1.5.6).
const MAX_PASSWORD_BYTES: usize = 65_535;

/// Keys of a terminal that is read byte by byte.
const CONTROL_C: u8 = 0x03;
const CONTROL_D: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const CONTROL_U: u8 = 0x15;
const DELETE: u8 = 0x7F;

/// Make the hash of a password (argon2id) for `users` in the configuration.
///
/// The password is asked for twice without being shown, or read from standard input where that is no terminal.
#[derive(Debug, clap::Args)]
pub struct Passwd {
    /// The password. Others on this machine can see it in the list of processes: better be asked, or use standard
    /// input.
    #[arg(short = 'b', long, value_name = "PASSWORD", allow_hyphen_values = true)]
    batch: Option<String>,
    /// Print the hash alone, without `password: "..."` around it.
    #[arg(long)]
    bare: bool,
}

impl Passwd {
    /// Prints the line to paste; 1 where there is no password to hash.
    pub fn run(self) -> ExitCode {
        match self.line() {
            Ok(line) => {
                println!("{line}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("edgeway passwd: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn line(&self) -> anyhow::Result<String> {
        let password = match &self.batch {
            Some(password) => password.as_bytes().to_vec(),
            None if io::stdin().is_terminal() => ask_twice()?,
            None => from_input(io::stdin().lock())?,
        };
        ensure!(!password.is_empty(), "an empty password lets everybody in");
        ensure!(password.len() <= MAX_PASSWORD_BYTES, "a password has at most {MAX_PASSWORD_BYTES} bytes");
        let hash = hash_password(&password)?;
        Ok(if self.bare { hash } else { format!("password: \"{hash}\"") })
    }
}

/// All of `input` without the line break at its end.
fn from_input(input: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut password = Vec::new();
    input.take(MAX_PASSWORD_BYTES as u64 + 3).read_to_end(&mut password).context("cannot read standard input")?;
    if password.last() == Some(&b'\n') {
        password.pop();
        if password.last() == Some(&b'\r') {
            password.pop();
        }
    }
    if password.contains(&b'\n') {
        bail!("standard input has more than one line: a password is one");
    }
    Ok(password)
}

fn ask_twice() -> anyhow::Result<Vec<u8>> {
    let quiet = Quiet::new().context("cannot set the terminal up")?;
    let first = quiet.ask("Password: ")?;
    // Nothing to repeat: it is refused as it is.
    if first.is_empty() {
        return Ok(first);
    }
    let second = quiet.ask("The same again: ")?;
    ensure!(first == second, "the two are not the same");
    Ok(first)
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Quiet {
    before: Termios,
}

impl Quiet {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        // Signals too: Ctrl-C would leave the terminal as it is now.
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self { before })
    }

    fn ask(&self, question: &str) -> anyhow::Result<Vec<u8>> {
        eprint!("{question}");
        io::stderr().flush()?;
        let typed = read_typed(io::stdin().lock());
        eprintln!();
        typed
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Where it fails there is no terminal any more.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// A line from a terminal that gives each key as it is pressed.
fn read_typed(input: impl BufRead) -> anyhow::Result<Vec<u8>> {
    let mut typed = Vec::new();
    for byte in input.bytes() {
        match byte.context("cannot read from the terminal")? {
            b'\r' | b'\n' => return Ok(typed),
            CONTROL_C => bail!("called off"),
            CONTROL_D if typed.is_empty() => bail!("called off"),
            CONTROL_D => return Ok(typed),
            CONTROL_U => typed.clear(),
            BACKSPACE | DELETE => {
                // A whole character of UTF-8.
                while typed.pop().is_some_and(|byte| byte & 0xC0 == 0x80) {}
            }
            byte => typed.push(byte),
        }
        if typed.len() > MAX_PASSWORD_BYTES {
            break;
        }
    }
    Ok(typed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::access::hash::PasswordHash;

    #[test]
    fn the_line_goes_into_the_configuration_as_it_is() {
        let line = Passwd { batch: Some("pa\"ss".into()), bare: false }.line().unwrap();
        let hash = line.strip_prefix("password: \"").and_then(|rest| rest.strip_suffix('"')).unwrap();
        assert!(PasswordHash::parse(hash).unwrap().verify(b"pa\"ss"));
        assert!(!hash.contains(['"', '\\', '{']));
        assert!(Passwd { batch: Some("x".into()), bare: true }.line().unwrap().starts_with("$argon2id$"));
        assert!(Passwd { batch: Some(String::new()), bare: true }.line().is_err());
    }

    #[test]
    fn standard_input_is_one_line() {
        for (input, password) in [("secret", "secret"), ("secret\n", "secret"), ("se cret \r\n", "se cret "), ("", "")]
        {
            assert_eq!(from_input(input.as_bytes()).unwrap(), password.as_bytes());
        }
        assert!(from_input(&b"one\ntwo\n"[..]).is_err());
    }

    #[test]
    fn keys_are_taken_back_and_it_can_be_called_off() {
        for (typed, password) in [
            ("abc\r", "abc"),
            ("abx\x7Fc\n", "abc"),
            ("grü\x08u\n", "gru"),
            ("wrong\x15right\n", "right"),
            ("\x7Fa\n", "a"),
        ] {
            assert_eq!(read_typed(typed.as_bytes()).unwrap(), password.as_bytes(), "{typed:?}");
        }
        for typed in ["abc\x03", "\x04"] {
            assert!(read_typed(typed.as_bytes()).is_err());
        }
    }
}
