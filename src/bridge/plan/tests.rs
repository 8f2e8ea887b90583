//! What the reference promises of plans, and what it refuses.

use std::path::Path;

use super::*;
use crate::broker::lanes::LaneKind;
use crate::mqtt::QoS;
use crate::settings::Located;

fn resolve(json: &str) -> Result<Plan, Vec<String>> {
    let settings: Settings = serde_json::from_str(json).unwrap();
    let name = Located::nowhere("cloud".to_string());
    settings
        .resolve("edge-01", &name, Path::new("/nowhere"))
        .map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.message).collect())
}

fn refused(json: &str) -> Vec<String> {
    resolve(json).unwrap_err()
}

#[test]
fn defaults_are_those_of_the_reference() {
    let plan = resolve(r#"{"url": ["mqtts://cloud"], "send": [{"from": "{gateway}/#", "to": "site/#"}]}"#).unwrap();
    assert_eq!(plan.servers, [Server { host: "cloud".into(), port: 8883, tls: true, path: None }]);
    assert_eq!(plan.client_id, "edge-01-cloud");
    assert_eq!((plan.session_seconds, plan.keep_alive_seconds, plan.version), (604_800, 30, Version::V5));
    assert_eq!(plan.ack_timeout, std::time::Duration::from_secs(30));
    let route = &plan.send[0];
    assert_eq!(route.remap.from().as_str(), "edge-01/#");
    assert_eq!((route.qos, route.retain), (RouteQos::AtMost(QoS::ExactlyOnce), Retain::Keep));
    let will = plan.will.unwrap();
    assert_eq!(
        (will.topic.as_str(), will.payload.as_str(), will.qos, will.retain),
        ("site/status", "offline", QoS::AtLeastOnce, true)
    );
}

#[test]
fn the_will_follows_its_route_or_is_the_users_own() {
    let none = r#"{"url": ["mqtt://a"], "send": [{"from": "{gateway}/meter/#"}]}"#;
    assert_eq!(resolve(none).unwrap().will, None);
    let off = r##"{"url": ["mqtt://a"], "will": false, "send": [{"from": "#"}]}"##;
    assert_eq!(resolve(off).unwrap().will, None);
    let excepted = r##"{"url": ["mqtt://a"], "send": [{"from": "#", "except": ["{gateway}/status"]}]}"##;
    assert_eq!(resolve(excepted).unwrap().will, None);
    let own = r#"{"url": ["mqtt://a"], "will": {"topic": "gone/{bridge}", "qos": 2, "retain": false}}"#;
    let will = resolve(own).unwrap().will.unwrap();
    assert_eq!((will.topic.as_str(), will.qos, will.retain), ("gone/cloud", QoS::ExactlyOnce, false));
    let quiet = r##"{"url": ["mqtt://a"], "send": [{"from": "#", "max_qos": 0, "retain": false}]}"##;
    let will = resolve(quiet).unwrap().will.unwrap();
    assert_eq!((will.qos, will.retain), (QoS::AtMostOnce, false));
}

#[test]
fn a_queue_has_bounds_of_its_own_or_those_of_all() {
    let plan = |queue: &str| resolve(&format!(r#"{{"url": ["mqtt://a"], "queue": {queue}}}"#)).unwrap();
    let shares = plan("{}");
    assert_eq!((shares.queue_bytes, shares.when_full), (None, None));
    let own = plan(r#"{"limit": "100MB", "when_full": "refuse"}"#);
    assert_eq!((own.queue_bytes, own.when_full), (Some(100 * 1024 * 1024), Some(WhenFull::Refuse)));
    let wrong = r#"{"url": ["mqtt://a"], "queue": {"when_full": "drop"}}"#;
    let error = serde_json::from_str::<Settings>(wrong).unwrap_err().to_string();
    assert!(error.contains("drop_oldest") && error.contains("drop_newest") && error.contains("refuse"), "{error}");
}

#[test]
fn a_route_has_a_qos_of_its_own() {
    let exactly = RouteQos::Exactly(QoS::AtLeastOnce);
    let at_most = RouteQos::AtMost(QoS::AtLeastOnce);
    assert_eq!(exactly.of(QoS::AtMostOnce), QoS::AtLeastOnce);
    assert_eq!(at_most.of(QoS::AtMostOnce), QoS::AtMostOnce);
    assert_eq!(at_most.of(QoS::ExactlyOnce), QoS::AtLeastOnce);
}

#[test]
fn routes_that_cannot_work_are_refused() {
    for (route, message) in [
        (r#"{"from": "a/#/b"}"#, "`a/#/b` is no filter"),
        (r#"{"from": "{device}/x"}"#, "`{device}` has no meaning here"),
        (r#"{"from": "a/+", "to": "b/#"}"#, "the wildcards of `b/#` are not those of `a/+`"),
        (r#"{"from": "a", "qos": 1, "max_qos": 1}"#, "a route has `qos` or `max_qos`, not both"),
        (r#"{"from": "a", "max_age": "5s"}"#, "`max_age` stands in `receive` only"),
        (r#"{"from": "$share/g/a"}"#, "a route takes no shared subscription"),
        (r#"{"from": "a", "except": ["a+"]}"#, "`a+` is no filter"),
    ] {
        assert_eq!(refused(&format!(r#"{{"url": ["mqtt://a"], "send": [{route}]}}"#)), [message]);
    }
}

#[test]
fn a_route_behind_one_that_takes_everything_is_refused() {
    let send = |routes: &str| resolve(&format!(r#"{{"url": ["mqtt://a"], "send": [{routes}]}}"#));
    for routes in [
        r##"{"from": "#"}, {"from": "a"}"##,
        r#"{"from": "a/#"}, {"from": "a"}"#,
        r#"{"from": "a/+/c"}, {"from": "a/b/c"}"#,
        r#"{"from": "a"}, {"from": "a"}"#,
    ] {
        assert_eq!(send(routes).unwrap_err(), ["no message ever takes this route"], "{routes}");
    }
    for routes in [
        r##"{"from": "a"}, {"from": "#"}"##,
        r##"{"from": "#"}, {"from": "$SYS/#"}"##,
        r#"{"from": "a/+"}, {"from": "a/#"}"#,
        r#"{"from": "a/#", "except": ["a/b"]}, {"from": "a/b"}"#,
        r#"{"from": "a/#"}, {"from": "a/pump/set"}"#,
    ] {
        assert!(send(routes).is_ok(), "{routes}");
    }
}

#[test]
fn receive_routes_of_which_neither_holds_the_other_have_no_topic_in_common() {
    let receive = |routes: &str| resolve(&format!(r#"{{"url": ["mqtt://a"], "receive": [{routes}]}}"#));
    assert_eq!(
        receive(r#"{"from": "a/+/c"}, {"from": "a/b/+"}"#).unwrap_err(),
        ["some messages match this route and another, and would come twice"]
    );
    assert_eq!(receive(r##"{"from": "a/#"}, {"from": "a/set"}"##).unwrap_err(), ["no message ever takes this route"]);
    for routes in [
        r##"{"from": "a/+/c"}, {"from": "a/#"}"##,
        r##"{"from": "a/#", "except": ["a/x"]}, {"from": "a/x"}"##,
        r#"{"from": "a/+/c"}, {"from": "a/+/d"}"#,
    ] {
        assert!(receive(routes).is_ok(), "{routes}");
    }
}

#[test]
fn a_loop_over_3_1_1_is_refused() {
    let bridge = |version: &str, from: &str| {
        resolve(&format!(
            r#"{{"url": ["mqtt://a"], "mqtt": "{version}", "send": [{{"from": "x/#", "to": "site/#"}}],
                 "receive": [{{"from": "{from}"}}]}}"#
        ))
    };
    assert_eq!(bridge("3.1.1", "site/cmd").unwrap_err(), ["`site/cmd` would bring back what this bridge sends"]);
    assert!(bridge("3.1.1", "cmd/#").is_ok());
    assert!(bridge("5", "site/cmd").is_ok());
}

#[test]
fn what_no_server_would_take_is_refused() {
    for (settings, message) in [
        (r#""url": []"#, "`cloud` has no `url`"),
        (r#""url": ["mqtts://a/b"]"#, "`/b` has no meaning here"),
        (
            r#""url": ["ws://a/b c"]"#,
            "`/b c` is no path of a URL: write other characters as %20 and the like, and no #",
        ),
        (r#""url": ["mqtt://a:0"]"#, "there is no port 0 to dial"),
        (r#""url": ["http://a"]"#, "`http://` is no broker"),
        (r#""url": ["a:1883"]"#, "`a:1883` is no URL of a broker"),
        (r#""url": ["mqtt://a"], "keep_alive": "500ms""#, "`keep_alive` is 1s to 65535s, in whole seconds"),
        (r#""url": ["mqtt://a"], "ack_timeout": "500ms""#, "`ack_timeout` is 1s to 1h"),
        (r#""url": ["mqtt://a"], "ack_timeout": "3601s""#, "`ack_timeout` is 1s to 1h"),
        (r#""url": ["mqtt://a"], "session": "50000d""#, "a session is kept for at most 49710d"),
        (r#""url": ["mqtt://a"], "password": "x""#, "a `password` wants a `username`"),
        (r#""url": ["mqtt://a"], "client_id": """#, "a client id has 1 to 65535 characters, none of them U+0000"),
        (r#""url": ["mqtt://a"], "tls": {}"#, "`tls` wants a URL with `mqtts://` or `wss://`"),
        (r#""url": ["ws://a"], "tls": {"alpn": ["mqtt"]}"#, "`tls` wants a URL with `mqtts://` or `wss://`"),
        (r#""url": ["wss://a"], "tls": {"alpn": [""]}"#, "a protocol of `alpn` has 1 to 255 bytes"),
        (r#""url": ["mqtts://a"], "tls": {"server_name": "a b"}"#, "`a b` is no name that a certificate has"),
        (r#""url": ["mqtts://a"], "tls": {"cert": "a.crt"}"#, "a `cert` wants its `key`"),
        (r#""url": ["mqtts://a"], "proxy": "https://u:secret@p""#, "this is no proxy"),
        (r#""url": ["mqtts://a"], "proxy": "p:3128""#, "this is no proxy"),
        (r#""url": ["mqtts://a"], "tls": {"ca": "ca.crt"}"#, "there is no file /nowhere/ca.crt"),
    ] {
        assert_eq!(refused(&format!("{{{settings}}}")), [message]);
    }
}

#[test]
fn routes_have_lanes_by_their_priority_batch_and_every() {
    let plan = resolve(
        r#"{"url": ["mqtt://a"], "limit": {"rate": "50/s", "bandwidth": "32KB/s"}, "queue": {"expire": "7d"},
            "send": [{"from": "a"}, {"from": "b", "priority": "high"}, {"from": "c", "priority": "low"},
                     {"from": "d", "batch": {"every": "10s", "max": 20}}, {"from": "e", "every": "30s", "qos": 2},
                     {"from": "f", "priority": "high"}]}"#,
    )
    .unwrap();
    let lanes: Vec<u8> = plan.send.iter().map(|route| route.lane).collect();
    assert_eq!(lanes, [0, 1, 2, 4, 5, 1]);
    let names: Vec<&str> = plan.lanes.iter().map(|lane| lane.name.as_str()).collect();
    assert_eq!(names, ["high", "low", "aside", "batch:d", "every:e"]);
    assert_eq!(plan.lanes[3].kind, LaneKind::Batch { every: 10_000, max: 20 });
    assert_eq!((&plan.send[0].payload, &plan.send[3].payload), (&HopPayload::AsPublished, &HopPayload::Json));
    assert_eq!(plan.throttling, Throttling { rate: Some(50.0), bandwidth: Some(32_768.0) });
    assert_eq!(plan.expire, Some(std::time::Duration::from_secs(604_800)));
}

#[test]
fn lanes_that_make_no_sense_are_refused() {
    for (route, message) in [
        (r#"{"from": "a", "batch": {}, "every": "1s"}"#, "a route has `batch` or `every`, not both"),
        (r#"{"from": "a", "batch": {}, "qos": 2}"#, "`batch` wants `qos: 0` or `qos: 1`"),
        (r#"{"from": "a", "batch": {"max": 1}}"#, "`max` of a batch is 2 to 1000"),
        (r#"{"from": "a", "batch": {"every": "2h"}}"#, "`every` of a batch is 100ms to 1h"),
        (r#"{"from": "a", "every": "10ms"}"#, "`every` is 100ms to 1d"),
    ] {
        assert_eq!(refused(&format!(r#"{{"url": ["mqtt://a"], "send": [{route}]}}"#)), [message]);
    }
    for key in [r#""priority": "high""#, r#""batch": {}"#, r#""every": "1s""#, r#""payload": "json""#] {
        let mistakes = refused(&format!(r#"{{"url": ["mqtt://a"], "receive": [{{"from": "a", {key}}}]}}"#));
        assert!(mistakes[0].ends_with("stands in `send` only"), "{mistakes:?}");
    }
}
