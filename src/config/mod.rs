//! The configuration: files become a tree of nodes with places, the tree becomes settings, and every mistake is said.
//!
//! ```text
//! files -> load (nodes, merge, ${}, !file) -> deserializer -> schema::Settings -> checks -> diagnostics
//! ```

pub mod deserializer;
mod error;
pub mod nodes;
