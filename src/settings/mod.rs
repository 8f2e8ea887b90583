//! What settings are made of: durations, sizes, secrets, and values that know where in a file they stand.
//!
//! A module's `Settings` derive `Deserialize` from these types. Rules about one value live in newtypes
//! (`TryFrom`); rules about several values are checked afterwards and reported as [`Mistake`]s.

mod located;
mod quantity;
mod secret;

pub use located::{Located, Mistake, NotYet, Place};
pub use quantity::{Duration, Rate, Size};
pub use secret::Secret;

/// Entries by name, in the order of the file.
pub type Named<T> = indexmap::IndexMap<Located<String>, Located<T>>;
