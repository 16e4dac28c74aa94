//! Audit lines on their way out.

use crate::domain::audit::Line;
use crate::ops::telemetry;

/// Prints a line.
pub(super) fn tell(line: &Line) {
    match serde_json::to_string(line) {
        Ok(text) => telemetry::audit(&text),
        Err(error) => tracing::error!(%error, "an audit line could not be written"),
    }
}
