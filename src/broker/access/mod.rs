//! Who may connect to a listener, and what each may read and write.
//!
//! ```text
//! certificate -> its user
//! user name   -> password -> that user           Rights: filters with the names of this connection put in
//! neither     -> address  -> the anonymous
//! ```
//!
//! A client learns that it is refused; which of the reasons it was stands in the log.

mod address;
mod complaints;
pub mod hash;
pub mod passwords;
mod rights;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

pub use address::{AddressRange, RangeError};
use complaints::{Complaint, Complaints, Whose};
use hash::{NoRandomness, PasswordHash};
use passwords::{Passwords, Refusal};
pub use rights::{FilterTemplates, Reading, Rights, Wildcards, WriteDecisions, is_one_level};

use crate::mqtt::ReasonCode;
use crate::mqtt::packet::Connect;

/// Who is at the other end of a connection, before it says CONNECT.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Its address; `None` over a Unix socket or in memory.
    pub address: Option<IpAddr>,
    /// The user that its certificate names, where the listener asks for one.
    pub user: Option<Arc<str>>,
}

/// The rules of who may connect and do what, as the configuration has them. By default clients on this machine may do
/// everything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules {
    /// The users by name. Where there are none, user names and passwords are not looked at, and whoever has a
    /// certificate may do everything.
    pub users: Arc<HashMap<Arc<str>, User>>,
    /// Those who bring no user name.
    pub anonymous: Anonymous,
}

/// A user.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// `None` where only a certificate shows who it is.
    pub password: Option<PasswordHash>,
    /// What it may do.
    pub filters: FilterTemplates,
}

/// Who may connect without a user name, and do what.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Anonymous {
    /// Clients on this machine; they may do everything.
    #[default]
    Loopback,
    /// Everybody. Those on this machine may do everything; the others too, but to write a command (`…/set`).
    Everybody,
    /// Nobody.
    Nobody,
    /// Those from these addresses.
    From(Vec<AddressRange>, FilterTemplates),
}

/// Who may connect to a listener, and do what. By default everybody may do everything.
#[derive(Debug, Clone, Default)]
pub struct Access(Option<Arc<Inner>>);

/// Makes the access of several listeners: those with the same users share what is known of passwords.
#[derive(Debug, Default)]
pub struct Accesses {
    passwords: Vec<(Rules, Arc<Passwords>)>,
    complaints: Arc<Complaints>,
}

#[derive(Debug)]
struct Inner {
    rules: Rules,
    passwords: Arc<Passwords>,
    complaints: Arc<Complaints>,
    /// What [`Anonymous::Everybody`] may do from elsewhere.
    everybody: FilterTemplates,
    /// Of those who may do everything; they share it.
    everything: Arc<Rights>,
}

impl Rules {
    /// Whether some user can show who it is by a password.
    pub fn has_passwords(&self) -> bool {
        self.users.values().any(|user| user.password.is_some())
    }
}

/// Which users may do what with a topic, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permitted {
    /// Those who may read it.
    pub read: Vec<Arc<str>>,
    /// Those who may write it.
    pub write: Vec<Arc<str>>,
}

impl Rules {
    /// Which users may read and write `topic`, whatever client id they bring: filters with `{client}` do not count.
    pub fn permitted(&self, topic: &str) -> Permitted {
        let mut permitted = Permitted::default();
        let complaints = Arc::default();
        for (name, user) in &*self.users {
            // An empty client id stands for no level of a topic.
            let rights = Rights::of(Some(name), Some(&user.filters), "", None, &complaints);
            if matches!(rights.reading(topic), Reading::Everything) {
                permitted.read.push(Arc::clone(name));
            }
            if rights.may_publish(topic) {
                permitted.write.push(Arc::clone(name));
            }
        }
        permitted.read.sort_unstable();
        permitted.write.sort_unstable();
        permitted
    }
}

impl Accesses {
    /// Access by `rules`.
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    pub fn of(&mut self, rules: Rules) -> Result<Access, NoRandomness> {
        let known = self.passwords.iter().find(|(other, _)| Arc::ptr_eq(&other.users, &rules.users));
        let passwords = match known {
            Some((_, passwords)) => Arc::clone(passwords),
            None => {
                let hashes = rules.users.iter().filter_map(|(name, user)| {
                    let password = user.password.clone()?;
                    Some((Arc::clone(name), password))
                });
                let passwords = Passwords::new(hashes)?;
                self.passwords.push((rules.clone(), Arc::clone(&passwords)));
                passwords
            }
        };
        let complaints = Arc::clone(&self.complaints);
        let everybody = FilterTemplates::everything_but_commands();
        Ok(Access(Some(Arc::new(Inner { rules, passwords, complaints, everybody, everything: Rights::everything() }))))
    }
}

impl Access {
    /// Access by `rules`, for one listener.
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    pub fn new(rules: Rules) -> Result<Self, NoRandomness> {
        Accesses::default().of(rules)
    }

    /// Whether `caller` may connect as `connect` says, and what it may do then. `client_id` is the one of `connect`, or
    /// the one that the broker gives where it has none. It may be dropped while it waits.
    ///
    /// # Errors
    /// The reason for CONNACK, which says no more than a stranger may know.
    pub async fn admit(
        &self,
        caller: &Caller,
        connect: &Connect<'_>,
        client_id: &str,
    ) -> Result<Arc<Rights>, ReasonCode> {
        match &self.0 {
            Some(inner) => inner.admit(caller, connect, client_id).await,
            None => Ok(Rights::everything()),
        }
    }
}

impl Inner {
    async fn admit(&self, caller: &Caller, connect: &Connect<'_>, client_id: &str) -> Result<Arc<Rights>, ReasonCode> {
        // An IPv4 client that came in by a socket for both.
        let address = caller.address.map(|address| address.to_canonical());
        let users = &self.rules.users;
        let complain = |complaint, user: Option<&str>| {
            self.complaints.note(complaint, Whose { address, user, client: client_id }, None);
        };
        if let Some(name) = &caller.user {
            // The certificate wins over what CONNECT says.
            if users.is_empty() {
                return Ok(self.rights(Some(name), None, address, client_id));
            }
            let Some(user) = users.get(name) else {
                complain(Complaint::UnknownCertificate, Some(name));
                return Err(ReasonCode::NotAuthorized);
            };
            return Ok(self.rights(Some(name), Some(&user.filters), address, client_id));
        }
        if let (Some(name), false) = (connect.username, users.is_empty()) {
            let checked = self.passwords.check(address, name, connect.password.unwrap_or_default()).await;
            return match checked {
                Ok(name) => {
                    let filters = users.get(&name).map(|user| &user.filters);
                    // Whoever has a password is a user.
                    let filters = filters.ok_or(ReasonCode::NotAuthorized)?;
                    Ok(self.rights(Some(&name), Some(filters), address, client_id))
                }
                Err(refusal) => {
                    complain(refusal.into(), Some(name));
                    Err(match refusal {
                        Refusal::UnknownUser | Refusal::WrongPassword => ReasonCode::BadUserNameOrPassword,
                        Refusal::Busy => ReasonCode::ServerBusy,
                    })
                }
            };
        }
        let is_here = address.is_none_or(|address| address.is_loopback());
        match &self.rules.anonymous {
            Anonymous::Loopback | Anonymous::Everybody if is_here => Ok(self.rights(None, None, address, client_id)),
            Anonymous::Everybody => Ok(self.rights(None, Some(&self.everybody), address, client_id)),
            Anonymous::From(ranges, filters) if ranges.iter().any(|range| range.contains(address)) => {
                Ok(self.rights(None, Some(filters), address, client_id))
            }
            Anonymous::Loopback | Anonymous::Nobody | Anonymous::From(..) => {
                complain(Complaint::NoAnonymous, None);
                Err(ReasonCode::NotAuthorized)
            }
        }
    }

    /// What a connection may do; everything, where `filters` are none.
    fn rights(
        &self,
        user: Option<&Arc<str>>,
        filters: Option<&FilterTemplates>,
        address: Option<IpAddr>,
        client_id: &str,
    ) -> Arc<Rights> {
        if user.is_none() && filters.is_none() {
            return Arc::clone(&self.everything);
        }
        Rights::of(user, filters, client_id, address, &self.complaints)
    }
}

impl From<Refusal> for Complaint {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownUser => Self::UnknownUser,
            Refusal::WrongPassword => Self::WrongPassword,
            Refusal::Busy => Self::Busy,
        }
    }
}
