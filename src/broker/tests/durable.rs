//! What waits for a commit: no packet leaves before it, and a kill before it gives neither loss nor duplicate.

use super::*;
use crate::store::{Record, Restored};

pub(super) const SUCCESS: ReasonCode = ReasonCode::Success;

impl World {
    pub(super) fn journal(&self) -> &Journal {
        self.broker.router.journal()
    }

    pub(super) fn commit(&self) {
        self.journal().commit();
    }

    /// The broker that finds what this one has committed, were it killed now.
    pub(super) fn killed(&self) -> Self {
        self.killed_with(|_| ())
    }

    pub(super) fn killed_with(&self, change: impl FnOnce(&mut Restored)) -> Self {
        self.killed_in(change, true)
    }

    pub(super) fn killed_in(&self, change: impl FnOnce(&mut Restored), ends: bool) -> Self {
        let (journal, mut restored) = self.journal().killed();
        change(&mut restored);
        let world = Self { broker: Broker::start(self.broker.limits().clone(), Arc::new(journal)), ..self.clone() };
        world.broker.restore(restored).unwrap();
        if ends {
            world.broker.end_restoring();
        }
        world
    }

    /// While nothing is held.
    pub(super) async fn eagerly<T>(&self, what: impl Future<Output = T>) -> T {
        self.journal().set_eager(true);
        let done = what.await;
        self.journal().set_eager(false);
        done
    }

    /// A durable subscriber at QoS 2 to `t`, all committed.
    pub(super) async fn subscriber(&self, version: Version) -> Peer {
        self.eagerly(async {
            let mut subscriber = self.resume(version, "subscriber").await;
            subscriber.subscribe("t", QoS::ExactlyOnce).await;
            subscriber
        })
        .await
    }

    /// Stops a broker that a test has made beside its own.
    pub(super) async fn over(self) {
        tokio::time::timeout(PATIENCE, self.broker.stop()).await.expect("the broker stops");
    }
}

impl Peer {
    /// Nothing has come until now, whatever was said by whomever.
    async fn hears_nothing(&mut self) {
        self.ping().await;
        self.ping().await;
        assert_eq!(self.kept, [], "it was to wait");
    }

    pub(super) async fn got(&mut self) -> GotMessage {
        match self.next().await {
            Got::Message(message) => message,
            other => panic!("{other:?} instead of a message"),
        }
    }
}

pub(super) fn say(text: &str, qos: QoS) -> Say<'_> {
    Say::new("t", text, qos)
}

#[test]
fn pubcomp_waits_for_the_release_and_a_kill_before_it_gives_no_loss_and_no_duplicate() {
    everywhere_held(async |world| {
        for version in VERSIONS {
            let mut subscriber = world.subscriber(version).await;
            let mut publisher = world.eagerly(world.resume(version, "publisher")).await;
            publisher.say(&say("1", QoS::ExactlyOnce).packet(7, false)).await;
            publisher.hears_nothing().await;
            world.commit();
            assert_eq!(publisher.next().await, Got::PubRec(7, SUCCESS));
            publisher.ack(Packet::PubRel, 7).await;
            publisher.hears_nothing().await;
            let killed = world.killed();
            world.commit();
            assert_eq!(publisher.next().await, Got::PubComp(7, SUCCESS));
            assert_eq!(world.eagerly(subscriber.message()).await.text(), "1");

            // The identifier is still taken: the message does not go to anybody again.
            let mut publisher = killed.eagerly(killed.resume(version, "publisher")).await;
            assert!(publisher.session_present);
            publisher.ack(Packet::PubRel, 7).await;
            publisher.hears_nothing().await;
            killed.commit();
            assert_eq!(publisher.next().await, Got::PubComp(7, SUCCESS));
            killed.eagerly(publisher.publish(&say("2", QoS::ExactlyOnce))).await;
            let mut subscriber = killed.eagerly(killed.resume(version, "subscriber")).await;
            killed.journal().set_eager(true);
            assert_eq!(subscriber.texts(2).await, ["1", "2"]);
            subscriber.has_nothing().await;
            killed.over().await;
            world
                .eagerly(async {
                    for client_id in ["publisher", "subscriber"] {
                        world.connect(version, client_id).await.leave().await;
                    }
                })
                .await;
        }
    });
}

#[test]
fn pubrel_waits_for_the_pubrec_and_a_kill_before_it_gives_no_loss_and_no_duplicate() {
    everywhere_held(async |world| {
        let mut subscriber = world.subscriber(Version::V5).await;
        let mut publisher = world.connect(Version::V5, "publisher").await;
        world.eagerly(publisher.publish(&say("1", QoS::ExactlyOnce))).await;
        let message = subscriber.got().await;
        subscriber.ack(Packet::PubRec, message.id).await;
        subscriber.hears_nothing().await;
        let before = world.killed();
        world.commit();
        assert_eq!(subscriber.next().await, Got::PubRel(message.id, SUCCESS));
        let after = world.killed();

        // Nobody has released it: it comes again under the identifier that the receiver knows.
        let mut subscriber = before.resume(Version::V5, "subscriber").await;
        let again = subscriber.got().await;
        assert_eq!((again.id, again.dup, again.text()), (message.id, true, "1"));
        subscriber.ack(Packet::PubRec, again.id).await;
        subscriber.hears_nothing().await;
        before.commit();
        assert_eq!(subscriber.next().await, Got::PubRel(message.id, SUCCESS));
        subscriber.ack(Packet::PubComp, message.id).await;
        subscriber.hears_nothing().await;

        // Released: it never comes again, whether the receiver has heard of the release or not.
        let mut subscriber = after.resume(Version::V5, "subscriber").await;
        assert_eq!(subscriber.next().await, Got::PubRel(message.id, SUCCESS));
        subscriber.ack(Packet::PubComp, message.id).await;
        subscriber.hears_nothing().await;
        after.commit();
        let settled = after.killed();
        settled.resume(Version::V5, "subscriber").await.hears_nothing().await;
        for other in [before, after, settled] {
            other.over().await;
        }
    });
}

#[test]
fn a_publish_of_qos_2_waits_for_its_entry_and_a_kill_before_it_gives_no_loss_and_no_duplicate() {
    everywhere_held(async |world| {
        let mut subscriber = world.subscriber(Version::V5).await;
        let mut publisher = world.eagerly(world.resume(Version::V5, "publisher")).await;
        publisher.say(&say("1", QoS::ExactlyOnce).packet(7, false)).await;
        publisher.hears_nothing().await;
        subscriber.hears_nothing().await;
        let killed = world.killed();
        world.commit();
        let message = subscriber.got().await;
        assert_eq!((message.text(), message.id, message.dup), ("1", 1, false));
        assert_eq!(publisher.next().await, Got::PubRec(7, SUCCESS));

        // Nobody has seen anything of it. The publisher, who was not answered, sends it again, and another after it: the
        // identifier of the first has never been on its way.
        let mut publisher = killed.eagerly(killed.resume(Version::V5, "publisher")).await;
        let mut subscriber = killed.eagerly(killed.resume(Version::V5, "subscriber")).await;
        publisher.say(&say("other", QoS::ExactlyOnce).packet(8, false)).await;
        publisher.say(&say("1", QoS::ExactlyOnce).packet(7, true)).await;
        publisher.hears_nothing().await;
        subscriber.hears_nothing().await;
        killed.commit();
        assert_eq!(publisher.next().await, Got::PubRec(8, SUCCESS));
        assert_eq!(publisher.next().await, Got::PubRec(7, SUCCESS));
        killed.journal().set_eager(true);
        assert_eq!(subscriber.texts(2).await, ["other", "1"]);
        subscriber.has_nothing().await;
        killed.over().await;
    });
}

#[test]
fn what_is_repeated_on_a_new_connection_waits_for_the_commit_of_the_old_one() {
    everywhere_held(async |world| {
        let mut subscriber = world.subscriber(Version::V5).await;
        let mut publisher = world.eagerly(world.resume(Version::V5, "publisher")).await;
        publisher.say(&say("1", QoS::ExactlyOnce).packet(7, false)).await;
        publisher.ping().await;
        let mut publisher = world.resume(Version::V5, "publisher").await;
        publisher.say(&say("1", QoS::ExactlyOnce).packet(7, true)).await;
        publisher.hears_nothing().await;
        world.commit();
        assert_eq!(publisher.next().await, Got::PubRec(7, SUCCESS));
        publisher.ack(Packet::PubRel, 7).await;
        publisher.ping().await;
        let mut publisher = world.resume(Version::V5, "publisher").await;
        // Not known any more; but that is not committed.
        publisher.ack(Packet::PubRel, 7).await;
        publisher.hears_nothing().await;
        world.commit();
        assert_eq!(publisher.next().await, Got::PubComp(7, SUCCESS));

        let message = subscriber.got().await;
        subscriber.ack(Packet::PubRec, message.id).await;
        subscriber.ping().await;
        let mut subscriber = world.resume(Version::V5, "subscriber").await;
        subscriber.hears_nothing().await;
        world.commit();
        assert_eq!(subscriber.next().await, Got::PubRel(message.id, SUCCESS));
        subscriber.ack(Packet::PubComp, message.id).await;
        subscriber.hears_nothing().await;
    });
}

#[test]
fn acknowledgements_wait_in_their_order_and_what_promises_nothing_does_not() {
    everywhere_held(async |world| {
        for version in VERSIONS {
            let _subscriber = world.subscriber(version).await;
            let mut publisher = world.connect(version, "publisher").await;
            publisher.say(&say("1", QoS::AtLeastOnce).packet(1, false)).await;
            // Nobody gets this one; but its PUBACK must not overtake.
            publisher.say(&Say::new("nobody", "2", QoS::AtLeastOnce).packet(2, false)).await;
            publisher.say(&say("3", QoS::ExactlyOnce).packet(3, false)).await;
            // Its session ends with the connection.
            publisher.subscribe("mine", QoS::AtLeastOnce).await;
            assert_eq!(publisher.unsubscribe("mine").await.len(), usize::from(version == Version::V5));
            publisher.hears_nothing().await;
            world.commit();
            let nobody = if version == Version::V5 { ReasonCode::NoMatchingSubscribers } else { SUCCESS };
            assert_eq!(publisher.next().await, Got::PubAck(1, SUCCESS));
            assert_eq!(publisher.next().await, Got::PubAck(2, nobody));
            assert_eq!(publisher.next().await, Got::PubRec(3, SUCCESS));
            world.eagerly(async { world.connect(version, "subscriber").await.leave().await }).await;
        }
    });
}

#[test]
fn a_subscription_of_a_session_that_stays_is_answered_when_it_is_committed() {
    everywhere_held(async |world| {
        let mut client = world.resume(Version::V5, "client").await;
        world.journal().take_hurried();
        client.raw(b"\x82\x07\x00\x01\x00\x00\x01t\x01").await;
        client.hears_nothing().await;
        assert_eq!(world.journal().take_hurried().len(), 1, "it waits for nothing else");
        let killed = world.killed();
        world.commit();
        assert_eq!(client.next().await, Got::SubAck(vec![ReasonCode::GrantedQoS1]));
        assert_eq!(world.killed().broker.session("client").unwrap().filters().len(), 1);
        assert!(killed.broker.session("client").is_none(), "not even its session was committed");
        assert!(!killed.eagerly(killed.resume(Version::V5, "client")).await.session_present);
    });
}

#[test]
fn a_commit_is_hurried_for_who_is_held_up_and_for_nobody_else() {
    everywhere_held(async |world| {
        for version in VERSIONS {
            let _subscriber = world.subscriber(version).await;
            let mut publisher = world.connect(version, "publisher").await;
            let hurried = || world.journal().take_hurried().len();
            hurried();
            for text in ["1", "2", "3"] {
                publisher.begin(&say(text, QoS::AtLeastOnce)).await;
                publisher.hears_nothing().await;
                assert_eq!(hurried(), 1, "it publishes one by one");
                world.commit();
                assert!(matches!(publisher.next().await, Got::PubAck(..)));
            }
            // It goes on although it has not been answered.
            for text in ["4", "5", "6"] {
                publisher.begin(&say(text, QoS::AtLeastOnce)).await;
                publisher.hears_nothing().await;
            }
            assert_eq!(hurried(), 1, "only for the first of them");
            world.commit();
            for _ in 0..3 {
                assert!(matches!(publisher.next().await, Got::PubAck(..)));
            }
            for (text, expected) in [("7", 0), ("8", 0), ("9", 1)] {
                publisher.begin(&say(text, QoS::AtLeastOnce)).await;
                publisher.hears_nothing().await;
                assert_eq!(hurried(), expected, "as many as ever wait: {text}");
            }
            world.commit();
            world.eagerly(async { world.connect(version, "subscriber").await.leave().await }).await;
        }
    });
}

#[test]
fn without_room_publishers_wait_and_who_acknowledges_is_heard() {
    everywhere_held(async |world| {
        let mut subscriber = world.subscriber(Version::V5).await;
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let slot = world.broker.session("subscriber").unwrap();
        world.eagerly(publisher.publish(&say("1", QoS::AtLeastOnce))).await;
        world.journal().set_full(true);
        publisher.begin(&say("2", QoS::AtLeastOnce)).await;
        until("it has come", || slot.backlog() == (0, 2)).await;
        publisher.begin(&say("3", QoS::AtLeastOnce)).await;
        // As long as it lasts: the third is not read.
        assert_eq!(subscriber.texts(2).await, ["1", "2"]);
        until("the acknowledgements are heard", || slot.backlog() == (0, 0)).await;
        subscriber.has_nothing().await;
        world.journal().set_full(false);
        assert_eq!(subscriber.texts(1).await, ["3"]);
        world.commit();
        for _ in 0..2 {
            assert!(matches!(publisher.next().await, Got::PubAck(..)));
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_journal_without_room_for_hours_ends_no_connection() {
    let world = World {
        patience: Duration::from_secs(1_000_000),
        ..World::with(Kind::Stream, Limits::default(), Journal::held())
    };
    let _subscriber = world.subscriber(Version::V5).await;
    for version in VERSIONS {
        let mut connect = Connect::new(version, "publisher");
        connect.keep_alive = 10;
        let mut publisher = world.connect_as(connect).await;
        world.journal().set_full(true);
        let id = publisher.begin(&say("1", QoS::AtLeastOnce)).await;
        tokio::time::sleep(Duration::from_secs(10_000)).await;
        // What it says meanwhile is not lost. The disk fails, it does not: its message is taken when that has ended.
        publisher.say(&Packet::PingReq).await;
        tokio::time::sleep(Duration::from_secs(10_000)).await;
        assert!(world.broker.session("publisher").unwrap().is_connected());
        world.journal().set_full(false);
        assert_eq!(publisher.next().await, Got::PingResp);
        world.commit();
        assert_eq!(publisher.next().await, Got::PubAck(id, SUCCESS));
        // And keep alive counts again.
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(world.broker.session("publisher").is_none());
    }
}

#[test]
fn who_is_told_that_the_session_is_gone_is_told_when_that_is_committed() {
    everywhere_held(async |world| {
        let mut client = world.eagerly(world.resume(Version::V5, "client")).await;
        client.say(&say("old", QoS::ExactlyOnce).packet(7, false)).await;
        world.eagerly(client.ping()).await;
        client.vanish(&world, "client").await;
        world.commit();
        // A new session, whose identifiers begin anew.
        let mut client = world.dial().await;
        let connect = Connect { clean_start: true, ..resuming(Version::V5, "client") };
        client.version = Version::V5;
        client.say(&Packet::Connect(connect)).await;
        until("it is let in", || world.broker.session("client").is_some_and(|slot| slot.is_connected())).await;
        assert!(!world.journal().take_hurried().is_empty());
        let mut chunk = [0];
        let answered = std::future::poll_fn(|cx| {
            let mut buffer = tokio::io::ReadBuf::new(&mut chunk);
            std::task::Poll::Ready(tokio::io::AsyncRead::poll_read(client.stream.as_mut(), cx, &mut buffer).is_ready())
        })
        .await;
        assert!(!answered, "CONNACK waits");
        // For its own session alone: nobody else is kept out.
        world.connect(Version::V5, "other").await;
        world.commit();
        assert!(matches!(client.hear().await, Got::ConnAck(_)));
        let killed = world.killed();
        let mut client = killed.eagerly(killed.resume(Version::V5, "client")).await;
        // The same identifier stands for another message now.
        client.say(&say("new", QoS::ExactlyOnce).packet(7, false)).await;
        client.ping().await;
        assert!(killed.journal().kept_records().len() < world.journal().kept_records().len() + 8);
        killed.commit();
        assert!(matches!(client.next().await, Got::PubRec(7, _)));
        killed.over().await;
    });
}

#[test]
fn an_identifier_that_is_not_the_sequences_is_committed_before_it_is_used() {
    everywhere_held(async |world| {
        let mut subscriber = world.subscriber(Version::V5).await;
        let mut publisher = world.connect(Version::V5, "publisher").await;
        world.eagerly(publisher.publish(&say("stuck", QoS::ExactlyOnce))).await;
        assert_eq!(subscriber.got().await.id, 1);
        // So many messages later the sequence stands for that identifier again.
        let world = world.killed_with(|restored| {
            restored.sessions.iter_mut().for_each(|session| session.next_sequence = 65_534);
        });
        let mut subscriber = world.resume(Version::V5, "subscriber").await;
        let mut publisher = world.connect(Version::V5, "publisher").await;
        assert_eq!(subscriber.got().await.id, 1);
        publisher.begin(&say("next", QoS::ExactlyOnce)).await;
        publisher.hears_nothing().await;
        world.journal().take_hurried();
        world.commit();
        let displaced = |record: &[u8]| matches!(Record::decode(record), Ok(Record::Displaced { .. }));
        until("it is recorded", || !world.journal().take_hurried().is_empty()).await;
        assert!(!world.journal().kept_records().iter().any(|record| displaced(record)));
        subscriber.hears_nothing().await;
        world.commit();
        assert_eq!(subscriber.got().await.id, 2);
        assert!(world.journal().kept_records().iter().any(|record| displaced(record)));
        let killed = world.killed();
        let mut subscriber = killed.resume(Version::V5, "subscriber").await;
        let ids = [subscriber.got().await, subscriber.got().await].map(|message| (message.id, message.dup));
        assert_eq!(ids, [(1, true), (2, true)]);
        killed.over().await;
        world.over().await;
    });
}
