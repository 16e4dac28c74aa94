//! Files that are no input for anybody, given to every command that reads files.

use rstest::rstest;
use std::fs::File;
use support::plugin::*;

/// One byte more than is read of a file.
const TOO_LARGE: u64 = (64 << 20) + 1;

/// A folder with the bad files, and a good one of each kind that commands want beside them.
fn folder() -> Folder {
    let folder = Folder::new();
    for (name, length) in [("large", TOO_LARGE), ("huge", 4 * TOO_LARGE)] {
        let file = File::create(folder.0.join(name)).unwrap();
        file.set_len(length).unwrap();
    }
    let account =
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: migrator, namespace: payments}\n";
    folder
        .file(
            "bomb",
            format!("apiVersion: v1\nkind: ConfigMap\n{}", bomb()),
        )
        .file("account.yaml", account)
        .file("audit.log", "");
    folder
}

#[rstest]
#[case::lint(&["lint", "FILE"])]
#[case::lint_filename(&["lint", "-f", "FILE"])]
#[case::lint_policy(&["lint", "account.yaml", "--policy", "FILE"])]
#[case::adopt(&["adopt", "FILE"])]
#[case::adopt_filename(&["adopt", "-f", "FILE"])]
#[case::suggest_rbac(&["suggest", "audit.log", "--rbac", "FILE"])]
#[case::report_baseline(&["report", "--baseline", "FILE", "-f", "report.html"])]
fn a_bad_file_is_one_line_with_its_name_and_nothing_else(
    #[case] args: &[&str],
    #[values(("large", "larger than 64 MiB"), ("bomb", "line"))] (file, why): (&str, &str),
) {
    let folder = folder();
    // A report of a large cluster is larger than what people write.
    let (file, why) = match (args[0], file) {
        ("report", "large") => ("huge", "larger than 256 MiB"),
        _ => (file, why),
    };
    let before = files(&folder);
    let args: Vec<&str> = args
        .iter()
        .map(|arg| if *arg == "FILE" { file } else { arg })
        .collect();
    let output = folder.run(&args);
    let (out, err) = (stdout(&output), stderr(&output));
    assert_eq!(status(&output), 2, "{out}{err}");
    // `lint` counts what it has judged, whatever it could not read.
    let counted = args[0] == "lint" && out.starts_with("0 objects judged: ");
    assert!(
        out.is_empty() || (counted && out.lines().count() == 1),
        "{out}"
    );
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.contains(file) && err.contains(why), "{err}");
    assert_eq!(files(&folder), before, "nothing was written");
}

fn files(folder: &Folder) -> Vec<String> {
    let entries = std::fs::read_dir(&folder.0).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
