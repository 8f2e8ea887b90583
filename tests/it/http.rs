//! HTTP devices: polled with and without a login, written to, failing; and a status answer that a Shelly gave.

use super::support::edgeway::Edgeway;
use super::support::fixtures::fixtures;
use super::support::http::{Answer, HttpDevice, Request};
use super::support::mosquitto::{Mosquitto, mosquitto_pub, mosquitto_sub};
use super::support::process::wait_until;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn ok(body: impl Into<String>) -> Answer {
    (200, "Content-Type: application/json\r\n", body.into())
}

/// A gateway with these lines below `http:`, and more sections.
fn start(devices: &str, more: &str) -> Edgeway {
    Edgeway::start(&format!(
        "gateway: {{ name: edge }}\nbroker: {{ listen: \"mqtt://127.0.0.1:@PORT@\" }}\nhttp:\n{devices}\n{more}"
    ))
}

#[test]
fn a_status_answer_goes_to_the_cloud_and_a_command_to_the_device() {
    let on = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&on);
    let plug = HttpDevice::start(move |request: &Request| match request.line.as_str() {
        "GET /status" => {
            let output = switch.load(Ordering::SeqCst);
            ok(format!(r#"{{"output": {output}, "apower": 48.26, "aenergy": {{"total": 1043.5}}, "t": null}}"#))
        }
        "GET /set?on=true" => {
            switch.store(true, Ordering::SeqCst);
            ok("{}")
        }
        _ => (404, "", String::new()),
    });
    let cloud = Mosquitto::start();
    let seen = mosquitto_sub(cloud.port, &["-t", "#", "-q", "2", "-F", "%t %q %p"]);
    let url = format!("http://127.0.0.1:{}", plug.port);
    let gateway = start(
        &format!(
            r#"
  plug:
    get: "{url}/status"
    every: 200ms
    points:
      on:     {{ path: $.output, write: {{ get: "{url}/set?on={{value}}" }} }}
      power:  {{ path: $.apower, unit: W, round: 1 }}
      energy: {{ path: $.aenergy.total, unit: kWh, scale: 0.001 }}
      t:      {{ unit: "°C" }}
"#
        ),
        &format!(
            "bridges: {{ cloud: {{ url: \"mqtt://127.0.0.1:{}\", send: [ {{ from: \"{{gateway}}/#\", to: \"home/#\", qos: 2 }} ] }} }}",
            cloud.port
        ),
    );
    for line in ["on 2 false", "power 2 48.3", "energy 2 1.0435", "status 2 online"] {
        seen.until(&format!("home/plug/{line}"));
    }
    mosquitto_pub(gateway.port, &["-t", "edge/plug/on/set", "-m", "true", "-q", "1"]);
    seen.until("home/plug/on/set/result 2 ok");
    seen.until("home/plug/on 2 true");
    mosquitto_pub(gateway.port, &["-t", "edge/plug/on/set", "-m", "off", "-q", "1"]);
    let failed = seen.take("a result", |line| line.starts_with("home/plug/on/set/result 2 failed"));
    assert!(failed.contains("404"), "{failed}");
}

#[test]
fn a_device_that_fails_publishes_nothing_and_says_why() {
    let well = Arc::new(AtomicBool::new(true));
    let is_well = Arc::clone(&well);
    let device = HttpDevice::start(move |_| {
        if is_well.load(Ordering::SeqCst) { ok(r#"{"t": 21.5}"#) } else { (503, "", "{\"t\": 0}".into()) }
    });
    let gateway = start(
        &format!(
            "  probe: {{ get: \"http://127.0.0.1:{}/\", every: 100ms, offline_after: 2, points: {{ t: {{}} }} }}",
            device.port
        ),
        "",
    );
    let seen = mosquitto_sub(gateway.port, &["-t", "edge/probe/#", "-q", "1", "-F", "%t %p"]);
    seen.until("edge/probe/t 21.5");
    seen.until("edge/probe/status online");
    seen.rest();
    well.store(false, Ordering::SeqCst);
    seen.until("edge/probe/status offline");
    let error = seen.take("the reason", |line| line.starts_with("edge/probe/error "));
    assert!(error.contains("503"), "{error}");
    seen.rest();
    let asked = device.requests().len();
    wait_until("it is asked in vain", || device.requests().len() > asked + 1);
    assert_eq!(seen.rest(), [""; 0]);
    well.store(true, Ordering::SeqCst);
    seen.until("edge/probe/status online");
    seen.until("edge/probe/t 21.5");
}

/// What a client of digest access authentication answers to this device (RFC 7616, with SHA-256).
fn digest_is_right(request: &Request) -> bool {
    let Some(header) = request.header("authorization").and_then(|header| header.strip_prefix("Digest ")) else {
        return false;
    };
    let field = |name: &str| {
        let fields = header.split(", ").filter_map(|field| field.split_once('='));
        fields.filter(|(other, _)| *other == name).map(|(_, value)| value.trim_matches('"')).next().unwrap_or_default()
    };
    let hash = |text: &str| -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let secret = hash("admin:plug:s3cret");
    let asked = hash(&format!("GET:{}", request.line.trim_start_matches("GET ")));
    let (count, client) = (field("nc"), field("cnonce"));
    field("response") == hash(&format!("{secret}:abc123:{count}:{client}:auth:{asked}"))
        && field("username") == "admin"
        && field("uri") == request.line.trim_start_matches("GET ")
}

#[test]
fn each_way_to_log_in_is_understood_by_a_device() {
    const BASIC: &str = "WWW-Authenticate: Basic realm=\"plug\"\r\n";
    const DIGEST: &str =
        "WWW-Authenticate: Digest qop=\"auth\", realm=\"plug\", nonce=\"abc123\", algorithm=SHA-256\r\n";
    let device = HttpDevice::start(|request| {
        let has = |name: &str, value: &str| request.header(name) == Some(value);
        let (let_in, challenge) = match request.line.split('?').next() {
            Some("GET /basic") => (has("authorization", "Basic YWRtaW46czNjcmV0"), BASIC),
            Some("GET /bearer") => (has("authorization", "Bearer t0ken"), ""),
            Some("GET /header") => (has("x-key", "k3y"), ""),
            _ => (digest_is_right(request), DIGEST),
        };
        if let_in { ok(r#"{"v": 1}"#) } else { (401, challenge, String::new()) }
    });
    let ways = [
        ("basic", "{ basic: admin, password: s3cret }"),
        ("digest", "{ digest: admin, password: s3cret }"),
        ("bearer", "{ bearer: t0ken }"),
        ("header", "{ header: { X-Key: k3y } }"),
        ("wrong", "{ digest: admin, password: wr0ng }"),
    ];
    let devices = ways.map(|(name, auth)| {
        format!(
            "  {name}: {{ get: \"http://127.0.0.1:{}/{name}?id=0\", every: 200ms, offline_after: 1, auth: {auth}, points: {{ v: {{}} }} }}\n",
            device.port
        )
    });
    let mut gateway = start(&devices.concat(), "");
    let seen = mosquitto_sub(gateway.port, &["-t", "edge/#", "-q", "1", "-F", "%t %p"]);
    for (name, _) in &ways[..4] {
        seen.until(&format!("edge/{name}/v 1"));
    }
    let error = seen.take("the reason", |line| line.starts_with("edge/wrong/error ") && !line.ends_with("starting"));
    assert!(error.contains("401"), "{error}");
    let log = gateway.peer().stderr().lines().join("\n");
    assert!(["s3cret", "wr0ng", "t0ken", "k3y"].iter().all(|secret| !log.contains(secret)), "{log}");
}

#[test]
fn what_a_shelly_pro_3em_said_becomes_its_points() {
    let Some(folder) = fixtures() else { return };
    let status = std::fs::read_to_string(folder.join("shelly/pro_3em.status.json")).unwrap();
    let device = HttpDevice::start(move |_| ok(status.clone()));
    let gateway = start(
        &format!(
            r#"
  meter:
    get: "http://127.0.0.1:{}/rpc/Shelly.GetStatus"
    every: 200ms
    points:
      power:   {{ path: '$["em:0"].total_act_power', unit: W }}
      voltage: {{ path: '$["em:0"].b_voltage', unit: V }}
      energy:  {{ path: '$["emdata:0"].total_act', unit: kWh, scale: 0.001, round: 3 }}
      neutral: {{ path: '$["em:0"].n_current', unit: A }}
      cloud:   {{ path: $.cloud.connected }}
"#,
            device.port
        ),
        "",
    );
    let seen = mosquitto_sub(gateway.port, &["-t", "edge/meter/+", "-F", "%t %p"]);
    for line in ["power 2413.825", "voltage 230", "energy 5415.414", "cloud false", "status online"] {
        seen.until(&format!("edge/meter/{line}"));
    }
    assert!(seen.rest().iter().all(|line| !line.starts_with("edge/meter/neutral")), "null is no value");
}
