//! rumqttc as a client, at both versions.

use super::PATIENCE;
use rumqttc::{Transport, v5};
use std::time::Instant;

/// Where a broker is, and how it is reached.
pub struct Way {
    /// `127.0.0.1`, or a URL for WebSocket.
    pub host: String,
    pub port: u16,
    pub transport: Transport,
}

impl Way {
    /// Connects at 3.1.1, subscribes to `topic`, publishes there at QoS 2 and gives what comes back.
    pub fn round_trip_v4(self, topic: &str, payload: &[u8]) -> Vec<u8> {
        use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
        let mut options = MqttOptions::new(format!("v4-{}", topic.replace('/', "-")), self.host, self.port);
        options.set_transport(self.transport).set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut connection) = Client::new(options, 10);
        client.subscribe(topic, QoS::ExactlyOnce).expect("the client runs");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event =
                connection.recv_timeout(left).expect("the broker answers in time").expect("the connection stays");
            match event {
                Event::Incoming(Packet::SubAck(_)) => {
                    client.publish(topic, QoS::ExactlyOnce, false, payload).expect("the client runs");
                }
                Event::Incoming(Packet::Publish(message)) => return message.payload.to_vec(),
                _ => {}
            }
        }
    }

    /// The same at 5.0.
    pub fn round_trip_v5(self, topic: &str, payload: &[u8]) -> Vec<u8> {
        use v5::mqttbytes::QoS;
        use v5::mqttbytes::v5::Packet;
        use v5::{Client, Event, MqttOptions};
        let mut options = MqttOptions::new(format!("v5-{}", topic.replace('/', "-")), self.host, self.port);
        options.set_transport(self.transport);
        let (client, mut connection) = Client::new(options, 10);
        client.subscribe(topic, QoS::ExactlyOnce).expect("the client runs");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event =
                connection.recv_timeout(left).expect("the broker answers in time").expect("the connection stays");
            match event {
                Event::Incoming(Packet::SubAck(_)) => {
                    client.publish(topic, QoS::ExactlyOnce, false, payload.to_vec()).expect("the client runs");
                }
                Event::Incoming(Packet::Publish(message)) => return message.payload.to_vec(),
                _ => {}
            }
        }
    }
}
