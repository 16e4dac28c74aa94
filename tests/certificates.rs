//! The webhook's certificate, whoever makes it: over real TLS, trusted by nothing but what the webhook configurations say.

use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::registered;

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Parser;
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use stint::app::{Operator, Shutdown, start};
use stint::clock::{Clock, SystemClock};
use stint::cluster::certificate::{Certificates, Fault};
use stint::config::{Cli, Command, RunArgs};
use stint::ops::metrics::Metrics;
use stint::tls::bundle::Bundle;
use stint::tls::issue;
use support::fake_api::{Call, FakeApi, Harm, on};
use support::webhook::{Client, Webhook, not_hanging, patient, pem_to_der};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "stint-system";
const SECRET: &str = "stint-webhook-certificate";
const KINDS: [&str; 2] = [
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
];
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Every configuration that the chart installs, by kind and name.
const CONFIGURATIONS: [(&str, &str); 3] = [
    (KINDS[0], "stint"),
    (KINDS[1], "stint"),
    (KINDS[1], "stint-guard"),
];

/// What the chart installs: the configurations, without a caBundle.
fn cluster() -> FakeApi {
    let api = FakeApi::new(Timestamp::now());
    api.namespace(NAMESPACE, json!({}));
    for object in registered::configurations("https://localhost") {
        api.seed(object);
    }
    api
}

/// With a guard, and with the timeout that the chart gives by default.
fn args(mode: &str) -> RunArgs {
    let mode = format!("--certificate-mode={mode}");
    let flags = [
        "stint",
        "run",
        "--namespace=stint-system",
        "--webhook-name=localhost",
        &mode,
    ];
    let args = match Cli::parse_from(flags).command {
        Command::Run(args) => *args,
        _ => unreachable!("asked to run"),
    };
    RunArgs {
        guard_configuration: Some("stint-guard".to_owned()),
        guard_failure_policy: Some("Ignore".to_owned()),
        guard_exempt_groups: vec!["system:masters".to_owned()],
        webhook_timeout: Some(5),
        ..args
    }
}

/// A replica's certificate, and a webhook server that serves it.
struct Replica {
    certificates: Certificates,
    webhook: Webhook,
    metrics: Arc<Metrics>,
}

impl Replica {
    async fn new(api: &FakeApi, user: &str, mode: &str) -> Self {
        let webhook = Webhook::start(patient()).await;
        let metrics = Arc::new(Metrics::new());
        let client = api.client_as(user, &[]);
        let resolver = webhook.resolver.clone();
        let certificates = Certificates::new(client, &args(mode), resolver, Arc::clone(&metrics));
        Self {
            certificates,
            webhook,
            metrics,
        }
    }

    /// One review as the API server would send it: trusting what each configuration says, at this time.
    async fn is_believed(&self, api: &FakeApi, now: Timestamp) -> bool {
        for (kind, name) in CONFIGURATIONS {
            let tls = trusting(&published_in(api, kind, name), now);
            let Ok(mut client) = Client::connect(self.webhook.address, tls).await else {
                return false;
            };
            assert!(client.review("u", "fine").await.verdict().1);
        }
        true
    }

    async fn keep(&self, now: Timestamp) -> Vec<Fault> {
        self.certificates.keep(now).await
    }
}

async fn pair(api: &FakeApi, mode: &str) -> [Replica; 2] {
    [
        Replica::new(api, "one", mode).await,
        Replica::new(api, "two", mode).await,
    ]
}

fn published(api: &FakeApi, kind: &str) -> String {
    published_in(api, kind, "stint")
}

/// The one caBundle of all entries, PEM.
fn published_in(api: &FakeApi, kind: &str, name: &str) -> String {
    let object = api.get(kind, "", name).unwrap();
    let webhooks = object["webhooks"].as_array().unwrap();
    let bundle = webhooks[0]["clientConfig"]["caBundle"]
        .as_str()
        .unwrap_or_default();
    for webhook in webhooks {
        assert_eq!(
            webhook["clientConfig"]["caBundle"]
                .as_str()
                .unwrap_or_default(),
            bundle
        );
        let url = webhook["clientConfig"]["url"].as_str().unwrap();
        assert!(
            url.starts_with("https://localhost/"),
            "nothing else is touched"
        );
    }
    String::from_utf8(STANDARD.decode(bundle).unwrap()).unwrap()
}

/// The time that a client believes, looked at when it checks a certificate.
#[derive(Debug)]
struct At(Arc<Mutex<Timestamp>>);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.lock().unwrap().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

fn trusting(pem: &str, now: Timestamp) -> Arc<ClientConfig> {
    trusting_by(pem, Arc::new(Mutex::new(now)))
}

fn trusting_by(pem: &str, clock: Arc<Mutex<Timestamp>>) -> Arc<ClientConfig> {
    use rustls::pki_types::pem::PemObject;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in rustls::pki_types::CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(authority.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_details(provider, Arc::new(At(clock)))
        .with_protocol_versions(&[&TLS12, &TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn made(now: Timestamp) -> Bundle {
    issue::first(&issue::Profile::of(&["localhost".to_owned()]), now).unwrap()
}

/// What people put into a Secret: no key of the authority.
fn give(api: &FakeApi, bundle: &Bundle, ca_pem: &str) {
    let data = json!({
        "tls.crt": STANDARD.encode(&bundle.cert_pem), "tls.key": STANDARD.encode(&bundle.key_pem),
        "ca.crt": STANDARD.encode(ca_pem),
    });
    api.seed(
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET, "namespace": NAMESPACE}, "data": data}),
    );
}

fn writes(api: &FakeApi, resource: &str) -> usize {
    let calls = api.writes();
    calls
        .iter()
        .filter(|c| c.resource == resource && c.status < 300)
        .count()
}

#[tokio::test]
async fn two_replicas_that_start_at_once_make_one_authority() {
    let now = Timestamp::now();
    // The other one is held up at another call each time.
    for held_up in 0..8 {
        let api = cluster();
        let [one, two] = pair(&api, "operator").await;
        let calls = std::sync::atomic::AtomicUsize::new(0);
        let nth = move |c: &Call| {
            c.user == "two" && calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == held_up
        };
        api.harm(
            Box::new(nth),
            Harm::Delay(Duration::from_millis(30)),
            Some(1),
        );
        let (a, b) = tokio::join!(one.keep(now), two.keep(now));
        assert_eq!((a, b), (vec![], vec![]), "held up at call {held_up}");
        assert_eq!(writes(&api, "secrets"), 1);
        assert!(one.is_believed(&api, now).await && two.is_believed(&api, now).await);
        let settled = api.writes().len();
        let (a, b) = tokio::join!(one.keep(now), two.keep(now));
        assert_eq!((a, b), (vec![], vec![]));
        assert_eq!(
            api.writes().len(),
            settled,
            "nothing is written when nothing changes"
        );
    }
}

#[tokio::test]
async fn a_replica_that_was_held_up_publishes_nothing_old() {
    let (api, now) = (cluster(), Timestamp::now());
    let [one, two] = pair(&api, "operator").await;
    one.keep(now).await;
    two.keep(now).await;
    // Somebody took the bundle away, so both publish; the authority changes while what one sends is under way.
    for kind in KINDS {
        let mut object = api.get(kind, "", "stint").unwrap();
        for webhook in object["webhooks"].as_array_mut().unwrap() {
            webhook["clientConfig"]
                .as_object_mut()
                .unwrap()
                .remove("caBundle");
        }
        api.seed(object);
    }
    let held_up = |c: &Call| c.user == "one" && c.method == "PATCH";
    api.harm(
        Box::new(held_up),
        Harm::Late(Duration::from_millis(300)),
        Some(1),
    );
    let (a, b) = tokio::join!(one.keep(now), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        api.remove("secrets", NAMESPACE, SECRET).unwrap();
        two.keep(now).await
    });
    assert_eq!((a, b), (vec![], vec![]));
    assert_eq!(
        writes(&api, "secrets"),
        2,
        "or the authority did not change"
    );
    assert!(one.is_believed(&api, now).await && two.is_believed(&api, now).await);
}

/// A replica each looks at another minute; reviews come in all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_rotations_under_load_lose_no_review() {
    let api = cluster();
    let begin = Timestamp::now();
    let replicas = pair(&api, "operator").await;
    for replica in &replicas {
        assert_eq!(replica.keep(begin).await, []);
    }
    let clock = Arc::new(Mutex::new(begin));
    let (done, answered) = (CancellationToken::new(), Arc::new(Semaphore::new(0)));
    let mut load = JoinSet::new();
    for (number, keeps) in [(0, true), (1, true), (0, false), (1, false)] {
        let (address, api) = (replicas[number].webhook.address, api.clone());
        let (clock, done, answered) = (clock.clone(), done.clone(), answered.clone());
        load.spawn(async move {
            let connect = async || {
                let tls = trusting_by(&published(&api, KINDS[number]), clock.clone());
                Client::connect(address, tls).await.expect("believed")
            };
            let mut client = connect().await;
            while !done.is_cancelled() {
                assert!(client.review("u", "fine").await.verdict().1);
                answered.add_permits(1);
                if !keeps {
                    client = connect().await;
                }
            }
        });
    }
    let mut rotations = 0;
    let mut served = replicas[0].webhook_certificate(&api, begin).await;
    while rotations < 100 {
        // What was due at the last look is renewed at this one, and has not expired yet.
        let now = *clock.lock().unwrap() + DAY * 7;
        *clock.lock().unwrap() = now;
        for now in [now, now + MINUTE, now + MINUTE * 2] {
            for replica in &replicas {
                assert_eq!(replica.keep(now).await, []);
                not_hanging(answered.acquire_many(4))
                    .await
                    .unwrap()
                    .forget();
            }
        }
        let newest = replicas[0].webhook_certificate(&api, now).await;
        rotations += u32::from(newest != served);
        served = newest;
    }
    done.cancel();
    while let Some(client) = load.join_next().await {
        client.expect("each review was answered");
    }
    let authorities = writes(&api, KINDS[0]);
    assert!(
        authorities > 8,
        "the authority changed too: {authorities} writes"
    );
}

impl Replica {
    async fn webhook_certificate(&self, api: &FakeApi, now: Timestamp) -> Vec<u8> {
        let tls = trusting(&published(api, KINDS[0]), now);
        let client = Client::connect(self.webhook.address, tls).await.unwrap();
        client.certificate().to_vec()
    }
}

/// As the runbook of StintCertificateExpiring says.
#[tokio::test]
async fn a_secret_that_is_deleted_is_made_anew_and_both_authorities_are_trusted_for_a_while() {
    let (api, now) = (cluster(), Timestamp::now());
    let [one, two] = pair(&api, "operator").await;
    assert_eq!((one.keep(now).await, two.keep(now).await), (vec![], vec![]));
    let (first, served) = (
        published(&api, KINDS[0]),
        one.webhook_certificate(&api, now).await,
    );
    api.remove("secrets", NAMESPACE, SECRET).unwrap();
    assert_eq!(one.keep(now).await, []);
    assert!(published(&api, KINDS[0]).ends_with(&first));
    assert_eq!(
        one.webhook_certificate(&api, now).await,
        served,
        "API servers learn of the new authority before they meet its certificate"
    );
    assert!(two.is_believed(&api, now).await);
    for later in [MINUTE, MINUTE * 2, MINUTE * 6] {
        let now = now + later;
        assert_eq!((one.keep(now).await, two.keep(now).await), (vec![], vec![]));
        assert!(one.is_believed(&api, now).await && two.is_believed(&api, now).await);
        assert_ne!(one.webhook_certificate(&api, now).await, served);
    }
    assert!(
        !published(&api, KINDS[0]).contains(&first),
        "and then the new one alone"
    );
}

/// Each time before any replica has served what was made the time before.
#[tokio::test]
async fn what_is_still_served_is_trusted_when_the_secret_is_deleted_again() {
    let (api, now) = (cluster(), Timestamp::now());
    let [one, two] = pair(&api, "operator").await;
    assert_eq!((one.keep(now).await, two.keep(now).await), (vec![], vec![]));
    let served = two.webhook_certificate(&api, now).await;
    for second in 0..3 {
        let now = now + SignedDuration::from_secs(second);
        api.remove("secrets", NAMESPACE, SECRET).unwrap();
        assert_eq!(one.keep(now).await, []);
        assert_eq!(two.webhook_certificate(&api, now).await, served);
        assert!(one.is_believed(&api, now).await && two.is_believed(&api, now).await);
    }
    for later in [MINUTE, MINUTE * 2, MINUTE * 7] {
        let now = now + later;
        assert_eq!((one.keep(now).await, two.keep(now).await), (vec![], vec![]));
        assert!(one.is_believed(&api, now).await && two.is_believed(&api, now).await);
    }
    let alone = published(&api, KINDS[0]);
    assert_eq!(alone.matches("BEGIN CERTIFICATE").count(), 1);
}

#[tokio::test]
async fn a_given_certificate_is_served_and_its_authority_published() {
    let (api, now) = (cluster(), Timestamp::now());
    let replica = Replica::new(&api, "one", "secret").await;
    let faults = replica.keep(now).await;
    assert!(
        faults[0].text.contains("does not exist; make it"),
        "{faults:?}"
    );
    assert!(!replica.certificates.is_serving(now));
    let bundle = made(now);
    give(&api, &bundle, &bundle.ca_pem);
    assert_eq!(replica.keep(now).await, []);
    assert!(replica.is_believed(&api, now).await);
    assert_eq!(published(&api, KINDS[0]), bundle.ca_pem);
    assert_eq!(writes(&api, "secrets"), 0, "it is not the operator's");
    let settled = api.writes().len();
    replica.keep(now + MINUTE).await;
    assert_eq!(api.writes().len(), settled);
}

#[tokio::test]
async fn a_given_authority_is_exchanged_with_both_trusted_for_a_while() {
    let (api, now) = (cluster(), Timestamp::now());
    let [one, two] = pair(&api, "secret").await;
    let (old, new) = (made(now), made(now));
    give(&api, &old, &old.ca_pem);
    assert_eq!((one.keep(now).await, two.keep(now).await), (vec![], vec![]));
    give(&api, &new, &new.ca_pem);
    assert_eq!(one.keep(now).await, []);
    assert!(one.is_believed(&api, now).await);
    assert!(
        two.is_believed(&api, now).await,
        "it serves the old one still"
    );
    let mut bundle = String::new();
    for minute in 1..8 {
        let now = now + MINUTE * minute;
        assert_eq!((one.keep(now).await, two.keep(now).await), (vec![], vec![]));
        assert!(one.is_believed(&api, now).await && two.is_believed(&api, now).await);
        bundle = published(&api, KINDS[1]);
    }
    assert_eq!(bundle, new.ca_pem, "and then the new one alone");
}

#[tokio::test]
async fn what_is_wrong_with_a_given_certificate_is_said_and_the_last_good_one_stays() {
    let (api, now) = (cluster(), Timestamp::now());
    let replica = Replica::new(&api, "one", "secret").await;
    let (good, other) = (made(now), made(now));
    give(&api, &good, &good.ca_pem);
    assert_eq!(replica.keep(now).await, []);
    let wrong_key = Bundle {
        key_pem: other.key_pem.clone(),
        ..good.clone()
    };
    let expired = made(now - DAY * 40);
    for (bundle, ca, says) in [
        (&wrong_key, &good.ca_pem, "do not belong together"),
        (&expired, &expired.ca_pem, "expired at"),
        (&good, &other.ca_pem, "another authority signed it"),
    ] {
        give(&api, bundle, ca);
        let faults = replica.keep(now).await;
        assert!(faults[0].text.contains(says), "{faults:?}");
        assert_eq!(faults[0].reason, Some("CertificateUnusable"));
        assert!(replica.is_believed(&api, now).await, "{says}");
        let text = replica.metrics.encode().unwrap();
        assert!(text.contains("stint_webhook_faults{kind=\"Secret\"} 1"));
    }
    assert!(
        !replica.certificates.is_serving(now + DAY * 31),
        "until it expires too"
    );
    give(&api, &other, &other.ca_pem);
    assert_eq!(replica.keep(now).await, []);
    assert!(replica.is_believed(&api, now).await);
}

#[tokio::test]
async fn cert_manager_publishes_and_the_operator_writes_nothing() {
    let (api, now) = (cluster(), Timestamp::now());
    let replica = Replica::new(&api, "one", "cert-manager").await;
    let (old, new) = (made(now), made(now));
    let inject = |configurations: &[(&str, &str)], pem: &str| {
        for (kind, name) in configurations {
            let mut object = api.get(kind, "", name).unwrap();
            for webhook in object["webhooks"].as_array_mut().unwrap() {
                webhook["clientConfig"]["caBundle"] = STANDARD.encode(pem).into();
            }
            api.seed(object);
        }
    };
    give(&api, &old, &old.ca_pem);
    let faults = replica.keep(now).await;
    assert!(
        faults[0].text.contains("does not trust the certificate"),
        "{faults:?}"
    );
    inject(&CONFIGURATIONS[..2], &old.ca_pem);
    let faults = replica.keep(now).await;
    let text = "ValidatingWebhookConfiguration 'stint-guard' does not trust the certificate";
    assert!(faults[0].text.starts_with(text), "{faults:?}");
    assert!(faults.len() == 1 && !faults[0].stops, "{faults:?}");
    inject(&CONFIGURATIONS[2..], &old.ca_pem);
    assert_eq!(replica.keep(now).await, []);
    assert!(replica.is_believed(&api, now).await);
    // The injector is late: the certificate before stays until it has come.
    give(&api, &new, &new.ca_pem);
    assert_eq!(replica.keep(now).await.len(), 1);
    assert!(replica.is_believed(&api, now).await);
    inject(&CONFIGURATIONS, &new.ca_pem);
    assert_eq!(replica.keep(now).await, []);
    assert!(replica.is_believed(&api, now).await);
    assert_eq!(api.writes().len(), 0);
}

#[tokio::test]
async fn what_somebody_edits_is_repaired_and_what_somebody_deletes_is_said() {
    let (api, now) = (cluster(), Timestamp::now());
    let replica = Replica::new(&api, "one", "operator").await;
    assert_eq!(replica.keep(now).await, []);
    let mut edited = api.get(KINDS[0], "", "stint").unwrap();
    edited["webhooks"][1]["clientConfig"]["caBundle"] = STANDARD.encode(made(now).ca_pem).into();
    api.seed(edited);
    assert_eq!(replica.keep(now).await, []);
    assert!(replica.is_believed(&api, now).await);

    let mut cut = api.get(KINDS[1], "", "stint").unwrap();
    cut["webhooks"].as_array_mut().unwrap().remove(0);
    api.seed(cut);
    let faults = replica.keep(now).await;
    assert!(
        faults[0].text.contains("lacks workloadaccess.stint.dev"),
        "{faults:?}"
    );

    api.remove(KINDS[0], "", "stint");
    let faults = replica.keep(now).await;
    assert_eq!(faults.len(), 2);
    assert!(
        faults[0]
            .text
            .starts_with("MutatingWebhookConfiguration 'stint' does not exist")
    );
    assert_eq!(faults[0].reason, Some("WebhookConfigurationDamaged"));
    assert!(
        replica.certificates.is_serving(now),
        "nothing stops because of it"
    );
    let text = replica.metrics.encode().unwrap();
    assert!(text.contains("stint_webhook_faults{kind=\"MutatingWebhookConfiguration\"} 1"));
    assert!(text.contains("stint_webhook_faults{kind=\"ValidatingWebhookConfiguration\"} 1"));
    assert!(text.contains("stint_webhook_faults{kind=\"Secret\"} 0"));
}

#[tokio::test]
async fn every_edit_that_takes_something_from_the_webhook_is_said_with_the_remedy() {
    let (api, now) = (cluster(), Timestamp::now());
    let replica = Replica::new(&api, "one", "operator").await;
    assert_eq!(replica.keep(now).await, []);
    let mut said = 0;
    for (kind, name) in CONFIGURATIONS {
        let whole = api.get(kind, "", name).unwrap();
        for place in 0..whole["webhooks"].as_array().unwrap().len() {
            let entry = whole["webhooks"][place]["name"].as_str().unwrap();
            for (says, edit) in registered::edits() {
                let mut edited = whole.clone();
                edit(&mut registered::webhooks(&mut edited)[place]);
                api.seed(edited);
                let faults = replica.keep(now).await;
                let texts: Vec<&str> = faults.iter().map(|f| f.text.as_str()).collect();
                let text = texts.concat();
                assert_eq!(faults.len(), 1, "{entry}: {says}: {text}");
                assert!(text.contains(&format!("{entry}: {says}")), "{says}: {text}");
                assert!(
                    text.contains("delete it and upgrade or sync the chart"),
                    "{text}"
                );
                assert_eq!(faults[0].about.name.as_deref(), Some(name));
                assert!(!faults[0].stops, "one replica less makes it worse: {text}");
                said += 1;
            }
        }
        api.seed(whole);
        assert_eq!(replica.keep(now).await, [], "{name} is as it was");
    }
    assert_eq!(said, 10 * registered::edits().len());
}

#[tokio::test]
async fn a_guard_without_configuration_is_said_and_stops_nobody() {
    let (api, now) = (cluster(), Timestamp::now());
    let replica = Replica::new(&api, "one", "operator").await;
    api.remove(KINDS[1], "", "stint-guard");
    let faults = replica.keep(now).await;
    assert_eq!(faults.len(), 1, "{faults:?}");
    let text = "ValidatingWebhookConfiguration 'stint-guard' does not exist, so nobody looks at";
    assert!(faults[0].text.starts_with(text), "{faults:?}");
    assert!(!faults[0].stops);
    let metrics = replica.metrics.encode().unwrap();
    assert!(metrics.contains("stint_webhook_faults{kind=\"ValidatingWebhookConfiguration\"} 1"));
}

/// Asks until the answer has this status and says this; the whole operator runs.
async fn readyz(admin: std::net::SocketAddr, status: &str, says: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let asked = async {
        loop {
            let mut stream = tokio::net::TcpStream::connect(admin).await.unwrap();
            let request = b"GET /readyz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            if text.starts_with(&format!("HTTP/1.1 {status}")) && text.contains(says) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    not_hanging(asked).await
}

#[tokio::test]
async fn readyz_and_an_event_say_what_is_wrong_and_a_change_is_noticed_at_once() {
    let api = cluster();
    let now = Timestamp::now();
    let (good, other) = (made(now), made(now));
    let wrong_key = Bundle {
        key_pem: other.key_pem.clone(),
        ..good.clone()
    };
    give(&api, &wrong_key, &good.ca_pem);
    let listen = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (webhook, admin) = (listen().await, listen().await);
    let address = admin.local_addr().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let operator = Operator {
        args: args("secret"),
        client: api.client_as("stint", &[]),
        clock,
        webhook,
        admin,
    };
    let _tasks = start(operator, &Shutdown::default()).unwrap();
    readyz(
        address,
        "503",
        "certificate: Secret 'stint-webhook-certificate': ",
    )
    .await;
    give(&api, &good, &good.ca_pem);
    let text = readyz(address, "200", "ok").await;
    assert!(text.ends_with("\r\n\r\nok\n"), "{text}");
    give(&api, &wrong_key, &good.ca_pem);
    let text = readyz(address, "200", "warning: certificate: Secret ").await;
    assert!(
        text.contains("the Secret needs `tls.crt` with its key in `tls.key`"),
        "{text}"
    );
    api.remove(KINDS[0], "", "stint");
    give(&api, &good, &good.ca_pem);
    readyz(
        address,
        "200",
        "MutatingWebhookConfiguration 'stint' does not exist",
    )
    .await;
    // What was edited is said too, and a replica that knows of it is no less ready.
    for mut object in registered::configurations("https://localhost") {
        if object["kind"] == "MutatingWebhookConfiguration" {
            registered::webhooks(&mut object)[0]["failurePolicy"] = "Ignore".into();
            api.seed(object);
        }
    }
    readyz(
        address,
        "200",
        "receipt.workloadaccess.stint.dev: `failurePolicy` is Ignore, not Fail",
    )
    .await;
    let events = api.list("events", "");
    let told = |reason: &str| events.iter().filter(|e| e["reason"] == reason).count();
    assert!(told("CertificateUnusable") >= 1, "{events:?}");
    assert_eq!(told("WebhookConfigurationDamaged"), 1, "{events:?}");
    assert_eq!(told("WebhookConfigurationEdited"), 1, "{events:?}");
    assert!(!api.calls().iter().any(|c| (on("PATCH", "secrets"))(c)));
}

#[test]
fn the_served_key_is_never_shown() {
    let given = made(Timestamp::now());
    assert!(!format!("{given:?}").contains("PRIVATE"));
    assert!(!pem_to_der(&given.cert_pem).is_empty());
}
