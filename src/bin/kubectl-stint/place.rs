//! Which request a command means: one of a namespace, or one for the whole cluster.

use crate::connect::Connection;
use crate::outcome::Failure;
use clap::Args;
use stint::domain::request::Place;

/// Where the request is
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Namespace of the request [default: that of the context]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// A request for the whole cluster, a ClusterWorkloadAccess
    #[arg(long, conflicts_with = "namespace")]
    cluster: bool,
}

impl PlaceArgs {
    /// The place that is meant.
    pub fn of(&self, connection: &Connection) -> Result<Place, Failure> {
        match self.cluster {
            true => Ok(Place::Cluster),
            false => namespace(self.namespace.as_deref(), connection).map(Place::Namespace),
        }
    }
}

/// The namespace that is named, else that of the context.
pub fn namespace(named: Option<&str>, connection: &Connection) -> Result<String, Failure> {
    let name = named.unwrap_or(connection.namespace());
    legal("namespace", name).map(str::to_owned)
}

/// A name that cannot lead elsewhere in a URL.
pub fn legal<'a>(what: &str, name: &'a str) -> Result<&'a str, Failure> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._:@".contains(&b);
    let dots = name.bytes().all(|b| b == b'.');
    match !name.is_empty() && name.len() <= 253 && !dots && name.bytes().all(fits) {
        true => Ok(name),
        false => Err(Failure::Error(format!(
            "'{}' is no name of a {what}",
            name.escape_default()
        ))),
    }
}
