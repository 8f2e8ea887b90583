//! What the reference promises of plans, and what it refuses.

use std::path::Path;

use super::*;
use crate::mqtt::QoS;
use crate::net::client_tls::MinVersion;
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
fn tls_has_its_options() {
    let text = r#"{"url": ["wss://a", "mqtts://b"], "proxy": "socks5://u:secret@p",
        "tls": {"alpn": ["x-amzn-mqtt-ca", "mqtt"], "server_name": "c", "min_version": "1.3"}}"#;
    let plan = resolve(text).unwrap();
    let servers: Vec<String> = plan.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["wss://a:443/mqtt", "mqtts://b:8883"]);
    assert_eq!(plan.tls.alpn, ["x-amzn-mqtt-ca", "mqtt"]);
    assert_eq!((plan.tls.server_name.as_deref(), plan.tls.min_version), (Some("c"), MinVersion::Tls13));
    assert_eq!(plan.proxy.as_ref().unwrap().to_string(), "socks5://p:1080");
    assert!(!format!("{plan:?}").contains("secret"), "{plan:?}");
    let plain = resolve(r#"{"url": ["mqtts://b"]}"#).unwrap();
    assert_eq!((plain.tls, plain.proxy), (ClientTlsOptions::default(), None));
}

#[test]
fn files_of_tls_that_are_of_no_use_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, content: &str| std::fs::write(folder.path().join(file), content).unwrap();
    let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.into()]).unwrap();
    let (ours, other) = (made("a"), made("b"));
    write("a.crt", &ours.cert.pem());
    write("a.key", &ours.signing_key.serialize_pem());
    write("b.key", &other.signing_key.serialize_pem());
    write("empty", "");
    let mistakes = |tls: &str| {
        let text = format!(r#"{{"url": ["mqtts://a"], "tls": {tls}}}"#);
        let settings: Settings = serde_json::from_str(&text).unwrap();
        let resolved = settings.resolve("edge-01", &Located::nowhere("cloud".to_string()), folder.path());
        resolved.err().unwrap_or_default().into_iter().map(|mistake| mistake.message).collect::<Vec<_>>()
    };
    assert_eq!(mistakes(r#"{"ca": "a.crt", "cert": "a.crt", "key": "a.key"}"#), [""; 0]);
    for (tls, words) in [
        (r#"{"ca": "empty"}"#, "empty holds no certificate in PEM"),
        (r#"{"ca": "a.crt", "cert": "a.crt", "key": "b.key"}"#, "a.crt"),
        (r#"{"ca": "a.crt", "cert": "a.key", "key": "a.key"}"#, "a.key holds no certificate in PEM"),
        (r#"{"ca": "a.crt", "cert": "a.crt", "key": "a.crt"}"#, "a.crt holds no key that is not encrypted"),
    ] {
        let found = mistakes(tls);
        assert!(found.len() == 1 && found[0].ends_with(words), "{tls}: {found:?}");
    }
}
