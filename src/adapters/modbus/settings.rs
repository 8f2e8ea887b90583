//! The `modbus:` section of the configuration: buses, their devices, and the devices' points.
//!
//! Rules about one value stand in [`super::words`], rules about several in `build`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::words::{Address, Framing, Host, MapKey, MapWord, Number, OrderWord, TypeWord, UnitId, Write};
use crate::adapters::line::LineFormat;
use crate::adapters::point::{Publishing, Reporting};
use crate::mapping::PayloadFormat;
use crate::settings::{Duration, Located, Named, NotYet, Qos, Template};

/// One wire or host; one request at a time on each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Host of a Modbus TCP device or converter, port 502 unless it says another: `192.168.1.30:1502`.
    pub host: Option<Located<Host>>,
    /// Path of a serial port, best one of `/dev/serial/by-id/`.
    pub port: Option<Located<String>>,
    /// `tcp` or `rtu`; default `tcp` on a host, and always `rtu` on a serial port.
    pub framing: Option<Located<Framing>>,
    /// Bits per second on a serial port, default 9600.
    pub baud: Option<Located<u32>>,
    /// Data bits, parity and stop bits on a serial port, default `8N1`.
    pub format: Option<Located<LineFormat>>,
    /// How long a unit may take to answer, and a host to be connected to; default 1s.
    pub timeout: Option<Located<Duration>>,
    /// How often a request without an answer is repeated, 0 to 10, default 2.
    pub retries: Option<Located<u8>>,
    /// Silence between requests, default none; on a serial port never below 3.5 characters.
    pub pause: Option<Located<Duration>>,
    /// Polls in a row without an answer after which a device is offline, default 3.
    pub offline_after: Option<Located<u32>>,
    /// A write that cannot be done in this time fails, default 5s.
    pub write_timeout: Option<Located<Duration>>,
    /// Unused registers or bits that may be read along between two points, default 16.
    pub max_gap: Option<Located<u16>>,
    /// Registers in one request, 1 to 125, default 125.
    pub max_words: Option<Located<u16>>,
    /// How often its points are read, default 10s.
    pub every: Option<Located<Duration>>,
    /// Order of bytes, default `ABCD`.
    pub order: Option<OrderWord>,
    /// Topic template of its points.
    pub topic: Option<Located<Template>>,
    /// QoS of its messages.
    pub qos: Option<Qos>,
    /// Whether the broker keeps the newest values.
    pub retain: Option<bool>,
    /// Shape of the payload.
    pub payload: Option<PayloadFormat>,
    /// Not available yet.
    pub on_offline: Option<NotYet>,
    /// The devices on it, by name.
    #[serde(default)]
    pub devices: Named<Device>,
}

/// One unit on a bus.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Unit id: 1 to 247 on a serial line, also 0 and 255 over TCP.
    pub id: Located<UnitId>,
    /// How often its points are read.
    pub every: Option<Located<Duration>>,
    /// Order of bytes.
    pub order: Option<OrderWord>,
    /// Topic template of its points.
    pub topic: Option<Located<Template>>,
    /// QoS of its messages.
    pub qos: Option<Qos>,
    /// Whether the broker keeps the newest values.
    pub retain: Option<bool>,
    /// Shape of the payload.
    pub payload: Option<PayloadFormat>,
    /// Not available yet.
    pub on_offline: Option<NotYet>,
    /// Not available yet.
    pub numbering: Option<NotYet>,
    /// Not available yet.
    pub template: Option<NotYet>,
    /// Its points, by name.
    #[serde(default)]
    pub points: Named<Point>,
}

/// One value of a device: where it is, what it means, and when it is published.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Address of a holding register.
    pub holding: Option<Located<Address>>,
    /// Address of an input register.
    pub input: Option<Located<Address>>,
    /// Address of a coil.
    pub coil: Option<Located<Address>>,
    /// Address of a discrete input.
    pub discrete: Option<Located<Address>>,
    /// Type in the registers, default `uint16`.
    #[serde(rename = "type")]
    pub kind: Option<Located<TypeWord>>,
    /// Characters of a `string`, 1 to 250.
    pub chars: Option<Located<u16>>,
    /// Order of bytes.
    pub order: Option<Located<OrderWord>>,
    /// value = raw * scale + offset; default 1.
    pub scale: Option<Located<f64>>,
    /// Default 0.
    pub offset: Option<Located<f64>>,
    /// One bit of the register, 0 is the least significant: true or false.
    pub bit: Option<Located<u8>>,
    /// Words for raw numbers.
    pub map: Option<Located<BTreeMap<MapKey, MapWord>>>,
    /// What the device gives where it has no value.
    pub unavailable: Option<Located<Number>>,
    /// Physical unit.
    pub unit: Option<String>,
    /// Digits behind the decimal point.
    pub round: Option<Located<u8>>,
    /// Publish only what is farther than this from the last value published.
    pub deadband: Option<Located<f64>>,
    /// Publish only what differs from the last value published.
    pub on_change: Option<bool>,
    /// With `deadband` and `on_change`: publish at least this often, default 15m.
    pub max_silence: Option<Located<Duration>>,
    /// How often it is read.
    pub every: Option<Located<Duration>>,
    /// Whether it is written by `…/set`, and within which limits.
    pub write: Option<Located<Write>>,
    /// The function that writes it: 15 instead of 5 for a coil, 16 instead of 6 for a register.
    pub function: Option<Located<u8>>,
    /// Topic template.
    pub topic: Option<Located<Template>>,
    /// QoS of its messages.
    pub qos: Option<Qos>,
    /// Whether the broker keeps the newest value.
    pub retain: Option<bool>,
    /// Shape of the payload.
    pub payload: Option<PayloadFormat>,
    /// Not available yet.
    pub bits: Option<NotYet>,
    /// Not available yet.
    pub scale_from: Option<NotYet>,
    /// Not available yet.
    pub expr: Option<NotYet>,
}

impl Settings {
    /// What the bus says of messages.
    pub fn publishing(&self) -> Publishing {
        Publishing { topic: self.topic.clone(), qos: self.qos, retain: self.retain, payload: self.payload.clone() }
    }
}

impl Device {
    /// What the device says of messages.
    pub fn publishing(&self) -> Publishing {
        Publishing { topic: self.topic.clone(), qos: self.qos, retain: self.retain, payload: self.payload.clone() }
    }
}

impl Point {
    /// What the point says of messages.
    pub fn publishing(&self) -> Publishing {
        Publishing { topic: self.topic.clone(), qos: self.qos, retain: self.retain, payload: self.payload.clone() }
    }

    /// When its values are published.
    pub fn reporting(&self) -> Reporting {
        Reporting {
            unit: self.unit.clone(),
            on_change: self.on_change.unwrap_or(false),
            deadband: self.deadband,
            max_silence: self.max_silence,
            round: self.round,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(value: serde_json::Value) -> String {
        serde_json::from_value::<Settings>(value).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_built_yet_is_refused_in_words() {
        let bus = |key: &str, value: serde_json::Value| json!({ "host": "h", "devices": { "d": { "id": 1, "points": { "p": { "holding": 1, key: value } } } } });
        assert_eq!(refused(bus("bits", json!({ "0": "high" }))), "not available yet");
        assert_eq!(refused(bus("scale_from", json!(3))), "not available yet");
        assert_eq!(
            refused(json!({ "host": "h", "framing": "ascii", "devices": {} })),
            "`framing: ascii` is not available yet\nthere are tcp and rtu"
        );
        assert_eq!(
            refused(
                json!({ "host": "h", "devices": { "d": { "id": 1, "template": "eastron/sdm630", "points": {} } } })
            ),
            "not available yet"
        );
        assert!(refused(json!({ "host": "h", "bauds": 1, "devices": {} })).starts_with("unknown field `bauds`"));
    }

    #[test]
    fn values_out_of_range_are_refused_in_words() {
        let point = |point: serde_json::Value| {
            refused(json!({ "host": "h", "devices": { "d": { "id": 1, "points": { "p": point } } } }))
        };
        assert!(point(json!({ "holding": 70_000 })).starts_with("an address is 0 to 65535\n"));
        let kind = |word: &str| point(json!({ "holding": 1, "type": word }));
        assert_eq!(kind("float"), "`float` is no type\ndid you mean `float32`?");
        assert_eq!(kind("unit16"), "`unit16` is no type\ndid you mean `uint16`?");
        assert!(kind("colour").starts_with("`colour` is no type\nthere are uint16, "));
        assert_eq!(
            point(json!({ "holding": 1, "order": "XYZ" })),
            "`XYZ` is no order of bytes\nthere are ABCD, CDAB, BADC and DCBA"
        );
        assert!(point(json!({ "holding": 1, "qos": 3 })).starts_with("`3` is not a QoS"));
        assert_eq!(
            point(json!({ "holding": 1, "payload": "{valu}" })),
            "`{valu}` stands for nothing\ndid you mean `{value}`?"
        );
        assert!(point(json!({ "holding": 1, "write": { "low": 3 } })).starts_with("unknown field `low`"));
        let device = json!({ "host": "h", "devices": { "d": { "id": 248, "points": {} } } });
        assert_eq!(refused(device), "a unit id is 0 to 247, or 255");
    }
}
