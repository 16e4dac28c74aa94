//! Metrics in OpenMetrics form. Labels are words from bounded sets, never a name or a namespace.

use jiff::{SignedDuration, Timestamp};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// Upper bounds of the latency buckets, in seconds.
const LATENCY: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0];
/// Upper bounds of the lateness buckets, in seconds.
const LATENESS: [f64; 9] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CategoryLabel {
    category: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    operation: &'static str,
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// Every metric of the operator.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<ResultLabel, Counter>,
    reconcile_seconds: Histogram,
    errors: Family<CategoryLabel, Counter>,
    reviews: Family<ReviewLabels, Counter>,
    review_seconds: Histogram,
    violations: Family<CodeLabel, Counter>,
    revocations: Family<ReasonLabel, Counter>,
    expiry_lateness_seconds: Histogram,
    overdue: Gauge,
    certificate_not_after_seconds: Gauge,
    watch_restarts: Family<KindLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("stint"),
            reconciles: Family::default(),
            reconcile_seconds: Histogram::new(LATENCY),
            errors: Family::default(),
            reviews: Family::default(),
            review_seconds: Histogram::new(LATENCY),
            violations: Family::default(),
            revocations: Family::default(),
            expiry_lateness_seconds: Histogram::new(LATENESS),
            overdue: Gauge::default(),
            certificate_not_after_seconds: Gauge::default(),
            watch_restarts: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "reconciles",
            "Passes over requests, by result",
            self.reconciles.clone(),
        );
        registry.register(
            "reconcile_seconds",
            "Length of a pass",
            self.reconcile_seconds.clone(),
        );
        registry.register(
            "errors",
            "Failed calls and passes, by category",
            self.errors.clone(),
        );
        registry.register(
            "reviews",
            "Admission reviews, by operation and verdict",
            self.reviews.clone(),
        );
        registry.register(
            "review_seconds",
            "Time to answer a review",
            self.review_seconds.clone(),
        );
        registry.register(
            "violations",
            "Violations found, by code",
            self.violations.clone(),
        );
        registry.register(
            "revocations",
            "Ended grants whose access Stint removed, by reason",
            self.revocations.clone(),
        );
        registry.register(
            "expiry_lateness_seconds",
            "From notAfter to the deletion of the binding",
            self.expiry_lateness_seconds.clone(),
        );
        registry.register(
            "overdue_grants",
            "Bindings past their deadline that are not yet deleted",
            self.overdue.clone(),
        );
        registry.register(
            "certificate_not_after_seconds",
            "Unix time at which the webhook's certificate ends",
            self.certificate_not_after_seconds.clone(),
        );
        registry.register(
            "watch_restarts",
            "Failed watches, by kind",
            self.watch_restarts.clone(),
        );
    }

    /// A pass ended.
    pub fn reconcile(&self, ok: bool, took: Duration) {
        let result = if ok { "ok" } else { "error" };
        self.reconciles.get_or_create(&ResultLabel { result }).inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    /// A call or a pass failed.
    pub fn error(&self, category: &'static str) {
        self.errors.get_or_create(&CategoryLabel { category }).inc();
    }

    /// A review was answered. Operations that Stint does not know are counted as `OTHER`.
    pub fn review(&self, operation: &str, verdict: &'static str, took: Duration) {
        let known = ["CREATE", "UPDATE", "DELETE", "CONNECT"];
        let operation = known
            .into_iter()
            .find(|k| *k == operation)
            .unwrap_or("OTHER");
        self.reviews
            .get_or_create(&ReviewLabels { operation, verdict })
            .inc();
        self.review_seconds.observe(took.as_secs_f64());
    }

    /// A violation was found.
    pub fn violation(&self, code: &'static str) {
        self.violations.get_or_create(&CodeLabel { code }).inc();
    }

    /// Access was removed.
    pub fn revocation(&self, reason: &'static str) {
        self.revocations
            .get_or_create(&ReasonLabel { reason })
            .inc();
    }

    /// A binding was deleted this long after its deadline.
    pub fn expiry_lateness(&self, late: SignedDuration) {
        self.expiry_lateness_seconds.observe(late.as_secs_f64());
    }

    /// So many bindings are past their deadline.
    pub fn overdue(&self, count: usize) {
        self.overdue.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The certificate in use ends then.
    pub fn certificate_not_after(&self, at: Timestamp) {
        self.certificate_not_after_seconds.set(at.as_second());
    }

    /// A watch failed and starts again.
    pub fn watch_restarted(&self, kind: &'static str) {
        self.watch_restarts.get_or_create(&KindLabel { kind }).inc();
    }

    /// The text that a scrape gets.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_shows_what_was_counted() {
        let metrics = Metrics::new();
        metrics.review("CREATE", "denied", Duration::from_millis(1));
        metrics.review("\"} evil", "denied", Duration::from_millis(1));
        metrics.violation("OB-W03");
        let text = metrics.encode();
        assert!(
            text.contains(r#"stint_reviews_total{operation="CREATE",verdict="denied"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"operation="OTHER""#) && !text.contains("evil"));
        assert!(text.contains(r#"stint_violations_total{code="OB-W03"} 1"#));
        assert!(text.ends_with("# EOF\n"));
    }
}
