//! Logs.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The filter is not a filter.
#[derive(Debug, thiserror::Error)]
#[error(
    "'{filter}' is not a log filter ({source}); use error, warn, info, debug, trace, or target=level pairs"
)]
pub struct Error {
    filter: String,
    source: ParseError,
}

/// Starts logging to standard error. A second call keeps the first one's settings.
pub fn init(format: Format, filter: &str) -> Result<(), Error> {
    let parsed = EnvFilter::builder().parse(filter).map_err(|source| Error {
        filter: filter.to_owned(),
        source,
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr);
    let started = match format {
        Format::Json => logs.json().try_init(),
        Format::Text => logs.try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
    Ok(())
}
