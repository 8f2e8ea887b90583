//! From what a device says to what is published: pure, without sockets, clock or runtime.

pub mod carried;
pub mod hop_payload;
pub mod json_path;
pub mod limits;
pub mod linear;
pub mod nmea;
pub mod payload;
pub mod payload_template;
pub mod register;
pub mod report;
pub mod text;
pub mod value;

pub use json_path::JsonPath;
pub use limits::{BeyondLimits, Limits};
pub use linear::Linear;
pub use payload::PayloadFormat;
pub use report::{Report, ReportFilter};
pub use text::ValueType;
pub use value::Value;
