//! Looks at every role and binding now and then, in the replica that decides, and keeps reports on what the guard finds.

use crate::cluster::guard_reports;
use crate::controller::reconcile::Context;
use crate::domain::guard_report::Reporting;
use crate::domain::retry;
use std::time::Duration;

/// A replica that begins to decide has more urgent things to do.
const FIRST: Duration = Duration::from_secs(10);

/// Runs until it is dropped; does nothing where no reports are asked for.
pub(super) async fn run(context: &Context) {
    let Some(Reporting { api, every }) = context.reporting else {
        return;
    };
    let mut failures = 0;
    tokio::time::sleep(FIRST.min(every)).await;
    loop {
        let now = context.clock.now();
        let result = match guard_reports::scan(&context.client, api, now).await {
            Ok(scanned) => {
                context.metrics.guard_scanned(&scanned.findings);
                if scanned.failed == 0 { "ok" } else { "partial" }
            }
            Err(error) if error.is_not_found() => {
                let group = api.group();
                tracing::warn!(
                    "guard: nothing serves the reports of {group}; install its CRDs, or unset guard.reports.apiGroup"
                );
                "failed"
            }
            Err(error) => {
                tracing::warn!(%error, "guard: could not look at every role and binding");
                "failed"
            }
        };
        context.metrics.guard_scan(result);
        failures = if result == "failed" { failures + 1 } else { 0 };
        let pause = match failures {
            0 => every,
            failures => retry::pause(failures).min(every),
        };
        tokio::time::sleep(pause).await;
    }
}
