//! A question before what cannot be taken back.

use crate::outcome::Failure;
use clap::Args;
use std::io::{self, IsTerminal, Write};

/// Whether to ask
#[derive(Clone, Copy, Debug, Args)]
pub struct Confirm {
    /// Do not ask; needed where nobody can answer
    #[arg(short, long)]
    yes: bool,
}

impl Confirm {
    /// Asks on the terminal. Without one, `--yes` must have been said.
    pub fn ask(self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::Error(
                "nobody is there to confirm this; say --yes".into(),
            ));
        }
        eprint!("{question} [y/N] ");
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        match ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
            true => Ok(()),
            false => Err(Failure::Refused("nothing was done".into())),
        }
    }
}
