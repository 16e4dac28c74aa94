//! The steps from a binding to a grant, and back, as commands for a person to run one after the other.

use super::backup;
use super::entry::{Decision, Entry};
use serde::Serialize;
use serde_json::{Value, json};
use stint::domain::grant::Account;

/// One step.
#[derive(Debug, Serialize)]
pub struct Step {
    /// What it is for.
    pub what: String,
    /// What to run.
    pub run: Vec<String>,
}

fn step(what: &str, run: Vec<String>) -> Step {
    let what = what.to_owned();
    Step { what, run }
}

/// The steps for one account in one binding; none where it stays.
pub fn of(entry: &Entry) -> Vec<Step> {
    let Some(account) = &entry.account else {
        return Vec::new();
    };
    match &entry.decision {
        Decision::Keep { .. } => Vec::new(),
        Decision::Delete(_) => deletion(entry, account),
        Decision::Move(proposal) => {
            let place = match &entry.namespace {
                Some(namespace) => format!("-n {}", quoted(namespace)),
                None => "--cluster".to_owned(),
            };
            let request = format!("{} {place}", quoted(&proposal.name));
            moving(entry, account, &proposal.name, &request)
        }
    }
}

fn deletion(entry: &Entry, account: &Account) -> Vec<Step> {
    let place = entry.namespace.as_deref().unwrap_or("cluster");
    let file = format!("{place}.{}.restore.yaml", backup::plain(&entry.name));
    vec![
        step(
            "save the binding",
            vec![survey(entry, account, "restore", &file)],
        ),
        removal(entry),
        back(&file, None),
    ]
}

fn moving(entry: &Entry, account: &Account, name: &str, request: &str) -> Vec<Step> {
    let (restore, adopt) = (format!("{name}.restore.yaml"), format!("{name}.yaml"));
    let checks = || {
        vec![
            format!("kubectl stint explain {request}"),
            format!("kubectl stint can {request}"),
        ]
    };
    vec![
        step(
            "save the binding, then give the rights by a grant beside it; you need `use` on the policy",
            vec![
                survey(entry, account, "restore", &restore),
                survey(entry, account, "yaml", &adopt),
                format!("kubectl apply -f {adopt}"),
            ],
        ),
        step("check that the grant is Active", checks()),
        removal(entry),
        step(
            "check again: now the grant alone gives the rights (`can` asks about a sample of them, --apply about each)",
            checks(),
        ),
        back(&restore, Some(request)),
    ]
}

/// The survey of this account in this binding alone, into a file.
fn survey(entry: &Entry, account: &Account, form: &str, file: &str) -> String {
    let namespace = entry.namespace.as_ref().unwrap_or(&account.namespace);
    let duration = entry
        .proposal()
        .map(|p| format!(" --duration {}", p.duration));
    format!(
        "kubectl stint adopt -n {} --serviceaccount {} --binding {}{} -o {form} > {file}",
        quoted(namespace),
        quoted(&account.to_string()),
        quoted(&entry.name),
        duration.unwrap_or_default(),
    )
}

fn back(file: &str, request: Option<&str>) -> Step {
    let mut run = vec![format!("kubectl auth reconcile -f {file}")];
    run.extend(request.map(|request| format!("kubectl stint revoke {request}")));
    step("the way back, at any time", run)
}

/// A binding for one goes; of one for several only the subject.
fn removal(entry: &Entry) -> Step {
    let resource = entry.kind.to_lowercase();
    let place = match &entry.namespace {
        Some(namespace) => format!(" -n {}", quoted(namespace)),
        None => String::new(),
    };
    let name = quoted(&entry.name);
    if entry.is_alone() {
        let run = format!("kubectl delete {resource} {name}{place}");
        return step("remove the binding", vec![run]);
    }
    let patch = quoted(&without(entry).to_string());
    let run = format!("kubectl patch {resource} {name}{place} --type=json -p {patch}");
    step(
        "remove this subject, and leave the others of the binding",
        vec![run],
    )
}

/// A patch (RFC 6902) that takes the account out, if each subject is still in its place.
pub fn without(entry: &Entry) -> Value {
    let mut patch = Vec::new();
    // From the last to the first, so that no removal moves the place of another.
    for at in entry.at.iter().rev() {
        let path = format!("/subjects/{at}");
        patch.push(json!({"op": "test", "path": path, "value": entry.subjects[*at]}));
        patch.push(json!({"op": "remove", "path": path}));
    }
    Value::Array(patch)
}

/// A word for a shell: names of bindings may hold anything but `/` and `%`.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:/@".contains(c);
    match !word.is_empty() && !word.starts_with('-') && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_name_stays_one_word_of_a_shell() {
        assert_eq!(quoted("system:ci"), "system:ci");
        assert_eq!(quoted("x; rm -rf ~"), "'x; rm -rf ~'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("$(id)"), "'$(id)'");
    }
}
