//! What a `caBundle` should say when the authority is given and may be exchanged: first also the new one, later only that.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Most bytes that stay published beside what is given, the newest first: an authority that is exchanged again and again must not
/// make a configuration that the API server refuses as too large.
const MAX_BEFORE: usize = 64 * 1024;

/// What to do about a `caBundle`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// It says what is given and nothing else.
    Exact,
    /// It says what is given and more, such as the authority before: a replica may still serve a certificate of that one.
    More,
    /// It lacks what is given; this has that and, if it was readable, what it said, up to 64 KiB of it.
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
        (true, false) => Trust::Lacking(format!("{}\n{}", given.trim_end(), newest(published))),
    }
}

/// The first certificates of a text, as many as there is room for.
fn newest(pem: &str) -> String {
    let mut bytes = 0;
    let each = pem.split_inclusive("-----END CERTIFICATE-----");
    each.take_while(|one| {
        bytes += one.len();
        bytes <= MAX_BEFORE
    })
    .collect()
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
    fn everything_that_a_company_trusted_stays_for_a_while() {
        let old: String = (0..5).map(|_| authority().replace('\n', "\r\n")).collect();
        let new = format!("{}{}", authority(), old.split_once("-----END").unwrap().0);
        let new = format!("{new}-----END CERTIFICATE-----\n");
        let Trust::Lacking(both) = compare(&old, &new) else {
            panic!("the new one is not there yet");
        };
        let both = certificates(&both);
        for known in certificates(&old).iter().chain(&certificates(&new)) {
            assert!(both.contains(known));
        }
    }

    #[test]
    fn one_that_is_exchanged_again_and_again_does_not_grow_for_ever() {
        let (mut published, mut last) = (authority(), String::new());
        let longest = MAX_BEFORE + 2 * published.len();
        for _ in 0..2 * MAX_BEFORE / published.len() {
            let given = authority();
            let Trust::Lacking(both) = compare(&published, &given) else {
                panic!("the new one is not there yet");
            };
            assert!(both.len() <= longest, "{}", both.len());
            let both_known = certificates(&both);
            for known in [&given, &last] {
                assert!(
                    certificates(known)
                        .iter()
                        .all(|one| both_known.contains(one))
                );
            }
            (published, last) = (both, given);
        }
    }
}
