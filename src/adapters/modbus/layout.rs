//! What a bus reads and writes: devices, points where they lie, and which of them are polled together.

use std::sync::Arc;
use std::time::Duration;

use super::frame::{Request, Response, Table};
use super::plan::{Bounds, Extent, Read, plan_reads};
use crate::adapters::point::Point;
use crate::adapters::published::{Pace, Published};
use crate::adapters::topics::DeviceTopic;
use crate::mapping::register::{DecodeError, EncodeError, RegisterCodec, encode_bit};
use crate::mapping::{Limits, PayloadFormat, Value};

/// All of a bus but its wire.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Name of the bus.
    pub name: String,
    /// Its devices.
    pub devices: Vec<Device>,
    /// The points of all of them.
    pub points: Vec<BusPoint>,
    /// What is read together.
    pub polls: Vec<Poll>,
}

/// One unit.
#[derive(Debug, Clone)]
pub struct Device {
    /// Name of the device.
    pub name: Arc<str>,
    /// Its unit id.
    pub unit: u8,
    /// Where points with `payload: object` go, together.
    pub whole: DeviceTopic,
}

/// One point and where it lies.
#[derive(Debug, Clone)]
pub struct BusPoint {
    /// Index of its device.
    pub device: usize,
    /// The table that it is in.
    pub table: Table,
    /// Where in it.
    pub extent: Extent,
    /// What is there.
    pub content: Content,
    /// How it is written, if it is.
    pub writing: Option<Writing>,
    /// How its values are published.
    pub point: Point,
}

/// What stands at a point's addresses.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A coil or a discrete input.
    Bit,
    /// Registers.
    Registers(RegisterCodec),
}

/// How a point is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Writing {
    /// Bounds of the value.
    pub limits: Limits,
    /// By function 15 or 16 even if it is one coil or register.
    pub is_multiple: bool,
}

/// What is read together: the points of one device with equal `every`.
#[derive(Debug, Clone)]
pub struct Poll {
    /// Index of the device.
    pub device: usize,
    /// How often.
    pub every: Duration,
    /// The requests; after a failed one was split, its parts.
    pub reads: Vec<TableRead>,
}

/// One request of a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRead {
    /// Where it reads.
    pub table: Table,
    /// What it reads.
    pub read: Read,
    /// It had no answer the last time: it is not worth repeating.
    pub is_failing: bool,
}

impl Layout {
    /// What is published of the bus, device by device.
    pub fn published(&self) -> Vec<Published> {
        let mut published = Vec::new();
        for poll in &self.polls {
            let pace = Pace::Every(poll.every);
            let mut indexes: Vec<usize> = poll.reads.iter().flat_map(|read| read.read.points.iter().copied()).collect();
            indexes.sort_unstable();
            let points = indexes.iter().map(|index| &self.points[*index].point);
            let (together, alone): (Vec<&Point>, Vec<&Point>) =
                points.partition(|point| *point.format() == PayloadFormat::Object);
            if !together.is_empty() {
                let is_always = together.iter().any(|point| point.pace(pace) == pace);
                let pace = if is_always { pace } else { pace.at_most() };
                let names = together.iter().map(|point| point.name());
                published.push(self.devices[poll.device].whole.published(pace, names));
            }
            published.extend(alone.iter().map(|point| point.published(pace)));
        }
        published
    }
}

impl TableRead {
    /// A read that was not tried yet.
    pub fn new(table: Table, read: Read) -> Self {
        Self { table, read, is_failing: false }
    }

    /// The request on the wire.
    pub fn request(&self) -> Request {
        Request::Read { table: self.table, start: self.read.range.start, count: self.read.range.count }
    }
}

impl BusPoint {
    /// The request that reads this point alone.
    pub fn request(&self) -> Request {
        Request::Read { table: self.table, start: self.extent.start, count: self.extent.count }
    }

    /// This point's value in the answer to a read that began at `start`; `None` where the device has none.
    ///
    /// # Errors
    /// A [`DecodeError`] where what was read is no value of the point's type.
    pub fn decode(&self, start: u16, response: &Response) -> Result<Option<Value>, DecodeError> {
        let missing = |actual| DecodeError::Count { expected: self.extent.count, actual };
        match (&self.content, response) {
            (Content::Bit, Response::Bits(bits)) => {
                let bit = self.extent.within(start, bits).and_then(|bits| bits.first());
                bit.map(|bit| Some(Value::Bool(*bit))).ok_or_else(|| missing(bits.len()))
            }
            (Content::Registers(codec), Response::Registers(registers)) => {
                let own = self.extent.within(start, registers).ok_or_else(|| missing(registers.len()))?;
                codec.decode(own)
            }
            _ => Err(missing(0)),
        }
    }

    /// The request that writes `value`; `None` where the point is not written.
    ///
    /// # Errors
    /// An [`EncodeError`] where the value does not suit the point.
    pub fn write_request(&self, value: &Value) -> Option<Result<Request, EncodeError>> {
        let writing = self.writing?;
        let start = self.extent.start;
        Some(match &self.content {
            Content::Bit => encode_bit(value).map(|on| match writing.is_multiple {
                true => Request::WriteCoils { start, values: vec![on] },
                false => Request::WriteCoil { address: start, on },
            }),
            Content::Registers(codec) => codec.encode(value, writing.limits).map(|registers| match registers[..] {
                [value] if !writing.is_multiple => Request::WriteRegister { address: start, value },
                _ => Request::WriteRegisters { start, values: registers },
            }),
        })
    }
}

/// Groups `points` into polls, each with its `every`, and plans their requests within `bounds` (whose `max_count` is
/// that of registers; bits have their own).
pub fn plan_polls(points: &[BusPoint], every: &[Duration], bounds: Bounds) -> Vec<Poll> {
    let extents: Vec<Extent> = points.iter().map(|point| point.extent).collect();
    let mut polls: Vec<Poll> = Vec::new();
    for (point, every) in points.iter().zip(every) {
        if !polls.iter().any(|poll| poll.device == point.device && poll.every == *every) {
            polls.push(Poll { device: point.device, every: *every, reads: Vec::new() });
        }
    }
    for poll in &mut polls {
        for table in [Table::Coil, Table::Discrete, Table::Holding, Table::Input] {
            let of_poll = |index: &usize| {
                let point = &points[*index];
                point.device == poll.device && point.table == table && every[*index] == poll.every
            };
            let bounds = if table.is_bits() { Bounds { max_count: table.max_read(), ..bounds } } else { bounds };
            let reads = plan_reads(&extents, (0..points.len()).filter(of_poll).collect(), bounds);
            poll.reads.extend(reads.into_iter().map(|read| TableRead::new(table, read)));
        }
    }
    polls
}
