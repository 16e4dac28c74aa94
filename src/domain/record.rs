//! What the record of a live grant is worth. An admission policy protects it, but such a policy can be switched off; so it
//! is held against what else is known, and of two answers the one that gives less counts.

use crate::api::names;
use crate::api::workload_access::{SourceStamp, WorkloadAccessStatus};
use crate::domain::extension::UNSETTLED;
use crate::domain::facts::Live;
use crate::domain::grant::{End, Grant};
use crate::domain::plan::Observed;
use crate::domain::request::{Place, RequestView};
use crate::domain::window;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// How far a creation time of the API server may lie from the instant that the end was counted from.
const SLACK: SignedDuration = SignedDuration::from_secs(2);

/// The record, held against the other objects of the grant, the request, and what its status told. The status is heard
/// only where it takes something away.
pub fn checked(live: Live, grant: &Grant, observed: &Observed, view: &RequestView<'_>) -> Live {
    if live.taken_away {
        return live;
    }
    let mut live = live;
    let recorded = live.not_after;
    for copy in copies(observed, grant.place()) {
        live.not_after = live.not_after.min(instant(copy, names::NOT_AFTER));
        live.held_since = live.held_since.min(instant(copy, names::HELD_SINCE));
        live.in_namespaces |= text(copy, names::IN_NAMESPACES).is_some();
    }
    if let Some(told) = view.status.and_then(|s| s.activated_time.as_ref()) {
        live.since = live.since.min(told.0);
    }
    live.held_since = live.held_since.min(later(live.since, SLACK));
    let told = view.status.and_then(|s| told_end(s, view.meta.generation));
    live.not_after = told.map_or(live.not_after, |told| live.not_after.min(told));
    if live.not_after < recorded {
        // A later end that was not written everywhere, or a record that was changed: not settled either way.
        live.edits.spec_hash = Some(UNSETTLED.to_owned());
    }
    if let End::After(length) = grant.end() {
        let latest = later(later(began(&live, observed), length), SLACK);
        live.not_after = live.not_after.min(window::round_down(latest));
    }
    if let Some(status) = view.status {
        live.doubtful = contradicts(&live, status, grant);
    }
    live
}

/// When the first object of the grant was created: a binding may have been made anew.
fn began(live: &Live, observed: &Observed) -> Timestamp {
    let role = observed.role.as_ref().map(|o| &o.metadata);
    let job = observed.job.as_ref().map(|o| &o.metadata);
    // A Role in a namespace may have been made anew too; the Job never is.
    let first = job.or(role).and_then(|m| m.creation_timestamp.as_ref());
    first.map_or(live.since, |created| live.since.min(created.0))
}

/// The end that the status told, while the request is the one that it was told about.
pub(crate) fn told_end(
    status: &WorkloadAccessStatus,
    generation: Option<i64>,
) -> Option<Timestamp> {
    let told = status.not_after.as_ref().map(|time| time.0);
    told.filter(|_| status.observed_generation == generation)
}

/// Where the record says the same a second time.
fn copies<'a>(observed: &'a Observed, place: &Place) -> Vec<&'a ObjectMeta> {
    let binding = observed.binding.as_ref().map(|o| &o.metadata);
    // In a namespace a Role's annotations are never read; in the whole cluster it carries the record too.
    let role = observed.role.as_ref().map(|o| &o.metadata);
    let role = role.filter(|_| *place == Place::Cluster);
    binding.into_iter().chain(role).collect()
}

fn text<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a String> {
    meta.annotations.as_ref()?.get(key)
}

/// What cannot be read says nothing; the deadline queue ends a binding that does not say when it ends.
fn instant(meta: &ObjectMeta, key: &str) -> Timestamp {
    let parsed = text(meta, key).and_then(|text| text.parse().ok());
    parsed.unwrap_or(Timestamp::MAX)
}

fn later(from: Timestamp, by: SignedDuration) -> Timestamp {
    from.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Whether the record names another account, or says that other rules or another role were copied, than the status told.
/// Rules that the request wrote need no record.
fn contradicts(live: &Live, status: &WorkloadAccessStatus, grant: &Grant) -> bool {
    let other = |told: &Option<String>, recorded: &str| {
        told.as_deref().is_some_and(|told| told != recorded)
    };
    let unchanged = |source: &SourceStamp| SourceStamp {
        changed: false,
        ..source.clone()
    };
    let told = status.source.as_ref().map(unchanged);
    let other_rules = other(&status.rules_hash, &live.rules_hash)
        || (told.is_some() && told != live.source.as_ref().map(unchanged));
    other(&status.service_account_uid, &live.account_uid)
        || (other_rules && !grant.source().is_inline())
}
