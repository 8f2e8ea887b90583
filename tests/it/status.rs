//! What a bridge tells of itself: `{gateway}/bridges/NAME/status`, retained.

use super::support::edgeway::Edgeway;
use super::support::mosquitto::{Mosquitto, Subscriber, mosquitto_pub, mosquitto_sub};
use serde_json::Value as Json;

/// The next status in which `wanted`.
fn until(status: &Subscriber, what: &str, wanted: impl Fn(&Json) -> bool) -> Json {
    let line = status.take(what, |line| wanted(&serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))));
    serde_json::from_str(&line).unwrap()
}

#[test]
fn a_bridge_tells_each_change_of_its_state_and_its_own_routes_leave_it_out() {
    let mut cloud = Mosquitto::start();
    let other = Mosquitto::start();
    let bridges = |cloud: &Mosquitto, other: &Mosquitto| {
        format!(
            r##"
gateway: {{ name: edge }}
broker: {{ listen: "mqtt://127.0.0.1:@PORT@" }}
storage: {{ path: "@DIR@/store" }}
bridges:
  cloud:
    url: "mqtt://127.0.0.1:{}"
    send: [ {{ from: "#", to: "site/#", qos: 1 }} ]
  other:
    url: "mqtt://127.0.0.1:{}"
    mqtt: 3.1.1
    send: [ {{ from: "edge/bridges/#", qos: 1 }} ]
"##,
            cloud.port, other.port
        )
    };
    let mut gateway = Edgeway::start(&bridges(&cloud, &other));
    let at_other = mosquitto_sub(other.port, &["-t", "#", "-q", "1", "-F", "%t"]);
    let of_cloud = mosquitto_sub(gateway.port, &["-t", "edge/bridges/cloud/status", "-q", "1"]);
    let is = |state: &'static str| move |status: &Json| status["state"] == state;
    let connected = until(&of_cloud, "connected", is("connected"));
    assert_eq!(connected["server"], format!("mqtt://127.0.0.1:{}", cloud.port));
    assert_eq!(
        (&connected["version"], &connected["connects"], &connected["full"]),
        (&"5.0".into(), &1.into(), &false.into())
    );
    assert!(connected.get("last_error").is_none() && connected.get("next_attempt").is_none(), "{connected}");

    let at_cloud = mosquitto_sub(cloud.port, &["-t", "#", "-q", "1", "-F", "%t"]);
    mosquitto_pub(gateway.port, &["-t", "x", "-m", "1", "-q", "1"]);
    at_cloud.until("site/x");
    let seen = at_cloud.rest();
    assert!(seen.iter().all(|topic| topic != "site/edge/bridges/cloud/status"), "{seen:?}");
    assert_eq!(
        at_other.take("the other bridge sends it on", |line| line.contains("cloud")),
        "edge/bridges/cloud/status"
    );
    assert!(at_other.rest().iter().all(|topic| topic != "edge/bridges/other/status"));

    cloud.kill();
    let waiting = until(&of_cloud, "why there is no link, and when it is tried again", |status| {
        status["state"] == "waiting" && status.get("next_attempt").is_some()
    });
    assert!(waiting["next_attempt"].as_u64().unwrap() <= 60, "{waiting}");
    assert!(!waiting["last_error"].as_str().unwrap().is_empty());
    cloud.start_again();
    assert_eq!(until(&of_cloud, "connected again", is("connected"))["connects"], 2);

    let (status, _) = gateway.terminate();
    assert!(status.success());
    gateway.start_again();
    let of_cloud = mosquitto_sub(gateway.port, &["-t", "edge/bridges/cloud/status", "-q", "1"]);
    assert_eq!(until(&of_cloud, "connected after the restart", is("connected"))["connects"], 1);
}

#[test]
fn a_refusal_is_told_as_one() {
    let cloud = Mosquitto::start_with(&super::support::mosquitto::Options {
        lines: vec!["allow_anonymous false".into()],
        ..Default::default()
    });
    let gateway = Edgeway::start(&format!(
        r##"
gateway: {{ name: edge }}
broker: {{ listen: "mqtt://127.0.0.1:@PORT@", sys_interval: 1s }}
bridges:
  cloud: {{ url: "mqtt://127.0.0.1:{}", send: [ {{ from: "x", qos: 1 }} ] }}
"##,
        cloud.port
    ));
    let status = mosquitto_sub(gateway.port, &["-t", "edge/bridges/cloud/status", "-q", "1"]);
    let told = until(&status, "refused", |status| status["state"] == "refused");
    let error = "the server refused: not authorized (0x87)";
    assert!(told["last_error"].as_str().unwrap().starts_with(error), "{told}");
    assert!(told["next_attempt"].as_u64().is_some(), "{told}");
    mosquitto_pub(gateway.port, &["-t", "x", "-m", "12345", "-q", "1"]);
    let sys = mosquitto_sub(gateway.port, &["-t", "$SYS/gateway/bridges/cloud/#", "-F", "%t %p"]);
    sys.until("$SYS/gateway/bridges/cloud/queued 1");
    sys.take("the age of what waits", |line| {
        line.strip_prefix("$SYS/gateway/bridges/cloud/oldest_age ").is_some_and(|age| age.parse::<u64>().unwrap() >= 1)
    });
}
