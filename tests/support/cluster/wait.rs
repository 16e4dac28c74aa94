//! The one way in which tests wait: for a condition.

use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(25);
const LIMIT: Duration = Duration::from_secs(30);

/// Asks every 25 ms until there is an answer, and panics with `what` when there is none after 30 s.
/// Pass a condition in words: `eventually("the binding is gone", async || …)`.
pub async fn eventually<T>(what: &str, question: impl AsyncFnMut() -> Option<T>) -> T {
    match within(LIMIT, question).await {
        Some(answer) => answer,
        None => panic!("not within {} s: {what}", LIMIT.as_secs()),
    }
}

/// The same with another limit; `None` when it is over.
pub async fn within<T>(limit: Duration, mut question: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let answered = async {
        loop {
            if let Some(answer) = question().await {
                return answer;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::time::timeout(limit, answered).await.ok()
}
