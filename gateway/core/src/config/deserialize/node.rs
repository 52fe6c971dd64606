//! The deserializer over one node, and over what is in it.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer as _, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::failure::Error;
use super::located::{self, BESIDE, NodeRef};
use super::stand_in::StandIn;
use super::{Reading, complaint};
use crate::config::document::{Kind, NodeId, Scalar, Value};

/// Deserializes one node, and notes at it what goes wrong in it.
#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'r, 'd> {
    reading: &'r Reading<'d>,
    at: NodeRef,
    /// The key whose value this is.
    key: Option<NodeId>,
}

/// What a node is to a type.
enum Shape<'d> {
    Nothing,
    Scalar(&'d Scalar),
    Sequence(&'d [NodeId]),
    Mapping(&'d [(NodeId, NodeId)]),
}

impl<'r, 'd> NodeDeserializer<'r, 'd> {
    pub(super) fn new(reading: &'r Reading<'d>, at: impl Into<NodeRef>) -> Self {
        Self {
            reading,
            at: at.into(),
            key: None,
        }
    }

    fn child(self, node: NodeId) -> Self {
        Self::new(self.reading, node)
    }

    fn shape(self) -> Shape<'d> {
        match self.reading.document.kind(self.at.node) {
            Kind::Scalar(_) if self.at.bare => Shape::Nothing,
            Kind::Scalar(scalar) if scalar.is_null() => Shape::Nothing,
            Kind::Scalar(scalar) => Shape::Scalar(scalar),
            Kind::Sequence(elements) => Shape::Sequence(elements),
            Kind::Mapping(entries) => Shape::Mapping(entries),
        }
    }

    /// Whether a key has no value, not even `~` or `null`.
    fn is_left_out(self) -> bool {
        !self.at.bare && self.reading.document.text(self.at.node) == Some("")
    }

    /// Notes an error of this node. Errors further inside have been noted before.
    fn noted<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|error| self.reading.note(self.at, error.clone()))
    }

    fn refuse<T>(self, error: Error) -> Result<T, Error> {
        self.noted(Err(error))
    }

    fn read<T: DeserializeSeed<'d>>(self, seed: T) -> Result<T::Value, Error> {
        self.noted(seed.deserialize(self))
    }

    fn elements(self, list: &'d [NodeId]) -> Elements<'r, 'd> {
        Elements {
            reading: self.reading,
            rest: list.iter(),
        }
    }

    fn entries(self, entries: &'d [(NodeId, NodeId)]) -> EntriesAccess<'r, 'd> {
        EntriesAccess {
            map: self,
            rest: entries.iter(),
            fields: None,
            missing: Vec::new().into_iter(),
            value: None,
        }
    }

    fn any<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Error> {
        self.noted(match self.shape() {
            Shape::Nothing => visitor.visit_unit(),
            Shape::Scalar(scalar) => visit_scalar(scalar, visitor),
            Shape::Sequence(list) => visitor.visit_seq(self.elements(list)),
            Shape::Mapping(entries) => visitor.visit_map(self.entries(entries)),
        })
    }

    fn text<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.shape() {
            Shape::Scalar(scalar) => self.noted(visitor.visit_borrowed_str(scalar.text())),
            Shape::Nothing | Shape::Sequence(_) | Shape::Mapping(_) => self.any(visitor),
        }
    }

    fn unit<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Error> {
        let Shape::Mapping(_) = self.shape() else {
            return self.any(visitor);
        };
        self.reading.report_unknown(self.at.node, &[]);
        self.noted(visitor.visit_unit())
    }

    /// A list of a fixed length: what follows a wrong element would move to its place, so the
    /// list is wrong as a whole. serde leaves what is too much unread, so it is counted here.
    fn tuple<V: Visitor<'d>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        let Shape::Sequence(list) = self.shape() else {
            return self.any(visitor);
        };
        if list.iter().any(|node| self.reading.is_poisoned(*node)) {
            return self.refuse(Error::Consequence);
        }
        if list.len() > length {
            let expected = format!("a tuple of size {length}");
            return self.refuse(Error::Length {
                length: list.len(),
                expected,
            });
        }
        self.any(visitor)
    }

    /// A map with known keys; nothing at all is an empty one. What is missing in it and was
    /// reported is made up, to see what else is missing, and then the whole is left out.
    fn structure<V: Visitor<'d>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let entries = match self.shape() {
            Shape::Nothing => &[],
            Shape::Mapping(entries) => entries,
            Shape::Scalar(_) => return self.any(visitor),
            // A derived type would take a list for its fields in their order.
            Shape::Sequence(_) => return self.refuse(mismatch(Unexpected::Seq, &visitor)),
        };
        self.reading.report_unknown(self.at.node, fields);
        let missing = self.reading.missing_in(self.at.node);
        let made_up = !missing.is_empty();
        let mut access = self.entries(entries);
        access.fields = Some(fields);
        access.missing = missing.into_iter();
        let value = self.noted(visitor.visit_map(access))?;
        if made_up {
            self.refuse(Error::Consequence)
        } else {
            Ok(value)
        }
    }

    fn named<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Error> {
        let document = self.reading.document;
        let mut beside = [Part::Nothing; BESIDE.len()];
        let (name, value) = match self.shape() {
            Shape::Scalar(_) => (self.at.node, NodeRef::nothing_after(self.at.node)),
            Shape::Mapping(entries) => {
                let mut own = entries.to_vec();
                own.retain(|(key, value)| {
                    let text = document.text(*key);
                    let place = BESIDE.iter().position(|known| text == Some(known));
                    if let Some(place) = place {
                        beside[place] = Part::Node(self.child(*value));
                    }
                    place.is_none()
                });
                let &[(name, value)] = &*own else {
                    return self.refuse(complaint::not_one_key(document, &own));
                };
                (name, value.into())
            }
            Shape::Nothing => return self.refuse(mismatch(Unexpected::Unit, &visitor)),
            Shape::Sequence(_) => return self.refuse(mismatch(Unexpected::Seq, &visitor)),
        };
        let own = [self.child(name), Self::new(self.reading, value)];
        let parts = own.into_iter().map(Part::Node).chain(beside);
        self.noted(visitor.visit_seq(Parts(parts)))
    }
}

fn visit_scalar<'d, V: Visitor<'d>>(scalar: &'d Scalar, visitor: V) -> Result<V::Value, Error> {
    match scalar.value() {
        Value::Null => visitor.visit_unit(),
        Value::Bool(value) => visitor.visit_bool(value),
        Value::Unsigned(value) => visitor.visit_u64(value),
        Value::Signed(value) => visitor.visit_i64(value),
        Value::Float(value) => visitor.visit_f64(value),
        Value::Text(text) => visitor.visit_borrowed_str(text),
    }
}

fn mismatch(found: Unexpected<'_>, expected: &dyn Expected) -> Error {
    serde::de::Error::invalid_type(found, expected)
}

impl<'d> Deserializer<'d> for NodeDeserializer<'_, 'd> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Error> {
        self.any(visitor)
    }

    fn deserialize_str<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Error> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Error> {
        self.text(visitor)
    }

    fn deserialize_char<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Error> {
        self.text(visitor)
    }

    fn deserialize_identifier<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Error> {
        self.text(visitor)
    }

    fn deserialize_bytes<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.shape() {
            Shape::Scalar(scalar) => {
                self.noted(visitor.visit_borrowed_bytes(scalar.text().as_bytes()))
            }
            Shape::Nothing | Shape::Sequence(_) | Shape::Mapping(_) => self.any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.shape() {
            // A key with nothing after it: did somebody forget the value, or take it for the default?
            Shape::Nothing if self.is_left_out() => self.noted(visitor.visit_some(self)),
            Shape::Nothing => self.noted(visitor.visit_none()),
            _ => self.noted(visitor.visit_some(self)),
        }
    }

    fn deserialize_unit<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Error> {
        self.unit(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'d>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'d>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let node = Part::Number(self.at.node.raw());
        match name {
            located::AT => {
                self.noted(visitor.visit_seq(Parts([node, Part::Node(self)].into_iter())))
            }
            located::NODE => {
                let bare = Part::Number(u32::from(self.at.bare));
                self.noted(visitor.visit_seq(Parts([node, bare].into_iter())))
            }
            located::NAMED => self.named(visitor),
            _ => self.noted(visitor.visit_newtype_struct(self)),
        }
    }

    fn deserialize_tuple<V: Visitor<'d>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.tuple(length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'d>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.shape() {
            Shape::Nothing => self.noted(visitor.visit_map(self.entries(&[]))),
            _ => self.any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'d>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.structure(fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'d>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let document = self.reading.document;
        let (name, value) = match self.shape() {
            Shape::Scalar(_) => (self.at.node, NodeRef::nothing_after(self.at.node)),
            Shape::Mapping(&[(name, value)]) => (name, value.into()),
            Shape::Mapping(entries) => {
                return self.refuse(complaint::not_one_variant(document, entries, variants));
            }
            Shape::Nothing => return self.refuse(complaint::not_a_variant("nothing", variants)),
            Shape::Sequence(_) => return self.refuse(complaint::not_a_variant("a list", variants)),
        };
        if !value.bare && (self.reading.is_poisoned(name) || self.reading.is_poisoned(value.node)) {
            return self.refuse(Error::Consequence);
        }
        let value = Self::new(self.reading, value);
        self.noted(visitor.visit_enum(Choice {
            name: self.child(name),
            value,
        }))
    }

    fn deserialize_ignored_any<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, Error> {
        // A derived type that did not tell its fields skips a key that it does not know so.
        if let Some(key) = self.key {
            self.reading.report_ignored(key);
        }
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        <V: Visitor<'d>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 seq
    }
}

/// The elements of a list that are not left out.
struct Elements<'r, 'd> {
    reading: &'r Reading<'d>,
    rest: std::slice::Iter<'d, NodeId>,
}

impl<'d> SeqAccess<'d> for Elements<'_, 'd> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'d>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(node) = self.rest.find(|node| !self.reading.is_poisoned(**node)) else {
            return Ok(None);
        };
        NodeDeserializer::new(self.reading, *node)
            .read(seed)
            .map(Some)
    }
}

/// The entries of a map that are not left out, and then something for each missing one.
struct EntriesAccess<'r, 'd> {
    map: NodeDeserializer<'r, 'd>,
    rest: std::slice::Iter<'d, (NodeId, NodeId)>,
    /// The keys that are known, if the type told; the others have been reported.
    fields: Option<&'static [&'static str]>,
    missing: std::vec::IntoIter<&'static str>,
    value: Option<Pending>,
}

/// The value that belongs to the key given last.
enum Pending {
    Node { key: NodeId, value: NodeId },
    StandIn,
}

impl EntriesAccess<'_, '_> {
    fn is_wanted(&self, key: NodeId, value: NodeId) -> bool {
        let reading = self.map.reading;
        let known = self.fields.is_none_or(|fields| {
            reading
                .document
                .text(key)
                .is_some_and(|name| fields.contains(&name))
        });
        known && !reading.is_poisoned(key) && !reading.is_poisoned(value)
    }
}

impl<'d> MapAccess<'d> for EntriesAccess<'_, 'd> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'d>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        while let Some((key, value)) = self.rest.next() {
            if self.is_wanted(*key, *value) {
                self.value = Some(Pending::Node {
                    key: *key,
                    value: *value,
                });
                return self.map.child(*key).read(seed).map(Some);
            }
        }
        let Some(field) = self.missing.next() else {
            return Ok(None);
        };
        self.value = Some(Pending::StandIn);
        seed.deserialize(BorrowedStrDeserializer::new(field))
            .map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'d>>(&mut self, seed: T) -> Result<T::Value, Error> {
        match self.value.take() {
            Some(Pending::Node { key, value }) => {
                let mut value = self.map.child(value);
                value.key = Some(key);
                value.read(seed)
            }
            Some(Pending::StandIn) => seed
                .deserialize(StandIn)
                .or_else(|_| self.map.refuse(Error::Consequence)),
            None => Err(Error::Custom(
                "a type asks for a value before its key".to_owned(),
            )),
        }
    }
}

/// What the types of [`located`] are made of: numbers and nodes.
struct Parts<I>(I);

#[derive(Clone, Copy)]
enum Part<'r, 'd> {
    Nothing,
    Number(u32),
    Node(NodeDeserializer<'r, 'd>),
}

impl<'r, 'd: 'r, I: Iterator<Item = Part<'r, 'd>>> SeqAccess<'d> for Parts<I> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'d>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        match self.0.next() {
            None => Ok(None),
            Some(Part::Nothing) => seed.deserialize(().into_deserializer()).map(Some),
            Some(Part::Number(number)) => seed.deserialize(number.into_deserializer()).map(Some),
            Some(Part::Node(node)) => node.read(seed).map(Some),
        }
    }
}

/// A variant: a bare word, or a key with its value.
struct Choice<'r, 'd> {
    name: NodeDeserializer<'r, 'd>,
    value: NodeDeserializer<'r, 'd>,
}

impl<'r, 'd> EnumAccess<'d> for Choice<'r, 'd> {
    type Error = Error;
    type Variant = NodeDeserializer<'r, 'd>;

    fn variant_seed<T: DeserializeSeed<'d>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Self::Variant), Error> {
        Ok((self.name.read(seed)?, self.value))
    }
}

impl<'d> VariantAccess<'d> for NodeDeserializer<'_, 'd> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.shape() {
            Shape::Nothing => Ok(()),
            _ => self.refuse(complaint::no_value_wanted()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'d>>(self, seed: T) -> Result<T::Value, Error> {
        self.read(seed)
    }

    fn tuple_variant<V: Visitor<'d>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        self.tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'d>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.structure(fields, visitor)
    }
}
