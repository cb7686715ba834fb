//! Logs on standard error, as text or as one JSON object per line. Times are in UTC (RFC 3339).

use edgewright_model::error::ErrorClass;
use tracing_subscriber::EnvFilter;

/// The format of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text, with colours on a terminal.
    Text {
        /// Whether to use colours.
        colour: bool,
    },
    /// One JSON object per line.
    Json,
}

/// Why logging does not start.
#[derive(Debug, thiserror::Error)]
#[error("invalid log filter `{filter}`: {reason}")]
pub struct InvalidFilter {
    filter: String,
    reason: String,
}

impl InvalidFilter {
    /// The class of the error.
    pub const fn class(&self) -> ErrorClass {
        ErrorClass::UserFault
    }

    /// What to do about it.
    pub const fn hint(&self) -> Option<&'static str> {
        Some(
            "write a level (error, warn, info, debug, trace), or levels of modules such as warn,edgewright_control=debug",
        )
    }
}

/// Starts logging for the process. Only the first call has an effect.
pub fn start(filter: &str, format: Format) -> Result<(), InvalidFilter> {
    let invalid = |error: tracing_subscriber::filter::ParseError| InvalidFilter {
        filter: filter.to_owned(),
        reason: error.to_string(),
    };
    let filter = EnvFilter::builder().parse(filter).map_err(invalid)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        Format::Text { colour } => builder.with_ansi(colour).with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    // In tests, a second start keeps the first.
    drop(started);
    Ok(())
}
