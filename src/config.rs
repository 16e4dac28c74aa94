//! Settings from flags and environment, checked before anything starts.

use crate::domain::lease::Terms;
use crate::tls::issue::KeyAlgorithm;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Just-in-time, expiring RBAC for Kubernetes workloads.
#[derive(Debug, Parser)]
#[command(name = "stint", version, about, long_about = None)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator: webhook, controller and deadline queue
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinitions as YAML
    Crds,
    /// Ask an installation whether it works: probes, metrics, and a bad request that must be refused; nothing is stored
    Check(CheckArgs),
}

/// What `stint check` asks.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Where /livez, /readyz and /metrics are served, as HOST:PORT
    #[arg(long, env = "STINT_ADMIN")]
    pub admin: String,

    /// Namespace for a WorkloadAccess that is never stored
    #[arg(long, env = "STINT_NAMESPACE")]
    pub namespace: String,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Who makes the webhook's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CertificateMode {
    /// The operator makes and rotates it, with an authority of its own.
    Operator,
    /// cert-manager makes it, and its CA injector publishes the authority.
    CertManager,
    /// Somebody puts it into a Secret; the operator publishes the authority.
    Secret,
}

/// A kind of object, as a flag names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UntilKind {
    /// API group and version, `apps/v1`; `v1` for the core group.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Lower-case plural.
    pub resource: String,
}

impl FromStr for UntilKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (group, version, kind, resource) = match parts.as_slice() {
            [version, kind, resource] => ("", *version, *kind, *resource),
            [group, version, kind, resource] if !group.is_empty() => {
                (*group, *version, *kind, *resource)
            }
            _ => {
                return Err("must be GROUP/VERSION/KIND/RESOURCE, or VERSION/KIND/RESOURCE of the core group".into());
            }
        };
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let starts = |text: &str, is: fn(char) -> bool| text.chars().next().is_some_and(is);
        if !group.chars().all(|c| lower(c) || matches!(c, '-' | '.')) {
            return Err(format!("'{group}' is no API group"));
        }
        if group == "stint.dev" {
            return Err("kinds of Stint itself cannot be the work that ends a grant".into());
        }
        if !version.starts_with('v') || !version.chars().all(lower) {
            return Err(format!("'{version}' is no API version, such as v1"));
        }
        if !starts(kind, |c| c.is_ascii_uppercase())
            || !kind.chars().all(|c| c.is_ascii_alphanumeric())
        {
            return Err(format!("'{kind}' is no kind, such as Job"));
        }
        if !starts(resource, |c| c.is_ascii_lowercase()) || !resource.chars().all(lower) {
            return Err(format!("'{resource}' is no resource, such as jobs"));
        }
        Ok(Self {
            api_version: match group {
                "" => version.to_owned(),
                group => format!("{group}/{version}"),
            },
            kind: kind.to_owned(),
            resource: resource.to_owned(),
        })
    }
}

/// Settings of the operator. Each flag is also an environment variable, `STINT_` and its name.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Namespace of the operator, which holds its two Secrets
    #[arg(long, env = "STINT_NAMESPACE")]
    pub namespace: String,

    /// Address on which admission reviews are served, over TLS
    #[arg(long, env = "STINT_WEBHOOK_LISTEN", default_value = "0.0.0.0:9443")]
    pub webhook_listen: SocketAddr,

    /// Address on which /livez, /readyz and /metrics are served, in the clear
    #[arg(long, env = "STINT_ADMIN_LISTEN", default_value = "0.0.0.0:8080")]
    pub admin_listen: SocketAddr,

    /// Name of the Mutating- and ValidatingWebhookConfiguration which the operator watches over, and whose caBundle it publishes unless cert-manager does
    #[arg(long, env = "STINT_WEBHOOK_CONFIGURATION", default_value = "stint")]
    pub webhook_configuration: String,

    /// DNS name or IP address by which the API server reaches the webhook; repeat for several
    #[arg(
        long = "webhook-name",
        env = "STINT_WEBHOOK_NAME",
        value_delimiter = ',',
        required = true
    )]
    pub webhook_names: Vec<String>,

    /// Who makes the webhook's certificate: the operator; cert-manager, whose CA injector also publishes the authority; or somebody
    /// who puts it into a Secret
    #[arg(
        long,
        env = "STINT_CERTIFICATE_MODE",
        value_enum,
        default_value = "operator"
    )]
    pub certificate_mode: CertificateMode,

    /// Algorithm of the private keys that the operator makes for the webhook's certificate and its authority, from now on; what is
    /// there stays until it is due. Delete the Secret to have new ones at once
    #[arg(
        long,
        env = "STINT_CERTIFICATE_KEY_ALGORITHM",
        value_enum,
        default_value = "ECDSA-P256"
    )]
    pub certificate_key_algorithm: KeyAlgorithm,

    /// PEM file with the authority of those who may send reviews; whoever shows no certificate of it is not answered. API servers show
    /// one only where their AdmissionConfiguration says so. Without the flag everybody is answered who reaches the port
    #[arg(long, env = "STINT_WEBHOOK_CLIENT_CA")]
    pub webhook_client_ca: Option<PathBuf>,

    /// Seconds for which the webhook configurations let the API server wait; another number there is told. Without the flag it is not
    /// looked at
    #[arg(long, env = "STINT_WEBHOOK_TIMEOUT")]
    pub webhook_timeout: Option<u32>,

    /// Secret with the webhook's certificate; the operator makes it in its mode, and only reads it in the others
    #[arg(
        long,
        env = "STINT_CERTIFICATE_SECRET",
        default_value = "stint-webhook-certificate"
    )]
    pub certificate_secret: String,

    /// Secret for the keys that sign receipts; made when it does not exist
    #[arg(
        long,
        env = "STINT_RECEIPT_SECRET",
        default_value = "stint-receipt-keys"
    )]
    pub receipt_secret: String,

    /// ClusterRole that says what Stint may grant at most
    #[arg(long, env = "STINT_CEILING_ROLE", default_value = "stint-grantable")]
    pub ceiling_role: String,

    /// Grant rights in the whole cluster too, to ClusterWorkloadAccesses; while Stint is down nothing ends them
    #[arg(long, env = "STINT_CLUSTER_GRANTS")]
    pub cluster_grants: bool,

    /// A namespaced kind whose objects `until` may refer to, as GROUP/VERSION/KIND/RESOURCE, or VERSION/KIND/RESOURCE of the core
    /// group, such as `batch/v1/Job/jobs`; repeat for several. The operator needs get, list and watch on the resource
    #[arg(long = "until-kind", env = "STINT_UNTIL_KIND", value_delimiter = ',')]
    pub until_kinds: Vec<UntilKind>,

    /// Name of the operator's own ServiceAccount
    #[arg(long, env = "STINT_SERVICE_ACCOUNT", default_value = "stint")]
    pub service_account: String,

    /// Name of the guard's ValidatingWebhookConfiguration, whose caBundle the operator publishes; without it the guard is off
    #[arg(long, env = "STINT_GUARD_CONFIGURATION")]
    pub guard_configuration: Option<String>,

    /// What the guard's configuration says for where it denies and nobody answers; another word there is told. Without the flag it is
    /// not looked at
    #[arg(long, env = "STINT_GUARD_FAILURE_POLICY", value_parser = ["Fail", "Ignore"])]
    pub guard_failure_policy: Option<String>,

    /// What the guard does in namespaces without the label stint.dev/guard
    #[arg(long, env = "STINT_GUARD_DEFAULT_MODE", value_parser = ["audit", "warn", "deny"], default_value = "audit")]
    pub guard_default_mode: String,

    /// What the guard does with ClusterRoles and ClusterRoleBindings
    #[arg(long, env = "STINT_GUARD_CLUSTER_MODE", value_parser = ["audit", "warn", "deny", "off"], default_value = "audit")]
    pub guard_cluster_mode: String,

    /// A group whose members the guard lets do everything; repeat for several
    #[arg(
        long = "guard-exempt-group",
        env = "STINT_GUARD_EXEMPT_GROUP",
        value_delimiter = ','
    )]
    pub guard_exempt_groups: Vec<String>,

    /// A user that the guard lets do everything, such as the account of a GitOps controller; repeat for several
    #[arg(
        long = "guard-exempt-user",
        env = "STINT_GUARD_EXEMPT_USER",
        value_delimiter = ','
    )]
    pub guard_exempt_users: Vec<String>,

    /// API group of the reports that the guard keeps on roles and bindings which are there already: openreports.io (v1alpha1) or
    /// wgpolicyk8s.io (v1alpha2). Its CRDs must be installed; without the flag there are no reports
    #[arg(long, env = "STINT_GUARD_REPORTS", value_parser = ["openreports.io", "wgpolicyk8s.io"])]
    pub guard_reports: Option<String>,

    /// Pause between two looks of the guard at everything that is there, at least 1s
    #[arg(
        long,
        env = "STINT_GUARD_SCAN_INTERVAL",
        default_value = "10m",
        value_parser = at_least_a_second
    )]
    pub guard_scan_interval: kube::core::Duration,

    /// Leader election
    #[command(flatten)]
    pub leader_election: LeaderElectionArgs,

    /// How logs are written
    #[arg(long, env = "STINT_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or a tracing filter such as `info,stint=debug`
    #[arg(long, env = "STINT_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

fn at_least_a_second(text: &str) -> Result<kube::core::Duration, String> {
    let duration: kube::core::Duration = text.parse().map_err(|e| format!("{e}"))?;
    match duration.is_negative() || std::time::Duration::from(duration).as_secs() < 1 {
        true => Err("must be 1s or longer".to_owned()),
        false => Ok(duration),
    }
}

/// Which of several replicas decides about requests. All serve the webhook and end what is due.
#[derive(Clone, Debug, Args)]
pub struct LeaderElectionArgs {
    /// Decide about requests only while holding a Lease. Without it, two operators at the same time both decide
    #[arg(
        long,
        env = "STINT_LEADER_ELECT",
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub leader_elect: bool,

    /// Name of the Lease, in the operator's namespace
    #[arg(
        long = "leader-elect-resource-name",
        env = "STINT_LEADER_ELECT_RESOURCE_NAME",
        default_value = "stint"
    )]
    pub resource_name: String,

    /// Time without renewal after which another replica may take the Lease; whole seconds
    #[arg(
        long = "leader-elect-lease-duration",
        env = "STINT_LEADER_ELECT_LEASE_DURATION",
        default_value = "15s"
    )]
    pub lease_duration: kube::core::Duration,

    /// Time without renewal after which the leader stops deciding; shorter than the lease duration
    #[arg(
        long = "leader-elect-renew-deadline",
        env = "STINT_LEADER_ELECT_RENEW_DEADLINE",
        default_value = "10s"
    )]
    pub renew_deadline: kube::core::Duration,

    /// Pause between two looks at the Lease
    #[arg(
        long = "leader-elect-retry-period",
        env = "STINT_LEADER_ELECT_RETRY_PERIOD",
        default_value = "2s"
    )]
    pub retry_period: kube::core::Duration,
}

impl LeaderElectionArgs {
    /// The terms of the Lease, not checked yet.
    pub fn terms(&self) -> Terms {
        let time = |d: &kube::core::Duration| std::time::Duration::from(*d);
        Terms {
            lease_duration: time(&self.lease_duration),
            renew_deadline: time(&self.renew_deadline),
            retry_period: time(&self.retry_period),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(String, String, String), String> {
        let kind: UntilKind = text.parse()?;
        Ok((kind.api_version, kind.kind, kind.resource))
    }

    #[test]
    fn a_kind_is_named_with_its_resource() {
        let kind = |a: &str, b: &str, c: &str| Ok((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(parsed("v1/Pod/pods"), kind("v1", "Pod", "pods"));
        let argo = "argoproj.io/v1alpha1/Workflow/workflows";
        assert_eq!(
            parsed(argo),
            kind("argoproj.io/v1alpha1", "Workflow", "workflows")
        );
    }

    #[test]
    fn what_is_no_kind_is_refused() {
        for text in [
            "",
            "Job",
            "batch/v1/Job",
            "/v1/Pod/pods",
            "batch/v1/Job/jobs/status",
            "batch/v1/Job/*",
            "*/v1/Job/jobs",
            "batch/1/Job/jobs",
            "batch/v1/job/jobs",
            "batch/v1/Job/",
            "stint.dev/v1alpha1/WorkloadAccess/workloadaccesses",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
