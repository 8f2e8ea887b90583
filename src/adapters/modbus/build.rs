//! From the settings of a bus to the bus: "the innermost wins", and the rules about several values at once.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio_serial::DataBits;

use super::bus::{Bus, Pace};
use super::frame::{MAX_READ_REGISTERS, MAX_WRITE_REGISTERS, Table};
use super::layout::{self, BusPoint, Content, Layout, Writing, plan_polls};
use super::plan::{Bounds, Extent};
use super::settings::{Point, Settings};
use super::wire::{Endpoint, StreamWire};
use super::words::{Framing, OrderWord, TypeWord, Write};
use crate::adapters::command::DEFAULT_WRITE_TIMEOUT;
use crate::adapters::line::LineSettings;
use crate::adapters::point::{self, DEFAULT_EVERY, Publishing, SPANS};
use crate::adapters::topics::{DeviceTopic, Names};
use crate::mapping::register::{Order, RegisterCodec, RegisterType};
use crate::mapping::{Limits, PayloadFormat};
use crate::settings::names::check_point_name;
use crate::settings::{Duration as Span, Located, Mistake, Place};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_RETRIES: u8 = 2;
const DEFAULT_OFFLINE_AFTER: u32 = 3;
const DEFAULT_MAX_GAP: u16 = 16;
const DEFAULT_BAUD: u32 = 9600;

impl Settings {
    /// The bus `name` of the gateway `gateway`, ready to run; `defaults` is what the gateway says of messages.
    ///
    /// # Errors
    /// Every [`Mistake`] in it, each with its place.
    pub fn plan(
        &self,
        name: &Located<String>,
        gateway: &str,
        defaults: &Publishing,
    ) -> Result<Bus<StreamWire>, Vec<Mistake>> {
        let mut build = Build { mistakes: Vec::new(), gateway, bus: name, topics: HashSet::new() };
        let endpoint = build.endpoint(self);
        let timeout = build.span(self.timeout, "timeout", DEFAULT_TIMEOUT);
        let pace = Pace {
            timeout,
            retries: build.within(self.retries, "retries", 0..=10, DEFAULT_RETRIES),
            offline_after: build.within(self.offline_after, "offline_after", 1..=1000, DEFAULT_OFFLINE_AFTER),
            write_timeout: build.span(self.write_timeout, "write_timeout", DEFAULT_WRITE_TIMEOUT),
        };
        let bounds = Bounds {
            max_gap: build.within(self.max_gap, "max_gap", 0..=2000, DEFAULT_MAX_GAP),
            max_count: build.within(self.max_words, "max_words", 1..=MAX_READ_REGISTERS, MAX_READ_REGISTERS),
        };
        let layout = build.layout(self, defaults, endpoint.as_ref(), bounds);
        match endpoint {
            Some((endpoint, framing)) if build.mistakes.is_empty() => {
                let pause = self.pause.map_or(Duration::ZERO, |pause| pause.0);
                Ok(Bus::new(layout, StreamWire::new(endpoint, framing, timeout, pause), pace))
            }
            _ => Err(build.mistakes),
        }
    }
}

struct Build<'a> {
    mistakes: Vec<Mistake>,
    gateway: &'a str,
    bus: &'a Located<String>,
    /// Topics that its points publish on.
    topics: HashSet<String>,
}

/// What is settled of a device before its points are looked at.
struct DeviceContext<'a> {
    names: Names<'a>,
    index: usize,
    publishing: Publishing,
    order: Order,
    max_words: u16,
}

impl Build<'_> {
    fn mistake(&mut self, place: Place, message: impl Into<String>) {
        self.add(Mistake::new(place, message));
    }

    fn add(&mut self, mistake: Mistake) {
        // What a device says wrongly for all its points is wrong once.
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }

    fn endpoint(&mut self, settings: &Settings) -> Option<(Endpoint, Framing)> {
        match (&settings.host, &settings.port) {
            (Some(host), None) => {
                for (key, place) in [
                    ("baud", settings.baud.map(|baud| baud.place)),
                    ("format", settings.format.map(|format| format.place)),
                ] {
                    if let Some(place) = place {
                        self.mistake(place, format!("`{key}` belongs to a serial port, and this bus has a host"));
                    }
                }
                let framing = settings.framing.map_or(Framing::Tcp, |framing| framing.value);
                Some((Endpoint::Tcp { host: host.name.clone(), port: host.port }, framing))
            }
            (None, Some(port)) => {
                if let Some(framing) = settings.framing.filter(|framing| framing.value == Framing::Tcp) {
                    self.mistake(framing.place, "a serial port has framing rtu");
                }
                let baud = self.within(settings.baud, "baud", 300..=4_000_000, DEFAULT_BAUD);
                if port.is_empty() {
                    self.mistake(port.place, "a port is the path of a serial device");
                }
                if let Some(format) = settings.format.filter(|format| format.data_bits != DataBits::Eight) {
                    self.mistake(format.place, "Modbus RTU has eight data bits: 8N1, 8E1, 8O1, 8N2 …");
                }
                let format = settings.format.map(|format| format.value).unwrap_or_default();
                let line = LineSettings { path: port.value.clone(), baud, format };
                Some((Endpoint::Serial(line), Framing::Rtu))
            }
            (Some(_), Some(port)) => {
                self.mistake(port.place, "a bus has either `host` or `port`, not both");
                None
            }
            (None, None) => {
                self.mistakes.push(
                    self.bus
                        .mistake("a bus needs `host` or `port`")
                        .help("host: 192.168.1.30 for Modbus TCP, port: /dev/ttyUSB0 for a serial line"),
                );
                None
            }
        }
    }

    fn layout(
        &mut self,
        settings: &Settings,
        defaults: &Publishing,
        endpoint: Option<&(Endpoint, Framing)>,
        bounds: Bounds,
    ) -> Layout {
        let mut layout =
            Layout { name: self.bus.value.clone(), devices: Vec::new(), points: Vec::new(), polls: Vec::new() };
        let mut intervals = Vec::new();
        let publishing = defaults.overridden_by(&settings.publishing());
        if settings.devices.is_empty() {
            let mistake = self.bus.mistake(format!("`{}` has no devices", self.bus.value));
            self.mistakes
                .push(mistake.help("for example devices: { meter: { id: 1, points: { power: { holding: 0 } } } }"));
        }
        for (name, device) in &settings.devices {
            if let Some((_, Framing::Rtu)) = endpoint
                && !(1..=247).contains(&device.id.0)
            {
                self.mistake(device.id.place, "a unit id on a serial line is 1 to 247");
            }
            if device.points.is_empty() {
                let mistake = name.mistake(format!("`{}` has no points", name.value));
                self.mistakes.push(mistake.help("for example points: { power: { holding: 0, type: float32 } }"));
            }
            let publishing = publishing.overridden_by(&device.publishing());
            let names = Names { gateway: self.gateway, bus: Some(self.bus), device: name };
            let Some(whole) = self.unless_mistaken(DeviceTopic::plan(names, &publishing)) else { continue };
            let context = DeviceContext {
                names,
                index: layout.devices.len(),
                publishing,
                order: device.order.or(settings.order).map_or(Order::default(), |OrderWord(order)| order),
                max_words: bounds.max_count,
            };
            layout.devices.push(layout::Device { name: name.as_str().into(), unit: device.id.0, whole });
            for (name, point) in &device.points {
                self.mistakes.extend(check_point_name(name));
                let every = point.every.or(device.every).or(settings.every);
                let every = self.span(every, "every", DEFAULT_EVERY);
                if let Some(point) = self.point(&context, name, point) {
                    layout.points.push(point);
                    intervals.push(every);
                }
            }
        }
        layout.polls = plan_polls(&layout.points, &intervals, bounds);
        layout
    }

    fn point(
        &mut self,
        device: &DeviceContext<'_>,
        name: &Located<String>,
        point: &Located<Point>,
    ) -> Option<BusPoint> {
        let before = self.mistakes.len();
        let (table, address) = self.table(name, point)?;
        let content = if table.is_bits() {
            self.refuse_on_bits(table, point);
            Content::Bit
        } else {
            Content::Registers(self.codec(device, name, point))
        };
        let count = match &content {
            Content::Bit => 1,
            Content::Registers(codec) => codec.kind.registers(),
        };
        if u32::from(address.0) + u32::from(count) > 65_536 {
            self.mistake(address.place, format!("its {count} registers reach beyond the last address, 65535"));
        }
        if count > device.max_words && !table.is_bits() {
            let message = format!("it has {count} registers, and one request reads {}", device.max_words);
            self.mistake(name.place, message);
        }
        let reporting = point.reporting();
        self.mistakes.extend(reporting.mistakes(is_number(&content)));
        let writing = self.writing(table, point, &content);
        let publishing = device.publishing.overridden_by(&point.publishing());
        let topic = self.unless_mistaken(device.names.point_topic(&publishing, name))?;
        // With `object` one message carries the device; a point that is written still wants a topic of its own.
        let is_own = publishing.format() != PayloadFormat::Object || writing.is_some();
        if is_own && !self.topics.insert(topic.to_string()) {
            let mistake = name.mistake(format!("another point of this bus has the topic {topic}, too"));
            self.mistakes.push(mistake.help("put {device} and {point} into the topic"));
        }
        if self.mistakes.len() > before {
            return None;
        }
        Some(BusPoint {
            device: device.index,
            table,
            extent: Extent { start: address.0, count },
            content,
            writing,
            point: point::Point::new(device.names, name, topic, &publishing, &reporting),
        })
    }

    fn table(&mut self, name: &Located<String>, point: &Point) -> Option<(Table, Located<super::words::Address>)> {
        let given = [
            (Table::Holding, point.holding),
            (Table::Input, point.input),
            (Table::Coil, point.coil),
            (Table::Discrete, point.discrete),
        ];
        let mut given = given.into_iter().filter_map(|(table, address)| Some((table, address?)));
        match (given.next(), given.next()) {
            (Some(one), None) => Some(one),
            (None, _) => {
                self.mistakes.push(
                    name.mistake("a point needs an address")
                        .help("one of holding, input, coil, discrete: holding: 100"),
                );
                None
            }
            (Some((first, _)), Some((second, address))) => {
                self.mistake(address.place, format!("a point has one address, not both `{first}` and `{second}`"));
                None
            }
        }
    }

    fn refuse_on_bits(&mut self, table: Table, point: &Point) {
        for (key, place) in [
            ("type", point.kind.map(|kind| kind.place)),
            ("chars", point.chars.map(|chars| chars.place)),
            ("order", point.order.map(|order| order.place)),
            ("scale", point.scale.map(|scale| scale.place)),
            ("offset", point.offset.map(|offset| offset.place)),
            ("bit", point.bit.map(|bit| bit.place)),
            ("map", point.map.as_ref().map(|map| map.place)),
            ("unavailable", point.unavailable.map(|unavailable| unavailable.place)),
        ] {
            if let Some(place) = place {
                self.mistake(place, format!("`{key}` belongs to registers, and `{table}` is true or false"));
            }
        }
    }

    fn codec(&mut self, device: &DeviceContext<'_>, name: &Located<String>, point: &Point) -> RegisterCodec {
        let kind = match (point.kind.map(|kind| kind.value), point.chars) {
            (Some(TypeWord::Text), Some(chars)) => {
                RegisterType::Text { chars: self.within(Some(chars), "chars", 1..=250, 1) }
            }
            (Some(TypeWord::Text), None) => {
                self.mistakes.push(name.mistake("a string needs `chars`, its number of characters"));
                RegisterType::Text { chars: 1 }
            }
            (other, chars) => {
                if let Some(chars) = chars {
                    self.mistake(chars.place, "`chars` belongs to `type: string`");
                }
                match other {
                    Some(TypeWord::Number(kind)) => kind,
                    _ => RegisterType::default(),
                }
            }
        };
        let is_text = matches!(kind, RegisterType::Text { .. });
        let scaling = point.scale.map(|scale| scale.place).or(point.offset.map(|offset| offset.place));
        if let Some(place) = scaling.filter(|_| is_text) {
            self.mistake(place, "a string has neither scale nor offset");
        }
        if let Some(unavailable) = point.unavailable.filter(|_| is_text) {
            self.mistake(unavailable.place, "a string has no `unavailable` value");
        }
        if let Some(scale) = point.scale.filter(|scale| scale.value == 0.0 || !scale.is_finite()) {
            self.mistake(scale.place, "a scale is a number other than 0");
        }
        if let Some(offset) = point.offset.filter(|offset| !offset.is_finite()) {
            self.mistake(offset.place, "an offset is a finite number");
        }
        if let Some(bit) = point.bit {
            let width = kind.registers() * 16;
            if !kind.is_integer() {
                self.mistake(bit.place, "`bit` belongs to whole numbers");
            } else if u16::from(bit.value) >= width {
                self.mistake(bit.place, format!("there is no bit {} in {width} bits: 0 to {}", *bit, width - 1));
            }
            if let Some(place) = scaling {
                self.mistake(place, "a bit has neither scale nor offset");
            }
        }
        if let Some(map) = &point.map {
            if !kind.is_integer() {
                self.mistake(map.place, "`map` belongs to whole numbers");
            }
            if scaling.is_some() || point.bit.is_some() {
                self.mistake(
                    map.place,
                    "a point has either `map` or `scale`, `offset`, `bit`: words stand for raw numbers",
                );
            }
        }
        let words = point.map.iter().flat_map(|map| map.value.iter()).map(|(key, word)| (key.0, word.0.clone()));
        RegisterCodec {
            kind,
            order: point.order.map_or(device.order, |order| order.0),
            scale: point.scale.map_or(1.0, |scale| scale.value),
            offset: point.offset.map_or(0.0, |offset| offset.value),
            bit: point.bit.map(|bit| bit.value),
            map: words.collect(),
            unavailable: point.unavailable.map(|unavailable| unavailable.0),
        }
    }

    fn writing(&mut self, table: Table, point: &Point, content: &Content) -> Option<Writing> {
        let Some(write) = point.write.filter(|write| write.value != Write::No) else {
            if let Some(function) = point.function {
                self.mistake(function.place, "`function` says how a point is written, and this one is not");
            }
            return None;
        };
        let (single, multiple) = match table {
            Table::Coil => (5, 15),
            Table::Holding => (6, 16),
            Table::Input | Table::Discrete => {
                self.mistake(write.place, format!("`{table}` cannot be written; `holding` and `coil` can"));
                return None;
            }
        };
        let mut limits = Limits::default();
        if let Write::Within(within) = write.value {
            limits = Limits { min: within.min.map(|min| min.value), max: within.max.map(|max| max.value) };
            if let Some(problem) = limits.problem() {
                self.mistake(write.place, problem);
            }
        }
        let has_limits = !limits.is_none();
        let mut registers = 1;
        match content {
            Content::Bit if has_limits => self.mistake(write.place, "a coil has no limits: `write: true`"),
            Content::Bit => {}
            Content::Registers(codec) => {
                registers = codec.kind.registers();
                if codec.bit.is_some() {
                    self.mistake(write.place, "writing a single bit of a register is not available yet");
                }
                if has_limits && (matches!(codec.kind, RegisterType::Text { .. }) || !codec.map.is_empty()) {
                    self.mistake(write.place, "limits belong to numbers: `write: true`");
                }
                if registers > MAX_WRITE_REGISTERS {
                    self.mistake(write.place, format!("one request writes at most {MAX_WRITE_REGISTERS} registers"));
                }
            }
        }
        if let Some(function) = point.function {
            if ![single, multiple].contains(&function.value) {
                self.mistake(function.place, format!("`{table}` is written by function {single} or {multiple}"));
            } else if function.value == single && registers > 1 {
                self.mistake(
                    function.place,
                    format!("function {single} writes one register, and this has {registers}"),
                );
            }
        }
        Some(Writing { limits, is_multiple: point.function.is_some_and(|function| function.value == multiple) })
    }

    fn span(&mut self, span: Option<Located<Span>>, key: &str, default: Duration) -> Duration {
        self.within(span, key, SPANS, Span(default)).0
    }

    fn within<T: Copy + PartialOrd + std::fmt::Display>(
        &mut self,
        value: Option<Located<T>>,
        key: &str,
        range: RangeInclusive<T>,
        default: T,
    ) -> T {
        let Some(value) = value else { return default };
        match value.outside(key, range) {
            Some(mistake) => {
                self.add(mistake);
                default
            }
            None => value.value,
        }
    }

    fn unless_mistaken<T>(&mut self, result: Result<T, Mistake>) -> Option<T> {
        result.map_err(|mistake| self.add(mistake)).ok()
    }
}

fn is_number(content: &Content) -> bool {
    match content {
        Content::Bit => false,
        Content::Registers(codec) => {
            codec.bit.is_none() && codec.map.is_empty() && !matches!(codec.kind, RegisterType::Text { .. })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::adapters::Adapter;

    fn plan(settings: Value) -> Result<Bus<StreamWire>, Vec<String>> {
        let settings: Settings = serde_json::from_value(settings).unwrap();
        let name = Located::nowhere("hall".to_owned());
        settings
            .plan(&name, "edge", &Publishing::default())
            .map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.message).collect())
    }

    fn mistakes(settings: Value) -> Vec<String> {
        plan(settings).map(|_| ()).unwrap_err()
    }

    fn with_point(point: &Value) -> Value {
        json!({ "host": "h", "devices": { "plc": { "id": 1, "points": { "p": point } } } })
    }

    #[test]
    fn the_example_of_the_reference_is_planned() {
        let bus = plan(json!({
            "host": "plc.local",
            "order": "ABCD",
            "devices": { "plc": { "id": 1, "order": "CDAB", "points": {
                "tank_level": { "holding": 100, "type": "float32", "unit": "m" },
                "running": { "holding": 112, "bit": 2 },
                "counter": { "holding": 113, "type": "bcd32" },
                "temperature": { "holding": 111, "type": "int16", "scale": 0.1, "offset": -40, "unavailable": 0x8000 },
                "state": { "holding": 107, "map": { "1": "off", "2": "sleeping" } },
                "maker": { "holding": 4, "type": "string", "chars": 32, "every": "1d" },
                "pump": { "coil": 5, "write": true },
                "setpoint": { "holding": 120, "type": "int16", "scale": 0.1, "write": { "min": 5, "max": 35 } },
            } } },
        }))
        .unwrap();
        let layout = bus.layout();
        let reads: Vec<_> = layout
            .polls
            .iter()
            .map(|poll| {
                let ranges = poll.reads.iter().map(|part| (part.table, part.read.range.start, part.read.range.count));
                (poll.every.as_secs(), ranges.collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(
            reads,
            [(10, vec![(Table::Coil, 5, 1), (Table::Holding, 100, 21)]), (86_400, vec![(Table::Holding, 4, 16)]),]
        );
        let Content::Registers(codec) = &layout.points[0].content else { panic!("tank_level is in registers") };
        assert_eq!((codec.kind, codec.order), (RegisterType::Float32, Order::Cdab));
        let topics: Vec<String> = bus.command_topics().iter().map(|topic| topic.topic.to_string()).collect();
        assert_eq!(topics, ["edge/plc/pump/set", "edge/plc/setpoint/set"]);
        assert_eq!(bus.devices(), ["plc"]);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let all = mistakes(json!({
            "devices": {
                "status": { "id": 1, "points": { "set": { "holding": 1 }, "b": { "holding": 2, "input": 2 } } },
                "plc": { "id": 1, "every": "0s", "points": { "a": {}, "b": { "input": 1, "write": true } } },
            },
        }));
        assert_eq!(
            all,
            [
                "a bus needs `host` or `port`",
                "no point can be named `set`",
                "a point has one address, not both `holding` and `input`",
                "`every` is 1ms to 366d",
                "a point needs an address",
                "`input` cannot be written; `holding` and `coil` can",
            ]
        );
    }

    #[test]
    fn keys_that_do_not_go_together_are_refused() {
        for (point, message) in [
            (json!({ "holding": 65_535, "type": "float32" }), "its 2 registers reach beyond the last address, 65535"),
            (json!({ "holding": 1, "type": "string" }), "a string needs `chars`, its number of characters"),
            (json!({ "holding": 1, "chars": 4 }), "`chars` belongs to `type: string`"),
            (json!({ "coil": 1, "bit": 2 }), "`bit` belongs to registers, and `coil` is true or false"),
            (json!({ "holding": 1, "bit": 16 }), "there is no bit 16 in 16 bits: 0 to 15"),
            (json!({ "holding": 1, "type": "float32", "bit": 1 }), "`bit` belongs to whole numbers"),
            (json!({ "holding": 1, "scale": 0 }), "a scale is a number other than 0"),
            (json!({ "discrete": 1, "write": true }), "`discrete` cannot be written; `holding` and `coil` can"),
            (json!({ "coil": 1, "write": true, "function": 6 }), "`coil` is written by function 5 or 15"),
            (json!({ "holding": 1, "function": 16 }), "`function` says how a point is written, and this one is not"),
            (
                json!({ "holding": 1, "type": "int32", "write": true, "function": 6 }),
                "function 6 writes one register, and this has 2",
            ),
            (json!({ "holding": 1, "write": { "min": 2, "max": 1 } }), "min 2 is above max 1"),
            (
                json!({ "holding": 1, "bit": 1, "write": true }),
                "writing a single bit of a register is not available yet",
            ),
            (json!({ "holding": 1, "max_silence": "1m" }), "`max_silence` belongs to `deadband` or `on_change`"),
            (json!({ "coil": 1, "deadband": 1 }), "`deadband` belongs to numbers; `on_change` does for anything"),
            (json!({ "holding": 1, "topic": "{bridge}/{point}" }), "`{bridge}` has no meaning here, for `plc`"),
            (json!({ "holding": 1, "topic": "a/#" }), "`a/#` is no topic"),
        ] {
            assert_eq!(mistakes(with_point(&point)), [message], "{point}");
        }
    }

    #[test]
    fn a_bus_is_a_host_or_a_serial_port() {
        let bus = |bus: Value| {
            let mut bus = bus;
            bus["devices"] = json!({ "plc": { "id": 0, "points": { "p": { "holding": 1 } } } });
            plan(bus).map(|_| ()).err().unwrap_or_default()
        };
        assert_eq!(bus(json!({ "host": "h" })), Vec::<String>::new());
        assert_eq!(bus(json!({ "host": "h", "framing": "rtu" })), ["a unit id on a serial line is 1 to 247"]);
        assert_eq!(bus(json!({ "host": "h", "port": "/dev/ttyS0" })), ["a bus has either `host` or `port`, not both"]);
        assert_eq!(
            bus(json!({ "host": "h", "baud": 9600 })),
            ["`baud` belongs to a serial port, and this bus has a host"]
        );
        assert_eq!(
            bus(json!({ "port": "/dev/ttyS0", "framing": "tcp", "max_words": 126 })),
            ["a serial port has framing rtu", "`max_words` is 1 to 125", "a unit id on a serial line is 1 to 247"]
        );
    }

    #[test]
    fn a_line_of_seven_data_bits_carries_no_rtu() {
        let all = mistakes(json!({ "port": "/dev/ttyS0", "format": "7E1", "devices": {
            "plc": { "id": 1, "points": { "a": { "holding": 1 } } },
        } }));
        assert_eq!(all, ["Modbus RTU has eight data bits: 8N1, 8E1, 8O1, 8N2 …"]);
    }

    #[test]
    fn two_points_never_share_a_topic() {
        let all = mistakes(json!({ "host": "h", "topic": "{gateway}/{device}", "devices": {
            "plc": { "id": 1, "points": { "a": { "holding": 1 }, "b": { "holding": 2 } } },
        } }));
        assert_eq!(all, ["another point of this bus has the topic edge/plc, too"]);
    }

    #[test]
    fn points_of_one_object_share_its_topic_unless_they_are_written() {
        let all = mistakes(json!({ "host": "h", "topic": "{gateway}/{device}", "payload": "object", "devices": {
            "plc": { "id": 1, "points": { "a": { "holding": 1 }, "b": { "holding": 2 } } },
            "rtu": { "id": 2, "points": { "a": { "coil": 1, "write": true }, "b": { "coil": 2, "write": true } } },
        } }));
        assert_eq!(all, ["another point of this bus has the topic edge/rtu, too"]);
    }
}
