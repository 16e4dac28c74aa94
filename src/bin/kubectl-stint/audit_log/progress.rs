//! How far the reading is, on stderr: at once on a terminal, elsewhere only when it takes long.

use crate::show;
use std::cell::Cell;
use std::io::{self, IsTerminal, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Lines between two looks at the clock.
const LINES: u64 = 4096;

/// Counts what is read through it, as it is in the file.
pub struct Counting<R> {
    source: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Counting<R> {
    /// What adds to this count.
    pub fn of(source: R, count: Rc<Cell<u64>>) -> Self {
        Self { source, count }
    }
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(into)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// The state of the reading.
pub struct Progress {
    count: Rc<Cell<u64>>,
    /// Bytes in all; none where stdin is among the sources.
    total: Option<u64>,
    lines: u64,
    began: Instant,
    told: Instant,
    terminal: bool,
    shown: bool,
}

impl Progress {
    /// Nothing of these sources is read yet.
    pub fn of(sources: &[String]) -> Self {
        let size = |source: &String| {
            std::fs::metadata(source)
                .ok()
                .filter(|file| file.is_file())
                .map(|file| file.len())
        };
        let total: Option<u64> = sources.iter().map(size).sum();
        let now = Instant::now();
        Self {
            count: Rc::default(),
            total: total.filter(|total| *total > 0),
            lines: 0,
            began: now,
            told: now,
            terminal: io::stderr().is_terminal(),
            shown: false,
        }
    }

    /// Where what is read is counted.
    pub fn count(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.count)
    }

    /// One more line.
    pub fn tick(&mut self, source: &str) {
        self.lines += 1;
        if !self.lines.is_multiple_of(LINES) {
            return;
        }
        let pause = match self.terminal {
            true => Duration::from_millis(250),
            false => Duration::from_secs(10),
        };
        if self.told.elapsed() >= pause {
            self.told = Instant::now();
            self.show(source);
        }
    }

    fn show(&mut self, source: &str) {
        let read = self.count.get();
        let rate = read as f64 / 1e6 / self.began.elapsed().as_secs_f64().max(0.001);
        let share = match self.total {
            Some(total) => format!(
                "{}% of {} MB",
                (read * 100 / total).min(100),
                total / 1_000_000
            ),
            None => format!("{} MB", read / 1_000_000),
        };
        let text = format!("reading {}: {share}, {rate:.0} MB/s", show::line(source));
        let mut stderr = io::stderr().lock();
        // Whether anybody can read it changes nothing.
        let _ = match self.terminal {
            true => write!(stderr, "\r\u{1b}[K{text}").and_then(|()| stderr.flush()),
            false => writeln!(stderr, "{text}"),
        };
        self.shown = true;
    }
}

/// The line is taken away again.
impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.shown {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}
