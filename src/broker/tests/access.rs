//! Who may connect, publish and subscribe, by the rules of a listener.

use std::net::IpAddr;
use std::path::Path;

use super::*;
use crate::broker::access::Access;
use crate::broker::listener::{Arrival, Entrance};
use crate::broker::settings::Settings;
use crate::mqtt::packet::Will;
use crate::mqtt::properties::Forwardable;

const HOME: &str = "127.0.0.1";
const NEAR: &str = "192.168.1.77";
const FAR: &str = "203.0.113.9";

/// A listener with rules that stand in a section `broker`.
struct Door {
    world: World,
    entrance: Arc<Entrance>,
}

impl Door {
    fn new(world: &World, section: &str) -> Self {
        let settings: Settings = serde_json::from_str(section).unwrap();
        let resolved = settings.resolve("edge-01", Path::new("")).unwrap();
        let entrance = Entrance::new(Access::new(resolved.rules).unwrap(), Limits::default());
        Self { world: world.clone(), entrance }
    }

    /// A connection from `address`; `user` is what its certificate says.
    fn dial(&self, address: &str, user: Option<&str>) -> Peer {
        let (near, far) = duplex(self.world.pipe);
        let arrival = Arrival { transport: Transport::stream(far), user: user.map(Arc::from), is_foreign: false };
        let address: Option<IpAddr> = address.parse().ok();
        self.world.broker.accept(address, &self.entrance, std::future::ready(Ok(arrival)));
        self.world.peer(Box::pin(near))
    }

    /// The connection, and what CONNACK said.
    async fn try_connect(&self, address: &str, connect: Connect<'_>) -> (Peer, ReasonCode) {
        let mut peer = self.dial(address, None);
        let got = peer.say_connect(connect).await;
        let Got::ConnAck(connack) = got else { panic!("{got:?} instead of CONNACK") };
        (peer, connack.reason)
    }

    async fn connect(&self, address: &str, connect: Connect<'_>) -> Peer {
        let (peer, reason) = self.try_connect(address, connect).await;
        assert_eq!(reason, ReasonCode::Success, "from {address}");
        peer
    }

    /// A user of 5.0 on this machine.
    async fn user(&self, name: &str, password: &str) -> Peer {
        self.connect(HOME, login(Version::V5, name, name, password)).await
    }
}

fn login<'a>(version: Version, client_id: &'a str, user: &'a str, password: &'a str) -> Connect<'a> {
    Connect { username: Some(user), password: Some(password.as_bytes()), ..Connect::new(version, client_id) }
}

fn will(topic: &str) -> Will<'_> {
    Will {
        topic,
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_interval: 0,
        message_expiry_interval: None,
        forwardable: Forwardable::default(),
    }
}

/// A hash of `password` that costs little, and a plain password.
const USERS: &str = r##"{
    "users": {
        "ann": { "password": "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
                 "read": ["#", "$SYS/#"], "write": ["#"] },
        "bob": { "password": "hunter2", "read": ["{gateway}/+/power", "news/#"],
                 "write": ["{user}/#", "of/{client}", "{gateway}/+/set"] }
    },
    "anonymous": false
}"##;

#[test]
fn users_are_let_in_by_their_password_and_others_learn_only_that_they_are_not() {
    everywhere(async |world| {
        let door = Door::new(&world, USERS);
        for version in VERSIONS {
            for (user, password) in [("ann", "password"), ("bob", "hunter2"), ("ann", "password")] {
                door.connect(FAR, login(version, "c", user, password)).await.leave().await;
            }
            for (user, password) in
                [("ann", "hunter2"), ("bob", "password"), ("eve", "password"), ("", ""), ("bob", "")]
            {
                for _ in 0..2 {
                    let (mut peer, reason) = door.try_connect(FAR, login(version, "c", user, password)).await;
                    assert_eq!(reason, ReasonCode::BadUserNameOrPassword, "{user} {password}");
                    assert_eq!(peer.end().await, None);
                }
            }
            // A user name without password is no anonymous.
            let nameless = Connect { username: Some("ann"), ..Connect::new(version, "c") };
            assert_eq!(door.try_connect(HOME, nameless).await.1, ReasonCode::BadUserNameOrPassword);
            assert_eq!(door.try_connect(HOME, Connect::new(version, "c")).await.1, ReasonCode::NotAuthorized);
        }
        until("no session is left", || world.broker.session_count() == 0).await;
    });
}

#[test]
fn the_anonymous_come_from_this_machine_unless_it_is_said_from_where() {
    everywhere(async |world| {
        for (section, welcome, unwelcome) in [
            ("{}", vec![HOME, "::1", "::ffff:127.0.0.1", ""], vec![NEAR, FAR, "::ffff:192.168.1.77"]),
            (r#"{"anonymous": true}"#, vec![HOME, NEAR, FAR, ""], vec![]),
            (
                r##"{"anonymous": {"from": ["192.168.1.0/24"], "read": ["#"]}}"##,
                vec![NEAR, "::ffff:192.168.1.77"],
                vec![HOME, FAR, "::1", ""],
            ),
            (
                r##"{"anonymous": {"from": ["192.168.1.0/24", "loopback"], "read": ["#"]}}"##,
                vec![NEAR, HOME, ""],
                vec![FAR],
            ),
            (r##"{"anonymous": {"read": ["#"]}}"##, vec![NEAR, HOME, FAR, "2001:db8::1", ""], vec![]),
        ] {
            let door = Door::new(&world, section);
            for address in welcome {
                door.connect(address, Connect::new(Version::V5, "c")).await.leave().await;
                // Without users nobody looks at names and passwords, which many devices send anyway.
                door.connect(address, login(Version::V3, "c", "device", "secret")).await.leave().await;
            }
            for address in unwelcome {
                for version in VERSIONS {
                    let (_, reason) = door.try_connect(address, Connect::new(version, "c")).await;
                    assert_eq!(reason, ReasonCode::NotAuthorized, "{section} {address}");
                }
            }
        }
    });
}

#[test]
fn what_a_user_may_not_write_is_refused_and_reaches_nobody() {
    everywhere(async |world| {
        let door = Door::new(&world, USERS);
        let mut all = door.user("ann", "password").await;
        all.subscribe("#", QoS::ExactlyOnce).await;
        for version in VERSIONS {
            let mut bob = door.connect(HOME, login(version, "c1", "bob", "hunter2")).await;
            for qos in QOS {
                for topic in ["bob", "bob/a/b", "of/c1", "edge-01/plug/set"] {
                    assert!(!bob.publish(&Say::new(topic, "yes", qos)).await.is_error());
                    assert_eq!(all.message().await.topic, topic);
                }
                for topic in ["ann/a", "of/c2", "edge-02/plug/set", "edge-01/plug/power", "$SYS/broker/uptime"] {
                    let reason = bob.publish(&Say { retain: true, ..Say::new(topic, "no", qos) }).await;
                    let told = version == Version::V5 && qos > QoS::AtMostOnce;
                    let expected = if told { ReasonCode::NotAuthorized } else { ReasonCode::Success };
                    assert_eq!(reason, expected, "{topic} {qos:?}");
                }
            }
            bob.leave().await;
            all.has_nothing().await;
        }
        assert_eq!(world.broker.router.retained_count(), 0);
        assert_eq!(world.broker.metrics.refused.value(), 2 * 3 * 5);
    });
}

#[test]
fn a_subscription_gets_what_its_user_may_read_retained_messages_too() {
    everywhere(async |world| {
        let door = Door::new(&world, USERS);
        let mut ann = door.user("ann", "password").await;
        let topics = ["edge-01/meter/power", "edge-01/meter/energy", "news/1", "other"];
        for topic in topics {
            ann.publish(&Say::retained(topic, "stored")).await;
        }
        for version in VERSIONS {
            let mut bob = door.connect(HOME, login(version, "c1", "bob", "hunter2")).await;
            let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..Default::default() };
            let filters =
                ["other", "edge-01/meter/energy", "edge-01/+/power", "$SYS/#"].map(|filter| (filter, options));
            let refused = if version == Version::V5 { ReasonCode::NotAuthorized } else { ReasonCode::UnspecifiedError };
            let codes = bob.subscribe_with(&filters, None).await;
            assert_eq!(codes, [refused, refused, ReasonCode::GrantedQoS1, refused]);
            assert_eq!(bob.message().await.topic, "edge-01/meter/power");
            bob.unsubscribe("edge-01/+/power").await;

            bob.subscribe("#", QoS::AtLeastOnce).await;
            let mut stored = [bob.message().await.topic, bob.message().await.topic];
            stored.sort();
            assert_eq!(stored, ["edge-01/meter/power", "news/1"]);
            for topic in topics {
                ann.publish(&Say::new(topic, "live", QoS::AtLeastOnce)).await;
            }
            assert_eq!([bob.message().await.topic, bob.message().await.topic], ["edge-01/meter/power", "news/1"]);
            bob.has_nothing().await;
            bob.leave().await;
        }
    });
}

#[test]
fn a_client_whose_will_it_may_not_write_is_refused() {
    everywhere(async |world| {
        let door = Door::new(&world, USERS);
        let mut ann = door.user("ann", "password").await;
        ann.subscribe("#", QoS::AtLeastOnce).await;
        for version in VERSIONS {
            for (topic, expected) in [("ann/status", ReasonCode::NotAuthorized), ("bob/status", ReasonCode::Success)] {
                let connect = Connect { will: Some(will(topic)), ..login(version, "c1", "bob", "hunter2") };
                let (bob, reason) = door.try_connect(HOME, connect).await;
                assert_eq!(reason, expected, "{topic}");
                drop(bob);
            }
            assert_eq!(ann.message().await.topic, "bob/status");
            ann.has_nothing().await;
        }
    });
}

#[test]
fn no_wildcard_of_the_anonymous_writes_a_command() {
    everywhere(async |world| {
        let everybody = Door::new(&world, r#"{"anonymous": true}"#);
        let named = Door::new(
            &world,
            r##"{"anonymous": {"from": ["192.168.1.0/24"], "read": ["#"], "write": ["#", "edge-01/lamp/set", "desk/+/set"]}}"##,
        );
        let mut all = everybody.connect(HOME, Connect::new(Version::V5, "all")).await;
        all.subscribe("#", QoS::AtLeastOnce).await;
        for (door, address, taken, refused) in [
            // On this machine `edgeway pub` goes on working.
            (&everybody, HOME, vec!["edge-01/plug/set", "set", "x"], vec![]),
            (&everybody, FAR, vec!["edge-01/plug/set/result", "x"], vec!["edge-01/plug/set", "set", "a/b/set"]),
            (
                &named,
                NEAR,
                vec!["edge-01/lamp/set", "desk/1/set", "x"],
                vec!["edge-01/plug/set", "desk/1/2/set", "set"],
            ),
        ] {
            let mut client = door.connect(address, Connect::new(Version::V5, "client")).await;
            for topic in taken {
                assert_eq!(client.publish(&Say::new(topic, "1", QoS::AtLeastOnce)).await, ReasonCode::Success);
                assert_eq!(all.message().await.topic, topic);
            }
            for topic in refused {
                assert_eq!(client.publish(&Say::new(topic, "1", QoS::AtLeastOnce)).await, ReasonCode::NotAuthorized);
            }
            all.has_nothing().await;
            client.leave().await;
        }
    });
}

#[test]
fn a_certificate_says_who_it_is_whatever_connect_says() {
    everywhere(async |world| {
        let door = Door::new(&world, USERS);
        let mut peer = door.dial(FAR, Some("bob"));
        let got = peer.say_connect(login(Version::V5, "c1", "ann", "wrong")).await;
        assert!(matches!(got, Got::ConnAck(connack) if connack.reason == ReasonCode::Success));
        assert_eq!(peer.publish(&Say::new("ann/x", "no", QoS::AtLeastOnce)).await, ReasonCode::NotAuthorized);
        assert!(!peer.publish(&Say::new("bob/x", "yes", QoS::AtLeastOnce)).await.is_error());
        peer.leave().await;
        let got = door.dial(HOME, Some("stranger")).say_connect(login(Version::V5, "c", "bob", "hunter2")).await;
        assert!(matches!(got, Got::ConnAck(connack) if connack.reason == ReasonCode::NotAuthorized));

        // Without users a certificate that was accepted is enough.
        let door = Door::new(&world, "{}");
        let mut peer = door.dial(FAR, Some("pump"));
        let got = peer.say_connect(Connect::new(Version::V5, "c")).await;
        assert!(matches!(got, Got::ConnAck(connack) if connack.reason == ReasonCode::Success));
        assert!(!peer.publish(&Say::new("any/set", "yes", QoS::AtLeastOnce)).await.is_error());
    });
}

#[test]
fn a_session_belongs_to_its_user_and_to_what_the_user_may_read_now() {
    everywhere(async |world| {
        let door = Door::new(&world, USERS);
        let resume = |user, password| login(Version::V5, "shared", user, password);
        let kept = |connect: Connect<'static>| Connect { clean_start: false, session_expiry_interval: 3600, ..connect };
        let mut ann = door.connect(HOME, kept(resume("ann", "password"))).await;
        ann.subscribe("#", QoS::AtLeastOnce).await;
        for connect in [kept(resume("bob", "hunter2")), resume("bob", "hunter2")] {
            let (_, reason) = door.try_connect(HOME, connect).await;
            assert_eq!(reason, ReasonCode::ClientIdentifierNotValid);
        }
        ann.leave().await;

        // Elsewhere the same user may read less.
        let narrow = Door::new(&world, r#"{"users": {"ann": {"password": "password", "read": ["news/#"]}}}"#);
        let mut ann = narrow.connect(HOME, kept(resume("ann", "password"))).await;
        let mut other = world.connect(Version::V5, "other").await;
        other.publish(&Say::new("secret", "1", QoS::AtLeastOnce)).await;
        other.publish(&Say::new("news/1", "2", QoS::AtLeastOnce)).await;
        assert_eq!(ann.message().await.topic, "news/1");
        ann.has_nothing().await;
    });
}

#[test]
fn guesses_without_end_do_not_keep_those_out_who_are_known() {
    everywhere(async |world| {
        let door = Arc::new(Door::new(&world, USERS));
        door.user("ann", "password").await.leave().await;
        let mut guesses = tokio::task::JoinSet::new();
        for number in 0..60 {
            let door = Arc::clone(&door);
            guesses.spawn(async move {
                let guess = format!("guess {number}");
                door.try_connect(FAR, login(Version::V5, "g", "ann", &guess)).await.1
            });
        }
        for _ in 0..20 {
            door.user("ann", "password").await.leave().await;
        }
        for reason in guesses.join_all().await {
            assert!(matches!(reason, ReasonCode::BadUserNameOrPassword | ReasonCode::ServerBusy), "{reason}");
        }
        door.connect(NEAR, login(Version::V5, "n", "bob", "hunter2")).await.leave().await;
    });
}
