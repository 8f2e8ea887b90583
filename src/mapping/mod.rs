//! From what a device says to what is published: pure, without sockets, clock or runtime.

pub mod payload;
pub mod register;
pub mod report;
pub mod value;

pub use payload::PayloadFormat;
pub use report::{Report, ReportFilter};
pub use value::Value;
