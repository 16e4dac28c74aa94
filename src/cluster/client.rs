//! The Kubernetes client: no hidden retries, and every response's `Date` shown to the clock.

use crate::clock::Clock;
use futures::future::BoxFuture;
use http::{Request, Response, header::DATE};
use jiff::{Timestamp, fmt::rfc2822};
use kube::client::ClientBuilder;
use kube::{Client, Config};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::{Layer, Service};

/// A client for `config`. Retries are ours to decide: kube's own would hold a revocation for minutes.
pub fn build(mut config: Config, clock: Arc<dyn Clock>) -> Result<Client, kube::Error> {
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    let layer = DateLayer { clock };
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

#[derive(Clone)]
struct DateLayer {
    clock: Arc<dyn Clock>,
}

impl<S> Layer<S> for DateLayer {
    type Service = DateService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DateService {
            clock: Arc::clone(&self.clock),
            inner,
        }
    }
}

#[derive(Clone)]
struct DateService<S> {
    clock: Arc<dyn Clock>,
    inner: S,
}

impl<S, A, B> Service<Request<A>> for DateService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let clock = Arc::clone(&self.clock);
        let sent = clock.local();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            if let Some(date) = date(&response) {
                clock.observe(sent, clock.local(), date);
            }
            Ok(response)
        })
    }
}

/// The `Date` of a response (RFC 9110 §6.6.1), whole seconds.
fn date<B>(response: &Response<B>) -> Option<Timestamp> {
    let text = response.headers().get(DATE)?.to_str().ok()?;
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}
