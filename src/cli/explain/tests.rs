//! What people read of topics, over plants with bridges.

use super::*;

const PLANT: &str = r##"gateway: { name: edge }
broker:
  users:
    nodered: { password: x, read: ["#"], write: ["{gateway}/+/+/set"] }
    display: { password: y, read: ["{gateway}/meter/#"] }
storage: { path: journal }
modbus:
  rs485:
    host: h
    devices:
      meter:
        id: 1
        every: 5s
        points:
          voltage: { input: 0, type: float32, unit: V }
          power: { input: 2, type: float32, unit: W, deadband: 5, qos: 0 }
          relay: { coil: 5, write: true }
bridges:
  aws:
    url: mqtts://a
    send:
      - { from: "{gateway}/+/status", to: "dt/{gateway}/+/status", qos: 1, priority: high }
      - { from: "{gateway}/meter/#", to: "dt/meter/#", qos: 1, batch: { every: 10s } }
      - { from: "{gateway}/#", qos: 1 }
    receive: [ { from: "cmd/{gateway}/+/+", to: "{gateway}/+/+/set", qos: 1, max_age: 30s } ]
    limit: { rate: 50/s, bandwidth: 32KB/s }
    queue: { expire: 7d }
  office:
    url: mqtt://b
    mqtt: 3.1.1
    send: [ { from: "{gateway}/#", except: ["{gateway}/meter/power"], to: "site-a/#", retain: true, payload: plain } ]
    queue: { limit: 1MB, when_full: refuse }
  lab: { url: "mqtt://c", send: [ { from: "lab/#", every: 30s, max_qos: 1 } ] }
"##;

fn explained(topics: &[&str]) -> String {
    explained_by(PLANT, topics)
}

fn explained_by(configuration: &str, topics: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edgeway.yaml");
    std::fs::write(&path, configuration).unwrap();
    let environment = Environment { variable: &|_| None, host_name: "edge".into() };
    let mut shown = String::new();
    for topic in topics {
        let outcome = explain(topic, Some(&path), &environment, false);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
        shown.push_str(&outcome.stdout.replace(&folder.path().display().to_string(), ""));
        shown.push('\n');
    }
    shown
}

#[test]
fn a_point_is_followed_over_all_bridges() {
    insta::assert_snapshot!(explained(&["edge/meter/voltage", "edge/meter/power"]), @r##"
    edge/meter/voltage
    published   by voltage of meter, every 5 s, in V, plain, at qos 1, retained
    read by     display, nodered
    written by  no user

    to aws      as dt/meter/voltage
      route     edge/meter/# -> dt/meter/# (/edgeway.yaml:23:9)
      qos       1
      retain    yes, as it is published
      payload   json: {topic, value, unit, time, quality}
      sent      in its turn, in arrays of at most 200, 10 s after the first at the latest
      limits    50 messages/s and 32KB/s for all that does not go before others
      waits     in 512MB that all queues share, 7 d at most, then drop_oldest
      lasts     at most 36 msg/min, 7 d in 27MB of 512MB, then they expire
      not by    edge/# (/edgeway.yaml:24:9): a route before it takes the topic

    to office   as site-a/meter/voltage
      route     edge/# -> site-a/# (/edgeway.yaml:31:13)
      qos       1, as it is published
      retain    always
      payload   plain; the time is lost: MQTT 3.1.1 has no place for it, `payload: json` keeps it
      sent      in its turn
      waits     in 1MB of the bridge's own, then refuse
      lasts     24 msg/min, 9 h in 1MB, then refuse

    not to lab  no route matches it

    edge/meter/power
    published   by power of meter, every 5 s at most, in W, plain, at qos 0, retained
    read by     display, nodered
    written by  no user

    to aws      as dt/meter/power
      route     edge/meter/# -> dt/meter/# (/edgeway.yaml:23:9)
      qos       1
      retain    yes, as it is published
      payload   json: {topic, value, unit, time, quality}
      sent      in its turn, in arrays of at most 200, 10 s after the first at the latest
      limits    50 messages/s and 32KB/s for all that does not go before others
      waits     in 512MB that all queues share, 7 d at most, then drop_oldest
      lasts     at most 36 msg/min, 7 d in 27MB of 512MB, then they expire
      not by    edge/# (/edgeway.yaml:24:9): a route before it takes the topic

    not to office
      not by    edge/# -> site-a/# (/edgeway.yaml:31:13): `except: edge/meter/power`

    not to lab  no route matches it
    "##);
}

#[test]
fn commands_statuses_and_topics_of_clients_are_told_apart() {
    let topics = ["edge/meter/relay/set", "edge/meter/relay/set/result", "edge/meter/status", "lab/x"];
    insta::assert_snapshot!(explained(&topics), @r##"
    edge/meter/relay/set
    command     writes relay of meter, within 5 s or not at all; never if it is retained
    answered    on edge/meter/relay/set/result
    comes       from cmd/edge/meter/relay of aws, qos 1, at most 30 s old (/edgeway.yaml:25:16)
    read by     display, nodered
    written by  nodered

    not to aws
      not by    edge/meter/# -> dt/meter/# (/edgeway.yaml:23:9): a wildcard takes no command out of the gateway; name the topic itself
      not by    edge/# (/edgeway.yaml:24:9): a wildcard takes no command out of the gateway; name the topic itself

    not to office
      not by    edge/# -> site-a/# (/edgeway.yaml:31:13): a wildcard takes no command out of the gateway; name the topic itself

    not to lab  no route matches it

    edge/meter/relay/set/result
    published   as the result of commands to relay of meter
    read by     display, nodered
    written by  no user

    to aws      as dt/meter/relay/set/result
      route     edge/meter/# -> dt/meter/# (/edgeway.yaml:23:9)
      qos       1
      retain    as it was published
      payload   json: {topic, value, unit, time, quality}
      sent      before others
      limits    50 messages/s and 32KB/s for all that does not go before others
      waits     in 512MB that all queues share, 7 d at most, then drop_oldest
      lasts     at most 36 msg/min, 7 d in 27MB of 512MB, then they expire
      not by    edge/# (/edgeway.yaml:24:9): a route before it takes the topic

    to office   as site-a/meter/relay/set/result
      route     edge/# -> site-a/# (/edgeway.yaml:31:13)
      qos       as it was published; what goes at qos 0 is not kept while the link is down
      retain    always
      payload   plain
      sent      before others
      waits     in 1MB of the bridge's own, then refuse
      lasts     24 msg/min, 9 h in 1MB, then refuse

    not to lab  no route matches it

    edge/meter/status
    published   by meter: whether it answers, at qos 1, retained
    read by     display, nodered
    written by  no user

    to aws      as dt/edge/meter/status
      route     edge/+/status -> dt/edge/+/status (/edgeway.yaml:22:9)
      qos       1
      retain    as it was published
      payload   as published
      sent      before others
      limits    50 messages/s and 32KB/s for all that does not go before others
      waits     in 512MB that all queues share, 7 d at most, then drop_oldest
      lasts     at most 36 msg/min, 7 d in 27MB of 512MB, then they expire
      not by    edge/meter/# -> dt/meter/# (/edgeway.yaml:23:9): a route before it takes the topic
      not by    edge/# (/edgeway.yaml:24:9): a route before it takes the topic

    to office   as site-a/meter/status
      route     edge/# -> site-a/# (/edgeway.yaml:31:13)
      qos       as it was published; what goes at qos 0 is not kept while the link is down
      retain    always
      payload   plain
      sent      in its turn
      waits     in 1MB of the bridge's own, then refuse
      lasts     24 msg/min, 9 h in 1MB, then refuse

    not to lab  no route matches it

    lab/x
    published   by clients only: no device and no bridge has it
    read by     nodered
    written by  no user

    not to aws  no route matches it

    not to office no route matches it

    to lab      as lab/x
      route     lab/# (/edgeway.yaml:33:35)
      qos       as it was published, at most 1; what goes at qos 0 is not kept while the link is down
      retain    as it was published
      payload   as published
      sent      in its turn, the newest only, every 30 s at most
      waits     in 512MB that all queues share, then drop_oldest
    "##);
}

#[test]
fn what_a_cloud_takes_and_where_it_has_topics_of_its_own_is_told() {
    let clouds = "\
gateway: { name: edge, qos: 2 }
modbus: { a: { host: h, devices: { plc: { id: 1, points: { pump: { coil: 5, write: true } } } } } }
bridges:
  aws: { url: mqtts://a, cloud: aws, username: u, send: [ { from: \"{gateway}/#\" } ] }
  azure: { url: mqtts://hub.azure-devices.net, cloud: azure-iot-hub, device: d, key: c2VjcmV0, send: [ { from: \"{gateway}/#\" } ] }
";
    let topics = ["edge/plc/pump", "edge/plc/pump/set", "edge/a/b/c/d/e/f/g/h/i"];
    insta::assert_snapshot!(explained_by(clouds, &topics), @r##"
        edge/plc/pump
        published   by pump of plc, every 10 s, plain, at qos 2, retained

        to aws      as edge/plc/pump
          route     edge/# (/edgeway.yaml:4:59)
          cloud     AWS IoT Core takes qos 1 at most, packets of 128KB, topics of 256 bytes, 7 slashes in them, 100 in flight, 100 messages/s, 512KB/s
          qos       1, published at 2
          retain    never
          payload   json: {topic, value, unit, time, quality}
          sent      in its turn
          limits    90 messages/s and 460KB/s for all that does not go before others
          waits     in 512MB that all queues share, then drop_oldest
          lasts     6 msg/min, 2 years in 512MB (414 d while all 2 bridges that share it wait), then drop_oldest

        to azure    as devices/d/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8&topic=edge%2Fplc%2Fpump
          route     edge/# (/edgeway.yaml:5:104)
          cloud     Azure IoT Hub takes qos 1 at most, nothing retained, packets of 256KB
          qos       1, published at 2
          retain    never
          payload   json: {topic, value, unit, time, quality}
          sent      in its turn
          waits     in 512MB that all queues share, then drop_oldest
          lasts     6 msg/min, 2 years in 512MB (414 d while all 2 bridges that share it wait), then drop_oldest

        edge/plc/pump/set
        command     writes pump of plc, within 5 s or not at all; never if it is retained
        answered    on edge/plc/pump/set/result
        comes       from commands of Azure IoT Hub to azure

        not to aws
          not by    edge/# (/edgeway.yaml:4:59): a wildcard takes no command out of the gateway; name the topic itself

        not to azure
          not by    edge/# (/edgeway.yaml:5:104): a wildcard takes no command out of the gateway; name the topic itself

        edge/a/b/c/d/e/f/g/h/i
        published   by clients only: no device and no bridge has it

        to aws      as edge/a/b/c/d/e/f/g/h/i
          route     edge/# (/edgeway.yaml:4:59)
          cloud     AWS IoT Core takes qos 1 at most, packets of 128KB, topics of 256 bytes, 7 slashes in them, 100 in flight, 100 messages/s, 512KB/s; this one is refused: a topic with 9 slashes, AWS IoT Core takes 7
          qos       as it was published, at most 1; what goes at qos 0 is not kept while the link is down
          retain    never
          payload   json: {topic, value, unit, time, quality}
          sent      in its turn
          limits    90 messages/s and 460KB/s for all that does not go before others
          waits     in 512MB that all queues share, then drop_oldest
          lasts     6 msg/min, 2 years in 512MB (414 d while all 2 bridges that share it wait), then drop_oldest

        to azure    as devices/d/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8&topic=edge%2Fa%2Fb%2Fc%2Fd%2Fe%2Ff%2Fg%2Fh%2Fi
          route     edge/# (/edgeway.yaml:5:104)
          cloud     Azure IoT Hub takes qos 1 at most, nothing retained, packets of 256KB
          qos       as it was published, at most 1; what goes at qos 0 is not kept while the link is down
          retain    never
          payload   json: {topic, value, unit, time, quality}
          sent      in its turn
          waits     in 512MB that all queues share, then drop_oldest
          lasts     6 msg/min, 2 years in 512MB (414 d while all 2 bridges that share it wait), then drop_oldest
        "##);
}

#[test]
fn what_is_no_topic_is_refused() {
    let environment = Environment { variable: &|_| None, host_name: "edge".into() };
    let outcome = explain("edge/#", None, &environment, false);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (2, ""));
    assert!(outcome.stderr.starts_with("error: `edge/#` is no topic: "), "{}", outcome.stderr);
}
