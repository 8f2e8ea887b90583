//! What settings are made of: durations, sizes, secrets, and values that know where in a file they stand.
//!
//! A module's `Settings` derive `Deserialize` from these types. Rules about one value live in newtypes
//! (`TryFrom`); rules about several values are checked afterwards and reported as [`Mistake`]s.

mod endpoint;
mod located;
pub mod names;
mod one_or_many;
mod qos;
mod quantity;
mod secret;
mod template;
mod words;

pub use endpoint::{Endpoint, EndpointError, decode_percent, is_loopback, split_host};
pub use located::{LOCATED, Located, Mistake, NOT_AVAILABLE_YET, NotYet, Place};
pub use one_or_many::{ONE_OR_MANY, OneOrMany};
pub use qos::Qos;
pub use quantity::{Bandwidth, Duration, Rate, Size};
pub use secret::Secret;
pub use template::{Template, TemplateError};
pub use words::{nearest, one_of};

/// Entries by name, in the order of the file.
pub type Named<T> = indexmap::IndexMap<Located<String>, Located<T>>;
