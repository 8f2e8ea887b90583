//! Prometheus' text format, version 0.0.4: families of samples with their help and type.
//!
//! Our numbers live where they are counted, and bridges and devices come and go; so they are written as they are when
//! somebody asks, and there is no registry that would have to follow them.

use std::fmt::{Display, Write};

/// What the text is to HTTP.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's numbers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They only rise; their name ends in `_total`.
    Counter,
    /// They rise and fall.
    Gauge,
}

/// A text in the making.
#[derive(Debug, Default)]
pub struct Exposition(String);

/// A family in the making: its samples are added one by one.
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// Begins the family `name`. Its name has a unit where it has one, and each family is begun once.
    pub fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> Family<'_> {
        debug_assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.0.push_str("# HELP ");
        self.0.push_str(name);
        self.0.push(' ');
        escape(&mut self.0, help, false);
        // Writing into a string does not fail.
        let _ = write!(self.0, "\n# TYPE {name} {kind}\n");
        Family { text: &mut self.0, name }
    }

    /// A family of one counter.
    pub fn counter(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(Kind::Counter, name, help).sample(&[], value);
    }

    /// A family of one gauge.
    pub fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(Kind::Gauge, name, help).sample(&[], value);
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Adds a sample with its labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(self.text, value, true);
            self.text.push('"');
        }
        self.text.push_str(if labels.is_empty() { " " } else { "} " });
        // Writing into a string does not fail.
        let _ = writeln!(self.text, "{value}");
    }
}

fn escape(into: &mut String, text: &str, is_label: bool) {
    for character in text.chars() {
        match character {
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '"' if is_label => into.push_str("\\\""),
            _ => into.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_its_help_its_type_and_its_samples() {
        let mut text = Exposition::default();
        text.counter("a_total", "What \"a\" is,\nand C:\\.", 3);
        let mut family = text.family(Kind::Gauge, "b_seconds", "B.");
        family.sample(&[("bridge", "a \"b\"\\\n"), ("x", "é")], 0.5);
        insta::assert_snapshot!(text.finish(), @r#"
        # HELP a_total What "a" is,\nand C:\\.
        # TYPE a_total counter
        a_total 3
        # HELP b_seconds B.
        # TYPE b_seconds gauge
        b_seconds{bridge="a \"b\"\\\n",x="é"} 0.5
        "#);
    }
}
