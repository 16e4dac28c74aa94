//! Logs: one line per event, JSON for machines or text for people, on standard error. Audit lines apart: always JSON, always
//! told, on standard output.

use std::io::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt, ParseError, Targets, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt};

/// Target of the events that are audit lines.
const AUDIT: &str = "stint::audit";

/// Prints one audit line, already JSON.
pub fn audit(line: &str) {
    tracing::info!(target: AUDIT, line);
}

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
    subscriber(format, filter, io::stderr)?
        .with(audit_layer(io::stdout))
        .try_init()?;
    Ok(())
}

fn subscriber<W>(
    format: Format,
    filter: &str,
    writer: W,
) -> Result<impl Subscriber + for<'s> LookupSpan<'s> + Send + Sync + use<W>, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = parse_filter(filter)?;
    let logs = filter_fn(|metadata| metadata.target() != AUDIT);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        Format::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(writer)
            .boxed(),
        Format::Text => fmt::layer().with_ansi(false).with_writer(writer).boxed(),
    };
    Ok(tracing_subscriber::registry().with(lines.with_filter(filter.and(logs))))
}

/// Writes each audit line as it is, whatever the format and the filter of the logs.
pub fn audit_layer<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    AuditLines(writer).with_filter(Targets::new().with_target(AUDIT, Level::INFO))
}

struct AuditLines<W>(W);

impl<S, W> Layer<S> for AuditLines<W>
where
    S: Subscriber,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = TextOf(String::new());
        event.record(&mut line);
        line.0.push('\n');
        // Nobody could be told that standard output is closed but by standard error, where the event would not help either.
        drop(self.0.make_writer().write_all(line.0.as_bytes()));
    }
}

/// The one text field of an audit event.
struct TextOf(String);

impl Visit for TextOf {
    fn record_str(&mut self, _: &Field, value: &str) {
        self.0 = value.to_owned();
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
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

    #[rstest::rstest]
    fn an_audit_line_is_told_once_as_it_is_whatever_the_logs_are_set_to(
        #[values(Format::Json, Format::Text)] format: Format,
        #[values("off", "error", "info", "stint=trace,off")] filter: &str,
    ) {
        let (logs, told) = (Lines::default(), Lines::default());
        let (to_logs, to_audit) = (logs.clone(), told.clone());
        let subscriber = subscriber(format, filter, move || to_logs.clone())
            .unwrap()
            .with(audit_layer(move || to_audit.clone()));
        tracing::subscriber::with_default(subscriber, || {
            audit(r#"{"grantId":"u-1"}"#);
            tracing::info!(target: "stint::app", "started");
        });
        let text = |lines: Lines| String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text(told), "{\"grantId\":\"u-1\"}\n");
        assert!(!text(logs).contains("u-1"));
    }

    #[test]
    fn a_bad_filter_is_an_error_that_names_it() {
        for filter in ["inof", "stint=loud", "info,verbose", "", "=,="] {
            let refused = parse_filter(filter).unwrap_err().to_string();
            assert!(refused.contains(&format!("'{filter}'")), "{refused}");
        }
    }
}
