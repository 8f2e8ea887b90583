//! Modbus devices by pymodbus, over TCP and on a line: read into the cloud, written to, dead and back again.

use super::support::edgeway::Edgeway;
use super::support::modbus_server::ModbusServer;
use super::support::mosquitto::{Mosquitto, mosquitto_pub, mosquitto_sub};
use super::support::mqtt_client::MqttClient;
use super::support::process::wait_until;
use super::support::pty::PtyPair;
use serde_json::{Value, json};

/// A server, the line that it is on, and the lines of YAML that say where it is.
struct Plant {
    server: ModbusServer,
    endpoint: String,
    _line: Option<PtyPair>,
}

impl Plant {
    fn tcp(units: &Value) -> Self {
        let server = ModbusServer::tcp(units);
        Self { endpoint: format!("host: \"127.0.0.1:{}\"", server.port), server, _line: None }
    }

    fn rtu(units: &Value) -> Self {
        let line = PtyPair::open();
        let server = ModbusServer::rtu(&line.far, units);
        Self { endpoint: format!("port: {}, baud: 9600", line.near.display()), server, _line: Some(line) }
    }

    /// Both, since whatever is true of one is to be true of the other.
    fn both(units: &Value) -> [Self; 2] {
        [Self::tcp(units), Self::rtu(units)]
    }
}

fn units() -> Value {
    json!({"1": {
        "holding": {"100": [0, 0], "110": [0], "120": [0, 0, 0], "130": [0]},
        "input": {"0": [0, 0]},
        "coils": {"5": [false]},
        "discrete": {"9": [false]},
    }})
}

/// The plant's one device, with a point of each kind, and whatever `more` configures.
fn start(plant: &Plant, more: &str) -> Edgeway {
    Edgeway::start(&format!(
        r#"
gateway: {{ name: edge }}
broker: {{ listen: "mqtt://127.0.0.1:@PORT@" }}
modbus:
  hall:
    {}
    timeout: 500ms
    every: 200ms
    devices:
      plc:
        id: 1
        points:
          level:    {{ holding: 100, type: float32, unit: m, write: true }}
          setpoint: {{ holding: 110, type: int16, scale: 0.1, offset: -40, write: {{ min: 5, max: 35 }} }}
          maker:    {{ holding: 120, type: string, chars: 6 }}
          running:  {{ holding: 130, bit: 2 }}
          state:    {{ holding: 130, map: {{ 0: "off", 4: producing }} }}
          energy:   {{ input: 0, type: uint32, order: CDAB }}
          pump:     {{ coil: 5, write: true }}
          door:     {{ discrete: 9 }}
{more}"#,
        plant.endpoint.replace(", ", "\n    ")
    ))
}

/// What one register, or several, are set to, and the point's payload after that.
const CHANGES: [(&str, u16, &[u16], &str, &str); 8] = [
    ("holding", 100, &[0x40CA, 0xE148], "level", "6.34"),
    ("holding", 110, &[(-150_i16).cast_unsigned()], "setpoint", "-55"),
    ("holding", 120, &[0x4563, 0x6F20, 0], "maker", "Eco"),
    ("holding", 130, &[4], "running", "true"),
    ("holding", 130, &[4], "state", "producing"),
    ("input", 0, &[0x0001, 0x0002], "energy", "131073"),
    ("coils", 5, &[1], "pump", "true"),
    ("discrete", 9, &[1], "door", "true"),
];

fn a_register_arrives_in_the_cloud(mut plant: Plant) {
    let cloud = Mosquitto::start();
    let bridges: String = (0..3)
        .map(|qos| {
            format!(
                "  q{qos}:\n    url: mqtt://127.0.0.1:{}\n    send:\n      - {{ from: \"{{gateway}}/plc/+\", to: \"q{qos}/{{gateway}}/+\", qos: {qos} }}\n",
                cloud.port
            )
        })
        .collect();
    let seen = mosquitto_sub(cloud.port, &["-t", "#", "-q", "2", "-F", "%t %q %p"]);
    let _gateway = start(&plant, &format!("bridges:\n{bridges}"));
    for qos in 0..3 {
        seen.until(&format!("q{qos}/edge/level {qos} 0"));
    }
    for (block, address, values, point, payload) in CHANGES {
        plant.server.set(1, block, address, values);
        for qos in 0..3 {
            seen.until(&format!("q{qos}/edge/{point} {qos} {payload}"));
        }
    }
    // What a reader of the cloud finds later.
    let kept = mosquitto_sub(cloud.port, &["-t", "q1/edge/+", "-F", "%t %r %p"]);
    kept.until("q1/edge/level 1 6.34");
    kept.until("q1/edge/status 1 online");
}

#[test]
fn a_register_over_tcp_arrives_in_the_cloud_at_each_route_qos() {
    a_register_arrives_in_the_cloud(Plant::tcp(&units()));
}

#[test]
fn a_register_on_a_line_arrives_in_the_cloud_at_each_route_qos() {
    a_register_arrives_in_the_cloud(Plant::rtu(&units()));
}

#[test]
fn a_set_writes_is_answered_and_read_back() {
    for mut plant in Plant::both(&units()) {
        let gateway = start(&plant, "");
        let seen = mosquitto_sub(gateway.port, &["-t", "edge/#", "-q", "1", "-F", "%t %p"]);
        seen.until("edge/plc/status online");
        let set = |point: &str, payload: &str| {
            mosquitto_pub(gateway.port, &["-t", &format!("edge/plc/{point}/set"), "-m", payload, "-q", "1"]);
        };
        set("pump", "true");
        seen.until("edge/plc/pump/set/result ok");
        seen.until("edge/plc/pump true");
        assert_eq!(plant.server.values(1, "coils", 5, 1), [1]);
        set("setpoint", "21.5");
        seen.until("edge/plc/setpoint/set/result ok");
        seen.until("edge/plc/setpoint 21.5");
        assert_eq!(plant.server.values(1, "holding", 110, 1), [615]);
        set("level", r#"{"value": 2.5, "id": 7}"#);
        seen.until(r#"edge/plc/level/set/result {"id":7,"result":"ok"}"#);
        seen.until("edge/plc/level 2.5");
        assert_eq!(plant.server.values(1, "holding", 100, 2), [0x4020, 0]);

        for (point, payload, reason) in [
            ("setpoint", "35.5", "35.5 is above the maximum 35"),
            ("setpoint", "4", "4 is below the minimum 5"),
            ("setpoint", "warm", "\"warm\" is no number"),
            ("pump", "7", "\"7\" is neither true nor false"),
        ] {
            set(point, payload);
            let result = seen.take("a result", |line| line.contains("/set/result refused"));
            assert_eq!(result, format!("edge/plc/{point}/set/result refused: {reason}"));
        }
        plant.server.fail_with(1, 4);
        set("pump", "false");
        seen.until("edge/plc/pump/set/result failed: exception 4 (device failure)");
        plant.server.fail_with(1, 0);
        assert_eq!(plant.server.values(1, "coils", 5, 1), [1]);
        assert_eq!(plant.server.values(1, "holding", 110, 1), [615]);
    }
}

#[test]
fn a_retained_set_is_never_executed() {
    let mut plant = Plant::tcp(&units());
    let cloud = Mosquitto::start();
    // It waits in the cloud before the gateway has ever been there.
    mosquitto_pub(cloud.port, &["-t", "cmd/pump", "-m", "true", "-r", "-q", "1"]);
    mosquitto_pub(cloud.port, &["-t", "plain/pump", "-m", "true", "-r", "-q", "1"]);
    let url = format!("mqtt://127.0.0.1:{}", cloud.port);
    let bridge = |name: &str, version: &str, receive: &str| {
        format!("  {name}: {{ url: \"{url}\", mqtt: {version}, receive: [ {receive} ] }}\n")
    };
    let bridges = [
        bridge("new", "5", r#"{ from: "cmd/+", to: "{gateway}/plc/+/set", qos: 1 }"#),
        bridge("old", "3.1.1", r#"{ from: "cmd/+", to: "{gateway}/plc/+/set", qos: 1 }"#),
        bridge("bare", "5", r#"{ from: "plain/+", to: "{gateway}/plc/+/set", qos: 1, retain: false }"#),
    ];
    let gateway = start(&plant, &format!("bridges:\n{}", bridges.concat()));
    let seen = mosquitto_sub(gateway.port, &["-t", "edge/#", "-q", "1", "-F", "%t %p"]);
    seen.until("edge/plc/pump false");
    let send = |port: u16, topic: &str| mosquitto_pub(port, &["-t", topic, "-m", "true", "-q", "1", "-r"]);
    let refused = "edge/plc/pump/set/result refused: retained";
    // Live ones too, of our clients and of the cloud's, where the protocol tells them apart.
    send(gateway.port, "edge/plc/pump/set");
    seen.until(refused);
    send(cloud.port, "plain/pump");
    seen.until(refused);
    // One that is set aside is answered by nobody, and does nothing either.
    mosquitto_pub(gateway.port, &["-t", "edge/plc/pump/set", "-n", "-r", "-q", "1"]);
    assert_eq!(plant.server.values(1, "coils", 5, 1), [0]);
    mosquitto_pub(gateway.port, &["-t", "edge/plc/pump/set", "-m", "true", "-q", "1"]);
    seen.until("edge/plc/pump/set/result ok");
    assert_eq!(plant.server.values(1, "coils", 5, 1), [1]);
}

#[test]
fn a_result_goes_to_the_response_topic_with_its_correlation_data() {
    let plant = Plant::tcp(&units());
    let gateway = start(&plant, "");
    let (mut client, _) = MqttClient::connect(gateway.port, &json!({"client_id": "operator"}));
    client.subscribe("answers/operator", 1);
    let mut ask = |payload: &str, correlation: &str| {
        let properties = json!({"response_topic": "answers/operator", "correlation_data": correlation});
        let set = json!({"topic": "edge/plc/setpoint/set", "payload": payload, "qos": 1, "properties": properties});
        client.tell("publish", &set);
        let answer = client.message();
        assert_eq!(answer["properties"]["correlation_data"], correlation);
        answer["payload"].as_str().unwrap().to_owned()
    };
    assert_eq!(ask("20", "Zmlyc3Q="), "ok");
    assert_eq!(ask("40", "c2Vjb25k"), "refused: 40 is above the maximum 35");
    assert_eq!(ask(r#"{"value": 21, "id": "x"}"#, "AAE="), r#"{"id":"x","result":"ok"}"#);
}

/// Three units on one line, in a gateway that looks often.
fn start_line(line: &PtyPair) -> Edgeway {
    let device = |id: u8| format!("      unit{id}: {{ id: {id}, points: {{ level: {{ input: 0 }} }} }}\n");
    Edgeway::start(&format!(
        r#"
gateway: {{ name: edge }}
broker: {{ listen: "mqtt://127.0.0.1:@PORT@" }}
modbus:
  line:
    port: {}
    baud: 19200
    timeout: 100ms
    retries: 0
    every: 100ms
    offline_after: 2
    devices:
{}"#,
        line.near.display(),
        [1, 2, 3].map(device).concat()
    ))
}

#[test]
fn a_dead_unit_leaves_the_others_coming_and_returns() {
    let line = PtyPair::open();
    let unit = json!({"input": {"0": [7]}});
    // Nobody is unit 3.
    let mut server = ModbusServer::rtu(&line.far, &json!({"1": unit, "2": unit}));
    let gateway = start_line(&line);
    let seen = mosquitto_sub(gateway.port, &["-t", "edge/#", "-q", "1", "-F", "%t %p"]);
    seen.until("edge/unit1/level 7");
    seen.until("edge/unit2/level 7");
    let kept = |topic: &str| {
        let all = mosquitto_sub(gateway.port, &["-t", topic, "-F", "%t %r %p"]);
        all.next()
    };
    wait_until("unit 3 is offline for its silence", || {
        kept("edge/unit3/error") == "edge/unit3/error 1 timeout after 100 ms"
    });
    assert_eq!(kept("edge/unit3/status"), "edge/unit3/status 1 offline");

    seen.rest();
    server.mute(2);
    // What was on its way when it fell silent may still come; the status comes after that.
    seen.until("edge/unit2/status offline");
    seen.take("the reason", |line| line == "edge/unit2/error timeout after 100 ms");
    assert_eq!(kept("edge/unit2/status"), "edge/unit2/status 1 offline");
    seen.rest();
    server.set(1, "input", 0, &[8]);
    server.set(2, "input", 0, &[8]);
    seen.until("edge/unit1/level 8");
    let probes = server.requests(2);
    wait_until("unit 2 is asked in vain", || server.requests(2) > probes);
    server.set(1, "input", 0, &[9]);
    seen.until("edge/unit1/level 9");
    let others: Vec<String> = seen.rest().into_iter().filter(|line| !line.starts_with("edge/unit1/level ")).collect();
    assert_eq!(others, [""; 0], "a failed read publishes nothing");

    server.unmute(2);
    seen.until("edge/unit2/status online");
    seen.until("edge/unit2/level 8");
    assert_eq!(kept("edge/unit2/status"), "edge/unit2/status 1 online");
}

#[test]
fn a_line_that_is_unplugged_is_read_again_when_it_is_back() {
    let mut line = PtyPair::open();
    let units = json!({"1": {"input": {"0": [7]}}});
    let server = ModbusServer::rtu(&line.far, &units);
    let gateway = start_line(&line);
    let seen = mosquitto_sub(gateway.port, &["-t", "edge/unit1/#", "-q", "1", "-F", "%t %p"]);
    seen.until("edge/unit1/level 7");
    seen.rest();
    line.unplug();
    drop(server);
    seen.until("edge/unit1/status offline");
    let error = seen.take("the reason", |line| line.starts_with("edge/unit1/error ") && !line.ends_with("starting"));
    assert!(error.contains(line.near.to_str().unwrap()), "{error}");
    line.open_again();
    let _server = ModbusServer::rtu(&line.far, &units);
    seen.until("edge/unit1/status online");
}
