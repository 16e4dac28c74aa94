//! `kubectl stint explain`: the whole story of one request.

use crate::connect::{Connection, Target};
use crate::outcome::{Answer, End};
use crate::requests;
use crate::show::{self, toned};
use crate::story::{self, Story};
use crate::{columns, place};
use clap::{Args, ValueEnum};
use std::io::{self, Write};
use stint::domain::request::AccessRequest;

/// Widest line of text.
const WIDTH: usize = 100;
/// Where the sentences of a chapter begin.
const INDENT: usize = 11;

/// Tell the whole story of a request, and what to do next
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # Why is it not active?
  kubectl stint explain migrate-42

  # A request for the whole cluster, for a program
  kubectl stint explain inventory --cluster -o json

Exit status: 0 told, 1 the request is refused or was denied, 2 it could not be read.")]
pub struct ExplainArgs {
    /// Name of the request
    name: String,

    #[command(flatten)]
    place: place::PlaceArgs,

    /// Form of the output
    #[arg(short, long, value_enum, default_value = "text")]
    output: Form,

    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// For people
    Text,
    /// For programs; the fields are described in docs/kubectl.md
    Json,
}

/// Runs the command.
pub async fn run(args: &ExplainArgs, out: &mut impl Write) -> Answer {
    let connection = Connection::open(&args.target).await?;
    let place = args.place.of(&connection)?;
    let access = requests::get(&connection, &place, &args.name).await?;
    let story = story::tell(&access.view(), connection.now());
    match args.output {
        Form::Text => write(&story, show::colour(), out)?,
        Form::Json => writeln!(out, "{}", show::json(&story)?)?,
    }
    let refused = ["Refused", "ApplyRefused", "Denied"].contains(&story.state.as_str());
    Ok(if refused { End::Findings } else { End::Clean })
}

/// Prints the story: the summary, a chapter each, what comes next.
pub fn write(story: &Story, colour: bool, out: &mut impl Write) -> io::Result<()> {
    write_told(story, colour, out)?;
    if story.next.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nWhat comes next:")?;
    story.next.iter().try_for_each(|text| {
        let lines = wrapped(text, WIDTH - 2);
        lines.iter().try_for_each(|text| writeln!(out, "  {text}"))
    })
}

/// The same without what comes next.
pub fn write_told(story: &Story, colour: bool, out: &mut impl Write) -> io::Result<()> {
    let state = toned(
        &show::line(&story.state),
        columns::tone(&story.state),
        colour,
    );
    writeln!(out, "{} is {state}: {}.\n", story.request, story.summary)?;
    let mut told = story.told.iter();
    told.try_for_each(|chapter| write_chapter(chapter.about, &chapter.lines, out))
}

fn write_chapter(about: &str, lines: &[String], out: &mut impl Write) -> io::Result<()> {
    let mut head = about;
    for text in lines.iter().flat_map(|text| wrapped(text, WIDTH - INDENT)) {
        writeln!(out, "{head:<INDENT$}{text}")?;
        head = "";
    }
    Ok(())
}

/// A text in lines of at most this many characters, broken at blanks; a longer word stays whole.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last().map_or(0, |line| line.chars().count());
        match lines.last_mut() {
            Some(line) if last > 0 && last + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(line) if last == 0 => line.push_str(word),
            _ => lines.push(format!("  {word}")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use stint::api::WorkloadAccess;

    fn request(status: Value) -> Value {
        json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
            "metadata": {"name": "migrate-42", "namespace": "payments", "uid": "u-1",
                         "creationTimestamp": "2026-12-01T12:00:00Z"},
            "spec": {
                "serviceAccountRef": {"name": "migrator"},
                "rules": [{"apiGroups": ["apps"], "resources": ["deployments"],
                           "resourceNames": ["billing-api"], "verbs": ["get", "patch"]}],
                "duration": "30m", "reason": "schema change\u{1b}[2J 42", "ticket": "CHG-1811",
                "until": {"apiVersion": "batch/v1", "kind": "Job", "name": "migrate-42"}
            },
            "status": status
        })
    }

    fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": message,
               "lastTransitionTime": "2026-12-01T12:00:00Z"})
    }

    fn told(status: Value) -> String {
        let object: WorkloadAccess = serde_json::from_value(request(status)).unwrap();
        let now = "2026-12-01T12:10:30Z".parse().unwrap();
        let mut out = Vec::new();
        write(&story::tell(&object.view(), now), false, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
        text
    }

    #[test]
    fn a_live_grant_is_told_from_the_question_to_its_end() {
        let text = told(json!({
            "requestedBy": "alice", "activatedTime": "2026-12-01T12:00:01Z", "notAfter": "2026-12-01T12:30:01Z",
            "policy": {"name": "payments-jobs", "uid": "p-1", "generation": 3},
            "serviceAccountUID": "sa-1", "risk": "High", "findings": ["OB-P01"],
            "approvals": [{"approver": "carol", "decision": "Approve", "time": "2026-12-01T12:00:00Z"}],
            "deadline": {"name": "stint-migrate-42-u1", "uid": "j-1"},
            "conditions": [condition("Ready", "True", "Active", "payments/migrator has the granted rights")]
        }));
        let finding = catalogue_title("OB-P01");
        let expected = format!(
            "\
WorkloadAccess payments/migrate-42 is Active: the account has the rights for another 19m31s.

Asked      by alice, 2026-12-01T12:00:00Z (10m30s ago)
           because: schema change [2J 42
           ticket: CHG-1811
Account    payments/migrator, that with the UID sa-1 and no other
Rights     get, patch deployments.apps named billing-api
Policy     'payments-jobs' admitted it, as of its generation 3
Risk       High: 1 finding
           OB-P01: {finding}
Approvals  carol approved it 2026-12-01T12:00:00Z (10m30s ago)
Work       ends when Job 'migrate-42' is done or gone
Time       began 2026-12-01T12:00:01Z (10m29s ago)
           ends 2026-12-01T12:30:01Z (in 19m31s) at the latest
           Kubernetes ends it too, should Stint be down: by the deadline of Job
             'stint-migrate-42-u1'

What comes next:
  `kubectl stint can migrate-42 -n payments` asks the API server what the account really may
  `kubectl stint revoke migrate-42 -n payments` ends it early
"
        );
        assert_eq!(text, expected);
    }

    fn catalogue_title(id: &str) -> &'static str {
        stint::domain::catalogue::code(id).unwrap().title
    }

    #[test]
    fn what_waits_says_for_what_and_who_can_do_it() {
        let message = "waits until 2026-12-01T13:00:00Z for 1 more approval (has 0 of 1)";
        let text =
            told(json!({"conditions": [condition("Ready", "False", "PendingApproval", message)]}));
        assert!(
            text.contains("is PendingApproval: people have to approve it first."),
            "{text}"
        );
        assert!(
            text.contains(
                "\n  waits until 2026-12-01T13:00:00Z for 1 more approval (has 0 of 1)\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("`kubectl stint approve migrate-42 -n payments`, or `deny`"),
            "{text}"
        );
        assert!(text.contains("lasts 30m from when it begins"), "{text}");
        assert!(told(json!({})).contains("is New: Stint has not looked at it yet."));
    }

    #[test]
    fn a_refusal_names_each_reason_and_where_it_is_explained() {
        let message = "spec.rules: Forbidden: 'delete': policy 'p' does not allow this [WA-NOT-ALLOWED]\nspec.duration: Forbidden: '9h': less [WA-TOO-LONG]";
        let text = told(json!({"conditions": [condition("Ready", "False", "Refused", message)]}));
        assert!(
            text.contains("Refused    spec.rules: Forbidden: 'delete'"),
            "{text}"
        );
        assert!(
            text.contains("\n           spec.duration: Forbidden"),
            "{text}"
        );
        assert!(
            text.contains("`kubectl stint codes WA-NOT-ALLOWED` explains"),
            "{text}"
        );
        assert!(
            text.contains("`kubectl stint codes WA-TOO-LONG` explains"),
            "{text}"
        );
    }

    #[test]
    fn what_is_over_says_why_and_whether_that_is_proven() {
        let text = told(json!({
            "activatedTime": "2026-12-01T12:00:01Z", "endedTime": "2026-12-01T12:05:00Z", "endReason": "Revoked",
            "notAfter": "2026-12-01T12:30:01Z",
            "conditions": [condition("Ready", "True", "Revoked", "`spec.revoked` was set"),
                           condition("Verified", "False", "ResidualAccess", "payments/migrator still may get x"),
                           condition("ReviewRequired", "True", "BreakGlass", "somebody must look at it")]
        }));
        assert!(
            text.contains("is Revoked: it gave rights and is over.\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "Over       Revoked 2026-12-01T12:05:00Z (5m30s ago): `spec.revoked` was set"
            ),
            "{text}"
        );
        assert!(
            text.contains("Verified=False: payments/migrator still may get x"),
            "{text}"
        );
        assert!(
            text.contains("kubectl stint review migrate-42 -n payments"),
            "{text}"
        );
        assert!(!text.contains("at the latest"), "{text}");
    }
}
