//! `kubectl stint completion`, and what kubectl asks for when somebody presses Tab.

use crate::connect::{Connection, Target, Wish};
use crate::outcome::{Answer, End, Failure};
use crate::requests::{self, Scope, everything};
use crate::{pages, place, show};
use clap::{Args, Command, ValueEnum};
use clap_complete::{Shell, generate};
use kube::Api;
use kube::core::PartialObjectMeta;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;
use stint::api::AccessPolicy;

/// Longest wait for names: whoever presses Tab does not wait.
const PATIENCE: Duration = Duration::from_secs(2);
/// Cobra's directive for "nothing else, and no files" (`ShellCompDirectiveNoFileComp`).
const NO_FILES: &str = ":4";

/// Print the completion of a shell for `kubectl-stint`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # For `kubectl-stint` itself
  source <(kubectl-stint completion bash)
  kubectl-stint completion zsh > \"${fpath[1]}/_kubectl-stint\"
  kubectl-stint completion fish > ~/.config/fish/completions/kubectl-stint.fish

  # For `kubectl stint`, once and in every shell whose kubectl completes: an executable of this name on the PATH
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
    let (unfinished, before) = match args.words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", &[][..]),
    };
    let found = match wanted(cli, before, unfinished) {
        Wanted::Words(words) => words,
        Wanted::Requests => names(before, Names::Requests).await,
        Wanted::Policies => names(before, Names::Policies).await,
    };
    write(&found, unfinished, out)?;
    Ok(End::Clean)
}

fn write(found: &[String], unfinished: &str, out: &mut impl Write) -> io::Result<()> {
    for word in found.iter().filter(|word| word.starts_with(unfinished)) {
        writeln!(out, "{}", show::line(word).replacen(" # ", "\t", 1))?;
    }
    writeln!(out, "{NO_FILES}")
}

/// What could stand where the cursor is.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Words(Vec<String>),
    Requests,
    Policies,
}

fn wanted(cli: &Command, before: &[String], unfinished: &str) -> Wanted {
    let Some(command) = before.first().and_then(|name| cli.find_subcommand(name)) else {
        let visible = cli.get_subcommands().filter(|c| !c.is_hide_set());
        let told = |c: &Command| {
            format!(
                "{} # {}",
                c.get_name(),
                c.get_about().map(ToString::to_string).unwrap_or_default()
            )
        };
        return Wanted::Words(visible.map(told).collect());
    };
    let last = before.last().map(String::as_str).unwrap_or_default();
    let flag = command.get_arguments().find(|arg| is_flag(arg, last));
    if let Some(flag) = flag.filter(|arg| arg.get_action().takes_values()) {
        let values = flag.get_possible_values();
        return Wanted::Words(
            values
                .iter()
                .map(|value| value.get_name().to_owned())
                .collect(),
        );
    }
    if unfinished.starts_with('-') {
        let flags = command
            .get_arguments()
            .filter_map(|arg| Some(format!("--{}", arg.get_long()?)));
        return Wanted::Words(flags.collect());
    }
    match command.get_name() {
        "explain" | "revoke" | "approve" | "deny" | "review" | "can" | "exec" => Wanted::Requests,
        "lockdown" | "unlock" => Wanted::Policies,
        "codes" => Wanted::Words(
            pages::entries()
                .into_iter()
                .map(|entry| entry.code)
                .collect(),
        ),
        "completion" => Wanted::Words(["bash", "zsh", "fish"].map(str::to_owned).into()),
        _ => Wanted::Words(Vec::new()),
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

/// Names from the cluster; none where it cannot be asked, for nobody reads errors here.
async fn names(before: &[String], what: Names) -> Vec<String> {
    let found = tokio::time::timeout(PATIENCE, ask(before, what)).await;
    found.ok().and_then(Result::ok).unwrap_or_default()
}

async fn ask(before: &[String], what: Names) -> Result<Vec<String>, Failure> {
    let value = |flags: &[&str]| {
        let pair = before
            .windows(2)
            .find(|pair| flags.contains(&pair[0].as_str()));
        pair.map(|pair| pair[1].clone())
    };
    let target = Target::new(
        value(&["--kubeconfig"]).map(PathBuf::from),
        value(&["--context"]),
    );
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
            let namespace = value(&["-n", "--namespace"]);
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
        let before: Vec<String> = before.iter().map(|word| (*word).to_owned()).collect();
        wanted(&crate::Cli::command(), &before, unfinished)
    }

    fn told(wanted: &Wanted, unfinished: &str) -> String {
        let Wanted::Words(words) = wanted else {
            panic!("{wanted:?}")
        };
        let mut out = Vec::new();
        write(words, unfinished, &mut out).unwrap();
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
        assert_eq!(words(&["lockdown"], ""), Wanted::Policies);
        assert!(!told(&words(&[], ""), "").contains("__complete"));
    }
}
