//! Which replica decides: keeps a Lease in the operator's namespace, by the rules of `domain::lease`.

use crate::clock::Clock;
use crate::cluster::events::Events;
use crate::cluster::fence::{Hold, Leadership};
use crate::cluster::{ApiError, call};
use crate::domain::lease::{Candidate, Record, Terms};
use crate::ops::readiness::Gate;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::core::Resource;
use kube::{Api, Client};
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Which Lease it is, and how it is kept.
#[derive(Clone, Debug)]
pub struct Election {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Name of this process in it; no other process has it.
    pub identity: String,
    /// How it is kept.
    pub terms: Terms,
}

/// A name that no other process has: that of the host, in a cluster that of the pod, and something random. `None` if the
/// system has no random bytes.
pub fn identity(host: &str) -> Option<String> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).ok()?;
    let random: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{host}_{random}"))
}

/// Takes part in the election.
pub struct Elector {
    api: Api<Lease>,
    election: Election,
    candidate: Candidate,
    clock: Arc<dyn Clock>,
    hold: watch::Sender<Hold>,
    events: Events,
    /// Says what keeps the Lease from being kept. A replica is ready whoever leads.
    gate: Gate,
}

impl Elector {
    /// One that holds nothing yet, and what it will hold. The gate is opened here.
    pub fn new(
        client: Client,
        election: Election,
        clock: Arc<dyn Clock>,
        gate: Gate,
    ) -> (Self, Leadership) {
        gate.open();
        let (hold, held) = watch::channel(Hold::default());
        let leadership = Leadership::new(Arc::clone(&clock), held);
        let elector = Self {
            api: Api::namespaced(client.clone(), &election.namespace),
            candidate: Candidate::new(election.identity.clone(), election.terms),
            events: Events::new(client),
            election,
            clock,
            hold,
            gate,
        };
        (elector, leadership)
    }

    /// Takes the Lease when it is free and renews it, until `resign`; then gives it back.
    pub async fn run(mut self, resign: CancellationToken) {
        let pause = self.candidate.terms().retry_period;
        while !resign.is_cancelled() {
            match resign.run_until_cancelled(self.turn()).await {
                Some(Err(error)) => {
                    // What is held runs out by itself.
                    tracing::warn!(lease = self.election.name, %error, "no look at the lease");
                    let name = &self.election.name;
                    self.gate.remark(&format!("Lease '{name}': {error}; nothing new is decided here until it can be read and renewed, and what is due still ends"));
                }
                Some(Ok(())) => self.gate.remark(""),
                None => {}
            }
            let _ = tokio::time::timeout(pause, resign.cancelled()).await;
        }
        self.lose();
        match self.give_back().await {
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "lease not given back; it runs out by itself"),
        }
    }

    /// One look at the Lease, and one write if it is or can be ours.
    async fn turn(&mut self) -> Result<(), ApiError> {
        let found = call(self.api.get_opt(&self.election.name)).await?;
        let record = found.as_ref().map(read);
        let (at, now) = (self.clock.monotonic(), self.clock.now());
        let Some(wanted) = self.candidate.look(record, at, now) else {
            self.lose();
            return Ok(());
        };
        let sent = self.clock.monotonic();
        match self.write(found, wanted).await {
            Ok(()) => {
                self.gain(self.candidate.holds_until(sent)).await;
                Ok(())
            }
            // Somebody else wrote meanwhile: the next look says who, and until then nothing is prolonged.
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn write(&self, found: Option<Lease>, wanted: Record) -> Result<(), ApiError> {
        let params = PostParams::default();
        match found {
            // Its resourceVersion keeps two that saw the same from both taking it.
            Some(mut lease) => {
                lease.spec = Some(spec(wanted, lease.spec.take()));
                call(self.api.replace(&self.election.name, &params, &lease)).await?;
            }
            None => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.election.name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(spec(wanted, None)),
                };
                call(self.api.create(&params, &lease)).await?;
            }
        }
        Ok(())
    }

    /// What ran out before it was renewed is not prolonged: whoever worked under it must learn everything anew.
    async fn gain(&self, until: Duration) {
        let now = self.clock.monotonic();
        let mut begins = false;
        self.hold.send_modify(|hold| {
            begins = hold.until <= now;
            hold.term += u64::from(begins);
            hold.until = until;
        });
        if begins {
            let identity = self.candidate.identity();
            tracing::info!(identity, "became leader");
            let about = ObjectReference {
                api_version: Some(Lease::api_version(&()).into()),
                kind: Some(Lease::kind(&()).into()),
                namespace: Some(self.election.namespace.clone()),
                name: Some(self.election.name.clone()),
                ..ObjectReference::default()
            };
            let note = format!("{identity} became leader");
            let told = self
                .events
                .publish_about(&about, false, "LeaderElection", &note);
            told.await;
        }
    }

    fn lose(&self) {
        self.hold.send_if_modified(|hold| {
            let held = !hold.until.is_zero();
            hold.until = Duration::ZERO;
            held
        });
    }

    async fn give_back(&self) -> Result<(), ApiError> {
        let Some(found) = call(self.api.get_opt(&self.election.name)).await? else {
            return Ok(());
        };
        match self.candidate.resign(read(&found), self.clock.now()) {
            Some(free) => match self.write(Some(found), free).await {
                Err(error) if error.is_conflict() => Ok(()),
                written => written,
            },
            None => Ok(()),
        }
    }
}

fn read(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.unwrap_or_default();
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        duration: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
        acquired: spec.acquire_time.map(|time| time.0),
        renewed: spec.renew_time.map(|time| time.0),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

/// What others wrote into the Lease beside a record stays.
fn spec(record: Record, old: Option<LeaseSpec>) -> LeaseSpec {
    let time = |at: Option<Timestamp>| at.map(MicroTime);
    LeaseSpec {
        holder_identity: Some(record.holder).filter(|holder| !holder.is_empty()),
        lease_duration_seconds: i32::try_from(record.duration.as_secs()).ok(),
        acquire_time: time(record.acquired),
        renew_time: time(record.renewed),
        lease_transitions: Some(record.transitions),
        ..old.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_of_one_host_have_two_names() {
        let names = [identity("stint-0"), identity("stint-0")].map(Option::unwrap);
        assert_ne!(names[0], names[1]);
        assert!(names.iter().all(|name| name.starts_with("stint-0_")));
    }
}
