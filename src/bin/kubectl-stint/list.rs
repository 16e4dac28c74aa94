//! `kubectl stint list`: who has been asked for what, and how long it lasts.

use crate::columns::Columns;
use crate::connect::{Connection, Target};
use crate::outcome::{Answer, End, Failure};
use crate::requests::{self, Scope};
use crate::show::{self, Style, Table};
use crate::{place, story};
use clap::{Args, ValueEnum};
use futures::stream::{StreamExt, select_all};
use jiff::Timestamp;
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use stint::api::conditions as names;
use stint::domain::request::AccessRequest;

/// List requests, what became of them, and how long they last
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # The requests of the namespace
  kubectl stint list

  # What gives rights now, anywhere, with policy and requester
  kubectl stint list -A --active -o wide

  # Go on as they change
  kubectl stint list -n payments --watch

  # For a program
  kubectl stint list -A -o json

Exit status: 0 listed, 2 something could not be read.")]
pub struct ListArgs {
    /// Namespace [default: that of the context]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Requests of all namespaces, and those for the whole cluster
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "cluster"])]
    all_namespaces: bool,

    /// Only requests for the whole cluster
    #[arg(long, conflicts_with = "namespace")]
    cluster: bool,

    /// Only those that give rights now
    #[arg(long)]
    active: bool,

    /// Only those with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,

    /// Form of the output
    #[arg(short, long, value_enum)]
    output: Option<Form>,

    /// Without the line of heads
    #[arg(long)]
    no_headers: bool,

    /// Go on, and print each request that changes
    #[arg(short, long)]
    watch: bool,

    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// With end, policy, requester and ticket, and nothing cut
    Wide,
    /// The objects
    Json,
    /// The objects
    Yaml,
    /// One name per line, for other commands
    Name,
}

/// Runs the command.
pub async fn run(args: &ListArgs, out: &mut impl Write) -> Answer {
    let connection = Connection::open(&args.target).await?;
    let scopes = scopes(args, &connection)?;
    if args.watch {
        return watch(args, &connection, &scopes, out).await;
    }
    let mut found = Vec::new();
    let mut end = End::Clean;
    for scope in &scopes {
        match requests::list(&connection, scope, args.selector.as_deref()).await {
            Ok(objects) => found.extend(objects),
            // Of two kinds the one that can be read is told; of one, that is all there is to say.
            Err(Failure::Error(why)) if scopes.len() > 1 => {
                eprintln!("kubectl-stint: {}", show::line(&why));
                end = End::Failure;
            }
            Err(failure) => return Err(failure),
        }
    }
    found.retain(|object| !args.active || is_active(object));
    write(args, &found, connection.now(), out)?;
    if found.is_empty() && args.output.is_none_or(|form| form == Form::Wide) && end == End::Clean {
        eprintln!("No requests found{}.", whereabouts(&scopes));
    }
    Ok(end)
}

fn scopes(args: &ListArgs, connection: &Connection) -> Result<Vec<Scope>, Failure> {
    Ok(match (args.all_namespaces, args.cluster) {
        (true, _) => vec![Scope::AllNamespaces, Scope::Cluster],
        (false, true) => vec![Scope::Cluster],
        (false, false) => {
            let namespace = place::namespace(args.namespace.as_deref(), connection)?;
            vec![Scope::Namespace(namespace)]
        }
    })
}

fn whereabouts(scopes: &[Scope]) -> String {
    match scopes {
        [Scope::Namespace(name)] => format!(" in namespace '{name}'"),
        [Scope::Cluster] => " for the whole cluster".into(),
        _ => String::new(),
    }
}

fn is_active(object: &DynamicObject) -> bool {
    requests::read(object).is_ok_and(|access| {
        let state = access
            .view()
            .status
            .map(|status| story::state(Some(status)) == names::REASON_ACTIVE);
        state.unwrap_or(false)
    })
}

fn write(
    args: &ListArgs,
    found: &[DynamicObject],
    now: Timestamp,
    out: &mut impl Write,
) -> io::Result<()> {
    let list = || {
        let items: Vec<Value> = found.iter().map(requests::whole).collect();
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
    };
    match args.output {
        Some(Form::Json) => writeln!(out, "{}", show::json(&list())?),
        Some(Form::Yaml) => writeln!(out, "{}", show::yaml(&list())?),
        Some(Form::Name) => found
            .iter()
            .try_for_each(|object| writeln!(out, "{}", name(object))),
        None | Some(Form::Wide) if found.is_empty() => Ok(()),
        None | Some(Form::Wide) => table(args, found, now).write(out),
    }
}

/// As kubectl prints names.
fn name(object: &DynamicObject) -> String {
    let kind = match requests::is_wide(object) {
        true => "clusterworkloadaccess",
        false => "workloadaccess",
    };
    let name = object.metadata.name.as_deref().unwrap_or_default();
    format!("{kind}.stint.dev/{}", show::line(name))
}

fn columns(args: &ListArgs) -> Columns {
    Columns {
        namespace: args.all_namespaces,
        wide: args.output == Some(Form::Wide),
    }
}

fn table(args: &ListArgs, found: &[DynamicObject], now: Timestamp) -> Table {
    let columns = columns(args);
    let rows = found
        .iter()
        .map(|object| columns.row(object, now))
        .collect();
    let style = Style {
        colour: show::colour(),
        bare: args.no_headers,
        wide: columns.wide,
    };
    Table::new(&columns.heads(), rows, style)
}

/// Prints what there is, then each request when it changes, until somebody ends it.
async fn watch(
    args: &ListArgs,
    connection: &Connection,
    scopes: &[Scope],
    out: &mut impl Write,
) -> Answer {
    let config = || {
        let config = watcher::Config::default();
        match &args.selector {
            Some(selector) => config.labels(selector),
            None => config,
        }
    };
    let streams = scopes.iter().enumerate().map(|(number, scope)| {
        let events = watcher(scope.api(connection), config()).default_backoff();
        events.map(move |event| (number, event)).boxed()
    });
    let mut events = select_all(streams);
    let mut first = vec![First::default(); scopes.len()];
    let mut shown: Option<Watched> = None;
    while let Some((number, event)) = events.next().await {
        let event = match event {
            Err(error) if is_too_old(&error) => continue,
            event => event.map_err(|error| lost(connection, &scopes[number], error))?,
        };
        let Some(shown) = &mut shown else {
            first[number].take(event);
            if first.iter().all(|scope| scope.whole) {
                let objects = first.iter().flat_map(|scope| scope.objects.values());
                let objects = objects.filter(|object| !args.active || is_active(object));
                let objects: Vec<DynamicObject> = objects.cloned().collect();
                shown = Some(Watched::begin(args, &objects, connection.now(), out)?);
            }
            continue;
        };
        let (object, deleted) = match event {
            Event::Apply(object) | Event::InitApply(object) => (object, false),
            Event::Delete(object) => (object, true),
            Event::Init | Event::InitDone => continue,
        };
        shown.tell(args, &object, deleted, connection.now(), out)?;
    }
    Ok(End::Clean)
}

/// What one kind has before anything is shown.
#[derive(Clone, Default)]
struct First {
    objects: BTreeMap<(Option<String>, Option<String>), DynamicObject>,
    whole: bool,
}

impl First {
    fn take(&mut self, event: Event<DynamicObject>) {
        let key = |object: &DynamicObject| {
            let metadata = &object.metadata;
            (metadata.namespace.clone(), metadata.name.clone())
        };
        match event {
            Event::Init => *self = Self::default(),
            Event::InitDone => self.whole = true,
            Event::Apply(object) | Event::InitApply(object) => {
                self.objects.insert(key(&object), object);
            }
            Event::Delete(object) => {
                self.objects.remove(&key(&object));
            }
        }
    }
}

/// The API server no longer knows what came after the last event; the watch is begun anew, and so is what it shows.
fn is_too_old(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchError(status) if status.code == 410)
}

/// What a watch has shown so far.
struct Watched {
    table: Table,
    /// With `--active`, the UIDs of those that were: that they no longer are is shown, too.
    active: HashSet<String>,
}

impl Watched {
    fn begin(
        args: &ListArgs,
        first: &[DynamicObject],
        now: Timestamp,
        out: &mut impl Write,
    ) -> io::Result<Self> {
        let mut watched = Self {
            table: table(args, first, now),
            active: HashSet::new(),
        };
        if matches!(args.output, None | Some(Form::Wide)) {
            watched.table.write_heads(out)?;
        }
        for object in first {
            watched.tell(args, object, false, now, out)?;
        }
        out.flush()?;
        Ok(watched)
    }

    fn tell(
        &mut self,
        args: &ListArgs,
        object: &DynamicObject,
        deleted: bool,
        now: Timestamp,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let was_active = self.active.remove(&uid);
        let active = is_active(object) && !deleted;
        if active {
            self.active.insert(uid);
        }
        if args.active && !active && !was_active {
            return Ok(());
        }
        match args.output {
            None | Some(Form::Wide) => {
                let columns = columns(args);
                let row = match deleted {
                    true => columns.deleted(object, now),
                    false => columns.row(object, now),
                };
                self.table.add_row(&row, out)?;
            }
            Some(Form::Json) => writeln!(out, "{}", show::json(&requests::whole(object))?)?,
            Some(Form::Yaml) => writeln!(out, "---\n{}", show::yaml(&requests::whole(object))?)?,
            Some(Form::Name) => writeln!(out, "{}", name(object))?,
        }
        out.flush()
    }
}

fn lost(connection: &Connection, scope: &Scope, error: watcher::Error) -> Failure {
    match error {
        watcher::Error::InitialListFailed(error) => connection.failed(scope.wish("list"), &error),
        watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
            connection.failed(scope.wish("watch"), &error)
        }
        error => Failure::Error(format!("{}: {error}", scope.wish("watch"))),
    }
}
