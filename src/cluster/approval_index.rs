//! AccessApprovals by the UID of the request that they are about. One that cannot be read counts for nothing.

use crate::api::access_approval::{AccessApproval, RequestKind};
use crate::cluster::stores::AccessRef;
use crate::domain::request::Place;
use kube::core::{DeserializeGuard, ResourceExt};
use kube::runtime::watcher::Event;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The approvals; a new list replaces the old one only when it is whole.
#[derive(Debug, Default)]
pub struct ApprovalIndex {
    now: Index,
    listing: Index,
}

/// Namespace and name of an approval.
type Key = (String, String);

#[derive(Debug, Default)]
struct Index {
    requests: HashMap<Key, String>,
    by_request: HashMap<String, BTreeMap<Key, Arc<AccessApproval>>>,
}

impl ApprovalIndex {
    /// Follows a watch. Returns the approvals that came and went, whose requests are concerned.
    pub fn follow(
        &mut self,
        event: &Event<DeserializeGuard<AccessApproval>>,
    ) -> Vec<Arc<AccessApproval>> {
        match event {
            Event::Init => self.listing = Index::default(),
            Event::InitApply(object) => drop(self.listing.set(object)),
            Event::InitDone => self.now = std::mem::take(&mut self.listing),
            Event::Apply(object) => return self.now.set(object),
            Event::Delete(object) => return self.now.remove(&key(object)).into_iter().collect(),
        }
        Vec::new()
    }

    /// The approvals that say they are about the request with this UID.
    pub fn of(&self, request: &str) -> Vec<Arc<AccessApproval>> {
        let found = self.now.by_request.get(request);
        found
            .into_iter()
            .flat_map(|all| all.values().cloned())
            .collect()
    }
}

impl Index {
    fn set(&mut self, object: &DeserializeGuard<AccessApproval>) -> Vec<Arc<AccessApproval>> {
        let key = key(object);
        let old = self.remove(&key);
        let new = match &object.0 {
            Ok(approval) => Some(Arc::new(approval.clone())),
            Err(invalid) => {
                let (namespace, name) = &key;
                let error = &invalid.error;
                tracing::warn!(
                    namespace,
                    name,
                    error,
                    "undecodable approval; it counts for nothing"
                );
                None
            }
        };
        if let Some(new) = &new {
            let request = new.spec.request_ref.uid.clone();
            let of_request = self.by_request.entry(request.clone()).or_default();
            of_request.insert(key.clone(), Arc::clone(new));
            self.requests.insert(key, request);
        }
        old.into_iter().chain(new).collect()
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<AccessApproval>> {
        let request = self.requests.remove(key)?;
        let of_request = self.by_request.get_mut(&request)?;
        let old = of_request.remove(key);
        if of_request.is_empty() {
            self.by_request.remove(&request);
        }
        old
    }
}

fn key(object: &DeserializeGuard<AccessApproval>) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// The key of the request that an approval names.
pub fn request_of(approval: &AccessApproval) -> AccessRef {
    let reference = &approval.spec.request_ref;
    AccessRef {
        place: match reference.kind {
            RequestKind::WorkloadAccess => {
                Place::Namespace(approval.namespace().unwrap_or_default())
            }
            RequestKind::ClusterWorkloadAccess => Place::Cluster,
        },
        name: reference.name.clone(),
    }
}
