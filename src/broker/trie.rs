//! Subscriptions by topic filter: a hash map of the filters without wildcards, and a tree of levels for the others.

use std::collections::HashMap;

type Hasher = foldhash::fast::RandomState;

/// Values by valid topic filter. A filter holds at most one value per `same` of its users: see [`Trie::insert`].
#[derive(Debug)]
pub struct Trie<T> {
    exact: HashMap<Box<str>, Vec<T>, Hasher>,
    root: Node<T>,
}

/// One level of the filters with wildcards.
#[derive(Debug)]
struct Node<T> {
    children: HashMap<Box<str>, Self, Hasher>,
    /// The level `+`.
    any: Option<Box<Self>>,
    /// Filters that end here.
    here: Vec<T>,
    /// Filters that end with `#` behind this level.
    below: Vec<T>,
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self { exact: HashMap::default(), root: Node::default() }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { children: HashMap::default(), any: None, here: Vec::new(), below: Vec::new() }
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.any.is_none() && self.here.is_empty() && self.below.is_empty()
    }
}

impl<T> Trie<T> {
    /// Puts `value` under `filter`. A value there for which `same` is true is replaced, and returned.
    pub fn insert(&mut self, filter: &str, value: T, same: impl Fn(&T) -> bool) -> Option<T> {
        let values = self.entry(filter);
        match values.iter_mut().find(|value| same(value)) {
            Some(old) => Some(std::mem::replace(old, value)),
            None => {
                // One subscriber is what most filters have.
                if values.is_empty() {
                    values.reserve_exact(1);
                }
                values.push(value);
                None
            }
        }
    }

    /// The value of `filter` for which `same` is true, made by `make` where there is none.
    pub fn find_or_insert(&mut self, filter: &str, same: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> &mut T {
        let values = self.entry(filter);
        let index = values.iter().position(same).unwrap_or_else(|| {
            values.push(make());
            values.len() - 1
        });
        &mut values[index]
    }

    /// The value of `filter` for which `same` is true.
    pub fn find_mut(&mut self, filter: &str, same: impl Fn(&T) -> bool) -> Option<&mut T> {
        let values = if has_wildcard(filter) {
            let mut node = &mut self.root;
            let mut levels = filter.split('/');
            loop {
                node = match levels.next() {
                    None => break &mut node.here,
                    Some("#") => break &mut node.below,
                    Some("+") => node.any.as_deref_mut()?,
                    Some(level) => node.children.get_mut(level)?,
                };
            }
        } else {
            self.exact.get_mut(filter)?
        };
        values.iter_mut().find(|value| same(value))
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.root.is_empty()
    }

    /// Takes the value of `filter` for which `same` is true, and the levels that nobody needs any more.
    pub fn remove(&mut self, filter: &str, same: impl Fn(&T) -> bool) -> Option<T> {
        if !has_wildcard(filter) {
            let values = self.exact.get_mut(filter)?;
            let index = values.iter().position(same)?;
            let removed = values.swap_remove(index);
            if values.is_empty() {
                self.exact.remove(filter);
            }
            return Some(removed);
        }
        remove_below(&mut self.root, filter, &same)
    }

    /// Calls `visit` with the values of each filter that matches `name`, once per filter.
    pub fn matching<'t>(&'t self, name: &str, mut visit: impl FnMut(&'t [T])) {
        if let Some(values) = self.exact.get(name) {
            visit(values);
        }
        if name.starts_with('$') {
            // Wildcards at the first level match no such name [MQTT-4.7.2-1].
            let (level, rest) = split(name);
            if let Some(node) = self.root.children.get(level) {
                walk(node, rest, &mut visit);
            }
        } else if !self.root.is_empty() {
            walk(&self.root, Some(name), &mut visit);
        }
    }

    fn entry(&mut self, filter: &str) -> &mut Vec<T> {
        if !has_wildcard(filter) {
            return self.exact.entry(filter.into()).or_default();
        }
        let mut node = &mut self.root;
        for level in filter.split('/') {
            node = match level {
                // Valid filters have `#` at the end only.
                "#" => return &mut node.below,
                "+" => node.any.get_or_insert_with(Box::default),
                _ => node.children.entry(level.into()).or_default(),
            };
        }
        &mut node.here
    }
}

fn has_wildcard(filter: &str) -> bool {
    filter.bytes().any(|byte| matches!(byte, b'+' | b'#'))
}

fn split(name: &str) -> (&str, Option<&str>) {
    match name.bytes().position(|byte| byte == b'/') {
        Some(at) => (&name[..at], Some(&name[at + 1..])),
        None => (name, None),
    }
}

/// Visits what matches `rest` at and below `node`. The depth is that of the deepest filter, not of the name.
fn walk<'t, T>(node: &'t Node<T>, rest: Option<&str>, visit: &mut impl FnMut(&'t [T])) {
    if !node.below.is_empty() {
        visit(&node.below);
    }
    let Some(rest) = rest else {
        if !node.here.is_empty() {
            visit(&node.here);
        }
        return;
    };
    let (level, rest) = split(rest);
    if let Some(any) = &node.any {
        walk(any, rest, visit);
    }
    if !node.children.is_empty()
        && let Some(child) = node.children.get(level)
    {
        walk(child, rest, visit);
    }
}

fn remove_below<T>(node: &mut Node<T>, filter: &str, same: &impl Fn(&T) -> bool) -> Option<T> {
    let (level, rest) = split(filter);
    if level == "#" {
        return take(&mut node.below, same);
    }
    let next = match level {
        "+" => node.any.as_deref_mut()?,
        _ => node.children.get_mut(level)?,
    };
    let removed = match rest {
        Some(rest) => remove_below(next, rest, same),
        None => take(&mut next.here, same),
    };
    if next.is_empty() {
        match level {
            "+" => node.any = None,
            _ => {
                node.children.remove(level);
            }
        }
    }
    removed
}

fn take<T>(values: &mut Vec<T>, same: &impl Fn(&T) -> bool) -> Option<T> {
    let index = values.iter().position(same)?;
    let removed = values.swap_remove(index);
    if values.is_empty() {
        *values = Vec::new();
    }
    Some(removed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mqtt::topic;

    fn level() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "", "$x", "long level"])
    }

    fn name() -> impl Strategy<Value = String> {
        prop::collection::vec(level(), 1..5)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("names have a character", |name| !name.is_empty())
    }

    fn filter() -> impl Strategy<Value = String> {
        (prop::collection::vec(prop_oneof![3 => level(), 1 => Just("+")], 1..5), any::<bool>())
            .prop_map(|(mut levels, multi)| {
                if multi {
                    levels.push("#");
                }
                levels.join("/")
            })
            .prop_filter("filters have a character", |filter| !filter.is_empty())
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_a_naive_matcher(
            filters in prop::collection::vec((filter(), 0..4u32), 0..24),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            names in prop::collection::vec(name(), 1..12),
        ) {
            let mut trie = Trie::default();
            let mut naive: Vec<(String, u32)> = Vec::new();
            for (filter, user) in filters {
                let known = naive.contains(&(filter.clone(), user));
                let old = trie.insert(&filter, user, |value| *value == user);
                prop_assert_eq!(old.is_some(), known);
                if !known {
                    naive.push((filter, user));
                }
            }
            for index in removed {
                if naive.is_empty() {
                    break;
                }
                let (filter, user) = naive.swap_remove(index.index(naive.len()));
                prop_assert_eq!(trie.remove(&filter, |value| *value == user), Some(user));
            }
            for name in names {
                let mut expected: Vec<u32> =
                    naive.iter().filter(|(filter, _)| topic::matches(filter, &name)).map(|(_, user)| *user).collect();
                let mut found = Vec::new();
                trie.matching(&name, |values| found.extend_from_slice(values));
                expected.sort_unstable();
                found.sort_unstable();
                prop_assert_eq!(found, expected, "{}", name);
            }
            for (filter, user) in naive {
                trie.remove(&filter, |value| *value == user);
            }
            prop_assert!(trie.root.is_empty() && trie.exact.is_empty(), "levels that nobody needs stay");
        }
    }
}
