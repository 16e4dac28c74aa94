//! How a command ends, and the exit status that says so.

use std::io;

/// How a command ended that could do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing is refused.
    Clean,
    /// Something is.
    Findings,
    /// Not everything could be read or asked, and that has been said.
    Failure,
    /// Another program ended, with this status.
    Child(u8),
}

/// Why a command ended before its work was done.
#[derive(Debug)]
pub enum Failure {
    /// Somebody who was asked says no.
    Refused(String),
    /// There is no answer, or nothing to ask.
    Error(String),
    /// Nobody can be told.
    Output(io::Error),
}

/// What a command comes to.
pub type Answer = Result<End, Failure>;

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Failure {
    /// With what it is about in front.
    pub fn about(self, title: &str) -> Self {
        self.reworded(|why| format!("{title}: {why}"))
    }

    /// With more behind it.
    pub fn and(self, more: &str) -> Self {
        self.reworded(|why| format!("{why}; {more}"))
    }

    /// In words.
    pub fn text(self) -> String {
        match self {
            Self::Refused(why) | Self::Error(why) => why,
            Self::Output(error) => error.to_string(),
        }
    }

    fn reworded(self, word: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Refused(why) => Self::Refused(word(why)),
            Self::Error(why) => Self::Error(word(why)),
            Self::Output(error) => Self::Output(error),
        }
    }
}

impl End {
    /// The exit status: 0 nothing refused, 1 something refused, 2 not everything known.
    pub fn status(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Findings => 1,
            Self::Failure => 2,
            Self::Child(status) => status,
        }
    }
}
