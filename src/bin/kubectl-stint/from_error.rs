//! The right that was missing when a command failed, from the API server's own words.

use crate::outcome::Failure;
use crate::place::legal;
use regex::Regex;
use stint::domain::grant::Account;
use stint::domain::request::Place;
use stint::domain::rules::Rule;

/// What the API server writes when its authorizer says no (apiserver `handlers/responsewriters/errors.go`).
const FORBIDDEN: &str = r#"(?:"([^"]*)" is )?forbidden: User "([^"]+)" cannot ([a-z]+) (?:resource "([^"]+)" in API group "([^"]*)" (?:in the namespace "([^"]+)"|at the cluster scope)|path "([^"]+)")"#;

/// What somebody was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whom.
    pub account: Account,
    /// Where.
    pub place: Place,
    /// What.
    pub rule: Rule,
}

/// Everything that a text says was refused.
pub fn read(text: &str) -> Result<Vec<Refused>, Failure> {
    let pattern = Regex::new(FORBIDDEN).map_err(|error| Failure::Error(error.to_string()))?;
    let found: Result<Vec<Refused>, Failure> =
        pattern.captures_iter(text).map(|c| one(&c)).collect();
    let found = found?;
    match found.is_empty() {
        false => Ok(found),
        true => Err(Failure::Error(
            "no line of the form `… is forbidden: User \"system:serviceaccount:NAMESPACE:NAME\" cannot VERB resource …` is in it; copy the whole error".into(),
        )),
    }
}

fn one(captures: &regex::Captures<'_>) -> Result<Refused, Failure> {
    let text = |number| captures.get(number).map_or("", |found| found.as_str());
    let (name, user, verb) = (text(1), text(2), text(3));
    let (resource, group, namespace, path) = (text(4), text(5), text(6), text(7));
    let account = account(user)?;
    if !path.is_empty() {
        let rule = Rule {
            verbs: vec![verb.to_owned()],
            non_resource_urls: vec![path.to_owned()],
            ..Rule::default()
        };
        let place = Place::Cluster;
        return Ok(Refused {
            account,
            place,
            rule,
        });
    }
    let place = match namespace {
        "" => Place::Cluster,
        namespace => Place::Namespace(legal("namespace", namespace)?.to_owned()),
    };
    let rule = Rule {
        api_groups: vec![group.to_owned()],
        resources: vec![resource.to_owned()],
        resource_names: (!name.is_empty())
            .then(|| name.to_owned())
            .into_iter()
            .collect(),
        verbs: vec![verb.to_owned()],
        non_resource_urls: Vec::new(),
    };
    Ok(Refused {
        account,
        place,
        rule,
    })
}

fn account(user: &str) -> Result<Account, Failure> {
    let parts = user
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'));
    let Some((namespace, name)) = parts else {
        return Err(Failure::Error(format!(
            "the error speaks of the user '{}'; Stint gives rights to ServiceAccounts only",
            user.escape_default()
        )));
    };
    Ok(Account {
        namespace: legal("namespace", namespace)?.to_owned(),
        name: legal("ServiceAccount", name)?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let show = |r: &Refused| {
            let place = r.place.namespace().unwrap_or("the cluster");
            format!("{} {} in {place}", r.account, r.rule)
        };
        read(text).unwrap().iter().map(show).collect()
    }

    #[test]
    fn what_kubectl_and_clients_print_names_the_missing_right() {
        let cases = [
            (
                r#"Error from server (Forbidden): deployments.apps "billing-api" is forbidden: User "system:serviceaccount:payments:migrator" cannot patch resource "deployments" in API group "apps" in the namespace "payments""#,
                "payments/migrator patch deployments.apps named billing-api in payments",
            ),
            (
                r#"Error from server (Forbidden): pods is forbidden: User "system:serviceaccount:ci:runner" cannot list resource "pods" in API group "" in the namespace "payments""#,
                "ci/runner list pods in payments",
            ),
            (
                r#"Error from server (Forbidden): error when creating "job.yaml": jobs.batch is forbidden: User "system:serviceaccount:a:b" cannot create resource "jobs" in API group "batch" in the namespace "a": extra words"#,
                "a/b create jobs.batch in a",
            ),
            (
                r#"Error from server (Forbidden): pods "x" is forbidden: User "system:serviceaccount:a:b" cannot create resource "pods/exec" in API group "" in the namespace "a""#,
                "a/b create pods/exec named x in a",
            ),
            (
                r#"Error from server (Forbidden): nodes is forbidden: User "system:serviceaccount:a:b" cannot list resource "nodes" in API group "" at the cluster scope"#,
                "a/b list nodes in the cluster",
            ),
            (
                r#"Error from server (Forbidden): forbidden: User "system:serviceaccount:a:b" cannot get path "/metrics""#,
                "a/b get /metrics in the cluster",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(told(text), [expected], "{text}");
        }
        let both = format!("{}\n{}", cases[0].0, cases[1].0);
        assert_eq!(told(&both).len(), 2);
    }

    #[test]
    fn what_names_no_account_is_an_error_that_says_so() {
        let human = r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "a""#;
        let Err(Failure::Error(why)) = read(human) else {
            panic!()
        };
        assert!(why.contains("the user 'jane'"), "{why}");
        let hostile = r#"pods is forbidden: User "system:serviceaccount:../x:b" cannot list resource "pods" in API group "" in the namespace "a""#;
        assert!(read(hostile).is_err());
        assert!(read("command not found").is_err());
    }
}
