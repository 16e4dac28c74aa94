//! `kubectl stint lint`: reads the input, has each object judged by whoever judges its kind, and reports.

use crate::access::{self, judge_access};
use crate::approval::judge_approval;
use crate::connect::Target;
use crate::online::Cluster;
use crate::outcome::{Answer, End};
use crate::rbac::{self, Known};
use crate::read::{Input, Object};
use crate::report::{API_VERSION, Finding, Judged, Level, Report, Summary};
use crate::sarif;
use crate::show;
use crate::world::{RBAC, World};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::io::{self, Write};
use stint::api::names;
use stint::domain::request::Place;
use stint::domain::violation::{Problem, Violation};

/// Judge manifests before they reach a cluster
///
/// WorkloadAccess, ClusterWorkloadAccess and AccessPolicy objects are judged as Stint's webhooks judge them, plain Roles and bindings against the
/// catalogue of over-broad rights. Objects of other kinds are skipped; Namespaces and ServiceAccounts among them tell their
/// labels. Without --online no cluster is asked.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # A request against the policies of the platform team
  kubectl stint lint access.yaml --policy policies/

  # Everything that a chart or an overlay renders
  helm template ./chart | kubectl stint lint -
  kustomize build overlays/prod | kubectl stint lint - --policy policies/

  # What the webhook of the current cluster would answer (a server-side dry run; nothing is stored)
  kubectl stint lint --online -f access.yaml

  # The Roles and bindings of a cluster as they are
  kubectl get roles,rolebindings,clusterroles,clusterrolebindings -A -o yaml | kubectl stint lint -

  # For a code scanner
  kubectl stint lint manifests/ -o sarif > stint.sarif

Exit status: 0 clean, 1 something is refused, 2 something could not be read or asked. Warnings and objects that cannot be
decided from the input fail only with --strict. `kubectl stint codes CODE` explains a code.")]
pub struct LintArgs {
    /// Files or folders with manifests in YAML or JSON; `-` is stdin
    #[arg(value_name = "FILE|DIR|-")]
    sources: Vec<String>,

    /// The same, as kubectl spells it; may be repeated
    #[arg(short, long = "filename", value_name = "FILE|DIR|-")]
    files: Vec<String>,

    /// A file or folder with AccessPolicies, Namespaces, ServiceAccounts and roles to judge against; they are not judged
    /// themselves. May be repeated
    #[arg(long = "policy", value_name = "FILE|DIR", conflicts_with = "online")]
    policies: Vec<String>,

    /// Ask the API server, by a dry run, instead of judging from the input alone
    #[arg(long)]
    online: bool,

    /// Namespace of objects that name none [default: that of the kubeconfig with --online, else `default`]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Fail also on warnings and on objects that cannot be decided
    #[arg(long)]
    strict: bool,

    /// Form of the output
    #[arg(short, long, value_enum, default_value = "text")]
    output: Form,

    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One finding per line
    Text,
    /// All findings as JSON; the fields are described in docs/lint.md
    Json,
    /// SARIF 2.1.0, for code scanners
    Sarif,
}

/// Runs the command.
pub async fn run(args: &LintArgs, out: &mut impl Write) -> Answer {
    let mut input = read(args);
    let report = match cluster(args).await {
        Ok(cluster) => judge_all(args, input, cluster).await,
        Err(error) => {
            input.failures.push(error);
            assemble(
                args,
                Vec::new(),
                BTreeMap::new(),
                input.failures,
                Vec::new(),
            )
        }
    };
    for failure in &report.failures {
        eprintln!("kubectl-stint: {}", show::line(failure));
    }
    write(args, &report, out)?;
    Ok(end(args, &report.summary, &report.failures))
}

fn read(args: &LintArgs) -> Input {
    let mut input = Input::default();
    let sources = args.sources.iter().chain(&args.files);
    sources.for_each(|source| input.add(source, true));
    if input.objects.is_empty() && input.failures.is_empty() {
        let text = match args.sources.len() + args.files.len() {
            0 => "no input: name files or folders, or `-` for stdin",
            _ => "no input: there is no object in what was named",
        };
        input.failures.push(text.into());
    }
    args.policies
        .iter()
        .for_each(|source| input.add(source, false));
    let unusable: Vec<String> = input.objects.iter().filter_map(unusable).collect();
    input.failures.extend(unusable);
    input
}

/// Why a policy that others are to be judged against cannot serve for that.
fn unusable(object: &Object) -> Option<String> {
    let is_policy = object.group() == names::GROUP && object.kind == "AccessPolicy";
    if object.judged || !is_policy {
        return None;
    }
    let judged = rbac::judge_policy(object);
    let error = judged.findings.iter().find(|f| f.level == Level::Error)?;
    let place = format!("{}:{}", object.file, error.line);
    Some(format!(
        "{place}: AccessPolicy '{}' cannot be judged against: {}",
        object.name(),
        error.message
    ))
}

async fn cluster(args: &LintArgs) -> Result<Option<Cluster>, String> {
    match args.online {
        true => Cluster::of(&args.target).await.map(Some),
        false if args.target.is_chosen() => {
            Err("a cluster is named and none is asked; add --online".to_owned())
        }
        false => Ok(None),
    }
}

async fn judge_all(args: &LintArgs, input: Input, cluster: Option<Cluster>) -> Report {
    let own = args.namespace.clone();
    let of_cluster = cluster.as_ref().map(|c| c.namespace().to_owned());
    let namespace = own.or(of_cluster).unwrap_or_else(|| "default".to_owned());
    let run = Run {
        world: World::of(&input.objects, &namespace),
        now: Timestamp::now(),
        namespace,
        cluster,
    };
    let (mut objects, mut skipped, mut failures) = (Vec::new(), BTreeMap::new(), input.failures);
    for object in input.objects.iter().filter(|object| object.judged) {
        match run.judge(object).await {
            Ok(Some(judged)) => objects.push(judged),
            Ok(None) => *skipped.entry(object.kind.clone()).or_default() += 1,
            Err(error) => {
                let place = format!("{}:{}", object.file, object.node.line);
                failures.push(format!(
                    "{place}: {} '{}': {error}",
                    object.kind,
                    object.name()
                ));
            }
        }
    }
    let asked = !args.online && objects.iter().any(|o| is_request(&o.kind));
    let wide = objects.iter().any(|o| o.kind == "ClusterWorkloadAccess");
    let not_judged = match asked {
        true => access::never_in_files(&run.world, wide),
        false => Vec::new(),
    };
    assemble(args, objects, skipped, failures, not_judged)
}

fn assemble(
    args: &LintArgs,
    objects: Vec<Judged>,
    skipped: BTreeMap<String, usize>,
    failures: Vec<String>,
    not_judged: Vec<&'static str>,
) -> Report {
    Report {
        api_version: API_VERSION,
        mode: if args.online { "online" } else { "offline" },
        summary: Summary::of(&objects, &skipped),
        not_judged,
        objects,
        skipped,
        failures,
    }
}

/// What one run judges with.
struct Run {
    world: World,
    now: Timestamp,
    namespace: String,
    cluster: Option<Cluster>,
}

impl Run {
    /// The judgement of one object; none for kinds that are not judged.
    async fn judge(&self, object: &Object) -> Result<Option<Judged>, String> {
        let namespace = object.namespace().unwrap_or(&self.namespace);
        Ok(Some(match (object.group(), object.kind.as_str()) {
            (names::GROUP, kind) => match (wrong_kind(object), &self.cluster) {
                (Some(violation), _) => {
                    let finding = Finding::violation(object, Level::Error, &violation);
                    Judged::new(object, object.namespace(), vec![finding], true)
                }
                (None, Some(cluster)) => cluster.judge(object, namespace).await?,
                (None, None) if kind == "AccessPolicy" => rbac::judge_policy(object),
                (None, None) if kind == "AccessApproval" => judge_approval(object, namespace),
                (None, None) => {
                    let place = match kind {
                        "ClusterWorkloadAccess" => Place::Cluster,
                        _ => Place::Namespace(namespace.to_owned()),
                    };
                    judge_access(object, &place, &self.world, self.now)
                }
            },
            (RBAC, "Role") => rbac::judge_role(object, Some(namespace), &self.world),
            (RBAC, "ClusterRole") => rbac::judge_role(object, None, &self.world),
            (RBAC, "RoleBinding") => {
                let role = self.bound_role(object, namespace).await?;
                rbac::judge_binding(object, Some(namespace), &role)
            }
            (RBAC, "ClusterRoleBinding") => {
                let role = self.bound_role(object, "").await?;
                rbac::judge_binding(object, None, &role)
            }
            _ => return Ok(None),
        }))
    }

    async fn bound_role(&self, object: &Object, namespace: &str) -> Result<Known, String> {
        let Some((kind, name)) = rbac::bound_role(object) else {
            return Ok(Known::No);
        };
        match (self.world.role(&kind, namespace, &name), &self.cluster) {
            (Some(role), _) => Ok(Known::Found(role.clone())),
            (None, Some(cluster)) => cluster.role(&kind, namespace, &name).await,
            (None, None) => Ok(Known::No),
        }
    }
}

fn is_request(kind: &str) -> bool {
    matches!(kind, "WorkloadAccess" | "ClusterWorkloadAccess")
}

/// A misspelt kind must not pass as one of somebody else's.
fn wrong_kind(object: &Object) -> Option<Violation> {
    let others = ["AccessPolicy", "AccessApproval"];
    if !is_request(&object.kind) && !others.contains(&object.kind.as_str()) {
        let message = "must be WorkloadAccess, ClusterWorkloadAccess, AccessPolicy or AccessApproval, the kinds of stint.dev";
        return Some(
            Violation::new("WA-KIND", "kind", Problem::Invalid, message).found(&object.kind),
        );
    }
    let version = "stint.dev/v1alpha1";
    (object.api_version != version).then(|| {
        let message = format!("must be `{version}`");
        Violation::new("WA-DECODE", "apiVersion", Problem::Invalid, message)
            .found(&object.api_version)
    })
}

fn write(args: &LintArgs, report: &Report, out: &mut impl Write) -> io::Result<()> {
    match args.output {
        Form::Text => report.write_text(out, show::colour()),
        Form::Json => writeln!(out, "{}", show::json(report)?),
        Form::Sarif => writeln!(out, "{}", show::json(&sarif::log(report))?),
    }
}

fn end(args: &LintArgs, summary: &Summary, failures: &[String]) -> End {
    let strict = args.strict && (summary.warnings > 0 || summary.undecided > 0);
    match (failures.is_empty(), summary.errors > 0 || strict) {
        (false, _) => End::Failure,
        (true, true) => End::Findings,
        (true, false) => End::Clean,
    }
}
