//! Logs: one line per event, JSON for machines or text for people, on standard error.

use std::io;

use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt};

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For a terminal.
    #[default]
    Text,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not understood.
    #[error("log filter '{filter}': {why}")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something else in this process has set up logging.
    #[error("logging is already set up: {0}")]
    Installed(#[from] TryInitError),
}

/// Sends the logs of the whole process to standard error. `filter` is a level or a list such as `info,kube=warn`.
///
/// # Errors
/// A filter that is not understood; logging that is already set up.
pub fn init(format: Format, filter: &str) -> Result<(), TelemetryError> {
    subscriber(format, filter, io::stderr)?.try_init()?;
    Ok(())
}

fn subscriber<W>(
    format: Format,
    filter: &str,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = parse_filter(filter)?;
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        Format::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(writer)
            .boxed(),
        Format::Text => fmt::layer().with_ansi(false).with_writer(writer).boxed(),
    };
    Ok(tracing_subscriber::registry().with(lines.with_filter(filter)))
}

fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    let bad = |why: String| TelemetryError::Filter {
        filter: filter.to_owned(),
        why,
    };
    if let Some(word) = unknown_level(filter) {
        return Err(bad(format!(
            "'{word}' is not one of off, error, warn, info, debug, trace"
        )));
    }
    EnvFilter::try_new(filter).map_err(|e: ParseError| bad(e.to_string()))
}

/// A bare word that is no level: `EnvFilter` would take `inof` for the name of a module and log nothing else.
fn unknown_level(filter: &str) -> Option<&str> {
    if filter.contains('[') {
        return None; // span filters have commas of their own
    }
    filter.split(',').map(str::trim).find(|word| {
        let level = word.parse::<Level>().is_ok() || word.eq_ignore_ascii_case("off");
        !level && !word.contains('=')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, filter: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(uid = "u-1", "reviewed");
            tracing::debug!("a detail");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_are_flat_objects() {
        let line: serde_json::Value =
            serde_json::from_str(logged(Format::Json, "info").trim()).unwrap();
        assert_eq!(line["message"], "reviewed");
        assert_eq!(line["uid"], "u-1");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn text_lines_obey_the_filter() {
        assert_eq!(logged(Format::Text, "info").lines().count(), 1);
        assert_eq!(logged(Format::Text, "warn,stint=debug").lines().count(), 2);
        assert_eq!(logged(Format::Text, "off"), "");
    }

    #[test]
    fn a_bad_filter_is_an_error_that_names_it() {
        for filter in ["inof", "stint=loud", "info,verbose", "", "=,="] {
            let refused = parse_filter(filter).unwrap_err().to_string();
            assert!(refused.contains(&format!("'{filter}'")), "{refused}");
        }
    }
}
