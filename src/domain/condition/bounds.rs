//! What a condition may be: the names it may use, and an upper bound for the work of evaluating it.
//!
//! Only loops can repeat work, and only text and lists from outside are long. So loops may test but not build
//! (`all`, `exists`, `exists_one`), each costs its longest list times its body, and the functions are those whose work is
//! linear in what they are given. Kubernetes bounds the CEL of its own resources by a cost in the same way.

use crate::domain::condition::inputs;
use cel::IdedExpr;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators,
};
use regex::{Regex, RegexBuilder};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Most steps of one evaluation; a step is a node of the expression, once for each turn of the loops around it.
pub const BUDGET: u64 = 200_000;
/// Most levels of an expression, what macros add included.
const MAX_DEPTH: usize = 64;
/// Longest compiled regular expression, in bytes.
const MAX_REGEX: usize = 64 * 1024;
/// Steps that a regular expression counts for.
const REGEX_STEPS: u64 = 16;

/// The functions and methods that may be called beside the operators: all linear in their arguments.
const FUNCTIONS: [&str; 21] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "duration",
    "timestamp",
    "string",
    "int",
    "double",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "getMilliseconds",
    "bool",
];

/// The compiled regular expressions of a condition, by their text.
pub(super) type Patterns = Arc<HashMap<String, Regex>>;

/// Why an expression is refused, and at which node.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) node: u64,
    pub(super) why: String,
}

fn refuse<T>(at: &IdedExpr, why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        node: at.id,
        why: why.into(),
    })
}

/// What a checked expression needs to be evaluated.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) patterns: Patterns,
    /// Each variable or field of one that it uses, `request.spec.ticket`, once.
    pub(super) reads: BTreeSet<String>,
}

/// Checks a whole expression.
pub(super) fn check(root: &IdedExpr) -> Result<Checked, Refusal> {
    let mut walk = Walk {
        locals: Vec::new(),
        depth: 0,
        patterns: HashMap::new(),
        reads: Vec::new(),
    };
    let steps = walk.steps(root)?;
    if steps > BUDGET {
        let why = format!(
            "may take {steps} steps where {BUDGET} are allowed; use fewer loops inside loops, or shorter lists"
        );
        return refuse(root, why);
    }
    if !may_be_bool(root) {
        return refuse(root, "must yield a bool");
    }
    Ok(Checked {
        patterns: Arc::new(walk.patterns),
        reads: walk.reads.iter().map(|path| path.join(".")).collect(),
    })
}

/// What is certainly no bool is refused when it is written; what turns out to be none when it is evaluated.
fn may_be_bool(root: &IdedExpr) -> bool {
    match &root.expr {
        Expr::Literal(literal) => matches!(literal, LiteralValue::Boolean(_)),
        Expr::List(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Ident(_) => false,
        Expr::Call(call) if call.func_name == operators::CONDITIONAL => {
            call.args.iter().all(may_be_bool)
        }
        Expr::Call(call) => !matches!(
            call.func_name.as_str(),
            operators::ADD
                | operators::SUBSTRACT
                | operators::MULTIPLY
                | operators::DIVIDE
                | operators::MODULO
                | operators::NEGATE
                | "size"
                | "string"
                | "int"
                | "double"
                | "duration"
                | "timestamp"
        ),
        Expr::Select(_) | Expr::Comprehension(_) | Expr::Unspecified => true,
    }
}

/// A variable of a loop, and the most steps that comparing its value takes.
struct Local<'a> {
    name: &'a str,
    weight: u64,
}

struct Walk<'a> {
    /// Variables of the loops around the node.
    locals: Vec<Local<'a>>,
    depth: usize,
    patterns: HashMap<String, Regex>,
    /// The longest path at each place where a variable is used.
    reads: Vec<Vec<&'a str>>,
}

impl<'a> Walk<'a> {
    /// The steps of one evaluation of a node.
    fn steps(&mut self, at: &'a IdedExpr) -> Result<u64, Refusal> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return refuse(at, format!("is nested deeper than {MAX_DEPTH} levels"));
        }
        let below = match &at.expr {
            Expr::Literal(_) => 0,
            Expr::Ident(name) => self.ident(at, name)?,
            Expr::Select(select) => self.select(at, select)?,
            Expr::List(list) => self.all(&list.elements)?.saturating_add(self.weight(at)),
            Expr::Map(map) if map.entries.is_empty() => 0,
            Expr::Map(map) => {
                // A map made here could hide a long list behind the name of a short one.
                let first = map.entries.first().map(|entry| &entry.expr);
                let at = match first {
                    Some(EntryExpr::MapEntry(entry)) => &entry.key,
                    _ => at,
                };
                return refuse(at, "makes a map, which a condition may not");
            }
            Expr::Struct(_) | Expr::Unspecified => {
                return refuse(at, "makes a message, which a condition may not");
            }
            Expr::Call(call) => self.call(at, call)?,
            Expr::Comprehension(comprehension) => self.comprehension(at, comprehension)?,
        };
        self.depth -= 1;
        Ok(below.saturating_add(1))
    }

    fn local(&self, name: &str) -> Option<&Local<'a>> {
        self.locals.iter().rev().find(|local| local.name == name)
    }

    /// Most elements that a list or map can have: by the name of its field, which `inputs` holds it to.
    fn count(&self, list: &IdedExpr) -> u64 {
        match &list.expr {
            Expr::List(list) => list.elements.len() as u64,
            Expr::Select(select) => inputs::longest(&select.field),
            Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
                (operators::ADD, [a, b]) => self.count(a).saturating_add(self.count(b)),
                (operators::CONDITIONAL, [_, a, b]) => self.count(a).max(self.count(b)),
                _ => self.weight(list).max(inputs::LONGEST),
            },
            _ => inputs::LONGEST,
        }
    }

    /// Most steps that comparing or copying a value takes: one for each text or number in it.
    fn weight(&self, at: &IdedExpr) -> u64 {
        match &at.expr {
            Expr::Ident(name) => match self.local(name) {
                Some(local) => local.weight,
                None => inputs::weight(name),
            },
            Expr::Select(select) => inputs::weight(&select.field),
            Expr::List(list) => self.sum(&list.elements),
            Expr::Call(call) => match call.func_name.as_str() {
                operators::ADD | operators::CONDITIONAL | operators::INDEX => self.sum(&call.args),
                _ => 1,
            },
            _ => 1,
        }
    }

    fn sum(&self, parts: &[IdedExpr]) -> u64 {
        let weights = parts.iter().map(|part| self.weight(part));
        weights.fold(1, u64::saturating_add)
    }

    /// The same for one element of a list.
    fn element_weight(&self, list: &IdedExpr) -> u64 {
        match &list.expr {
            Expr::Select(select) => inputs::element_weight(&select.field),
            _ => self.weight(list),
        }
    }

    fn all(&mut self, parts: &'a [IdedExpr]) -> Result<u64, Refusal> {
        let mut sum: u64 = 0;
        for part in parts {
            sum = sum.saturating_add(self.steps(part)?);
        }
        Ok(sum)
    }

    fn ident(&mut self, at: &IdedExpr, name: &'a str) -> Result<u64, Refusal> {
        if self.local(name).is_some() {
            return Ok(0);
        }
        if inputs::fields(&[name]).is_some() {
            self.reads.push(vec![name]);
            return Ok(0);
        }
        let known = inputs::NAMES.join(", ");
        refuse(
            at,
            format!("there is no variable `{name}`; there are {known}"),
        )
    }

    fn select(&mut self, at: &IdedExpr, select: &'a SelectExpr) -> Result<u64, Refusal> {
        let steps = self.steps(&select.operand)?;
        let Some(path) = self.path(&select.operand) else {
            return Ok(steps);
        };
        // The walk below ended with the operand, whose path is the last one.
        if let Some(read) = self.reads.last_mut() {
            read.push(&select.field);
        }
        if let Some(fields) = inputs::fields(&path).filter(|fields| !fields.is_empty())
            && !fields.contains(&select.field.as_str())
        {
            let (of, known) = (path.join("."), fields.join(", "));
            let why = format!("`{of}` has no field `{}`; it has {known}", select.field);
            return refuse(at, why);
        }
        Ok(steps)
    }

    /// `request.spec` as its parts; nothing for what is computed or belongs to a loop.
    fn path(&self, at: &'a IdedExpr) -> Option<Vec<&'a str>> {
        match &at.expr {
            Expr::Ident(name) if self.local(name).is_none() => Some(vec![name]),
            Expr::Select(select) => {
                let mut path = self.path(&select.operand)?;
                path.push(&select.field);
                Some(path)
            }
            _ => None,
        }
    }

    fn call(&mut self, at: &'a IdedExpr, call: &'a CallExpr) -> Result<u64, Refusal> {
        let mut steps = match &call.target {
            Some(target) => self.steps(target)?,
            None => 0,
        };
        steps = steps.saturating_add(self.all(&call.args)?);
        let name = call.func_name.as_str();
        if name == "matches" {
            self.pattern(at, call)?;
            return Ok(steps.saturating_add(REGEX_STEPS));
        }
        if !is_operator(name) && !FUNCTIONS.contains(&name) {
            let known = FUNCTIONS.join(", ");
            return refuse(
                at,
                format!("there is no function `{name}`; there are {known}"),
            );
        }
        if is_lazy(name) {
            return Ok(steps);
        }
        let parts = call.args.iter().chain(call.target.as_deref());
        let weights = parts.map(|part| self.weight(part));
        Ok(weights.fold(steps, u64::saturating_add))
    }

    /// Regular expressions are compiled with the policy, so they must be written out.
    fn pattern(&mut self, at: &IdedExpr, call: &CallExpr) -> Result<(), Refusal> {
        let Some(IdedExpr {
            expr: Expr::Literal(LiteralValue::String(text)),
            ..
        }) = call.args.last()
        else {
            return refuse(at, "must have its regular expression as a text in quotes");
        };
        let text = text.inner();
        match RegexBuilder::new(text).size_limit(MAX_REGEX).build() {
            Ok(regex) => {
                self.patterns.insert(text.to_owned(), regex);
                Ok(())
            }
            Err(error) => {
                let drawn = error.to_string();
                let reason = drawn.lines().last().unwrap_or_default().trim();
                let why = format!("must have a regular expression in RE2 syntax: {reason}");
                refuse(at, why)
            }
        }
    }

    fn comprehension(
        &mut self,
        at: &'a IdedExpr,
        comprehension: &'a ComprehensionExpr,
    ) -> Result<u64, Refusal> {
        if matches!(comprehension.accu_init.expr, Expr::List(_)) {
            let why =
                "makes a list with `map` or `filter`; test with `all`, `exists` or `exists_one`";
            return refuse(at, why);
        }
        let range = self.steps(&comprehension.iter_range)?;
        let outer = self.locals.len();
        let weight = self.element_weight(&comprehension.iter_range);
        let variables = [&comprehension.accu_var, &comprehension.iter_var];
        let variables = variables.into_iter().chain(&comprehension.iter_var2);
        self.locals
            .extend(variables.map(|name| Local { name, weight }));
        let condition = self.steps(&comprehension.loop_cond)?;
        let turn = condition.saturating_add(self.steps(&comprehension.loop_step)?);
        let result = self.steps(&comprehension.result)?;
        self.locals.truncate(outer);
        let turns = self.count(&comprehension.iter_range);
        Ok(turn
            .saturating_mul(turns)
            .saturating_add(range)
            .saturating_add(result))
    }
}

fn is_operator(name: &str) -> bool {
    name.contains('_') && !name.bytes().any(|b| b.is_ascii_alphanumeric())
        || matches!(name, operators::IN | operators::NOT_STRICTLY_FALSE)
}

/// Operators that look at no more of their operands than one of them, or a truth.
fn is_lazy(name: &str) -> bool {
    matches!(
        name,
        operators::CONDITIONAL
            | operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::LOGICAL_NOT
            | operators::NOT_STRICTLY_FALSE
            | operators::INDEX
    )
}
