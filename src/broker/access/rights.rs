//! What a connection may read and write: topic filters, with the names of this connection put in.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use super::complaints::{Complaint, Complaints, Whose};
use crate::mqtt::{TopicFilter, topic};
use crate::settings::Template;

/// Topics whose decision a connection remembers.
const REMEMBERED: usize = 8;
/// Longer topics are decided each time.
const MAX_REMEMBERED_BYTES: usize = 128;

/// The topics that may be read and written, before it is known who it is: `{user}` and `{client}` stand in them still.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FilterTemplates {
    gateway: Arc<str>,
    read: Filters,
    write: Filters,
    wildcards: Wildcards,
}

/// Whether a wildcard in a write filter stands for commands too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wildcards {
    /// Yes.
    #[default]
    TakeCommands,
    /// No: a topic whose last level is `set` is written only by a filter whose last level is `set`.
    LeaveCommands,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Filters {
    /// The same for everybody.
    fixed: Arc<[TopicFilter]>,
    /// Those with `{user}` or `{client}`.
    templates: Vec<Template>,
}

/// Who a connection is, and what it may do.
#[derive(Debug, Default)]
pub struct Rights {
    user: Option<Arc<str>>,
    /// `None` may do everything.
    limited: Option<Limited>,
}

#[derive(Debug)]
struct Limited {
    read: Arc<[TopicFilter]>,
    write: Arc<[TopicFilter]>,
    wildcards: Wildcards,
    address: Option<IpAddr>,
    complaints: Arc<Complaints>,
}

/// What a subscription may read.
#[derive(Debug, Clone)]
pub enum Reading {
    /// Every message that its filter matches.
    Everything,
    /// Those of them that these filters match too.
    Partly(Arc<[TopicFilter]>),
    /// None of them: it is refused.
    Nothing,
}

impl FilterTemplates {
    /// The filters `read` and `write` of the gateway `gateway`. In them there are `{gateway}`, `{user}` and `{client}`.
    pub fn new<'a>(
        gateway: &str,
        read: impl IntoIterator<Item = &'a Template>,
        write: impl IntoIterator<Item = &'a Template>,
        wildcards: Wildcards,
    ) -> Self {
        Self { gateway: gateway.into(), read: filters(gateway, read), write: filters(gateway, write), wildcards }
    }

    /// Everything is read, and everything is written that is no command.
    pub(super) fn everything_but_commands() -> Self {
        let all = |filters: &[&str]| Filters {
            fixed: filters.iter().filter_map(|filter| TopicFilter::new(filter).ok()).collect(),
            templates: Vec::new(),
        };
        Self {
            gateway: "".into(),
            read: all(&["#", "$SYS/#"]),
            write: all(&["#"]),
            wildcards: Wildcards::LeaveCommands,
        }
    }
}

impl Rights {
    /// Everything that is not the broker's own.
    pub fn everything() -> Arc<Self> {
        Arc::default()
    }

    /// What a connection of `user` (`None`: an anonymous one) may do: everything, where `templates` are none.
    pub(super) fn of(
        user: Option<&Arc<str>>,
        templates: Option<&FilterTemplates>,
        client_id: &str,
        address: Option<IpAddr>,
        complaints: &Arc<Complaints>,
    ) -> Arc<Self> {
        let limited = templates.map(|templates| {
            let name = |name: &str| match name {
                "gateway" => Some(&*templates.gateway),
                "user" => user.map(|user| &**user).filter(|user| is_one_level(user)),
                "client" => Some(client_id).filter(|client_id| is_one_level(client_id)),
                _ => None,
            };
            let expanded = |filters: &Filters| {
                filters.expand(name).unwrap_or_else(|fewer| {
                    complaints.note(
                        Complaint::WideningName,
                        Whose { address, user: user.map(|user| &**user), client: client_id },
                        None,
                    );
                    fewer
                })
            };
            Limited {
                read: expanded(&templates.read),
                write: expanded(&templates.write),
                wildcards: templates.wildcards,
                address,
                complaints: Arc::clone(complaints),
            }
        });
        Arc::new(Self { user: user.map(Arc::clone), limited })
    }

    /// The name under which it was let in; `None` for the anonymous.
    pub fn user(&self) -> Option<&Arc<str>> {
        self.user.as_ref()
    }

    /// Whether it may do everything, so that nothing needs to be asked.
    pub fn is_everything(&self) -> bool {
        self.limited.is_none()
    }

    /// Whether it may publish to `topic`.
    pub fn may_publish(&self, topic: &str) -> bool {
        let Some(Limited { write, wildcards, .. }) = &self.limited else {
            return true;
        };
        let only_by_name = *wildcards == Wildcards::LeaveCommands && is_command(topic);
        write.iter().any(|filter| filter.matches(topic) && (!only_by_name || is_command(filter.as_str())))
    }

    /// What a subscription to `filter` may read; of a shared one, the filter behind its group.
    pub fn reading(&self, filter: &str) -> Reading {
        let Some(Limited { read, .. }) = &self.limited else {
            return Reading::Everything;
        };
        if read.iter().any(|mine| topic::covers(mine.as_str(), filter)) {
            return Reading::Everything;
        }
        let partly: Arc<[TopicFilter]> =
            read.iter().filter(|mine| topic::overlap(mine.as_str(), filter)).cloned().collect();
        if partly.is_empty() { Reading::Nothing } else { Reading::Partly(partly) }
    }

    /// Says in the log that `client_id` was not allowed to publish to `topic`.
    pub(in crate::broker) fn note_unwritten(&self, client_id: &str, topic: &str) {
        self.note(Complaint::MayNotWrite, client_id, topic);
    }

    /// Says in the log that `client_id` was not allowed to subscribe to `filter`.
    pub(in crate::broker) fn note_unread(&self, client_id: &str, filter: &str) {
        self.note(Complaint::MayNotRead, client_id, filter);
    }

    fn note(&self, complaint: Complaint, client_id: &str, subject: &str) {
        if let Some(Limited { address, complaints, .. }) = &self.limited {
            let whose = Whose { address: *address, user: self.user.as_deref(), client: client_id };
            complaints.note(complaint, whose, Some(subject));
        }
    }
}

impl Filters {
    /// The filters with the names put in; without those that such a name would widen, as an error, where there are any.
    fn expand<'a>(&self, name: impl Fn(&str) -> Option<&'a str>) -> Result<Arc<[TopicFilter]>, Arc<[TopicFilter]>> {
        if self.templates.is_empty() {
            return Ok(Arc::clone(&self.fixed));
        }
        let put_in =
            |template: &Template| template.expand(&name).ok().and_then(|filter| TopicFilter::new(&filter).ok());
        let all: Arc<[TopicFilter]> =
            self.fixed.iter().cloned().chain(self.templates.iter().filter_map(put_in)).collect();
        if all.len() == self.fixed.len() + self.templates.len() { Ok(all) } else { Err(all) }
    }
}

fn filters<'a>(gateway: &str, templates: impl IntoIterator<Item = &'a Template>) -> Filters {
    let (of_connection, fixed): (Vec<_>, Vec<_>) =
        templates.into_iter().partition(|template| template.mentions("user") || template.mentions("client"));
    let fixed = fixed.into_iter().filter_map(|template| {
        let filter = template.expand(|name| (name == "gateway").then_some(gateway)).ok()?;
        TopicFilter::new(&filter).ok()
    });
    Filters { fixed: fixed.collect(), templates: of_connection.into_iter().cloned().collect() }
}

/// Whether a name that a client brought means itself in a filter, and nothing more.
pub fn is_one_level(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('$') && !name.contains(['/', '+', '#', '\0'])
}

fn is_command(topic: &str) -> bool {
    topic.rsplit('/').next() == Some("set")
}

/// What was decided about the topics that a connection published to last.
#[derive(Debug, Default)]
pub struct WriteDecisions(Option<Box<[Decision; REMEMBERED]>>);

#[derive(Debug, Default)]
struct Decision {
    /// Empty where there is none.
    topic: String,
    is_allowed: bool,
}

impl WriteDecisions {
    /// Whether `rights`, the same each time, may publish to `topic`.
    pub fn may_publish(&mut self, rights: &Rights, topic: &str) -> bool {
        if rights.is_everything() {
            return true;
        }
        if topic.len() > MAX_REMEMBERED_BYTES {
            return rights.may_publish(topic);
        }
        let decisions = self.0.get_or_insert_default();
        let place = foldhash::fast::FixedState::default().hash_one(topic) as usize % REMEMBERED;
        let decision = &mut decisions[place];
        if decision.topic != topic {
            decision.topic.clear();
            decision.topic.push_str(topic);
            decision.is_allowed = rights.may_publish(topic);
        }
        decision.is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["gateway", "user", "client"];

    fn rights_as(user: &str, client: &str, read: &[&str], write: &[&str], wildcards: Wildcards) -> Arc<Rights> {
        let parse = |texts: &[&str]| -> Vec<Template> {
            texts.iter().map(|text| Template::parse_with(text, &NAMES).unwrap()).collect()
        };
        let templates = FilterTemplates::new("edge-01", &parse(read), &parse(write), wildcards);
        Rights::of(Some(&user.into()), Some(&templates), client, None, &Arc::default())
    }

    fn rights(read: &[&str], write: &[&str]) -> Arc<Rights> {
        rights_as("ann", "c1", read, write, Wildcards::TakeCommands)
    }

    #[test]
    fn what_no_filter_names_is_not_written() {
        let rights = rights(&[], &["{gateway}/+/set", "{user}/#", "clients/{client}", "exact"]);
        for topic in ["edge-01/plug/set", "ann", "ann/a/b", "clients/c1", "exact"] {
            assert!(rights.may_publish(topic), "{topic}");
        }
        for topic in ["edge-02/plug/set", "edge-01/plug/x/set", "bob/a", "clients/c2", "exact/x", "$SYS/x"] {
            assert!(!rights.may_publish(topic), "{topic}");
        }
        assert!(Rights::everything().may_publish("anything"));
    }

    #[test]
    fn a_subscription_is_read_wholly_partly_or_not_at_all() {
        let rights = rights(&["sensors/#", "{gateway}/+/power", "$SYS/broker/#"], &[]);
        for filter in ["sensors/#", "sensors/a/+", "edge-01/+/power", "edge-01/meter/power", "$SYS/broker/load/#"] {
            assert!(matches!(rights.reading(filter), Reading::Everything), "{filter}");
        }
        for (filter, parts) in [("#", 2), ("edge-01/#", 1), ("+/+/power", 2), ("$SYS/#", 1)] {
            let Reading::Partly(filters) = rights.reading(filter) else { panic!("{filter}") };
            assert_eq!(filters.len(), parts, "{filter}");
        }
        for filter in ["other/#", "edge-01/meter/energy", "$SYS/gateway/#", "+"] {
            // `sensors/#` matches `sensors` as well.
            assert_eq!(matches!(rights.reading(filter), Reading::Nothing), filter != "+", "{filter}");
        }
        assert!(matches!(Rights::everything().reading("$SYS/#"), Reading::Everything));
    }

    #[test]
    fn a_name_never_widens_a_filter() {
        for name in ["+", "#", "a/b", "a+", "#x", "", "$SYS", "a\0b"] {
            let filters = ["{user}/#", "to/{client}", "{client}"];
            let rights = rights_as(name, name, &filters, &filters, Wildcards::TakeCommands);
            for topic in ["x", "to/x", "a", "a/b", "a/b/c", "$SYS/x", name] {
                assert!(!rights.may_publish(topic), "{name:?} {topic:?}");
            }
            for filter in ["#", "+", "to/+", "$SYS/#", "a/#"] {
                assert!(matches!(rights.reading(filter), Reading::Nothing), "{name:?} {filter}");
            }
        }
        // The others of the same user stay.
        let rights = rights_as("ann", "+", &[], &["mine/#", "of/{client}"], Wildcards::TakeCommands);
        assert!(rights.may_publish("mine/x") && !rights.may_publish("of/x"));
    }

    #[test]
    fn a_wildcard_of_the_anonymous_leaves_commands_alone() {
        let rights = rights_as("", "c", &["#"], &["#", "lamp/+/set", "plc/pump/set"], Wildcards::LeaveCommands);
        for topic in ["a", "a/b", "lamp/1/set", "plc/pump/set", "a/set/result", "a/settle", "a/offset"] {
            assert!(rights.may_publish(topic), "{topic}");
        }
        for topic in ["set", "a/set", "plc/fan/set", "lamp/set", "/set"] {
            assert!(!rights.may_publish(topic), "{topic}");
        }
        // A command's own filter, and no wildcard below it.
        let rights = rights_as("", "c", &[], &["lamp/set/#"], Wildcards::LeaveCommands);
        assert!(!rights.may_publish("lamp/set") && rights.may_publish("lamp/set/x"));
    }

    #[test]
    fn what_is_remembered_is_what_was_decided() {
        let rights = rights(&[], &["a/+", &format!("{}/#", "x".repeat(MAX_REMEMBERED_BYTES))]);
        let mut decisions = WriteDecisions::default();
        let topics: Vec<String> = (0..40)
            .flat_map(|number| {
                [format!("a/{number}"), format!("b/{number}"), "x".repeat(MAX_REMEMBERED_BYTES + number)]
            })
            .collect();
        for _ in 0..3 {
            for topic in &topics {
                assert_eq!(decisions.may_publish(&rights, topic), rights.may_publish(topic), "{topic}");
                assert_eq!(decisions.may_publish(&rights, topic), rights.may_publish(topic), "{topic}");
            }
        }
        let mut decisions = WriteDecisions::default();
        assert!(decisions.may_publish(&Rights::everything(), "b/1") && decisions.0.is_none());
    }
}
