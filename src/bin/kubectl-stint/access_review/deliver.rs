//! A file that is whole or not there.

use super::unusable;
use crate::outcome::Failure;
use crate::show;
use std::fs::{self, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Writes beside the place and moves it there: whoever reads the file meets the old one or the new one, never half of it.
pub fn to_file(
    file: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    place(file, write).map_err(|error| {
        let name = show::line(&file.display().to_string());
        unusable(format!("cannot write {name}: {error}"))
    })
}

fn place(file: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let target = target(file)?;
    let folder = target.parent().filter(|path| !path.as_os_str().is_empty());
    // As any new file of the user; a report is for others to read.
    let mode = Permissions::from_mode(0o666);
    let mut temporary = tempfile::Builder::new()
        .prefix(".stint-report-")
        .permissions(mode)
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    let mut buffered = BufWriter::new(temporary.as_file_mut());
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    temporary.as_file().sync_all()?;
    temporary.persist(target)?;
    Ok(())
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
