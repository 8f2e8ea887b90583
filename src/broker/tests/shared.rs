//! Shared subscriptions: one of the group gets each message, and none is lost with a member (section 4.8.2).

use super::*;

/// How many of the messages that `peer` has got by now; their exchanges are seen through.
async fn so_far(peer: &mut Peer) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        peer.ping().await;
        peer.ping().await;
        if peer.kept.is_empty() {
            return texts;
        }
        while let Some(got) = peer.kept.pop_front() {
            match got {
                Got::Message(message) => {
                    texts.push(message.text().to_owned());
                    match message.qos {
                        QoS::AtMostOnce => {}
                        QoS::AtLeastOnce => peer.ack(Packet::PubAck, message.id).await,
                        QoS::ExactlyOnce => peer.ack(Packet::PubRec, message.id).await,
                    }
                }
                Got::PubRel(id, _) => peer.ack(Packet::PubComp, id).await,
                other => panic!("{other:?} instead of a message"),
            }
        }
    }
}

fn sorted(texts: impl IntoIterator<Item = Vec<String>>) -> Vec<usize> {
    let mut numbers: Vec<usize> = texts.into_iter().flatten().map(|text| text.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn each_message_goes_to_one_member_of_each_group_and_to_every_other_subscription() {
    everywhere(async |world| {
        for qos in QOS {
            let mut publisher = world.connect(Version::V5, "publisher").await;
            let mut members = Vec::new();
            for (index, version) in [Version::V5, Version::V3, Version::V5].into_iter().enumerate() {
                let mut member = world.connect(version, &format!("member {index}")).await;
                member.subscribe("$share/g/t/+", qos).await;
                members.push(member);
            }
            let mut other_group = world.connect(Version::V5, "other group").await;
            other_group.subscribe("$share/h/t/#", qos).await;
            let mut alone = world.connect(Version::V5, "alone").await;
            alone.subscribe("t/a", qos).await;
            for number in 0..30 {
                publisher.publish(&Say::new("t/a", &number.to_string(), qos)).await;
            }
            let mut got = Vec::new();
            for member in &mut members {
                let texts = so_far(member).await;
                assert!(!texts.is_empty(), "every member takes its turn");
                assert!(texts.is_sorted_by_key(|text| text.parse::<usize>().unwrap()));
                got.push(texts);
            }
            assert_eq!(sorted(got), (0..30).collect::<Vec<_>>(), "each once");
            assert_eq!(sorted([so_far(&mut other_group).await]).len(), 30);
            assert_eq!(sorted([so_far(&mut alone).await]).len(), 30);
            // A member of two kinds gets both.
            alone.subscribe("$share/alone/t/a", qos).await;
            publisher.publish(&Say::new("t/a", "1", qos)).await;
            assert_eq!(so_far(&mut alone).await.len(), 2);
            assert_eq!(alone.unsubscribe("$share/alone/t/a").await, [ReasonCode::Success]);
            members[0].unsubscribe("$share/g/t/+").await;
            so_far(&mut members[0]).await;
            so_far(&mut members[1]).await;
            so_far(&mut members[2]).await;
            for number in 0..10 {
                publisher.publish(&Say::new("t/b", &number.to_string(), qos)).await;
            }
            assert!(so_far(&mut members[0]).await.is_empty(), "who has left the group gets nothing");
            let rest = [so_far(&mut members[1]).await, so_far(&mut members[2]).await];
            assert_eq!(sorted(rest).len(), 10);
        }
    });
}

#[test]
fn a_member_that_dies_leaves_its_unacknowledged_messages_to_the_others() {
    everywhere(async |world| {
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let mut dying = world.connect(Version::V5, "dying").await;
        dying.subscribe("$share/g/t", QoS::AtLeastOnce).await;
        for number in 0..20 {
            publisher.publish(&Say::new("t", &number.to_string(), QoS::AtLeastOnce)).await;
        }
        // It has them, and acknowledges none.
        let Got::Message(_) = dying.next().await else { panic!() };
        let mut heir = world.connect(Version::V5, "heir").await;
        heir.subscribe("$share/g/t", QoS::AtLeastOnce).await;
        dying.vanish(&world, "dying").await;
        assert_eq!(sorted([heir.texts(20).await]), (0..20).collect::<Vec<_>>());
        heir.has_nothing().await;
    });
}

#[test]
fn what_waits_for_a_member_that_is_away_goes_to_those_who_are_there() {
    let limits = Limits { inflight: 2, ..Limits::default() };
    everywhere_with(&limits, async |world| {
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let mut slow = world.resume(Version::V5, "slow").await;
        slow.subscribe("$share/g/t", QoS::AtLeastOnce).await;
        for number in 0..10 {
            publisher.publish(&Say::new("t", &number.to_string(), QoS::AtLeastOnce)).await;
        }
        let mut quick = world.connect(Version::V5, "quick").await;
        quick.subscribe("$share/g/t", QoS::AtLeastOnce).await;
        slow.vanish(&world, "slow").await;
        // Two are in flight to the session, which may still come back; the eight that waited are not held up.
        assert_eq!(sorted([quick.texts(8).await]), (2..10).collect::<Vec<_>>());
        // And what comes meanwhile is for those who are there.
        publisher.publish(&Say::new("t", "10", QoS::AtLeastOnce)).await;
        assert_eq!(quick.texts(1).await, ["10"]);
        let mut slow = world.resume(Version::V5, "slow").await;
        let first = slow.message().await;
        assert!(first.dup);
        assert_eq!((first.text(), slow.message().await.text()), ("0", "1"));
        slow.has_nothing().await;
        // With nobody there, a session that stays keeps it.
        quick.leave().await;
        slow.vanish(&world, "slow").await;
        publisher.publish(&Say::new("t", "11", QoS::AtLeastOnce)).await;
        let mut slow = world.resume(Version::V5, "slow").await;
        assert_eq!(slow.texts(1).await, ["11"]);
    });
}

#[test]
fn a_message_of_qos_2_that_was_sent_goes_to_nobody_else() {
    everywhere(async |world| {
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let mut dying = world.connect(Version::V5, "dying").await;
        dying.subscribe("$share/g/t", QoS::ExactlyOnce).await;
        publisher.publish(&Say::new("t", "sent", QoS::ExactlyOnce)).await;
        let Got::Message(_) = dying.next().await else { panic!() };
        let mut other = world.connect(Version::V5, "other").await;
        other.subscribe("$share/g/t", QoS::ExactlyOnce).await;
        dying.vanish(&world, "dying").await;
        publisher.publish(&Say::new("t", "next", QoS::ExactlyOnce)).await;
        assert_eq!(so_far(&mut other).await, ["next"]);
    });
}

#[test]
fn a_message_that_a_member_refuses_goes_to_nobody_else() {
    everywhere(async |world| {
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let mut members = Vec::new();
        for name in ["one", "two"] {
            let mut member = world.connect(Version::V5, name).await;
            member.subscribe("$share/g/t", QoS::AtLeastOnce).await;
            members.push(member);
        }
        publisher.publish(&Say::new("t", "refused", QoS::AtLeastOnce)).await;
        for member in &mut members {
            member.ping().await;
            while let Some(got) = member.kept.pop_front() {
                let Got::Message(message) = got else { panic!("{got:?}") };
                let refusal = Ack::new(PacketId::new(message.id).unwrap(), ReasonCode::ImplementationSpecificError);
                member.say(&Packet::PubAck(refusal)).await;
            }
        }
        for member in &mut members {
            member.has_nothing().await;
        }
    });
}

#[test]
fn a_group_gets_no_retained_messages_and_no_member_can_leave_out_its_own() {
    everywhere(async |world| {
        let mut peer = world.connect(Version::V5, "peer").await;
        peer.publish(&Say::retained("t", "old")).await;
        peer.subscribe("$share/g/t", QoS::AtLeastOnce).await;
        peer.has_nothing().await;
        for (filter, reason) in [
            ("$share//t", ReasonCode::ProtocolError),
            ("$share/g", ReasonCode::ProtocolError),
            ("$share/g+/t", ReasonCode::ProtocolError),
            ("$share/#/t", ReasonCode::MalformedPacket),
        ] {
            let mut peer = world.connect(Version::V5, "wrong").await;
            let mut filters = Vec::new();
            SubscribeFilters::put(&mut filters, filter, SubscriptionOptions::default());
            peer.say(&Packet::Subscribe(Subscribe {
                packet_id: PacketId::new(9).unwrap(),
                subscription_identifier: None,
                user_properties: UserProperties::default(),
                filters: SubscribeFilters::new(&filters),
            }))
            .await;
            assert_eq!(peer.end().await, Some(reason), "{filter}");
        }
        let no_local = SubscriptionOptions { no_local: true, ..Default::default() };
        let mut filters = Vec::new();
        SubscribeFilters::put(&mut filters, "$share/g/t", no_local);
        peer.say(&Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(9).unwrap(),
            subscription_identifier: None,
            user_properties: UserProperties::default(),
            filters: SubscribeFilters::new(&filters),
        }))
        .await;
        assert_eq!(peer.end().await, Some(ReasonCode::ProtocolError));
    });
}

#[test]
fn a_member_that_does_not_read_does_not_hold_up_the_others() {
    everywhere(async |world| {
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let mut stopped = world.connect(Version::V5, "stopped").await;
        stopped.subscribe("$share/g/t", QoS::AtLeastOnce).await;
        let mut reading = world.connect(Version::V5, "reading").await;
        reading.subscribe("$share/g/t", QoS::AtLeastOnce).await;
        // More than the window of one that acknowledges nothing.
        for number in 0..400 {
            publisher.publish(&Say::new("t", &number.to_string(), QoS::AtLeastOnce)).await;
            so_far(&mut reading).await;
        }
        let held = world.broker.session("stopped").unwrap().backlog();
        assert_eq!(held, (0, 100), "no more than its window");
    });
}
