//! `kubectl stint completion`, and what kubectl asks for when somebody presses Tab.

use crate::connect::{Connection, Target, Wish};
use crate::outcome::{Answer, End, Failure};
use crate::requests::{self, Scope, everything};
use crate::{pages, place, show};
use clap::{Args, Command, ValueEnum};
use clap_complete::{Shell, generate};
use kube::Api;
use kube::config::Kubeconfig;
use kube::core::PartialObjectMeta;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;
use stint::api::AccessPolicy;

/// Longest wait for names: whoever presses Tab does not wait.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the shell does beside the candidates: the directives of Cobra (`ShellCompDirective…`).
#[derive(Clone, Copy, Debug)]
enum Directive {
    /// It completes files where there is no candidate.
    Files = 0,
    /// Nothing.
    Nothing = 4,
    /// It completes folders.
    Folders = 16,
}

/// Print the completion of a shell for `kubectl-stint`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # For `kubectl-stint` itself
  source <(kubectl-stint completion bash)
  kubectl-stint completion zsh > \"${fpath[1]}/_kubectl-stint\"
  kubectl-stint completion fish > ~/.config/fish/completions/kubectl-stint.fish

  # For `kubectl stint`, once and in every shell whose kubectl completes: an executable of this name on the PATH. It is beside the
  # binary in the archives of a release; this makes it anew
  printf '#!/bin/sh\\nexec kubectl-stint __complete \"$@\"\\n' > ~/.local/bin/kubectl_complete-stint
  chmod +x ~/.local/bin/kubectl_complete-stint")]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Kind,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Bash,
    Zsh,
    Fish,
}

/// What kubectl passes on: the words so far, the last one unfinished.
#[derive(Debug, Args)]
pub struct CompleteArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Prints the completion of a shell.
pub fn run(args: &CompletionArgs, mut cli: Command, out: &mut impl Write) -> Answer {
    let shell = match args.shell {
        Kind::Bash => Shell::Bash,
        Kind::Zsh => Shell::Zsh,
        Kind::Fish => Shell::Fish,
    };
    // Into memory first: on a broken pipe the generator would panic.
    let mut text = Vec::new();
    generate(shell, &mut cli, "kubectl-stint", &mut text);
    out.write_all(&text)?;
    Ok(End::Clean)
}

/// Answers kubectl, in the protocol of Cobra's `__complete`: a line for each candidate, then a directive.
pub async fn complete(args: &CompleteArgs, cli: &Command, out: &mut impl Write) -> Answer {
    let (before, unfinished) = split(&args.words);
    let (found, directive) = match wanted(cli, &before, &unfinished) {
        Wanted::Words(words) => (words, Directive::Nothing),
        Wanted::Requests => (names(&before, Names::Requests).await, Directive::Nothing),
        Wanted::Policies => (names(&before, Names::Policies).await, Directive::Nothing),
        Wanted::Contexts => (contexts(&before), Directive::Nothing),
        Wanted::Files => (Vec::new(), Directive::Files),
        Wanted::Folders => (Vec::new(), Directive::Folders),
    };
    write(&found, &unfinished, directive, out)?;
    Ok(End::Clean)
}

/// The words before the cursor, and the one at it. A flag and its value are two words, also where they stand in one, as
/// `--context=prod`: the shells of Cobra want the value alone.
fn split(words: &[String]) -> (Vec<String>, String) {
    let mut words: Vec<String> = words.iter().flat_map(|word| apart(word)).collect();
    let unfinished = words.pop().unwrap_or_default();
    (words, unfinished)
}

fn apart(word: &str) -> Vec<String> {
    let flag_and_value = word.split_once('=').filter(|_| word.starts_with("--"));
    match flag_and_value {
        Some((flag, value)) => vec![flag.to_owned(), value.to_owned()],
        None => vec![word.to_owned()],
    }
}

fn write(
    found: &[String],
    unfinished: &str,
    directive: Directive,
    out: &mut impl Write,
) -> io::Result<()> {
    for word in found.iter().filter(|word| word.starts_with(unfinished)) {
        writeln!(out, "{}", show::line(word).replacen(" # ", "\t", 1))?;
    }
    writeln!(out, ":{}", directive as u8)
}

/// What could stand where the cursor is.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Words(Vec<String>),
    Requests,
    Policies,
    Contexts,
    Files,
    Folders,
}

fn wanted(cli: &Command, before: &[String], unfinished: &str) -> Wanted {
    let Some(command) = before.first().and_then(|name| cli.find_subcommand(name)) else {
        return commands(cli);
    };
    if before.iter().any(|word| word == "--") {
        // What `exec` runs is not ours.
        return Wanted::Files;
    }
    if unfinished.starts_with('-') && unfinished != "-" {
        return flags(command);
    }
    if let Some(flag) = open_flag(command, before) {
        return value_of(flag);
    }
    match command.get_name() {
        "explain" | "extend" | "revoke" | "approve" | "deny" | "review" | "can" | "exec" => {
            Wanted::Requests
        }
        "lockdown" | "unlock" => Wanted::Policies,
        "codes" => {
            let entries = pages::entries().into_iter();
            Wanted::Words(entries.map(|entry| entry.code).collect())
        }
        "completion" => Wanted::Words(["bash", "zsh", "fish"].map(str::to_owned).into()),
        _ => {
            let sources = command.get_positionals().next().and_then(file_or_folder);
            sources.unwrap_or(Wanted::Words(Vec::new()))
        }
    }
}

fn commands(cli: &Command) -> Wanted {
    let visible = cli.get_subcommands().filter(|c| !c.is_hide_set());
    let told = |c: &Command| {
        let about = c.get_about().map(ToString::to_string).unwrap_or_default();
        format!("{} # {about}", c.get_name())
    };
    Wanted::Words(visible.map(told).collect())
}

fn flags(command: &Command) -> Wanted {
    let long = command.get_arguments().filter_map(clap::Arg::get_long);
    Wanted::Words(long.map(|long| format!("--{long}")).collect())
}

/// The flag whose value stands at the cursor: the word before it, or one farther back that takes many values.
fn open_flag<'a>(command: &'a Command, before: &[String]) -> Option<&'a clap::Arg> {
    let at = before.iter().rposition(|word| word.starts_with('-'))?;
    let flag = command
        .get_arguments()
        .find(|arg| is_flag(arg, &before[at]))?;
    let takes_many = flag
        .get_num_args()
        .is_some_and(|count| count.max_values() > 1);
    let is_open = at + 1 == before.len() || takes_many;
    (flag.get_action().takes_values() && is_open).then_some(flag)
}

fn value_of(flag: &clap::Arg) -> Wanted {
    if let Some(files) = file_or_folder(flag) {
        return files;
    }
    if flag.get_long() == Some("context") {
        return Wanted::Contexts;
    }
    let values = flag.get_possible_values();
    Wanted::Words(values.iter().map(|v| v.get_name().to_owned()).collect())
}

/// By the name of the value, as the help shows it: `FILE`, `FILE|DIR|-`, `DIR`.
fn file_or_folder(arg: &clap::Arg) -> Option<Wanted> {
    let name = arg.get_value_names()?.first()?;
    match name.split('|').next() {
        Some("FILE") => Some(Wanted::Files),
        Some("DIR") => Some(Wanted::Folders),
        _ => None,
    }
}

fn is_flag(arg: &clap::Arg, word: &str) -> bool {
    let long = arg
        .get_long()
        .is_some_and(|long| word.strip_prefix("--") == Some(long));
    long || arg
        .get_short()
        .is_some_and(|short| word == format!("-{short}"))
}

enum Names {
    Requests,
    Policies,
}

/// The value of a flag that was written already.
fn value(before: &[String], flags: &[&str]) -> Option<String> {
    let mut pairs = before.windows(2);
    let pair = pairs.find(|pair| flags.contains(&pair[0].as_str()))?;
    Some(pair[1].clone())
}

fn kubeconfig(before: &[String]) -> Option<PathBuf> {
    value(before, &["--kubeconfig"]).map(PathBuf::from)
}

/// The contexts of the kubeconfig; none where it cannot be read.
fn contexts(before: &[String]) -> Vec<String> {
    let read = match kubeconfig(before) {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let contexts = read.map(|read| read.contexts).unwrap_or_default();
    contexts.into_iter().map(|context| context.name).collect()
}

/// Names from the cluster; none where it cannot be asked, for nobody reads errors here.
async fn names(before: &[String], what: Names) -> Vec<String> {
    let found = tokio::time::timeout(PATIENCE, ask(before, what)).await;
    found.ok().and_then(Result::ok).unwrap_or_default()
}

async fn ask(before: &[String], what: Names) -> Result<Vec<String>, Failure> {
    let target = Target::new(kubeconfig(before), value(before, &["--context"]));
    let connection = Connection::open(&target).await?;
    match what {
        Names::Policies => {
            let wish = Wish {
                verb: "list",
                resource: "accesspolicies.stint.dev",
                namespace: None,
                name: None,
            };
            let api: Api<PartialObjectMeta<AccessPolicy>> = Api::all(connection.client.clone());
            let found = everything(&connection, &api, wish, None).await?;
            Ok(found
                .into_iter()
                .filter_map(|policy| policy.metadata.name)
                .collect())
        }
        Names::Requests => {
            let wide = before.iter().any(|word| word == "--cluster");
            let namespace = value(before, &["-n", "--namespace"]);
            let scope = match wide {
                true => Scope::Cluster,
                false => Scope::Namespace(place::namespace(namespace.as_deref(), &connection)?),
            };
            let found = requests::list(&connection, &scope, None).await?;
            Ok(found
                .into_iter()
                .filter_map(|request| request.metadata.name)
                .collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn words(before: &[&str], unfinished: &str) -> Wanted {
        let typed = before.iter().chain([&unfinished]);
        let typed: Vec<String> = typed.map(|word| (*word).to_owned()).collect();
        let (before, unfinished) = split(&typed);
        wanted(&crate::Cli::command(), &before, &unfinished)
    }

    fn told(wanted: &Wanted, unfinished: &str) -> String {
        let Wanted::Words(words) = wanted else {
            panic!("{wanted:?}")
        };
        let mut out = Vec::new();
        write(words, unfinished, Directive::Nothing, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_protocol_of_kubectl_is_spoken() {
        let text = told(&words(&[], "re"), "re");
        let first: Vec<&str> = text
            .lines()
            .map(|line| line.split('\t').next().unwrap())
            .collect();
        assert_eq!(
            first,
            ["request", "revoke", "review", "report", ":4"],
            "{text}"
        );
        assert!(text.contains("revoke\tEnd grants early"), "{text}");
        assert_eq!(
            told(&words(&["list", "-o"], ""), ""),
            "wide\njson\nyaml\nname\n:4\n"
        );
        assert_eq!(told(&words(&["list"], "--na"), "--na"), "--namespace\n:4\n");
        assert_eq!(
            told(&words(&["codes"], "WA-TOO-L"), "WA-TOO-L"),
            "WA-TOO-LONG\n:4\n"
        );
        assert_eq!(
            words(&["explain", "-n", "payments"], "mi"),
            Wanted::Requests
        );
        assert_eq!(words(&["explain", "-n"], "pa"), Wanted::Words(vec![]));
        assert_eq!(words(&["extend"], ""), Wanted::Requests);
        assert_eq!(words(&["lockdown"], ""), Wanted::Policies);
        assert!(!told(&words(&[], ""), "").contains("__complete"));
        assert_eq!(words(&["list", "--context"], "pr"), Wanted::Contexts);
        assert_eq!(words(&["list"], "--context=pr"), Wanted::Contexts);
    }

    #[test]
    fn files_are_left_to_the_shell() {
        for (before, unfinished) in [
            (&["lint"][..], ""),
            (&["lint", "a.yaml"], "b"),
            (&["lint", "-f"], ""),
            (&["lint", "--policy"], "po"),
            (&["lint"], "--policy=po"),
            (&["suggest"], "audit"),
            (&["suggest", "--rbac"], ""),
            (&["adopt"], ""),
            (&["adopt", "--filename"], ""),
            (&["report", "-f"], ""),
            (&["report", "--baseline"], ""),
            (&["report", "--audit-log"], ""),
            (&["report", "--audit-log", "a.log"], "b"),
            (&["list", "--kubeconfig"], "~/.kube/"),
            (&["exec", "migrate-42", "--"], "./mi"),
        ] {
            let found = words(before, unfinished);
            assert_eq!(found, Wanted::Files, "{before:?} {unfinished}");
        }
        assert_eq!(words(&["adopt", "--backup"], ""), Wanted::Folders);
        assert_eq!(words(&["report"], ""), Wanted::Words(vec![]));
        assert_eq!(words(&["report", "-n"], ""), Wanted::Words(vec![]));
    }

    #[tokio::test]
    async fn an_answer_ends_with_what_the_shell_completes_itself() {
        let folder = std::env::temp_dir().join(format!("stint-completion-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("kubeconfig");
        let text = "{apiVersion: v1, kind: Config, contexts: [{name: prod}, {name: test}, {name: \"pr\\e[31m\"}]}";
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let context = ["list", "--kubeconfig", file, "--context", "pr"];
        for (words, answer) in [
            (&["lint", ""][..], ":0\n"),
            (&["adopt", "--backup", ""], ":16\n"),
            (&["completion", "z"], "zsh\n:4\n"),
            (&context, "prod\npr [31m\n:4\n"),
            (&["list", "--kubeconfig", "nothing", "--context="], ":4\n"),
        ] {
            let args = CompleteArgs {
                words: words.iter().map(|word| (*word).to_owned()).collect(),
            };
            let mut out = Vec::new();
            let cli = crate::Cli::command();
            assert!(complete(&args, &cli, &mut out).await.is_ok());
            assert_eq!(String::from_utf8(out).unwrap(), answer, "{words:?}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
