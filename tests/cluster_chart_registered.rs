//! What the chart registers with the API server is what the operator expects there, whatever the values. Needs helm, which is built
//! with the programs of the test control plane, and no cluster.

use clap::Parser;
use serde_json::Value;
use stint::cluster::registered::{Damage, Expected};
use stint::cluster::webhook_configurations::{KINDS, Live};
use stint::config::{Cli, Command};
use support::chart::{features_and_presets, objects};
use support::registered::webhooks;

/// What the operator expects that this Deployment starts.
fn expected(deployment: &Value) -> Expected {
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let args = container["args"].as_array().unwrap();
    let args = args.iter().map(|arg| arg.as_str().unwrap());
    match Cli::parse_from(["stint"].into_iter().chain(args)).command {
        Command::Run(args) => Expected::of(&args),
        _ => unreachable!("the chart runs the operator"),
    }
}

fn damage(expected: &Expected, object: &Value) -> Option<Damage> {
    let kind = KINDS.into_iter().find(|kind| object["kind"] == *kind);
    let name = object["metadata"]["name"].as_str().unwrap();
    let live = Live::of(kind.unwrap(), name, Some(object.clone()));
    match name.ends_with("-guard") {
        true => expected.damage_of_guard(name, Some(&live)),
        false => expected.damage(&live),
    }
}

fn configurations(objects: &[Value]) -> Vec<Value> {
    let is_one = |object: &&Value| KINDS.iter().any(|kind| object["kind"] == *kind);
    objects.iter().filter(is_one).cloned().collect()
}

/// The values of every feature and preset, and some that are no feature of their own.
fn all_values() -> Vec<(String, String)> {
    let mut all = features_and_presets();
    for guard in [
        "{defaultMode: deny}",
        "{cluster: deny}",
        "{cluster: 'off'}",
        "{cluster: deny, failurePolicy: Ignore}",
        "{defaultMode: warn, failurePolicy: Fail}",
        "{exemptGroups: []}",
        "{exemptUsers: ['system:serviceaccount:flux:k', 'me@x'], exemptGroups: [a, b]}",
    ] {
        all.push((guard.to_owned(), format!("guard: {guard}")));
    }
    for more in ["{}", "webhook: {timeoutSeconds: 3}"] {
        all.push((more.to_owned(), more.to_owned()));
    }
    all
}

#[test]
fn whatever_the_values_nothing_is_wrong_with_what_the_chart_makes() {
    let mut looked_at = 0;
    for (name, values) in all_values() {
        let objects = objects(&values);
        let Some(deployment) = objects.iter().find(|o| o["kind"] == "Deployment") else {
            continue;
        };
        let expected = expected(deployment);
        for object in configurations(&objects) {
            assert_eq!(damage(&expected, &object), None, "{name}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 60, "{looked_at}");
}

#[test]
fn the_operator_misses_each_webhook_of_the_chart() {
    let objects = objects("clusterGrants: {enabled: true}");
    let deployment = objects.iter().find(|o| o["kind"] == "Deployment");
    let expected = expected(deployment.unwrap());
    for object in configurations(&objects) {
        for place in 0..object["webhooks"].as_array().unwrap().len() {
            let mut cut = object.clone();
            let gone = webhooks(&mut cut).remove(place);
            let damage = damage(&expected, &cut).expect("it is missed");
            let name = gone["name"].as_str().unwrap();
            assert!(
                damage.text.contains(&format!("lacks {name};")),
                "{damage:?}"
            );
            let of_guard = gone["clientConfig"]["service"]["path"] == "/guard";
            assert_eq!(damage.stops, !of_guard, "{damage:?}");
        }
    }
}

/// Values that make the webhook be asked about more, or less, are seen by an operator that was started with others.
#[test]
fn an_operator_of_other_values_sees_the_difference() {
    let rendered = |values: &str| objects(values);
    let plain = rendered("{}");
    let deployment = plain.iter().find(|o| o["kind"] == "Deployment");
    let plain = expected(deployment.unwrap());
    for (values, says) in [
        (
            "guard: {defaultMode: deny}",
            "`failurePolicy` is Fail, not Ignore",
        ),
        ("guard: {defaultMode: deny}", "deny.guard.stint.dev: "),
        ("guard: {exemptUsers: [me]}", "`matchConditions` are others"),
        (
            "guard: {cluster: 'off'}",
            "lacks cluster.guard.stint.dev, people.guard.stint.dev;",
        ),
        (
            "webhook: {timeoutSeconds: 3}",
            "`timeoutSeconds` is 3, not 5",
        ),
    ] {
        let damages: Vec<String> = configurations(&rendered(values))
            .iter()
            .filter_map(|object| Some(damage(&plain, object)?.text))
            .collect();
        let all = damages.join("\n");
        assert!(all.contains(says), "{values}: {all}");
    }
}
