//! A reason to refuse: code, path, what was found and what would pass. Rendered the same in every mouth.

use std::fmt;

/// The kind of a problem, as Kubernetes' `field.ErrorType` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The value does not mean what it must.
    Invalid,
    /// A value is missing.
    Required,
    /// The value is understood and not allowed.
    Forbidden,
    /// What the value refers to does not exist.
    NotFound,
    /// A list or product of lists is too long.
    TooMany,
}

impl Problem {
    /// The words that a person reads (apimachinery `field/errors.go`).
    fn words(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid value",
            Self::Required => "Required value",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not found",
            Self::TooMany => "Too many",
        }
    }

    /// The machine-readable `details.causes[].reason` (apimachinery `meta/v1/types.go`, `CauseType`).
    pub fn cause(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Required => "FieldValueRequired",
            Self::Forbidden => "FieldValueForbidden",
            Self::NotFound => "FieldValueNotFound",
            Self::TooMany => "FieldValueTooMany",
        }
    }
}

/// One reason to refuse a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Stable code, `OB-…` or `WA-…`.
    pub code: &'static str,
    /// JSON path in the object, for example `spec.rules[0].verbs[1]`.
    pub path: String,
    /// What kind of problem it is.
    pub problem: Problem,
    /// The offending value; cut and cleaned when rendered.
    pub found: Option<String>,
    /// What would be allowed.
    pub message: String,
}

/// Longest rendered value, in characters.
const MAX_FOUND: usize = 64;
/// Most violations rendered in one refusal; the count of the rest is said.
const MAX_RENDERED: usize = 20;

impl Violation {
    /// A violation without a found value.
    pub fn new(
        code: &'static str,
        path: impl Into<String>,
        problem: Problem,
        message: impl Into<String>,
    ) -> Self {
        Self {
            code,
            path: path.into(),
            problem,
            found: None,
            message: message.into(),
        }
    }

    /// The same violation with the value that was found.
    pub fn found(mut self, value: impl Into<String>) -> Self {
        self.found = Some(value.into());
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.path, self.problem.words())?;
        if let Some(found) = &self.found {
            write!(f, "'{}': ", clean(found))?;
        }
        write!(f, "{} [{}]", self.message, self.code)
    }
}

/// Cuts a hostile value to one readable line: control and non-ASCII characters are shown as escapes.
fn clean(value: &str) -> String {
    let mut out: String = value
        .chars()
        .take(MAX_FOUND)
        .flat_map(|c| c.escape_default())
        .collect::<String>()
        .replace("\\'", "'")
        .replace("\\\"", "\"");
    if value.chars().count() > MAX_FOUND {
        out.push('…');
    }
    out
}

/// The refusal of one object: a first line that names it, then one line per violation.
pub fn render(kind: &str, name: &str, violations: &[Violation]) -> String {
    let lines = render_lines(violations);
    format!("{kind} \"{name}\" is invalid:\n{lines}")
}

/// One line per violation, at most twenty; the rest is counted.
pub fn render_lines(violations: &[Violation]) -> String {
    let mut lines: Vec<String> = violations
        .iter()
        .take(MAX_RENDERED)
        .map(Violation::to_string)
        .collect();
    if violations.len() > MAX_RENDERED {
        lines.push(format!("and {} more", violations.len() - MAX_RENDERED));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_a_kubernetes_field_error() {
        let v = Violation::new(
            "OB-W03",
            "spec.rules[0].verbs[1]",
            Problem::Invalid,
            "must list verbs by name",
        )
        .found("*");
        assert_eq!(
            v.to_string(),
            "spec.rules[0].verbs[1]: Invalid value: '*': must list verbs by name [OB-W03]"
        );
    }

    #[test]
    fn hostile_values_stay_on_one_short_line() {
        let v = Violation::new("OB-R03", "spec", Problem::Invalid, "m")
            .found("a\nb\u{202e}\u{7}".to_string() + &"x".repeat(500));
        let text = v.to_string();
        assert!(!text.contains('\n') && !text.contains('\u{202e}'));
        assert!(text.chars().count() < 140, "{text}");
        assert!(text.contains("a\\nb\\u{202e}"));
    }

    #[test]
    fn many_violations_are_counted_not_dumped() {
        let many = vec![Violation::new("OB-R03", "spec", Problem::Invalid, "m"); 25];
        assert!(render("WorkloadAccess", "x", &many).ends_with("and 5 more"));
    }
}
