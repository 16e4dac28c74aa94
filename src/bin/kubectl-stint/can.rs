//! `kubectl stint can`: what the API server's authorizer really lets the account of a request do.

use crate::connect::{Connection, Target, Wish};
use crate::outcome::{Answer, End, Failure};
use crate::place::PlaceArgs;
use crate::show::{self, Cell, Style, Table, Tone, count};
use crate::{requests, story};
use clap::{Args, ValueEnum};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::Api;
use serde::Serialize;
use std::io::{self, Write};
use stint::api::conditions as names;
use stint::api::workload_access::WorkloadAccessStatus;
use stint::cluster::authz;
use stint::domain::request::{AccessRequest, Place, RequestView};
use stint::domain::rules::{self, Rule};
use stint::domain::verification::{self, Question, Questions, Subject, Target as On};

const REVIEWS: &str = "subjectaccessreviews.authorization.k8s.io";
const LOCAL_REVIEWS: &str = "localsubjectaccessreviews.authorization.k8s.io";

/// Ask the API server whether the account of a request has its rights
///
/// Asks about each right of the request, or a sample of 24 spread over its rules. An active grant should have all of them, and any
/// other none; what is otherwise is a finding. Needs `create` on subjectaccessreviews, or on localsubjectaccessreviews in the namespace.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # Does the grant work?
  kubectl stint can migrate-42

  # After the end: does something else still give what it gave?
  kubectl stint can migrate-42 -o json

Exit status: 0 as it should be, 1 not so, 2 it could not be asked.")]
pub struct CanArgs {
    /// Name of the request
    name: String,

    #[command(flatten)]
    place: PlaceArgs,

    /// Form of the output
    #[arg(short, long, value_enum)]
    output: Option<Form>,

    /// Without the line of heads
    #[arg(long)]
    no_headers: bool,

    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Nothing cut
    Wide,
    /// For programs; the fields are described in docs/kubectl.md
    Json,
}

/// What was answered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answers {
    api_version: &'static str,
    request: String,
    state: String,
    account: String,
    rights: Vec<Right>,
    asked: usize,
    of: usize,
}

/// One right, and the answer.
#[derive(Debug, Serialize)]
struct Right {
    right: String,
    allowed: bool,
    /// What gives it, in the words of the authorizer.
    by: String,
}

/// Runs the command.
pub async fn run(args: &CanArgs, out: &mut impl Write) -> Answer {
    let connection = Connection::open(&args.target).await?;
    let place = args.place.of(&connection)?;
    let access = requests::get(&connection, &place, &args.name).await?;
    let view = access.view();
    let questions = questions(&connection, &view).await?;
    let account = verification::account(&view);
    let uid = view
        .status
        .and_then(|status| status.service_account_uid.as_deref());
    let subject = Subject::account(&account, uid.unwrap_or_default());
    let rights = ask(&connection, &place, &subject, &questions).await?;
    let answers = Answers {
        api_version: "stint.dev/can/v1",
        request: story::title(&view),
        state: story::state(view.status).to_owned(),
        account: account.to_string(),
        asked: rights.len(),
        of: questions.of,
        rights,
    };
    write(args, &answers, out)?;
    Ok(if strange(&answers) == 0 {
        End::Clean
    } else {
        End::Findings
    })
}

async fn questions(connection: &Connection, view: &RequestView<'_>) -> Result<Questions, Failure> {
    let rules = match view.spec.rules() {
        Some(rules) => rules,
        None => copied(connection, view).await?,
    };
    Ok(verification::questions(&rules::canonical(&rules)))
}

/// The rules of the copy that Stint made of a role.
async fn copied(connection: &Connection, view: &RequestView<'_>) -> Result<Vec<Rule>, Failure> {
    let place = view.place();
    let status = view.status;
    let bound = status.and_then(WorkloadAccessStatus::binding);
    let live = story::state(status) == names::REASON_ACTIVE;
    let Some(name) = bound.filter(|_| live).map(|bound| bound.name.as_str()) else {
        return Err(Failure::Error(format!(
            "{} copies a role, and there is a copy only while it is active (it is {})",
            story::title(view),
            show::line(story::state(status))
        )));
    };
    let client = connection.client.clone();
    let mut wish = Wish {
        verb: "get",
        resource: "roles.rbac.authorization.k8s.io",
        namespace: place.namespace(),
        name: Some(name),
    };
    let rules: Option<Vec<PolicyRule>> = match &place {
        Place::Namespace(namespace) => {
            let api: Api<Role> = Api::namespaced(client, namespace);
            connection.ask(wish, api.get(name)).await?.rules
        }
        Place::Cluster => {
            wish.resource = "clusterroles.rbac.authorization.k8s.io";
            let api: Api<ClusterRole> = Api::all(client);
            connection.ask(wish, api.get(name)).await?.rules
        }
    };
    Ok(rules.iter().flatten().map(Rule::from).collect())
}

async fn ask(
    connection: &Connection,
    place: &Place,
    subject: &Subject,
    questions: &Questions,
) -> Result<Vec<Right>, Failure> {
    let mut rights = Vec::new();
    for question in &questions.asked {
        let by = one(connection, place, subject, question).await?;
        rights.push(Right {
            right: show::line(&question.to_string()),
            allowed: by.is_some(),
            by: show::line(&by.unwrap_or_default()),
        });
    }
    Ok(rights)
}

/// Whether the account has a right, and what gives it. Asks in the whole cluster; whoever may not do that, in the namespace.
pub async fn one(
    connection: &Connection,
    place: &Place,
    subject: &Subject,
    question: &Question,
) -> Result<Option<String>, Failure> {
    let client = &connection.client;
    let namespace = place.namespace();
    let wide = Wish {
        verb: "create",
        resource: REVIEWS,
        namespace: None,
        name: None,
    };
    let error = match authz::still_may(client, subject, namespace, question).await {
        Ok(answer) => return Ok(answer),
        Err(error) => error,
    };
    match (namespace, &question.on) {
        (Some(namespace), On::Resource { .. }) if error.category() == "Forbidden" => {
            let local = Wish {
                resource: LOCAL_REVIEWS,
                namespace: Some(namespace),
                ..wide
            };
            let answer = authz::still_may_within(client, subject, namespace, question).await;
            answer.map_err(|error| connection.failed_call(local, &error))
        }
        _ => Err(connection.failed_call(wide, &error)),
    }
}

/// How many answers are not what the state of the request would give.
fn strange(answers: &Answers) -> usize {
    let should = answers.state == names::REASON_ACTIVE;
    answers
        .rights
        .iter()
        .filter(|right| right.allowed != should)
        .count()
}

fn write(args: &CanArgs, answers: &Answers, out: &mut impl Write) -> io::Result<()> {
    if args.output == Some(Form::Json) {
        return writeln!(out, "{}", show::json(answers)?);
    }
    let style = Style {
        colour: show::colour(),
        bare: args.no_headers,
        wide: args.output == Some(Form::Wide),
    };
    write_text(answers, style, out)
}

fn write_text(answers: &Answers, style: Style, out: &mut impl Write) -> io::Result<()> {
    let should = answers.state == names::REASON_ACTIVE;
    let row = |right: &Right| {
        let word = if right.allowed { "yes" } else { "no" };
        let tone = if right.allowed == should {
            Tone::Good
        } else {
            Tone::Bad
        };
        vec![
            Cell::of(&right.right),
            Cell::toned(word, tone),
            Cell::of(&right.by),
        ]
    };
    let rows = answers.rights.iter().map(row).collect();
    Table::new(&["RIGHT", "ALLOWED", "BY"], rows, style).write(out)?;
    let Answers {
        account,
        request,
        state,
        asked,
        of,
        ..
    } = answers;
    let meant = match (strange(answers), should) {
        (0, true) => "has all of them".to_owned(),
        (0, false) => "has none of them".to_owned(),
        (number, true) => format!("lacks {number} of them"),
        (number, false) => format!("has {number} of them by something else"),
    };
    let asked = match asked == of {
        true => count(*of, "right"),
        false => format!("{asked} of {}", count(*of, "right")),
    };
    writeln!(
        out,
        "\n{request} is {}. Asked about {asked}: {account} {meant}.",
        show::line(state)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(state: &str, allowed: [bool; 2]) -> (String, usize) {
        let right = |(verb, allowed): (&str, bool)| Right {
            right: format!("{verb} configmaps 'settings'"),
            allowed,
            by: if allowed {
                "RBAC: allowed by RoleBinding \"x\"".into()
            } else {
                String::new()
            },
        };
        let answers = Answers {
            api_version: "",
            request: "WorkloadAccess payments/work".into(),
            state: state.into(),
            account: "payments/migrator".into(),
            rights: vec![right(("get", allowed[0])), right(("patch", allowed[1]))],
            asked: 2,
            of: 40,
        };
        let style = Style {
            colour: false,
            bare: false,
            wide: false,
        };
        let mut out = Vec::new();
        write_text(&answers, style, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), strange(&answers))
    }

    #[test]
    fn a_live_grant_should_have_everything_and_an_ended_one_nothing() {
        let (told, strange) = text("Active", [true, false]);
        assert_eq!(strange, 1);
        assert_eq!(
            told,
            "\
RIGHT                        ALLOWED  BY
get configmaps 'settings'    yes      RBAC: allowed by RoleBinding \"x\"
patch configmaps 'settings'  no       -

WorkloadAccess payments/work is Active. Asked about 2 of 40 rights: payments/migrator lacks 1 of them.
"
        );
        let (told, strange) = text("Expired", [true, false]);
        assert_eq!(strange, 1);
        assert!(
            told.ends_with("has 1 of them by something else.\n"),
            "{told}"
        );
        assert_eq!(text("Active", [true, true]).1, 0);
        assert_eq!(text("Revoked", [false, false]).1, 0);
    }
}
