//! What somebody does to the webhook configurations, on a real control plane: what the operator says, and which remedy works.

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use support::cluster::{User, eventually};
use support::operator::Stint;

/// The two tests edit what they share.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const VALIDATING: &str = "validatingwebhookconfigurations";

/// Changes one of them as an administrator.
async fn edit(stint: &Stint, name: &str, patch: &str) {
    let args = ["patch", VALIDATING, name, "--type=json", "--patch", patch];
    let (ok, said) = stint.kubectl(User::Admin, &args).await;
    assert!(ok, "{said}");
}

/// Waits until a replica that is ready says this.
async fn is_said(stint: &Stint, what: &str) -> String {
    eventually(what, async || {
        let (status, body) = stint.admin_get("/readyz").await.ok()?;
        (status == 200 && body.contains(what)).then_some(body)
    })
    .await
}

async fn nothing_is_said(stint: &Stint) {
    eventually("nothing is wrong", async || {
        let (status, body) = stint.admin_get("/readyz").await.ok()?;
        (status == 200 && body == "ok\n").then_some(())
    })
    .await;
}

async fn upgrade(stint: &Stint) {
    let admin = stint.cluster().kubeconfig(User::Admin);
    stint.helm_upgrade_as(&admin).await.unwrap();
}

#[tokio::test]
async fn an_edited_configuration_is_said_and_the_remedy_that_is_named_works() {
    let _alone = ALONE.lock().await;
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    nothing_is_said(stint).await;
    edit(
        stint,
        "stint",
        r#"[{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"},
            {"op": "replace", "path": "/webhooks/1/objectSelector", "value": {"matchLabels": {"reviewed": "yes"}}}]"#,
    )
    .await;
    let said = is_said(stint, "`failurePolicy` is Ignore, not Fail").await;
    let named = "ValidatingWebhookConfiguration 'stint' was edited: delete it and upgrade or sync the chart at once";
    assert!(said.contains(named), "{said}");
    assert!(
        said.contains("`objectSelector` leaves objects out"),
        "{said}"
    );
    let (_, metrics) = stint.admin_get("/metrics").await.unwrap();
    let counted = "stint_webhook_faults{kind=\"ValidatingWebhookConfiguration\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    let events: Api<Event> = Api::all(stint.cluster().admin());
    eventually("an Event tells of it", async || {
        let all = events.list(&ListParams::default()).await.ok()?;
        let told = |e: &Event| e.reason.as_deref() == Some("WebhookConfigurationEdited");
        all.into_iter().find(told)
    })
    .await;

    // An upgrade sets what the chart renders, and leaves what somebody added.
    upgrade(stint).await;
    let said = eventually("the upgrade is seen", async || {
        let said = is_said(stint, "`objectSelector` leaves objects out").await;
        (!said.contains("`failurePolicy`")).then_some(said)
    })
    .await;
    assert!(said.contains(named), "{said}");

    let (ok, said) = stint
        .kubectl(User::Admin, &["delete", VALIDATING, "stint"])
        .await;
    assert!(ok, "{said}");
    is_said(stint, "'stint' does not exist").await;
    upgrade(stint).await;
    nothing_is_said(stint).await;
}

#[tokio::test]
async fn a_guard_that_is_taken_away_or_blinded_is_said() {
    let _alone = ALONE.lock().await;
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    edit(
        stint,
        "stint-guard",
        r#"[{"op": "replace", "path": "/webhooks/1/rules/0/resources", "value": ["roles"]}]"#,
    )
    .await;
    is_said(
        stint,
        "guard.stint.dev: `rules` leave out what must be reviewed",
    )
    .await;
    let (ok, said) = stint
        .kubectl(User::Admin, &["delete", VALIDATING, "stint-guard"])
        .await;
    assert!(ok, "{said}");
    is_said(stint, "'stint-guard' does not exist, so nobody looks at").await;
    upgrade(stint).await;
    nothing_is_said(stint).await;
}
