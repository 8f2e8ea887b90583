//! Values that know where in a file they stand, and mistakes that say so.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::{Deref, RangeInclusive};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The name by which a deserializer that knows places recognises [`Located`]: it answers
/// `deserialize_newtype_struct` with this name by a sequence of file, start, end and value.
pub const LOCATED: &str = "$edgeway::Located";

/// Where something stands: a file of the configuration and a range of bytes in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Place {
    /// Index of the file among those that were loaded.
    pub file: u32,
    /// Byte offset of the first character.
    pub start: u32,
    /// Byte offset behind the last character.
    pub end: u32,
}

impl Place {
    /// Whether `other` lies in this range of the same file.
    pub fn contains(&self, other: Place) -> bool {
        self.file == other.file && self.start <= other.start && other.end <= self.end
    }
}

/// Something wrong in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What is wrong, as a lowercase fragment.
    pub message: String,
    /// What would be right, where that can be said.
    pub help: Option<String>,
    /// Another place that it has to do with, and what stands there: `first here`.
    pub related: Option<(Place, String)>,
}

impl Mistake {
    /// A mistake at `place`.
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into(), help: None, related: None }
    }

    /// Names a second place and says what stands there.
    pub fn related(mut self, place: Place, label: impl Into<String>) -> Self {
        self.related = Some((place, label.into()));
        self
    }

    /// Says what would be right.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A value and where it stands. It compares and hashes as the value alone.
///
/// A deserializer that knows no places (JSON, in tests) gives the default place.
#[derive(Clone, Copy, Default)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

impl<T> Located<T> {
    /// A value that stands nowhere, such as a default.
    pub fn nowhere(value: T) -> Self {
        Self { value, place: Place::default() }
    }

    /// The mistake of a value of `key` out of `range`; `None` where it lies within.
    pub fn outside(&self, key: &str, range: RangeInclusive<T>) -> Option<Mistake>
    where
        T: PartialOrd + fmt::Display,
    {
        (!range.contains(&self.value)).then(|| self.mistake(format!("`{key}` is {} to {}", range.start(), range.end())))
    }

    /// A mistake at this place.
    pub fn mistake(&self, message: impl Into<String>) -> Mistake {
        Mistake::new(self.place, message)
    }
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Located<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Located<T> {}

impl<T: Hash> Hash for Located<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}

impl Borrow<str> for Located<String> {
    fn borrow(&self) -> &str {
        &self.value
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LocatedVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for LocatedVisitor<T> {
            type Value = Located<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                T::deserialize(deserializer).map(Located::nowhere)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut offset = || -> Result<u32, A::Error> {
                    seq.next_element()?.ok_or_else(|| A::Error::custom("a place is file, start, end and value"))
                };
                let place = Place { file: offset()?, start: offset()?, end: offset()? };
                let value =
                    seq.next_element()?.ok_or_else(|| A::Error::custom("a place is file, start, end and value"))?;
                Ok(Located { value, place })
            }
        }

        deserializer.deserialize_newtype_struct(LOCATED, LocatedVisitor(PhantomData))
    }
}

/// What is said of a key or a form of value that this version does not have.
pub const NOT_AVAILABLE_YET: &str = "not available yet";

/// A key that the configuration reference names and this version does not have: any value is refused in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotYet;

impl<'de> Deserialize<'de> for NotYet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Refuse;

        impl<'de> Visitor<'de> for Refuse {
            type Value = NotYet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nothing: this is not available yet")
            }

            fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<NotYet, A::Error> {
                Err(A::Error::custom(NOT_AVAILABLE_YET))
            }
        }

        deserializer.deserialize_any(Refuse).map_err(|_| D::Error::custom(NOT_AVAILABLE_YET))
    }
}
