//! The file that a report goes to.

use super::unusable;
use crate::outcome::Failure;
use crate::{show, whole};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// As any new file of the user; a report is for others to read.
const MODE: u32 = 0o666;

/// Writes the file, whole or not at all.
pub fn to_file(
    file: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    let written = target(file).and_then(|target| whole::write(&target, MODE, write));
    written.map_err(|error| {
        let name = show::line(&file.display().to_string());
        unusable(format!("cannot write {name}: {error}"))
    })
}

/// What a link leads to. A device or a pipe would be replaced by a file, and so is refused.
fn target(file: &Path) -> io::Result<PathBuf> {
    match fs::metadata(file) {
        Ok(found) if found.is_file() => fs::canonicalize(file),
        Ok(_) => Err(io::Error::other(
            "it is no regular file; without -f the report goes to stdout",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(file.to_owned()),
        Err(error) => Err(error),
    }
}
