//! Hashes of passwords: argon2id, mosquitto's `$7$` and `$6$`, and passwords that are written as they are.

use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};

use crate::settings::Secret;

/// New hashes take 19 MiB and two passes in one lane: what OWASP names as the least for argon2id, and memory that a
/// Raspberry Pi has to spare twice.
const NEW_MEMORY_KIB: u32 = 19 * 1024;
const NEW_PASSES: u32 = 2;
const NEW_LANES: u32 = 1;
const NEW_SALT_BYTES: usize = 16;
const NEW_HASH_BYTES: usize = 32;

/// The most memory that a hash may ask for: two of them may run at a time.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 64;
/// Seconds on a small machine; `mosquitto_passwd` takes a hundred unless told otherwise.
const MAX_ITERATIONS: u32 = 1_000_000;
/// Salts and hashes that are longer are none.
const MAX_FIELD_BYTES: usize = 1024;
/// The shortest salt that argon2 takes.
const MIN_ARGON2_SALT_BYTES: usize = 8;

/// Takes Base64 with padding (mosquitto's) and without (that of argon2).
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a user's password is compared with.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordHash {
    /// `$argon2id$v=19$m=…,t=…,p=…$salt$hash`, of `edgeway passwd` and of mosquitto 2.1.
    Argon2id {
        /// Memory in KiB.
        memory: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
        /// The salt.
        salt: Box<[u8]>,
        /// The hash.
        hash: Box<[u8]>,
    },
    /// `$7$iterations$salt$hash`: PBKDF2 with HMAC-SHA-512, of `mosquitto_passwd`.
    Pbkdf2 {
        /// Rounds.
        iterations: NonZeroU32,
        /// The salt, of any length.
        salt: Box<[u8]>,
        /// The hash.
        hash: Box<[u8]>,
    },
    /// `$6$salt$hash`: SHA-512 of the password and the salt, of `mosquitto_passwd` before 2.0.
    Sha512 {
        /// The salt.
        salt: Box<[u8]>,
        /// The hash.
        hash: Box<[u8]>,
    },
    /// The password itself.
    Plain(Secret),
}

/// Why a text is no hash that we can check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// A hash of a kind that we do not know.
    #[error("a hash of a kind that is not known here: there are $argon2id$, $7$ and $6$")]
    Unknown,
    /// One of ours that is incomplete or mistyped.
    #[error("a {0} hash that is not whole")]
    Broken(&'static str),
    /// One that would take more than a gateway has.
    #[error("a hash that takes too much: at most 256 MB and 16 passes, or 1,000,000 iterations")]
    TooCostly,
}

/// A random number could not be had.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

impl PasswordHash {
    /// Reads what stands as `password:` or behind a name in a password file: a hash, or else the password itself.
    ///
    /// # Errors
    /// Where it looks like a hash and is none that can be checked.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let Some((kind, rest)) = text.strip_prefix('$').and_then(|rest| rest.split_once('$')) else {
            return Ok(Self::Plain(Secret::new(text)));
        };
        match kind {
            "argon2id" => argon2id(rest),
            "7" => pbkdf2(rest),
            "6" => sha512(rest),
            // Of crypt(3) and of other kinds of argon2.
            "1" | "2" | "2a" | "2b" | "2x" | "2y" | "5" | "y" | "gy" | "scrypt" | "argon2i" | "argon2d" => {
                Err(HashError::Unknown)
            }
            kind if kind.starts_with("pbkdf2") || kind.starts_with("sha") => Err(HashError::Unknown),
            _ => Ok(Self::Plain(Secret::new(text))),
        }
    }

    /// Whether a check is worth a thread of its own; one that is not takes microseconds.
    pub fn is_slow(&self) -> bool {
        matches!(self, Self::Argon2id { .. } | Self::Pbkdf2 { .. })
    }

    /// Whether `password` is the right one. The time it takes says nothing about how near it came.
    pub fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Argon2id { memory, passes, lanes, salt, hash } => {
                let Ok(parameters) = Params::new(*memory, *passes, *lanes, Some(hash.len())) else {
                    return false;
                };
                let mut computed = vec![0; hash.len()];
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
                argon2.hash_password_into(password, salt, &mut computed).is_ok() && same(hash, &computed)
            }
            Self::Pbkdf2 { iterations, salt, hash } => {
                pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA512, *iterations, salt, password, hash).is_ok()
            }
            Self::Sha512 { salt, hash } => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(salt);
                same(hash, context.finish().as_ref())
            }
            Self::Plain(secret) => same(secret.reveal().as_bytes(), password),
        }
    }
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Argon2id { .. } => "$argon2id$***",
            Self::Pbkdf2 { .. } => "$7$***",
            Self::Sha512 { .. } => "$6$***",
            Self::Plain(_) => "***",
        })
    }
}

/// A new argon2id hash of `password` with a random salt, as it stands in the configuration.
///
/// # Errors
/// Where the system gives no random numbers.
pub fn hash_password(password: &[u8]) -> Result<String, NoRandomness> {
    let mut salt = [0; NEW_SALT_BYTES];
    SystemRandom::new().fill(&mut salt).map_err(|_| NoRandomness)?;
    Ok(argon2id_text(password, &salt, NEW_MEMORY_KIB, NEW_PASSES, NEW_LANES))
}

fn argon2id_text(password: &[u8], salt: &[u8], memory: u32, passes: u32, lanes: u32) -> String {
    let parameters = Params::new(memory, passes, lanes, Some(NEW_HASH_BYTES)).expect("the parameters are within range");
    let mut hash = [0; NEW_HASH_BYTES];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into(password, salt, &mut hash)
        .expect("password and salt have lengths that argon2 takes");
    format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${}${}", BASE64.encode(salt), BASE64.encode(hash))
}

fn argon2id(rest: &str) -> Result<PasswordHash, HashError> {
    let broken = HashError::Broken("$argon2id$");
    let fields: Vec<&str> = rest.split('$').collect();
    let ["v=19", parameters, salt, hash] = fields[..] else { return Err(broken) };
    let (mut memory, mut passes, mut lanes) = (None, None, None);
    for parameter in parameters.split(',') {
        let (name, value) = parameter.split_once('=').ok_or(broken)?;
        let place = match name {
            "m" => &mut memory,
            "t" => &mut passes,
            "p" => &mut lanes,
            _ => return Err(broken),
        };
        *place = Some(value.parse::<u32>().map_err(|_| broken)?);
    }
    let (Some(memory), Some(passes), Some(lanes)) = (memory, passes, lanes) else { return Err(broken) };
    if memory > MAX_MEMORY_KIB || passes > MAX_PASSES || lanes > MAX_LANES {
        return Err(HashError::TooCostly);
    }
    let (salt, hash) = (field(salt).ok_or(broken)?, field(hash).ok_or(broken)?);
    if Params::new(memory, passes, lanes, Some(hash.len())).is_err() || salt.len() < MIN_ARGON2_SALT_BYTES {
        return Err(broken);
    }
    Ok(PasswordHash::Argon2id { memory, passes, lanes, salt, hash })
}

fn pbkdf2(rest: &str) -> Result<PasswordHash, HashError> {
    let broken = HashError::Broken("$7$");
    let fields: Vec<&str> = rest.split('$').collect();
    let [iterations, salt, hash] = fields[..] else { return Err(broken) };
    let iterations = iterations.parse::<NonZeroU32>().map_err(|_| broken)?;
    if iterations.get() > MAX_ITERATIONS {
        return Err(HashError::TooCostly);
    }
    Ok(PasswordHash::Pbkdf2 { iterations, salt: field(salt).ok_or(broken)?, hash: whole_hash(hash).ok_or(broken)? })
}

fn sha512(rest: &str) -> Result<PasswordHash, HashError> {
    let broken = HashError::Broken("$6$");
    let (salt, hash) = rest.split_once('$').ok_or(broken)?;
    Ok(PasswordHash::Sha512 { salt: field(salt).ok_or(broken)?, hash: whole_hash(hash).ok_or(broken)? })
}

/// What Base64 stands for; never nothing.
fn field(text: &str) -> Option<Box<[u8]>> {
    let bytes = BASE64.decode(text).ok()?;
    (1..=MAX_FIELD_BYTES).contains(&bytes.len()).then(|| bytes.into())
}

/// A whole SHA-512: a short one would be easily hit.
fn whole_hash(text: &str) -> Option<Box<[u8]>> {
    field(text).filter(|hash| hash.len() == digest::SHA512_OUTPUT_LEN)
}

/// Compares in a time that depends on neither.
fn same(expected: &[u8], given: &[u8]) -> bool {
    // Under a key that nobody knows equal tags mean equal texts, and unequal ones say nothing about where they differ.
    let Ok(key) = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()) else {
        return false;
    };
    hmac::verify(&key, given, hmac::sign(&key, expected).as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_hash_is_argon2id_and_takes_its_password_alone() {
        let text = hash_password(b"open sesame").unwrap();
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
        assert_ne!(text, hash_password(b"open sesame").unwrap(), "each has a salt of its own");
        let hash = PasswordHash::parse(&text).unwrap();
        assert!(hash.verify(b"open sesame"));
        assert!(!hash.verify(b"open sesame "));
        assert!(!hash.verify(b""));
    }

    #[test]
    fn hashes_of_other_programs_are_taken() {
        for (text, password) in [
            // Known answers of the reference implementation.
            ("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password"),
            ("$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "password"),
        ] {
            let hash = PasswordHash::parse(text).unwrap();
            assert!(hash.verify(password.as_bytes()), "{text}");
            assert!(!hash.verify(b"Password"), "{text}");
        }
    }

    #[test]
    fn the_hashes_of_mosquitto_are_taken() {
        let salt = [7; 12];
        let mut derived = [0; 64];
        let iterations = NonZeroU32::new(101).unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, &salt, b"secret", &mut derived);
        let padded = base64::engine::general_purpose::STANDARD;
        let seventh = format!("$7$101${}${}", padded.encode(salt), padded.encode(derived));
        let sixth = digest::digest(&digest::SHA512, b"secretNaCl");
        let sixth = format!("$6${}${}", padded.encode("NaCl"), padded.encode(sixth));
        for text in [seventh, sixth] {
            let hash = PasswordHash::parse(&text).unwrap();
            assert!(!matches!(hash, PasswordHash::Plain(_)));
            assert!(hash.verify(b"secret"), "{text}");
            assert!(!hash.verify(b"secre"), "{text}");
        }
    }

    #[test]
    fn what_is_no_hash_is_the_password_itself() {
        for text in ["hunter2", "$ecret", "$", "pa$$word", "", "$100$ a day"] {
            let hash = PasswordHash::parse(text).unwrap();
            assert_eq!(hash, PasswordHash::Plain(Secret::new(text)), "{text}");
            assert!(hash.verify(text.as_bytes()) && !hash.is_slow());
            assert!(!hash.verify(b"other"));
        }
    }

    #[test]
    fn a_broken_or_costly_hash_is_refused_and_not_taken_for_a_password() {
        let hash = "A".repeat(86);
        for (text, error) in [
            ("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ".to_owned(), HashError::Broken("$argon2id$")),
            ("$argon2id$v=16$m=19456,t=2,p=1$c29tZXNhbHQ$AAAAAA".into(), HashError::Broken("$argon2id$")),
            ("$argon2id$v=19$m=19456,t=2$c29tZXNhbHQ$AAAAAA".into(), HashError::Broken("$argon2id$")),
            ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$AAAAAA".into(), HashError::Broken("$argon2id$")),
            ("$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$AAAAAA".into(), HashError::TooCostly),
            ("$argon2i$v=19$m=4096,t=2,p=1$c29tZXNhbHQ$AAAAAA".into(), HashError::Unknown),
            ("$2b$12$abcdefghijklmnopqrstuv".into(), HashError::Unknown),
            (format!("$7$0$c2FsdA==${hash}=="), HashError::Broken("$7$")),
            (format!("$7$2000000000$c2FsdA==${hash}=="), HashError::TooCostly),
            ("$7$101$c2FsdA==$AAAA".into(), HashError::Broken("$7$")),
            ("$7$101$c2FsdA==$not base64!".into(), HashError::Broken("$7$")),
            ("$6$c2FsdA==".into(), HashError::Broken("$6$")),
        ] {
            assert_eq!(PasswordHash::parse(&text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn a_hash_is_never_shown() {
        let text = argon2id_text(b"x", &[1; 16], 64, 1, 1);
        assert_eq!(format!("{:?}", PasswordHash::parse(&text).unwrap()), "$argon2id$***");
        assert_eq!(format!("{:?}", PasswordHash::parse("hunter2").unwrap()), "***");
    }
}
