//! YAML as a tree in which every value knows its line.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Scalar(Scalar),
    Seq(Vec<Item>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub line: u64,
    pub node: Node,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    /// Line of the key.
    pub line: u64,
    pub node: Node,
}

impl Node {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Scalar(Scalar::Null) => "nothing",
            Self::Scalar(Scalar::Bool(_)) => "true or false",
            Self::Scalar(Scalar::Int(_) | Scalar::Float(_)) => "a number",
            Self::Scalar(Scalar::Str(_)) => "a text",
            Self::Seq(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }

    /// Changes every scalar; keys stay.
    pub fn map_scalars(&mut self, line: u64, change: &mut impl FnMut(u64, &str) -> Option<Scalar>) {
        match self {
            Self::Scalar(Scalar::Str(text)) => {
                if let Some(changed) = change(line, text) {
                    *self = Self::Scalar(changed);
                }
            }
            Self::Scalar(_) => {}
            Self::Seq(items) => items.iter_mut().for_each(|item| item.node.map_scalars(item.line, change)),
            Self::Map(entries) => entries.iter_mut().for_each(|entry| entry.node.map_scalars(entry.line, change)),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Null))
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Null))
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(Self)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Bool(v)))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Int(v)))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Node, E> {
        Ok(Node::Scalar(i64::try_from(v).map_or(Scalar::Float(v as f64), Scalar::Int)))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Float(v)))
    }
    fn visit_str<E>(self, v: &str) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Str(v.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Node>>()? {
            items.push(Item { line: item.referenced.line(), node: item.value });
        }
        Ok(Node::Seq(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let node = map.next_value::<Node>()?;
            entries.push(Entry { key: key.value, line: key.referenced.line(), node });
        }
        Ok(Node::Map(entries))
    }
}
