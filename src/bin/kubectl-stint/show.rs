//! What all commands print alike: tables, colours, times, and texts that somebody else wrote.

use jiff::{SignedDuration, Timestamp};
use std::io::{self, IsTerminal, Write};
use stint::domain::audit::bounded;
use stint::domain::window;

/// Widest table; only `-o wide` is wider.
const WIDTH: usize = 100;
/// Narrowest column that is cut to make room.
const NARROW: usize = 12;
/// Most bytes of a text that somebody else wrote.
const MAX_TEXT: usize = 8192;
/// Between two columns.
const GAP: usize = 2;

/// A text of somebody else on one line, with nothing in it that steers a terminal or turns the order of what is read.
pub fn line(text: &str) -> String {
    let text = block(text).replace('\n', " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A line on stderr, for whoever reads it. That nobody does is no reason to stop in the middle of something.
pub fn aside(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A text of somebody else, with its lines.
pub fn block(text: &str) -> String {
    bounded(text, MAX_TEXT)
        .chars()
        .filter(|c| !turns(*c))
        .collect()
}

/// Whether a character changes the direction of writing (Unicode UAX #9) or is not seen at all.
fn turns(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// JSON with every character escaped that could steer a terminal; it reads the same.
pub fn json(value: &impl serde::Serialize) -> io::Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            c if c.is_control() || turns(c) => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// YAML for people; JSON, which is YAML, where something in it could steer a terminal.
pub fn yaml(value: &impl serde::Serialize) -> io::Result<String> {
    let text = serde_saphyr::to_string(value).map_err(io::Error::other)?;
    let steers = text
        .chars()
        .any(|c| (c.is_control() && c != '\n') || turns(c));
    match steers {
        true => json(value),
        false => Ok(text.trim_end().to_owned()),
    }
}

/// What a cell says of itself by its colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// All is well, or access is there.
    Good,
    /// Somebody has to do something.
    Waits,
    /// Refused, or wrong.
    Bad,
    /// Of the past.
    Over,
    /// Good to know.
    Known,
}

impl Tone {
    fn paint(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\u{1b}[32m",
            Self::Waits => "\u{1b}[33m",
            Self::Bad => "\u{1b}[31m",
            Self::Over => "\u{1b}[2m",
            Self::Known => "\u{1b}[36m",
        }
    }
}

/// A text in this tone, if colours are wanted.
pub fn toned(text: &str, tone: Tone, colour: bool) -> String {
    match colour && tone != Tone::Plain {
        true => format!("{}{text}\u{1b}[0m", tone.paint()),
        false => text.to_owned(),
    }
}

/// Whether stdout is a terminal whose owner has nothing against colours (no-color.org).
pub fn colour() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let dumb = set("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && set("NO_COLOR").is_none() && !dumb
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text that somebody else may have written.
    pub fn of(text: &str) -> Self {
        Self::toned(text, Tone::Plain)
    }

    /// The same in a tone.
    pub fn toned(text: &str, tone: Tone) -> Self {
        let text = line(text);
        Self {
            text: if text.is_empty() { "-".into() } else { text },
            tone,
        }
    }
}

/// How a table is printed.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// In colours.
    pub colour: bool,
    /// Without the line of heads.
    pub bare: bool,
    /// As wide as it needs.
    pub wide: bool,
}

/// Rows under heads.
#[derive(Debug)]
pub struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    widths: Vec<usize>,
    style: Style,
}

impl Table {
    /// The table of these rows, each as long as the heads.
    pub fn new(heads: &[&'static str], rows: Vec<Vec<Cell>>, style: Style) -> Self {
        let mut widths: Vec<usize> = heads.iter().map(|head| head.len()).collect();
        rows.iter().for_each(|row| widen(&mut widths, row));
        if !style.wide {
            fit(&mut widths);
        }
        Self {
            heads: heads.to_vec(),
            rows,
            widths,
            style,
        }
    }

    /// Prints all of it.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_heads(out)?;
        self.rows
            .iter()
            .try_for_each(|row| self.write_row(row, out))
    }

    /// Prints the line of heads, unless there is to be none.
    pub fn write_heads(&self, out: &mut impl Write) -> io::Result<()> {
        if self.style.bare {
            return Ok(());
        }
        let heads: Vec<Cell> = self.heads.iter().map(|head| Cell::of(head)).collect();
        self.write_row(&heads, out)
    }

    /// Prints one more row. One that needs more room than those before makes its columns wider.
    pub fn add_row(&mut self, row: &[Cell], out: &mut impl Write) -> io::Result<()> {
        widen(&mut self.widths, row);
        if !self.style.wide {
            fit(&mut self.widths);
        }
        self.write_row(row, out)
    }

    fn write_row(&self, row: &[Cell], out: &mut impl Write) -> io::Result<()> {
        let mut text = String::new();
        for (i, (cell, width)) in row.iter().zip(&self.widths).enumerate() {
            let shown = cut(&cell.text, *width);
            let used = shown.chars().count();
            text.push_str(&toned(&shown, cell.tone, self.style.colour));
            if i + 1 < row.len() {
                text.push_str(&" ".repeat((*width).saturating_sub(used) + GAP));
            }
        }
        writeln!(out, "{}", text.trim_end())
    }
}

/// Makes room for a row.
fn widen(widths: &mut [usize], row: &[Cell]) {
    for (width, cell) in widths.iter_mut().zip(row) {
        *width = (*width).max(cell.text.chars().count());
    }
}

/// Takes from the last columns first what is too much.
fn fit(widths: &mut [usize]) {
    let gaps = GAP * widths.len().saturating_sub(1);
    let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(WIDTH);
    for width in widths.iter_mut().rev() {
        let spare = width.saturating_sub(NARROW).min(excess);
        *width -= spare;
        excess -= spare;
    }
}

fn cut(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text
            .chars()
            .take(width.saturating_sub(1))
            .chain(['…'])
            .collect(),
        false => text.to_owned(),
    }
}

/// A length in its two largest units, rounded down: `45s`, `29m30s`, `3h12m`, `2d4h`.
pub fn length(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    let units = [
        (seconds / 86_400, "d"),
        (seconds % 86_400 / 3600, "h"),
        (seconds % 3600 / 60, "m"),
        (seconds % 60, "s"),
    ];
    let first = units.iter().position(|(number, _)| *number > 0);
    let Some(first) = first else {
        return "0s".into();
    };
    let shown = units.iter().skip(first).take(2);
    shown
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect()
}

/// An instant, and how far away it is.
pub fn instant(at: Timestamp, now: Timestamp) -> String {
    let at = window::round_down(at);
    match at > now {
        true => format!("{at} (in {})", length(at.duration_since(now))),
        false => format!("{at} ({} ago)", length(now.duration_since(at))),
    }
}

/// A number of things.
pub fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ if what.ends_with('y') => format!("{number} {}ies", &what[..what.len() - 1]),
        _ => format!("{number} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style {
        colour: false,
        bare: false,
        wide: false,
    };

    fn printed(table: &Table) -> String {
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_text_of_somebody_else_steers_the_terminal() {
        let hostile = "a\u{1b}[2J\u{9b}1m\u{202e}b\u{200b}\r\nc\t";
        assert_eq!(line(hostile), "a [2J 1mb c");
        assert_eq!(block("a\nb\u{1b}c"), "a\nb c");
        let text = json(&serde_json::json!({"reason": hostile})).unwrap();
        assert!(
            !text
                .chars()
                .any(|c| (c.is_control() && c != '\n') || turns(c)),
            "{text}"
        );
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["reason"], hostile, "nothing is lost");
        let text = yaml(&serde_json::json!({"reason": hostile})).unwrap();
        assert!(
            !text
                .chars()
                .any(|c| (c.is_control() && c != '\n') || turns(c)),
            "{text}"
        );
        let read: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read["reason"], hostile);
    }

    #[test]
    fn a_table_fits_and_gives_up_its_last_columns_first() {
        let row = vec![
            Cell::of("migrate-42"),
            Cell::of("Active"),
            Cell::of(&"x".repeat(200)),
        ];
        let heads = ["NAME", "STATE", "REASON"];
        let text = printed(&Table::new(&heads, vec![row.clone()], PLAIN));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "NAME        STATE   REASON");
        assert_eq!(lines[1].chars().count(), WIDTH);
        assert!(lines[1].starts_with("migrate-42  Active  xxx") && lines[1].ends_with("x…"));
        let wide = Style {
            wide: true,
            ..PLAIN
        };
        let text = printed(&Table::new(&heads, vec![row], wide));
        assert!(text.contains(&"x".repeat(200)));
        let names = vec![
            Cell::of(&"n".repeat(253)),
            Cell::of("Active"),
            Cell::of(&"x".repeat(200)),
        ];
        let text = printed(&Table::new(&heads, vec![names], PLAIN));
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
    }

    #[test]
    fn colours_do_not_move_columns() {
        let rows = vec![
            vec![Cell::toned("Active", Tone::Good), Cell::of("a")],
            vec![Cell::toned("PendingApproval", Tone::Waits), Cell::of("")],
        ];
        let colour = Style {
            colour: true,
            bare: true,
            wide: false,
        };
        let text = printed(&Table::new(&["STATE", "NAME"], rows, colour));
        assert_eq!(
            text,
            "\u{1b}[32mActive\u{1b}[0m           a\n\u{1b}[33mPendingApproval\u{1b}[0m  -\n"
        );
    }

    #[test]
    fn lengths_are_told_in_two_units() {
        let told = |seconds| length(SignedDuration::from_secs(seconds));
        assert_eq!(told(-5), "0s");
        assert_eq!(told(45), "45s");
        assert_eq!(told(1800), "30m");
        assert_eq!(told(1770), "29m30s");
        assert_eq!(told(11_545), "3h12m");
        assert_eq!(told(2 * 86_400 + 30), "2d");
    }
}
