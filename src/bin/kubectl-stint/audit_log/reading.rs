//! One source, line by line.

use super::lines::MAX_LINE;
use super::wanted::Wanted;
use super::{Checked, Log};
use crate::outcome::Failure;
use crate::show;
use memchr::memmem::{Finder, FinderRev};
use std::sync::Arc;
use stint::domain::usage::event::{self, Unusable, VERSION};
use stint::domain::usage::origin::Place;
use stint::domain::usage::request::{self, Counted};
use stint::domain::usage::tally::MAX_KEPT;

/// Damaged lines that are told one by one.
const MAX_TOLD: usize = 5;
/// Lines without a single event after which a file is no audit log.
const MAX_STRANGE: u64 = 1_000;
/// How the API server begins a line.
const BEGINNING: &[u8] = b"{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",";
/// Where the stage is looked for: the API server writes it before anything long.
const HEAD: usize = 256;
/// Events at the beginning of a log that are decoded whoever they are of, until one shows that the log is of the cluster.
const LOOKED_THROUGH: u64 = 10_000;

/// One source while it is read.
pub struct Reading<'a> {
    name: &'a str,
    source: Arc<str>,
    wanted: &'a Wanted,
    checked: &'a mut Checked,
    /// Whether it is known to be of the cluster.
    confirmed: bool,
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
    /// One that is named so.
    pub fn of(
        name: &'a str,
        wanted: &'a Wanted,
        checked: &'a mut Checked,
        log: &'a mut Log,
    ) -> Self {
        Self {
            name,
            source: name.into(),
            checked,
            confirmed: false,
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

    /// Takes in a line.
    pub fn line(&mut self, text: &[u8], number: u64, ended: bool) -> Result<(), Failure> {
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if !self.document.is_empty() || text == b"{" {
            return self.part(text, number);
        }
        let text = text.trim_ascii();
        if text.is_empty() || self.passes(text) {
            return Ok(());
        }
        match event::read(text) {
            Ok(events) => self.events(&events, number),
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
        let known = self.confirmed || !self.checked.origin.is_known();
        if !known && self.events < LOOKED_THROUGH {
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
            Ok(events) => self.events(&events, self.began),
            Err(why) => self.damage(self.began, why.to_string()),
        }
    }

    fn events(&mut self, events: &event::Events<'_>, line: u64) -> Result<(), Failure> {
        self.events += 1;
        for event in events.all() {
            self.log.events += 1;
            self.comes_from(event, line)?;
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

    /// Whether the event can be of the cluster.
    fn comes_from(&mut self, event: &event::Event<'_>, line: u64) -> Result<(), Failure> {
        let place = || Place {
            source: self.source.clone(),
            line,
        };
        match self.checked.origin.add(event, place) {
            Ok(known) => self.confirmed |= known,
            Err(foreign) => self.checked.found(foreign, self.log)?,
        }
        Ok(())
    }

    /// Counts a line that is no event.
    pub fn damage(&mut self, number: u64, why: String) -> Result<(), Failure> {
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

    /// After the last line.
    pub fn end(&mut self) -> Result<(), Failure> {
        if !self.document.is_empty() {
            self.log.open_ended.push(self.name.to_owned());
        }
        if self.events > 0 && self.checked.origin.is_known() && !self.confirmed {
            self.log.unconfirmed.push(self.name.to_owned());
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
