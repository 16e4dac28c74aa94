//! What an account may really do, right by right, by the API server's own answer.

use crate::can;
use crate::connect::Connection;
use crate::outcome::Failure;
use futures::{StreamExt, TryStreamExt, stream};
use stint::domain::grant::Account;
use stint::domain::request::Place;
use stint::domain::rules::Rule;
use stint::domain::verification::{self, Question, Subject};

/// Most rights of one binding that are compared; of more a sample that touches every rule it can.
const MOST: usize = 2000;
/// Questions that are under way at the same time.
const AT_ONCE: usize = 8;

/// The rights that are compared.
#[derive(Debug)]
pub struct Rights {
    /// Where.
    place: Place,
    /// Whose.
    subject: Subject,
    /// Which.
    pub asked: Vec<Question>,
    /// How many there are.
    pub of: usize,
}

impl Rights {
    /// The rights of these rules.
    pub fn of(account: &Account, place: Place, rules: &[Rule]) -> Self {
        let questions = verification::questions_up_to(rules, MOST);
        Self {
            place,
            subject: Subject::account(account, ""),
            asked: questions.asked,
            of: questions.of,
        }
    }

    /// What gives each of them, in the words of the authorizer; none where nothing does, or only what these words name.
    pub async fn givers(
        &self,
        connection: &Connection,
        without: &[String],
    ) -> Result<Vec<(&Question, Option<String>)>, Failure> {
        let ask = async |question| {
            let by = can::one(connection, &self.place, &self.subject, question).await?;
            let counts = |by: &String| !without.iter().any(|words| by.starts_with(words));
            Ok::<_, Failure>((question, by.filter(counts)))
        };
        let answers = stream::iter(&self.asked).map(ask).buffered(AT_ONCE);
        answers.try_collect().await
    }
}
