//! How the gateway is as a whole, and what the journal does to the disk.

use super::{Held, Values};
use crate::health::{HealthTable, Level};
use crate::store::{Day, Figures, Statistics};

/// Whether all is well, and what is not: told at once.
pub(super) fn tell_state(health: &HealthTable, is_durable: bool, values: &mut Values) {
    let verdict = health.verdict();
    values.tell("$SYS/gateway/health/state", &verdict.level());
    if verdict.level() > Level::Ok {
        let reasons = [verdict.failures, verdict.warnings].concat();
        values.tell("$SYS/gateway/health/reasons", &reasons.join("; "));
    }
    let failure = health.store().failure();
    let state = match &failure {
        Some(_) => "failed",
        None if is_durable => "ok",
        None => "in_memory",
    };
    values.tell("$SYS/gateway/store/state", &state);
    if let Some(error) = failure {
        values.tell("$SYS/gateway/store/error", &error);
    }
}

/// The journal's numbers, and what it keeps for whom.
pub(super) fn tell_figures(statistics: &Statistics, held: &Held, values: &mut Values) {
    let figures = statistics.figures();
    let Figures { records, commits, failures, bytes, device_bytes, moved_bytes, messages_read, .. } = figures;
    let Day { device_bytes: of_a_day, is_extrapolated } = figures.day;
    let (damage, lost_messages) =
        statistics.found().map_or((0, 0), |found| (found.damage.len() as u64, found.lost_messages));
    for (key, value) in [
        ("records", records),
        ("commits", commits),
        ("commits/failed", failures),
        ("commits/last_ms", figures.last_commit.as_millis() as u64),
        ("commits/longest_ms", figures.longest_commit.as_millis() as u64),
        ("bytes/written", bytes),
        ("bytes/device", device_bytes),
        ("bytes/day", of_a_day),
        ("bytes/day_estimated", is_extrapolated.into()),
        ("bytes/moved", moved_bytes),
        ("bytes/disk", figures.disk_bytes),
        ("bytes/alive", figures.alive_bytes),
        ("segments", figures.segments),
        ("read_back", messages_read),
        ("damaged_places", damage),
        ("lost_messages", lost_messages),
        ("queued", held.messages),
        ("queued_bytes", held.bytes),
    ] {
        values.tell(&format!("$SYS/gateway/store/{key}"), &value);
    }
}
