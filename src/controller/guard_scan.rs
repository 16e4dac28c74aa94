//! Looks at every role and binding now and then, in the replica that decides, and keeps reports on what the guard finds.

use crate::cluster::guard_reports;
use crate::controller::reconcile::Context;
use crate::domain::guard_report::Reporting;
use crate::domain::retry;

/// Runs until it is dropped; does nothing where no reports are asked for.
pub(super) async fn run(context: &Context) {
    let Some(Reporting { api, every }) = context.reporting else {
        return;
    };
    let mut failures = 0;
    loop {
        let now = context.clock.now();
        let scanned = guard_reports::scan(&context.client, api, now).await;
        let whole = match &scanned {
            Ok(scanned) => {
                context.metrics.guard_scanned(&scanned.findings);
                scanned.failed == 0
            }
            Err(error) if error.is_not_found() => {
                let group = api.group();
                tracing::warn!(
                    "guard: nothing serves the reports of {group}; install its CRDs, or unset guard.reports.apiGroup"
                );
                false
            }
            Err(error) => {
                tracing::warn!(%error, "guard: could not look at every role and binding");
                false
            }
        };
        context.metrics.guard_scan(whole);
        failures = if whole { 0 } else { failures + 1 };
        let pause = match failures {
            0 => every,
            failures => retry::pause(failures).min(every),
        };
        tokio::time::sleep(pause).await;
    }
}
