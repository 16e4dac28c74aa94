//! `kubectl stint who-can`: who holds a right now or at a later time, by standing bindings and by grants.

use crate::connect::{Connection, Target, Wish};
use crate::holders::{Found, Holder, Rbac, Right};
use crate::outcome::{Answer, End, Failure};
use crate::place;
use crate::requests::{self, Scope, everything};
use crate::resource::resource;
use crate::show::{self, Cell, Style, Table, Tone, length};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::Api;
use serde_json::json;
use std::io::{self, Write};
use stint::cluster::discovery::Discovery;
use stint::domain::request::Place;
use stint::domain::rules::Rule;
use stint::domain::served::{Home, Lookup};
use stint::domain::window;

/// Say who holds a right, now or at a later time
///
/// Reads the roles and bindings of the namespace and of the cluster: standing ones, and those of grants with their end. With --at also
/// what is over by then, and what is scheduled and will have begun. RBAC alone is asked: members of the group system:masters may do
/// everything, and other authorizers of the cluster may allow more.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl stint who-can patch deployments.apps billing-api -n payments

  # Tonight, when the grants of today are over
  kubectl stint who-can delete pods -n payments --at 2026-12-01T23:00:00Z

  # In every namespace, and on a path
  kubectl stint who-can list secrets -A
  kubectl stint who-can get /metrics

Exit status: 0 told, 2 it could not be read.")]
pub struct WhoCanArgs {
    /// The verb
    verb: String,

    /// On what: RESOURCE.GROUP/SUBRESOURCE, such as deployments.apps or pods/log, or a path that begins with `/`
    resource: String,

    /// On this object; all of them when omitted
    name: Option<String>,

    /// Namespace [default: that of the context]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// In all namespaces at once
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,

    /// At this RFC 3339 instant, or so long from now, such as 8h
    #[arg(long, value_name = "TIME")]
    at: Option<String>,

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
    /// With end and role, and nothing cut
    Wide,
    /// For programs; the fields are described in docs/kubectl.md
    Json,
}

/// Runs the command.
pub async fn run(args: &WhoCanArgs, out: &mut impl Write) -> Answer {
    let connection = Connection::open(&args.target).await?;
    let right = right(args)?;
    let place = whereabouts(args, &connection, &right).await?;
    let rbac = read(&connection, &place, args.at.is_some()).await?;
    // After the reading the API server's clock is known.
    let now = connection.now();
    let at = match &args.at {
        Some(text) => later(text, now)?,
        None => now,
    };
    let found = rbac.holders(&right, &place, at);
    write(args, &found, at, now, out)?;
    if found.holders.is_empty() && args.output != Some(Form::Json) {
        eprintln!("Nobody, as far as RBAC tells.");
    }
    if found.by_name > 0 {
        eprintln!(
            "{} more hold it on single objects alone; name one to see who.",
            found.by_name
        );
    }
    Ok(End::Clean)
}

fn right(args: &WhoCanArgs) -> Result<Right, Failure> {
    let verb = args.verb.clone();
    if args.resource.starts_with('/') {
        return Ok(Right::Path {
            verb,
            path: args.resource.clone(),
        });
    }
    let (group, resource) = resource(&args.resource)?;
    let name = args.name.clone().unwrap_or_default();
    Ok(Right::Resource {
        verb,
        group,
        resource,
        name,
    })
}

/// An instant that lies ahead.
fn later(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let long = window::parse_duration("at", text).ok();
    let from_now = long.and_then(|long| now.saturating_add(long).ok());
    let at = from_now.or_else(|| window::parse_instant("at", text).ok());
    let wrong = |why: &str| {
        Err(Failure::Error(format!(
            "--at '{}' {why}",
            text.escape_default()
        )))
    };
    match at {
        None => wrong(
            "is neither an RFC 3339 instant such as 2026-12-01T18:00:00Z nor a length of time such as 8h",
        ),
        Some(at) if at < now => wrong(
            "lies in the past, and who was bound then is not known; the audit log of the API server tells",
        ),
        Some(at) => Ok(at),
    }
}

/// Where the right would hold: what has no namespace is bound in the whole cluster alone.
async fn whereabouts(
    args: &WhoCanArgs,
    connection: &Connection,
    right: &Right,
) -> Result<Place, Failure> {
    let Right::Resource {
        group,
        resource,
        name,
        ..
    } = right
    else {
        return Ok(Place::Cluster);
    };
    match home(connection, group, resource).await? {
        // A request for one Namespace counts as one of that namespace.
        Home::Cluster if group.is_empty() && resource == "namespaces" && !name.is_empty() => {
            place::legal("namespace", name).map(|name| Place::Namespace(name.to_owned()))
        }
        Home::Cluster => Ok(Place::Cluster),
        Home::Namespace if args.all_namespaces => Ok(Place::Cluster),
        Home::Namespace => {
            place::namespace(args.namespace.as_deref(), connection).map(Place::Namespace)
        }
    }
}

async fn home(connection: &Connection, group: &str, resource: &str) -> Result<Home, Failure> {
    if resource.contains('*') || group.contains('*') {
        return Ok(Home::Namespace);
    }
    let rule = Rule {
        api_groups: vec![group.to_owned()],
        resources: vec![resource.to_owned()],
        verbs: vec!["get".to_owned()],
        ..Rule::default()
    };
    let wish = Wish {
        verb: "get",
        resource: "/apis",
        namespace: None,
        name: None,
    };
    let served = Discovery::new(connection.client.clone())
        .for_rules(&[rule])
        .await;
    let served = served.map_err(|error| connection.failed_call(wish, &error))?;
    let full = match group {
        "" => resource.to_owned(),
        group => format!("{resource} of the API group {group}"),
    };
    match served.look_up(group, resource) {
        Lookup::Home(home) => Ok(home),
        Lookup::Unknown => Err(Failure::Error(format!(
            "this cluster serves no {full}; `kubectl api-resources` lists what it serves, write RESOURCE.GROUP"
        ))),
        Lookup::Unavailable => Err(Failure::Error(format!(
            "the API server of the group {group} does not answer, so nobody can tell where {full} live"
        ))),
    }
}

/// Everything that could give the right in the place. `planned`: also requests that have not begun.
async fn read(connection: &Connection, place: &Place, planned: bool) -> Result<Rbac, Failure> {
    let client = || connection.client.clone();
    let wish = |resource, namespace| Wish {
        verb: "list",
        resource,
        namespace,
        name: None,
    };
    let mut rbac = Rbac::default();
    let api: Api<ClusterRole> = Api::all(client());
    let wide = everything(
        connection,
        &api,
        wish("clusterroles.rbac.authorization.k8s.io", None),
        None,
    );
    wide.await?.iter().for_each(|role| rbac.cluster_role(role));
    let api: Api<ClusterRoleBinding> = Api::all(client());
    let wide = everything(
        connection,
        &api,
        wish("clusterrolebindings.rbac.authorization.k8s.io", None),
        None,
    );
    wide.await?
        .into_iter()
        .for_each(|binding| rbac.cluster_role_binding(binding));
    let mut scopes = vec![Scope::Cluster];
    if let Place::Namespace(name) = place {
        let within = Some(name.as_str());
        let api: Api<Role> = Api::namespaced(client(), name);
        let own = everything(
            connection,
            &api,
            wish("roles.rbac.authorization.k8s.io", within),
            None,
        );
        own.await?.iter().for_each(|role| rbac.role(role));
        let api: Api<RoleBinding> = Api::namespaced(client(), name);
        let own = everything(
            connection,
            &api,
            wish("rolebindings.rbac.authorization.k8s.io", within),
            None,
        );
        own.await?
            .into_iter()
            .for_each(|binding| rbac.role_binding(binding));
        scopes.push(Scope::Namespace(name.clone()));
    }
    for scope in scopes.iter().filter(|_| planned) {
        let found = requests::list(connection, scope, None).await?;
        let readable = found
            .iter()
            .filter_map(|object| requests::read(object).ok());
        readable.for_each(|access| rbac.request(&access));
    }
    Ok(rbac)
}

fn write(
    args: &WhoCanArgs,
    found: &Found,
    at: Timestamp,
    now: Timestamp,
    out: &mut impl Write,
) -> io::Result<()> {
    if args.output == Some(Form::Json) {
        let at = window::round_down(at).to_string();
        let told = json!({"apiVersion": "stint.dev/who-can/v1", "at": at, "holders": found.holders, "byName": found.by_name});
        return writeln!(out, "{}", show::json(&told)?);
    }
    if found.holders.is_empty() {
        return Ok(());
    }
    let wide = args.output == Some(Form::Wide);
    let style = Style {
        colour: show::colour(),
        bare: args.no_headers,
        wide,
    };
    let mut heads = vec!["SUBJECT", "BY", "REMAINING"];
    if wide {
        heads.extend(["ENDS", "ROLE"]);
    }
    let rows = found.holders.iter();
    let rows = rows.map(|holder| row(holder, now, wide)).collect();
    Table::new(&heads, rows, style).write(out)
}

fn row(holder: &Holder, now: Timestamp, wide: bool) -> Vec<Cell> {
    let end: Option<Timestamp> = holder.until.as_deref().and_then(|text| text.parse().ok());
    let remaining = match end {
        Some(end) => Cell::toned(&length(end.duration_since(now)), Tone::Good),
        None => Cell::of("no end"),
    };
    let mut row = vec![Cell::of(&holder.subject), Cell::of(&holder.by), remaining];
    if wide {
        row.push(Cell::of(holder.until.as_deref().unwrap_or_default()));
        row.push(Cell::of(&holder.role));
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_lies_ahead_and_is_an_instant_or_a_length() {
        let now: Timestamp = "2026-12-01T12:00:00Z".parse().unwrap();
        let at = |text| {
            later(text, now)
                .map(|at| at.to_string())
                .map_err(|failure| match failure {
                    Failure::Error(why) => why,
                    other => panic!("{other:?}"),
                })
        };
        assert_eq!(at("8h").unwrap(), "2026-12-01T20:00:00Z");
        assert_eq!(at("2026-12-01T18:00:00Z").unwrap(), "2026-12-01T18:00:00Z");
        assert!(
            at("2026-12-01T11:00:00Z")
                .unwrap_err()
                .contains("lies in the past")
        );
        assert!(at("tonight").unwrap_err().contains("neither"));
    }
}
