//! Asks the authorizer whether an ended grant really gives nothing any more. It never holds up an end: what has no answer
//! in a moment is asked again in a later pass.

use crate::cluster::{ApiError, authz};
use crate::controller::reconcile::Context;
use crate::domain::grant::Account;
use crate::domain::plan::Observed;
use crate::domain::request::{Access, AccessRequest, Place, RequestView};
use crate::domain::verification::{self, PATIENCE, Proof, Question, Questions, Residue, Subject};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Questions under way at a time, for one grant.
const PARALLEL: usize = 8;
/// Longest time that one pass spends on the questions.
const AT_MOST: Duration = Duration::from_secs(1);
/// The authorizer follows a deletion within milliseconds; so long a pass waits for it once.
const MOMENT: Duration = Duration::from_millis(50);
/// Pause before the questions are asked again while the authorizer may be behind.
const SOON: Duration = Duration::from_millis(500);
/// The same when it does not answer at all.
const LATER: Duration = Duration::from_secs(30);
/// What gives a right when nobody can say.
const UNKNOWN: &str = "something that the authorizer does not name";

/// Questions that have no final answer yet, by the UID of the request: the copy of a role may be gone when they are asked
/// again.
#[derive(Debug, Default)]
pub struct Proofs {
    open: Mutex<HashMap<String, Questions>>,
}

impl Proofs {
    /// The request is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Forgets all requests that are not among these.
    pub fn retain(&self, known: &HashSet<String>) {
        self.lock().retain(|uid, _| known.contains(uid));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Questions>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far the proof is.
#[derive(Debug)]
pub enum Progress {
    /// There is nothing to ask: it was never active, is proven, or nobody knows any more what it gave.
    Nothing,
    /// The answers are final.
    Settled(Proof),
    /// To be asked again after this time.
    Open(Duration),
}

/// Asks about a request whose access was just taken away, or was so before.
pub async fn ask(ctx: &Context, object: &Access, observed: &Observed, now: Timestamp) -> Progress {
    let view = object.view();
    let uid = view.meta.uid.clone().unwrap_or_default();
    let known = ctx.proofs.lock().get(&uid).cloned();
    if known.is_none() && !verification::is_due(&view, observed, now) {
        return Progress::Nothing;
    }
    let Some(questions) = known.or_else(|| verification::about(&view, observed)) else {
        return Progress::Nothing;
    };
    let ended = view.status.and_then(|s| s.ended_time.as_ref());
    let since = now.duration_since(ended.map_or(now, |t| t.0));
    let patient = since < PATIENCE;
    let answers = tokio::time::timeout(AT_MOST, answers(ctx, &view, &questions));
    match answers.await {
        Ok(Ok(residue)) if residue.is_empty() || !patient => {
            ctx.proofs.forget(&uid);
            Progress::Settled(Proof {
                asked: questions.asked.len(),
                of: questions.of,
                residue,
            })
        }
        unsettled => {
            if let Ok(Err(error)) = &unsettled {
                ctx.metrics.error(error.category());
                tracing::warn!(%error, "could not ask whether access is gone; trying again");
            }
            ctx.proofs.lock().insert(uid, questions);
            Progress::Open(if patient { SOON } else { LATER })
        }
    }
}

/// The rights that are still given, asked once more after a moment if there are any.
async fn answers(
    ctx: &Context,
    view: &RequestView<'_>,
    questions: &Questions,
) -> Result<Vec<Residue>, ApiError> {
    let residue = ask_all(ctx, view, questions).await?;
    if residue.is_empty() {
        return Ok(residue);
    }
    tokio::time::sleep(MOMENT).await;
    ask_all(ctx, view, questions).await
}

async fn ask_all(
    ctx: &Context,
    view: &RequestView<'_>,
    questions: &Questions,
) -> Result<Vec<Residue>, ApiError> {
    let (account, place) = (verification::account(view), view.place());
    let uid = view.status.and_then(|s| s.service_account_uid.as_deref());
    let subject = Subject::account(&account, uid.unwrap_or_default());
    let ask = |question| authz::still_may(&ctx.client, &subject, place.namespace(), question);
    let asking: Vec<_> = questions.asked.iter().map(ask).collect();
    let answers: Vec<Option<String>> = futures::stream::iter(asking)
        .buffered(PARALLEL)
        .try_collect()
        .await?;
    let grant = view.meta.uid.as_deref().unwrap_or_default();
    let residue = |(right, by): (&Question, Option<String>)| {
        Some(Residue {
            right: right.clone(),
            by: named(&by?, ctx, &account, &place, grant),
        })
    };
    Ok(questions
        .asked
        .iter()
        .zip(answers)
        .filter_map(residue)
        .collect())
}

/// What the RBAC authorizer names, or else the bindings that Stint knows to name the account.
fn named(reason: &str, ctx: &Context, account: &Account, place: &Place, grant: &str) -> String {
    if !reason.is_empty() {
        let reason = reason.strip_prefix("RBAC: allowed by ").unwrap_or(reason);
        return reason.to_owned();
    }
    let known = ctx.facts.bindings_of(account, place, grant);
    match known.is_empty() {
        true => UNKNOWN.to_owned(),
        false => format!("one of {}", known.join(", ")),
    }
}
