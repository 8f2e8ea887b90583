//! Endurance and fairness: many clients against the binary, for minutes (`make soak`) or a few seconds (`make test`).
//!
//! The clients live in this process, each a small task around the protocol's pure `Connection`; the gateway is in a
//! process of its own, so what it holds is read from outside. `EDGEWAY_SOAK_SECONDS` makes the runs full, and
//! `EDGEWAY_SOAK_OUTAGE_SECONDS` the outage: then figures are held to their bounds of time too, which the short form only
//! prints.

mod backlog;
mod endurance;
mod fairness;
mod flood;
mod latency;
mod ledger;
mod mortal;
mod observer;
mod outage;
mod pairs;
mod rate;
mod slow;
mod sys;

use std::time::Duration;

/// How much is done: the full form where `EDGEWAY_SOAK_SECONDS` is set, else the short one.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// Whether bounds of time are asserted.
    full: bool,
    /// How long the endurance test runs, without its warm-up.
    duration: Duration,
    /// Clients of the endurance test.
    clients: usize,
    /// Messages that sleepers sleep through.
    messages: u32,
    /// Messages that wait on disk for a session that is away.
    backlog: u32,
    /// How long the cloud is away, and whether that is the full form.
    outage: Duration,
    full_outage: bool,
}

impl Scale {
    fn from_environment() -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
            Some(text.parse::<u32>().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
        };
        let seconds = number("EDGEWAY_SOAK_SECONDS");
        let full = seconds.is_some();
        let outage = number("EDGEWAY_SOAK_OUTAGE_SECONDS");
        raise_open_files();
        Self {
            full,
            duration: Duration::from_secs(u64::from(seconds.unwrap_or(3))),
            clients: number("EDGEWAY_SOAK_CLIENTS").unwrap_or(if full { 1000 } else { 100 }) as usize,
            messages: number("EDGEWAY_SOAK_MESSAGES").unwrap_or(if full { 100_000 } else { 20_000 }),
            backlog: number("EDGEWAY_SOAK_BACKLOG").unwrap_or(if full { 2_000_000 } else { 150_000 }),
            outage: Duration::from_secs(u64::from(outage.unwrap_or(3))),
            full_outage: outage.is_some(),
        }
    }
}

/// A thousand connections want more open files than many systems give at first; the gateway inherits what is ours.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the soft limit may rise to the hard one");
}
