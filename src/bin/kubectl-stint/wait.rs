//! Waiting until a request has come to something.

use crate::connect::Connection;
use crate::outcome::Failure;
use crate::{requests, show, story};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use stint::api::conditions as names;
use stint::api::workload_access::WorkloadAccessStatus;
use stint::domain::request::{AccessRequest, Place};
use stint::domain::window;
use tokio::time::Instant;

/// Between two looks. Looking needs `get` alone, which whoever asks has.
const PAUSE: Duration = Duration::from_millis(250);

/// What a request came to.
#[derive(Debug)]
pub struct Came {
    /// The word for where it stands.
    pub state: String,
    /// What Stint says of it.
    pub message: String,
    /// When access ends.
    pub not_after: Option<Timestamp>,
    /// Whether it stands there for good, or gives access.
    pub decided: bool,
}

impl Came {
    fn to(status: Option<&WorkloadAccessStatus>) -> Self {
        let state = story::state(status).to_owned();
        let ready = status.and_then(|s| s.conditions.iter().find(|c| c.type_ == names::READY));
        let over = status.is_some_and(|status| status.ended_time.is_some());
        let settled = [
            names::REASON_ACTIVE,
            names::REASON_REFUSED,
            names::REASON_APPLY_REFUSED,
        ];
        Self {
            decided: over || settled.contains(&state.as_str()),
            message: ready.map(|c| show::block(&c.message)).unwrap_or_default(),
            not_after: status.and_then(|s| s.not_after.as_ref()).map(|end| end.0),
            state,
        }
    }
}

/// A length of time in a flag.
pub fn length(text: &str) -> Result<SignedDuration, String> {
    window::parse_duration("duration", text)
        .map_err(|_| "must be a length of time such as 90s, 30m or 1h30m".to_owned())
}

/// Kind, place and name.
pub fn title(place: &Place, name: &str) -> String {
    let name = show::line(name);
    match place {
        Place::Namespace(namespace) => format!("WorkloadAccess {namespace}/{name}"),
        Place::Cluster => format!("ClusterWorkloadAccess {name}"),
    }
}

/// Waits until the request gives access, is refused or is over; after the time given, what it is then.
pub async fn until_decided(
    connection: &Connection,
    place: &Place,
    name: &str,
    timeout: SignedDuration,
) -> Result<Came, Failure> {
    let mut told = String::new();
    until(connection, place, name, timeout, |came| {
        if !came.decided && came.state != told && came.state != "New" {
            show::aside(&format!(
                "{}: {}",
                show::line(&came.state),
                show::line(&came.message)
            ));
            told.clone_from(&came.state);
        }
        came.decided
    })
    .await
}

/// Waits until access is over; after the time given, what it is then.
pub async fn until_over(
    connection: &Connection,
    place: &Place,
    name: &str,
    timeout: SignedDuration,
) -> Result<Came, Failure> {
    let gives = [names::REASON_ACTIVE, names::REASON_REFUSED];
    until(connection, place, name, timeout, |came| {
        came.decided && !gives.contains(&came.state.as_str())
    })
    .await
}

/// What became of an end that was moved.
#[derive(Debug)]
pub struct Moved {
    /// Whether Stint has looked at it.
    pub seen: bool,
    /// Why a later end is not granted.
    pub held_back: Option<String>,
    /// When access ends.
    pub not_after: Option<Timestamp>,
}

/// Waits until Stint has looked at this generation of the spec; after the time given, what is so then.
pub async fn until_moved(
    connection: &Connection,
    place: &Place,
    name: &str,
    generation: i64,
    timeout: SignedDuration,
) -> Result<Moved, Failure> {
    let end = Instant::now() + timeout.unsigned_abs();
    loop {
        let access = requests::get(connection, place, name).await?;
        let status = access.view().status.cloned().unwrap_or_default();
        let held_back = status
            .conditions
            .iter()
            .find(|c| c.type_ == names::EXTENDED);
        let moved = Moved {
            seen: status
                .observed_generation
                .is_some_and(|seen| seen >= generation),
            held_back: held_back.map(|c| c.message.clone()),
            not_after: status.not_after.as_ref().map(|end| end.0),
        };
        if moved.seen || Instant::now() >= end {
            return Ok(moved);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn until(
    connection: &Connection,
    place: &Place,
    name: &str,
    timeout: SignedDuration,
    mut enough: impl FnMut(&Came) -> bool,
) -> Result<Came, Failure> {
    let end = Instant::now() + timeout.unsigned_abs();
    loop {
        let access = requests::get(connection, place, name).await?;
        let came = Came::to(access.view().status);
        if enough(&came) || Instant::now() >= end {
            return Ok(came);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
