//! What the API server serves, by its aggregated discovery (KEP-3352), read when a request names something unknown.

use crate::cluster::{ApiError, call};
use crate::domain::rules::Rule;
use crate::domain::served::{Home, Served};
use kube::Client;
use kube::core::discovery::v2::{APIGroupDiscovery, APIResourceDiscovery, APIVersionDiscovery};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long an answer stands for what it contains: long enough to cost nothing, short enough that a removed CRD is noticed.
const KEEP: Duration = Duration::from_secs(600);
/// Least pause between two reads, so that requests for unknown resources cannot make Stint hammer the API server.
const PAUSE: Duration = Duration::from_secs(1);

/// The discovery of one API server.
#[derive(Clone)]
pub struct Discovery {
    client: Client,
    /// Held while reading: whoever comes meanwhile waits for the same answer.
    last: Arc<Mutex<Option<Answer>>>,
}

#[derive(Clone)]
struct Answer {
    served: Arc<Served>,
    at: Instant,
}

impl Discovery {
    /// Reads nothing yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            last: Arc::default(),
        }
    }

    /// What is served, as fresh as these rules need it: a pair that is not known yet makes for a new read, for its CRD may
    /// have been installed just now.
    pub async fn for_rules(&self, rules: &[Rule]) -> Result<Arc<Served>, ApiError> {
        let mut last = self.last.lock().await;
        if let Some(known) = last.as_ref() {
            let age = known.at.elapsed();
            if age < PAUSE || (age < KEEP && known.served.knows(rules)) {
                return Ok(Arc::clone(&known.served));
            }
        }
        let served = Arc::new(self.read().await?);
        *last = Some(Answer {
            served: Arc::clone(&served),
            at: Instant::now(),
        });
        Ok(served)
    }

    async fn read(&self) -> Result<Served, ApiError> {
        let (core, groups) = futures::try_join!(
            call(self.client.list_core_api_versions_aggregated()),
            call(self.client.list_api_groups_aggregated()),
        )?;
        let mut served = Served::default();
        for group in core.items.iter().chain(&groups.items) {
            add_group(&mut served, group);
        }
        // A server that answers in the old form lists no resources, and everything would look unknown.
        match core.items.is_empty() || groups.items.is_empty() {
            true => Err(ApiError::Incomplete("aggregated discovery")),
            false => Ok(served),
        }
    }
}

fn add_group(served: &mut Served, group: &APIGroupDiscovery) {
    let name = group.metadata.as_ref().and_then(|m| m.name.as_deref());
    let name = name.unwrap_or_default();
    for version in &group.versions {
        if is_stale(version) {
            served.add_unavailable(name);
            continue;
        }
        for resource in &version.resources {
            add_resource(served, name, resource);
        }
    }
}

/// The server behind an aggregated group did not answer; what is listed may be long gone.
fn is_stale(version: &APIVersionDiscovery) -> bool {
    version.freshness.as_deref() == Some("Stale")
}

fn add_resource(served: &mut Served, group: &str, resource: &APIResourceDiscovery) {
    let home = match resource.scope.as_deref() {
        Some("Namespaced") => Home::Namespace,
        _ => Home::Cluster,
    };
    let Some(name) = &resource.resource else {
        return;
    };
    served.add(group, name.clone(), home);
    let subresources = resource.subresources.iter();
    for subresource in subresources.filter_map(|s| s.subresource.as_ref()) {
        served.add(group, format!("{name}/{subresource}"), home);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::served::Lookup;
    use serde_json::json;

    #[test]
    fn a_stale_version_makes_its_group_unavailable_but_not_what_another_version_serves() {
        let group =
            serde_json::from_value(json!({"metadata": {"name": "example.com"}, "versions": [
                {"version": "v1", "freshness": "Current", "resources": [
                    {"resource": "widgets", "scope": "Namespaced", "verbs": ["get"],
                     "subresources": [{"subresource": "scale", "verbs": ["get"]}]},
                    {"resource": "zones", "scope": "Cluster", "verbs": ["get"]}]},
                {"version": "v2", "freshness": "Stale", "resources": [
                    {"resource": "gadgets", "scope": "Namespaced", "verbs": ["get"]}]},
            ]}))
            .unwrap();
        let mut served = Served::default();
        add_group(&mut served, &group);
        let found = |resource| served.look_up("example.com", resource);
        assert_eq!(found("widgets"), Lookup::Home(Home::Namespace));
        assert_eq!(found("widgets/scale"), Lookup::Home(Home::Namespace));
        assert_eq!(found("zones"), Lookup::Home(Home::Cluster));
        assert_eq!(found("gadgets"), Lookup::Unavailable);
        assert_eq!(served.look_up("example.org", "widgets"), Lookup::Unknown);
    }
}
