//! Logs on standard error: for people, or one JSON object a line.

use edgewright_model::error::ErrorClass;
use tracing_subscriber::EnvFilter;

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people; colours only where `colour`.
    Text {
        /// Whether to colour.
        colour: bool,
    },
    /// One JSON object a line.
    Json,
}

/// Why logging does not start.
#[derive(Debug, thiserror::Error)]
#[error("`{filter}` is no log filter: {reason}")]
pub struct InvalidFilter {
    filter: String,
    reason: String,
}

impl InvalidFilter {
    /// What kind of fault it is.
    pub const fn class(&self) -> ErrorClass {
        ErrorClass::UserFault
    }

    /// What to do about it.
    pub const fn hint(&self) -> Option<&'static str> {
        Some(
            "write a level (error, warn, info, debug, trace), or targets such as warn,edgewright_control=debug",
        )
    }
}

/// Starts logging for the process. Only the first call counts.
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
    // A second start, in tests, keeps the first.
    drop(started);
    Ok(())
}
