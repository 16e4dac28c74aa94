//! Plain HTTP for probes and scrapes: `/livez`, `/readyz`, `/metrics`. It tells nothing about grants.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::metrics::Metrics;
use super::readiness::{Liveness, Readiness};

/// Open connections; a few probes and scrapers need no more.
const CONNECTIONS: usize = 64;
/// For the headers of a request, and between two requests of one connection.
const HEADERS: Duration = Duration::from_secs(30);
/// How long to wait after a failed `accept` before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the admin server shows.
pub struct Admin {
    /// `/readyz`
    pub readiness: Readiness,
    /// `/livez`
    pub liveness: Liveness,
    /// `/metrics`
    pub metrics: Arc<Metrics>,
}

/// Serves until `shutdown`; then connections are closed at once, for a probe is asked again.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, shutdown: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    // Dropped at the end, which ends its tasks.
    let mut open = JoinSet::new();
    while let Some(Some((tcp, permit))) = shutdown
        .run_until_cancelled(next_connection(&listener, &room))
        .await
    {
        while open.try_join_next().is_some() {}
        let admin = admin.clone();
        open.spawn(async move {
            connection(tcp, &admin).await;
            drop(permit);
        });
    }
}

/// `None` only if the semaphore is closed, which nobody does.
async fn next_connection(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => return Some((tcp, permit)),
            Err(e) => {
                warn!(error = %e, "cannot accept an admin connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(tcp: TcpStream, admin: &Admin) {
    let service = service_fn(|request: Request<_>| async move {
        let found = admin.respond(request.method(), request.uri().path());
        Ok::<_, Infallible>(found)
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS);
    if let Err(e) = builder.serve_connection(TokioIo::new(tcp), service).await {
        debug!(error = %e, "an admin connection ended early");
    }
}

impl Admin {
    fn respond(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new());
        }
        match path {
            "/livez" => health(&self.liveness.stale(Instant::now()), &[]),
            "/readyz" => {
                let report = self.readiness.report();
                health(&report.missing, &report.warnings)
            }
            "/metrics" => match self.metrics.encode() {
                Ok(text) => answer(StatusCode::OK, OPEN_METRICS, text),
                Err(e) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, e.to_string()),
            },
            _ => answer(StatusCode::NOT_FOUND, TEXT, String::new()),
        }
    }
}

/// 200 `ok`, or 503 with what is missing; then what else there is to say, one a line.
fn health(missing: &[impl AsRef<str>], warnings: &[String]) -> Response<Full<Bytes>> {
    let (status, mut lines) = match missing.is_empty() {
        true => (StatusCode::OK, vec!["ok"]),
        false => (
            StatusCode::SERVICE_UNAVAILABLE,
            missing.iter().map(AsRef::as_ref).collect(),
        ),
    };
    lines.extend(warnings.iter().map(String::as_str));
    answer(status, TEXT, lines.join("\n") + "\n")
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn admin() -> Arc<Admin> {
        Arc::new(Admin {
            readiness: Readiness::new(),
            liveness: Liveness::new(),
            metrics: Arc::new(Metrics::new()),
        })
    }

    /// The whole answer to one request, over a socket of its own.
    async fn ask(admin: &Arc<Admin>, request_line: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, admin.clone(), stop.clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = format!("{request_line} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        stop.cancel();
        server.await.unwrap();
        text
    }

    #[tokio::test]
    async fn readyz_names_what_is_missing() {
        let admin = admin();
        let certificate = admin.readiness.gate("certificate");
        let stores = admin.readiness.gate("stores");
        let text = ask(&admin, "GET /readyz").await;
        assert!(text.starts_with("HTTP/1.1 503"), "{text}");
        assert!(text.ends_with("\r\n\r\ncertificate\nstores\n"), "{text}");
        certificate.open();
        stores.open();
        let text = ask(&admin, "GET /readyz").await;
        assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\nok\n"));
    }

    #[tokio::test]
    async fn livez_names_the_loop_that_stands_still() {
        let admin = admin();
        assert!(ask(&admin, "GET /livez").await.starts_with("HTTP/1.1 200"));
        let _never_beats = admin.liveness.heart("expiry", Duration::ZERO);
        let text = ask(&admin, "GET /livez").await;
        assert!(text.starts_with("HTTP/1.1 503") && text.ends_with("expiry\n"));
    }

    #[tokio::test]
    async fn metrics_are_open_metrics() {
        let admin = admin();
        admin.metrics.violation("OB-W03");
        let text = ask(&admin, "GET /metrics").await;
        assert!(text.contains("application/openmetrics-text; version=1.0.0"));
        assert!(text.contains("stint_violations_total{code=\"OB-W03\"} 1"));
        assert!(text.ends_with("# EOF\n"));
    }

    #[tokio::test]
    async fn nothing_else_is_served() {
        let admin = admin();
        assert!(ask(&admin, "GET /").await.starts_with("HTTP/1.1 404"));
        assert!(
            ask(&admin, "POST /readyz")
                .await
                .starts_with("HTTP/1.1 405")
        );
    }
}
