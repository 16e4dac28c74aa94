//! The webhook server from outside: real TLS on loopback, and clients that behave well, badly or not at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::client::Resumption;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use stint::tls::bundle::Bundle;
use stint::tls::clients::Authorities;
use stint::tls::{issue, rotate};
use stint::webhook::server::Limits;
use support::webhook::{
    Client, PATH, Webhook, client_config, head, not_hanging, patient, pem_to_der, review_of,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A limit that a test runs into.
const SOON: Duration = Duration::from_millis(50);

#[tokio::test]
async fn one_connection_serves_many_reviews() {
    let webhook = Webhook::start(patient()).await;
    let mut client = webhook.client().await;
    for n in 0..20 {
        let uid = format!("u-{n}");
        let answer = client.review(&uid, "fine").await;
        assert_eq!(answer.verdict(), (uid, true));
        assert!(!answer.closes);
    }
    webhook.stopped().await;
}

#[tokio::test]
async fn a_body_that_is_no_review_is_refused_and_the_connection_lives_on() {
    let webhook = Webhook::start(patient()).await;
    let mut client = webhook.client().await;
    for body in ["", "hello", "{}", "[1]", "{\"request\":{}}", "\u{0}"] {
        let answer = client.post(PATH, body.as_bytes()).await;
        assert_eq!(answer.verdict(), (String::new(), false), "{body}");
        let message = &answer.response()["status"]["message"];
        assert!(message.as_str().unwrap().len() > 10, "{message}");
    }
    assert!(client.review("u", "fine").await.verdict().1);
    webhook.stopped().await;
}

#[tokio::test]
async fn other_kinds_are_for_the_handler_to_judge() {
    let webhook = Webhook::start(patient()).await;
    let body = String::from_utf8(review_of("u", "w", json!({}))).unwrap();
    let body = body.replace("\"WorkloadAccess\"", "\"Widget\"");
    let answer = webhook.client().await.post(PATH, body.as_bytes()).await;
    assert_eq!(answer.verdict(), ("u".to_owned(), false));
    assert_eq!(answer.response()["status"]["message"], "another kind");
    webhook.stopped().await;
}

#[tokio::test]
async fn only_posts_on_known_paths_are_answered_with_reviews() {
    let webhook = Webhook::start(patient()).await;
    let mut client = webhook.client().await;
    client.write(head("GET", PATH, 0).as_bytes()).await;
    assert_eq!(client.answer().await.status, 405);
    assert_eq!(client.post("/elsewhere", b"{}").await.status, 404);
    assert_eq!(client.post("/review?timeout=5s", b"{}").await.status, 200);
    webhook.stopped().await;
}

#[tokio::test]
async fn an_object_of_three_mebibytes_passes() {
    let webhook = Webhook::start(patient()).await;
    let object = json!({"spec": {"reason": "x".repeat(3 << 20)}});
    let body = review_of("u", "fine", object);
    let answer = webhook.client().await.post(PATH, &body).await;
    assert_eq!(answer.verdict(), ("u".to_owned(), true));
    webhook.stopped().await;
}

#[tokio::test]
async fn a_body_over_sixteen_mebibytes_is_refused_and_the_client_hears_it() {
    let webhook = Webhook::start(patient()).await;
    let mut client = webhook.client().await;
    let answer = client.post(PATH, &vec![b' '; (16 << 20) + 1]).await;
    assert_eq!(answer.verdict(), (String::new(), false));
    assert_eq!(answer.response()["status"]["code"], 413);
    assert!(answer.closes);
    client.closed().await;
    webhook.stopped().await;
}

#[tokio::test]
async fn the_answer_to_a_huge_body_is_not_lost_under_what_is_still_being_sent() {
    let limits = Limits {
        body_bytes: 1000,
        ..patient()
    };
    let webhook = Webhook::start(limits).await;
    let answer = webhook
        .client()
        .await
        .post(PATH, &vec![b' '; 32 << 20])
        .await;
    assert_eq!(answer.response()["status"]["code"], 413);
    webhook.stopped().await;
}

#[tokio::test]
async fn a_body_of_unknown_length_is_counted_as_it_comes() {
    let limits = Limits {
        body_bytes: 1000,
        ..patient()
    };
    let webhook = Webhook::start(limits).await;
    let mut client = webhook.client().await;
    let head = "POST /review HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write(head.as_bytes()).await;
    for _ in 0..11 {
        client.write(b"64\r\n").await;
        client.write(&[b' '; 100]).await;
        client.write(b"\r\n").await;
    }
    client.write(b"0\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.response()["status"]["code"], 413);
    client.closed().await;
    webhook.stopped().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_refused() {
    let limits = Limits {
        body: SOON,
        ..patient()
    };
    let webhook = Webhook::start(limits).await;
    let mut client = webhook.client().await;
    client.write(head("POST", PATH, 100).as_bytes()).await;
    client.write(b"{\"request\":").await;
    let answer = client.answer().await;
    assert_eq!(answer.verdict(), (String::new(), false));
    assert_eq!(answer.response()["status"]["code"], 408);
    client.closed().await;
    webhook.stopped().await;
}

#[tokio::test]
async fn a_panic_grants_nothing_and_hurts_nobody_else() {
    let webhook = Webhook::start(patient()).await;
    let mut client = webhook.client().await;
    let answer = client.review("u-7", "panic").await;
    assert_eq!(answer.verdict(), ("u-7".to_owned(), false));
    let status = &answer.response()["status"];
    assert_eq!(status["code"], 500);
    assert_eq!(status["message"], "internal error; nothing was granted");
    assert!(client.review("u-8", "fine").await.verdict().1);
    assert!(
        webhook
            .client()
            .await
            .review("u-9", "fine")
            .await
            .verdict()
            .1
    );
    webhook.stopped().await;
}

#[tokio::test]
async fn a_decision_that_takes_too_long_is_a_refusal() {
    let limits = Limits {
        decision: SOON,
        ..patient()
    };
    let webhook = Webhook::start(limits).await;
    let mut client = webhook.client().await;
    let answer = client.review("u-7", "hang").await;
    assert_eq!(answer.verdict(), ("u-7".to_owned(), false));
    assert_eq!(answer.response()["status"]["code"], 504);
    assert!(client.review("u-8", "fine").await.verdict().1);
    webhook.stopped().await;
}

#[tokio::test]
async fn silent_and_slow_clients_do_not_block_others() {
    let webhook = Webhook::start(patient()).await;
    let mut silent = Vec::new();
    let mut slow = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(webhook.address).await.unwrap());
        let mut client = webhook.client().await;
        client.write(b"POST /review HTTP/1.1\r\nhost: local").await;
        slow.push(client);
    }
    assert!(webhook.client().await.review("u", "fine").await.verdict().1);

    let mut late = slow.pop().unwrap();
    let body = review_of("late", "fine", json!({}));
    let rest = format!("host\r\ncontent-length: {}\r\n\r\n", body.len());
    late.write(rest.as_bytes()).await;
    late.write(&body).await;
    assert!(late.answer().await.verdict().1, "slow is not wrong");
    drop((silent, slow, late));
    webhook.stopped().await;
}

#[tokio::test]
async fn clients_that_never_ask_are_cut_off() {
    let limits = Limits {
        handshake: SOON,
        first_request: SOON,
        ..patient()
    };
    let webhook = Webhook::start(limits).await;
    let mut no_handshake = TcpStream::connect(webhook.address).await.unwrap();
    let end = not_hanging(no_handshake.read(&mut [0])).await;
    assert!(matches!(end, Ok(0) | Err(_)));

    // The handshake of a busy machine may take longer than the limit under test, so this one is given its hour.
    let limits = Limits {
        first_request: SOON,
        ..patient()
    };
    let patient_webhook = Webhook::start(limits).await;
    let nothing = patient_webhook.client().await;
    let mut half = patient_webhook.client().await;
    half.write(b"POST /review HT").await;
    nothing.closed().await;
    half.closed().await;
    webhook.stopped().await;
    patient_webhook.stopped().await;
}

#[tokio::test]
async fn an_idle_connection_outlives_the_limit_for_the_first_request() {
    let limits = Limits {
        first_request: Duration::from_secs(1),
        ..patient()
    };
    let webhook = Webhook::start(limits).await;
    let mut client = webhook.client().await;
    assert!(client.review("u-1", "fine").await.verdict().1);
    let silent_from_now_on = webhook.client().await;
    silent_from_now_on.closed().await;
    let again = client.review("u-2", "fine").await;
    assert!(again.verdict().1, "after more than the limit");
    webhook.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_connections_than_allowed_are_served_at_once() {
    let limits = Limits {
        connections: 2,
        ..patient()
    };
    let webhook = Webhook::start(limits).await;
    let tls = client_config(&webhook.bundle.ca_pem);
    let mut clients = JoinSet::new();
    for n in 0..12 {
        let (address, tls) = (webhook.address, tls.clone());
        clients.spawn(async move {
            let mut client = Client::connect(address, tls).await.unwrap();
            client.review(&n.to_string(), "count").await.verdict().1
        });
    }
    let answered = clients.join_all().await;
    assert_eq!(answered, [true; 12], "those that waited were served");
    assert!(webhook.handler.most.load(Ordering::SeqCst) <= 2);
    webhook.stopped().await;
}

#[tokio::test]
async fn http_1_1_is_chosen_and_both_tls_versions_work() {
    let webhook = Webhook::start(patient()).await;
    for version in [&TLS12, &TLS13] {
        let mut roots = RootCertStore::empty();
        roots.add(pem_to_der(&webhook.bundle.ca_pem)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut client = Client::connect(webhook.address, Arc::new(tls))
            .await
            .unwrap();
        let chosen = client
            .stream
            .get_ref()
            .1
            .alpn_protocol()
            .map(<[u8]>::to_vec);
        assert_eq!(chosen.as_deref(), Some(&b"http/1.1"[..]));
        assert!(client.review("u", "fine").await.verdict().1);
    }
    webhook.stopped().await;
}

/// A file with the certificates of an authority, and a client that shows a certificate of it.
fn clients_of(name: &str) -> (PathBuf, CertifiedIssuer<'static, KeyPair>) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.crt"));
    std::fs::write(&file, authority.pem()).unwrap();
    (file, authority)
}

fn showing(webhook: &Webhook, authority: &CertifiedIssuer<'static, KeyPair>) -> Arc<ClientConfig> {
    let mut client = CertificateParams::default();
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = client.signed_by(&key, authority).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(pem_to_der(&webhook.bundle.ca_pem)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS12, &TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate.der().clone()], key)
        .unwrap();
    Arc::new(config)
}

/// Whether a review that is sent so is answered. TLS 1.3 tells a client only after its handshake that it is not welcome.
async fn is_answered(webhook: &Webhook, tls: Arc<ClientConfig>) -> bool {
    let Ok(mut client) = Client::connect(webhook.address, tls).await else {
        return false;
    };
    let request = head("GET", PATH, 0);
    if client.stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let mut first = [0];
    let read = not_hanging(client.stream.read(&mut first)).await;
    read.is_ok_and(|bytes| bytes > 0)
}

#[tokio::test]
async fn with_an_authority_for_clients_only_its_own_are_answered() {
    let (file, authority) = clients_of("clients");
    let (_, stranger) = clients_of("strangers");
    let clients = Arc::new(Authorities::read(&file).unwrap());
    let webhook = Webhook::start_for(patient(), Some(clients)).await;
    assert!(is_answered(&webhook, showing(&webhook, &authority)).await);
    assert!(!is_answered(&webhook, showing(&webhook, &stranger)).await);
    assert!(!is_answered(&webhook, client_config(&webhook.bundle.ca_pem)).await);
    let open = Webhook::start(patient()).await;
    assert!(is_answered(&open, client_config(&open.bundle.ca_pem)).await);
}

#[tokio::test]
async fn another_authority_for_clients_counts_at_once_and_who_was_welcome_must_come_again() {
    let (file, old) = clients_of("old-clients");
    let (new_file, new) = clients_of("new-clients");
    let clients = Arc::new(Authorities::read(&file).unwrap());
    let webhook = Webhook::start_for(patient(), Some(Arc::clone(&clients))).await;
    let mut connected = Client::connect(webhook.address, showing(&webhook, &old))
        .await
        .unwrap();
    assert!(connected.review("u", "fine").await.verdict().1);
    assert!(!clients.reread().unwrap(), "it says the same");

    // What cannot be used changes nothing.
    std::fs::write(&file, "").unwrap();
    assert!(clients.reread().is_err());
    assert!(is_answered(&webhook, showing(&webhook, &old)).await);
    assert!(connected.review("u", "fine").await.verdict().1);

    std::fs::write(&file, std::fs::read(new_file).unwrap()).unwrap();
    assert!(clients.reread().unwrap());
    let mut rest = Vec::new();
    let closed = not_hanging(connected.stream.read_to_end(&mut rest)).await;
    assert_eq!(
        (closed.unwrap(), rest.len()),
        (0, 0),
        "closed and nothing said"
    );
    assert!(!is_answered(&webhook, showing(&webhook, &old)).await);
    assert!(is_answered(&webhook, showing(&webhook, &new)).await);
}

#[test]
fn a_file_without_an_authority_is_refused_with_its_name() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-authority.crt");
    for (text, why) in [
        ("", "there is none in it"),
        ("hello", "there is none in it"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "PEM",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let told = Authorities::read(&file).unwrap_err().to_string();
        assert!(
            told.contains("no-authority.crt") && told.contains(why),
            "{told}"
        );
    }
    let missing = Authorities::read(Path::new("/nowhere/ca.crt")).unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("/nowhere/ca.crt cannot be read")
    );
}

#[tokio::test]
async fn a_client_of_another_authority_is_not_fooled() {
    let webhook = Webhook::start(patient()).await;
    let names = ["localhost".to_owned()];
    let stranger = issue::first(&issue::Profile::of(&names), Timestamp::now()).unwrap();
    let refused = Client::connect(webhook.address, client_config(&stranger.ca_pem)).await;
    assert!(refused.is_err());
    assert!(webhook.client().await.review("u", "fine").await.verdict().1);
    webhook.stopped().await;
}

/// Twenty certificates after the first; the authority changes half way, as `tls::rotate` would do it.
fn rotations(first: &Bundle) -> Vec<Bundle> {
    let mut bundles = Vec::new();
    let mut current = first.clone();
    for n in 0..20 {
        let now = Timestamp::now();
        current = match n {
            10 => issue::renew_ca(&current, &issue::Profile::of(&current.names), now).unwrap(),
            _ => issue::renew_leaf(&current, &issue::Profile::of(&current.names), now).unwrap(),
        };
        let stays = rotate::next(Some(&current), &issue::Profile::of(&current.names), now).unwrap();
        assert!(matches!(stays, rotate::Step::Keep));
        bundles.push(current.clone());
    }
    bundles
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load_loses_no_request() {
    let webhook = Webhook::start(patient()).await;
    let bundles = rotations(&webhook.bundle);
    let trusted = bundles[19].ca_bundle();
    let done = CancellationToken::new();
    let answered = Arc::new(Semaphore::new(0));
    let mut load = JoinSet::new();
    for keeps_connection in [true, true, false, false] {
        let (address, tls) = (webhook.address, client_config(&trusted));
        let (done, answered) = (done.clone(), answered.clone());
        load.spawn(async move {
            let mut client = Client::connect(address, tls.clone()).await.unwrap();
            while !done.is_cancelled() {
                assert!(client.review("u", "fine").await.verdict().1);
                answered.add_permits(1);
                if !keeps_connection {
                    client = Client::connect(address, tls.clone()).await.unwrap();
                }
            }
        });
    }
    for bundle in &bundles {
        let some_requests = not_hanging(answered.acquire_many(20)).await;
        some_requests.unwrap().forget();
        webhook.resolver.set(bundle).unwrap();
        let client = Client::connect(webhook.address, client_config(&trusted)).await;
        assert_eq!(client.unwrap().certificate(), pem_to_der(&bundle.cert_pem));
    }
    done.cancel();
    while let Some(client) = load.join_next().await {
        client.expect("each request was answered");
    }
    webhook.stopped().await;
}

#[tokio::test]
async fn a_client_that_could_resume_sees_the_new_certificate_too() {
    let webhook = Webhook::start(patient()).await;
    let mut tls = (*client_config(&webhook.bundle.ca_pem)).clone();
    tls.resumption = Resumption::in_memory_sessions(8);
    let tls = Arc::new(tls);
    let mut before = Client::connect(webhook.address, tls.clone()).await.unwrap();
    assert!(before.review("u", "fine").await.verdict().1);

    let names = webhook.bundle.names.clone();
    let next = issue::renew_leaf(
        &webhook.bundle,
        &issue::Profile::of(&names),
        Timestamp::now(),
    )
    .unwrap();
    webhook.resolver.set(&next).unwrap();
    let after = Client::connect(webhook.address, tls).await.unwrap();
    assert_eq!(after.certificate(), pem_to_der(&next.cert_pem));
    assert!(
        before.review("u", "fine").await.verdict().1,
        "old connections live on"
    );
    webhook.stopped().await;
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_asked_and_closes_what_is_idle() {
    let webhook = Webhook::start(patient()).await;
    let mut idle = webhook.client().await;
    assert!(idle.review("u-1", "fine").await.verdict().1);
    let mut busy = webhook.client().await;
    busy.write(head("POST", PATH, review_of("u-2", "wait", json!({})).len()).as_bytes())
        .await;
    busy.write(&review_of("u-2", "wait", json!({}))).await;
    let being_handled = not_hanging(webhook.handler.waiting.acquire()).await;
    being_handled.unwrap().forget();

    webhook.stop.cancel();
    idle.closed().await;
    assert!(!webhook.task.is_finished());
    webhook.handler.go_on.add_permits(1);
    let answer = busy.answer().await;
    assert_eq!(answer.verdict(), ("u-2".to_owned(), true));
    busy.closed().await;
    let address = webhook.address;
    webhook.stopped().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let limits = Limits {
        drain: SOON,
        ..patient()
    };
    let webhook = Webhook::start(limits).await;
    let mut client = webhook.client().await;
    let body = review_of("u", "wait", json!({}));
    client
        .write(head("POST", PATH, body.len()).as_bytes())
        .await;
    client.write(&body).await;
    not_hanging(webhook.handler.waiting.acquire())
        .await
        .unwrap()
        .forget();
    webhook.stopped().await;
    client.closed().await;
}
