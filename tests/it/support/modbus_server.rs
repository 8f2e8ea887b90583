//! pymodbus as the devices on a Modbus TCP host or on a serial line.

use super::ports::free_port;
use super::process::Peer;
use super::python::python;
use serde_json::Value;
use std::path::Path;

/// A running server. Units that it was not told of stay silent, as on a real line.
pub struct ModbusServer {
    /// Where it listens; 0 on a serial line.
    pub port: u16,
    peer: Peer,
}

impl ModbusServer {
    /// Serves `units` over Modbus TCP on a free port of 127.0.0.1: `{"1": {"holding": {"0": [1, 2]}}}`, with the
    /// blocks `holding`, `input`, `coils` and `discrete`, each a map from address to consecutive values.
    pub fn tcp(units: &Value) -> Self {
        let port = free_port();
        Self { port, peer: python("modbus_server.py", &["tcp", &port.to_string(), &units.to_string()]) }
    }

    /// The same with RTU frames on TCP, as serial device servers pass them through.
    pub fn rtu_over_tcp(units: &Value) -> Self {
        let port = free_port();
        Self { port, peer: python("modbus_server.py", &["rtu-over-tcp", &port.to_string(), &units.to_string()]) }
    }

    /// Serves `units` with RTU frames on a serial line of 9600 baud.
    pub fn rtu(line: &Path, units: &Value) -> Self {
        let line = line.to_str().expect("the line's name is UTF-8");
        Self { port: 0, peer: python("modbus_server.py", &["rtu", line, &units.to_string()]) }
    }

    /// Changes what stands in a block from `address` on.
    pub fn set(&mut self, unit: u8, block: &str, address: u16, values: &[u16]) {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        self.ask(&format!("set {unit} {block} {address} {}", values.join(" ")));
    }

    pub fn values(&mut self, unit: u8, block: &str, address: u16, count: u16) -> Vec<u16> {
        let answer = self.ask(&format!("get {unit} {block} {address} {count}"));
        answer.split_whitespace().map(|word| word.parse().expect("a value is a number")).collect()
    }

    /// The unit answers no more.
    pub fn mute(&mut self, unit: u8) {
        self.ask(&format!("mute {unit}"));
    }

    pub fn unmute(&mut self, unit: u8) {
        self.ask(&format!("unmute {unit}"));
    }

    /// The unit answers every request with this exception; 0 ends it.
    pub fn fail_with(&mut self, unit: u8, exception: u8) {
        self.ask(&format!("exception {unit} {exception}"));
    }

    /// The unit answers that much later; 0 ends it.
    pub fn delay(&mut self, unit: u8, milliseconds: u32) {
        self.ask(&format!("delay {unit} {milliseconds}"));
    }

    /// How many requests came for the unit, those that it left unanswered included.
    pub fn requests(&mut self, unit: u8) -> u64 {
        self.ask(&format!("count {unit}")).parse().expect("a count is a number")
    }

    pub fn peer(&mut self) -> &mut Peer {
        &mut self.peer
    }

    fn ask(&mut self, command: &str) -> String {
        self.peer.send_line(command);
        let answer = self.peer.stdout().take("an answer", |line| line.starts_with("ok") || line.starts_with("error"));
        let Some(told) = answer.strip_prefix("ok") else { panic!("{command}: {answer}") };
        told.trim().to_owned()
    }
}
