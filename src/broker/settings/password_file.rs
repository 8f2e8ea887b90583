//! Password files of mosquitto, read as they are: a line for each user, `name:hash`.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::users::Filter;
use crate::broker::access::hash::PasswordHash;
use crate::settings::{Located, Mistake, OneOrMany, Place};

/// Larger files are none of passwords.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// So many wrong lines are enough to begin with.
const MAX_MISTAKES: usize = 20;
/// Names that a mistake counts up.
const MAX_NAMES: usize = 5;

/// `password_file: /etc/mosquitto/passwd`, or a map with `path`, `read` and `write`.
#[derive(Debug, Clone, PartialEq)]
pub struct PasswordFile {
    /// Its path, relative to the folder of the configuration.
    pub path: Located<String>,
    /// Filters of what those may read who have no entry in `users`.
    pub read: OneOrMany<Located<Filter>>,
    /// Filters of what those may write who have no entry in `users`.
    pub write: OneOrMany<Located<Filter>>,
}

/// A line that is wrong.
#[derive(Debug, PartialEq, Eq)]
struct WrongLine {
    line: usize,
    what: String,
}

impl Located<PasswordFile> {
    /// Where its path stands.
    pub(super) fn place(&self) -> Place {
        // As a word it stands where the whole does.
        if self.path.place == Place::default() { self.place } else { self.path.place }
    }

    /// The users in it with their hashes.
    pub(super) fn load(&self, folder: &Path, mistakes: &mut Vec<Mistake>) -> Vec<(String, PasswordHash)> {
        let shown = &self.path.value;
        let text = match read(&folder.join(shown)) {
            Ok(text) => text,
            Err(problem) => {
                mistakes.push(Mistake::new(self.place(), format!("cannot read `{shown}`: {problem}")));
                return Vec::new();
            }
        };
        let (users, wrong) = parse(&text);
        for WrongLine { line, what } in wrong.iter().take(MAX_MISTAKES) {
            mistakes.push(Mistake::new(self.place(), format!("{shown}:{line}: {what}")));
        }
        if wrong.len() > MAX_MISTAKES {
            let more = wrong.len() - MAX_MISTAKES;
            mistakes.push(Mistake::new(self.place(), format!("{shown}: {more} more lines are wrong")));
        }
        users
    }

    /// Whether the file can be read at all.
    pub(super) fn is_read(&self, folder: &Path) -> bool {
        read(&folder.join(&self.path.value)).is_ok_and(|text| parse(&text).1.is_empty())
    }
}

/// What is said of users that have a password and no rights.
pub(super) fn without_rights(names: &[String]) -> String {
    let listed = names.iter().take(MAX_NAMES).map(|name| format!("`{}`", name.escape_debug())).collect::<Vec<_>>();
    let more = names.len().saturating_sub(MAX_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("of the users in it {}{more} may read and write nothing", listed.join(", "))
}

fn read(path: &PathBuf) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err("it is larger than 4 MB".into());
    }
    String::from_utf8(bytes).map_err(|_| "it is no text (UTF-8)".into())
}

/// The users of a file, and the lines that are wrong. Never with a hash in words.
fn parse(text: &str) -> (Vec<(String, PasswordHash)>, Vec<WrongLine>) {
    let mut users = Vec::new();
    let mut first_lines: HashMap<&str, usize> = HashMap::new();
    let mut wrong = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match user_of(line) {
            Err(what) => wrong.push(WrongLine { line: number, what }),
            Ok((name, hash)) => match first_lines.insert(name, number) {
                None => users.push((name.to_owned(), hash)),
                Some(first) => {
                    let what = format!("`{}` stands here a second time, first in line {first}", name.escape_debug());
                    wrong.push(WrongLine { line: number, what });
                }
            },
        }
    }
    (users, wrong)
}

fn user_of(line: &str) -> Result<(&str, PasswordHash), String> {
    let (name, hash) = line.split_once(':').filter(|(name, _)| !name.is_empty()).ok_or("a line is `name:hash`")?;
    match PasswordHash::parse(hash).map_err(|error| error.to_string())? {
        PasswordHash::Plain(_) => Err("a password that is not hashed: `mosquitto_passwd -U FILE` hashes it".into()),
        hash => Ok((name, hash)),
    }
}

impl<'de> Deserialize<'de> for PasswordFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Map {
            path: Located<String>,
            #[serde(default)]
            read: OneOrMany<Located<Filter>>,
            #[serde(default)]
            write: OneOrMany<Located<Filter>>,
        }

        struct PathOrMap;

        impl<'de> Visitor<'de> for PathOrMap {
            type Value = PasswordFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, or a map with `path`, `read` and `write`")
            }

            fn visit_str<E: Error>(self, path: &str) -> Result<PasswordFile, E> {
                let path = Located::nowhere(path.into());
                Ok(PasswordFile { path, read: OneOrMany::default(), write: OneOrMany::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PasswordFile, A::Error> {
                let Map { path, read, write } = Map::deserialize(MapAccessDeserializer::new(map))?;
                Ok(PasswordFile { path, read, write })
            }
        }

        deserializer.deserialize_any(PathOrMap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    #[test]
    fn users_are_read_and_each_wrong_line_is_named() {
        let text = format!(
            "# of mosquitto\n\nann:{HASH}\r\nb c:{HASH}\nann:{HASH}\nno colon\n:{HASH}\nplain:hunter2\nbad:$7$1$x\n"
        );
        let (users, wrong) = parse(&text);
        assert_eq!(users.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["ann", "b c"]);
        assert!(users.iter().all(|(_, hash)| hash.verify(b"password")));
        let wrong: Vec<_> = wrong.iter().map(|wrong| format!("{}: {}", wrong.line, wrong.what)).collect();
        insta::assert_snapshot!(wrong.join("\n"), @r##"
        5: `ann` stands here a second time, first in line 3
        6: a line is `name:hash`
        7: a line is `name:hash`
        8: a password that is not hashed: `mosquitto_passwd -U FILE` hashes it
        9: a $7$ hash that is not whole
        "##);
    }
}
