//! A document with the line of every value, so that a finding can point at what a person wrote.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;
use std::fmt;

/// One value, and the line on which it is written.
#[derive(Debug)]
pub struct Node {
    /// Counted from 1; of a field, the line of its name.
    pub line: u64,
    /// What it is.
    pub tree: Tree,
}

/// The shapes of JSON, with lines.
#[derive(Debug)]
pub enum Tree {
    /// Null, a number, a boolean or text.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// Fields in the order of the document, each name once.
    Fields(Vec<(String, Node)>),
}

impl Node {
    /// The same as JSON.
    pub fn value(&self) -> Value {
        match &self.tree {
            Tree::Scalar(value) => value.clone(),
            Tree::List(items) => items.iter().map(Self::value).collect(),
            Tree::Fields(fields) => {
                let json = fields
                    .iter()
                    .map(|(name, node)| (name.clone(), node.value()));
                Value::Object(json.collect::<Map<_, _>>())
            }
        }
    }

    /// The field of this name.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match &self.tree {
            Tree::Fields(fields) => fields.iter().find(|(n, _)| n == name).map(|(_, v)| v),
            Tree::Scalar(_) | Tree::List(_) => None,
        }
    }

    /// The text of the field of this name; empty text counts as absent.
    pub fn text(&self, name: &str) -> Option<&str> {
        match &self.get(name)?.tree {
            Tree::Scalar(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// The line of a path such as `spec.rules[0].verbs[1]`, or of the innermost part of it that is there.
    pub fn line_of(&self, path: &str) -> u64 {
        let mut node = self;
        for step in steps(path) {
            let next = match (&node.tree, step) {
                (Tree::List(items), Step::Item(index)) => items.get(index),
                (Tree::Fields(_), Step::Field(name)) => node.get(name),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.line
    }
}

enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

/// A path in steps: names between dots, and in brackets a number or a name that may contain dots.
fn steps(path: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (word, after) = inside.split_once(']').unwrap_or((inside, ""));
            steps.push(word.parse().map_or(Step::Field(word), Step::Item));
            rest = after;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end > 0 {
                steps.push(Step::Field(&rest[..end]));
            }
            rest = &rest[end..];
        }
    }
    steps
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Tree>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            tree: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value that JSON can hold")
    }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_none<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Tree, D::Error> {
        Tree::deserialize(inner)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Tree, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("must be a finite number"))?;
        Ok(Tree::Scalar(Value::Number(number)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = map.next_key::<Spanned<String>>()? {
            let mut value: Node = map.next_value()?;
            value.line = name.referenced.line();
            fields.push((name.value, value));
        }
        Ok(Tree::Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_its_line_or_to_the_nearest_that_exists() {
        let text =
            "# a comment\nspec:\n  rules:\n  - verbs: [get,\n      list]\n    x/y.z: 1\n  end: 2";
        let node: Node = serde_saphyr::from_str(text).unwrap();
        assert_eq!(node.line_of("spec.rules[0].verbs[1]"), 5);
        assert_eq!(node.line_of("spec.rules[0].verbs"), 4);
        assert_eq!(node.line_of("spec.rules[0][x/y.z]"), 6);
        assert_eq!(node.line_of("spec.rules[7].verbs"), 3);
        assert_eq!(node.line_of("spec.duration"), 2);
        assert_eq!(node.value()["spec"]["end"], 2);
    }
}
