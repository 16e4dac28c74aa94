//! Two replicas of Stint on a test cluster, as processes, behind one address as behind a Service.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::cluster::process::free_ports;
use super::cluster::{Cluster, eventually};
use super::operator::{NAMESPACE, Stint};

const NAMES: [&str; 2] = ["replica-0", "replica-1"];

/// An installation of the chart with two replicas.
pub struct Replicas {
    /// The replicas, by number.
    pub each: [&'static Stint; 2],
    service: Arc<Service>,
}

impl Replicas {
    /// Installed and ready, one for all tests of the binary.
    pub async fn shared(program: &'static str) -> &'static Replicas {
        static SHARED: OnceCell<Replicas> = OnceCell::const_new();
        let installed = SHARED.get_or_init(|| async {
            let cluster = Cluster::shared().await;
            Replicas::install(cluster, Path::new(program))
                .await
                .unwrap_or_else(|e| panic!("cannot install Stint: {e}"))
        });
        installed.await
    }

    async fn install(cluster: &'static Cluster, program: &Path) -> Result<Replicas, String> {
        let [port, a, b, c, d] = free_ports()?;
        Stint::install_behind(cluster, port, false).await?;
        let mut each = Vec::new();
        for (name, ports) in NAMES.into_iter().zip([[a, b], [c, d]]) {
            let replica = Stint::replica(cluster, name, program, false, ports).await;
            // They live as long as the test process, as statics do.
            let replica: &'static Stint = Box::leak(Box::new(replica));
            each.push(replica);
        }
        let each = [each[0], each[1]];
        let service = Service::start(port, [a, c])?;
        Ok(Replicas { each, service })
    }

    /// Starts what does not run, and waits until all are ready and one of them leads.
    pub async fn all_ready(&self) {
        for (number, replica) in self.each.iter().enumerate() {
            replica.start().await;
            self.service.with(number);
        }
        self.leader().await;
    }

    /// Waits until one of them holds the Lease and says so; returns its number.
    pub async fn leader(&self) -> usize {
        eventually("one replica leads", async || {
            let holder = self.lease().await?.holder_identity?;
            let number = NAMES.iter().position(|name| holder.starts_with(name))?;
            self.leads(number).await.then_some(number)
        })
        .await
    }

    /// Whether a replica calls itself the leader.
    pub async fn leads(&self, number: usize) -> bool {
        let metrics = self.each[number].admin_get("/metrics").await;
        metrics.is_ok_and(|(_, text)| text.lines().any(|line| line == "stint_leader 1"))
    }

    /// The Lease.
    pub async fn lease(&self) -> Option<LeaseSpec> {
        let leases: Api<Lease> = Api::namespaced(self.each[0].cluster().admin(), NAMESPACE);
        leases.get("stint").await.ok()?.spec
    }

    /// Takes a replica out of the Service and closes its connections, as Kubernetes does with one that is not ready.
    pub fn without(&self, number: usize) {
        self.service.without(number);
    }

    /// Puts it back.
    pub fn with(&self, number: usize) {
        self.service.with(number);
    }
}

/// Forwards connections to those replicas that are in it.
struct Service {
    ports: [u16; 2],
    open: Mutex<[Option<CancellationToken>; 2]>,
}

impl Service {
    /// On a thread and in a runtime of its own: each test has another.
    fn start(port: u16, ports: [u16; 2]) -> Result<Arc<Service>, String> {
        let service = Arc::new(Service {
            ports,
            open: Mutex::new([
                Some(CancellationToken::new()),
                Some(CancellationToken::new()),
            ]),
        });
        let shared = Arc::clone(&service);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| e.to_string())?;
        std::thread::spawn(move || runtime.block_on(shared.serve(port)));
        Ok(service)
    }

    async fn serve(self: Arc<Self>, port: u16) {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        for turn in 0.. {
            let (client, _) = listener.accept().await.unwrap();
            let service = Arc::clone(&self);
            tokio::spawn(async move { service.forward(client, turn).await });
        }
    }

    async fn forward(&self, mut client: TcpStream, turn: usize) {
        for number in [turn % 2, (turn + 1) % 2] {
            let Some(open) = self.lock()[number].clone() else {
                continue;
            };
            if let Ok(mut server) = TcpStream::connect(("127.0.0.1", self.ports[number])).await {
                let copied = copy_bidirectional(&mut client, &mut server);
                // How a connection ends is between its two ends.
                let _ = open.run_until_cancelled(copied).await;
                return;
            }
        }
    }

    fn without(&self, number: usize) {
        if let Some(open) = self.lock()[number].take() {
            open.cancel();
        }
    }

    fn with(&self, number: usize) {
        self.lock()[number].get_or_insert_default();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, [Option<CancellationToken>; 2]> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
