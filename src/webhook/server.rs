//! HTTP/1.1 over TLS for admission reviews: bounded in connections, time and size, and never silent. To the API server
//! any status but 200 is a broken webhook, so refusals of every sort are reviews too.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::review;

/// How long to wait after a failed `accept` (no file descriptors left, most likely) before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Decides about the bodies of POST requests.
pub trait Handler: Send + Sync + 'static {
    /// The review that answers `body`, or `None` for a path that is not served. It is dropped at the deadline
    /// ([`Limits::decision`]), so it must not leave anything half done at an await.
    fn handle(&self, path: &str, body: Bytes) -> impl Future<Output = Option<Bytes>> + Send;
}

/// What a client may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections; further ones wait in the listen queue.
    pub connections: usize,
    /// From accepting a connection to the end of its TLS handshake.
    pub handshake: Duration,
    /// From the handshake to the end of the first request's headers.
    pub first_request: Duration,
    /// From one answer to the end of the next request's headers. Above the 90 s after which the API server's client
    /// gives up an idle connection: who closes last never breaks a request that is just being sent.
    pub idle: Duration,
    /// From the headers to the end of the body.
    pub body: Duration,
    /// Bytes in one body. An UPDATE has two objects of up to 3 MiB each, and JSON may be larger than what was sent.
    pub body_bytes: usize,
    /// For a decision; under the webhook's `timeoutSeconds` of 5, so that the answer is ours.
    pub decision: Duration,
    /// From the start of the shutdown to the end of the last request; then connections are cut.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshake: Duration::from_secs(5),
            first_request: Duration::from_secs(5),
            idle: Duration::from_secs(120),
            body: Duration::from_secs(10),
            body_bytes: 16 << 20,
            decision: Duration::from_secs(4),
            drain: Duration::from_secs(10),
        }
    }
}

/// What a connection is made with.
#[derive(Clone)]
pub struct Tls {
    /// Certificates, the server's and those that clients must show.
    pub config: Arc<ServerConfig>,
    /// Told when other clients may connect: connections that are open finish what is asked and close.
    pub renewed: Arc<Notify>,
}

impl From<Arc<ServerConfig>> for Tls {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self {
            config,
            renewed: Arc::default(),
        }
    }
}

/// Serves until `shutdown`, then lets running requests finish for at most [`Limits::drain`].
pub async fn serve<H: Handler>(
    listener: TcpListener,
    tls: impl Into<Tls>,
    handler: Arc<H>,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let drain = limits.drain;
    let Tls { config, renewed } = tls.into();
    let server = Arc::new(Server {
        acceptor: TlsAcceptor::from(config),
        renewed,
        handler,
        limits,
        shutdown: shutdown.clone(),
    });
    let mut open = JoinSet::new();
    while let Some(Some((tcp, permit))) = shutdown
        .run_until_cancelled(next_connection(&listener, &room))
        .await
    {
        while open.try_join_next().is_some() {}
        let server = server.clone();
        open.spawn(async move {
            server.connection(tcp).await;
            drop(permit);
        });
    }
    drop(listener);
    let finished = timeout(drain, async { while open.join_next().await.is_some() {} });
    if finished.await.is_err() {
        warn!(
            connections = open.len(),
            "cutting connections that did not finish in time"
        );
        open.shutdown().await;
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
                warn!(error = %e, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Server<H> {
    acceptor: TlsAcceptor,
    renewed: Arc<Notify>,
    handler: Arc<H>,
    limits: Limits,
    shutdown: CancellationToken,
}

impl<H: Handler> Server<H> {
    async fn connection(&self, tcp: TcpStream) {
        // Without it an answer may wait for the acknowledgement of the last one.
        if let Err(e) = tcp.set_nodelay(true) {
            debug!(error = %e, "cannot set TCP_NODELAY");
        }
        // From before the handshake on, so that no connection is between two authorities.
        let mut renewed = std::pin::pin!(self.renewed.notified());
        renewed.as_mut().enable();
        let tls = match timeout(self.limits.handshake, self.acceptor.accept(tcp)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(e)) => return debug!(error = %e, "TLS handshake failed"),
            Err(_) => return debug!("TLS handshake took too long"),
        };
        let asked = AtomicBool::new(false);
        let service = service_fn(|request| {
            asked.store(true, Ordering::Relaxed);
            async { Ok::<_, Infallible>(self.respond(request).await) }
        });
        let mut builder = http1::Builder::new();
        // For hyper the time between requests is time to read headers.
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.idle);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(tls), service));
        tokio::select! {
            ended = connection.as_mut() => return log_end(ended),
            () = silence(self.limits.first_request, &asked) => return debug!("no request came"),
            () = self.shutdown.cancelled() => {}
            () = renewed => {}
        }
        connection.as_mut().graceful_shutdown();
        log_end(connection.await);
    }

    async fn respond<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if request.method() != Method::POST {
            let mut response = status(StatusCode::METHOD_NOT_ALLOWED);
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        let (head, body) = request.into_parts();
        match read_body(body, &self.limits).await {
            Ok(body) => match self.decide(head.uri.path(), body).await {
                Some(answer) => json(answer),
                None => status(StatusCode::NOT_FOUND),
            },
            Err(unread) => {
                debug!(reason = unread.reason(), "refused a body");
                let mut response = json(unread.answer(&self.limits));
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
                response
            }
        }
    }

    /// The handler's answer; if it panics or takes too long, a refusal with the uid of the request.
    async fn decide(&self, path: &str, body: Bytes) -> Option<Bytes> {
        let question = body.clone();
        let handled = async { self.handler.handle(path, body).await };
        // A handler shares nothing but locks, which poison, so nothing half changed is seen after a panic.
        let handled = AssertUnwindSafe(handled).catch_unwind();
        let (code, reason, message) = match timeout(self.limits.decision, handled).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(_)) => (500, "InternalError", "internal error; nothing was granted"),
            Err(_) => (504, "Timeout", "no decision in time; nothing was granted"),
        };
        let uid = review::uid(&question).unwrap_or_default();
        error!(uid, path, reason, "a review has no decision");
        Some(review::error(&uid, code, reason, message))
    }
}

/// Ends if no request has come in this time, else never.
async fn silence(limit: Duration, asked: &AtomicBool) {
    sleep(limit).await;
    if asked.load(Ordering::Relaxed) {
        pending::<()>().await;
    }
}

/// Why a body was not read to its end.
enum Unread {
    TooLarge,
    TooSlow,
    Broken,
}

impl Unread {
    fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge => "RequestEntityTooLarge",
            Self::TooSlow => "Timeout",
            Self::Broken => "BadRequest",
        }
    }

    /// Without a uid, which is somewhere in the part that was not read.
    fn answer(&self, limits: &Limits) -> Bytes {
        let (code, message) = match self {
            Self::TooLarge => (
                413,
                format!("the review is larger than {} bytes", limits.body_bytes),
            ),
            Self::TooSlow => (
                408,
                format!("the review did not arrive within {:?}", limits.body),
            ),
            Self::Broken => (400, "the review did not arrive in full".to_owned()),
        };
        review::error("", code, self.reason(), &message)
    }
}

/// Reads the body within its limits.
///
/// What comes after the size limit is read and dropped, until the time limit: an answer that is sent while the client
/// still writes is lost when the connection is closed under it.
async fn read_body<B: Body<Data = Bytes> + Unpin>(
    mut body: B,
    limits: &Limits,
) -> Result<Bytes, Unread> {
    let mut kept = Vec::with_capacity(expected_length(&body, limits.body_bytes));
    let mut too_large = false;
    let all = async {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return Err(Unread::Broken);
            };
            let Some(data) = frame.data_ref() else {
                continue;
            };
            too_large |= kept.len() + data.len() > limits.body_bytes;
            if too_large {
                kept = Vec::new();
            } else {
                kept.extend_from_slice(data);
            }
        }
        Ok(())
    };
    let read = timeout(limits.body, all).await;
    match read {
        _ if too_large => Err(Unread::TooLarge),
        Ok(Ok(())) => Ok(Bytes::from(kept)),
        Ok(Err(unread)) => Err(unread),
        Err(_) => Err(Unread::TooSlow),
    }
}

/// Room to set aside: what the client announces, but no more than 64 KiB on its word alone.
fn expected_length<B: Body>(body: &B, most: usize) -> usize {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(most);
    announced.min(most).min(64 << 10)
}

fn json(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn status(code: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = code;
    response
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(e) = ended {
        debug!(error = %e, "a connection ended early");
    }
}
