//! CustomResourceDefinitions that are not those of the operator, on a real control plane.

use support::cluster::{User, eventually};
use support::operator::Stint;
use support::project;

const POLICIES: &str = "accesspolicies.stint.dev";
const SPEC: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";

async fn edit(stint: &Stint, name: &str, patch: &str) {
    let args = ["patch", "crd", name, "--type=json", "--patch", patch];
    let (ok, said) = stint.kubectl(User::Admin, &args).await;
    assert!(ok, "{said}");
}

/// Waits until `/readyz` has this status and says this.
async fn readyz(stint: &Stint, status: u16, says: &str) {
    eventually(says, async || {
        let (is, body) = stint.admin_get("/readyz").await.ok()?;
        (is == status && body.contains(says)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn older_and_newer_definitions_are_said_and_a_replica_beside_older_ones_does_not_become_ready()
 {
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    readyz(stint, 200, "ok\n").await;
    let (_, whole) = stint.admin_get("/readyz").await.unwrap();
    assert_eq!(whole, "ok\n", "the chart's definitions are the operator's");

    // Newer: a field that the operator does not know.
    let add = format!(
        r#"[{{"op": "add", "path": "{SPEC}/properties/onlyOnMondays", "value": {{"type": "boolean"}}}}]"#
    );
    edit(stint, POLICIES, &add).await;
    readyz(stint, 200, "is newer than the operator or was changed, so the operator does not see spec.onlyOnMondays").await;

    // Older: a field that limits grants is dropped.
    let remove = format!(
        r#"[{{"op": "remove", "path": "{SPEC}/properties/onlyOnMondays"}}, {{"op": "remove", "path": "{SPEC}/properties/suspended"}}]"#
    );
    edit(stint, POLICIES, &remove).await;
    let says = "CustomResourceDefinition 'accesspolicies.stint.dev' is older than the operator or was changed, so the API server drops spec.suspended";
    readyz(stint, 200, says).await;

    stint.kill().await;
    let starting = stint.start();
    tokio::select! {
        () = starting => panic!("it must not become ready"),
        () = readyz(stint, 503, says) => {}
    }
    // The remedy that is named.
    let crds = project().join("crds/stint.dev.yaml").display().to_string();
    let apply = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--filename",
        &crds,
    ];
    let (ok, said) = stint.kubectl(User::Admin, &apply).await;
    assert!(ok, "{said}");
    readyz(stint, 200, "ok\n").await;
}
