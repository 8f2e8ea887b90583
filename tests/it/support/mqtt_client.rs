//! paho-mqtt as a client; `tests/it/peers/mqtt_client.py` lists its commands and events.

use super::process::Peer;
use super::python::python;
use serde_json::{Value, json};

/// An MQTT client in a process of its own.
pub struct MqttClient {
    peer: Peer,
}

impl MqttClient {
    /// A client that is not connected yet; `run` it with `connect`.
    pub fn start() -> Self {
        Self { peer: python("mqtt_client.py", &[]) }
    }

    /// A client that connected with these options of `connect` (`{"version": "3.1.1", "client_id": …}`); gives
    /// the event `connected` too.
    pub fn connect(port: u16, options: &Value) -> (Self, Value) {
        let mut client = Self::start();
        let mut command = options.clone();
        command["port"] = json!(port);
        let connected = client.run("connect", &command, "connected");
        (client, connected)
    }

    /// Gives a command and does not wait.
    pub fn tell(&mut self, command: &str, options: &Value) {
        let mut command_line = options.clone();
        command_line["do"] = json!(command);
        self.peer.send_line(&command_line.to_string());
    }

    /// Gives a command and waits for the event that it leads to.
    pub fn run(&mut self, command: &str, options: &Value, event: &str) -> Value {
        self.tell(command, options);
        self.event(event)
    }

    /// Subscribes and gives the reason code.
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> u64 {
        let event = self.run("subscribe", &json!({"filter": filter, "qos": qos}), "subscribed");
        event["reasons"][0].as_u64().expect("a reason is a number")
    }

    /// Publishes and waits until it is sent (QoS 0) or acknowledged.
    pub fn publish(&mut self, topic: &str, payload: &str, qos: u8) {
        self.run("publish", &json!({"topic": topic, "payload": payload, "qos": qos}), "published");
    }

    /// The next message.
    pub fn message(&self) -> Value {
        self.event("message")
    }

    /// The messages that came so far and were not taken.
    pub fn messages_so_far(&self) -> Vec<Value> {
        std::iter::from_fn(|| self.peer.stdout().try_take(|line| is(line, "message")).map(|line| read(&line))).collect()
    }

    /// The next event of that kind; those of other kinds stay for later.
    ///
    /// # Panics
    /// When none comes, or the client reports an error.
    pub fn event(&self, event: &str) -> Value {
        let line = self.peer.stdout().take(event, |line| is(line, event) || is(line, "error"));
        assert!(is(&line, event), "waiting for {event}: {line}\n{}", self.peer.told());
        read(&line)
    }

    pub fn peer(&mut self) -> &mut Peer {
        &mut self.peer
    }
}

fn is(line: &str, event: &str) -> bool {
    read(line)["event"] == event
}

fn read(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or(Value::Null)
}
