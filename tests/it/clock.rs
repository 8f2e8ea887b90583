//! A box without a clock battery: it starts in 1970, and later a time server sets its clock by more than fifty years.

use crate::support::edgeway::Edgeway;
use crate::support::http::post;
use crate::support::mosquitto::{mosquitto_pub, mosquitto_sub};
use crate::support::mqtt_client::MqttClient;
use crate::support::ports::free_port;
use crate::support::wall::Wall;
use serde_json::{Value, json};

const YEAR: i64 = 31_557_600;
/// What the clock of such a box says, in seconds, when it was just switched on.
const JUST_ON: i64 = 5;

fn configuration(hooks: u16, clock: &str, storage: &str) -> String {
    format!(
        r#"
gateway: {{ name: edge, payload: json, clock: {clock} }}
broker: {{ listen: "mqtt://127.0.0.1:@PORT@" }}
storage: {{ {storage} }}
webhooks: {{ listen: "127.0.0.1:{hooks}" }}
http:
  meter: {{ webhook: /hooks/meter, retain: false, points: {{ power: {{ path: $.p }} }} }}
"#
    )
}

const ON_DISK: &str = "path: @DIR@/store";

fn start(configuration: &str, wall: &Wall) -> Edgeway {
    let words = wall.words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Edgeway::start_within(tempfile::tempdir().unwrap(), configuration, &words)
}

fn session(client_id: &str) -> Value {
    json!({"client_id": client_id, "clean": false, "properties": {"session_expiry_interval": 3600}})
}

/// Publishes at QoS 1 what expires in ten minutes.
fn publish_expiring(port: u16, topic: &str, payload: &str, retain: bool) {
    let mut arguments =
        vec!["-V", "5", "-t", topic, "-m", payload, "-q", "1", "-D", "publish", "message-expiry-interval", "600"];
    arguments.extend(retain.then_some("-r"));
    mosquitto_pub(port, &arguments);
}

/// A session that is away and for which a message waits, and a retained message; all of them expire.
fn leave_behind(port: u16) {
    let (mut away, connected) = MqttClient::connect(port, &session("away"));
    assert_eq!(connected["session_present"], false);
    away.subscribe("queued/#", 1);
    away.run("disconnect", &json!({}), "disconnected");
    publish_expiring(port, "queued/a", "waits", false);
    publish_expiring(port, "kept/a", "retained", true);
}

/// Sees that nothing of what was left behind has expired, and leaves the same behind again.
fn nothing_has_expired(port: u16) {
    let (mut away, connected) = MqttClient::connect(port, &session("away"));
    assert_eq!(connected["session_present"], true, "the session lives");
    let queued = away.message();
    assert_eq!((&queued["topic"], &queued["payload"]), (&json!("queued/a"), &json!("waits")));
    away.subscribe("kept/#", 1);
    let retained = away.message();
    assert_eq!((&retained["payload"], &retained["retain"]), (&json!("retained"), &json!(true)));
    for message in [queued, retained] {
        let left = message["properties"]["message_expiry_interval"].as_u64().unwrap();
        assert!((500..=600).contains(&left), "{left} seconds are left");
    }
    away.run("unsubscribe", &json!({"filter": "kept/#"}), "unsubscribed");
    away.run("disconnect", &json!({}), "disconnected");
    publish_expiring(port, "queued/a", "waits", false);
}

/// A reading that comes now, as it is published.
fn reading(gateway: &Edgeway, hooks: u16) -> Value {
    let seen = mosquitto_sub(gateway.port, &["-t", "edge/meter/power", "-q", "1"]);
    assert_eq!(post(hooks, "/hooks/meter", "Content-Type: application/json\r\n", r#"{"p": 7}"#), 204);
    serde_json::from_str(&seen.next()).unwrap()
}

/// The year of a reading, and its quality.
fn year_and_quality(reading: &Value) -> (&str, &str) {
    (reading["time"].as_str().unwrap().split_once('-').unwrap().0, reading["quality"].as_str().unwrap())
}

fn year_of(seconds: i64) -> String {
    (1970 + seconds / YEAR).to_string()
}

#[test]
fn a_jump_of_fifty_years_expires_nothing_and_ends_no_connection() {
    let hooks = free_port();
    for (clock, storage) in [("untrusted", "in_memory: true"), ("trusted", ON_DISK)] {
        let wall = Wall::at(JUST_ON);
        let gateway = start(&configuration(hooks, clock, storage), &wall);
        let port = gateway.port;
        leave_behind(port);
        let (mut connected, _) = MqttClient::connect(port, &json!({"client_id": "connected", "keep_alive": 5}));
        connected.subscribe("edge/meter/power", 1);
        assert_eq!(year_and_quality(&reading(&gateway, hooks)), ("1970", "uncertain"), "{clock}");
        connected.message();

        wall.set(Wall::right());
        let quality = if clock == "trusted" { "good" } else { "uncertain" };
        let year = year_of(Wall::right());
        assert_eq!(year_and_quality(&reading(&gateway, hooks)), (&*year, quality), "the gateway sees the jump");
        connected.message();
        nothing_has_expired(port);

        // And back, as after a wrong answer.
        wall.set(JUST_ON);
        assert_eq!(year_and_quality(&reading(&gateway, hooks)), ("1970", "uncertain"), "{clock}");
        connected.message();
        nothing_has_expired(port);
        connected.publish("still", "here", 1);
    }
}

#[test]
fn nothing_expires_over_a_restart_while_nobody_knows_what_time_it_is() {
    let hooks = free_port();
    let trusted = configuration(hooks, "trusted", ON_DISK);
    let wall = Wall::at(JUST_ON);
    let mut gateway = start(&trusted, &wall);
    leave_behind(gateway.port);
    // Its clock is set while it runs, and is in 1970 again when the power comes back.
    wall.set(Wall::right());
    nothing_has_expired(gateway.port);
    gateway.kill();
    wall.set(JUST_ON);
    gateway.start_again();
    nothing_has_expired(gateway.port);

    // It was in 1970 when the power went, and knows the time at once when it comes back.
    gateway.kill();
    wall.set(Wall::right());
    gateway.start_again();
    nothing_has_expired(gateway.port);

    // It knew the time when it went, and stands before that when it comes back.
    gateway.kill();
    wall.set(Wall::right() - 3600);
    gateway.start_again();
    nothing_has_expired(gateway.port);

    // It says that it knows, and is not believed.
    gateway.kill();
    gateway.configure(&configuration(hooks, "untrusted", ON_DISK));
    wall.set(Wall::right() + 50 * YEAR);
    gateway.start_again();
    nothing_has_expired(gateway.port);
}

#[test]
fn time_spent_off_counts_where_both_ends_of_it_are_known() {
    let hooks = free_port();
    let wall = Wall::at(Wall::right());
    let mut gateway = start(&configuration(hooks, "trusted", ON_DISK), &wall);
    let port = gateway.port;
    // What may have been on its way when the power went is sent again, expired or not: that is one message at most.
    let mut session = session("away");
    session["properties"]["receive_maximum"] = json!(1);
    let (mut away, _) = MqttClient::connect(port, &session);
    away.subscribe("queued/#", 1);
    away.run("disconnect", &json!({}), "disconnected");
    for payload in ["first", "last"] {
        mosquitto_pub(port, &["-t", "queued/a", "-m", payload, "-q", "1"]);
        publish_expiring(port, "queued/a", "expires", false);
    }
    publish_expiring(port, "kept/a", "retained", true);

    gateway.kill();
    // Longer than the messages live, and shorter than the session.
    wall.set(Wall::right() + 1_000);
    gateway.start_again();
    let (mut away, connected) = MqttClient::connect(port, &session);
    assert_eq!(connected["session_present"], true);
    assert_eq!(away.message()["payload"], "first");
    assert_eq!(away.message()["payload"], "last");
    away.subscribe("kept/#", 1);
    away.publish("marker", "", 1);
    let others = away.messages_so_far();
    assert!(others.is_empty(), "the other messages have expired, the retained one too: {others:?}");
    away.run("disconnect", &json!({}), "disconnected");
    // With this, that it is away is on disk too; else it would be away from the start on.
    publish_expiring(port, "queued/a", "expires", false);

    gateway.kill();
    wall.set(Wall::right() + 50 * YEAR);
    gateway.start_again();
    let (_, connected) = MqttClient::connect(port, &session);
    assert_eq!(connected["session_present"], false, "the session is over");
}
