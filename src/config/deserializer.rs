//! From nodes to settings: a serde `Deserializer` that knows places and finds every mistake, not only the first.
//!
//! serde stops at the first error. So [`read`] deserialises again and again: it notes the error, takes the node out
//! that caused it, and starts over until nothing is wrong any more. A field that is missing only because it was taken
//! out is no mistake of its own; the structure around it is taken out silently. Unknown keys are found on the way,
//! since a structure names the keys that it knows.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};

use super::access::{Entries, Items, Variant, WithPlace};
use super::error::{Error, Kind, describe};
use super::nodes::{Content, Node, Scalar, Value};
use crate::settings::{LOCATED, Mistake, ONE_OR_MANY, nearest, one_of};

/// So many mistakes are enough to begin with.
const MAX_MISTAKES: usize = 100;

/// Reads `T` from `node` and adds all that is wrong to `mistakes`.
///
/// What could be read in spite of mistakes is returned without the entries that have them, so that further checks
/// can be made on the rest; it must not be run. `None` where nothing is left.
pub fn read<T: DeserializeOwned>(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<T> {
    let state = State::default();
    let value = loop {
        match T::deserialize(NodeDeserializer { node, key: None, state: &state }) {
            Ok(value) => break Some(value),
            Err(error) => {
                if !state.take_out(error, node) {
                    break None;
                }
            }
        }
    };
    mistakes.append(&mut state.mistakes.borrow_mut());
    value
}

/// What one reading has found so far.
#[derive(Default)]
pub(super) struct State {
    mistakes: RefCell<Vec<Mistake>>,
    /// Ids of keys and values that are skipped.
    removed: RefCell<HashSet<u32>>,
    /// What an unknown key was probably meant to be, by the key's id.
    meant: RefCell<HashMap<u32, String>>,
    /// No more mistakes are taken.
    full: Cell<bool>,
}

impl State {
    pub fn is_removed(&self, node: &Node) -> bool {
        node.content == Content::Mistaken || self.removed.borrow().contains(&node.id)
    }

    fn report(&self, mistake: Mistake) {
        let mut mistakes = self.mistakes.borrow_mut();
        if mistakes.len() >= MAX_MISTAKES {
            self.full.set(true);
        } else if !mistakes.contains(&mistake) {
            mistakes.push(mistake);
        }
    }

    /// Notes an error and removes its node; `false` where that leaves nothing to try.
    fn take_out(&self, error: Error, root: &Node) -> bool {
        let node = error.node().unwrap_or(root.id);
        if !matches!(error.kind(), Kind::Excused) {
            self.report(error.into_mistake(root.place));
        }
        node != root.id && !self.full.get() && self.removed.borrow_mut().insert(node)
    }

    /// An unknown key: a mistake at once, and skipped from now on.
    pub fn unknown_key(&self, key: &Node, known: &[&str]) {
        if !self.removed.borrow_mut().insert(key.id) {
            return;
        }
        let name = key.text().unwrap_or_default();
        let mut mistake = Mistake::new(key.place, format!("unknown key `{name}`"));
        if let Some(meant) = nearest(name, known) {
            self.meant.borrow_mut().insert(key.id, meant.into());
            mistake = mistake.help(format!("did you mean `{meant}`?"));
        } else if known.is_empty() {
            mistake = mistake.help("there are no keys here");
        } else {
            mistake = mistake.help(format!("there are {}", one_of(known, "and")));
        }
        self.report(mistake);
    }

    /// Whether `field` is missing from `mapping` only because it was taken out or misspelt.
    fn excuses(&self, mapping: &Node, field: &str) -> bool {
        mapping.entries().iter().any(|(key, value)| {
            (self.is_removed(key) || self.is_removed(value))
                && (key.text() == Some(field) || self.meant.borrow().get(&key.id).is_some_and(|meant| meant == field))
        })
    }
}

/// A node on its way to become a value.
#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'a> {
    pub node: &'a Node,
    /// The key it stands under.
    pub key: Option<&'a Node>,
    /// What was found so far.
    pub state: &'a State,
}

impl<'a> NodeDeserializer<'a> {
    /// Puts an error that came out of this node to its place, unless it has one.
    pub fn place<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| {
            if error.node().is_some() {
                return error;
            }
            match error.kind() {
                Kind::Missing(field) if self.state.excuses(self.node, field) => error.excused().at(self.node, None),
                Kind::Missing(_) => error.at(self.node, Some(self.key.map_or(self.node.place, |key| key.place))),
                Kind::UnknownField(name, meant) => {
                    // A structure inside a visitor of its own: the access did not know its keys.
                    let entry = self.node.entries().iter().find(|(key, _)| key.text() == Some(name));
                    if let (Some((key, _)), Some(meant)) = (entry, meant) {
                        self.state.meant.borrow_mut().insert(key.id, (*meant).into());
                    }
                    error.at(entry.map_or(self.node, |(key, _)| key), None)
                }
                Kind::NotYet => {
                    let named = match self.key {
                        Some(key) => error.named(key.text().unwrap_or_default()),
                        None => error,
                    };
                    named.at(self.node, Some(self.key.map_or(self.node.place, |key| key.place)))
                }
                Kind::Other | Kind::Excused => error.at(self.node, None),
            }
        })
    }

    fn expected<T>(self, what: &str) -> Result<T, Error> {
        self.place(Err(Error::custom(format!("expected {what}, found {}", describe(self.node)))))
    }

    fn expected_and<T>(self, what: &str, help: &str) -> Result<T, Error> {
        self.place(Err(Error::custom(format!("expected {what}, found {}\n{help}", describe(self.node)))))
    }

    /// A text that looks like a number; quotes are the only thing wrong with it.
    fn is_quoted_number(self) -> bool {
        matches!(self.scalar().map(Scalar::value), Some(Value::Text(text)) if Scalar::plain(text).is_number())
    }

    fn scalar(self) -> Option<&'a Scalar> {
        match &self.node.content {
            Content::Scalar(scalar) => Some(scalar),
            Content::Sequence(_) | Content::Mapping(_) | Content::Mistaken => None,
        }
    }

    fn integer<V: Visitor<'a>>(self, visitor: V, min: i128, max: i128) -> Result<V::Value, Error> {
        let what = if max > i128::from(u32::MAX) {
            "a whole number".to_string()
        } else {
            format!("a whole number from {min} to {max}")
        };
        match self.scalar().map(Scalar::value) {
            Some(Value::Integer(number)) if (min..=max).contains(&number) => {
                self.place(match (u64::try_from(number), i64::try_from(number)) {
                    (Ok(number), _) => visitor.visit_u64(number),
                    (Err(_), Ok(number)) => visitor.visit_i64(number),
                    // The range was checked, and no caller asks for more than 64 bits.
                    (Err(_), Err(_)) => Err(Error::custom("a number beyond 64 bits")),
                })
            }
            Some(Value::Integer(_)) => {
                let text = self.node.text().unwrap_or_default();
                self.place(Err(Error::custom(format!("{text} is out of range: expected {what}"))))
            }
            _ if self.is_quoted_number() => self.expected_and(&what, "write it without quotes"),
            _ => self.expected(&what),
        }
    }

    fn map_access(self, fields: Option<&'static [&'static str]>) -> Entries<'a> {
        Entries { remaining: self.node.entries().iter(), value: None, fields, state: self.state }
    }

    fn sequence<V: Visitor<'a>>(self, items: &'a [Node], visitor: V) -> Result<V::Value, Error> {
        self.place(visitor.visit_seq(Items { remaining: items.iter(), key: None, state: self.state }))
    }

    fn is_mapping(self) -> bool {
        // A section whose every line is commented out is an empty one.
        matches!(self.node.content, Content::Mapping(_)) || self.node.is_null()
    }
}

macro_rules! integers {
    ($($method:ident: $kind:ty),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.integer(visitor, <$kind>::MIN as i128, <$kind>::MAX as i128)
        })*
    };
}

impl<'de> Deserializer<'de> for NodeDeserializer<'de> {
    type Error = Error;

    integers!(
        deserialize_u8: u8, deserialize_u16: u16, deserialize_u32: u32, deserialize_u64: u64,
        deserialize_i8: i8, deserialize_i16: i16, deserialize_i32: i32, deserialize_i64: i64
    );

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let scalar = match &self.node.content {
            Content::Scalar(scalar) => scalar,
            Content::Sequence(items) => return self.sequence(items, visitor),
            Content::Mapping(_) => return self.place(visitor.visit_map(self.map_access(None))),
            Content::Mistaken => return self.place(visitor.visit_unit()),
        };
        self.place(match scalar.value() {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Integer(number) => match (u64::try_from(number), i64::try_from(number)) {
                (Ok(number), _) => visitor.visit_u64(number),
                (Err(_), Ok(number)) => visitor.visit_i64(number),
                (Err(_), Err(_)) => visitor.visit_f64(number as f64),
            },
            Value::Float(number) => visitor.visit_f64(number),
            Value::Text(text) => visitor.visit_str(text).map_err(|error: Error| {
                if self.is_quoted_number() { error.or_help("write it without quotes") } else { error }
            }),
        })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.scalar().map(Scalar::value) {
            Some(Value::Bool(value)) => self.place(visitor.visit_bool(value)),
            // What YAML 1.1 took for them.
            Some(Value::Text("yes" | "Yes" | "YES" | "on" | "On" | "ON")) => {
                self.expected_and("true or false", "write `true`")
            }
            Some(Value::Text("no" | "No" | "NO" | "off" | "Off" | "OFF")) => {
                self.expected_and("true or false", "write `false`")
            }
            _ => self.expected("true or false"),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.scalar().map(Scalar::value) {
            Some(Value::Integer(number)) => self.place(visitor.visit_f64(number as f64)),
            Some(Value::Float(number)) => self.place(visitor.visit_f64(number)),
            _ if self.is_quoted_number() => self.expected_and("a number", "write it without quotes"),
            _ => self.expected("a number"),
        }
    }

    /// Text is what stands there, whatever it looks like: `password: 12345` is a text too.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.scalar() {
            Some(scalar) if scalar.value() != Value::Null => self.place(visitor.visit_str(&scalar.text)),
            // `from: {gateway}` is a map to YAML.
            _ if matches!(self.node.entries(), [(_, value)] if value.is_null()) => {
                self.expected_and("text", "put a text that begins with `{` in quotes: \"{gateway}/...\"")
            }
            _ => self.expected("text"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.place(if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) })
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() { self.place(visitor.visit_unit()) } else { self.expected("nothing") }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.place(match name {
            LOCATED => visitor.visit_seq(WithPlace { step: 0, of: self }),
            ONE_OR_MANY => match &self.node.content {
                Content::Sequence(items) => return self.sequence(items, visitor),
                _ => visitor.visit_seq(Items {
                    remaining: std::slice::from_ref(self.node).iter(),
                    key: self.key,
                    state: self.state,
                }),
            },
            _ => visitor.visit_newtype_struct(self),
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.content {
            Content::Sequence(items) => self.sequence(items, visitor),
            _ if self.node.is_null() => self.sequence(&[], visitor),
            _ => self.expected_and("a list", "put it in brackets, [ ... ], or write `- ` before each item"),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.content {
            _ if self.is_mapping() => self.place(visitor.visit_map(self.map_access(None))),
            Content::Sequence(_) => self.expected_and("a map", "each item has a name here, `name: ...`, and no `- `"),
            _ => self.expected("a map"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.is_mapping() {
            self.place(visitor.visit_map(self.map_access(Some(fields))))
        } else {
            self.expected_and("a map", &format!("its keys are {}", one_of(fields, "and")))
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let variant = match &self.node.content {
            Content::Scalar(_) if !self.node.is_null() => Variant { name: self.node, value: None, state: self.state },
            Content::Mapping(entries) if entries.len() == 1 => {
                Variant { name: &entries[0].0, value: Some(&entries[0].1), state: self.state }
            }
            _ => return self.expected(&one_of(variants, "or")),
        };
        self.place(visitor.visit_enum(variant))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::config::nodes;
    use crate::settings::{Duration, Located, Named, NotYet, OneOrMany, Place, Secret};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Route {
        from: Located<String>,
        #[serde(default, rename = "to")]
        _to: Option<String>,
        #[serde(default, rename = "qos")]
        _qos: Option<u8>,
        #[serde(default)]
        mode: Mode,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        #[default]
        DropOldest,
        Refuse,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Plant {
        every: Option<Located<Duration>>,
        password: Option<Secret>,
        routes: Vec<Located<Route>>,
        devices: Named<Route>,
        map: std::collections::BTreeMap<u16, String>,
        url: OneOrMany<Located<String>>,
        #[serde(rename = "tls")]
        _tls: Option<NotYet>,
    }

    fn plant(text: &str) -> (Option<Plant>, Vec<String>) {
        let mut mistakes = Vec::new();
        let node = nodes::parse(text, 0, &mut 0, &mut mistakes).root.unwrap();
        let plant = read(&node, &mut mistakes);
        mistakes.sort_by_key(|mistake| mistake.place.start);
        let shown = mistakes
            .iter()
            .map(|mistake| {
                let place = &text[mistake.place.start as usize..mistake.place.end as usize];
                let help = mistake.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
                format!("{place} | {}{help}", mistake.message)
            })
            .collect();
        (plant, shown)
    }

    fn mistakes(text: &str) -> Vec<String> {
        plant(text).1
    }

    #[test]
    fn places_reach_the_settings() {
        let text = "every: 5s\ndevices:\n  meter: { from: a }\nmap: { 0x10: hex, 2: off }\nurl: mqtt://a\n";
        let (plant, mistakes) = plant(text);
        assert_eq!(mistakes, [""; 0]);
        let plant = plant.unwrap();
        let slice = |place: Place| &text[place.start as usize..place.end as usize];
        assert_eq!(slice(plant.every.unwrap().place), "5s");
        let (name, device) = plant.devices.first().unwrap();
        assert_eq!((slice(name.place), slice(device.place), slice(device.from.place)), ("meter", "{ from: a }", "a"));
        assert_eq!(plant.map[&16], "hex");
        assert_eq!(plant.map[&2], "off");
        assert_eq!(slice(plant.url[0].place), "mqtt://a");
        assert!(plant.devices.contains_key("meter"));
    }

    #[test]
    fn every_mistake_is_found_at_its_place() {
        let text = "\
evry: 5s
password: [x]
routes:
  - { frm: a, qos: 300, mode: drop-oldst }
  - { to: b }
  - { from: c, qos: '1' }
devices:
  meter: { from: {}, colour: red }
  plug:
    to: x
map: { one: x, 2: [] }
";
        assert_eq!(
            mistakes(text),
            [
                "evry | unknown key `evry` (did you mean `every`?)",
                "[x] | expected text, found a list",
                "frm | unknown key `frm` (did you mean `from`?)",
                "300 | 300 is out of range: expected a whole number from 0 to 255",
                "drop-oldst | `drop-oldst` is not one of the words for this (did you mean `drop_oldest`?)",
                "{ to: b } | `from` is missing",
                "'1' | expected a whole number from 0 to 255, found text (write it without quotes)",
                "{} | expected text, found a map",
                "colour | unknown key `colour` (there are from, to, qos and mode)",
                "plug | `from` is missing",
                "one | expected a whole number from 0 to 65535, found text",
                "[] | expected text, found a list",
            ]
        );
    }

    #[test]
    fn what_is_right_is_read_in_spite_of_the_rest() {
        let (plant, mistakes) = plant("every: soon\nroutes: [{ from: a }, { to: b }]\nurl: [a, {}]\n");
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
        let plant = plant.unwrap();
        assert_eq!((plant.routes.len(), plant.url.len()), (1, 1));
        assert_eq!(plant.routes[0].mode, Mode::DropOldest);
    }

    #[test]
    fn a_key_that_is_not_built_is_refused_in_words() {
        for value in ["x", "{ cert: a }", "[1]", "5", "true"] {
            assert_eq!(mistakes(&format!("tls: {value}\n")), ["tls | `tls` is not available yet"], "{value}");
        }
    }

    #[test]
    fn a_wrong_quantity_says_how_it_is_written() {
        let help = "a duration is a number with ms, s, m, h or d, for example 500ms, 5s or 1d";
        assert_eq!(mistakes("every: 5\n"), [format!("5 | `5` is not a duration ({help})")]);
        assert_eq!(mistakes("every: [1]\n"), ["[1] | expected a duration, found a list"]);
    }

    #[test]
    fn text_is_what_stands_there() {
        let (plant, mistakes) = plant("password: 0123\nurl: [1, true, 2.50]\n");
        assert_eq!(mistakes, [""; 0]);
        let plant = plant.unwrap();
        assert_eq!(plant.password.unwrap().reveal(), "0123");
        assert_eq!(plant.url.iter().map(|url| url.value.as_str()).collect::<Vec<_>>(), ["1", "true", "2.50"]);
    }

    #[test]
    fn a_file_that_is_no_mapping_is_one_mistake() {
        assert_eq!(mistakes("- a\n").len(), 1);
        assert!(plant("- a\n").0.is_none());
        assert_eq!(mistakes(""), [""; 0]);
    }

    #[test]
    fn mistakes_without_number_are_cut() {
        let text: String = (0..500).map(|index| format!("key_{index}: x\n")).collect();
        assert_eq!(mistakes(&text).len(), MAX_MISTAKES);
    }
}
