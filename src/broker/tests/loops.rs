//! What comes back in a loop of bridges is acknowledged, counted and dropped, on any connection.

use super::*;
use crate::mqtt::properties::Forwardable;
use crate::mqtt::via;

fn properties(values: &[&str]) -> ForwardableBuilder {
    let begin = ForwardableBuilder::default().user_property("a", "b");
    values.iter().fold(begin, |properties, value| properties.user_property("via", value))
}

#[test]
fn what_has_been_here_is_acknowledged_and_dropped() {
    everywhere(async |world| {
        let here = world.broker.gateway_id().as_str().to_owned();
        let other = if here == "abcdef" { "abcdeg" } else { "abcdef" };
        let mut subscriber = world.connect(Version::V5, "subscriber").await;
        subscriber.subscribe("#", QoS::ExactlyOnce).await;
        let mut peer = world.connect(Version::V5, "another gateway").await;
        let looped = [format!("{other},{here}"), [other; via::MAX_HOPS].join(",")];
        for (count, via) in looped.iter().enumerate() {
            for qos in QOS {
                let say = Say { retain: true, properties: properties(&[via]), ..Say::new("t", "looped", qos) };
                assert!(!peer.publish(&say).await.is_error());
            }
            subscriber.has_nothing().await;
            assert_eq!(world.broker.metrics.looped.value(), 3 * (count as u64 + 1));
        }
        assert_eq!(world.broker.router.retained_count(), 0);
        for via in [other, "1.0 proxy", &[other; via::MAX_HOPS - 1].join(",")] {
            let say = Say { properties: properties(&[via]), ..Say::new("t", via, QoS::ExactlyOnce) };
            assert_eq!(peer.publish(&say).await, ReasonCode::Success);
            let message = subscriber.message().await;
            assert_eq!(message.text(), via);
            // Who is no bridge gets it as it came.
            let got: Vec<_> =
                Forwardable::plain(&message.properties).user_properties().map(|(_, value)| value.to_owned()).collect();
            assert_eq!(got, ["b", via]);
        }
        assert_eq!(world.broker.metrics.looped.value(), 6);
    });
}

#[tokio::test]
async fn the_id_of_a_gateway_stays_over_restarts_where_the_journal_does() {
    let world = World::with(Kind::Stream, Limits::default(), Journal::held());
    world.journal().set_eager(true);
    let first = world.killed();
    first.journal().set_eager(true);
    let id = first.broker.gateway_id();
    let (second, third) = (first.killed(), first.killed().killed());
    assert_eq!([second.broker.gateway_id(), third.broker.gateway_id()], [id, id]);
    assert_ne!(World::in_memory().broker.gateway_id(), id);
}
