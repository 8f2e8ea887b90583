//! Bridges through proxies: with and without password, by names that only the proxy knows, and what is said of a no.

use super::scripted_proxy::{FORBIDDEN, KNOWN, ScriptedProxy};
use super::{Cloud, Highest, gateway, tls_listener};
use crate::support::certificates::Authority;
use crate::support::edgeway::edgeway;
use crate::support::mosquitto::{mosquitto_pub, mosquitto_sub};
use crate::support::ports::free_port;
use rcgen::SanType;

#[test]
fn a_bridge_goes_through_a_proxy_that_resolves_the_name() {
    let authority = Authority::new();
    let name = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names = vec![SanType::DnsName(KNOWN.try_into().unwrap())];
    };
    authority.install("server", &authority.sign_with("server", name));
    let (tls, lines) = tls_listener("");
    let (wss, wss_lines) = tls_listener("protocol websockets");
    let cloud = Cloud::start_with(authority, &format!("{lines}{wss_lines}"), Highest::Tls13);
    let (plain, ca) = (cloud.port(), cloud.authority.text("ca.crt"));
    let seen = mosquitto_sub(plain, &["-t", "#", "-q", "1", "-v"]);
    let (open, locked) = (ScriptedProxy::start(None), ScriptedProxy::start(Some("edge:s3cr@t")));
    let (open_port, locked_port) = (open.port, locked.port);
    let mut gateway = gateway(&format!(
        r##"
  http:
    url: mqtt://{KNOWN}:{plain}
    proxy: http://127.0.0.1:{open_port}
    send: [ {{ from: "x/#", to: "http/#", qos: 1 }} ]
  https:
    url: mqtts://{KNOWN}:{tls}
    tls: {{ ca: {ca} }}
    proxy: http://edge:s3cr%40t@127.0.0.1:{locked_port}
    send: [ {{ from: "x/#", to: "https/#", qos: 1 }} ]
  socks:
    url: mqtt://{KNOWN}:{plain}
    proxy: socks5://127.0.0.1:{open_port}
    send: [ {{ from: "x/#", to: "socks/#", qos: 1 }} ]
  wsocks:
    url: wss://{KNOWN}:{wss}
    tls: {{ ca: {ca} }}
    proxy: socks5://edge:s3cr%40t@127.0.0.1:{locked_port}
    send: [ {{ from: "x/#", to: "wsocks/#", qos: 1 }} ]
"##
    ));
    mosquitto_pub(gateway.port, &["-t", "x/y", "-m", "z", "-q", "1"]);
    for bridge in ["http", "https", "socks", "wsocks"] {
        seen.until(&format!("{bridge}/y z"));
    }
    assert_eq!(open.asked(), [format!("{KNOWN}:{plain}"), format!("{KNOWN}:{plain}")]);
    let mut asked = locked.asked();
    asked.sort();
    let mut expected = [format!("{KNOWN}:{tls}"), format!("{KNOWN}:{wss}")];
    expected.sort();
    assert_eq!(asked, expected);
    let log = gateway.peer().stderr().lines();
    assert!(log.iter().all(|line| !line.contains("s3cr")), "no secret is logged");
}

#[test]
fn a_proxy_that_says_no_is_told_in_words() {
    let (open, locked) = (ScriptedProxy::start(None).port, ScriptedProxy::start(Some("edge:s3cret")).port);
    let dead = free_port();
    let mut gateway = gateway(&format!(
        r##"
  h-none:      {{ url: "mqtt://{KNOWN}", proxy: "http://127.0.0.1:{locked}" }}
  h-wrong:     {{ url: "mqtt://{KNOWN}", proxy: "http://edge:wr0ng@127.0.0.1:{locked}" }}
  h-forbidden: {{ url: "mqtt://{FORBIDDEN}", proxy: "http://127.0.0.1:{open}" }}
  h-unknown:   {{ url: "mqtt://unknown.test", proxy: "http://127.0.0.1:{open}" }}
  s-none:      {{ url: "mqtt://{KNOWN}", proxy: "socks5://127.0.0.1:{locked}" }}
  s-wrong:     {{ url: "mqtt://{KNOWN}", proxy: "socks5://edge:wr0ng@127.0.0.1:{locked}" }}
  s-forbidden: {{ url: "mqtt://{FORBIDDEN}", proxy: "socks5://127.0.0.1:{open}" }}
  s-unknown:   {{ url: "mqtt://unknown.test", proxy: "socks5://127.0.0.1:{open}" }}
  dead:        {{ url: "mqtt://{KNOWN}", proxy: "socks5://127.0.0.1:{dead}" }}
"##
    ));
    let log = gateway.peer().stderr().clone();
    for (bridge, words) in [
        ("h-none", format!("the proxy http://127.0.0.1:{locked} does not connect us: it wants a user and a password")),
        (
            "h-wrong",
            format!("the proxy http://127.0.0.1:{locked} does not connect us: it refuses our user or password"),
        ),
        ("h-forbidden", format!("it does not allow connections to {FORBIDDEN}:1883 (403 Forbidden)")),
        ("h-unknown", "it cannot reach unknown.test:1883: 504 Gateway Timeout".into()),
        (
            "s-none",
            format!("the proxy socks5://127.0.0.1:{locked} does not connect us: it wants a user and a password"),
        ),
        ("s-wrong", "it refuses our user or password".into()),
        ("s-forbidden", format!("it does not allow connections to {FORBIDDEN}:1883")),
        ("s-unknown", "it cannot reach unknown.test:1883: host unreachable, or its name unknown".into()),
        ("dead", format!("cannot reach 127.0.0.1:{dead}")),
    ] {
        let is_of = format!("bridge=\"{bridge}\"");
        let line = log.take(bridge, |line| line.contains("cannot connect") && line.contains(&is_of));
        assert!(line.contains(&words), "{bridge}: {line}");
    }
    assert!(log.lines().iter().all(|line| !line.contains("wr0ng")), "no secret is logged");
}

#[test]
fn check_refuses_a_proxy_that_makes_no_sense_and_hides_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let text = "bridges: { a: { url: mqtt://a, proxy: \"https://edge:hunter2@proxy:3128\" } }\n";
    std::fs::write(folder.path().join("edgeway.yaml"), text).unwrap();
    let (status, _, told) = edgeway(&["check", "-c", "edgeway.yaml"], folder.path());
    assert_eq!(status.code(), Some(2));
    assert!(told.contains("edgeway.yaml:1:39") && told.contains("this is no proxy"), "{told}");
    assert!(told.contains("the way to a proxy itself is without TLS") && !told.contains("hunter2"), "{told}");
}
