//! Which time a log covers, whatever the order of its events.

use jiff::Timestamp;

/// From the first event to the last.
#[derive(Clone, Debug, Default)]
pub struct Period {
    first: String,
    last: String,
}

impl Period {
    /// Adds an instant as the log has it. One that is none is left out.
    ///
    /// The API server writes all in one form (`MicroTime`), in which texts sort as instants do; none is decoded here.
    pub fn add(&mut self, text: &str) {
        if is_micro_time(text.as_bytes()) {
            return self.take_in(text);
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            self.take_in(&format!("{at:.6}"));
        }
    }

    fn take_in(&mut self, text: &str) {
        if self.first.is_empty() || text < self.first.as_str() {
            text.clone_into(&mut self.first);
        }
        if text > self.last.as_str() {
            text.clone_into(&mut self.last);
        }
    }

    /// When the first event arrived.
    pub fn first(&self) -> Option<Timestamp> {
        self.first.parse().ok()
    }

    /// When the last did.
    pub fn last(&self) -> Option<Timestamp> {
        self.last.parse().ok()
    }
}

/// `2026-12-01T12:00:00.000000Z`
fn is_micro_time(text: &[u8]) -> bool {
    let form = b"0000-00-00T00:00:00.000000Z";
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        other => byte == other,
    };
    text.len() == form.len() && text.iter().zip(form).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_and_the_form_of_instants_do_not_matter() {
        let mut period = Period::default();
        assert_eq!((period.first(), period.last()), (None, None));
        for text in [
            "2026-12-01T12:00:00.500000Z",
            "2026-12-01T11:00:00Z",
            "noon",
            "2026-12-01T15:00:00+01:00",
            "",
        ] {
            period.add(text);
        }
        let told = |at: Option<Timestamp>| at.unwrap().to_string();
        assert_eq!(told(period.first()), "2026-12-01T11:00:00Z");
        assert_eq!(told(period.last()), "2026-12-01T14:00:00Z");
    }
}
