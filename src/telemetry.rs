//! The log: where it goes, from which level on, and in which form.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::schema;

/// Overrides the level, per module where wanted: `EDGEWAY_LOG=info,edgeway::modbus=trace`.
pub const LEVEL_VARIABLE: &str = "EDGEWAY_LOG";

/// From which level on lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed for good.
    Error,
    /// What somebody should look at.
    Warn,
    /// Lifecycle: started, connected, reloaded, stopped.
    #[default]
    Info,
    /// Per connection.
    Debug,
    /// Per packet.
    Trace,
}

/// How a line reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts the log, on standard error. The second call of a process changes nothing.
pub fn start(level: LogLevel, format: LogFormat) {
    let filter = EnvFilter::builder()
        .with_env_var(LEVEL_VARIABLE)
        .with_default_directive(level.filter().into())
        .from_env_lossy();
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

impl LogLevel {
    const fn filter(self) -> LevelFilter {
        match self {
            Self::Off => LevelFilter::OFF,
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

impl From<schema::LogLevel> for LogLevel {
    fn from(level: schema::LogLevel) -> Self {
        match level {
            schema::LogLevel::Error => Self::Error,
            schema::LogLevel::Warn => Self::Warn,
            schema::LogLevel::Info => Self::Info,
            schema::LogLevel::Debug => Self::Debug,
            schema::LogLevel::Trace => Self::Trace,
        }
    }
}

impl From<schema::LogFormat> for LogFormat {
    fn from(format: schema::LogFormat) -> Self {
        match format {
            schema::LogFormat::Text => Self::Text,
            schema::LogFormat::Json => Self::Json,
        }
    }
}
