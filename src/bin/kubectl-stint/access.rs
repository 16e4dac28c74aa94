//! A request of the input before the judge: the same parser and the same judgement as in the webhook, with the
//! facts that the input holds.
//!
//! What decides and is not in the input is never guessed. A policy whose selectors or conditions ask for something unknown is
//! tried without them, after those of which all is known; a request that only such a policy admits is undecided. So is one
//! whose rights nobody could see.

use crate::candidates::{Candidate, candidates, tried};
use crate::read::Object;
use crate::report::{Finding, Judged, Level};
use crate::schema;
use crate::world::World;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use stint::api::workload_access::RoleKind;
use stint::api::{ClusterWorkloadAccess, WorkloadAccess};
use stint::domain::catalogue::{self, Disposition};
use stint::domain::completion::{Kind, default_kinds};
use stint::domain::covers::Ceiling;
use stint::domain::facts::{AccountFacts, Facts, Role, RoleFacts, UntilFacts, WorkloadFacts};
use stint::domain::grant::{Grant, Source};
use stint::domain::hygiene;
use stint::domain::judge::{NotYet, Verdict, is_cluster_namespace, judge, scope};
use stint::domain::patterns::Patterns;
use stint::domain::receipt::Requester;
use stint::domain::request::{Access, Place};
use stint::domain::rules::{self, ALL, Rule};
use stint::domain::served::Served;
use stint::domain::violation::{Problem, Violation};

/// What no file of the input can say about a request; more of one for the whole cluster.
pub fn never_in_files(world: &World, wide: bool) -> Vec<&'static str> {
    let known = |text: &&str| *text == CEILING && world.ceiling.is_some();
    let more = OF_THE_CLUSTER.into_iter().filter(|_| wide);
    let all = NEVER_IN_FILES.into_iter().chain(more);
    all.filter(|text| !known(text)).collect()
}

const CEILING: &str = "what the cluster lets Stint grant [WA-CEILING]";

const NEVER_IN_FILES: [&str; 6] = [
    "whether the requester may `use` the policy [WA-REQUESTER]",
    "whether the ServiceAccount exists, where its manifest is not in the input [WA-ACCOUNT-MISSING]",
    CEILING,
    "whether the resources are served, and do anything in a namespace [WA-UNKNOWN-RESOURCE, WA-INERT]",
    "whether the objects of `until` and `workloadRef` exist, are still at work, and run as the account [WA-UNTIL, WA-WORKLOAD]",
    "other grants and standing bindings of the account that are not in the input",
];

const OF_THE_CLUSTER: [&str; 2] = [
    "whether this installation grants anything in the whole cluster [WA-NOT-ALLOWED]",
    "whether anything that is asked for in the whole cluster lives in namespaces [OB-W07]",
];

/// Judges one request for `place`.
pub fn judge_access(object: &Object, place: &Place, world: &World, now: Timestamp) -> Judged {
    let from_schema = schema::violations(&object.kind, &object.node);
    let mut case = Case {
        object,
        findings: Vec::new(),
        known: true,
        risk: None,
    };
    match decode(object, place) {
        Ok(access) => case.decide(&access, world, now),
        Err(violation) if from_schema.is_empty() => case.refuse(&[violation]),
        Err(_) => {}
    }
    // The judge says the same with a code of its own.
    let told = |path: &String| case.findings.iter().any(|finding| finding.path == *path);
    let untold = from_schema.into_iter().filter(|v| !told(&v.path));
    let untold: Vec<Violation> = untold.collect();
    case.refuse(&untold);
    let mut judged = Judged::new(object, place.namespace(), case.findings, case.known);
    judged.risk = case.risk;
    judged
}

fn decode(object: &Object, place: &Place) -> Result<Access, Violation> {
    let value = object.node.value();
    let decoded = match place {
        Place::Namespace(namespace) => {
            serde_json::from_value::<WorkloadAccess>(value).map(|mut access| {
                access.metadata.namespace = Some(namespace.clone());
                Access::Namespaced(Box::new(access))
            })
        }
        Place::Cluster => serde_json::from_value::<ClusterWorkloadAccess>(value)
            .map(|access| Access::Cluster(Box::new(access))),
    };
    decoded.map_err(|error| {
        let message = format!("cannot be read: {error}");
        Violation::new("WA-DECODE", "spec", Problem::Invalid, message)
    })
}

struct Case<'a> {
    object: &'a Object,
    findings: Vec<Finding>,
    known: bool,
    risk: Option<&'static str>,
}

impl Case<'_> {
    fn refuse(&mut self, violations: &[Violation]) {
        let finding = |v| Finding::violation(self.object, Level::Error, v);
        let findings: Vec<Finding> = violations.iter().map(finding).collect();
        self.findings.extend(findings);
    }

    fn undecided(&mut self, path: &str, text: String) {
        self.known = false;
        let text = format!("not judged: {text}");
        self.findings
            .push(Finding::remark(self.object, Level::Warning, path, text));
    }

    fn decide(&mut self, access: &Access, world: &World, now: Timestamp) {
        let grant = match Grant::parse(access) {
            Ok(grant) => grant,
            Err(violations) => return self.refuse(&violations),
        };
        let mut facts = facts(&grant, world, now);
        let candidates = candidates(&grant, world);
        let certain = |c: &&Candidate| c.assumed.is_empty();
        facts.policies = tried(candidates.iter().filter(certain));
        let mut verdict = judge(&grant, &facts, now);
        if matches!(verdict, Verdict::Refused(_))
            && candidates.iter().any(|c| !c.assumed.is_empty())
        {
            facts.policies = tried(candidates.iter());
            verdict = judge(&grant, &facts, now);
        }
        self.unlisted_kind(&grant);
        self.unseen_rights(&grant, world);
        self.no_policies(&grant, &facts, world);
        self.conclude(&grant, &facts, verdict, &candidates, world);
    }

    fn conclude(
        &mut self,
        grant: &Grant,
        facts: &Facts,
        verdict: Verdict,
        candidates: &[Candidate],
        world: &World,
    ) {
        match verdict {
            Verdict::Granted(approved) => {
                let admitting = approved.policy().name.clone();
                let by = |c: &&Candidate| c.policy.name() == admitting;
                let assumed = candidates.iter().filter(by).flat_map(|c| &c.assumed);
                for text in assumed {
                    self.undecided("metadata.namespace", text.clone());
                }
                if self.known {
                    self.risk = Some(approved.risk().as_str());
                }
                let line = |text: &String| Finding::line(self.object, Level::Warning, text);
                let warnings: Vec<Finding> = approved.warnings().iter().map(line).collect();
                self.findings.extend(warnings);
            }
            Verdict::NotYet {
                why: NotYet::Scheduled(_),
                ..
            } => {}
            Verdict::NotYet {
                why: why @ NotYet::PendingApproval { .. },
                ..
            } => self.needs_approval(&why, candidates),
            Verdict::NotYet {
                why: NotYet::NotReady(why),
                ..
            } => self.undecided("", why),
            Verdict::Over { why, .. } => {
                let text = format!("would be stored and never be access: {why}");
                self.findings
                    .push(Finding::remark(self.object, Level::Note, "spec", text));
            }
            Verdict::Refused(mut violations) => {
                violations.retain(|violation| !is_guess(violation.code, grant, world));
                let partly_known = !grant.source().is_inline() && facts.served.is_none();
                let doubted = |v: &mut Violation| v.code == "WA-CEILING" && partly_known;
                let doubtful: Vec<Violation> = violations.extract_if(.., doubted).collect();
                self.refuse(&violations);
                for violation in doubtful {
                    let text = format!(
                        "whether the copy of the role has {}, which {}; what does nothing is left out of a copy",
                        violation.found.unwrap_or_default(),
                        violation.message
                    );
                    self.undecided("spec.roleRef", text);
                }
            }
        }
    }

    /// What the chart lists unless it is told otherwise is taken for listed.
    fn unlisted_kind(&mut self, grant: &Grant) {
        let Some(until) = grant.until() else {
            return;
        };
        let is = |k: &Kind| k.api_version == until.api_version && k.kind == until.kind;
        if !default_kinds().iter().any(is) {
            let text = format!(
                "whether the chart value `until.kinds` of the installation lists {} {} [WA-UNTIL]",
                until.api_version, until.kind
            );
            self.undecided("spec.until.kind", text);
        }
    }

    /// Who approves, and when, no file can tell.
    fn needs_approval(&mut self, why: &NotYet, candidates: &[Candidate]) {
        let NotYet::PendingApproval {
            policy, required, ..
        } = why
        else {
            return;
        };
        let by = |c: &&Candidate| c.policy.name() == policy;
        for text in candidates.iter().filter(by).flat_map(|c| &c.assumed) {
            self.undecided("metadata.namespace", text.clone());
        }
        let text = format!(
            "would wait for approval: policy '{policy}' requires it of {required} who have the verb `approve` on it"
        );
        let note = Finding::remark(self.object, Level::Note, "spec", text);
        self.findings.push(note);
    }

    fn unseen_rights(&mut self, grant: &Grant, world: &World) {
        if let Source::Role(role) = grant.source()
            && unseen(grant, world)
        {
            let text = format!(
                "{:?} '{}' has no rules in the input, so the rights were not judged; add its manifest",
                role.kind, role.name
            );
            self.undecided("spec.roleRef", text);
        }
    }

    /// Without any policy in the input the catalogue still says what one would have to name.
    fn no_policies(&mut self, grant: &Grant, facts: &Facts, world: &World) {
        if !world.policies.is_empty() || world.broken_policies > 0 {
            return;
        }
        let text = "no AccessPolicy is in the input; add one, or name its file with --policy";
        self.undecided("spec", text.into());
        let rules = match (grant.source(), &facts.role) {
            (Source::Rules(rules), _) => rules,
            (Source::Role(_), RoleFacts::Found(role)) => &role.rules,
            (Source::Role(_), _) => return,
        };
        let scope = scope(grant, facts);
        let (base, indexed) = (grant.source().path(), grant.source().is_inline());
        for finding in catalogue::findings(Patterns::of(rules), scope) {
            if finding.disposition == Disposition::Named {
                for found in catalogue::explain(finding.id, rules, base, indexed, scope) {
                    let message = format!(
                        "is granted only under a policy with {} in its `allow.findings`; {}",
                        finding.id, found.message
                    );
                    let violation = Violation { message, ..found };
                    let told = Finding::violation(self.object, Level::Warning, &violation);
                    self.findings.push(told.weighing(finding.severity));
                }
            }
        }
    }
}

/// Whether the judge says this only because something is not in the input.
fn is_guess(code: &str, grant: &Grant, world: &World) -> bool {
    match code {
        "WA-NO-POLICY" => world.policies.is_empty() && world.broken_policies == 0,
        "WA-ROLE-MISSING" | "WA-ROLE-AGGREGATED" => unseen(grant, world),
        _ => false,
    }
}

/// Whether the rules of the referenced role are unknown: it is not in the input, or the cluster puts them together.
fn unseen(grant: &Grant, world: &World) -> bool {
    match role(grant, world) {
        RoleFacts::NotReferenced => false,
        RoleFacts::Missing => true,
        RoleFacts::Found(role) => role.aggregated && !role.selects_itself && role.rules.is_empty(),
    }
}

fn role(grant: &Grant, world: &World) -> RoleFacts {
    let Source::Role(reference) = grant.source() else {
        return RoleFacts::NotReferenced;
    };
    let kind = match reference.kind {
        RoleKind::Role => "Role",
        RoleKind::ClusterRole => "ClusterRole",
    };
    let found = world.role(kind, grant.home(), &reference.name);
    found.map_or(RoleFacts::Missing, |role| RoleFacts::Found(role.clone()))
}

fn facts(grant: &Grant, world: &World, now: Timestamp) -> Facts {
    let known = world.account(grant.account());
    let account = known.cloned().unwrap_or(AccountFacts {
        uid: String::new(),
        labels: BTreeMap::new(),
    });
    // A manifest has no UID; only the cluster can say whether a pinned one is right.
    let uid = match (account.uid.is_empty(), grant.account_uid()) {
        (true, Some(pinned)) => pinned.to_owned(),
        _ => account.uid,
    };
    let (role, served) = reaching(role(grant, world), grant.place());
    Facts {
        requester: Requester::default(),
        requested_at: now,
        extension: None,
        namespace_labels: world.namespace(grant.home()).cloned().unwrap_or_default(),
        privileged_namespace: is_cluster_namespace(grant.home()),
        account: Some(AccountFacts { uid, ..account }),
        served: world.served.clone().or(served),
        role,
        copy: None,
        policies: Vec::new(),
        approvals: Vec::new(),
        broken_policies: world.broken_policies,
        ceiling: Some(ceiling(world)),
        held: world.held(grant.account(), grant.place()),
        held_in: match grant.place() {
            Place::Cluster => world.held_in(grant.account()),
            Place::Namespace(_) => Vec::new(),
        },
        active_others: 0,
        held_since: BTreeMap::new(),
        until: match grant.until() {
            Some(_) => UntilFacts::Unknown,
            None => UntilFacts::NotReferenced,
        },
        workload: match grant.workload() {
            Some(_) => WorkloadFacts::Unknown,
            None => WorkloadFacts::NotReferenced,
        },
        live: None,
        promised_end: None,
        ended: None,
    }
}

/// What Stint may grant; without the ClusterRole that says it, nothing is held against it.
fn ceiling(world: &World) -> Arc<Ceiling> {
    let all = || vec![ALL.to_owned()];
    let everything = [
        Rule {
            api_groups: all(),
            resources: all(),
            verbs: all(),
            ..Rule::default()
        },
        Rule {
            non_resource_urls: all(),
            verbs: all(),
            ..Rule::default()
        },
    ];
    let known = world.ceiling.clone();
    known.unwrap_or_else(|| Arc::new(Ceiling::compile(&everything)))
}

/// The role as a copy takes it, as far as files can tell: its rules in canonical form, for a namespace without non-resource
/// URLs, which reach nothing through a RoleBinding. Where no rule names both a group and a resource, nothing of what a cluster serves is looked
/// up, and the copy is known in full: then the judge makes it itself, from a cluster that serves nothing.
fn reaching(role: RoleFacts, place: &Place) -> (RoleFacts, Option<Arc<Served>>) {
    let RoleFacts::Found(role) = role else {
        return (role, None);
    };
    if !hygiene::fits(&role.rules) {
        return (RoleFacts::Found(role), None);
    }
    if !role.rules.iter().any(names_a_resource) {
        return (RoleFacts::Found(role), Some(Arc::default()));
    }
    let mut rules = role.rules;
    if *place != Place::Cluster {
        rules.retain(|rule| !rule.resources.is_empty());
        rules
            .iter_mut()
            .for_each(|rule| rule.non_resource_urls.clear());
    }
    let rules = rules::canonical(&rules);
    (RoleFacts::Found(Role { rules, ..role }), None)
}

fn names_a_resource(rule: &Rule) -> bool {
    let named = |list: &[String]| list.iter().any(|text| !text.contains(ALL));
    named(&rule.api_groups) && named(&rule.resources)
}
