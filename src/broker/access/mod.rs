//! Who may connect to a listener, and what each may read and write.

pub mod hash;
pub mod passwords;
