//! Audit logs in files and on stdin, compressed or not, to the sum of their events. Damage is counted with its place; what cannot be
//! read at all ends the run, for half of a log proves nothing about what was not used.

pub mod here;
mod lines;
mod progress;
mod reading;
pub mod wanted;

use crate::outcome::Failure;
use crate::show;
use flate2::read::MultiGzDecoder;
use here::Here;
use lines::{Line, Lines, MAX_LINE};
use progress::{Counting, Progress};
use reading::Reading;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use stint::domain::usage::origin::{Foreign, Origin};
use stint::domain::usage::period::Period;
use stint::domain::usage::tally::Tally;
use stint::domain::window;
use wanted::Wanted;

/// What the sources came to.
#[derive(Debug, Default)]
pub struct Log {
    /// The requests of accounts.
    pub tally: Tally,
    /// Sources that were read to their end.
    pub sources: usize,
    /// Events, of accounts and of others.
    pub events: u64,
    /// From the first of them to the last.
    pub period: Period,
    /// Lines that are no events, or too long.
    pub damaged: u64,
    /// The first of them, each with its place.
    pub told: Vec<String>,
    /// Sources whose last line is half-written, as that of a log that is being written may be.
    pub open_ended: Vec<String>,
    /// Events that prove that logs are of another cluster, where that is no error.
    pub foreign: u64,
    /// The first of it in words.
    pub first_foreign: Option<String>,
    /// Sources without any account that has the UID that it has in the cluster.
    pub unconfirmed: Vec<String>,
    /// Requests of accounts as users that are none.
    pub impersonations: u64,
    /// Requests of accounts whose words no rule could hold.
    pub unreadable: u64,
    /// Requests of accounts that ended before the authorizer was asked.
    pub undecided: u64,
    /// Requests of accounts of the cluster itself, which nobody asked about.
    pub of_the_cluster: u64,
}

/// Reads all sources, which must be of one cluster, and of this one where it is known. With `any_cluster` it is only told when they are not.
pub fn read(
    sources: &[String],
    wanted: &Wanted,
    here: Option<Here>,
    any_cluster: bool,
) -> Result<Log, Failure> {
    if sources.iter().filter(|name| *name == "-").count() > 1 {
        return Err(Failure::Error("stdin can be read only once".into()));
    }
    let mut log = Log::default();
    let mut progress = Progress::of(sources);
    let mut checked = Checked::of(here, any_cluster);
    for source in sources {
        read_one(source, wanted, &mut checked, &mut log, &mut progress)?;
    }
    if let Err(foreign) = checked.origin.end() {
        checked.found(foreign, &mut log)?;
    }
    match log.events {
        0 => Err(Failure::Error("no event in what was named".into())),
        _ => Ok(log),
    }
}

/// Of which cluster the logs are.
struct Checked {
    origin: Origin,
    remedy: &'static str,
    any_cluster: bool,
}

impl Checked {
    fn of(here: Option<Here>, any_cluster: bool) -> Self {
        let (origin, remedy) = match here {
            None => (Origin::default(), ""),
            Some(Here { cluster, remedy }) => (Origin::of(cluster), remedy),
        };
        Self {
            origin,
            remedy,
            any_cluster,
        }
    }

    /// An error, or with the flag a line that is told once for all of its kind.
    fn found(&self, foreign: Foreign, log: &mut Log) -> Result<(), Failure> {
        if self.any_cluster {
            log.foreign += 1;
            log.first_foreign.get_or_insert_with(|| foreign.to_string());
            return Ok(());
        }
        let remedy = match foreign {
            Foreign::Mixed { .. } => "name the logs of one cluster",
            _ => self.remedy,
        };
        let why = format!("{foreign}; {remedy}; --any-cluster reads it all the same");
        Err(Failure::Error(show::line(&why)))
    }
}

impl Log {
    /// What is wrong with it, a line each, with the place where there is one.
    pub fn damage(&self) -> Vec<String> {
        let mut told = self.told.clone();
        let more = self.damaged.saturating_sub(self.told.len() as u64);
        if more > 0 {
            told.push(format!("and {} damaged", counted(more, "more line")));
        }
        told
    }

    /// What it is, and where it stops in the middle of an event.
    pub fn say_what_it_is(&self) {
        let say = |text: String| eprintln!("{}", show::line(&text));
        for source in &self.open_ended {
            say(format!(
                "{source}: the last event is half-written, as in a log that is still being written; it is left out"
            ));
        }
        for source in &self.unconfirmed {
            say(format!(
                "{source}: no event that was looked at is of an account with the UID that it has in this cluster, so whether it is a log of this cluster is not known"
            ));
        }
        if let Some(first) = &self.first_foreign {
            let count = counted(self.foreign, "event");
            say(format!("{count} of another cluster, the first: {first}"));
        }
        if let (Some(first), Some(last)) = (self.period.first(), self.period.last()) {
            say(format!(
                "Read {} of {}, from {} to {}.",
                counted(self.events, "event"),
                show::count(self.sources, "log"),
                window::round_down(first),
                window::round_down(last)
            ));
        }
    }
}

/// `1 line`, `2 lines`.
pub fn counted(number: u64, what: &str) -> String {
    show::count(usize::try_from(number).unwrap_or(usize::MAX), what)
}

fn read_one(
    source: &str,
    wanted: &Wanted,
    checked: &mut Checked,
    log: &mut Log,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let name = if source == "-" { "<stdin>" } else { source };
    let fail = |why: String| Failure::Error(format!("{name}: {why}"));
    let raw: Box<dyn Read> = match source {
        "-" => Box::new(io::stdin().lock()),
        path if Path::new(path).is_dir() => {
            return Err(fail("is a folder; name the files in it".into()));
        }
        path => Box::new(File::open(path).map_err(|error| fail(error.to_string()))?),
    };
    let mut counted = Counting::of(raw, progress.count());
    let head = head(&mut counted).map_err(|error| fail(error.to_string()))?;
    let whole = io::Cursor::new(head.clone()).chain(counted);
    let (plain, packed): (Box<dyn Read>, bool) = match packing(&head) {
        None => (Box::new(whole), false),
        Some("gzip") => (
            Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(
                128 << 10,
                whole,
            ))),
            true,
        ),
        Some(other) => {
            let why = format!(
                "is compressed with {other}; unpack it, as in `{other} -dc FILE`, and name `-` for stdin"
            );
            return Err(fail(why));
        }
    };
    let mut lines = Lines::of(plain);
    let mut file = Reading::of(name, wanted, checked, log);
    loop {
        let number = lines.number + 1;
        let line = match lines.next() {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error) => return Err(fail(broken(&error, number, packed))),
        };
        match line {
            Line::Text(text, ended) => file.line(text, number, ended)?,
            Line::TooLong => {
                file.damage(number, format!("is longer than {} MiB", MAX_LINE >> 20))?
            }
        }
        progress.tick(name);
    }
    file.end()?;
    log.sources += 1;
    Ok(())
}

/// The first bytes, fewer only at the end.
fn head(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    source.take(6).read_to_end(&mut head)?;
    Ok(head)
}

fn packing(head: &[u8]) -> Option<&'static str> {
    match head {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some("xz"),
        _ => None,
    }
}

fn broken(error: &io::Error, line: u64, packed: bool) -> String {
    match (packed, error.kind()) {
        (true, io::ErrorKind::UnexpectedEof) => format!(
            "line {line}: the gzip file ends too early, so not all of the log is there; copy it again, or read what there is with `gzip -dc FILE` and `-` for stdin"
        ),
        (true, _) => format!("line {line}: the gzip file is damaged: {error}"),
        (false, _) => format!("line {line}: {error}"),
    }
}
