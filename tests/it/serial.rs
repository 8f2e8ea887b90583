//! Serial devices on pseudo-terminals: logs of receivers, lines of JSON, questions and commands.

use super::support::edgeway::Edgeway;
use super::support::fixtures::fixtures;
use super::support::mosquitto::{Mosquitto, mosquitto_pub, mosquitto_sub};
use super::support::pty::{PtyPair, open_line};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};

/// A gateway with the device `probe` on a line: what it is besides `port`, and more sections.
fn start(line: &PtyPair, device: &str, more: &str) -> Edgeway {
    Edgeway::start(&format!(
        "gateway: {{ name: edge }}\nbroker: {{ listen: \"mqtt://127.0.0.1:@PORT@\" }}\nserial:\n  probe:\n    port: {}\n{device}\n{more}",
        line.near.display()
    ))
}

/// A receiver of our own making, which finds its fix in its second epoch.
const LOG: &str = "$GPRMC,,V,,,,,,,,,,N*53\r\n$GPGGA,,,,,,0,,,,,,,,*66\r\n\
    $GPRMC,083001,A,3324.5,S,07036.2,W,0.0,,221126,,,A*5C\r\n\
    $GPGGA,083001,3324.5,S,07036.2,W,1,05,1.0,570.5,M,,M,,*59\r\n";

const POINTS: &str = "    points: { lat: {}, lon: {}, speed: { unit: km/h }, satellites: {}, fix: {} }";

#[test]
fn a_receiver_on_a_line_arrives_in_the_cloud() {
    let line = PtyPair::open();
    let cloud = Mosquitto::start();
    let seen = mosquitto_sub(cloud.port, &["-t", "#", "-q", "1", "-F", "%t %q %p"]);
    let bridges = format!(
        "bridges: {{ cloud: {{ url: \"mqtt://127.0.0.1:{}\", send: [ {{ from: \"{{gateway}}/probe/#\", to: \"fleet/#\", qos: 1 }} ] }} }}",
        cloud.port
    );
    let _gateway = start(&line, &format!("    parse: nmea\n{POINTS}"), &bridges);
    seen.until("fleet/status 1 offline");
    open_line(&line.far).write_all(LOG.as_bytes()).unwrap();
    for point in
        ["fix 1 none", "lat 1 -33.40833333", "lon 1 -70.60333333", "satellites 1 5", "fix 1 3d", "status 1 online"]
    {
        seen.until(&format!("fleet/{point}"));
    }
}

/// Writes a log into a line and gives what comes of it, as many objects as it has epochs with GGA, and how many of its
/// epochs have a fix.
fn objects_of(name: &str) -> Option<(Vec<Value>, usize)> {
    let log = std::fs::read_to_string(fixtures()?.join("nmea").join(name)).expect("the fixtures have the log");
    let epochs = log.lines().filter(|line| line.contains("GGA,")).count();
    let fixes = log.lines().filter(|line| line.contains("RMC,") && line.contains(",A,")).count();
    let line = PtyPair::open();
    let gateway = start(&line, &format!("    parse: nmea\n    payload: object\n{POINTS}"), "");
    let seen = mosquitto_sub(gateway.port, &["-t", "edge/probe", "-q", "1", "-F", "%p"]);
    let mut device = open_line(&line.far);
    let writer = std::thread::spawn(move || device.write_all(log.as_bytes()));
    let objects = (0..epochs).map(|_| serde_json::from_str(&seen.next()).expect("an object is JSON")).collect();
    writer.join().expect("the writer does not panic").expect("the line takes the log");
    Some((objects, fixes))
}

fn has_position(object: &Value) -> bool {
    let is_there = object["lat"].is_f64();
    assert_eq!(is_there, object["lon"].is_f64());
    assert_eq!(is_there, object["fix"] != "none", "{object}");
    is_there
}

#[test]
fn the_drive_that_a_receiver_logged_comes_out_as_positions() {
    let Some((objects, fixes)) = objects_of("drive.nmea") else { return };
    let first = &objects[0];
    assert_eq!((&first["lat"], &first["lon"]), (&55.088_849_83.into(), &38.976_455_42.into()));
    assert_eq!((&first["speed"], &first["satellites"]), (&282.6152.into(), &9.into()));
    assert_eq!(objects.iter().filter(|object| has_position(object)).count(), fixes);
}

#[test]
fn a_receiver_has_no_position_before_its_fix() {
    let Some((objects, fixes)) = objects_of("no_fix.nmea") else { return };
    assert!(!has_position(&objects[0]));
    assert_eq!(objects.iter().filter(|object| has_position(object)).count(), fixes);
}

#[test]
fn lines_of_json_are_points_and_commands_go_out_on_the_wire() {
    let mut line = PtyPair::open();
    let gateway = start(
        &line,
        r#"
    parse: json
    write: "OUT {value}\n"
    points:
      temperature: { path: $.t, unit: "°C" }
      soil: { path: "$.soil[1]", scale: 0.1 }
"#,
        "",
    );
    let seen = mosquitto_sub(gateway.port, &["-t", "edge/#", "-q", "1", "-F", "%t %p"]);
    let mut device = open_line(&line.far);
    device.write_all(b"{\"t\":21.4,\"soil\":[512,498]}\r\nnoise\r\n").unwrap();
    seen.until("edge/probe/temperature 21.4");
    seen.until("edge/probe/soil 49.8");
    mosquitto_pub(gateway.port, &["-t", "edge/probe/set", "-m", "on", "-q", "1"]);
    seen.until("edge/probe/set/result ok");
    let mut heard = String::new();
    BufReader::new(device.try_clone().unwrap()).read_line(&mut heard).unwrap();
    assert_eq!(heard, "OUT on\n");
    mosquitto_pub(gateway.port, &["-t", "edge/probe/set", "-m", "on", "-q", "1", "-r"]);
    seen.until("edge/probe/set/result refused: retained");

    seen.rest();
    drop(device);
    line.unplug();
    seen.until("edge/probe/status offline");
    mosquitto_pub(gateway.port, &["-t", "edge/probe/set", "-m", "off", "-q", "1"]);
    seen.take("a result", |line| line.starts_with("edge/probe/set/result failed: "));
    line.open_again();
    let mut device = open_line(&line.far);
    device.write_all(b"{\"t\":22}\n").unwrap();
    seen.until("edge/probe/temperature 22");
    seen.until("edge/probe/status online");
}

#[test]
fn a_device_that_is_asked_answers() {
    let line = PtyPair::open();
    let gateway = start(
        &line,
        r#"
    ask: "W\r\n"
    every: 100ms
    parse: { regex: '(?P<weight>-?\d+\.\d+) kg' }
    points: { weight: { type: number, unit: kg } }
"#,
        "",
    );
    let device = open_line(&line.far);
    std::thread::spawn(move || {
        let mut weight = 12.5;
        for question in BufReader::new(&device).lines() {
            if question.is_ok_and(|question| question == "W") {
                let _ = (&device).write_all(format!("ST,GS, {weight:.2} kg\r\n").as_bytes());
                weight += 1.0;
            }
        }
    });
    let seen = mosquitto_sub(gateway.port, &["-t", "edge/probe/weight", "-q", "1", "-F", "%p"]);
    seen.until("14.5");
}
