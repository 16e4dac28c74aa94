//! A webhook server on loopback with a handler that obeys the test, and a client that can be as rude as a test wants.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Bytes;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use stint::tls::bundle::Bundle;
use stint::tls::clients::Authorities;
use stint::tls::issue;
use stint::tls::resolver::{Resolver, server_config};
use stint::webhook::review;
use stint::webhook::server::{Handler, Limits, Tls, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

pub const PATH: &str = "/review";
pub const HOUR: Duration = Duration::from_secs(3600);
/// No answer after this long is a hang; nothing is measured with it.
pub const HANG: Duration = Duration::from_secs(60);

/// Does what the name of the object says.
pub struct Obedient {
    /// One permit for each `wait` request that is being handled.
    pub waiting: Semaphore,
    /// One permit lets one `wait` request go on.
    pub go_on: Semaphore,
    pub now: AtomicUsize,
    pub most: AtomicUsize,
}

impl Handler for Obedient {
    async fn handle(&self, path: &str, body: Bytes) -> Option<Bytes> {
        if path != PATH {
            return None;
        }
        let review = match review::parse(&body) {
            Ok(review) => review,
            Err(malformed) => return Some(malformed.answer()),
        };
        let uid = &review.uid;
        Some(match review.name.as_str() {
            "panic" => panic!("as the test asked"),
            "hang" => pending().await,
            "wait" => {
                self.waiting.add_permits(1);
                self.go_on.acquire().await.unwrap().forget();
                review::allow(uid, &[])
            }
            "count" => {
                let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                self.now.fetch_sub(1, Ordering::SeqCst);
                review::allow(uid, &[])
            }
            _ if review.kind.kind != "WorkloadAccess" => {
                review::error(uid, 400, "BadRequest", "another kind")
            }
            _ => review::allow(uid, &[]),
        })
    }
}

pub struct Webhook {
    pub address: SocketAddr,
    pub bundle: Bundle,
    pub resolver: Arc<Resolver>,
    pub handler: Arc<Obedient>,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
}

/// Limits that no test runs into unless it sets one of them.
pub fn patient() -> Limits {
    Limits {
        handshake: HOUR,
        first_request: HOUR,
        idle: HOUR,
        body: HOUR,
        decision: HOUR,
        drain: HOUR,
        ..Limits::default()
    }
}

impl Webhook {
    pub async fn start(limits: Limits) -> Self {
        Self::start_for(limits, None).await
    }

    /// One that answers only who shows a certificate of these authorities.
    pub async fn start_for(limits: Limits, clients: Option<Arc<Authorities>>) -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let bundle = issue::first(&issue::Profile::of(&names), Timestamp::now()).unwrap();
        let resolver = Arc::new(Resolver::default());
        resolver.set(&bundle).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler = Arc::new(Obedient {
            waiting: Semaphore::new(0),
            go_on: Semaphore::new(0),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let stop = CancellationToken::new();
        let config = Arc::new(server_config(resolver.clone(), clients.clone()).unwrap());
        let mut tls = Tls::from(config);
        if let Some(clients) = clients {
            tls.renewed = clients.renewed();
        }
        let task = tokio::spawn(serve(listener, tls, handler.clone(), limits, stop.clone()));
        Self {
            address,
            bundle,
            resolver,
            handler,
            stop,
            task,
        }
    }

    pub async fn client(&self) -> Client {
        let tls = client_config(&self.bundle.ca_bundle());
        Client::connect(self.address, tls).await.unwrap()
    }

    /// Stops and waits until the server says that it is done.
    pub async fn stopped(self) {
        self.stop.cancel();
        not_hanging(self.task).await.unwrap();
    }
}

pub fn client_config(trusted_pem: &str) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(trusted_pem.as_bytes()) {
        roots.add(authority.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS12, &TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

pub async fn not_hanging<T>(work: impl Future<Output = T>) -> T {
    timeout(HANG, work).await.expect("it hangs")
}

pub struct Client {
    pub stream: TlsStream<TcpStream>,
}

pub struct Answer {
    pub status: u16,
    pub closes: bool,
    pub body: Vec<u8>,
}

impl Answer {
    /// The response of the review, after the checks that hold for each answer to a POST on a served path.
    pub fn response(&self) -> Value {
        assert_eq!(self.status, 200);
        let review: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(review["kind"], "AdmissionReview");
        review["response"].clone()
    }

    pub fn verdict(&self) -> (String, bool) {
        let response = self.response();
        let uid = response["uid"].as_str().unwrap().to_owned();
        (uid, response["allowed"].as_bool().unwrap())
    }
}

impl Client {
    pub async fn connect(address: SocketAddr, tls: Arc<ClientConfig>) -> std::io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = not_hanging(TlsConnector::from(tls).connect(name, tcp)).await?;
        Ok(Self { stream })
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub async fn post(&mut self, path: &str, body: &[u8]) -> Answer {
        self.write(head("POST", path, body.len()).as_bytes()).await;
        self.write(body).await;
        self.answer().await
    }

    pub async fn review(&mut self, uid: &str, name: &str) -> Answer {
        self.post(PATH, &review_of(uid, name, json!({}))).await
    }

    pub async fn answer(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(not_hanging(self.stream.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let field = |name: &str| {
            let line = head.lines().find_map(|l| l.strip_prefix(name))?;
            Some(line.trim_start_matches(':').trim().to_owned())
        };
        let length = field("content-length").unwrap().parse().unwrap();
        let mut body = vec![0; length];
        not_hanging(self.stream.read_exact(&mut body))
            .await
            .unwrap();
        Answer {
            status: head["http/1.1 ".len()..][..3].parse().unwrap(),
            closes: field("connection").as_deref() == Some("close"),
            body,
        }
    }

    /// Waits for the server to close; nothing more may come before.
    pub async fn closed(mut self) {
        let read = not_hanging(self.stream.read_u8()).await;
        assert!(read.is_err(), "the server sent {read:?} and did not close");
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        let chain = self.stream.get_ref().1.peer_certificates().unwrap();
        chain[0].clone().into_owned()
    }
}

pub fn head(method: &str, path: &str, length: usize) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n")
}

pub fn review_of(uid: &str, name: &str, object: Value) -> Vec<u8> {
    let request = json!({
        "uid": uid,
        "kind": {"group": "stint.dev", "version": "v1alpha1", "kind": "WorkloadAccess"},
        "resource": {"group": "stint.dev", "version": "v1alpha1", "resource": "workloadaccesses"},
        "name": name,
        "namespace": "payments",
        "operation": "CREATE",
        "userInfo": {"username": "jane"},
        "object": object,
    });
    let review =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    review.to_string().into_bytes()
}

pub fn pem_to_der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}
