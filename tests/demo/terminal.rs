//! What the demo prints.

use std::io::IsTerminal;

/// One step of the story.
pub struct Step {
    /// What it shows.
    pub title: String,
    /// Whether it came out as told.
    pub right: bool,
}

fn colour(code: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

/// A line of progress.
pub fn say(text: &str) {
    println!("{} {text}", colour("36", "·"));
}

/// The heading of a step.
pub fn heading(number: usize, title: &str) {
    println!("\n{}", colour("1", &format!("{number}. {title}")));
}

/// A command as typed, and what it printed.
pub fn transcript(user: &str, command: &str, output: &str) {
    println!("{} {command}", colour("2", &format!("{user} $")));
    for line in output.trim_end().lines() {
        println!("  {line}");
    }
}

/// The outcome of a step.
pub fn verdict(right: bool, text: &str) {
    let mark = if right {
        colour("32", "✓")
    } else {
        colour("31", "✗")
    };
    println!("{mark} {text}");
}

/// The table at the end. Returns how many steps were not right.
pub fn summary(steps: &[Step]) -> usize {
    let failed = steps.iter().filter(|s| !s.right).count();
    println!("\n{}", colour("1", "Summary"));
    for step in steps {
        verdict(step.right, &step.title);
    }
    println!(
        "\n{} of {} steps came out as told",
        steps.len() - failed,
        steps.len()
    );
    failed
}
