//! What `edgeway check` says, without any cloud, of what a cloud would refuse.

use crate::support::edgeway::edgeway;

const MISTAKES: &str = r#"gateway: { name: edge-01 }
bridges:
  aws:
    url: mqtts://a1b2c3-ats.iot.eu-central-1.amazonaws.com
    cloud: aws
    keep_alive: 10s
    send:
      - { from: "{gateway}/meter/#", to: "dt/{gateway}/meter/#", qos: 1 }
      - { from: "{gateway}/plc/#", to: "dt/{gateway}/plc/#", qos: 2 }
      - { from: "{gateway}/+/+/+", to: "plants/hall/a/b/c/+/+/+/x" }
  azure:
    url: mqtts://myhub.azure-devices.net
    cloud: azure-iot-hub
    device: "{gateway}"
    send: [ { from: "{gateway}/#", qos: 1, retain: true } ]
    receive: [ { from: "cmd/#" } ]
  tb:
    url: mqtts://thingsboard.cloud
    cloud: thingboard
"#;

#[test]
fn what_a_cloud_would_refuse_is_said_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("edgeway.yaml"), MISTAKES).unwrap();
    let (status, output, said) = edgeway(&["check", "-c", "edgeway.yaml"], folder.path());
    assert_eq!((status.code(), output.as_str()), (Some(2), ""));
    insta::assert_snapshot!(said, @r##"
    error: AWS IoT Core wants a client certificate
     --> edgeway.yaml:5:12
      |
    5 |     cloud: aws
      |            ^^^
      |
      = help: tls: { cert: FILE, key: FILE }; or a `username` for a custom authorizer

    error: `keep_alive` is 30s to 1200s with AWS IoT Core
     --> edgeway.yaml:6:17
      |
    6 |     keep_alive: 10s
      |                 ^^^

    error: route 2 of bridge aws: qos 2, AWS IoT Core takes 0 and 1
     --> edgeway.yaml:9:67
      |
    9 |       - { from: "{gateway}/plc/#", to: "dt/{gateway}/plc/#", qos: 2 }
      |                                                                   ^

    error: route 3 of bridge aws: a topic with 8 slashes, AWS IoT Core takes 7
      --> edgeway.yaml:10:40
       |
    10 |       - { from: "{gateway}/+/+/+", to: "plants/hall/a/b/c/+/+/+/x" }
       |                                        ^^^^^^^^^^^^^^^^^^^^^^^^^^^

    error: Azure IoT Hub wants the device's `key`
      --> edgeway.yaml:13:12
       |
    13 |     cloud: azure-iot-hub
       |            ^^^^^^^^^^^^^
       |
       = help: key: "${AZURE_DEVICE_KEY}"; or a certificate: tls: { cert: FILE, key: FILE }

    error: route 1 of bridge azure: Azure IoT Hub retains nothing
      --> edgeway.yaml:15:52
       |
    15 |     send: [ { from: "{gateway}/#", qos: 1, retain: true } ]
       |                                                    ^^^^
       |
       = help: leave `retain` out

    error: receive route 1 of bridge azure: Azure IoT Hub has no topics to subscribe to
      --> edgeway.yaml:16:24
       |
    16 |     receive: [ { from: "cmd/#" } ]
       |                        ^^^^^^^
       |
       = help: cloud-to-device messages and direct methods come as commands without a route

    error: `thingboard` is not one of the words for this
      --> edgeway.yaml:19:12
       |
    19 |     cloud: thingboard
       |            ^^^^^^^^^^
       |
       = help: did you mean `thingsboard`?

    8 mistakes in the configuration
    "##);
}

#[test]
fn what_would_run_is_said_with_its_cloud() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"gateway: { name: edge-01 }
bridges:
  azure:
    url: mqtts://myhub.azure-devices.net
    cloud: azure-iot-hub
    key: "c2VjcmV0"
    send: [ { from: "{gateway}/inverter/#" } ]
"#;
    std::fs::write(folder.path().join("edgeway.yaml"), text).unwrap();
    let (status, output, said) = edgeway(&["check", "-c", "edgeway.yaml"], folder.path());
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    let bridge: Vec<&str> = output.lines().skip_while(|line| !line.starts_with("bridge")).collect();
    insta::assert_snapshot!(bridge.join("\n"), @r"
    bridge    azure to mqtts://myhub.azure-devices.net:8883 as edge-01
      send    answers to direct methods
      send    edge-01/inverter/#, qos up to 1, not retained, json
      receive devices/edge-01/messages/devicebound/#, qos up to 1, not retained
      receive $iothub/methods/POST/#, qos up to 1, not retained
      will    none: no route sends edge-01/status
    ");
}
