//! What `check` and `explain` say of a configuration that does not run yet: how much comes, and how long queues last.

use std::time::Duration;

use crate::adapters::{Pace, Published};
use crate::bridge::Plan;
use crate::bridge::forecast::{Demand, Load, demand};
use crate::bridge::plan::PlannedRoute;
use crate::bridge::settings::Version;
use crate::bridge::way::way;
use crate::mapping::PayloadFormat;
use crate::mapping::hop_payload::HopPayload;
use crate::store::settings::Plan as StoragePlan;

/// Devices that are named.
const MAX_NAMED: usize = 3;

/// What all devices publish, and what each bridge has to keep of it.
#[derive(Debug)]
pub(super) struct Outlook<'a> {
    published: &'a [Published],
    storage: &'a StoragePlan,
    bridges: &'a [Plan],
    demands: Vec<Demand>,
}

impl<'a> Outlook<'a> {
    pub(super) fn new(published: &'a [Published], storage: &'a StoragePlan, bridges: &'a [Plan]) -> Self {
        let loads: Vec<Load<'_>> = published.iter().map(load).collect();
        let demands = bridges.iter().map(|bridge| demand(bridge, &loads)).collect();
        Self { published, storage, bridges, demands }
    }

    /// `12 msg/s, 48 h in 512MB, then drop_oldest`; `None` where nothing is known of what comes.
    pub(super) fn lasts(&self, bridge: &Plan) -> Option<String> {
        let index = self.bridges.iter().position(|other| std::ptr::eq(other, bridge))?;
        let demand = &self.demands[index];
        if demand.per_second <= 0.0 {
            return None;
        }
        let (at_most, or_more) = if demand.is_at_most { ("at most ", " or more") } else { ("", "") };
        let mut line = format!("{at_most}{}", pace(demand.per_second));
        let limit = bridge.queue_bytes.unwrap_or(self.storage.limit);
        let when_full = bridge.when_full.unwrap_or(self.storage.when_full);
        let all_the_same = |time: Duration| bridge.expire.is_some_and(|expire| expire <= time);
        match demand.lasts(limit) {
            Some(time) if !all_the_same(time) => {
                line.push_str(&format!(", {}{or_more} in {}", span(time), size(limit)));
                if let Some(together) =
                    self.lasts_sharing(bridge, demand).filter(|together| span(*together) != span(time))
                {
                    let count = self.sharing().len();
                    line.push_str(&format!(" ({} while all {count} bridges that share it wait)", span(together)));
                }
                line.push_str(&format!(", then {when_full}"));
            }
            Some(_) => {
                let expire = bridge.expire.unwrap_or_default();
                let bytes = demand.bytes_per_second * expire.as_secs_f64() + demand.constant_bytes;
                let bytes = size(bytes as u64);
                line.push_str(&format!(", {} in {bytes} of {}, then they expire", span(expire), size(limit)));
            }
            None => line.push_str(&format!(", for ever in {}: of each topic only the newest waits", size(limit))),
        }
        let mut unknown: Vec<&str> = demand.unknown.iter().map(|index| &*self.published[*index].device).collect();
        unknown.dedup();
        if !unknown.is_empty() {
            let more = if unknown.len() > MAX_NAMED { " and others" } else { "" };
            unknown.truncate(MAX_NAMED);
            line.push_str(&format!("; without {}{more}, whose pace is not known", unknown.join(", ")));
        }
        Some(line)
    }

    /// What the queues share that have no limit of their own.
    fn sharing(&self) -> Vec<Demand> {
        // In memory each has the limit for itself.
        let shares = |bridge: &Plan| bridge.queue_bytes.is_none() && self.storage.disk.is_some();
        self.bridges
            .iter()
            .zip(&self.demands)
            .filter(|(bridge, demand)| shares(bridge) && demand.per_second > 0.0)
            .map(|(_, demand)| demand.clone())
            .collect()
    }

    fn lasts_sharing(&self, bridge: &Plan, demand: &Demand) -> Option<Duration> {
        if bridge.queue_bytes.is_some() || self.storage.disk.is_none() {
            return None;
        }
        demand.lasts_sharing(self.storage.limit, &self.sharing())
    }

    /// What is lost on a route, though nothing of it is wrong.
    pub(super) fn hint(&self, bridge: &Plan, route: &PlannedRoute) -> Option<&'static str> {
        let takes = |published: &&Published| {
            let out = way(bridge, published.topic.as_str()).out;
            out.is_some_and(|(taken, _)| std::ptr::eq(taken, route))
        };
        let is_lost = bridge.version == Version::V311
            && self.published.iter().filter(takes).any(|published| !tells_time(&route.payload, &published.format));
        is_lost.then_some("the time of readings is lost: MQTT 3.1.1 has no place for it; `payload: json` keeps it")
    }
}

/// Whether the payload that `route` makes of one in `format` tells the time of the reading.
pub(super) fn tells_time(route: &HopPayload, format: &PayloadFormat) -> bool {
    match (route, format) {
        (HopPayload::Json, _) | (HopPayload::AsPublished, PayloadFormat::Json) => true,
        (HopPayload::AsPublished | HopPayload::Plain, PayloadFormat::Object) => true,
        (HopPayload::Template(template), _) => template.tells_time(),
        (HopPayload::AsPublished, PayloadFormat::Template(template)) => template.tells_time(),
        (HopPayload::AsPublished | HopPayload::Plain, _) => false,
    }
}

fn load(published: &Published) -> Load<'_> {
    let (per_second, is_at_most) = match published.pace {
        Pace::Every(every) => (Some(1.0 / every.as_secs_f64()), false),
        Pace::AtMostEvery(every) => (Some(1.0 / every.as_secs_f64()), true),
        Pace::Unknown => (None, false),
    };
    Load {
        topic: published.topic.as_str(),
        per_second,
        is_at_most,
        qos: published.qos,
        payload_bytes: published.payload_bytes,
    }
}

/// `12 msg/s`; rare ones by the minute, the hour or the day.
fn pace(per_second: f64) -> String {
    let units = [(1.0, "s"), (60.0, "min"), (3600.0, "h")];
    let unit = units.into_iter().find(|(seconds, _)| per_second * seconds >= 0.995);
    let (seconds, unit) = unit.unwrap_or((86_400.0, "d"));
    format!("{} msg/{unit}", short(per_second * seconds))
}

/// With one digit behind the point where that says something.
fn short(number: f64) -> String {
    let text = if number < 9.95 { format!("{number:.1}") } else { format!("{number:.0}") };
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// `48 h`, in the largest unit of which there are two at least; what is begun does not count.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        // Two days are 48 hours.
        7_200..345_600 => format!("{} h", seconds / 3600),
        345_600..63_072_000 => format!("{} d", seconds / 86_400),
        _ => format!("{} years", seconds / 31_536_000),
    }
}

/// `512MB`.
pub(super) fn size(bytes: u64) -> String {
    const KB: u64 = 1024;
    match bytes {
        0..KB => format!("{bytes}B"),
        _ if bytes < KB * KB => format!("{}KB", bytes / KB),
        _ if bytes < 10 * KB * KB * KB || !bytes.is_multiple_of(KB * KB * KB) => format!("{}MB", bytes / KB / KB),
        _ => format!("{}GB", bytes / KB / KB / KB),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_said_as_people_say_them() {
        let paces = [12.4, 4.0, 4.25, 0.2, 1.0 / 60.0, 1.0 / 900.0, 1.0 / 86_400.0].map(pace);
        assert_eq!(paces, ["12 msg/s", "4 msg/s", "4.2 msg/s", "12 msg/min", "1 msg/min", "4 msg/h", "1 msg/d"]);
        let spans = [0, 119, 120, 7_199, 172_800, 345_599, 345_600, 63_072_000];
        let said = spans.map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(said, ["0 ms", "119 s", "2 min", "119 min", "48 h", "95 h", "4 d", "2 years"]);
        let sizes = [100, 2048, 128 << 20, 1 << 30, 512 << 30].map(size);
        assert_eq!(sizes, ["100B", "2KB", "128MB", "1024MB", "512GB"]);
    }
}
