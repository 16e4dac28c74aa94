//! Settings from flags and environment, checked before anything starts.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;

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
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
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

    /// Name of the Mutating- and ValidatingWebhookConfiguration whose caBundle the operator publishes
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

    /// Secret for the webhook's certificate; made when it does not exist
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

    /// How logs are written
    #[arg(long, env = "STINT_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or a tracing filter such as `info,stint=debug`
    #[arg(long, env = "STINT_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}
