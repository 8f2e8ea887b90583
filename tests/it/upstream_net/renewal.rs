//! New certificates while a bridge runs: the old ones go when a server has taken the new.

use super::{Cloud, Highest, gateway, tls_listener};
use crate::support::certificates::Authority;
use crate::support::edgeway::Edgeway;
use crate::support::mosquitto::{Subscriber, mosquitto_pub, mosquitto_sub};
use crate::support::ports::free_port;
use crate::support::process::wait_until;

/// A cloud that names clients by their certificates, a bridge to it, and who looks at what arrives.
struct Plant {
    cloud: Cloud,
    gateway: Edgeway,
    seen: Subscriber,
    sent: u32,
}

impl Plant {
    fn start(highest: Highest) -> Self {
        let (port, lines) = tls_listener("require_certificate true\nuse_identity_as_username true");
        let authority = Authority::new();
        for name in ["server", "pump"] {
            authority.issue(name);
        }
        let cloud = Cloud::start_with(authority, &lines, highest);
        let seen = mosquitto_sub(cloud.port(), &["-t", "t/#", "-q", "2", "-F", "%p"]);
        let folder = cloud.authority.folder().display();
        let gateway = gateway(&format!(
            r##"
  cloud:
    url: mqtts://localhost:{port}
    tls: {{ ca: {folder}/ca.crt, cert: {folder}/pump.crt, key: {folder}/pump.key }}
    send: [ {{ from: "t/#", qos: 2 }} ]
"##
        ));
        let plant = Self { cloud, gateway, seen, sent: 0 };
        plant.wait_for_user("pump");
        plant
    }

    fn wait_for_user(&self, user: &str) {
        let client = format!("u'{user}'");
        self.cloud
            .broker
            .peer()
            .stderr()
            .take("the bridge", |line| line.contains("edge-cloud") && line.contains(&client));
    }

    /// Times that the bridge came to the cloud.
    fn connections(&self) -> usize {
        let log = self.cloud.broker.peer().stderr().lines();
        log.iter().filter(|line| line.contains("New client connected") && line.contains("as edge-cloud ")).count()
    }

    /// A message goes through, once and behind those before it.
    fn sends(&mut self) {
        self.sent += 1;
        let number = self.sent.to_string();
        mosquitto_pub(self.gateway.port, &["-t", "t/x", "-m", &number, "-q", "2"]);
        assert_eq!(self.seen.next(), number);
    }
}

#[test]
fn a_new_certificate_is_used_once_the_server_takes_it() {
    for highest in [Highest::Tls12, Highest::Tls13] {
        let mut plant = Plant::start(highest);
        plant.sends();
        plant.cloud.authority.install("pump", &plant.cloud.authority.sign("pump-renewed"));
        let log = plant.gateway.peer().stderr().clone();
        log.wait_for("new TLS files are accepted");
        plant.wait_for_user("pump-renewed");
        plant.sends();
        assert_eq!(plant.connections(), 2, "it was tried without CONNECT");
        assert!(log.lines().iter().all(|line| !line.contains("link lost")));
        plant.sends();
    }
}

#[test]
fn a_certificate_that_the_server_does_not_take_leaves_the_old_in_use() {
    for highest in [Highest::Tls12, Highest::Tls13] {
        let mut plant = Plant::start(highest);
        let stranger = Authority::named("Others");
        plant.cloud.authority.install("pump", &stranger.sign("stranger"));
        let log = plant.gateway.peer().stderr().clone();
        let line = log.wait_for("new TLS files are refused");
        assert!(line.contains("the server does not trust the authority of our certificate"), "{highest:?}: {line}");
        plant.sends();
        assert_eq!(plant.connections(), 1, "the link has lived through it");

        // The key alone comes first, then its certificate.
        let good = plant.cloud.authority.sign("pump-renewed");
        plant.cloud.authority.write("pump.key", &good.key);
        log.wait_for("new TLS files cannot be used");
        plant.cloud.authority.write("pump.crt", &good.certificate);
        plant.wait_for_user("pump-renewed");
        plant.sends();
        assert_eq!(plant.connections(), 2);
    }
}

#[test]
fn an_authority_that_does_not_know_the_server_leaves_the_old_in_use() {
    let mut plant = Plant::start(Highest::Tls13);
    let ca = std::fs::read_to_string(plant.cloud.authority.path("ca.crt")).unwrap();
    let others = std::fs::read_to_string(Authority::named("Others").path("ca.crt")).unwrap();
    plant.cloud.authority.write("ca.crt", &others);
    let log = plant.gateway.peer().stderr().clone();
    let line = log.wait_for("new TLS files are refused");
    assert!(line.contains("is of an authority that is not trusted"), "{line}");
    plant.sends();
    plant.cloud.authority.write("ca.crt", &format!("{others}{ca}"));
    log.wait_for("new TLS files are accepted");
    wait_until("the bridge is back", || plant.connections() == 2);
    plant.sends();
}

#[test]
fn a_certificate_with_which_connect_is_refused_gives_way_to_the_old_one() {
    let authority = Authority::new();
    for name in ["server", "pump"] {
        authority.issue(name);
    }
    let folder = authority.folder().display();
    let tls = free_port();
    let cloud = Edgeway::start(&format!(
        "\
broker:
  listen:
    - mqtt://127.0.0.1:@PORT@
    - url: mqtts://127.0.0.1:{tls}
      tls: {{ cert: {folder}/server.crt, key: {folder}/server.key, client_ca: {folder}/ca.crt }}
      users: {{ pump: {{ read: \"#\", write: \"#\" }} }}
"
    ));
    let seen = mosquitto_sub(cloud.port, &["-t", "t/#", "-q", "1", "-F", "%p"]);
    let mut gateway = gateway(&format!(
        r##"
  cloud:
    url: mqtts://localhost:{tls}
    tls: {{ ca: {folder}/ca.crt, cert: {folder}/pump.crt, key: {folder}/pump.key }}
    send: [ {{ from: "t/#", qos: 1 }} ]
"##
    ));
    mosquitto_pub(gateway.port, &["-t", "t/x", "-m", "before", "-q", "1"]);
    assert_eq!(seen.next(), "before");
    authority.install("pump", &authority.sign("valve"));
    let log = gateway.peer().stderr().clone();
    log.wait_for("new TLS files are accepted");
    let line = log.wait_for("the server refuses the bridge with the new TLS files; the old ones are in use");
    assert!(line.contains("not authorized"), "{line}");
    mosquitto_pub(gateway.port, &["-t", "t/x", "-m", "after", "-q", "1"]);
    assert_eq!(seen.next(), "after");
}

#[test]
fn a_certificate_that_ends_soon_is_warned_of() {
    let (port, lines) = tls_listener("");
    let authority = Authority::new();
    authority.issue("server");
    let in_ten_days = std::time::SystemTime::now() + std::time::Duration::from_secs(10 * 86_400 + 3600);
    authority.install("pump", &authority.sign_with("pump", |params| params.not_after = in_ten_days.into()));
    let cloud = Cloud::start_with(authority, &lines, Highest::Tls13);
    let folder = cloud.authority.folder().display();
    let mut gateway = gateway(&format!(
        r##"
  cloud:
    url: mqtts://localhost:{port}
    tls: {{ ca: {folder}/ca.crt, cert: {folder}/pump.crt, key: {folder}/pump.key }}
"##
    ));
    let line = gateway.peer().stderr().wait_for("a certificate ends");
    assert!(line.contains("pump.crt expires in 10 days"), "{line}");
}
