//! `kubectl stint suggest`: the smallest rights for what accounts really did, by the API server's audit log.

mod grants;
mod json;
mod manifest;
mod print;

use crate::audit_log::wanted::Wanted;
use crate::audit_log::{self, Log, counted};
use crate::connect::Target;
use crate::outcome::{Answer, End, Failure};
use crate::show;
use clap::{Args, ValueEnum};
use grants::Known;
use jiff::Timestamp;
use manifest::{Terms, pairs};
use print::{Printer, Tables, Told};
use std::io::Write;
use stint::domain::usage::proposal::{Options, propose};
use stint::domain::usage::tally::Account;
use stint::domain::window;

/// Propose the smallest rights for what accounts really used
///
/// Reads audit logs of the API server (audit.k8s.io/v1, one event to a line, level Metadata is enough; gzip too) and proposes for each ServiceAccount the
/// rules that cover what it was allowed and did: verbs and resources by name, on single objects where these are few, in the
/// namespaces where it happened. What was refused is listed apart; it is what to ask for. With --rbac or --online also what each
/// binding of the account gives and what of it was never used.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # What the migrator did, and what of its rights it never used
  kubectl stint suggest /var/log/kubernetes/audit/*.log* --account payments/migrator --online

  # Policy and request for it; lint passes them
  kubectl stint suggest audit.log --account payments/migrator -o yaml > migrator.yaml
  kubectl stint lint migrator.yaml

  # All accounts of a namespace, of the last week, from a machine without the cluster
  kubectl get roles,rolebindings,clusterroles,clusterrolebindings,serviceaccounts,workloadaccesses -A -o yaml > rbac.yaml
  zcat audit-*.log.gz | kubectl stint suggest - -n payments --since 168h --rbac rbac.yaml

Exit status: 0 proposed, 1 something that was used cannot be granted (it is named, with a code), 2 a log could not be read. Damaged
lines are counted and told, and fail only with --strict.")]
pub struct SuggestArgs {
    /// Audit logs, rotated and compressed ones too, in any order; `-` is stdin
    #[arg(value_name = "FILE|-", required = true)]
    sources: Vec<String>,

    /// Only this ServiceAccount, as NAMESPACE/NAME, or NAME with -n; may be repeated
    #[arg(
        long = "account",
        visible_alias = "serviceaccount",
        value_name = "ACCOUNT"
    )]
    accounts: Vec<String>,

    /// Only accounts of this namespace. Without it and --account those of kube-system and the like are left out
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Only requests from this RFC 3339 instant on, or of so long ago, such as 24h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Only requests before this RFC 3339 instant, or until so long ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,

    /// Most objects that are listed by name for one verb on one resource; with more, every object is meant
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=64))]
    max_names: u8,

    /// A resource whose objects are not listed by name, such as pods, whose names change; may be repeated
    #[arg(long, value_name = "RESOURCE[/SUBRESOURCE]", value_delimiter = ',')]
    without_names: Vec<String>,

    /// Also what Kubernetes lets every account do: discovery, health, asking about itself
    #[arg(long)]
    with_basic: bool,

    /// Also what was refused
    #[arg(long)]
    with_refused: bool,

    /// A file or folder with Roles, bindings and WorkloadAccesses to hold the use against, as `kubectl get` prints them, and with the
    /// ServiceAccounts, which tell whether the log is of the same cluster; may be repeated
    #[arg(long, value_name = "FILE|DIR|-", conflicts_with = "online")]
    rbac: Vec<String>,

    /// Read roles and bindings from the cluster, and whether the log is of it
    #[arg(long)]
    online: bool,

    /// Length of the proposed grants, and the longest that the proposed policy allows
    #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
    duration: String,

    /// Reason of the proposed requests [default: that they come from the audit log]
    #[arg(long)]
    reason: Option<String>,

    /// Name of the proposed policy; where there are several, they begin with it [default: NAMESPACE-NAME of the account]
    #[arg(long, value_name = "NAME")]
    policy_name: Option<String>,

    /// Read logs of several clusters, and of another one than --online or --rbac, and say so
    #[arg(long)]
    any_cluster: bool,

    /// Fail when lines are damaged
    #[arg(long)]
    strict: bool,

    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,

    /// Without the lines of heads
    #[arg(long)]
    no_headers: bool,

    #[command(flatten)]
    target: Target,
}

/// Forms of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Rights, and what holds them
    Table,
    /// With the last use and the rights that were not used, and nothing cut
    Wide,
    /// Policies and requests, for `kubectl apply`
    Yaml,
    /// Everything; the fields are described in docs/right-sizing.md
    Json,
}

/// Runs the command.
pub async fn run(args: &SuggestArgs, out: &mut impl Write) -> Answer {
    let now = Timestamp::now();
    let wanted = Wanted::of(
        &args.accounts,
        args.namespace.as_deref(),
        args.since.as_deref(),
        args.until.as_deref(),
        now,
    )?;
    check(args)?;
    let mut known = held(args).await?;
    let log = audit_log::read(&args.sources, &wanted, known.here.take(), args.any_cluster)?;
    for told in log.damage() {
        eprintln!("kubectl-stint: {}", show::line(&told));
    }
    log.say_what_it_is();
    if args.strict && log.damaged > 0 {
        return Err(Failure::Error(format!(
            "{} damaged; --strict proposes nothing then",
            counted(log.damaged, "line")
        )));
    }
    let teller = Teller::of(args, &log, &known, now)?;
    let how = Tables {
        wide: args.output == Form::Wide,
        bare: args.no_headers,
        held: known.any,
    };
    let mut printer = Printer::of(args.output, how, &log);
    let mut whole = true;
    for (name, account) in log.tally.accounts() {
        let told = teller.tell(name, account);
        whole &= told.is_whole();
        printer.add(&told, out)?;
    }
    let remarks = printer.end(out)?;
    out.flush()?;
    if matches!(args.output, Form::Table | Form::Wide) {
        remark(&remarks, &log);
    }
    Ok(if whole { End::Clean } else { End::Findings })
}

fn check(args: &SuggestArgs) -> Result<(), Failure> {
    if let Err(violation) = window::parse_duration("--for", &args.duration) {
        return Err(Failure::Error(violation.message));
    }
    if let Some(name) = &args.policy_name {
        crate::place::legal("policy", name)?;
    }
    let stdin = |list: &[String]| list.iter().filter(|name| *name == "-").count();
    match stdin(&args.sources) + stdin(&args.rbac) {
        0 | 1 => Ok(()),
        _ => Err(Failure::Error("stdin can be read only once".into())),
    }
}

async fn held(args: &SuggestArgs) -> Result<Known, Failure> {
    if args.online {
        let (known, unread) = Known::of_cluster(&args.target).await?;
        for why in unread {
            eprintln!("kubectl-stint: {}", show::line(&why));
        }
        return Ok(known);
    }
    match args.rbac.is_empty() {
        true => Ok(Known::default()),
        false => Known::of_files(&args.rbac),
    }
}

/// What one account is told from.
struct Teller<'a> {
    args: &'a SuggestArgs,
    log: &'a Log,
    known: &'a Known,
    now: Timestamp,
    options: Options,
}

impl<'a> Teller<'a> {
    fn of(
        args: &'a SuggestArgs,
        log: &'a Log,
        known: &'a Known,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let accounts = log.tally.accounts().count();
        if args.policy_name.is_some() && accounts > 1 {
            let why = format!(
                "--policy-name is for one account, and the log has {accounts}; choose one with --account"
            );
            return Err(Failure::Error(why));
        }
        Ok(Self {
            args,
            log,
            known,
            now,
            options: Options {
                max_names: usize::from(args.max_names),
                without_names: args.without_names.clone(),
                basic: args.with_basic,
                refused: args.with_refused,
            },
        })
    }

    fn tell(&self, name: &'a str, account: &'a Account) -> Told<'a> {
        let args = self.args;
        let at = |at: Option<Timestamp>| {
            at.map_or("?".to_owned(), |at| window::round_down(at).to_string())
        };
        let by_log = format!(
            "used from {} to {}, by the audit log",
            at(account.first),
            at(account.last)
        );
        let proposal = propose(account, &self.options);
        let terms = Terms {
            duration: &args.duration,
            reason: args.reason.as_deref().unwrap_or(&by_log),
            policy: args.policy_name.as_deref(),
        };
        let tally = &self.log.tally;
        Told {
            name,
            account,
            pairs: pairs(name, &proposal, &terms, self.now),
            proposal,
            grants: self.known.of_account(tally, name, account, args.with_basic),
        }
    }
}

/// What the tables do not say.
fn remark(remarks: &[String], log: &Log) {
    let say = |text: String| eprintln!("{}", show::line(&text));
    for remark in remarks {
        say(remark.clone());
    }
    if log.tally.accounts().next().is_none() {
        say("No request of an account that is looked for.".into());
    }
    let counts = [
        (
            log.of_the_cluster,
            "of accounts of the cluster itself left out; -n kube-system shows them",
        ),
        (
            log.impersonations,
            "of accounts as another user, who is no account; the right to do so is not proposed",
        ),
        (log.unreadable, "with names that no rule can hold, left out"),
        (
            log.undecided,
            "ended before anybody was asked whether it is allowed",
        ),
    ];
    for (number, what) in counts.into_iter().filter(|(number, _)| *number > 0) {
        say(format!("{} {what}.", counted(number, "request")));
    }
}
