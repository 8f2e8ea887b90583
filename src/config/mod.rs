//! The configuration: files become a tree of nodes with places, the tree becomes settings, and every mistake is said.
//!
//! ```text
//! files -> load (nodes, merge, ${}, !file) -> deserializer -> schema::Settings -> validate -> Configuration
//!                                     every mistake on the way -> diagnostic
//! ```

mod access;
pub mod deserializer;
pub mod diagnostic;
mod error;
mod expand;
mod load;
mod mask;
mod nodes;
pub mod schema;
mod sources;
mod validate;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use expand::Environment;
pub use load::{DEFAULT_PATHS, LoadError, find};
pub use schema::Settings;
pub use sources::Sources;
pub use validate::Resolved;

use crate::settings::Mistake;
use crate::store::settings::Plan as StoragePlan;

/// A configuration without mistakes.
#[derive(Debug)]
pub struct Configuration {
    /// The file or folder it was read from.
    pub path: PathBuf,
    /// The sections as they were written.
    pub settings: Settings,
    /// What follows from them: names put in, addresses taken apart, routes checked.
    pub resolved: Resolved,
    /// The files, to say where something stands.
    pub sources: Sources,
}

/// A configuration that must not run.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be read at all.
    #[error("{0}")]
    Unreadable(#[from] LoadError),
    /// It has mistakes; [`Refused::render`] shows them.
    #[error("{} mistakes in the configuration", mistakes.len())]
    Mistakes {
        /// The files.
        sources: Sources,
        /// All that is wrong.
        mistakes: Vec<Mistake>,
    },
}

impl Refused {
    /// What people read; `colour` asks for terminal colours.
    pub fn render(&self, colour: bool) -> String {
        match self {
            Self::Unreadable(error) => format!("error: {error}\n"),
            Self::Mistakes { sources, mistakes } => diagnostic::render(sources, mistakes, colour),
        }
    }
}

/// What runs without any file: the broker on this machine, with everything in memory.
pub fn built_in(environment: &Environment<'_>) -> Configuration {
    let settings = Settings::default();
    let mut mistakes = Vec::new();
    let mut resolved = validate::resolve(&settings, &environment.host_name, Path::new(""), &mut mistakes);
    // Nobody has said that a folder of the system may be written to.
    resolved.storage = StoragePlan::default();
    debug_assert!(mistakes.is_empty(), "{mistakes:?}");
    Configuration { path: "built in".into(), settings, resolved, sources: Sources::default() }
}

/// Reads and checks the file at `path`, or the folder whose `*.yaml` files are merged by section.
///
/// # Errors
/// All mistakes at once, or why nothing can be read.
pub fn read(path: &Path, environment: &Environment<'_>) -> Result<Configuration, Refused> {
    let load::Loaded { sources, root, mut mistakes } = load::load(path, environment)?;
    let settings: Option<Settings> = root.and_then(|root| deserializer::read(&root, &mut mistakes));
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let resolved =
        settings.as_ref().map(|settings| validate::resolve(settings, &environment.host_name, folder, &mut mistakes));
    match (settings, resolved) {
        (Some(settings), Some(resolved)) if mistakes.is_empty() => {
            Ok(Configuration { path: path.into(), settings, resolved, sources })
        }
        _ => Err(Refused::Mistakes { sources, mistakes }),
    }
}
