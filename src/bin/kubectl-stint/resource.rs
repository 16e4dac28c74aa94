//! Resources as kubectl writes them.

use crate::outcome::Failure;

/// Group and resource of `RESOURCE[.GROUP][/SUBRESOURCE]`. A name that is known to live in one group of Kubernetes itself needs
/// none.
pub fn resource(text: &str) -> Result<(String, String), Failure> {
    let (name, sub) = match text.split_once('/') {
        Some((name, sub)) => (name, Some(sub)),
        None => (text, None),
    };
    let (name, group) = match name.split_once('.') {
        Some((name, group)) => (name, group),
        None => (name, home_group(name)),
    };
    let word = |text: &str| {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.*".contains(&b);
        !text.is_empty() && text.bytes().all(fits)
    };
    if !word(name) || !(group.is_empty() || word(group)) || !sub.is_none_or(word) {
        return Err(Failure::Error(format!(
            "'{}' is no resource; write RESOURCE[.GROUP][/SUBRESOURCE] in lower case and plural, such as deployments.apps or pods/log",
            text.escape_default()
        )));
    }
    let resource = match sub {
        Some(sub) => format!("{name}/{sub}"),
        None => name.to_owned(),
    };
    Ok((group.to_owned(), resource))
}

/// The group of resources that Kubernetes serves in one group alone; the core group for all others.
fn home_group(resource: &str) -> &'static str {
    match resource {
        "deployments" | "statefulsets" | "daemonsets" | "replicasets" | "controllerrevisions" => {
            "apps"
        }
        "jobs" | "cronjobs" => "batch",
        "ingresses" | "networkpolicies" | "ingressclasses" => "networking.k8s.io",
        "horizontalpodautoscalers" => "autoscaling",
        "poddisruptionbudgets" => "policy",
        "leases" => "coordination.k8s.io",
        "endpointslices" => "discovery.k8s.io",
        "storageclasses" | "volumeattachments" | "csidrivers" | "csinodes" => "storage.k8s.io",
        "roles" | "rolebindings" | "clusterroles" | "clusterrolebindings" => {
            "rbac.authorization.k8s.io"
        }
        "customresourcedefinitions" => "apiextensions.k8s.io",
        "priorityclasses" => "scheduling.k8s.io",
        "workloadaccesses" | "clusterworkloadaccesses" | "accesspolicies" | "accessapprovals" => {
            "stint.dev"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_read_as_kubectl_does() {
        assert_eq!(
            resource("deployments").unwrap(),
            ("apps".into(), "deployments".into())
        );
        assert_eq!(
            resource("pods/log").unwrap(),
            ("".into(), "pods/log".into())
        );
    }
}
