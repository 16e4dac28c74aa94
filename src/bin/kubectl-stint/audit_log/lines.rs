//! Lines of a log of any size in bounded memory.

use memchr::memchr;
use std::io::{self, Read};

/// Longest line that is read. The API server takes requests of 3 MiB, and an event holds request and response at most.
pub const MAX_LINE: usize = 16 << 20;
/// Longest line that is skipped; what has none that ends is no log.
const MAX_SKIPPED: usize = 1 << 30;
/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Its text, and whether it is ended by a line break.
    Text(&'a [u8], bool),
    /// It was longer than [`MAX_LINE`] and is gone.
    TooLong,
}

/// What reads them.
pub struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    /// Number of the line that was read last, from 1.
    pub number: u64,
}

impl<R: Read> Lines<R> {
    /// The lines of a source.
    pub fn of(source: R) -> Self {
        Self {
            source,
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
            ended: false,
            number: 0,
        }
    }

    /// The next one.
    pub fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        let mut searched = 0;
        loop {
            let rest = &self.buffer[self.start + searched..self.end];
            if let Some(at) = memchr(b'\n', rest) {
                let line = self.start..self.start + searched + at;
                self.start = line.end + 1;
                self.number += 1;
                return Ok(Some(Line::Text(&self.buffer[line], true)));
            }
            searched = self.end - self.start;
            if self.ended && searched == 0 {
                return Ok(None);
            }
            if self.ended {
                let line = self.start..self.end;
                self.start = self.end;
                self.number += 1;
                return Ok(Some(Line::Text(&self.buffer[line], false)));
            }
            if searched > MAX_LINE {
                self.skip()?;
                self.number += 1;
                return Ok(Some(Line::TooLong));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() - self.end < CHUNK {
            // By a quarter, and no more, so that the longest line needs little more than its length.
            let more = (self.buffer.len() / 4).max(CHUNK);
            self.buffer.reserve_exact(more);
            self.buffer.resize(self.buffer.len() + more, 0);
        }
        self.read()
    }

    fn read(&mut self) -> io::Result<()> {
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }

    /// To the end of the line, keeping nothing.
    fn skip(&mut self) -> io::Result<()> {
        let mut skipped = 0;
        loop {
            skipped += self.end;
            if skipped > MAX_SKIPPED {
                let why = format!("no line break for {} MiB: not a log", MAX_SKIPPED >> 20);
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            (self.start, self.end) = (0, 0);
            self.read()?;
            if self.ended {
                return Ok(());
            }
            if let Some(at) = memchr(b'\n', &self.buffer[..self.end]) {
                self.start = at + 1;
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time, as a slow pipe does.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let take = self.0.len().min(3).min(into.len());
            into[..take].copy_from_slice(&self.0[..take]);
            self.0 = &self.0[take..];
            Ok(take)
        }
    }

    fn told(source: impl Read) -> Vec<String> {
        let mut lines = Lines::of(source);
        let mut out = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            out.push(match line {
                Line::Text(text, ended) => format!(
                    "{}{}",
                    String::from_utf8_lossy(text),
                    if ended { "." } else { "" }
                ),
                Line::TooLong => "(too long)".to_owned(),
            });
        }
        out
    }

    #[test]
    fn lines_come_whole_however_they_arrive() {
        let text = b"one\n\nthree is longer\nhalf";
        let expected = ["one.", ".", "three is longer.", "half"];
        assert_eq!(told(&text[..]), expected);
        assert_eq!(told(Slow(text)), expected);
        assert!(told(&b""[..]).is_empty());
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let long = || io::repeat(b'x').take(100 << 20);
        let mut lines = Lines::of(b"a\n".chain(long()).chain(&b"\nb\n"[..]));
        assert!(matches!(lines.next(), Ok(Some(Line::Text(b"a", true)))));
        assert!(matches!(lines.next(), Ok(Some(Line::TooLong))));
        assert!(matches!(lines.next(), Ok(Some(Line::Text(b"b", true)))));
        assert!(
            lines.buffer.capacity() < 24 << 20,
            "{}",
            lines.buffer.capacity()
        );
        assert_eq!(told(long()), ["(too long)"]);
    }
}
