//! How long a bridge's queue lasts while the link is down, as far as the configuration tells it. Pure.

use std::time::Duration;

use super::plan::Plan;
use super::way::way;
use crate::broker::lanes::LaneKind;
use crate::mqtt::{Message, QoS};

/// Messages that come regularly on one topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Load<'a> {
    /// Where they are published.
    pub topic: &'a str,
    /// How often, at most; `None` where that is not known.
    pub per_second: Option<f64>,
    /// Whether fewer may come.
    pub is_at_most: bool,
    /// The QoS with which they are published.
    pub qos: QoS,
    /// About the bytes of a payload.
    pub payload_bytes: usize,
}

/// What a bridge has to keep while its link is down.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Demand {
    /// Messages that it sends.
    pub per_second: f64,
    /// Bytes by which its queue grows: of each message its topic, its payload and what the queue notes of it.
    pub bytes_per_second: f64,
    /// Bytes of which it keeps the newest only.
    pub constant_bytes: f64,
    /// Whether it may be less.
    pub is_at_most: bool,
    /// Indexes of the loads that come on top: nobody knows how often.
    pub unknown: Vec<usize>,
}

/// What the bridge of `plan` has to keep of `loads`. What goes at QoS 0 is not kept.
pub fn demand(plan: &Plan, loads: &[Load<'_>]) -> Demand {
    let mut demand = Demand::default();
    for (index, load) in loads.iter().enumerate() {
        let Some((route, _)) = way(plan, load.topic).out else {
            continue;
        };
        if route.qos.of(load.qos) == QoS::AtMostOnce {
            continue;
        }
        let Some(per_second) = load.per_second else {
            demand.unknown.push(index);
            continue;
        };
        let bytes = (load.topic.len() + load.payload_bytes + size_of::<Message>()) as f64;
        demand.is_at_most |= load.is_at_most;
        let lane = usize::from(route.lane).checked_sub(1).and_then(|lane| plan.lanes.get(lane));
        match lane.map(|lane| lane.kind) {
            Some(LaneKind::Newest { every }) => {
                demand.per_second += per_second.min(1000.0 / every.max(1) as f64);
                demand.constant_bytes += bytes;
            }
            _ => {
                demand.per_second += per_second;
                demand.bytes_per_second += per_second * bytes;
            }
        }
    }
    demand
}

impl Demand {
    /// How long `bytes` last; `None` is for ever.
    pub fn lasts(&self, bytes: u64) -> Option<Duration> {
        seconds((bytes as f64 - self.constant_bytes).max(0.0) / self.bytes_per_second)
    }

    /// How long a bridge lasts that shares `bytes` with all of `sharing`, itself among them, while all of them wait: a
    /// queue below its fair share keeps all; one above it has to drop where all together are beyond the limit.
    pub fn lasts_sharing(&self, bytes: u64, sharing: &[Self]) -> Option<Duration> {
        let all = sharing.iter().fold(Self::default(), |sum, demand| Self {
            bytes_per_second: sum.bytes_per_second + demand.bytes_per_second,
            constant_bytes: sum.constant_bytes + demand.constant_bytes,
            ..sum
        });
        let own = self.lasts(bytes / sharing.len().max(1) as u64)?;
        // Together they need more than it does alone, so that is a time where its own is one.
        all.lasts(bytes).map(|together| together.max(own))
    }
}

fn seconds(seconds: f64) -> Option<Duration> {
    (seconds.is_finite() && seconds < 1e12).then(|| Duration::from_secs_f64(seconds.max(0.0)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::bridge::settings::Settings;
    use crate::settings::Located;

    fn plan(send: &serde_json::Value) -> Plan {
        let settings: Settings = serde_json::from_value(json!({ "url": ["mqtt://c"], "send": send })).unwrap();
        settings.resolve("edge", &Located::nowhere("cloud".into()), Path::new("")).unwrap()
    }

    fn load(topic: &str, per_second: f64) -> Load<'_> {
        let qos = QoS::AtLeastOnce;
        Load { topic, per_second: Some(per_second), is_at_most: false, qos, payload_bytes: 20 }
    }

    const OVERHEAD: f64 = size_of::<Message>() as f64;

    #[test]
    fn what_the_routes_take_at_qos_1_and_2_is_kept() {
        let plan = plan(&json!([
            { "from": "edge/fast/+", "to": "f/+", "every": "10s", "qos": 1 },
            { "from": "edge/live/#", "qos": 0 },
            { "from": "edge/#", "except": ["edge/secret/#"] },
        ]));
        let mut loads = vec![
            load("edge/fast/x", 50.0),
            load("edge/live/x", 100.0),
            load("edge/secret/x", 100.0),
            load("other/x", 100.0),
            load("edge/a/b", 4.0),
        ];
        let kept = demand(&plan, &loads);
        assert!((kept.per_second - 4.1).abs() < 1e-9, "{kept:?}");
        assert!((kept.bytes_per_second - 4.0 * (28.0 + OVERHEAD)).abs() < 1e-9, "{kept:?}");
        assert!((kept.constant_bytes - (31.0 + OVERHEAD)).abs() < 1e-9, "{kept:?}");
        assert_eq!((kept.is_at_most, kept.unknown), (false, Vec::new()));
        loads[4].is_at_most = true;
        loads.push(Load { per_second: None, ..load("edge/hook/x", 0.0) });
        // Without a QoS of its own a route keeps nothing of what was published at QoS 0.
        loads.push(Load { qos: QoS::AtMostOnce, ..load("edge/zero/x", 7.0) });
        let kept = demand(&plan, &loads);
        assert!(kept.is_at_most && (kept.per_second - 4.1).abs() < 1e-9, "{kept:?}");
        assert_eq!(kept.unknown, [5]);
    }

    #[test]
    fn a_shared_limit_lasts_as_long_as_the_fair_share_of_each() {
        let of = |bytes_per_second| Demand { bytes_per_second, ..Demand::default() };
        let (slow, fast) = (of(1.0), of(9.0));
        let all = [slow.clone(), fast.clone()];
        let lasts = |demand: &Demand| demand.lasts_sharing(1000, &all).map(|time| time.as_secs());
        assert_eq!(fast.lasts(1000), Some(Duration::from_secs_f64(1000.0 / 9.0)));
        // All is full after 100 s; then the fast one drops, until the slow one has its half.
        assert_eq!((lasts(&fast), lasts(&slow)), (Some(100), Some(500)));
        assert_eq!(of(0.0).lasts(1000), None);
        let constant = Demand { constant_bytes: 400.0, ..of(1.0) };
        assert_eq!(constant.lasts(1000), Some(Duration::from_secs(600)));
        assert_eq!(constant.lasts(300), Some(Duration::ZERO));
    }
}
