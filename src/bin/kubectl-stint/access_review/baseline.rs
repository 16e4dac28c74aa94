//! An earlier report, and what is otherwise now.

use super::model::{
    API_VERSION, Changed, Difference, Grant, Key, NotRead, Removed, Report, Standing, Trend, hash,
};
use super::unusable;
use crate::outcome::Failure;
use crate::{read, show};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;

/// What all versions of the form begin with.
const VERSIONS: &str = "stint.dev/report/v";

/// Which objects each kind of row is made of: when one of them is not known in full, the kind is not compared.
const MADE_OF: [(&str, &[&str]); 4] = [
    ("WorkloadAccess", &["workloadaccesses.stint.dev"]),
    (
        "ClusterWorkloadAccess",
        &["clusterworkloadaccesses.stint.dev"],
    ),
    (
        "RoleBinding",
        &[
            "rolebindings.rbac.authorization.k8s.io",
            "roles.rbac.authorization.k8s.io",
            "clusterroles.rbac.authorization.k8s.io",
            // Without them the bindings of grants pass for standing ones.
            "workloadaccesses.stint.dev",
        ],
    ),
    (
        "ClusterRoleBinding",
        &[
            "clusterrolebindings.rbac.authorization.k8s.io",
            "clusterroles.rbac.authorization.k8s.io",
            "clusterworkloadaccesses.stint.dev",
        ],
    ),
];

/// Largest report that is read: what this program writes of a large cluster is larger than what people write.
const MAX_BYTES: u64 = 256 << 20;

/// A report that was written with `-o json`, if it is whole and of a version that this program reads.
pub fn read(file: &Path) -> Result<Report, Failure> {
    let name = show::line(&file.display().to_string());
    let bytes = File::open(file)
        .and_then(|file| read::bounded(file, MAX_BYTES))
        .map_err(|error| unusable(format!("the baseline {name} cannot be read: {error}")))?;
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| unusable(format!("the baseline {name} is no JSON: {error}")))?;
    let version = value["apiVersion"].as_str().unwrap_or_default();
    if version != API_VERSION {
        let version = show::line(version);
        return Err(unusable(match version.starts_with(VERSIONS) {
            true => format!(
                "the baseline {name} is of version {version}, and this program reads {API_VERSION}; use a newer kubectl-stint"
            ),
            false => format!(
                "the baseline {name} is no report; `kubectl stint report -o json` makes one"
            ),
        }));
    }
    let said = value["sha256"].as_str().unwrap_or_default().to_owned();
    if hash(value.clone())? != said {
        return Err(unusable(format!(
            "the baseline {name} was changed after it was made: its SHA-256 does not fit"
        )));
    }
    serde_json::from_value(value)
        .map_err(|error| unusable(format!("the baseline {name} cannot be read: {error}")))
}

/// Adds to the report what is otherwise than in the earlier one.
pub fn compare(report: &mut Report, earlier: Report) -> Result<(), Failure> {
    alike(report, &earlier)?;
    let not_compared = not_compared(&report.not_read, &earlier.not_read);
    let compared = |kind: &str| !not_compared.iter().any(|other| other == kind);
    let (mut added, mut changed) = (Vec::new(), Vec::new());
    let mut note = |key: Key, was: Option<Vec<Field>>, is: Vec<Field>| match was {
        None => added.push(key),
        Some(was) => {
            let fields = differences(was, is);
            if !fields.is_empty() {
                changed.push(Changed { key, fields });
            }
        }
    };

    let mut grants: HashMap<String, Grant> = HashMap::new();
    grants.extend(earlier.grants.into_iter().map(|g| (g.uid.clone(), g)));
    for grant in report.grants.iter().filter(|g| compared(&g.kind)) {
        let was = grants.remove(&grant.uid);
        note(grant.key(), was.as_ref().map(of_grant), of_grant(grant));
    }
    let id = |one: &Standing| (one.uid.clone(), one.account.clone());
    let mut standing: HashMap<(String, String), Standing> = HashMap::new();
    standing.extend(earlier.standing.into_iter().map(|one| (id(&one), one)));
    for one in report.standing.iter().filter(|one| compared(&one.kind)) {
        let was = standing.remove(&id(one));
        note(one.key(), was.as_ref().map(of_standing), of_standing(one));
    }

    let mut grants: Vec<Grant> = grants.into_values().collect();
    grants.retain(|grant| compared(&grant.kind));
    grants.sort_by_key(Grant::key);
    let mut standing: Vec<Standing> = standing.into_values().collect();
    standing.retain(|one| compared(&one.kind));
    standing.sort_by_key(Standing::key);
    report.trend = Some(Trend {
        since: earlier.at,
        sha256: earlier.sha256,
        totals: earlier.totals,
        not_compared,
        added,
        removed: Removed { grants, standing },
        changed,
    });
    Ok(())
}

/// Only reports about the same place of the same cluster have something to say about each other.
fn alike(report: &Report, earlier: &Report) -> Result<(), Failure> {
    if let (Some(id), Some(other)) = (&report.cluster_id, &earlier.cluster_id)
        && id != other
    {
        let other = show::line(other);
        return Err(unusable(format!(
            "the baseline is of another cluster: UID of kube-system {other}, here {id}; check the context (--context)"
        )));
    }
    let about = |namespace: &Option<String>| match namespace {
        Some(name) => format!("namespace '{}'", show::line(name)),
        None => "all namespaces".to_owned(),
    };
    let (here, there) = (about(&report.namespace), about(&earlier.namespace));
    match here == there {
        true => Ok(()),
        false => Err(unusable(format!(
            "the baseline is about {there}, this report about {here}; compare like with like (-n)"
        ))),
    }
}

fn not_compared(now: &[NotRead], before: &[NotRead]) -> Vec<String> {
    let missing: BTreeSet<&str> = now.iter().chain(before).map(|m| m.what.as_str()).collect();
    let kinds = MADE_OF.iter();
    let lacking = kinds.filter(|(_, of)| of.iter().any(|what| missing.contains(what)));
    lacking.map(|(kind, _)| (*kind).to_owned()).collect()
}

type Field = (&'static str, String);

fn of_grant(grant: &Grant) -> Vec<Field> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let decisions = grant.decisions.iter();
    let decisions: Vec<String> = decisions
        .map(|d| format!("{} by {}", d.decision, d.by))
        .collect();
    vec![
        ("state", grant.state.clone()),
        ("risk", text(&grant.risk)),
        ("codes", grant.codes.join(" ")),
        ("rights", grant.rights.join("; ")),
        ("decisions", decisions.join("; ")),
        ("from", text(&grant.from)),
        ("until", text(&grant.until)),
        ("ended", text(&grant.ended)),
        ("residual", text(&grant.residual)),
        ("reviewRequired", grant.review_required.to_string()),
    ]
}

fn of_standing(one: &Standing) -> Vec<Field> {
    vec![
        ("risk", one.risk.clone().unwrap_or_default()),
        ("codes", one.codes.join(" ")),
        ("role", one.role.clone()),
        ("rights", one.rights.join("; ")),
    ]
}

fn differences(was: Vec<Field>, is: Vec<Field>) -> Vec<Difference> {
    let pairs = was.into_iter().zip(is);
    let otherwise = pairs.filter(|((_, was), (_, is))| was != is);
    otherwise
        .map(|((field, was), (_, is))| Difference {
            field: field.to_owned(),
            was,
            is,
        })
        .collect()
}
