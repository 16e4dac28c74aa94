//! What a `caBundle` should say when the authority is given and may be exchanged: first also the new one, later only that.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::rotate::{MAX_PARTING, each_certificate};

/// What to do about a `caBundle`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// It says what is given and nothing else.
    Exact,
    /// It says what is given and more, such as the authority before: a replica may still serve a certificate of that one.
    More,
    /// It lacks what is given; this has that and, if it was readable, what it said: the newest, as many as stay trusted.
    Lacking(String),
}

/// Compares what is published with what is given, both PEM.
pub fn compare(published: &str, given: &str) -> Trust {
    let (known, wanted) = (certificates(published), certificates(given));
    let lacks = wanted.iter().any(|authority| !known.contains(authority));
    match (lacks, known.iter().all(|known| wanted.contains(known))) {
        (false, true) => Trust::Exact,
        (false, false) => Trust::More,
        (true, true) => Trust::Lacking(given.to_owned()),
        (true, false) => {
            let new = |one: &&str| certificates(one).iter().all(|one| !wanted.contains(one));
            let before = each_certificate(published).filter(new).take(MAX_PARTING);
            let before: String = before.collect();
            Trust::Lacking(format!("{}\n{before}", given.trim_end()))
        }
    }
}

/// Nothing, if any of it cannot be read: the API server would refuse the whole.
fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::issue;

    fn authority() -> String {
        let names = ["a.svc".to_owned()];
        issue::first(&issue::Profile::of(&names), jiff::Timestamp::now())
            .unwrap()
            .ca_pem
    }

    #[test]
    fn a_new_authority_is_published_beside_the_old_one_first() {
        let (old, new) = (authority(), authority());
        assert_eq!(compare("", &new), Trust::Lacking(new.clone()));
        assert_eq!(compare("no pem", &new), Trust::Lacking(new.clone()));
        let Trust::Lacking(both) = compare(&old, &new) else {
            panic!("the new one is not there yet");
        };
        assert_eq!(certificates(&both).len(), 2);
        assert_eq!(compare(&both, &new), Trust::More);
        assert_eq!(compare(&both, &format!("{old}{new}")), Trust::Exact);
        assert_eq!(compare(&new, &new), Trust::Exact);
    }

    #[test]
    fn one_that_is_exchanged_again_and_again_leaves_a_bounded_number_behind() {
        let mut published = authority();
        let mut all = vec![published.clone()];
        for _ in 0..2 * MAX_PARTING {
            let given = authority();
            let Trust::Lacking(both) = compare(&published, &given) else {
                panic!("the new one is not there yet");
            };
            published = both;
            all.push(given);
        }
        let newest: String = all.into_iter().rev().take(1 + MAX_PARTING).collect();
        assert_eq!(certificates(&published), certificates(&newest));
    }
}
