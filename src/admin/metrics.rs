//! All numbers of the gateway, by the names of Prometheus' conventions.

use super::Admin;
use super::exposition::{Exposition, Kind};
use crate::broker::sys_topics::{held, memory};
use crate::health::{Backlog, Level};
use crate::metrics::Tally;
use crate::store::{Figures, Statistics};

/// All numbers, as they are now.
pub fn render(admin: &Admin) -> String {
    let mut text = Exposition::default();
    let mut version = text.family(Kind::Gauge, "edgeway_info", "The version that runs.");
    version.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.gauge("edgeway_uptime_seconds", "Since the gateway was started.", admin.started.elapsed().as_secs());
    if let Some(memory) = memory::of_this_process() {
        text.gauge("process_resident_memory_bytes", "Memory that the process has in RAM.", memory.current);
    }
    let level = admin.health.verdict().level();
    text.gauge("edgeway_healthy", "1, or 0 while /healthz answers 503.", u8::from(level != Level::Failed));
    broker(admin, &mut text);
    bridges(admin, &mut text);
    devices(admin, &mut text);
    let durable = u8::from(admin.statistics.is_some());
    text.gauge("edgeway_store_durable", "1 where the journal is on disk, 0 where all is in memory.", durable);
    if let Some(statistics) = &admin.statistics {
        store(statistics, &mut text);
    }
    text.finish()
}

fn broker(admin: &Admin, text: &mut Exposition) {
    let broker = &admin.broker;
    let metrics = &broker.metrics;
    let flows = [("received", metrics.received.total()), ("sent", metrics.sent.total())];
    let mut both = |name, help, value: fn(&Tally) -> u64| {
        let mut family = text.family(Kind::Counter, name, help);
        for (direction, tally) in &flows {
            family.sample(&[("direction", direction)], value(tally));
        }
    };
    both("edgeway_mqtt_bytes_total", "Bytes of MQTT, within TLS and WebSocket.", |tally| tally.bytes);
    both("edgeway_mqtt_packets_total", "MQTT packets of all kinds.", Tally::packets);
    both("edgeway_publishes_total", "PUBLISH packets.", |tally| tally.publishes);
    both("edgeway_publish_payload_bytes_total", "Bytes of their payloads.", |tally| tally.payload_bytes);

    text.counter("edgeway_connections_total", "Connections accepted.", metrics.connections.value());
    text.counter("edgeway_connects_total", "CONNECT packets received.", metrics.connects.value());
    text.gauge("edgeway_clients_connected", "Clients connected.", metrics.clients.value());
    text.gauge("edgeway_clients_connected_maximum", "The most at a time.", metrics.clients.highest());
    text.gauge("edgeway_sessions", "Sessions of clients, connected or not.", broker.session_count());
    let expired = metrics.expired_sessions.value();
    text.counter("edgeway_sessions_expired_total", "Sessions that nobody came back to in time.", expired);
    for (name, help, value) in [
        ("edgeway_messages_local_total", "Messages of adapters and of the broker itself.", metrics.local.value()),
        ("edgeway_messages_dropped_total", "Messages dropped by full queues.", metrics.dropped.value()),
        ("edgeway_messages_expired_total", "Messages that expired in a queue.", metrics.expired.value()),
        ("edgeway_messages_too_large_total", "Messages larger than their receiver takes.", metrics.too_large.value()),
        ("edgeway_messages_looped_total", "Messages that came back in a loop of bridges.", metrics.looped.value()),
        ("edgeway_messages_refused_total", "Messages of clients that may not publish them.", metrics.refused.value()),
        ("edgeway_qos2_resent_total", "QoS 2 messages sent anew to a peer that lost us.", metrics.qos2_resent.value()),
    ] {
        text.counter(name, help, value);
    }
    let held = held(broker, &admin.health);
    text.gauge("edgeway_retained_messages", "Topics with a retained message.", broker.router.retained_count());
    text.gauge("edgeway_retained_bytes", "Bytes of retained messages.", broker.router.retained_bytes());
    text.gauge("edgeway_held_messages", "Messages that wait or are in flight, in all sessions.", held.messages);
    text.gauge("edgeway_held_bytes", "Their bytes.", held.bytes);
    text.gauge("edgeway_inflight_messages", "Of these, sent and not yet acknowledged.", held.in_flight);
    let mut subscriptions = text.family(Kind::Gauge, "edgeway_subscriptions", "Subscriptions of all sessions.");
    subscriptions.sample(&[("shared", "false")], held.subscriptions);
    subscriptions.sample(&[("shared", "true")], held.shared_subscriptions);
}

fn bridges(admin: &Admin, text: &mut Exposition) {
    let bridges: Vec<_> = admin.health.bridges().into_iter().map(|bridge| (bridge.backlog(), bridge)).collect();
    if bridges.is_empty() {
        return;
    }
    let mut family = text.family(Kind::Gauge, "edgeway_bridge_connected", "1 while the bridge has its link.");
    for (_, bridge) in &bridges {
        family.sample(&[("bridge", bridge.name())], u8::from(bridge.is_connected()));
    }
    let mut family = text.family(Kind::Counter, "edgeway_bridge_connects_total", "Times that its link came to stand.");
    for (_, bridge) in &bridges {
        family.sample(&[("bridge", bridge.name())], bridge.connects());
    }
    let mut each = |kind, name, help, value: fn(&Backlog) -> u64| {
        let mut family = text.family(kind, name, help);
        for (backlog, bridge) in &bridges {
            family.sample(&[("bridge", bridge.name())], value(backlog));
        }
    };
    let help = "PUBLISH packets sent to its server.";
    each(Kind::Counter, "edgeway_bridge_sent_messages_total", help, |backlog| backlog.sent);
    let help = "PUBLISH packets that came from there.";
    each(Kind::Counter, "edgeway_bridge_received_messages_total", help, |backlog| backlog.received);
    each(Kind::Gauge, "edgeway_bridge_queued_messages", "Messages that wait for it.", |backlog| backlog.queued);
    each(Kind::Gauge, "edgeway_bridge_queued_bytes", "Their bytes.", |backlog| backlog.queued_bytes);
    let help = "How long the oldest of them waits.";
    each(Kind::Gauge, "edgeway_bridge_oldest_age_seconds", help, Backlog::oldest_age);
    each(Kind::Gauge, "edgeway_bridge_inflight_messages", "Sent, not acknowledged.", |backlog| backlog.in_flight);
    each(Kind::Gauge, "edgeway_bridge_queue_full", "1 while its queue is full.", |backlog| backlog.is_full.into());
    let help = "Messages that its full queue has dropped.";
    each(Kind::Counter, "edgeway_bridge_dropped_messages_total", help, |backlog| backlog.dropped);
    let help = "Messages that expired while they waited for it.";
    each(Kind::Counter, "edgeway_bridge_expired_messages_total", help, |backlog| backlog.expired);
    let help = "Messages that were sent to its server again.";
    each(Kind::Counter, "edgeway_bridge_resent_messages_total", help, |backlog| backlog.resent);
    let help = "QoS 2 messages sent anew to a server that had lost the session.";
    each(Kind::Counter, "edgeway_bridge_qos2_resent_total", help, |backlog| backlog.qos2_resent);
    let help = "QoS 2 messages that its server took at QoS 1.";
    each(Kind::Counter, "edgeway_bridge_qos2_downgraded_total", help, |backlog| backlog.qos2_downgraded);
    let help = "Messages that stand aside: its server does not take them.";
    each(Kind::Gauge, "edgeway_bridge_set_aside_messages", help, |backlog| backlog.set_aside);
}

fn devices(admin: &Admin, text: &mut Exposition) {
    let devices = admin.health.devices();
    if devices.is_empty() {
        return;
    }
    let mut family = text.family(Kind::Gauge, "edgeway_device_online", "1 while the device answers.");
    for device in &devices {
        family.sample(&[("device", device.name())], u8::from(device.is_online()));
    }
    let mut family = text.family(Kind::Counter, "edgeway_device_readings_total", "Readings published.");
    for device in &devices {
        family.sample(&[("device", device.name())], device.readings());
    }
    let mut family = text.family(Kind::Counter, "edgeway_device_errors_total", "Times that reading it failed.");
    for device in &devices {
        family.sample(&[("device", device.name())], device.errors());
    }
}

fn store(statistics: &Statistics, text: &mut Exposition) {
    let figures = statistics.figures();
    let Figures { records, commits, failures, bytes, device_bytes, moved_bytes, messages_read, .. } = figures;
    for (name, help, value) in [
        ("edgeway_store_records_total", "Records appended to the journal.", records),
        ("edgeway_store_commits_total", "Commits that the disk has confirmed.", commits),
        ("edgeway_store_commit_failures_total", "Tries to commit that failed.", failures),
        ("edgeway_store_written_bytes_total", "Bytes written to the journal.", bytes),
        ("edgeway_store_device_written_bytes_total", "Bytes of the 4 KiB pages that these touched.", device_bytes),
        ("edgeway_store_moved_bytes_total", "Bytes of living messages written again to free a segment.", moved_bytes),
        ("edgeway_store_messages_read_total", "Messages of long queues read back from the journal.", messages_read),
    ] {
        text.counter(name, help, value);
    }
    let found = statistics.found();
    for (name, help, value) in [
        ("edgeway_store_failed", "1 while nothing can be committed.", u64::from(statistics.failure().is_some())),
        ("edgeway_store_device_bytes_per_day", "Of the last 24 hours, or the rate so far.", figures.day.device_bytes),
        ("edgeway_store_segments", "Files of the journal.", figures.segments),
        ("edgeway_store_disk_bytes", "Bytes that they take.", figures.disk_bytes),
        ("edgeway_store_alive_bytes", "Bytes in them that are still needed.", figures.alive_bytes),
        (
            "edgeway_store_damaged_places",
            "Places that could not be read at the start.",
            found.map_or(0, |found| found.damage.len() as u64),
        ),
        ("edgeway_store_lost_messages", "Messages that they held.", found.map_or(0, |found| found.lost_messages)),
    ] {
        text.gauge(name, help, value);
    }
    let (last, longest) = (figures.last_commit.as_secs_f64(), figures.longest_commit.as_secs_f64());
    text.gauge("edgeway_store_commit_last_seconds", "How long the last commit took.", last);
    text.gauge("edgeway_store_commit_longest_seconds", "How long the longest took.", longest);
}
