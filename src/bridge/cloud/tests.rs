//! What the presets promise: tokens, forms of topics and payloads, and what `check` refuses offline.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::azure::{self, Device, Methods};
use super::requests::Requests;
use super::sas::Key;
use super::{Preset, thingsboard};
use crate::bridge::Plan;
use crate::bridge::plan::RouteQos;
use crate::bridge::settings::{Retain, Settings, Version};
use crate::broker::envelope::{Envelope, Opened, Reply, Sealed};
use crate::mapping::hop_payload::{HopPayload, Outgoing};
use crate::mqtt::{Form, Millis, QoS, Quality, Reading, Sampled};
use crate::settings::Located;

/// "the key of edge-01, 32 bytes....", as the portal shows it.
const KEY: &str = "dGhlIGtleSBvZiBlZGdlLTAxLCAzMiBieXRlcy4uLi4=";

fn resolve(bridge: &str) -> Result<Plan, Vec<String>> {
    let settings: Settings = serde_json::from_str(bridge).unwrap();
    let name = Located::nowhere("aws".to_string());
    settings
        .resolve("edge-01", &name, Path::new("/nowhere"))
        .map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.message).collect())
}

fn aws(more: &str) -> Result<Plan, Vec<String>> {
    // A custom authorizer, so that no certificate needs to be there.
    resolve(&format!(
        r#"{{"url": ["mqtts://x.iot.eu-central-1.amazonaws.com"], "cloud": "aws", "username": "u", {more}}}"#
    ))
}

fn azure(more: &str) -> Result<Plan, Vec<String>> {
    resolve(&format!(
        r#"{{"url": ["mqtts://hub.azure-devices.net"], "cloud": "azure-iot-hub", "key": "{KEY}", {more}}}"#
    ))
}

fn outgoing<'a>(topic: &'a str, payload: &'a str, reading: Option<&'a Reading>) -> Outgoing<'a> {
    let time = reading.map_or(Sampled::at(1_700_000_000_000), |reading| reading.sampled);
    Outgoing { topic, payload: payload.as_bytes(), reading, time }
}

fn reading() -> Reading {
    Reading {
        sampled: Sampled::at(1_600_000_000_250),
        unit: Some("°C".into()),
        quality: Quality::Good,
        device: "oven".into(),
        point: Some("temperature".into()),
        form: Form::Value,
    }
}

#[test]
fn a_token_is_signed_as_python_signs_it() {
    let key = Key::parse(KEY).unwrap();
    let token = key.token("myhub.azure-devices.net/devices/edge-01", 1_700_003_600);
    assert_eq!(
        token.reveal(),
        "SharedAccessSignature sr=myhub.azure-devices.net%2Fdevices%2Fedge-01\
         &sig=%2Fl0RBp9oYD0CdsCb31UaF5SuMU6AM%2FvluaxHd%2Fzkpvk%3D&se=1700003600"
    );
    assert_eq!(format!("{key:?} {token:?}"), "*** ***");
    for wrong in ["", "no base64!", "YQ"] {
        assert!(Key::parse(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn a_device_is_entered_with_a_token_that_is_renewed_before_its_end_or_with_a_certificate() {
    let key = Key::parse(KEY);
    let device = Device { id: "edge-01".into(), key, token_lifetime: Duration::from_secs(3600) };
    let credentials = device.credentials("hub.azure-devices.net", 1_700_000_000);
    assert_eq!(credentials.username, "hub.azure-devices.net/edge-01/?api-version=2021-04-12");
    assert!(credentials.password.unwrap().reveal().ends_with("&se=1700003600"));
    assert_eq!(credentials.renew_after, Some(Duration::from_secs(2880)));
    let certified = Device { key: None, ..device }.credentials("hub.azure-devices.net", 1_700_000_000);
    assert_eq!((certified.password, certified.renew_after), (None, None));
}

#[test]
fn the_presets_know_what_their_clouds_want() {
    let plan =
        aws(r#""send": [{"from": "{gateway}/#", "to": "dt/{gateway}/#"}], "receive": [{"from": "cmd/#"}]"#).unwrap();
    assert_eq!((plan.version, plan.keep_alive_seconds, plan.servers[0].port), (Version::V5, 30, 8883));
    assert_eq!(
        (plan.throttling.rate, plan.throttling.bandwidth),
        (Some(90.0), Some(471_859.2)),
        "somewhat less than it takes"
    );
    let route = &plan.send[0];
    assert_eq!((route.qos, route.retain), (RouteQos::AtMost(QoS::AtLeastOnce), Retain::Never));
    assert_eq!(route.payload, HopPayload::Json);
    assert_eq!(plan.receive[0].payload, HopPayload::AsPublished);
    let will = plan.will.unwrap();
    assert_eq!((will.topic.as_str(), will.retain), ("dt/edge-01/status", false));
    let asked =
        aws(r#""limit": {"rate": "20/s"}, "send": [{"from": "a", "retain": true, "payload": "plain"}]"#).unwrap();
    assert_eq!((asked.throttling.rate, asked.send[0].retain), (Some(20.0), Retain::Always));
    assert_eq!(asked.send[0].payload, HopPayload::Plain);

    let plan = azure(r#""device": "{gateway}.x", "send": [{"from": "{gateway}/#"}]"#).unwrap();
    assert_eq!((plan.version, plan.client_id.as_str(), plan.username), (Version::V311, "edge-01.x", None));
    let filters: Vec<&str> = plan.receive.iter().map(|route| route.remap.from().as_str()).collect();
    assert_eq!(filters, ["devices/edge-01.x/messages/devicebound/#", "$iothub/methods/POST/#"]);
    let sent: Vec<_> = plan.send.iter().map(|route| (route.remap.from().as_str(), route.qos)).collect();
    let own = RouteQos::AtMost(QoS::AtLeastOnce);
    assert_eq!(sent, [("edge-01/#", RouteQos::Exactly(QoS::AtMostOnce)), ("edge-01/#", own)]);
    let will = plan.will.unwrap();
    let bag = "%24.ct=application%2Fjson&%24.ce=utf-8&topic=edge-01%2Fstatus";
    assert_eq!((will.topic.as_str(), will.retain), (&*format!("devices/edge-01.x/messages/events/{bag}"), false));

    let plan = resolve(
        r#"{"url": ["mqtt://tb.lan"], "cloud": "thingsboard", "username": "T", "send": [{"from": "{gateway}/#"}]}"#,
    );
    let plan = plan.unwrap();
    assert_eq!((plan.version, plan.will, plan.receive.len()), (Version::V311, None, 2));
    assert_eq!(plan.send[1].payload, HopPayload::AsPublished);

    for cloud in ["hivemq", "emqx"] {
        let plan = resolve(&format!(
            r#"{{"url": ["mqtts://h"], "cloud": "{cloud}", "username": "u", "password": "p", "send": [{{"from": "a", "qos": 2, "retain": true}}]}}"#
        ));
        assert_eq!(plan.unwrap().version, Version::V5);
    }
}

#[test]
fn on_port_443_tls_says_that_mqtt_is_meant() {
    let alpn = |url: &str, more: &str| {
        resolve(&format!(r#"{{"url": ["{url}"], "cloud": "aws", {more}}}"#)).map(|plan| plan.tls.alpn).unwrap()
    };
    let user = r#""username": "u""#;
    assert_eq!(alpn("mqtts://x.amazonaws.com:443", user), ["mqtt"]);
    assert_eq!(alpn("mqtts://x.amazonaws.com", user), [""; 0]);
    let own = r#""username": "u", "tls": {"alpn": ["other"]}"#;
    assert_eq!(alpn("mqtts://x.amazonaws.com:443", own), ["other"]);
    assert_eq!(super::aws::alpn(443, false), Some("x-amzn-mqtt-ca"));
}

#[test]
fn topics_are_held_to_the_rules_when_wildcards_have_become_topics() {
    let rules = Preset::Aws.rules();
    let long = "x".repeat(257);
    for (topic, problem) in [
        ("a/b/c/d/e/f/g/h", None),
        ("a/b/c/d/e/f/g/h/i", Some("a topic with 8 slashes, AWS IoT Core takes 7".to_owned())),
        (&long, Some("a topic of 257 bytes, AWS IoT Core takes 256".to_owned())),
        (&long[1..], None),
        ("$aws/things/edge-01/shadow/update", None),
        ("$aws/rules/store/a/b/c/d/e/f/g/h", None),
        (&format!("$aws/rules/store/{}", &long[1..]), None),
        ("$other/x", Some("`$other/x`, AWS IoT Core has no such topic that begins with `$`".to_owned())),
    ] {
        assert_eq!(rules.refuses(topic), problem, "{topic}");
    }
    assert_eq!(rules.refuses_all_of("a/b/c/d/e/f/g/h/#"), None);
    assert_eq!(rules.refuses_all_of("#"), None);
    assert!(rules.refuses_all_of("+/+/+/+/+/+/+/+/+").is_some());
    assert_eq!(Preset::Hivemq.rules().refuses("a/b/c/d/e/f/g/h/i"), None);
}

#[test]
fn what_aws_would_refuse_is_refused_offline() {
    let long = "x".repeat(257);
    for (settings, message) in [
        (
            r#""send": [{"from": "a"}, {"from": "b", "qos": 2}]"#,
            "route 2 of bridge aws: qos 2, AWS IoT Core takes 0 and 1",
        ),
        (r#""send": [{"from": "b", "max_qos": 2}]"#, "route 1 of bridge aws: max_qos 2, AWS IoT Core takes 0 and 1"),
        (r#""receive": [{"from": "b", "qos": 2}]"#, "receive route 1 of bridge aws: qos 2, AWS IoT Core takes 0 and 1"),
        (
            r#""send": [{"from": "a/b/c/d/e/f/g/h/i/#"}]"#,
            "route 1 of bridge aws: a topic with 8 slashes, AWS IoT Core takes 7",
        ),
        (
            &format!(r#""send": [{{"from": "a", "to": "{long}"}}]"#),
            "route 1 of bridge aws: a topic of 257 bytes, AWS IoT Core takes 256",
        ),
        (
            r#""receive": [{"from": "+/+/+/+/+/+/+/+/+"}]"#,
            "receive route 1 of bridge aws: a topic with 8 slashes, AWS IoT Core takes 7",
        ),
        (
            r#""send": [{"from": "a", "to": "$mine"}]"#,
            "route 1 of bridge aws: `$mine`, AWS IoT Core has no such topic that begins with `$`",
        ),
        (&format!(r#""client_id": "{}""#, &long[..129]), "a client id of 129 bytes, AWS IoT Core takes 128"),
        (r#""keep_alive": "29s""#, "`keep_alive` is 30s to 1200s with AWS IoT Core"),
        (r#""session": "8d""#, "AWS IoT Core keeps a session for 7d at most"),
        (r#""limit": {"rate": "101/s"}"#, "AWS IoT Core takes 100 messages a second"),
        (r#""limit": {"bandwidth": "1MB/s"}"#, "AWS IoT Core takes 512KB a second"),
        (r#""will": {"topic": "gone", "qos": 2}"#, "the will of bridge aws: qos 2, AWS IoT Core takes 0 and 1"),
        (r#""key": "YQ==""#, "`key` stands with `cloud: azure-iot-hub` only"),
    ] {
        assert_eq!(aws(settings).unwrap_err(), [message]);
    }
    let routes: Vec<String> = (0..51).map(|n| format!(r#"{{"from": "t/{n}"}}"#)).collect();
    let too_many = aws(&format!(r#""receive": [{}]"#, routes.join(",")));
    assert_eq!(too_many.unwrap_err(), ["51 receive routes, AWS IoT Core takes 50 subscriptions"]);
    let plain = resolve(r#"{"url": ["mqtt://x"], "cloud": "aws"}"#);
    assert_eq!(plain.unwrap_err(), ["AWS IoT Core wants TLS", "AWS IoT Core wants a client certificate"]);
}

#[test]
fn what_azure_would_refuse_is_refused_offline() {
    for (settings, message) in [
        (r#""send": [{"from": "a", "qos": 2}]"#, "route 1 of bridge aws: qos 2, Azure IoT Hub takes 0 and 1"),
        (r#""send": [{"from": "a", "retain": true}]"#, "route 1 of bridge aws: Azure IoT Hub retains nothing"),
        (
            r#""receive": [{"from": "cmd/#"}]"#,
            "receive route 1 of bridge aws: Azure IoT Hub has no topics to subscribe to",
        ),
        (r#""mqtt": "5""#, "Azure IoT Hub speaks MQTT 3.1.1"),
        (r#""username": "x""#, "`username` is made by `cloud: azure-iot-hub`"),
        (r#""client_id": "x""#, "`client_id` is made by `cloud: azure-iot-hub`"),
        (r#""device": "edge 01""#, "`edge 01` is no device of Azure IoT Hub"),
        (r#""keep_alive": "30m""#, "`keep_alive` is 1s to 1767s with Azure IoT Hub"),
        (r#""token_lifetime": "1s""#, "`token_lifetime` is 10s to 365d"),
        (r#""will": {"topic": "gone"}"#, "the will of bridge aws: Azure IoT Hub retains nothing"),
    ] {
        assert_eq!(azure(settings).unwrap_err(), [message]);
    }
    // Topics of ours are properties there: they may be as long as they are.
    assert!(azure(&format!(r#""send": [{{"from": "a", "to": "{}"}}]"#, "x/".repeat(300))).is_ok());
    let none = resolve(r#"{"url": ["mqtts://h"], "cloud": "azure-iot-hub"}"#);
    assert_eq!(none.unwrap_err(), ["Azure IoT Hub wants the device's `key`"]);
    let wrong = resolve(r#"{"url": ["mqtts://h"], "cloud": "azure-iot-hub", "key": "k"}"#);
    assert_eq!(wrong.unwrap_err(), ["a `key` is base64"]);
}

#[test]
fn what_the_others_would_refuse_is_refused_offline() {
    let refused = |bridge: &str| resolve(bridge).unwrap_err();
    assert_eq!(
        refused(r#"{"url": ["mqtt://h"], "cloud": "hivemq", "username": "u"}"#),
        ["HiveMQ Cloud wants TLS", "HiveMQ Cloud wants `username` and `password`"]
    );
    assert_eq!(refused(r#"{"url": ["mqtts://h"], "cloud": "emqx"}"#), ["EMQX Cloud wants `username` and `password`"]);
    assert_eq!(
        refused(r#"{"url": ["mqtt://h"], "cloud": "thingsboard"}"#),
        ["ThingsBoard wants the access token of the gateway's device"]
    );
    let send = |route: &str| {
        refused(&format!(
            r#"{{"url": ["mqtt://h"], "cloud": "thingsboard", "username": "T", "send": [{{"from": "a", {route}}}]}}"#
        ))
    };
    assert_eq!(send(r#""payload": "json""#), ["route 1 of bridge aws: `payload` is made for ThingsBoard"]);
    assert_eq!(send(r#""batch": {}"#), ["route 1 of bridge aws: ThingsBoard takes no `batch`"]);
    assert_eq!(send(r#""qos": 2"#), ["route 1 of bridge aws: qos 2, ThingsBoard takes 0 and 1"]);
    assert_eq!(
        refused(r#"{"url": ["mqtt://h"], "device": "x"}"#),
        ["`device` stands with `cloud: azure-iot-hub` only"]
    );
}

#[test]
fn telemetry_of_azure_has_one_topic_and_says_the_rest_in_properties() {
    let reading = reading();
    let message = outgoing("edge-01/oven/temperature", "180.5", Some(&reading));
    let json = azure::Telemetry::new("edge-01", true).seal("site/oven & co", b"{}", &message);
    let topic = "devices/edge-01/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8&topic=site%2Foven%20%26%20co";
    assert_eq!(json, Sealed::As { topic: topic.into(), payload: None });
    let plain = azure::Telemetry::new("edge-01", false).seal("oven", b"180.5", &message);
    let topic = "devices/edge-01/messages/events/topic=oven\
                 &time=2020-09-13T12%3A26%3A40.250Z&quality=good&unit=%C2%B0C";
    assert_eq!(plain, Sealed::As { topic: topic.into(), payload: None });
}

fn method(commands: &azure::Commands, name: &str, rid: &str, payload: &str) -> Opened {
    commands.open(&format!("$iothub/methods/POST/{name}/?$rid={rid}"), payload.as_bytes(), 0)
}

#[test]
fn a_direct_method_is_a_command_and_its_result_the_answer() {
    let methods = Arc::new(Methods::default());
    let commands = azure::Commands::new("edge-01", "edge-01", Arc::clone(&methods));
    let answers = azure::Answers(methods);
    let topic = "edge-01/plc/pump/set/result";
    for (payload, result, status, answer) in [
        ("true", "ok", 200, r#"{"result":"ok"}"#),
        ("7", "refused: `7` is no switch", 400, r#"{"result":"refused: `7` is no switch"}"#),
        ("1", "failed: not done in time", 504, r#"{"result":"failed: not done in time"}"#),
        ("1", "failed: exception 2", 500, r#"{"result":"failed: exception 2"}"#),
        (r#"{"value":1,"id":9}"#, r#"{"id":9,"result":"ok"}"#, 200, r#"{"id":9,"result":"ok"}"#),
        ("1", "21.5", 200, r#"{"result":21.5}"#),
    ] {
        assert!(!answers.takes(topic, result.as_bytes()), "nobody has asked");
        let opened = method(&commands, "plc.pump", "a1", payload);
        assert_eq!(opened, Opened::Message { topic: "edge-01/plc/pump/set".into(), payload: None });
        assert!(answers.takes(topic, result.as_bytes()) && !answers.takes("edge-01/plc/valve/set/result", b"ok"));
        let sealed = answers.seal(topic, result.as_bytes(), &outgoing(topic, result, None));
        let expected = format!("$iothub/methods/res/{status}/?$rid=a1");
        assert_eq!(sealed, Sealed::As { topic: expected, payload: Some(answer.into()) });
    }
}

#[test]
fn a_direct_method_that_is_no_command_is_answered_at_once() {
    let commands = azure::Commands::new("edge-01", "edge-01", Arc::default());
    let Opened::Answered(Reply { topic, .. }) = method(&commands, "a%23b", "7", "1") else {
        panic!("a filter is no topic");
    };
    assert_eq!(topic, "$iothub/methods/res/400/?$rid=7");
    method(&commands, "nobody", "8", "1");
    let reply = commands.unclaimed("$iothub/methods/POST/nobody/?$rid=8", b"1").unwrap();
    assert_eq!(reply.topic, "$iothub/methods/res/404/?$rid=8");
    let answer: Json = serde_json::from_slice(&reply.payload).unwrap();
    assert_eq!(answer, json!({ "result": "refused: nobody takes commands for `nobody`" }));
    assert!(matches!(commands.open("$iothub/methods/POST/x/?$version=1", b"", 0), Opened::Refused(_)));
    for n in 0..256 {
        assert!(matches!(method(&commands, "plc.pump", &n.to_string(), "1"), Opened::Message { .. }), "{n}");
    }
    let Opened::Answered(Reply { topic, .. }) = method(&commands, "plc.pump", "9", "1") else {
        panic!("there is a bound");
    };
    assert_eq!(topic, "$iothub/methods/res/429/?$rid=9");
}

#[test]
fn a_cloud_to_device_message_is_a_command_for_the_topic_in_its_properties() {
    let commands = azure::Commands::new("edge-01", "dev", Arc::default());
    let open = |bag: &str, after: u64| commands.open(&format!("devices/dev/messages/devicebound/{bag}"), b"1", after);
    let to = "%24.to=%2Fdevices%2Fdev%2Fmessages%2FdeviceBound&topic=";
    let message = Opened::Message { topic: "edge-01/plc/pump/set".into(), payload: None };
    for point in ["plc%2Fpump", "edge-01%2Fplc%2Fpump", "plc%2Fpump%2Fset&x=y"] {
        assert_eq!(open(&format!("{to}{point}"), 1000), message, "{point}");
    }
    assert!(matches!(open(&format!("{to}plc%2Fpump"), 999), Opened::Refused(_)), "it may have waited for days");
    for bag in ["", "x=y", "topic=", "topic=a%2F%2B", "topic=%zz"] {
        assert!(matches!(open(bag, 1000), Opened::Refused(_)), "{bag}");
    }
}

#[test]
fn values_for_thingsboard_say_whose_they_are() {
    let telemetry = thingsboard::Telemetry::new("edge-01");
    let reading = reading();
    let uncertain =
        Reading { sampled: Sampled { uncertain_at: Some(Millis(1)), ..reading.sampled }, ..reading.clone() };
    for (topic, payload, reading, to, expected) in [
        (
            "edge-01/oven/temperature",
            "180.5",
            Some(&reading),
            "v1/gateway/telemetry",
            json!({ "oven": [{ "ts": 1_600_000_000_250_i64, "values": { "temperature": 180.5 } }] }),
        ),
        (
            "edge-01/plc/alarms/high",
            "true",
            None,
            "v1/gateway/telemetry",
            json!({ "plc": [{ "ts": 1_700_000_000_000_i64, "values": { "alarms.high": true } }] }),
        ),
        (
            "edge-01/oven/temperature",
            "180.5",
            Some(&uncertain),
            "v1/gateway/telemetry",
            json!({ "oven": [{ "temperature": 180.5 }] }),
        ),
        (
            "edge-01/gps",
            r#"{"lat":1.5,"fix":null}"#,
            None,
            "v1/gateway/telemetry",
            json!({ "gps": [{ "ts": 1_700_000_000_000_i64, "values": { "lat": 1.5 } }] }),
        ),
        (
            "lamp",
            "on",
            None,
            "v1/gateway/telemetry",
            json!({ "lamp": [{ "ts": 1_700_000_000_000_i64, "values": { "value": "on" } }] }),
        ),
        (
            "edge-01/status",
            "online",
            None,
            "v1/devices/me/telemetry",
            json!({ "ts": 1_700_000_000_000_i64, "values": { "status": "online" } }),
        ),
    ] {
        let Sealed::As { topic, payload: Some(payload) } =
            telemetry.seal(topic, payload.as_bytes(), &outgoing(topic, payload, reading))
        else {
            panic!("{topic} is sent");
        };
        assert_eq!((topic.as_str(), serde_json::from_slice::<Json>(&payload).unwrap()), (to, expected));
    }
    assert!(!telemetry.takes("edge-01/oven/x", b"") && !telemetry.takes("edge-01/oven/x", b"null"));
}

#[test]
fn requests_of_thingsboard_are_commands_and_their_results_the_answers() {
    let requests = Arc::new(Requests::default());
    let commands = thingsboard::Commands::new("edge-01", Arc::clone(&requests));
    let answers = thingsboard::Answers(requests);
    let request = json!({ "device": "plc", "data": { "id": 7, "method": "pump.speed", "params": "fast" } }).to_string();
    let own = r#"{"method":"plc.valve","params":true}"#;
    let message = |topic: &str, payload: &str| Opened::Message { topic: topic.into(), payload: Some(payload.into()) };
    assert_eq!(commands.open("v1/gateway/rpc", request.as_bytes(), 0), message("edge-01/plc/pump/speed/set", "fast"));
    let opened = commands.open("v1/devices/me/rpc/request/12", own.as_bytes(), 0);
    assert_eq!(opened, message("edge-01/plc/valve/set", "true"));
    for (topic, to, expected) in [
        (
            "edge-01/plc/pump/speed/set/result",
            "v1/gateway/rpc",
            json!({ "device": "plc", "id": 7, "data": { "result": "ok" } }),
        ),
        ("edge-01/plc/valve/set/result", "v1/devices/me/rpc/response/12", json!({ "result": "ok" })),
    ] {
        assert!(answers.takes(topic, b"ok"));
        let Sealed::As { topic, payload: Some(payload) } = answers.seal(topic, b"ok", &outgoing(topic, "ok", None))
        else {
            panic!("{topic} is sent");
        };
        assert_eq!((topic.as_str(), serde_json::from_slice::<Json>(&payload).unwrap()), (to, expected));
        assert!(!answers.takes("edge-01/plc/valve/set", b"ok"));
    }
    commands.open("v1/gateway/rpc", request.as_bytes(), 0);
    let reply = commands.unclaimed("v1/gateway/rpc", request.as_bytes()).unwrap();
    assert_eq!(serde_json::from_slice::<Json>(&reply.payload).unwrap()["id"], json!(7));
    assert!(!answers.takes("edge-01/plc/pump/speed/set/result", b"ok"), "it has its answer");
    for wrong in ["", "[]", r#"{"device":"plc"}"#, r#"{"device":"plc","id":7,"data":{"result":"ok"}}"#] {
        assert!(matches!(commands.open("v1/gateway/rpc", wrong.as_bytes(), 0), Opened::Refused(_)), "{wrong}");
    }
}
