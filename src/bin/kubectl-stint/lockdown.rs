//! `kubectl stint lockdown` and `unlock`: the kill switch of policies.

use crate::confirm::Confirm;
use crate::connect::{Connection, Target, Wish};
use crate::outcome::{Answer, End, Failure};
use crate::place::legal;
use crate::requests::everything;
use crate::send;
use crate::show::{self, Tone, count, toned};
use clap::Args;
use futures::future::join_all;
use kube::Api;
use kube::core::PartialObjectMeta;
use std::io::Write;
use stint::api::AccessPolicy;

/// Most policies that a question names.
const NAMED: usize = 10;

/// End every grant under policies at once, and admit none
///
/// Sets `spec.suspended`. What ends so does not come back when the suspension is lifted. Works also while Stint is down: then it
/// ends grants as soon as it is back, and those in namespaces end at their deadline at the latest.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl stint lockdown payments-jobs

  # Everything that Stint gives
  kubectl stint lockdown --all --yes

Exit status: 0 suspended, 1 not confirmed, 2 some could not be suspended.")]
pub struct LockdownArgs {
    #[command(flatten)]
    common: Common,
}

/// Let policies admit requests again
///
/// Takes `spec.suspended` back. What ended stays over; it has to be asked for again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl stint unlock payments-jobs

Exit status: 0 unlocked, 1 not confirmed, 2 some could not be.")]
pub struct UnlockArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Names of AccessPolicies
    #[arg(
        value_name = "POLICY",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    policies: Vec<String>,

    /// Every AccessPolicy of the cluster
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    confirm: Confirm,

    #[command(flatten)]
    target: Target,
}

/// Runs `lockdown`.
pub async fn lock(args: &LockdownArgs, out: &mut impl Write) -> Answer {
    switch(&args.common, true, out).await
}

/// Runs `unlock`.
pub async fn unlock(args: &UnlockArgs, out: &mut impl Write) -> Answer {
    switch(&args.common, false, out).await
}

async fn switch(args: &Common, on: bool, out: &mut impl Write) -> Answer {
    let connection = Connection::open(&args.target).await?;
    let policies = match args.all {
        true => all(&connection).await?,
        false => args.policies.clone(),
    };
    for policy in &policies {
        legal("AccessPolicy", policy)?;
    }
    if policies.is_empty() {
        return Err(Failure::Error(
            "there is no AccessPolicy in this cluster".into(),
        ));
    }
    args.confirm.ask(&question(&policies, on))?;
    // All at once: in an emergency the last one must not wait for the first.
    let calls = policies
        .iter()
        .map(|policy| send::suspension(&connection, policy, on));
    let mut end = End::Clean;
    for (policy, done) in policies.iter().zip(join_all(calls).await) {
        match done {
            Ok(()) => {
                let (word, tone) = match on {
                    true => ("suspended", Tone::Waits),
                    false => ("not suspended", Tone::Good),
                };
                writeln!(
                    out,
                    "AccessPolicy {policy} is {}",
                    toned(word, tone, show::colour())
                )?;
            }
            Err(Failure::Error(why) | Failure::Refused(why)) => {
                eprintln!("kubectl-stint: {}", show::block(&why));
                end = End::Failure;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(end)
}

async fn all(connection: &Connection) -> Result<Vec<String>, Failure> {
    let wish = Wish {
        verb: "list",
        resource: "accesspolicies.stint.dev",
        namespace: None,
        name: None,
    };
    let api: Api<PartialObjectMeta<AccessPolicy>> = Api::all(connection.client.clone());
    let found = everything(connection, &api, wish, None).await?;
    Ok(found
        .into_iter()
        .filter_map(|policy| policy.metadata.name)
        .collect())
}

fn question(policies: &[String], on: bool) -> String {
    let mut names = policies
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if policies.len() > NAMED {
        names.push_str(&format!(" and {} more", policies.len() - NAMED));
    }
    let number = count(policies.len(), "policy");
    match on {
        true => {
            format!("Suspend {number} ({names})? Every grant under them ends at once, for good.")
        }
        false => format!("Let {number} ({names}) admit requests again?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_says_what_will_end() {
        let one = question(&["payments-jobs".into()], true);
        assert_eq!(
            one,
            "Suspend 1 policy (payments-jobs)? Every grant under them ends at once, for good."
        );
        let many: Vec<String> = (0..12).map(|n| format!("p{n}")).collect();
        let text = question(&many, false);
        assert!(
            text.starts_with("Let 12 policies (p0, ") && text.contains("p9 and 2 more"),
            "{text}"
        );
    }
}
