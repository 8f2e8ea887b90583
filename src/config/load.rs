//! Finds and reads the files of a configuration and merges them by section.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::expand::{Environment, Expander};
use super::nodes::{Content, Node, parse};
use super::sources::{Source, Sources};
use crate::settings::{Mistake, Place};

/// The largest file, in bytes.
const MAX_FILE: usize = 4 * 1024 * 1024;

/// The most files in one folder.
const MAX_FILES: usize = 1_000;

/// Where a configuration is looked for when nobody names one, in this order.
pub const DEFAULT_PATHS: [&str; 2] = ["/etc/edgeway/edgeway.yaml", "config/edgeway.yaml"];

/// Files that were read, as one tree.
pub struct Loaded {
    /// The files.
    pub sources: Sources,
    /// The sections of all files; `None` where there is no tree at all.
    pub root: Option<Node>,
    /// What is wrong so far.
    pub mistakes: Vec<Mistake>,
}

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Nothing at any of the [`DEFAULT_PATHS`].
    #[error("there is no configuration at {}; name one by -c FILE", DEFAULT_PATHS.join(" or "))]
    Nowhere,
    /// A file or folder that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Not UTF-8.
    #[error("{}:{line}: this is no text (UTF-8)", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The line with the first wrong byte.
        line: usize,
    },
    /// Above 4 MB.
    #[error("{} is larger than {} MB", path.display(), MAX_FILE / 1024 / 1024)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A folder without any `*.yaml`, or with more than 1,000.
    #[error("{} has {count} *.yaml files; it wants 1 to {MAX_FILES}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// How many there are.
        count: usize,
    },
}

/// The path to read: `given`, or the first of [`DEFAULT_PATHS`] that exists.
///
/// # Errors
/// Where nothing is given and none of them exists.
pub fn find(given: Option<&Path>) -> Result<PathBuf, LoadError> {
    match given {
        Some(path) => Ok(path.into()),
        None => DEFAULT_PATHS.iter().map(PathBuf::from).find(|path| path.exists()).ok_or(LoadError::Nowhere),
    }
}

/// Reads the file at `path`, or all `*.yaml` of the folder at `path` in the order of their names.
///
/// # Errors
/// Where a file cannot be read at all. What is wrong inside is in [`Loaded::mistakes`].
pub fn load(path: &Path, environment: &Environment<'_>) -> Result<Loaded, LoadError> {
    let paths = if path.is_dir() { files_in(path)? } else { vec![path.to_path_buf()] };
    let mut sources = Sources::default();
    let mut mistakes = Vec::new();
    let mut roots = Vec::new();
    let mut next_id = 0;
    for path in paths {
        let text = read(&path)?;
        let parsed = parse(&text, sources.files.len() as u32, &mut next_id, &mut mistakes);
        if let Some(mut root) = parsed.root {
            let folder = path.parent().unwrap_or(Path::new(""));
            let hidden = &mut sources.hidden;
            let mut expander = Expander { environment, text: &text, folder, hidden, mistakes: &mut mistakes, total: 0 };
            expander.expand(&mut root);
            roots.push(root);
        }
        sources.files.push(Source { path, text, secrets: parsed.secrets });
    }
    let root = merge(roots, next_id, &mut mistakes);
    Ok(Loaded { sources, root, mistakes })
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let unreadable = |source| LoadError::Read { path: folder.into(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "yaml") && !hidden && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    if (1..=MAX_FILES).contains(&paths.len()) {
        Ok(paths)
    } else {
        Err(LoadError::Folder { path: folder.into(), count: paths.len() })
    }
}

fn read(path: &Path) -> Result<String, LoadError> {
    let unreadable = |source| LoadError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_FILE {
        return Err(LoadError::TooLarge { path: path.into() });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        LoadError::Encoding { path: path.into(), line }
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(text) => text.into(),
        None => text,
    })
}

/// One tree of the sections of all files. The same name twice is a mistake that names both places.
fn merge(roots: Vec<Node>, id: u32, mistakes: &mut Vec<Mistake>) -> Option<Node> {
    if roots.len() == 1 {
        return roots.into_iter().next();
    }
    let mut sections: Vec<(Node, Node)> = Vec::new();
    let mut any = false;
    for root in roots {
        let place = root.place;
        if root.is_null() {
            continue;
        }
        let Content::Mapping(entries) = root.content else {
            mistakes.push(Mistake::new(place, "a configuration is a map of sections"));
            continue;
        };
        any = true;
        for (key, value) in entries {
            match sections.iter().position(|(name, _)| name.text() == key.text()) {
                None => sections.push((key, value)),
                Some(at) => merge_section(&mut sections[at], &key, value, mistakes),
            }
        }
    }
    any.then(|| Node { id, place: Place::default(), content: Content::Mapping(sections) })
}

fn merge_section(into: &mut (Node, Node), key: &Node, value: Node, mistakes: &mut Vec<Mistake>) {
    let section = key.text().unwrap_or_default();
    if value.is_null() {
        return;
    }
    if into.1.is_null() {
        into.1 = value;
        return;
    }
    let (Content::Mapping(first), Content::Mapping(second)) = (&mut into.1.content, value.content) else {
        let mistake = Mistake::new(key.place, format!("`{section}` stands here a second time"));
        mistakes.push(mistake.related(into.0.place, "first here"));
        return;
    };
    for (name, value) in second {
        match first.iter().find(|(known, _)| known.text() == name.text()) {
            None => first.push((name, value)),
            Some((known, _)) => {
                let text = name.text().unwrap_or_default();
                let mistake = Mistake::new(name.place, format!("`{text}` stands in `{section}` a second time"));
                mistakes.push(mistake.related(known.place, "first here"));
            }
        }
    }
}
