//! What the hot path costs without sockets: codec, trie, fan-out. `make bench` prints the figures.

use std::sync::Arc;

use divan::{Bencher, black_box};
use edgeway::broker::delivery::Delivery;
use edgeway::broker::router::Origin;
use edgeway::broker::session_slot::{Attachment, SessionSlot, Turn};
use edgeway::broker::trie::Trie;
use edgeway::broker::{Limits, QueueLimits, Router};
use edgeway::clock;
use edgeway::mapping::hop_payload::{HopPayload, Outgoing};
use edgeway::mapping::payload_template::PayloadTemplate;
use edgeway::metrics::BrokerMetrics;
use edgeway::mqtt::codec::{Framing, split_frame};
use edgeway::mqtt::connection::Sender;
use edgeway::mqtt::packet::{Publish, PublishProperties};
use edgeway::mqtt::properties::ForwardableBuilder;
use edgeway::mqtt::{
    Form, Packet, PacketId, Publication, QoS, Quality, Reading, ReasonCode, Sampled, TopicFilter, Version,
};
use edgeway::store::{Batch, Journal, QueueId, SessionKind};

fn main() {
    divan::main();
}

const TOPIC: &str = "edge-01/meter/voltage_l1";

fn publish<'a>(qos: QoS, properties: &'a ForwardableBuilder, payload: &'a [u8]) -> Publish<'a> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: TOPIC,
        packet_id: (qos != QoS::AtMostOnce).then_some(PacketId::MIN),
        properties: PublishProperties::new(None, None, properties.as_forwardable()),
        payload,
    }
}

fn encoded(version: Version, properties: &ForwardableBuilder, payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    publish(QoS::AtLeastOnce, properties, &vec![b'x'; payload]).encode(version, &mut bytes);
    bytes
}

fn user_properties() -> ForwardableBuilder {
    ForwardableBuilder::default().content_type("text/plain").user_property("time", "2026-11-22T12:53:28.017Z")
}

#[divan::bench(args = [64, 1024])]
fn decode_publish_3(bencher: Bencher<'_, '_>, payload: usize) {
    let bytes = encoded(Version::V3, &ForwardableBuilder::default(), payload);
    bencher.bench(|| decode(black_box(&bytes), Version::V3));
}

#[divan::bench(args = [64, 1024])]
fn decode_publish_5_with_properties(bencher: Bencher<'_, '_>, payload: usize) {
    let bytes = encoded(Version::V5, &user_properties(), payload);
    bencher.bench(|| decode(black_box(&bytes), Version::V5));
}

fn decode(bytes: &[u8], version: Version) -> usize {
    match split_frame(bytes, usize::MAX) {
        Ok(Framing::Complete(frame, length)) => {
            black_box(Packet::decode(frame, version).expect("the packet is valid"));
            length
        }
        _ => unreachable!("the packet is whole"),
    }
}

#[divan::bench(args = [64, 1024])]
fn encode_publish_3(bencher: Bencher<'_, '_>, payload: usize) {
    let properties = ForwardableBuilder::default();
    let payload = vec![b'x'; payload];
    let packet = publish(QoS::AtLeastOnce, &properties, &payload);
    let mut into = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        into.clear();
        black_box(&packet).encode(Version::V3, &mut into);
        into.len()
    });
}

#[divan::bench(args = [64, 1024])]
fn encode_publish_5_with_properties(bencher: Bencher<'_, '_>, payload: usize) {
    let properties = user_properties();
    let payload = vec![b'x'; payload];
    let packet = publish(QoS::AtLeastOnce, &properties, &payload);
    let mut into = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        into.clear();
        black_box(&packet).encode(Version::V5, &mut into);
        into.len()
    });
}

/// One name against `filters` filters, of which one is exact and two with wildcards match.
/// What a route makes of a payload, under the lock of its session: of a reading, and of a foreign client's.
#[divan::bench(args = ["reading", "number", "object", "text"])]
fn hop_payload_json(bencher: Bencher<'_, '_>, what: &str) {
    hop_payload(bencher, &HopPayload::Json, what);
}

#[divan::bench(args = ["reading", "number", "object", "text"])]
fn hop_payload_template(bencher: Bencher<'_, '_>, what: &str) {
    let template = PayloadTemplate::parse(r#"{"v": {value}, "t": "{time}", "of": "{device}"}"#).expect("a template");
    hop_payload(bencher, &HopPayload::Template(Arc::new(template)), what);
}

fn hop_payload(bencher: Bencher<'_, '_>, hop: &HopPayload, what: &str) {
    let reading = Reading {
        sampled: Sampled::at(1_795_351_208_017),
        unit: Some("V".into()),
        quality: Quality::Good,
        device: "meter".into(),
        point: Some("voltage_l1".into()),
        form: Form::Value,
    };
    let payload = match what {
        "object" => r#"{"voltage":230.1,"current":4.25,"power":978.0,"state":"producing"}"#,
        "text" => "producing",
        _ => "230.1",
    };
    let reading = (what == "reading").then_some(&reading);
    let time = Sampled::at(1_795_351_208_017);
    let message = Outgoing { topic: TOPIC, payload: payload.as_bytes(), reading, time };
    let mut into = Vec::new();
    bencher.bench_local(|| {
        into.clear();
        hop.encode(black_box(&message), &mut into)
    });
}

#[divan::bench(args = [10, 1_000, 50_000])]
fn trie_match(bencher: Bencher<'_, '_>, filters: usize) {
    let mut trie = Trie::default();
    let mut insert = |filter: &str, value: usize| {
        trie.insert(filter, value, |_| false);
    };
    for index in 0..filters {
        match index % 3 {
            0 => insert(&format!("plant/line{index}/+/value"), index),
            1 => insert(&format!("plant/line{index}/#"), index),
            _ => insert(&format!("plant/line{index}/machine/value"), index),
        }
    }
    insert(TOPIC, 1);
    insert("edge-01/+/voltage_l1", 2);
    insert("edge-01/#", 3);
    bencher.bench_local(|| {
        let mut found = 0;
        trie.matching(black_box(TOPIC), |values| found += values.len());
        assert_eq!(found, 3);
    });
}

/// One message to `receivers` sessions, encoded into each one's buffer; what is written is thrown away.
#[divan::bench(args = [1, 50, 500], consts = [0, 1])]
fn fan_out<const QOS: u8>(bencher: Bencher<'_, '_>, receivers: u64) {
    let qos = QoS::from_wire(QOS).expect("0 or 1");
    let metrics = Arc::<BrokerMetrics>::default();
    let journal = Arc::new(Journal::in_memory());
    let router = Router::new(Arc::clone(&journal), Arc::clone(&metrics));
    let filter = TopicFilter::new(TOPIC).expect("a valid filter");
    let limits = QueueLimits { messages: 10, bytes: 1_000_000, ..Limits::default().queue };
    let mut batch = Batch::default();
    let slots: Vec<(Arc<SessionSlot>, u64)> = (0..receivers)
        .map(|index| {
            let (journal, metrics) = (Arc::clone(&journal), Arc::clone(&metrics));
            let slot =
                SessionSlot::new("receiver".into(), SessionKind::Client, QueueId(index), limits, journal, metrics);
            let attachment = Attachment {
                sender: Sender::new(Version::V3, None, 0),
                writer: None,
                window: 100,
                prelude: Vec::new(),
                session_present: true,
                expiry_interval: 0,
                keep_alive: 0,
                will: None,
                held: None,
                hop: None,
            };
            let (epoch, _) = slot.attach(attachment, clock::now(), &mut batch);
            router.subscribe(&slot, &filter, Arc::new(Delivery::at_most(qos)));
            (slot, epoch)
        })
        .collect();
    router.finish(&mut batch);
    let properties = ForwardableBuilder::default();
    let payload = [b'x'; 64];
    let packet = publish(qos, &properties, &payload);
    let mut replies = Vec::new();
    let mut next_id: u16 = 0;
    bencher.counter(receivers).bench_local(|| {
        let now = clock::now();
        let mut turn = Turn { now, batch: &mut batch };
        router.publish(&Publication::from_publish(&packet, now), Origin::LOCAL, &mut turn);
        // The receivers' sides: take what was written, and acknowledge it.
        next_id = next_id % 65_534 + 1;
        let acknowledgement = PacketId::new(next_id)
            .map(|id| edgeway::broker::session_slot::Acknowledgement::Received(id, ReasonCode::Success))
            .expect("identifiers begin with 1");
        for (slot, epoch) in &slots {
            black_box(slot.take_output(*epoch, &mut turn));
            if QOS == 1 {
                slot.settle(*epoch, &[acknowledgement], &mut replies, &mut turn);
            }
        }
        router.finish(&mut batch);
    });
}
