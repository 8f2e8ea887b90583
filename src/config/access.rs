//! How serde walks through a node: the entries of a map, the items of a list, a value with its place, a word.

use serde::de::value::{StrDeserializer, U32Deserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::deserializer::{NodeDeserializer, State};
use super::error::Error;
use super::nodes::Node;
use crate::settings::Place;

/// The entries of a mapping that were not taken out.
pub struct Entries<'a> {
    pub remaining: std::slice::Iter<'a, (Node, Node)>,
    pub value: Option<NodeDeserializer<'a>>,
    /// The keys that a structure knows; `None` where any key goes.
    pub fields: Option<&'static [&'static str]>,
    pub state: &'a State,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        for (key, value) in self.remaining.by_ref() {
            if self.state.is_removed(key) || self.state.is_removed(value) {
                continue;
            }
            if let Some(fields) = self.fields
                && !key.text().is_some_and(|name| fields.contains(&name))
            {
                self.state.unknown_key(key, fields);
                continue;
            }
            self.value = Some(NodeDeserializer { node: value, key: Some(key), state: self.state });
            let key = NodeDeserializer { node: key, key: None, state: self.state };
            return key.place(seed.deserialize(key)).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = self.value.take().ok_or_else(|| Error::custom("a value without its key"))?;
        value.place(seed.deserialize(value))
    }
}

/// The items of a list that were not taken out.
pub struct Items<'a> {
    pub remaining: std::slice::Iter<'a, Node>,
    pub key: Option<&'a Node>,
    pub state: &'a State,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(node) = self.remaining.by_ref().find(|node| !self.state.is_removed(node)) else {
            return Ok(None);
        };
        let item = NodeDeserializer { node, key: self.key, state: self.state };
        item.place(seed.deserialize(item)).map(Some)
    }
}

/// The answer to [`LOCATED`]: file, start, end, value.
pub struct WithPlace<'a> {
    pub step: u8,
    pub of: NodeDeserializer<'a>,
}

impl<'de> SeqAccess<'de> for WithPlace<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Place { file, start, end } = self.of.node.place;
        self.step += 1;
        let number = |number: u32| -> U32Deserializer<Error> { number.into_deserializer() };
        match self.step {
            1 => seed.deserialize(number(file)).map(Some),
            2 => seed.deserialize(number(start)).map(Some),
            3 => seed.deserialize(number(end)).map(Some),
            4 => self.of.place(seed.deserialize(self.of)).map(Some),
            _ => Ok(None),
        }
    }
}

/// A word, or a map with one key.
pub struct Variant<'a> {
    pub name: &'a Node,
    pub value: Option<&'a Node>,
    pub state: &'a State,
}

impl<'a> Variant<'a> {
    fn value(&self) -> Result<NodeDeserializer<'a>, Error> {
        let node = self.value.ok_or_else(|| {
            Error::custom(format!("`{}` wants a value", self.name.text().unwrap_or_default())).at(self.name, None)
        })?;
        Ok(NodeDeserializer { node, key: Some(self.name), state: self.state })
    }
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let word = self.name.text().unwrap_or_default();
        let deserializer: StrDeserializer<'_, Error> = word.into_deserializer();
        Ok((seed.deserialize(deserializer)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.value {
            None => Ok(()),
            Some(_) => {
                let name = self.name.text().unwrap_or_default();
                Err(Error::custom(format!("`{name}` is a word of its own and takes no value")))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        let value = self.value()?;
        value.place(seed.deserialize(value))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.value()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.value()?.deserialize_struct("", fields, visitor)
    }
}
