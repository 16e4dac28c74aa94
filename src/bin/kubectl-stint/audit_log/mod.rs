//! Audit logs in files and on stdin, compressed or not, to the sum of their events. Damage is counted with its place; what cannot be
//! read at all ends the run, for half of a log proves nothing about what was not used.

mod lines;
mod progress;
pub mod wanted;

use crate::outcome::Failure;
use crate::show;
use flate2::read::MultiGzDecoder;
use lines::{Line, Lines, MAX_LINE};
use memchr::memmem::{Finder, FinderRev};
use progress::{Counting, Progress};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use stint::domain::usage::event::{self, Unusable, VERSION};
use stint::domain::usage::period::Period;
use stint::domain::usage::request::{self, Counted};
use stint::domain::usage::tally::{MAX_KEPT, Tally};
use stint::domain::window;
use wanted::Wanted;

/// Damaged lines that are told one by one.
const MAX_TOLD: usize = 5;
/// Lines without a single event after which a file is no audit log.
const MAX_STRANGE: u64 = 1_000;
/// How the API server begins a line.
const BEGINNING: &[u8] = b"{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",";
/// Where the stage is looked for: the API server writes it before anything long.
const HEAD: usize = 256;

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
    /// Requests of accounts as users that are none.
    pub impersonations: u64,
    /// Requests of accounts whose words no rule could hold.
    pub unreadable: u64,
    /// Requests of accounts that ended before the authorizer was asked.
    pub undecided: u64,
    /// Requests of accounts of the cluster itself, which nobody asked about.
    pub of_the_cluster: u64,
}

/// Reads all sources.
pub fn read(sources: &[String], wanted: &Wanted) -> Result<Log, Failure> {
    if sources.iter().filter(|name| *name == "-").count() > 1 {
        return Err(Failure::Error("stdin can be read only once".into()));
    }
    let mut log = Log::default();
    let mut progress = Progress::of(sources);
    for source in sources {
        read_one(source, wanted, &mut log, &mut progress)?;
    }
    match log.events {
        0 => Err(Failure::Error("no event in what was named".into())),
        _ => Ok(log),
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
    let mut file = Reading::of(name, wanted, log);
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

/// One source while it is read.
struct Reading<'a> {
    name: &'a str,
    wanted: &'a Wanted,
    log: &'a mut Log,
    account: Finder<'static>,
    received: Finder<'static>,
    arrived: FinderRev<'static>,
    /// Events of this source, and lines that are none.
    events: u64,
    strange: u64,
    first_strange: Option<String>,
    /// A document on several lines, as `jq .` writes it, and where it began.
    document: Vec<u8>,
    began: u64,
}

impl<'a> Reading<'a> {
    fn of(name: &'a str, wanted: &'a Wanted, log: &'a mut Log) -> Self {
        Self {
            name,
            account: Finder::new(&wanted.marker()).into_owned(),
            wanted,
            log,
            received: Finder::new("\"stage\":\"RequestReceived\""),
            arrived: FinderRev::new("\"requestReceivedTimestamp\":\""),
            events: 0,
            strange: 0,
            first_strange: None,
            document: Vec::new(),
            began: 0,
        }
    }

    fn line(&mut self, text: &[u8], number: u64, ended: bool) -> Result<(), Failure> {
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if !self.document.is_empty() || text == b"{" {
            return self.part(text, number);
        }
        let text = text.trim_ascii();
        if text.is_empty() || self.passes(text) {
            return Ok(());
        }
        match event::read(text) {
            Ok(events) => self.events(&events),
            Err(Unusable::HalfWritten) if !ended && self.events > 0 => {
                self.log.open_ended.push(self.name.to_owned());
                Ok(())
            }
            Err(why) => self.damage(number, why.to_string()),
        }
    }

    /// Whether a line of an audit log need not be decoded: an event that is whole, and of nobody who is looked for or of a
    /// stage that does not count.
    fn passes(&mut self, text: &[u8]) -> bool {
        if self.events == 0 || !(text.starts_with(BEGINNING) && text.ends_with(b"}")) {
            return false;
        }
        let head = &text[..text.len().min(HEAD)];
        if self.received.find(head).is_none() && self.account.find(text).is_some() {
            return false;
        }
        self.events += 1;
        self.log.events += 1;
        if let Some(at) = self.arrived.rfind(text) {
            let from = at + self.arrived.needle().len();
            let end = text[from..]
                .iter()
                .position(|b| *b == b'"')
                .unwrap_or_default();
            let instant = std::str::from_utf8(&text[from..from + end]);
            self.log.period.add(instant.unwrap_or_default());
        }
        true
    }

    /// A line of a document on several lines: it ends with a brace in the first column.
    fn part(&mut self, text: &[u8], number: u64) -> Result<(), Failure> {
        if self.document.is_empty() {
            self.began = number;
        }
        self.document.extend_from_slice(text);
        self.document.push(b'\n');
        if self.document.len() > MAX_LINE {
            let why = format!(
                "a document on several lines is longer than {} MiB; write one event to a line, as `jq -c` does",
                MAX_LINE >> 20
            );
            return Err(Failure::Error(format!(
                "{}: line {}: {why}",
                self.name, self.began
            )));
        }
        if text != b"}" {
            return Ok(());
        }
        let document = std::mem::take(&mut self.document);
        match event::read(&document) {
            Ok(events) => self.events(&events),
            Err(why) => self.damage(self.began, why.to_string()),
        }
    }

    fn events(&mut self, events: &event::Events<'_>) -> Result<(), Failure> {
        self.events += 1;
        for event in events.all() {
            self.log.events += 1;
            self.log.period.add(&event.request_received_timestamp);
            let seen = match request::read(event) {
                Counted::Request(seen) => seen,
                Counted::Impersonation => {
                    self.log.impersonations += 1;
                    continue;
                }
                Counted::Unreadable => {
                    self.log.unreadable += 1;
                    continue;
                }
                Counted::Undecided => {
                    self.log.undecided += 1;
                    continue;
                }
                Counted::Nothing => continue,
            };
            if self.wanted.is_of_the_cluster(&seen) {
                self.log.of_the_cluster += 1;
            } else if self.wanted.holds(&seen) && !self.log.tally.add(&seen) {
                return Err(Failure::Error(format!(
                    "the log holds more than {MAX_KEPT} different rights and names; {}",
                    self.wanted.remedy()
                )));
            }
        }
        Ok(())
    }

    fn damage(&mut self, number: u64, why: String) -> Result<(), Failure> {
        let told = format!("{}:{number}: {}", self.name, show::line(&why));
        self.strange += 1;
        if self.first_strange.is_none() {
            self.first_strange = Some(told.clone());
        }
        self.log.damaged += 1;
        if self.log.told.len() < MAX_TOLD {
            self.log.told.push(told);
        }
        match self.events == 0 && self.strange >= MAX_STRANGE {
            true => self.end(),
            false => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        if !self.document.is_empty() {
            self.log.open_ended.push(self.name.to_owned());
        }
        match &self.first_strange {
            Some(first) if self.events == 0 => Err(Failure::Error(format!(
                "{}: not an audit log of Kubernetes: no line is an event of {VERSION}; {first}",
                self.name
            ))),
            _ => Ok(()),
        }
    }
}
