//! Bridges over TLS: who trusts whom, by which name, in which version, and what is said where that fails.

use super::{Cloud, Highest, gateway, tls_listener};
use crate::support::certificates::Authority;
use crate::support::gate::Gate;
use crate::support::mosquitto::{mosquitto_pub, mosquitto_sub};
use crate::support::process::Output;
use rcgen::{SanType, date_time_ymd};

#[test]
fn a_bridge_shows_its_certificate_in_both_versions() {
    for (highest, lowest) in [(Highest::Tls12, "1.2"), (Highest::Tls13, "1.3")] {
        let (port, lines) = tls_listener("require_certificate true\nuse_identity_as_username true");
        let authority = Authority::new();
        authority.issue("server");
        authority.issue("pump");
        let cloud = Cloud::start_with(authority, &lines, highest);
        let folder = cloud.authority.folder().display();
        let seen = mosquitto_sub(cloud.port(), &["-t", "#", "-q", "2", "-F", "%t %q %p"]);
        let gateway = gateway(&format!(
            r##"
  cloud:
    url: mqtts://127.0.0.1:{port}
    tls:
      ca: {folder}/ca.crt
      cert: {folder}/pump.crt
      key: {folder}/pump.key
      min_version: {lowest}
      alpn: mqtt
    send: [ {{ from: "x/#", qos: 2 }} ]
"##
        ));
        mosquitto_pub(gateway.port, &["-t", "x/y", "-m", "z", "-q", "1"]);
        seen.until("x/y 2 z");
        let line = cloud.broker.peer().stderr().wait_for("as edge-cloud ");
        assert!(line.contains("u'pump'"), "{line}");
    }
}

#[test]
fn a_bridge_comes_back_with_its_certificate_after_its_network_was_cut() {
    for highest in [Highest::Tls12, Highest::Tls13] {
        let (port, lines) = tls_listener("require_certificate true\nuse_identity_as_username true");
        let authority = Authority::new();
        authority.issue("server");
        authority.issue("pump");
        let cloud = Cloud::start_with(authority, &lines, highest);
        let folder = cloud.authority.folder().display();
        let seen = mosquitto_sub(cloud.port(), &["-t", "t/#", "-q", "2", "-F", "%p"]);
        let mut gate = Gate::open(port);
        let gate_port = gate.port;
        let gateway = gateway(&format!(
            r##"
  cloud:
    url: mqtts://127.0.0.1:{gate_port}
    tls: {{ ca: {folder}/ca.crt, cert: {folder}/pump.crt, key: {folder}/pump.key }}
    send: [ {{ from: "t/#", qos: 2 }} ]
"##
        ));
        // Sessions of TLS that the server has handed out are offered again the second time.
        for cut in 0..3 {
            let number = cut.to_string();
            mosquitto_pub(gateway.port, &["-t", "t/x", "-m", &number, "-q", "1"]);
            assert_eq!(seen.next(), number);
            cloud
                .broker
                .peer()
                .stderr()
                .take("the bridge", |line| line.contains("edge-cloud") && line.contains("u'pump'"));
            gate.shut();
            gate.open_again();
        }
    }
}

/// The first error of a bridge has one of `words`.
fn says(log: &Output, bridge: &str, words: &[&str]) {
    let is_of = format!("bridge=\"{bridge}\"");
    let line = log.take(bridge, |line| line.contains("cannot connect") && line.contains(&is_of));
    assert!(words.iter().any(|words| line.contains(words)), "{bridge}: {line}");
}

/// mosquitto closes over the CONNECT that it has not read, so its alert may be lost, and with it the reason.
const UNKNOWN: &str = "the server closed the connection before CONNACK";

#[test]
fn what_is_wrong_is_said_in_words() {
    let authority = Authority::new();
    authority.issue("server");
    authority
        .install("expired", &authority.sign_with("expired", |params| params.not_after = date_time_ymd(2020, 1, 1)));
    let elsewhere = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names = vec![SanType::DnsName("broker.example.com".try_into().unwrap())];
    };
    authority.install("elsewhere", &authority.sign_with("elsewhere", elsewhere));
    let (good, good_lines) = tls_listener("");
    let (wants, wants_lines) = tls_listener("require_certificate true");
    let (expired, expired_lines) = tls_listener("");
    let (other_name, other_name_lines) = tls_listener("");
    let lines = [
        good_lines,
        wants_lines,
        expired_lines.replace("/server.", "/expired."),
        other_name_lines.replace("/server.", "/elsewhere."),
    ];
    let cloud = Cloud::start_with(authority, &lines.concat(), Highest::Tls13);
    let (stranger, namesake) = (Authority::named("Others"), Authority::new());
    stranger.issue("pump");
    let ca = format!("ca: {}", cloud.authority.text("ca.crt"));
    let (others, namesakes, plain) = (stranger.folder().display(), namesake.folder().display(), cloud.port());
    let mut gateway = gateway(&format!(
        r##"
  unknown:  {{ url: "mqtts://127.0.0.1:{good}", tls: {{ ca: {others}/ca.crt }} }}
  namesake: {{ url: "mqtts://127.0.0.1:{good}", tls: {{ ca: {namesakes}/ca.crt }} }}
  expired:  {{ url: "mqtts://127.0.0.1:{expired}", tls: {{ {ca} }} }}
  misnamed: {{ url: "mqtts://127.0.0.1:{other_name}", tls: {{ {ca} }} }}
  named:    {{ url: "mqtts://127.0.0.1:{other_name}", tls: {{ {ca}, server_name: broker.example.com }} }}
  nobody:   {{ url: "mqtts://127.0.0.1:{wants}", tls: {{ {ca} }} }}
  stranger: {{ url: "mqtts://127.0.0.1:{wants}", tls: {{ {ca}, cert: {others}/pump.crt, key: {others}/pump.key }} }}
  plain:    {{ url: "mqtts://127.0.0.1:{plain}", tls: {{ {ca} }} }}
  well:     {{ url: "mqtts://127.0.0.1:{good}", tls: {{ {ca} }} }}
"##
    ));
    for id in ["edge-well", "edge-named"] {
        cloud.broker.peer().stderr().wait_for(&format!("as {id} "));
    }
    let log = gateway.peer().stderr().clone();
    for (bridge, words) in [
        ("unknown", "is of an authority that is not trusted: `tls: { ca: … }`"),
        ("namesake", "is of an authority that is not trusted: `tls: { ca: … }`"),
        ("expired", " days ago, by this machine's clock"),
        ("misnamed", "is for broker.example.com, not for 127.0.0.1: `tls: { server_name: … }`"),
        ("nobody", "the server wants a certificate of ours: `tls: { cert: …, key: … }`"),
        ("stranger", "the server does not trust the authority of our certificate"),
    ] {
        says(&log, bridge, &[words, if ["nobody", "stranger"].contains(&bridge) { UNKNOWN } else { words }]);
    }
    says(&log, "plain", &["does it speak TLS, and at this port?"]);
}

#[test]
fn what_is_wrong_with_tls_1_2_is_said_in_words() {
    let authority = Authority::new();
    authority.issue("server");
    let (good, good_lines) = tls_listener("");
    let (wants, wants_lines) = tls_listener("require_certificate true");
    let cloud = Cloud::start_with(authority, &format!("{good_lines}{wants_lines}"), Highest::Tls12);
    let stranger = Authority::named("Others");
    stranger.issue("pump");
    let (ca, others) = (format!("ca: {}", cloud.authority.text("ca.crt")), stranger.folder().display());
    let mut gateway = gateway(&format!(
        r##"
  strict:   {{ url: "mqtts://127.0.0.1:{good}", tls: {{ {ca}, min_version: 1.3 }} }}
  nobody:   {{ url: "mqtts://127.0.0.1:{wants}", tls: {{ {ca} }} }}
  stranger: {{ url: "mqtts://127.0.0.1:{wants}", tls: {{ {ca}, cert: {others}/pump.crt, key: {others}/pump.key }} }}
"##
    ));
    let log = gateway.peer().stderr().clone();
    says(&log, "strict", &["the server speaks no version of TLS that `min_version` allows"]);
    says(&log, "nobody", &["the server refuses: it may want a certificate of ours"]);
    says(&log, "stranger", &["the server does not trust the authority of our certificate"]);
}
