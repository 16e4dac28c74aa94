//! A Service on a machine without nodes: a proxy that the API server is told to use, and that leads to a port of loopback.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;

use super::cluster::Cluster;

/// Longer than any address that the API server asks for.
const LONGEST: usize = 1024;

/// From now on, as long as the runtime of the test runs, connections to this Service and to no other lead to `port`. All that
/// are open wait for a notice of what is returned, and close at it.
pub async fn lead(cluster: &Cluster, namespace: &str, name: &str, port: u16) -> Arc<Notify> {
    let services: Api<Service> = Api::namespaced(cluster.admin(), namespace);
    let spec = services.get(name).await.unwrap().spec.unwrap();
    let at = spec.ports.unwrap()[0].port;
    let wanted = format!("CONNECT {}:{at} HTTP/1.1\r\n", spec.cluster_ip.unwrap());
    let listener = UnixListener::bind(cluster.service_socket()).unwrap();
    let cut = Arc::new(Notify::new());
    let shared = Arc::clone(&cut);
    tokio::spawn(async move {
        loop {
            let (asking, _) = listener.accept().await.unwrap();
            let (wanted, cut) = (wanted.clone(), Arc::clone(&shared));
            tokio::spawn(async move {
                tokio::select! {
                    // How a connection ends is between its two ends.
                    _ = forward(asking, &wanted, port) => {}
                    () = cut.notified() => {}
                }
            });
        }
    });
    cut
}

async fn forward(mut asking: UnixStream, wanted: &str, port: u16) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST {
        head.push(asking.read_u8().await?);
    }
    let answering = match head.starts_with(wanted.as_bytes()) {
        true => TcpStream::connect(("127.0.0.1", port)).await.ok(),
        false => None,
    };
    let Some(mut answering) = answering else {
        return asking.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    };
    asking.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut asking, &mut answering).await?;
    Ok(())
}
