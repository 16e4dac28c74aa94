//! What of the webhook configurations is not as the settings of the operator say it must be. The operator may write nothing of them but
//! the `caBundle`, so it says what it finds.

use crate::cluster::webhook_configurations::{KINDS, Live};
use crate::config::RunArgs;
use crate::domain::registration::{self, Entry, GuardCluster, GuardRegistered, Reached};

/// What must be registered.
#[derive(Debug)]
pub struct Expected {
    requests: [Vec<Entry>; 2],
    guard: Vec<Entry>,
    reached: Reached,
}

/// What is wrong with a webhook configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Reason of its Event.
    pub reason: &'static str,
    /// Whether a replica that starts waits for its repair: a webhook is missing. Otherwise a replica more makes nothing worse, and one
    /// less does.
    pub stops: bool,
    /// What is wrong and what to do.
    pub text: String,
}

impl Damage {
    fn missing(stops: bool, text: String) -> Self {
        Self {
            reason: "WebhookConfigurationDamaged",
            stops,
            text,
        }
    }
}

impl Expected {
    /// By the settings, which the chart makes from the same values as the configurations.
    pub fn of(args: &RunArgs) -> Self {
        let operator = format!(
            "system:serviceaccount:{}:{}",
            args.namespace, args.service_account
        );
        Self {
            requests: [
                registration::mutating(args.cluster_grants),
                registration::validating(args.cluster_grants),
            ],
            guard: registration::guard(&GuardRegistered {
                installation: &args.webhook_configuration,
                namespace: &args.namespace,
                operator: &operator,
                denies: args.guard_default_mode == "deny",
                cluster: match args.guard_cluster_mode.as_str() {
                    "off" => GuardCluster::Off,
                    "deny" => GuardCluster::Denied,
                    _ => GuardCluster::Told,
                },
                failure: args.guard_failure_policy.as_deref(),
                users: &args.guard_exempt_users,
                groups: &args.guard_exempt_groups,
            }),
            reached: Reached {
                hosts: args.webhook_names.clone(),
                timeout: args.webhook_timeout,
            },
        }
    }

    /// What is wrong with one of the configurations on Stint's own kinds.
    pub fn damage(&self, live: &Live) -> Option<Damage> {
        let Live { kind, name, .. } = live;
        if !live.is_there() {
            let text = format!(
                "{kind} '{name}' does not exist, so requests are stored without review, and none is granted; upgrade or sync the \
                 chart to restore it"
            );
            return Some(Damage::missing(true, text));
        }
        let entries = match *kind == KINDS[0] {
            true => &self.requests[0],
            false => &self.requests[1],
        };
        if let Some(lacking) = lacking(entries, live) {
            let text =
                format!("{kind} '{name}' lacks {lacking}; upgrade or sync the chart to restore it");
            return Some(Damage::missing(true, text));
        }
        self.changed(entries, live)
    }

    /// What is wrong with the configuration of the guard, which is `name`.
    pub fn damage_of_guard(&self, name: &str, live: Option<&Live>) -> Option<Damage> {
        let Some(live) = live else {
            let text = format!(
                "{} '{name}' does not exist, so nobody looks at the roles and bindings that people write; upgrade or sync the chart to \
                 restore it, or set `guard.enabled: false`",
                KINDS[1]
            );
            return Some(Damage::missing(false, text));
        };
        if let Some(lacking) = lacking(&self.guard, live) {
            let text = format!(
                "{} '{name}' lacks {lacking}; upgrade or sync the chart to restore it",
                live.kind
            );
            return Some(Damage::missing(false, text));
        }
        self.changed(&self.guard, live)
    }

    fn changed(&self, entries: &[Entry], live: &Live) -> Option<Damage> {
        let found: Vec<String> = entries
            .iter()
            .flat_map(|entry| {
                let there = live.webhooks().filter(|w| w["name"] == entry.name);
                there.map(|webhook| (entry.name, entry.differences(webhook, &self.reached)))
            })
            .filter(|(_, differences)| !differences.is_empty())
            .map(|(name, differences)| format!("{name}: {}", differences.join(", ")))
            .collect();
        (!found.is_empty()).then(|| Damage {
            reason: "WebhookConfigurationEdited",
            stops: false,
            text: format!(
                "{} '{}' was edited: delete it and upgrade or sync the chart at once, since an upgrade alone leaves what was added. \
                 Different from what the chart makes of the operator's settings: {}",
                live.kind,
                live.name,
                found.join("; ")
            ),
        })
    }
}

fn lacking(entries: &[Entry], live: &Live) -> Option<String> {
    let there: Vec<&str> = live.webhooks().filter_map(|w| w["name"].as_str()).collect();
    let names = entries.iter().map(|entry| entry.name);
    let lacking: Vec<&str> = names.filter(|name| !there.contains(name)).collect();
    (!lacking.is_empty()).then(|| lacking.join(", "))
}
