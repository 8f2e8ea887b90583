//! Whether the scripted upstream itself does as it is told, so that a failing test speaks about the gateway.

use super::{Behaviour, Event, Upstream};
use crate::support::mosquitto::mosquitto_pub;
use edgeway::mqtt::QoS;

#[test]
fn it_records_what_a_bridge_sends_and_acknowledges_each_once() {
    let upstream = Upstream::start([Behaviour::good()]);
    let gateway = upstream.gateway("keep_alive: 7s\nsend: [ { from: \"x/#\", to: \"y/#\", max_qos: 2 } ]");
    for (payload, qos) in [("a", "0"), ("b", "1"), ("c", "2")] {
        mosquitto_pub(gateway.port, &["-t", "x/z", "-m", payload, "-q", qos]);
        upstream.until("the message", |record| record.payloads("y/z").last().is_some_and(|last| last == payload));
    }
    let record = upstream.until("PUBCOMP", |record| record.count(|event| matches!(event, Event::Release(_))) == 1);
    assert_eq!(record.payloads("y/z"), ["a", "b", "c"]);
    assert_eq!(record.taken().iter().map(|taken| taken.qos as u8).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(record.taken()[2].qos, QoS::ExactlyOnce);
    let arrival = record.arrivals()[0];
    assert_eq!((arrival.client_id.as_str(), arrival.keep_alive, arrival.clean_start), ("edge-cloud", 7, false));
    assert!(record.violations().is_empty());
}
