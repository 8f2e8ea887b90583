//! What bridges make of payloads when they are sent, and the time of readings.

use super::support::edgeway::Edgeway;
use super::support::http::post;
use super::support::mosquitto::{Mosquitto, Subscriber, mosquitto_pub, mosquitto_sub};
use super::support::ports::free_port;

/// A gateway whose device `plc` posts its points, with their own time; its bridges send all to folders of their own.
fn start(cloud: &Mosquitto, hooks: u16, payload: &str, storage: &str) -> Edgeway {
    let url = format!("mqtt://127.0.0.1:{}", cloud.port);
    Edgeway::start(&format!(
        r##"
gateway: {{ name: edge, payload: {payload}, clock: trusted }}
broker: {{ listen: "mqtt://127.0.0.1:@PORT@" }}
webhooks: {{ listen: "127.0.0.1:{hooks}" }}
{storage}
http:
  plc:
    webhook: /plc
    time: $.time
    points: {{ level: {{ path: $.level, unit: m }}, state: {{ path: $.state }} }}
bridges:
  json: {{ url: "{url}", send: [ {{ from: "edge/plc/+", to: "json/+", qos: 1, payload: json }}, {{ from: "foreign/+", to: "json/+", qos: 1, payload: json }} ] }}
  plain: {{ url: "{url}", send: [ {{ from: "edge/plc/+", to: "plain/+", qos: 1, payload: plain }} ] }}
  same: {{ url: "{url}", mqtt: 3.1.1, send: [ {{ from: "edge/plc/+", to: "same/+", qos: 1 }} ] }}
  own:
    url: "{url}"
    send:
      - {{ from: "edge/plc/level", to: "own/level", qos: 2, payload: '{{"v": {{value}}, "at": {{time_ms}}, "by": "{{bridge}}/{{device}}"}}' }}
      - {{ from: "edge/plc/state", to: "own/state", qos: 1, payload: "{{value}};{{unit}};{{time}}" }}
"##
    ))
}

const POSTED: &str = r#"{"time": "2026-10-01T12:00:00.250Z", "level": 2.5, "state": "on \"1\""}"#;
const POSTED_LATER: &str = r#"{"time": "2026-10-01T12:00:01.250Z", "level": null, "state": "007"}"#;

fn post_to(hooks: u16, body: &str) {
    assert_eq!(post(hooks, "/plc", "Content-Type: application/json\r\n", body), 204);
}

/// A line of `seen` that `wanted` accepts, without the mark of the gateway that it has passed.
fn take(seen: &Subscriber, what: &str, wanted: impl Fn(&str) -> bool) -> String {
    unmarked(&seen.take(what, |line| wanted(&unmarked(line))))
}

fn until(seen: &Subscriber, expected: &str) {
    take(seen, expected, |line| line == expected);
}

fn unmarked(line: &str) -> String {
    let Some((message, properties)) = line.rsplit_once(" [") else {
        return line.to_owned();
    };
    let others: Vec<&str> =
        properties.trim_end_matches(']').split(' ').filter(|pair| !pair.starts_with("via:")).collect();
    format!("{message} [{}]", others.join(" "))
}

/// In whatever form the gateway itself publishes.
fn each_route_makes_its_own(payload: &str, same: &[&str]) {
    let cloud = Mosquitto::start();
    let seen = mosquitto_sub(cloud.port, &["-V", "5", "-t", "#", "-q", "2", "-F", "%t %q %p [%P]"]);
    let hooks = free_port();
    let gateway = start(&cloud, hooks, payload, "");
    // A status is no reading: it came at some time.
    let status = take(&seen, "a status", |line| line.starts_with("json/status 1 {"));
    assert!(
        status.contains(r#""value":"offline","time":"20"#) && status.ends_with(r#"Z","quality":"good"} []"#),
        "{status}"
    );
    post_to(hooks, POSTED);
    post_to(hooks, POSTED_LATER);
    let expected = [
        r#"json/level 1 {"topic":"edge/plc/level","value":2.5,"unit":"m","time":"2026-10-01T12:00:00.250Z","quality":"good"} []"#,
        r#"json/state 1 {"topic":"edge/plc/state","value":"on \"1\"","time":"2026-10-01T12:00:00.250Z","quality":"good"} []"#,
        r#"json/state 1 {"topic":"edge/plc/state","value":"007","time":"2026-10-01T12:00:01.250Z","quality":"good"} []"#,
        r#"plain/level 1 2.5 [time:2026-10-01T12:00:00.250Z]"#,
        r#"plain/state 1 on "1" [time:2026-10-01T12:00:00.250Z]"#,
        r#"plain/state 1 007 [time:2026-10-01T12:00:01.250Z]"#,
        r#"own/level 2 {"v": 2.5, "at": 1790856000250, "by": "own/plc"} []"#,
        r#"own/state 1 on "1";;2026-10-01T12:00:00.250Z []"#,
        r#"own/state 1 007;;2026-10-01T12:00:01.250Z []"#,
    ];
    for line in expected.iter().chain(same) {
        until(&seen, line);
    }
    if payload == "json" {
        // An unavailable value has no text.
        until(
            &seen,
            r#"json/level 1 {"topic":"edge/plc/level","value":null,"unit":"m","time":"2026-10-01T12:00:01.250Z","quality":"bad"} []"#,
        );
        until(&seen, r#"own/level 2 {"v": null, "at": 1790856001250, "by": "own/plc"} []"#);
    }
    // Of a foreign client: JSON stays JSON, with all its digits, text is quoted, and a deletion deletes.
    for (message, value) in [("1e400", "1e400"), ("230.10", "230.10"), ("on", r#""on""#), (" [1.0] ", "[1.0]")] {
        mosquitto_pub(gateway.port, &["-t", "foreign/x", "-m", message]);
        let line = take(&seen, message, |line| line.starts_with("json/x 1 {"));
        let begin = format!(r#"json/x 1 {{"topic":"foreign/x","value":{value},"time":"20"#);
        assert!(line.starts_with(&begin) && line.ends_with(r#"Z","quality":"good"} []"#), "{line}");
    }
    mosquitto_pub(gateway.port, &["-t", "foreign/x", "-n", "-r"]);
    until(&seen, "json/x 1  []");
    let readings = |line: &String| ["/level ", "/state "].iter().any(|point| line.contains(point));
    assert_eq!(seen.rest().into_iter().filter(readings).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn each_route_makes_its_own_payload_of_plain_readings() {
    let same = [r#"same/level 1 2.5 []"#, r#"same/state 1 on "1" []"#, "same/state 1 007 []"];
    each_route_makes_its_own("plain", &same);
}

#[test]
fn each_route_makes_its_own_payload_of_readings_that_are_json_already() {
    let same = [
        r#"same/level 1 {"topic":"edge/plc/level","value":2.5,"unit":"m","time":"2026-10-01T12:00:00.250Z","quality":"good"} []"#,
        r#"same/level 1 {"topic":"edge/plc/level","value":null,"unit":"m","time":"2026-10-01T12:00:01.250Z","quality":"bad"} []"#,
        r#"same/state 1 {"topic":"edge/plc/state","value":"on \"1\"","time":"2026-10-01T12:00:00.250Z","quality":"good"} []"#,
        r#"same/state 1 {"topic":"edge/plc/state","value":"007","time":"2026-10-01T12:00:01.250Z","quality":"good"} []"#,
    ];
    each_route_makes_its_own("json", &same);
}

#[test]
fn the_time_of_a_reading_and_its_form_are_kept_through_an_outage_and_a_restart() {
    let mut cloud = Mosquitto::start();
    let hooks = free_port();
    let mut gateway = start(&cloud, hooks, "json", "storage: { path: \"@DIR@/journal\" }");
    let seen = mosquitto_sub(cloud.port, &["-t", "#", "-q", "1", "-F", "%t"]);
    seen.until("json/status");
    cloud.kill();
    post_to(hooks, POSTED);
    assert!(gateway.terminate().0.success());
    cloud.start_again();
    let seen = mosquitto_sub(cloud.port, &["-V", "5", "-t", "#", "-q", "2", "-F", "%t %q %p [%P]"]);
    gateway.start_again();
    until(
        &seen,
        r#"json/level 1 {"topic":"edge/plc/level","value":2.5,"unit":"m","time":"2026-10-01T12:00:00.250Z","quality":"good"} []"#,
    );
    until(&seen, r#"plain/state 1 on "1" [time:2026-10-01T12:00:00.250Z]"#);
    until(&seen, r#"own/state 1 on "1";;2026-10-01T12:00:00.250Z []"#);
}
