//! Who may connect: `anonymous`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::settings::NOT_AVAILABLE_YET;

/// Who may connect without user and password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Anonymous {
    /// `loopback`: clients on this machine.
    #[default]
    Loopback,
    /// `true`: everybody who reaches a listener.
    Everybody,
    /// `false`: nobody.
    Nobody,
}

impl<'de> Deserialize<'de> for Anonymous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;

        impl<'de> Visitor<'de> for Word {
            type Value = Anonymous;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false` or `loopback`")
            }

            fn visit_bool<E: Error>(self, everybody: bool) -> Result<Anonymous, E> {
                Ok(if everybody { Anonymous::Everybody } else { Anonymous::Nobody })
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Anonymous, E> {
                match word {
                    "loopback" => Ok(Anonymous::Loopback),
                    _ => Err(E::unknown_variant(word, &["loopback", "true", "false"])),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Anonymous, A::Error> {
                Err(A::Error::custom(format!("{NOT_AVAILABLE_YET} as a map; there are loopback, true and false")))
            }
        }

        deserializer.deserialize_any(Word)
    }
}
