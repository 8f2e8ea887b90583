//! Bridges over WebSocket: to Debian's mosquitto, and from gateway to gateway with large packets and certificates.

use super::{Cloud, gateway, tls_listener};
use crate::support::certificates::Authority;
use crate::support::edgeway::Edgeway;
use crate::support::mosquitto::{mosquitto_pub, mosquitto_sub};
use crate::support::mqtt_client::MqttClient;
use crate::support::ports::free_port;
use serde_json::json;

#[test]
fn a_bridge_goes_to_mosquitto_over_websocket_and_secure_websocket() {
    let ws = free_port();
    let (wss, wss_lines) = tls_listener("protocol websockets");
    let cloud = Cloud::start(&format!("listener {ws} 127.0.0.1\nprotocol websockets\n{wss_lines}"));
    let ca = cloud.authority.text("ca.crt");
    let at_cloud = mosquitto_sub(cloud.port(), &["-t", "#", "-q", "2", "-F", "%t %q %p"]);
    let gateway = gateway(&format!(
        r##"
  plain:
    url: ws://127.0.0.1:{ws}
    send:    [ {{ from: "x/#", to: "plain/#", qos: 2 }} ]
    receive: [ {{ from: "cmd/#", to: "from-plain/#", qos: 2 }} ]
  secure:
    url: wss://localhost:{wss}/mqtt
    tls: {{ ca: {ca} }}
    send:    [ {{ from: "x/#", to: "secure/#", qos: 2 }} ]
    receive: [ {{ from: "cmd/#", to: "from-secure/#", qos: 2 }} ]
"##
    ));
    let at_home = mosquitto_sub(gateway.port, &["-t", "+/y", "-q", "2", "-F", "%t %q %p"]);
    for id in ["edge-plain", "edge-secure"] {
        cloud.broker.peer().stderr().wait_for(&format!("{id} 2 cmd/#"));
    }
    for number in 0..100 {
        mosquitto_pub(gateway.port, &["-t", "x/y", "-m", &number.to_string(), "-q", "1"]);
    }
    for bridge in ["plain", "secure"] {
        for number in 0..100 {
            let topic = format!("{bridge}/y ");
            let line = at_cloud.take(&topic, |line| line.starts_with(&topic));
            assert_eq!(line, format!("{bridge}/y 2 {number}"));
        }
    }
    mosquitto_pub(cloud.port(), &["-t", "cmd/y", "-m", "do", "-q", "2"]);
    at_home.until("from-plain/y 2 do");
    at_home.until("from-secure/y 2 do");
}

#[test]
fn packets_larger_than_frames_go_between_gateways_both_ways() {
    let ws = free_port();
    let cloud = Edgeway::start(&format!(
        "broker: {{ listen: [\"mqtt://127.0.0.1:@PORT@\", \"ws://127.0.0.1:{ws}/upstream\"] }}"
    ));
    let gateway = gateway(&format!(
        r##"
  cloud:
    url: ws://127.0.0.1:{ws}/upstream
    send:    [ {{ from: "up/#", qos: 2 }} ]
    receive: [ {{ from: "down/#", qos: 2 }} ]
"##
    ));
    let (mut there, _) = MqttClient::connect(cloud.port, &json!({}));
    let (mut here, _) = MqttClient::connect(gateway.port, &json!({}));
    there.subscribe("up/#", 2);
    here.subscribe("down/#", 2);
    // The bridge subscribes when it can.
    let subscribed = mosquitto_sub(gateway.port, &["-t", "down/begin", "-C", "1"]);
    mosquitto_pub(cloud.port, &["-t", "down/begin", "-m", "x", "-r", "-q", "1"]);
    subscribed.until("x");
    assert_eq!(here.message()["payload"], "x");
    let payloads: Vec<String> =
        [1, 125, 126, 16_383, 16_384, 65_535, 65_536, 900_000].iter().map(|length| "äx".repeat(*length)).collect();
    let fitting = payloads.iter().filter(|payload| payload.len() < 1_000_000);
    for payload in fitting {
        here.publish("up/t", payload, 2);
        there.publish("down/t", payload, 2);
        for client in [&mut there, &mut here] {
            let message = client.message();
            assert!(message["payload"] == *payload && message["qos"] == 2, "{} bytes", payload.len());
        }
    }
}

#[test]
fn a_gateway_shows_its_certificate_to_a_gateway_over_secure_websocket() {
    let authority = Authority::new();
    for name in ["server", "edge"] {
        authority.issue(name);
    }
    let (wss, folder) = (free_port(), authority.folder().display());
    let cloud = Edgeway::start(&format!(
        "\
broker:
  listen:
    - mqtt://127.0.0.1:@PORT@
    - url: wss://127.0.0.1:{wss}/mqtt
      tls: {{ cert: {folder}/server.crt, key: {folder}/server.key, client_ca: {folder}/ca.crt }}
      users: {{ edge: {{ write: \"{{user}}/#\" }} }}
"
    ));
    let seen = mosquitto_sub(cloud.port, &["-t", "+/t", "-q", "1", "-v"]);
    let mut gateway = gateway(&format!(
        r##"
  good:
    url: wss://localhost:{wss}
    tls: {{ ca: {folder}/ca.crt, cert: {folder}/edge.crt, key: {folder}/edge.key }}
    send: [ {{ from: "x/#", to: "edge/#", qos: 1 }} ]
  nobody:
    url: wss://localhost:{wss}
    tls: {{ ca: {folder}/ca.crt }}
  lost:
    url: wss://localhost:{wss}/elsewhere
    tls: {{ ca: {folder}/ca.crt, cert: {folder}/edge.crt, key: {folder}/edge.key }}
"##
    ));
    mosquitto_pub(gateway.port, &["-t", "x/t", "-m", "named", "-q", "1"]);
    seen.until("edge/t named");
    let log = gateway.peer().stderr().clone();
    let told = |bridge: &str| {
        let bridge = format!("bridge=\"{bridge}\"");
        log.take("cannot connect", |line| line.contains("cannot connect") && line.contains(&bridge))
    };
    let line = told("lost");
    assert!(line.contains("/elsewhere: the server answers 404 Not Found: is the path of the URL right?"), "{line}");
    let line = told("nobody");
    assert!(line.contains("the server wants a certificate of ours"), "{line}");
}
