//! Who may connect and do what: `anonymous`, `users` and `password_file`.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::password_file::{self, PasswordFile};
use crate::broker::access::hash::PasswordHash;
use crate::broker::access::{self, AddressRange, FilterTemplates, Rules, Wildcards};
use crate::mqtt::TopicFilter;
use crate::settings::{Located, Mistake, Named, OneOrMany, Template};

/// What may stand between braces in a filter of somebody's rights.
const NAMES: [&str; 3] = ["gateway", "user", "client"];

/// Who may connect without a user name.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Anonymous {
    /// `loopback`: clients on this machine.
    #[default]
    Loopback,
    /// `true`: everybody who reaches a listener.
    Everybody,
    /// `false`: nobody.
    Nobody,
    /// `{ from: 192.168.1.0/24, read: ["#"], write: ["sensors/#"] }`
    From(Box<AnonymousFrom>),
}

/// Clients without a user name from certain addresses.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnonymousFrom {
    /// Ranges of addresses, one or a list, `loopback` among them. Default: all.
    pub from: OneOrMany<Located<Range>>,
    /// Filters of what they may read. Default: nothing.
    pub read: OneOrMany<Located<Filter>>,
    /// Filters of what they may write. A command (`…/set`) is written only by a filter that ends in `/set` itself.
    /// Default: nothing.
    pub write: OneOrMany<Located<Filter>>,
}

/// `192.168.1.0/24`, `fd00::/8`, `192.168.1.7` or `loopback`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range(pub AddressRange);

/// A user.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct User {
    /// What `edgeway passwd` prints, a hash of `mosquitto_passwd`, or the password itself: `"${DISPLAY_PASSWORD}"`.
    /// Without one the user is in the password file, or has a certificate.
    pub password: Option<Located<Password>>,
    /// Filters of what the user may read. Default: nothing.
    pub read: OneOrMany<Located<Filter>>,
    /// Filters of what the user may write. Default: nothing.
    pub write: OneOrMany<Located<Filter>>,
}

/// A password, hashed or as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Password(pub PasswordHash);

/// A topic filter with `{gateway}`, `{user}` and `{client}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(pub Template);

/// What is said of those who connect to one listener, or to all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clients<'a> {
    pub(super) anonymous: Option<&'a Located<Anonymous>>,
    pub(super) users: Option<&'a Named<User>>,
    pub(super) password_file: Option<&'a Located<PasswordFile>>,
}

/// What the settings of clients are read with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    /// The name of the gateway.
    pub(super) gateway: &'a str,
    /// Relative paths are those of this folder.
    pub(super) folder: &'a Path,
    /// Whether certificates may name users.
    pub(super) certificates: bool,
    /// Whether all that was written could be read. If not, nothing is said to be missing.
    pub(super) is_whole: bool,
}

impl Clients<'_> {
    /// The rules that they make.
    pub(super) fn rules(&self, context: &Context<'_>, mistakes: &mut Vec<Mistake>) -> Rules {
        let anonymous = self.anonymous_rules(context, mistakes);
        Rules { users: Arc::new(self.users(context, mistakes)), anonymous }
    }

    /// What `anonymous` says alone.
    pub(super) fn anonymous_rules(&self, context: &Context<'_>, mistakes: &mut Vec<Mistake>) -> access::Anonymous {
        match self.anonymous.map(|anonymous| (anonymous, &anonymous.value)) {
            None | Some((_, Anonymous::Loopback)) => access::Anonymous::Loopback,
            Some((_, Anonymous::Everybody)) => access::Anonymous::Everybody,
            Some((_, Anonymous::Nobody)) => access::Anonymous::Nobody,
            Some((at, Anonymous::From(from))) => from.rules(at, context, mistakes),
        }
    }

    /// Whether clients from other machines may connect, because it was said which.
    pub(super) fn welcome_others(&self, rules: &Rules) -> bool {
        let said = self.anonymous.map(|anonymous| &anonymous.value);
        matches!(said, Some(Anonymous::Everybody | Anonymous::From(_))) || rules.has_passwords()
    }

    /// The mistake of rules by which nobody could connect, where no certificate names a user.
    pub(super) fn nobody_may(&self, rules: &Rules) -> Option<Mistake> {
        let nobody = self.anonymous.filter(|anonymous| anonymous.value == Anonymous::Nobody)?;
        (!rules.has_passwords()).then(|| {
            let mistake = nobody.mistake("nobody could connect: there are no users");
            mistake.help("for example users: { ann: { password: \"...\", read: [\"#\"] } }; `edgeway passwd` hashes it")
        })
    }

    fn users(&self, context: &Context<'_>, mistakes: &mut Vec<Mistake>) -> HashMap<Arc<str>, access::User> {
        let mut users = HashMap::new();
        for (name, user) in self.users.into_iter().flatten() {
            if let Some(problem) = name_problem(name) {
                mistakes
                    .push(name.mistake(format!("`{}` is no name of a user", name.value.escape_debug())).help(problem));
            }
            let filters = Rights { read: &user.read, write: &user.write }.filters(Whose::User(name), context, mistakes);
            let password = user.password.as_ref().map(|password| password.0.clone());
            if context.is_whole && user.read.is_empty() && user.write.is_empty() {
                let mistake = name.mistake(format!("`{}` may read and write nothing", name.value));
                mistakes.push(mistake.help("add for example read: [\"#\"], or write: [\"{gateway}/+/set\"]"));
            }
            users.insert(Arc::from(name.as_str()), access::User { password, filters });
        }
        if let Some(file) = self.password_file {
            self.add_file(file, &mut users, context, mistakes);
        }
        for (name, _) in self.users.into_iter().flatten().filter(|_| context.is_whole && !context.certificates) {
            let is_known = |user: &access::User| user.password.is_some();
            // With a file that could not be read nobody knows.
            if !users.get(name.as_str()).is_some_and(is_known)
                && self.password_file.is_none_or(|file| file.is_read(context.folder))
            {
                let mistake = name.mistake(format!("`{}` has no password", name.value));
                mistakes.push(mistake.help("`edgeway passwd` makes the line: password: \"$argon2id$...\""));
            }
        }
        users
    }

    /// Adds the users of the password file.
    fn add_file(
        &self,
        file: &Located<PasswordFile>,
        users: &mut HashMap<Arc<str>, access::User>,
        context: &Context<'_>,
        mistakes: &mut Vec<Mistake>,
    ) {
        let filters = Rights { read: &file.read, write: &file.write }.filters(Whose::Anybody, context, mistakes);
        let has_rights = !file.read.is_empty() || !file.write.is_empty();
        let mut without_rights: Vec<String> = Vec::new();
        for (name, hash) in file.load(context.folder, mistakes) {
            match users.get_mut(name.as_str()) {
                Some(user) if user.password.is_some() => {
                    let (at, _) = self.users.and_then(|users| users.get_key_value(name.as_str())).unzip();
                    let place = at.map_or(file.place, |at| at.place);
                    let mistake =
                        Mistake::new(place, format!("`{name}` has a password here and one in the password file"));
                    mistakes.push(mistake.related(file.place(), "this one").help("one of them is enough"));
                }
                Some(user) => user.password = Some(hash),
                None => {
                    if !has_rights {
                        without_rights.push(name.clone());
                    }
                    users.insert(name.into(), access::User { password: Some(hash), filters: filters.clone() });
                }
            }
        }
        if context.is_whole && !without_rights.is_empty() {
            let mistake = Mistake::new(file.place(), password_file::without_rights(&without_rights));
            mistakes.push(mistake.help(format!(
                "give them all the same, password_file: {{ path: {}, read: [\"#\"], write: [\"#\"] }}, or each an entry in `users`",
                file.path.value
            )));
        }
    }
}

impl AnonymousFrom {
    fn rules(&self, at: &Located<Anonymous>, context: &Context<'_>, mistakes: &mut Vec<Mistake>) -> access::Anonymous {
        if context.is_whole && self.read.is_empty() && self.write.is_empty() {
            let mistake = at.mistake("the anonymous may read and write nothing");
            mistakes.push(mistake.help("add for example read: [\"#\"], or write `anonymous: false`"));
        }
        let ranges = if self.from.is_empty() {
            let all = ["loopback", "0.0.0.0/0", "::/0"];
            all.into_iter().filter_map(|range| range.parse().ok()).collect()
        } else {
            self.from.iter().map(|range| range.0).collect()
        };
        let filters = Rights { read: &self.read, write: &self.write }.filters(Whose::Anonymous, context, mistakes);
        access::Anonymous::From(ranges, filters)
    }
}

/// What somebody may do, as it is written.
struct Rights<'a> {
    read: &'a [Located<Filter>],
    write: &'a [Located<Filter>],
}

#[derive(Clone, Copy)]
enum Whose<'a> {
    User(&'a str),
    Anybody,
    Anonymous,
}

impl Rights<'_> {
    fn filters(&self, whose: Whose<'_>, context: &Context<'_>, mistakes: &mut Vec<Mistake>) -> FilterTemplates {
        mistakes.extend(self.read.iter().filter_map(|filter| filter_problem(filter, whose, context.gateway)));
        for filter in self.write {
            mistakes.extend(filter_problem(filter, whose, context.gateway).or_else(|| {
                let mistake = filter.mistake("nobody writes what begins with `$SYS/`");
                filter.0.as_str().starts_with("$SYS/").then(|| mistake.help("the broker does"))
            }));
        }
        let wildcards = match whose {
            Whose::Anonymous => Wildcards::LeaveCommands,
            Whose::User(_) | Whose::Anybody => Wildcards::TakeCommands,
        };
        let templates =
            |filters: &[Located<Filter>]| -> Vec<Template> { filters.iter().map(|filter| filter.0.clone()).collect() };
        FilterTemplates::new(context.gateway, &templates(self.read), &templates(self.write), wildcards)
    }
}

/// What is wrong with a filter of `whose` rights.
fn filter_problem(filter: &Located<Filter>, whose: Whose<'_>, gateway: &str) -> Option<Mistake> {
    let template = &filter.0;
    let no_filter = || filter.mistake(format!("`{template}` is no topic filter"));
    if template.mentions("user") {
        match whose {
            Whose::Anonymous => {
                return Some(filter.mistake("`{user}` has no meaning here: the anonymous have no name"));
            }
            Whose::User(name) if !access::is_one_level(name) => {
                let mistake =
                    filter.mistake(format!("`{{user}}` would be `{name}` here, which is more than one level"));
                return Some(mistake.help("write the filter out"));
            }
            Whose::User(_) | Whose::Anybody => {}
        }
    }
    let expanded = template.expand(|name| Some(if name == "gateway" { gateway } else { "x" }));
    let expanded = match expanded {
        Ok(expanded) => expanded,
        Err(error) => return Some(no_filter().help(error.to_string())),
    };
    if expanded.starts_with("$share/") {
        return Some(no_filter().help("write what stands behind `$share/NAME/`"));
    }
    TopicFilter::new(&expanded).err().map(|error| no_filter().help(error.to_string()))
}

fn name_problem(name: &str) -> Option<&'static str> {
    (name.is_empty() || name.contains(char::is_control))
        .then_some("a name has one character or more, and none to control a terminal")
}

impl<'de> Deserialize<'de> for Anonymous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrMap;

        impl<'de> Visitor<'de> for WordOrMap {
            type Value = Anonymous;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false`, `loopback`, or a map with `from`, `read` and `write`")
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

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Anonymous, A::Error> {
                let from = AnonymousFrom::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Anonymous::From(Box::new(from)))
            }
        }

        deserializer.deserialize_any(WordOrMap)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let range = text.parse::<AddressRange>();
        range.map(Self).map_err(|error| D::Error::custom(format!("`{text}` is no range of addresses\n{error}")))
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Err(D::Error::custom(
                "an empty password lets everybody in\nleave it out where a certificate is enough",
            ));
        }
        let hash = PasswordHash::parse(&text);
        hash.map(Self).map_err(|error| D::Error::custom(format!("{error}\n`edgeway passwd` makes one that is right")))
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Template::parse_with(&text, &NAMES).map(Self).map_err(D::Error::custom)
    }
}
