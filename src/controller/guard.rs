//! Events on what the guard let pass: each finding once in a while, and never more than the API server should store.

use crate::cluster::events::{Events, Seen};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

/// Findings that wait to be told. What comes when they are as many is only counted.
pub const WAITING: usize = 64;
/// How long a finding that was told is not told again.
const QUIET: Duration = Duration::from_secs(3600);
/// Most findings that are remembered as told, which is also the most that are told in that time.
const REMEMBERED: usize = 500;

/// Publishes what comes, until nobody can send any more.
pub async fn tell(events: Events, mut seen: Receiver<Seen>) {
    let mut told = Told::default();
    while let Some(seen) = seen.recv().await {
        if told.is_news(&seen) {
            events.publish_seen(&seen).await;
        }
    }
}

/// What was told in the last hour.
#[derive(Default)]
struct Told(HashMap<(Option<String>, String), Instant>);

impl Told {
    fn is_news(&mut self, seen: &Seen) -> bool {
        let now = Instant::now();
        self.0.retain(|_, at| now.duration_since(*at) < QUIET);
        let key = (seen.about.uid.clone(), seen.note.clone());
        if self.0.contains_key(&key) {
            return false;
        }
        if self.0.len() >= REMEMBERED {
            tracing::debug!("guard: enough Events for now");
            return false;
        }
        self.0.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ObjectReference;

    fn seen(uid: usize, note: &str) -> Seen {
        let about = ObjectReference {
            uid: Some(uid.to_string()),
            ..ObjectReference::default()
        };
        Seen {
            about,
            note: note.into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_finding_is_told_once_an_hour() {
        let mut told = Told::default();
        assert!(told.is_news(&seen(1, "a")));
        assert!(!told.is_news(&seen(1, "a")));
        assert!(told.is_news(&seen(1, "b")) && told.is_news(&seen(2, "a")));
        tokio::time::advance(QUIET).await;
        assert!(told.is_news(&seen(1, "a")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_counted_and_not_told() {
        let mut told = Told::default();
        let news = (0..10 * REMEMBERED).filter(|uid| told.is_news(&seen(*uid, "a")));
        assert_eq!(news.count(), REMEMBERED);
        tokio::time::advance(QUIET).await;
        assert!(told.is_news(&seen(1, "a")));
    }
}
