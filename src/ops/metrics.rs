//! Every metric of the operator. Label values are words of the code, never names or namespaces of users: the number of
//! series is bounded however many grants there are.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::domain::guard_report::outcome;
use crate::domain::plain::Weight;
use jiff::Timestamp;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Bounds of histograms for work that takes micro- to milliseconds, in seconds.
const SHORT: [f64; 12] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0,
];
/// Bounds of the lateness of an expiry: the promise is 20 ms, 100 ms and 1 s; the native deadline comes after 5 s.
const LATE: [f64; 10] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0];

type OneLabel = [(&'static str, &'static str); 1];
type TwoLabels = [(&'static str, &'static str); 2];
type ThreeLabels = [(&'static str, &'static str); 3];

/// The operator's metrics; one per process.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<OneLabel, Counter>,
    reconcile: Histogram,
    errors: Family<OneLabel, Counter>,
    reviews: Family<TwoLabels, Counter>,
    review: Histogram,
    violations: Family<OneLabel, Counter>,
    grants: Family<OneLabel, Gauge>,
    expiry_lateness: Histogram,
    overdue_grants: Gauge,
    revocations: Family<OneLabel, Counter>,
    break_glass: Family<OneLabel, Counter>,
    drifts: Family<OneLabel, Counter>,
    guard_findings: Family<ThreeLabels, Counter>,
    guard_errors: Family<TwoLabels, Counter>,
    guard_scans: Family<OneLabel, Counter>,
    guard_standing: Family<TwoLabels, Gauge>,
    certificate_not_after: Gauge,
    leader: Gauge,
    webhook_faults: Family<OneLabel, Gauge>,
    watch_restarts: Family<OneLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, registered and zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("stint"),
            reconciles: Family::default(),
            reconcile: Histogram::new(SHORT),
            errors: Family::default(),
            reviews: Family::default(),
            review: Histogram::new(SHORT),
            violations: Family::default(),
            grants: Family::default(),
            expiry_lateness: Histogram::new(LATE),
            overdue_grants: Gauge::default(),
            revocations: Family::default(),
            break_glass: Family::default(),
            drifts: Family::default(),
            guard_findings: Family::default(),
            guard_errors: Family::default(),
            guard_scans: Family::default(),
            guard_standing: Family::default(),
            certificate_not_after: Gauge::default(),
            leader: Gauge::default(),
            webhook_faults: Family::default(),
            watch_restarts: Family::default(),
        };
        metrics.register_counters();
        metrics.register_times();
        metrics.register_states();
        metrics
    }

    fn register_counters(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "reconciles",
            "Passes over one object, by result",
            self.reconciles.clone(),
        );
        registry.register(
            "errors",
            "Errors of the controller, by category",
            self.errors.clone(),
        );
        registry.register(
            "reviews",
            "Admission reviews, by operation and verdict",
            self.reviews.clone(),
        );
        registry.register(
            "violations",
            "Reasons given in refusals, by code",
            self.violations.clone(),
        );
        registry.register(
            "revocations",
            "Bindings taken away, by reason",
            self.revocations.clone(),
        );
        registry.register(
            "break_glass_grants",
            "Grants given by break-glass, by risk",
            self.break_glass.clone(),
        );
        registry.register(
            "drifts",
            "Objects of live grants that somebody changed, by kind",
            self.drifts.clone(),
        );
        registry.register(
            "guard_findings",
            "What the guard found in new and changed roles and bindings, by code, mode and kind",
            self.guard_findings.clone(),
        );
        registry.register(
            "guard_errors",
            "Look-ups of the guard that failed, by mode and category",
            self.guard_errors.clone(),
        );
        registry.register(
            "guard_scans",
            "Looks of the guard at everything that is there, by result",
            self.guard_scans.clone(),
        );
        registry.register(
            "watch_restarts",
            "Watches that had to list again, by kind",
            self.watch_restarts.clone(),
        );
    }

    fn register_times(&mut self) {
        let registry = &mut self.registry;
        registry.register_with_unit(
            "reconcile",
            "Time of one pass over one object",
            Unit::Seconds,
            self.reconcile.clone(),
        );
        registry.register_with_unit(
            "review",
            "Time of one admission review, without the transport",
            Unit::Seconds,
            self.review.clone(),
        );
        registry.register_with_unit(
            "expiry_lateness",
            "Time from the end of a grant to the deletion of its binding",
            Unit::Seconds,
            self.expiry_lateness.clone(),
        );
        registry.register_with_unit(
            "certificate_not_after",
            "When the served certificate expires, in Unix time",
            Unit::Seconds,
            self.certificate_not_after.clone(),
        );
    }

    fn register_states(&mut self) {
        let registry = &mut self.registry;
        registry.register("grants", "Grants, by state", self.grants.clone());
        registry.register(
            "guard_standing_findings",
            "What the guard finds in roles and bindings that are there, by kind and result",
            self.guard_standing.clone(),
        );
        registry.register(
            "overdue_grants",
            "Grants whose end has passed and whose binding is still there",
            self.overdue_grants.clone(),
        );
        registry.register(
            "leader",
            "1 in the replica that decides about requests, 0 in the others",
            self.leader.clone(),
        );
        registry.register(
            "webhook_faults",
            "What is wrong with the webhook's certificate and configurations, by kind of object",
            self.webhook_faults.clone(),
        );
    }

    /// `stint_reconciles_total{result}` and `stint_reconcile_seconds`: one pass over one object.
    pub fn reconcile(&self, result: &'static str, took: Duration) {
        self.reconciles.get_or_create(&[("result", result)]).inc();
        self.reconcile.observe(took.as_secs_f64());
    }

    /// `stint_errors_total{category}`: the category of a layer's error enum.
    pub fn error(&self, category: &'static str) {
        self.errors.get_or_create(&[("category", category)]).inc();
    }

    /// `stint_reviews_total{operation,verdict}` and `stint_review_seconds`: one admission review.
    pub fn review(&self, operation: &'static str, verdict: &'static str, took: Duration) {
        self.reviews
            .get_or_create(&[("operation", operation), ("verdict", verdict)])
            .inc();
        self.review.observe(took.as_secs_f64());
    }

    /// `stint_violations_total{code}`: one reason in one refusal.
    pub fn violation(&self, code: &'static str) {
        self.violations.get_or_create(&[("code", code)]).inc();
    }

    /// `stint_grants{state}`: how many grants are in this state now.
    pub fn set_grants(&self, state: &'static str, count: usize) {
        self.grants
            .get_or_create(&[("state", state)])
            .set(saturated(count));
    }

    /// `stint_revocations_total{reason}`: one binding is gone.
    pub fn revoked(&self, reason: &'static str) {
        self.revocations.get_or_create(&[("reason", reason)]).inc();
    }

    /// `stint_break_glass_grants_total{risk}`: one grant was given by break-glass.
    pub fn break_glass(&self, risk: &'static str) {
        self.break_glass.get_or_create(&[("risk", risk)]).inc();
    }

    /// `stint_drifts_total{kind}`: one object of a live grant was found changed by somebody else.
    pub fn drifted(&self, kind: &'static str) {
        self.drifts.get_or_create(&[("kind", kind)]).inc();
    }

    /// `stint_guard_findings_total{code,mode,kind}`: one finding in one change of a role or binding. In mode `deny` an error
    /// among them refused it.
    pub fn guard_finding(&self, code: &'static str, mode: &'static str, kind: &'static str) {
        let labels = [("code", code), ("mode", mode), ("kind", kind)];
        self.guard_findings.get_or_create(&labels).inc();
    }

    /// `stint_guard_errors_total{mode,category}`: one look-up failed; in mode `deny` that refused the change.
    pub fn guard_error(&self, mode: &'static str, category: &'static str) {
        let labels = [("mode", mode), ("category", category)];
        self.guard_errors.get_or_create(&labels).inc();
    }

    /// `stint_guard_scans_total{result}`: one look at every role and binding: `ok`, `partial` when single reports could not be
    /// written, or `failed`.
    pub fn guard_scan(&self, result: &'static str) {
        self.guard_scans.get_or_create(&[("result", result)]).inc();
    }

    /// `stint_guard_standing_findings{kind,result}`: what the last look found, `fail` or `warn` as in the reports.
    pub fn guard_scanned(&self, findings: &BTreeMap<(&'static str, Weight), usize>) {
        self.guard_standing.clear();
        for ((kind, weight), count) in findings {
            let labels = [("kind", *kind), ("result", outcome(*weight))];
            self.guard_standing
                .get_or_create(&labels)
                .set(saturated(*count));
        }
    }

    /// `stint_expiry_lateness_seconds`: how long after its end a binding was gone.
    pub fn expired(&self, late: Duration) {
        self.expiry_lateness.observe(late.as_secs_f64());
    }

    /// `stint_overdue_grants`: how many bindings outlive their end now.
    pub fn set_overdue(&self, count: usize) {
        self.overdue_grants.set(saturated(count));
    }

    /// `stint_certificate_not_after_seconds`: the end of the served certificate, in seconds since 1970.
    pub fn set_certificate_not_after(&self, not_after: Timestamp) {
        self.certificate_not_after.set(not_after.as_second());
    }

    /// `stint_leader`: whether this replica decides about requests.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// `stint_webhook_faults{kind}`: how much is wrong with the Secret of the certificate or a webhook configuration.
    pub fn set_webhook_faults(&self, kind: &'static str, count: usize) {
        self.webhook_faults
            .get_or_create(&[("kind", kind)])
            .set(saturated(count));
    }

    /// `stint_watch_restarts_total{kind}`: a watch of this kind was interrupted and lists again.
    pub fn watch_restarted(&self, kind: &'static str) {
        self.watch_restarts.get_or_create(&[("kind", kind)]).inc();
    }

    /// All metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// Only those of the formatter.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

fn saturated(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_appears_under_its_documented_name() {
        let metrics = Metrics::new();
        metrics.reconcile("applied", Duration::from_millis(3));
        metrics.error("conflict");
        metrics.review("CREATE", "denied", Duration::from_micros(200));
        metrics.violation("OB-W03");
        metrics.set_grants("active", 7);
        metrics.expired(Duration::from_millis(15));
        metrics.revoked("Expired");
        metrics.break_glass("High");
        metrics.drifted("Role");
        metrics.guard_finding("OB-S01", "audit", "RoleBinding");
        metrics.guard_error("deny", "Timeout");
        metrics.guard_scan("ok");
        metrics.guard_scanned(&BTreeMap::from([(("RoleBinding", Weight::Error), 3)]));
        metrics.set_overdue(2);
        metrics.set_certificate_not_after(Timestamp::from_second(1_800_000_000).unwrap());
        metrics.set_leader(true);
        metrics.set_webhook_faults("Secret", 1);
        metrics.watch_restarted("RoleBinding");
        let text = metrics.encode().unwrap();
        for line in [
            "stint_reconciles_total{result=\"applied\"} 1",
            "stint_reconcile_seconds_count 1",
            "stint_errors_total{category=\"conflict\"} 1",
            "stint_reviews_total{operation=\"CREATE\",verdict=\"denied\"} 1",
            "stint_review_seconds_count 1",
            "stint_violations_total{code=\"OB-W03\"} 1",
            "stint_grants{state=\"active\"} 7",
            "stint_expiry_lateness_seconds_bucket{le=\"0.02\"} 1",
            "stint_revocations_total{reason=\"Expired\"} 1",
            "stint_break_glass_grants_total{risk=\"High\"} 1",
            "stint_drifts_total{kind=\"Role\"} 1",
            "stint_guard_findings_total{code=\"OB-S01\",mode=\"audit\",kind=\"RoleBinding\"} 1",
            "stint_guard_errors_total{mode=\"deny\",category=\"Timeout\"} 1",
            "stint_guard_scans_total{result=\"ok\"} 1",
            "stint_guard_standing_findings{kind=\"RoleBinding\",result=\"fail\"} 3",
            "stint_overdue_grants 2",
            "stint_certificate_not_after_seconds 1800000000",
            "stint_leader 1",
            "stint_webhook_faults{kind=\"Secret\"} 1",
            "stint_watch_restarts_total{kind=\"RoleBinding\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_state_without_grants_goes_back_to_zero() {
        let metrics = Metrics::new();
        metrics.set_grants("active", 3);
        metrics.set_grants("active", 0);
        assert!(
            metrics
                .encode()
                .unwrap()
                .contains("stint_grants{state=\"active\"} 0")
        );
    }
}
