//! The transport of admission reviews: HTTP/1.1 over TLS, with bounds on everything a client can send or withhold.
//!
//! A POST on a known path is always answered with HTTP 200 and a review: the API server reports anything else as a
//! failed call and not as a refusal.

use crate::webhook::review;
use futures::FutureExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Answers reviews.
pub trait Handler: Send + Sync + 'static {
    /// The answer to a body on a path; `None` for a path that is not served.
    fn handle(&self, path: &str, body: Bytes) -> impl Future<Output = Option<Bytes>> + Send;
}

/// Bounds of the transport.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: usize,
    /// Longest TLS handshake.
    pub handshake: Duration,
    /// Longest wait for the head of a request, also between two on one connection.
    pub head: Duration,
    /// Longest wait for a body.
    pub body: Duration,
    /// Largest body in bytes. An UPDATE carries two objects of up to 3 MiB each, larger still as JSON.
    pub body_bytes: usize,
    /// Longest time to answer. Below the 5 s of the webhook configuration, so that the error is ours.
    pub answer: Duration,
    /// Longest wait for answers under way at the end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshake: Duration::from_secs(5),
            // Longer than the idle time after which the API server's client closes a connection (90 s).
            head: Duration::from_secs(120),
            body: Duration::from_secs(10),
            body_bytes: 16 << 20,
            answer: Duration::from_millis(4500),
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves until `stop`, then finishes what is under way.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    handler: Arc<H>,
    limits: Limits,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let acceptor = TlsAcceptor::from(tls);
    let graceful = Arc::new(GracefulShutdown::new());
    loop {
        let (stream, place) = tokio::select! {
            accepted = accept(&listener, &places) => match accepted {
                Some(accepted) => accepted,
                None => continue,
            },
            () = stop.cancelled() => break,
        };
        let connection = Connection {
            acceptor: acceptor.clone(),
            handler: Arc::clone(&handler),
            limits,
        };
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            connection.serve(stream, watcher).await;
            drop(place);
        });
    }
    drop(listener);
    // Every connection's task holds a watcher and no reference to the collector itself.
    if let Some(graceful) = Arc::into_inner(graceful)
        && tokio::time::timeout(limits.drain, graceful.shutdown())
            .await
            .is_err()
    {
        tracing::warn!("some reviews were still under way at the end");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            // Out of file descriptors, as a rule: trying at once would only burn time.
            tracing::warn!(%error, "connection not accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

struct Connection<H> {
    acceptor: TlsAcceptor,
    handler: Arc<H>,
    limits: Limits,
}

impl<H: Handler> Connection<H> {
    async fn serve(self, stream: TcpStream, watcher: hyper_util::server::graceful::Watcher) {
        // Small answers on a kept connection must not wait for more bytes.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY not set");
        }
        let handshake = tokio::time::timeout(self.limits.handshake, self.acceptor.accept(stream));
        let tls = match handshake.await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => return tracing::debug!("TLS handshake took too long"),
        };
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.head);
        let service = service_fn(|request| self.answer(request));
        let connection = http.serve_connection(TokioIo::new(tls), service);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "connection ended");
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        if request.method() != Method::POST {
            return Ok(plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "POST an AdmissionReview\n",
            ));
        }
        let path = request.uri().path().to_owned();
        let body = match self.body(request.into_body()).await {
            Ok(body) => body,
            Err(message) => {
                let mut refusal = json(review::error("", 413, "RequestEntityTooLarge", &message));
                // What is left of the body is not read, so the connection cannot be used again.
                let close = header::HeaderValue::from_static("close");
                refusal.headers_mut().insert(header::CONNECTION, close);
                return Ok(refusal);
            }
        };
        Ok(match self.judge(&path, body).await {
            Some(answer) => json(answer),
            None => plain(StatusCode::NOT_FOUND, "nothing is served here\n"),
        })
    }

    async fn body(&self, body: Incoming) -> Result<Bytes, String> {
        let limited = Limited::new(body, self.limits.body_bytes).collect();
        match tokio::time::timeout(self.limits.body, limited).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(format!(
                "the review is larger than {} bytes",
                self.limits.body_bytes
            )),
            Ok(Err(error)) => Err(format!("the review could not be read: {error}")),
            Err(_) => Err("the review did not arrive in time".into()),
        }
    }

    /// A panic or a late answer is a refusal under the request's uid: errors deny.
    async fn judge(&self, path: &str, body: Bytes) -> Option<Bytes> {
        let guarded = AssertUnwindSafe(self.handler.handle(path, body.clone())).catch_unwind();
        let failed = |message: &str| {
            tracing::error!(path, message, "review not judged");
            Some(review::error(
                &review::uid_of(&body),
                500,
                "InternalError",
                message,
            ))
        };
        match tokio::time::timeout(self.limits.answer, guarded).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => failed("internal error; nothing was granted"),
            Err(_) => failed("the review could not be judged in time; nothing was granted"),
        }
    }
}

fn json(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let value = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
