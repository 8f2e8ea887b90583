//! The log: where it goes, from which level on, and in which form.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::schema::{LogFormat, LogLevel};

/// Overrides the level, per module where wanted: `EDGEWAY_LOG=info,edgeway::modbus=trace`.
pub const LEVEL_VARIABLE: &str = "EDGEWAY_LOG";

/// Starts the log, on standard error. The second call of a process changes nothing.
pub fn start(level: LogLevel, format: LogFormat) {
    let filter =
        EnvFilter::builder().with_env_var(LEVEL_VARIABLE).with_default_directive(filter(level).into()).from_env_lossy();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Only one log can be started; who comes second keeps the first.
    let _ = match format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colours).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
