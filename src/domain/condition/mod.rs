//! The conditions of a policy: CEL expressions, compiled when the policy is written and evaluated for each request.
//!
//! What can be written is bounded in size, depth and work (`bounds`), so that evaluation cannot be made slow by whoever
//! writes policies or requests. Whatever goes wrong in an evaluation means that the condition does not hold.

mod bounds;
mod inputs;

pub use inputs::Inputs;

use crate::api::access_policy::PolicyCondition;
use bounds::{Checked, Refusal};
use cel::common::ast::SourceInfo;
use cel::{Context, Env, IdedExpr, Value};
use std::sync::{Arc, LazyLock};

/// Longest expression, in bytes; the schema counts characters.
const MAX_LENGTH: usize = 2048;
/// Most brackets inside brackets. The parser recurses over them while it looks ahead, whatever its own limit.
const MAX_NESTING: usize = 24;
/// Stack of the thread that parses: several times what that many brackets take in a build without optimisation.
const STACK: usize = 32 * 1024 * 1024;

static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A condition that can be evaluated.
#[derive(Debug)]
pub struct Condition {
    text: String,
    message: Option<String>,
    program: IdedExpr,
    checked: Checked,
}

/// Why a condition refuses.
#[derive(Debug, PartialEq, Eq)]
pub struct Unmet {
    /// In words, with the expression or the author's message.
    pub why: String,
}

impl Condition {
    /// Compiles a condition, or says what is wrong with it and where: `line 1, column 12: …`.
    pub fn compile(condition: &PolicyCondition) -> Result<Self, String> {
        let text = condition.expression.trim_end();
        if text.len() > MAX_LENGTH {
            return Err(format!("must have at most {MAX_LENGTH} bytes"));
        }
        if nesting(text) > MAX_NESTING {
            return Err(format!(
                "must have at most {MAX_NESTING} brackets inside brackets"
            ));
        }
        let (program, source) = parse(text)?;
        let checked =
            bounds::check(&program).map_err(|refusal| located(&source, text, &refusal))?;
        Ok(Self {
            text: text.to_owned(),
            message: condition.message.clone(),
            program,
            checked,
        })
    }

    /// What it looks at: each variable, or field of one, as `serviceAccount.labels`; a variable alone where all of it is
    /// used.
    pub fn reads(&self) -> impl Iterator<Item = &str> {
        self.checked.reads.iter().map(String::as_str)
    }

    /// Whether it holds; anything but `true` refuses.
    pub fn holds(&self, inputs: &Inputs<'_>) -> Result<(), Unmet> {
        let outcome = self.evaluate(inputs);
        let why = match outcome {
            Ok(Value::Bool(true)) => return Ok(()),
            Ok(Value::Bool(false)) => match &self.message {
                Some(message) => message.clone(),
                None => format!("requires that {}", self.text),
            },
            Ok(other) => format!(
                "has a condition that yields a {} and not a bool: {}",
                other.type_of(),
                self.text
            ),
            Err(error) => format!("cannot evaluate its condition {}: {error}", self.text),
        };
        Err(Unmet { why })
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Result<Value, String> {
        let mut context = Context::with_env(Arc::clone(&LANGUAGE));
        for (name, value) in inputs.values()? {
            context.add_variable_from_value(name, value);
        }
        let patterns = self.checked.patterns.clone();
        let matches = move |cel::extractors::This(text): cel::extractors::This<Arc<String>>,
                            pattern: Arc<String>| {
            patterns
                .get(pattern.as_str())
                .is_some_and(|p| p.is_match(&text))
        };
        context
            .add_function("matches", matches)
            .map_err(|error| error.to_string())?;
        Value::resolve(&self.program, &context).map_err(|error| first_line(&error.to_string()))
    }
}

/// Parses on a thread of its own, because the parser takes more stack than the threads that serve requests have.
fn parse(text: &str) -> Result<(IdedExpr, SourceInfo), String> {
    let parse = || {
        let parsed = LANGUAGE.parser().parse_with_source_info(text);
        parsed.map_err(|errors| {
            let first = errors.errors.first();
            first.map_or_else(String::new, |error| at(error.pos, &error.msg))
        })
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let thread = thread.spawn_scoped(scope, parse);
        let thread = thread.map_err(|error| format!("cannot be parsed now: {error}"))?;
        let parsed = thread.join();
        parsed.map_err(|_| "cannot be parsed".to_owned())?
    })
}

/// Most brackets that are open at once, those in texts included.
fn nesting(text: &str) -> usize {
    let mut open: usize = 0;
    let mut most = 0;
    for letter in text.bytes() {
        match letter {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// Values are quoted in the crate's messages; a message stays one short line.
fn first_line(text: &str) -> String {
    const LONGEST: usize = 200;
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(LONGEST).collect()
}

fn at((line, column): (isize, isize), message: &str) -> String {
    format!("line {line}, column {column}: {message}")
}

/// The refusal of a node, with the place of the node in the text.
fn located(source: &SourceInfo, text: &str, refusal: &Refusal) -> String {
    let offset = source.offset_for(refusal.node);
    // Nodes that a macro made have no place of their own.
    let Some(start) = offset.map(|(start, _)| start as usize) else {
        return refusal.why.clone();
    };
    let before: String = text.chars().take(start).collect();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: {}", refusal.why)
}
