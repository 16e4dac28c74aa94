//! One pass over one request: guard, facts, judge, plan and apply, status.

use crate::api::names;
use crate::api::workload_access::EndReason;
use crate::clock::Clock;
use crate::cluster::events::Events;
use crate::cluster::facts::{Asked, FactReader};
use crate::cluster::stores::AccessRef;
use crate::cluster::{apply, status as status_writer};
use crate::controller::error::Error;
use crate::controller::seats::Seats;
use crate::domain::admit;
use crate::domain::grant::Grant;
use crate::domain::judge::{Approved, NotYet, Verdict};
use crate::domain::plan::{self, Observed, Plan};
use crate::domain::receipt::{Claims, Keys};
use crate::domain::request::{Access, AccessRequest, Place};
use crate::domain::status::{self, Outcome};
use crate::domain::violation::{Problem, Violation};
use crate::domain::window;
use crate::ops::metrics::Metrics;
use jiff::Timestamp;
use kube::Client;
use kube::runtime::controller::Action;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Longest wait before a scheduled or waiting request is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

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
    pub keys: Arc<RwLock<Option<Keys>>>,
    /// Places per account.
    pub seats: Arc<Seats>,
    /// Events.
    pub events: Events,
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
    let keyed = ctx.keys.read().is_ok_and(|keys| keys.is_some());
    let guarded = guard(&object, &ctx);
    let may_pass_later = match &guarded {
        Ok((grant, claims)) => taken.is_none() || now < pending_until(grant, claims),
        Err(_) => !keyed,
    };
    let guarded = match taken {
        Some(violation) => guarded.and(Err(vec![violation])),
        None => guarded,
    };
    let (verdict, claims) = match guarded {
        Ok((grant, claims)) => (
            verdict(&object, &grant, &claims, &observed, &ctx).await?,
            Some(claims),
        ),
        Err(violations) => {
            ctx.seats.forget(&uid);
            (turned_away(&object, &observed, violations), None)
        }
    };
    let pass = Pass {
        object: &object,
        observed: &observed,
        requested_by: claims.map(|c| c.requester.username),
        may_pass_later,
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
    plan.take_record();
    apply::end(&ctx.client, plan).await.map_err(Error::Apply)
}

/// Well formed, vouched for by a receipt, and of a kind that is switched on?
fn guard(object: &Access, ctx: &Context) -> Result<(Grant, Claims), Vec<Violation>> {
    let keys = ctx
        .keys
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    if !ctx.cluster_grants && object.view().place() == Place::Cluster {
        return Err(vec![admit::cluster_grants_are_off()]);
    }
    let keys = keys.ok_or_else(|| receipt_violation("cannot be checked yet: Stint has no keys"))?;
    let claims = keys
        .verify_object(object)
        .map_err(|error| receipt_violation(&error.to_string()))?;
    Ok((Grant::parse(object)?, claims))
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
) -> Result<Verdict, Error> {
    let asked = Asked {
        by: claims.requester.clone(),
        at: claims.at,
    };
    let mut facts = ctx
        .facts
        .gather(object, grant, asked, observed)
        .await
        .map_err(Error::Facts)?;
    let now = ctx.clock.now();
    let others = ctx.facts.others(grant, now);
    Ok(ctx.seats.judge(grant, &mut facts, &others, now))
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

struct Pass<'a> {
    object: &'a Access,
    observed: &'a Observed,
    requested_by: Option<String>,
    /// Whether a refusal can turn out otherwise without a change of the request.
    may_pass_later: bool,
    ctx: &'a Context,
    now: Timestamp,
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
        let plan = plan::grant(&approved, self.observed, self.ctx.clock.now());
        match apply::grant(&self.ctx.client, plan, &approved, self.observed).await {
            Ok(applied) => {
                self.report(&Outcome::Active(&approved, &applied)).await?;
                // The deadline queue ends it on time; this look writes the end down even if an event is lost.
                let left = approved.not_after().duration_since(self.ctx.clock.now());
                let left = Duration::try_from(left).unwrap_or(Duration::ZERO);
                Ok(Action::requeue(left + Duration::from_secs(1)))
            }
            Err(error) => {
                self.ctx.seats.leave(approved.grant());
                if !error.is_refusal() {
                    return Err(Error::Apply(error));
                }
                self.ctx.metrics.error(error.category());
                self.report(&Outcome::ApplyRefused(&error.to_string()))
                    .await?;
                Ok(Action::requeue(LOOK_AGAIN))
            }
        }
    }

    async fn end(&self, reason: EndReason, why: &str) -> Result<Action, Error> {
        let view = self.object.view();
        let of = |field: &Option<String>| field.clone().unwrap_or_default();
        let name = names::made_object_name(&of(&view.meta.name), &of(&view.meta.uid));
        let mut plan = plan::end(view.place(), name, self.observed);
        let after_status = plan.take_record();
        if !plan.steps.is_empty() {
            self.take_away(plan).await?;
            self.ctx.metrics.revoked(reason.as_str());
        }
        // Written once: what an ended grant says about its end stays as it was.
        let told = self.object.view().status.and_then(|s| s.end_reason);
        if reason != EndReason::Deleted && told.is_none() {
            self.report(&Outcome::Ended(reason, why)).await?;
        }
        self.take_away(after_status).await?;
        Ok(Action::await_change())
    }

    async fn take_away(&self, plan: Plan) -> Result<(), Error> {
        let ended = apply::end(&self.ctx.client, plan).await;
        ended.map_err(Error::Apply)
    }

    /// Writes the status if it changed, and an Event if the request now stands elsewhere.
    async fn report(&self, outcome: &Outcome<'_>) -> Result<(), Error> {
        let view = self.object.view();
        let old = view.status.cloned().unwrap_or_default();
        let generation = view.meta.generation;
        let by = self.requested_by.as_deref();
        let new = status::next(&old, generation, by, outcome, self.now);
        let wrote = status_writer::write(&self.ctx.client, self.object, &new).await;
        match wrote {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            // The object went meanwhile: there is nobody left to tell.
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(Error::Status(error)),
        }
        if let Some((warning, reason, note)) = status::event(&old, &new, outcome) {
            self.ctx
                .events
                .publish(self.object, warning, reason, &note)
                .await;
        }
        Ok(())
    }

    fn look_again(&self, until: Option<Timestamp>, why: &NotYet) -> Action {
        tracing::debug!(name = self.object.view().meta.name, ?why, "waiting");
        let left = until.map(|t| t.duration_since(self.ctx.clock.now()));
        let left = left.map(|d| Duration::try_from(d).unwrap_or(Duration::ZERO));
        Action::requeue(left.map_or(LOOK_AGAIN, |d| d.min(LOOK_AGAIN)))
    }
}
