//! `/livez`, `/readyz` and `/metrics`, in the clear, for probes and scrapes.

use crate::ops::metrics::Metrics;
use crate::ops::readiness::{Liveness, Readiness};
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections served at a time; more wait.
const CONNECTIONS: usize = 64;
/// Longest wait for a request, also between two on one connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves for ever.
pub async fn serve(
    listener: TcpListener,
    readiness: Arc<Readiness>,
    liveness: Arc<Liveness>,
    metrics: Arc<Metrics>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "admin connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let state = (
            Arc::clone(&readiness),
            Arc::clone(&liveness),
            Arc::clone(&metrics),
        );
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let answer = answer(request.uri().path(), &state.0, &state.1, &state.2);
                std::future::ready(Ok::<_, Infallible>(answer))
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT);
            if let Err(error) = http.serve_connection(TokioIo::new(stream), answer).await {
                tracing::debug!(%error, "admin connection ended");
            }
            drop(place);
        });
    }
}

fn answer(
    path: &str,
    readiness: &Readiness,
    liveness: &Liveness,
    metrics: &Metrics,
) -> Response<Full<Bytes>> {
    let (status, body) = match path {
        "/livez" => health(&liveness.stale(Timestamp::now()), "stuck"),
        "/readyz" => health(&readiness.pending(), "waiting for"),
        "/metrics" => (StatusCode::OK, metrics.encode()),
        _ => (
            StatusCode::NOT_FOUND,
            "try /livez, /readyz or /metrics\n".into(),
        ),
    };
    let media_type = match path {
        "/metrics" => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let value = header::HeaderValue::from_static(media_type);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

fn health(problems: &[&str], word: &str) -> (StatusCode, String) {
    if problems.is_empty() {
        return (StatusCode::OK, "ok\n".into());
    }
    let lines: String = problems.iter().map(|p| format!("{word} {p}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines)
}
