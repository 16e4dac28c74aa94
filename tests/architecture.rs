//! The arrows of the module tree (see `src/lib.rs`): what each module may use of the others.

use std::fs;
use std::path::{Path, PathBuf};

/// Module, and the modules of this crate that it may name.
const MAY_USE: &[(&str, &[&str])] = &[
    ("api", &["api"]),
    ("domain", &["api", "domain"]),
    ("clock", &["clock", "domain"]),
    ("config", &["config", "domain", "tls"]),
    ("ops", &["api", "domain", "ops"]),
    ("tls", &["api", "domain", "tls"]),
    (
        "cluster",
        &["api", "clock", "cluster", "config", "domain", "ops", "tls"],
    ),
    (
        "controller",
        &["api", "clock", "cluster", "controller", "domain", "ops"],
    ),
    (
        "webhook",
        &["api", "clock", "cluster", "domain", "ops", "webhook"],
    ),
    (
        "app",
        &[
            "api",
            "app",
            "clock",
            "cluster",
            "config",
            "controller",
            "domain",
            "ops",
            "tls",
            "webhook",
        ],
    ),
];

/// What decisions must not touch: the outside world.
const FORBIDDEN_IN_DOMAIN: &[&str] = &[
    "kube::Client",
    "kube::Api",
    "kube::client",
    "kube::runtime",
    "tokio",
    "tracing",
    "std::env",
    "std::fs",
    "std::net",
    "SystemTime::now",
    "Timestamp::now",
    "Instant::now",
    "println!",
];

fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    found
}

/// `src/domain/judge.rs` is in module `domain`.
fn module(path: &Path) -> String {
    let inside = path
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap();
    let first = inside
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules of this crate that a line of code names.
fn named(line: &str) -> Vec<String> {
    let word = |rest: &str| {
        rest.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    line.split("crate::")
        .skip(1)
        .map(word)
        .filter(|w| !w.is_empty())
        .collect()
}

fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let product = text.split("#[cfg(test)]").next().unwrap_or_default();
    product
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn arrows_point_one_way() {
    let mut wrong = Vec::new();
    for path in sources() {
        let module = module(&path);
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            assert!(
                ["lib", "main", "bin"].contains(&module.as_str()),
                "{} has no place",
                path.display()
            );
            continue;
        };
        for (number, line) in code(&fs::read_to_string(&path).unwrap()) {
            for used in named(line)
                .iter()
                .filter(|used| !allowed.contains(&used.as_str()))
            {
                wrong.push(format!(
                    "{}:{}: {module} uses {used}",
                    path.display(),
                    number + 1
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn decisions_touch_nothing_outside() {
    for path in sources().into_iter().filter(|p| module(p) == "domain") {
        for (number, line) in code(&fs::read_to_string(&path).unwrap()) {
            for word in FORBIDDEN_IN_DOMAIN {
                assert!(
                    !line.contains(word),
                    "{}:{}: {word}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn only_the_judge_makes_an_approval() {
    for path in sources()
        .into_iter()
        .filter(|p| !p.ends_with("domain/judge.rs"))
    {
        for (number, line) in code(&fs::read_to_string(&path).unwrap()) {
            assert!(
                !line.contains("Approved {"),
                "{}:{}",
                path.display(),
                number + 1
            );
        }
    }
}

#[test]
fn only_apply_writes_roles_bindings_and_jobs() {
    let writes = [
        ".create(",
        ".replace(",
        ".delete(",
        ".patch(",
        ".delete_collection(",
    ];
    let writers = [
        "apply.rs",
        "status.rs",
        "keys.rs",
        "certificate.rs",
        "webhook_configurations.rs",
        "authz.rs",
        // A dry run.
        "check.rs",
        "lease.rs",
        "guard_reports.rs",
    ];
    for path in sources() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let operator = module(&path) == "cluster" && writers.contains(&name);
        // The plugin's own: what it asks for, and bindings that it takes away and puts back.
        let of_plugin = ["send.rs", "bindings.rs"].contains(&name);
        let plugin = of_plugin && path.ends_with(format!("bin/kubectl-stint/{name}"));
        let writer = operator || plugin;
        for (number, line) in code(&fs::read_to_string(&path).unwrap()).filter(|_| !writer) {
            let api_call = line.contains("api.") || line.contains("Api<");
            let found = writes.iter().find(|w| line.contains(**w) && api_call);
            assert!(found.is_none(), "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

/// What gives access is the operator's to write: the plugin writes what asks for it and what decides on it.
#[test]
fn the_plugin_writes_nothing_that_gives_access() {
    let path = "src/bin/kubectl-stint/send.rs";
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let types = [
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
        "Job",
        "Pod",
    ];
    for (number, line) in code(&text) {
        for word in line.split(|c: char| !c.is_alphanumeric()) {
            assert!(!types.contains(&word), "{path}:{}: {line}", number + 1);
        }
    }
    assert!(
        text.contains(".create("),
        "nothing is written there any more"
    );
}

#[test]
fn files_stay_small_enough_to_read() {
    for path in sources() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 500, "{} has {lines} lines", path.display());
    }
}
