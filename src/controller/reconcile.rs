//! One pass over one request: guard, facts, judge, plan and apply, status.

use crate::api::access_policy::OnDrift;
use crate::api::names;
use crate::api::workload_access::{EndReason, WorkloadAccessStatus};
use crate::clock::Clock;
use crate::cluster::apply;
use crate::cluster::events::Events;
use crate::cluster::facts::{Asked, FactReader};
use crate::cluster::key_ring::{KeyRing, Unvouched};
use crate::cluster::stores::AccessRef;
use crate::controller::error::Error;
use crate::controller::proof::{self, Progress, Proofs};
use crate::controller::seats::Seats;
use crate::controller::switched::Switched;
use crate::domain::admit;
use crate::domain::drift::{self, Drift};
use crate::domain::extension::HeldBack;
use crate::domain::grant::Grant;
use crate::domain::guard_report::Reporting;
use crate::domain::judge::{Approved, NotYet, Verdict};
use crate::domain::lifetime;
use crate::domain::oversight::Oversight;
use crate::domain::plan::{self, Applied, Observed, Plan};
use crate::domain::receipt::{Claims, Requester};
use crate::domain::request::{Access, AccessRequest, Place};
use crate::domain::status::{self, Outcome};
use crate::domain::violation::{Problem, Violation};
use crate::domain::window;
use crate::ops::metrics::Metrics;
use jiff::Timestamp;
use kube::Client;
use kube::runtime::controller::Action;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longest wait before a scheduled or waiting request is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Longest time for which a live grant is left alone: what somebody changed shows then, even if its event was lost.
const SWEEP: Duration = Duration::from_secs(30 * 60);
/// Up to so many seconds earlier, so that not every grant is looked at in the same moment.
const SPREAD: u64 = 300;
/// A deadline that was put right is looked at once more: a Job that was suspended begins to count anew.
const AFTER_REPAIR: Duration = Duration::from_secs(5);

/// When a live grant is looked at again if nothing happens, always the same for one grant.
fn sweep(uid: &str) -> Duration {
    let number = uid.bytes().fold(0_u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    SWEEP - Duration::from_secs(number % SPREAD)
}

fn waits_for_facts(approved: &Approved) -> bool {
    let held_back = approved.held_back().map(|(_, why)| why);
    matches!(held_back, Some(HeldBack::Waits(NotYet::NotReady(_))))
}

/// Longest wait before a live grant is looked at again that ends with an object of somebody else: should its event be lost,
/// this look sees what became of it.
const LOOK_AT_REFERENCES: Duration = Duration::from_secs(300);

/// What every pass needs.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Facts.
    pub facts: FactReader,
    /// Whether rights in the whole cluster are granted.
    pub cluster_grants: bool,
    /// Receipt keys; absent until they are loaded.
    pub keys: Arc<KeyRing>,
    /// Places per account.
    pub seats: Arc<Seats>,
    /// What kill switches ended.
    pub switched: Arc<Switched>,
    /// What the authorizer has not answered yet.
    pub proofs: Proofs,
    /// Events.
    pub events: Events,
    /// How the guard reports on what is there already.
    pub reporting: Option<Reporting>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

/// One pass over the request with this key and UID.
pub async fn reconcile(
    key: AccessRef,
    uid: Option<String>,
    ctx: Arc<Context>,
) -> Result<Action, Error> {
    let Some((object, observed)) = read(&key, uid.as_ref(), &ctx).await? else {
        return Ok(Action::await_change());
    };
    let uid = uid.unwrap_or_default();
    let taken = observed.foreign(&key.place, &uid).map(name_taken);
    let observed = observed.ours(&uid);
    let now = ctx.clock.now();
    let keyed = ctx.keys.known().is_some();
    let guarded = guard(&object, &ctx).await?;
    let may_pass_later = match &guarded {
        Ok((grant, claims)) => taken.is_none() || now < pending_until(grant, claims),
        Err(_) => !keyed,
    };
    let guarded = match taken {
        Some(violation) => guarded.and(Err(vec![violation])),
        None => guarded,
    };
    let (verdict, oversight, claims) = match guarded {
        Ok((grant, claims)) => {
            let judged = verdict(&object, &grant, &claims, &observed, &ctx).await?;
            (judged.0, judged.1, Some(claims))
        }
        Err(violations) => {
            ctx.seats.forget(&uid);
            let verdict = turned_away(&object, &observed, violations);
            (verdict, Oversight::default(), None)
        }
    };
    let verdict = unless_switched_off(verdict, &object, &uid, &ctx);
    let pass = Pass {
        object: &object,
        observed: &observed,
        requester: claims.map(|c| c.requester),
        oversight,
        may_pass_later,
        version: Mutex::new(object.view().meta.resource_version.clone()),
        ctx: &ctx,
        now,
    };
    pass.carry_out(verdict).await
}

/// Reads the request and what was made for it, live: a cache that is behind could start an ended grant again.
async fn read(
    key: &AccessRef,
    uid: Option<&String>,
    ctx: &Context,
) -> Result<Option<(Access, Observed)>, Error> {
    let made = names::made_object_name(&key.name, uid.map_or("", String::as_str));
    let (found, observed) =
        futures::try_join!(ctx.facts.access(key), ctx.facts.observe(&key.place, &made),)
            .map_err(Error::Facts)?;
    // Deleted, or another object of the same name by now: its own event brings it here.
    let Some(found) = found.filter(|found| found.uid.as_ref() == uid) else {
        return Ok(None);
    };
    match found.object {
        Ok(object) => Ok(Some((object, observed))),
        Err(error) => {
            let namespace = key.place.namespace();
            tracing::error!(namespace, name = key.name, error, "undecodable; revoking");
            let observed = observed.ours(uid.map_or("", String::as_str));
            ctx.seats.forget(uid.map_or("", String::as_str));
            revoke_blindly(&key.place, made, &observed, ctx).await?;
            Ok(None)
        }
    }
}

/// An object that no longer decodes has no status that could be written; its access still goes. What is the last record of
/// that, where no status says it, stays: the object may decode again.
async fn revoke_blindly(
    place: &Place,
    name: String,
    observed: &Observed,
    ctx: &Context,
) -> Result<(), Error> {
    let mut plan = plan::end(place.clone(), name, observed);
    plan.take_record(&WorkloadAccessStatus::default());
    apply::end(&ctx.client, plan).await.map_err(Error::Apply)
}

/// Well formed, vouched for by a receipt, and of a kind that is switched on?
async fn guard(
    object: &Access,
    ctx: &Context,
) -> Result<Result<(Grant, Claims), Vec<Violation>>, Error> {
    if !ctx.cluster_grants && object.view().place() == Place::Cluster {
        return Ok(Err(vec![admit::cluster_grants_are_off()]));
    }
    let verified = ctx.keys.verify(|keys| keys.verify_object(object)).await;
    Ok(match verified {
        Ok(claims) => Grant::parse(object).map(|grant| (grant, claims)),
        // Nobody knows; what is live stays so until somebody does. To end it on request needs no receipt.
        Err(Unvouched::Api(error)) if !object.view().spec.terms().revoked => {
            return Err(Error::Facts(error));
        }
        Err(unvouched) => Err(receipt_violation(&unvouched.to_string())),
    })
}

/// Until when the name of a request's own objects may become free for it.
fn pending_until(grant: &Grant, claims: &Claims) -> Timestamp {
    let from = grant.not_before().map_or(claims.at, |t| t.max(claims.at));
    from.saturating_add(window::PENDING).unwrap_or(from)
}

fn receipt_violation(message: &str) -> Vec<Violation> {
    let path = "metadata.annotations[stint.dev/receipt]";
    vec![Violation::new(
        "WA-RECEIPT",
        path,
        Problem::Forbidden,
        message,
    )]
}

/// Nothing is granted through an object of somebody else, and it is not ours to delete.
fn name_taken(kind: &'static str) -> Violation {
    let message = format!(
        "is taken: a {kind} with the name of the grant's own exists that Stint did not make; delete it, and ask again under another name"
    );
    Violation::new(
        "WA-NAME-TAKEN",
        "metadata.name",
        Problem::Forbidden,
        message,
    )
}

async fn verdict(
    object: &Access,
    grant: &Grant,
    claims: &Claims,
    observed: &Observed,
    ctx: &Context,
) -> Result<(Verdict, Oversight), Error> {
    let mut facts = ctx
        .facts
        .gather(object, grant, Asked::from(claims), observed)
        .await
        .map_err(Error::Facts)?;
    let status = object.view().status.cloned().unwrap_or_default();
    let review = ctx.facts.review(grant, claims, &status).await;
    let oversight = Oversight::of(grant, &status, &facts, review.map_err(Error::Facts)?);
    let now = ctx.clock.now();
    let others = ctx.facts.others(grant, now);
    let verdict = ctx.seats.judge(grant, &mut facts, &others, now);
    Ok((verdict, oversight))
}

/// A grant that a kill switch ended is over for that reason, however the world looks by now.
fn unless_switched_off(verdict: Verdict, object: &Access, uid: &str, ctx: &Context) -> Verdict {
    let told = object.view().status.and_then(|s| s.end_reason);
    let deleted = object.view().meta.deletion_timestamp.is_some();
    let Some(policy) = ctx.switched.policy(uid).filter(|_| !deleted) else {
        return verdict;
    };
    ctx.seats.forget(uid);
    if told.is_some() {
        return verdict;
    }
    Verdict::Over {
        reason: EndReason::Suspended,
        why: lifetime::was_suspended(&policy),
    }
}

/// A request that does not pass the guard: never granted, and over if it was granted before.
fn turned_away(object: &Access, observed: &Observed, wrong: Vec<Violation>) -> Verdict {
    let view = object.view();
    let place = view.place();
    let status = view.status.cloned().unwrap_or_default();
    match (status.end_reason, observed.live(&place, &status)) {
        (Some(reason), _) => Verdict::Over {
            reason,
            why: format!("ended before; create another {} for more", place.kind()),
        },
        (None, Some(_)) => Verdict::Over {
            reason: EndReason::Revoked,
            why: crate::domain::violation::render_lines(&wrong),
        },
        (None, None) => Verdict::Refused(wrong),
    }
}

pub(super) struct Pass<'a> {
    pub(super) object: &'a Access,
    pub(super) observed: &'a Observed,
    pub(super) requester: Option<Requester>,
    pub(super) oversight: Oversight,
    /// Whether a refusal can turn out otherwise without a change of the request.
    may_pass_later: bool,
    /// The resourceVersion of the request, as it was read or as this pass wrote it last.
    pub(super) version: Mutex<Option<String>>,
    pub(super) ctx: &'a Context,
    pub(super) now: Timestamp,
}

impl Pass<'_> {
    async fn carry_out(&self, verdict: Verdict) -> Result<Action, Error> {
        match verdict {
            Verdict::Granted(approved) => self.grant(approved).await,
            Verdict::NotYet { until, why } => {
                self.report(&Outcome::Waiting(&why)).await?;
                Ok(self.look_again(until, &why))
            }
            Verdict::Over { reason, why } => self.end(reason, &why).await,
            Verdict::Refused(violations) => {
                violations
                    .iter()
                    .for_each(|v| self.ctx.metrics.violation(v.code));
                self.report(&Outcome::Refused(&violations)).await?;
                // Facts may change in its favour; without an event this look ends it when its pending time is over.
                Ok(match self.may_pass_later {
                    true => Action::requeue(LOOK_AGAIN),
                    false => Action::await_change(),
                })
            }
        }
    }

    async fn grant(&self, approved: Box<Approved>) -> Result<Action, Error> {
        let view = self.object.view();
        let promised = view.status.and_then(|s| s.not_after.as_ref());
        let nothing_yet = self.observed.job.is_none() && promised.is_none();
        let by_people = approved.approval().is_some();
        if nothing_yet && lifetime::may_begin_twice(approved.grant(), by_people) {
            self.report(&Outcome::Beginning(approved.not_after()))
                .await?;
        }
        let drifts = drift::found(&approved, self.observed, view.status, view.meta.generation);
        self.tell_drift(&drifts).await;
        let bound = drifts.iter().any(Drift::is_of_binding);
        if bound && approved.on_drift() == OnDrift::Revoke {
            let why = format!(
                "somebody changed what Stint made: {}",
                drift::words(&drifts)
            );
            return self.end_drifted(&approved, &why).await;
        }
        let plan = plan::grant(&approved, self.observed, self.ctx.clock.now());
        match apply::grant(&self.ctx.client, plan, &approved, self.observed).await {
            Ok(applied) => {
                self.report(&Outcome::Active(&approved, &applied)).await?;
                Ok(self.look_at_live(&approved, &applied, &drifts))
            }
            Err(error) => {
                self.ctx.seats.leave(approved.grant());
                if !error.is_refusal() {
                    return Err(Error::Apply(error));
                }
                self.ctx.metrics.error(error.category());
                if !drifts.is_empty() {
                    let what = drift::words(&drifts);
                    let why = format!(
                        "somebody changed what Stint made, and it could not be repaired: {what}: {error}"
                    );
                    return self.end_drifted(&approved, &why).await;
                }
                // What stands goes on with the end that it has; a move of that is tried again.
                if self.observed.binding.is_some() {
                    return Err(Error::Apply(error));
                }
                self.report(&Outcome::ApplyRefused(&error.to_string()))
                    .await?;
                Ok(Action::requeue(LOOK_AGAIN))
            }
        }
    }

    /// When a live grant is looked at again if nothing happens. The deadline queue ends it on time; the look after its end writes
    /// that down even if an event is lost.
    fn look_at_live(&self, approved: &Approved, applied: &Applied, drifts: &[Drift]) -> Action {
        let now = self.ctx.clock.now();
        let left = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
        let grant = approved.grant();
        let refers = grant.until().is_some() || grant.workload().is_some();
        let regular = match drifts.iter().any(Drift::is_of_deadline) {
            true => AFTER_REPAIR,
            // What is not known now has no event that tells when it is.
            false if waits_for_facts(approved) => LOOK_AGAIN,
            false if refers || approved.held_back().is_some() => LOOK_AT_REFERENCES,
            false => sweep(grant.uid()),
        };
        let soon = status::last_tenth(approved, applied.since).filter(|at| *at > now);
        let ends = left(approved.not_after()) + Duration::from_secs(1);
        let look = soon.map_or(regular, |at| regular.min(left(at)));
        Action::requeue(look.min(ends))
    }

    async fn end_drifted(&self, approved: &Approved, why: &str) -> Result<Action, Error> {
        self.ctx.seats.leave(approved.grant());
        self.end(EndReason::Drifted, why).await
    }

    async fn end(&self, reason: EndReason, why: &str) -> Result<Action, Error> {
        let view = self.object.view();
        let of = |field: &Option<String>| field.clone().unwrap_or_default();
        let name = names::made_object_name(&of(&view.meta.name), &of(&view.meta.uid));
        let mut plan = plan::end(view.place(), name, self.observed);
        let status = view.status.cloned().unwrap_or_default();
        let after_status = plan.take_record(&status);
        // The deadline queue counts what it took away itself; then a Job is all that is left.
        let revokes = plan.takes_access();
        if !plan.steps.is_empty() {
            self.take_away(plan).await?;
        }
        if revokes {
            self.ctx.metrics.revoked(reason.as_str());
        }
        let next = match reason {
            EndReason::Deleted => Action::await_change(),
            _ => self.tell_end(reason, why).await?,
        };
        self.take_away(after_status).await?;
        let uid = self.object.view().meta.uid.as_deref();
        self.ctx.switched.forget(uid.unwrap_or_default());
        Ok(next)
    }

    /// Says that it is over, and what became of the access; in one write if the authorizer answers at once. Each is written
    /// once: what an ended grant says about its end stays as it was.
    async fn tell_end(&self, reason: EndReason, why: &str) -> Result<Action, Error> {
        let now = self.ctx.clock.now();
        let progress = proof::ask(self.ctx, self.object, self.observed, now).await;
        let told = self.object.view().status.and_then(|s| s.end_reason);
        let ended = Outcome::Ended(reason, why);
        let outcome = told.is_none().then_some(&ended);
        match progress {
            Progress::Nothing => {
                self.report_with(outcome, None).await?;
                Ok(Action::await_change())
            }
            Progress::Settled(proof) => {
                self.report_with(outcome, Some(&proof)).await?;
                Ok(Action::await_change())
            }
            Progress::Open(again) => {
                self.report_with(outcome, None).await?;
                Ok(Action::requeue(again))
            }
        }
    }

    async fn take_away(&self, plan: Plan) -> Result<(), Error> {
        let ended = apply::end(&self.ctx.client, plan).await;
        ended.map_err(Error::Apply)
    }

    fn look_again(&self, until: Option<Timestamp>, why: &NotYet) -> Action {
        tracing::debug!(name = self.object.view().meta.name, ?why, "waiting");
        let left = until.map(|t| t.duration_since(self.ctx.clock.now()));
        let left = left.map(|d| Duration::try_from(d).unwrap_or(Duration::ZERO));
        Action::requeue(left.map_or(LOOK_AGAIN, |d| d.min(LOOK_AGAIN)))
    }
}
