//! JSON documents with values in their texts.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};

use super::text::{Escape, Name, Text, Told};
use crate::watched::{Content, Wrong};

/// A JSON document whose texts are templates; names of members stand for themselves, and keep their order.
#[derive(Debug, PartialEq)]
pub(super) enum Document {
    Null,
    Truth(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(Text),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Document {
    /// The document for this response. A text that is nothing but `{status}` is the number.
    pub(super) fn render(&self, told: &Told<'_, '_>) -> Vec<u8> {
        serde_json::to_vec(&Rendered(self, told)).expect("texts, numbers and lists are JSON")
    }
}

struct Rendered<'d, 'a, 'r>(&'d Document, &'d Told<'a, 'r>);

impl Serialize for Rendered<'_, '_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(document, told) = *self;
        match document {
            Document::Null => serializer.serialize_unit(),
            Document::Truth(value) => serializer.serialize_bool(*value),
            Document::Unsigned(number) => serializer.serialize_u64(*number),
            Document::Signed(number) => serializer.serialize_i64(*number),
            Document::Float(number) => serializer.serialize_f64(*number),
            Document::Text(text) if text.is_only(&Name::Status) => {
                serializer.serialize_u16(told.status.as_u16())
            }
            Document::Text(text) => serializer.serialize_str(&text.render(told, Escape::No)),
            Document::List(list) => {
                let mut elements = serializer.serialize_seq(Some(list.len()))?;
                for element in list {
                    elements.serialize_element(&Rendered(element, told))?;
                }
                elements.end()
            }
            Document::Map(map) => {
                let mut members = serializer.serialize_map(Some(map.len()))?;
                for (name, value) in map {
                    members.serialize_entry(name, &Rendered(value, told))?;
                }
                members.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

macro_rules! scalars {
    ($($visit:ident: $type:ty => $kind:ident,)*) => {$(
        fn $visit<E: de::Error>(self, value: $type) -> Result<Document, E> {
            Ok(Document::$kind(value))
        }
    )*};
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what a JSON document is made of")
    }

    scalars! {
        visit_bool: bool => Truth, visit_u64: u64 => Unsigned, visit_i64: i64 => Signed, visit_f64: f64 => Float,
    }

    fn visit_unit<E: de::Error>(self) -> Result<Document, E> {
        Ok(Document::Null)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Document, E> {
        let text = Text::try_from(std::borrow::Cow::Borrowed(text));
        text.map(Document::Text).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Document, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            elements.push(element);
        }
        Ok(Document::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut members: Vec<(String, Document)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, _>()? {
            if members.iter().any(|(known, _)| *known == name) {
                let message = format!("the member `{name}` is there twice");
                return Err(de::Error::custom(message));
            }
            members.push((name, value));
        }
        Ok(Document::Map(members))
    }
}

impl Content for Document {
    const LARGEST: u64 = super::LARGEST;

    fn parse(bytes: Vec<u8>) -> Result<Self, Wrong> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        serde_json::from_slice(bytes)
            .map_err(|error| Wrong::line(error.line(), format!("it is not JSON: {error}")))
    }
}
