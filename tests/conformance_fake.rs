//! The fake API server does what the table says a real one does.

use serde_json::json;
use support::{
    conformance::{self, Ctx},
    fake_api::FakeApi,
};

#[tokio::test(start_paused = true)]
async fn the_fake_does_what_a_real_server_does() {
    let api = FakeApi::new("2030-01-01T00:00:00Z".parse().unwrap());
    api.with_controller_manager();
    // The history of a real server does not reach back to version 1 either.
    api.compact();
    let rows = conformance::rows();
    let mut failures = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let namespace = format!("row-{i}");
        api.namespace(&namespace, json!({}));
        let client = api.client();
        let ctx = Ctx { client, namespace };
        failures.extend(conformance::run(row, ctx).await.err());
    }
    conformance::report(rows.len(), &failures);
}
