//! Asks a type what it takes, without having any of it.
//!
//! serde types say what they want only while they are given something. So a type is read again and again: each time
//! from a [`Probe`] that leads to one place within it, notes what is wanted there, and gives nothing more.

use std::{cell::RefCell, fmt};

use serde::{
    de::{
        self, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer, MapAccess,
        SeqAccess, Unexpected, VariantAccess, Visitor,
    },
    forward_to_deserialize_any,
};

use crate::config::deserialize::{AT, NAMED, NODE};

/// Reads a type from a probe. What comes of it is of no interest.
pub(super) type Read<'t> = dyn Fn(Probe<'_>) -> Result<(), Error> + 't;

/// The way to a place within a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Field(String),
    /// The value of a key of one's own.
    Entry,
    Element,
    Variant(String),
}

/// What a type wants at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Bool,
    Integer {
        signed: bool,
    },
    Number,
    Text,
    /// Whatever is there.
    Any,
    /// Nothing at all, beside a word.
    Unit,
    List,
    Map,
    Struct(&'static [&'static str]),
    Enum(&'static [&'static str]),
    /// A part that is read later, by others.
    Node,
    /// A filter.
    Named,
}

/// What is given at the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Nothing,
    Text,
    Integer,
    Number,
    Bool,
    List,
    /// With a key that nobody has.
    Map,
}

/// What has come of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) wanted: Option<Wanted>,
    /// Whether there may be nothing.
    pub(super) optional: bool,
    /// Whether the form was one that is taken; its content may be wrong all the same.
    pub(super) taken: bool,
    /// What should have been there, in the words of the type.
    pub(super) expected: Option<String>,
    /// The keys that a map may have.
    pub(super) fields: Option<&'static [&'static str]>,
}

/// A key that no type has.
const NOBODYS: &str = "\u{1}nobody's";

/// Keys of one's own: one of them is what any type takes.
pub(super) const KEYS: [&str; 8] = ["x", "200", "x.y", "/x", "*.css", "text/html", "1", "GET"];

/// Gives a form to the place at the end of a way, and tells what came of it.
pub(super) fn look(read: &Read<'_>, way: &[Step], form: Form, key: &'static str) -> Seen {
    let trace = Trace {
        way,
        form,
        key,
        seen: RefCell::default(),
    };
    // What the whole comes to is an error in any case.
    drop(read(Probe {
        trace: &trace,
        depth: 0,
    }));
    trace.seen.into_inner()
}

struct Trace<'t> {
    way: &'t [Step],
    form: Form,
    key: &'static str,
    seen: RefCell<Seen>,
}

/// A deserializer that leads to one place.
#[derive(Clone, Copy)]
pub(super) struct Probe<'t> {
    trace: &'t Trace<'t>,
    depth: usize,
}

impl<'t> Probe<'t> {
    fn step(self) -> Option<&'t Step> {
        self.trace.way.get(self.depth)
    }

    fn further(self) -> Self {
        Self {
            depth: self.depth + 1,
            ..self
        }
    }

    /// Goes on, or gives what is to be given.
    fn go<'de, V: Visitor<'de>>(self, wanted: Wanted, visitor: V) -> Result<V::Value, Error> {
        let Some(step) = self.step() else {
            return self.give(wanted, visitor);
        };
        match step {
            Step::Field(name) => visitor.visit_map(self.entry(name)),
            Step::Entry => visitor.visit_map(self.entry(self.trace.key)),
            Step::Element => visitor.visit_seq(Elements(vec![Part::Probe(self.further())])),
            Step::Variant(name) => visitor.visit_enum(Variant { name, probe: self }),
        }
    }

    fn entry<'k>(self, key: &'k str) -> Entry<'k, 't> {
        Entry {
            key: Some(key),
            value: Some(self.further()),
        }
    }

    fn give<'de, V: Visitor<'de>>(self, wanted: Wanted, visitor: V) -> Result<V::Value, Error> {
        self.trace.seen.borrow_mut().wanted = Some(wanted);
        let result = match self.trace.form {
            Form::Nothing => return Err(Error::Stop),
            Form::Text => visitor.visit_str(NOBODYS),
            Form::Integer => visitor.visit_u64(1),
            Form::Number => visitor.visit_f64(0.5),
            Form::Bool => visitor.visit_bool(true),
            Form::List => visitor.visit_seq(Elements(Vec::new())),
            Form::Map => visitor.visit_map(Entry {
                key: Some(NOBODYS),
                value: None,
            }),
        };
        let mut seen = self.trace.seen.borrow_mut();
        match &result {
            Err(Error::Type(expected)) => seen.expected = Some(expected.clone()),
            Err(Error::Field(fields)) => (seen.taken, seen.fields) = (true, Some(*fields)),
            _ => seen.taken = true,
        }
        result
    }
}

/// Why a reading ends.
#[derive(Clone, Debug)]
pub(super) enum Error {
    /// It has seen enough.
    Stop,
    /// What was given is nothing of that kind.
    Type(String),
    /// There is no such key, but these.
    Field(&'static [&'static str]),
    Other,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this was only a question")
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Other
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Type(expected.to_string())
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::Field(expected)
    }
}

macro_rules! wants {
    ($($method:ident => $wanted:expr),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.go($wanted, visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    wants! {
        deserialize_any => Wanted::Any,
        deserialize_ignored_any => Wanted::Any,
        deserialize_bool => Wanted::Bool,
        deserialize_u8 => Wanted::Integer { signed: false },
        deserialize_u16 => Wanted::Integer { signed: false },
        deserialize_u32 => Wanted::Integer { signed: false },
        deserialize_u64 => Wanted::Integer { signed: false },
        deserialize_u128 => Wanted::Integer { signed: false },
        deserialize_i8 => Wanted::Integer { signed: true },
        deserialize_i16 => Wanted::Integer { signed: true },
        deserialize_i32 => Wanted::Integer { signed: true },
        deserialize_i64 => Wanted::Integer { signed: true },
        deserialize_i128 => Wanted::Integer { signed: true },
        deserialize_f32 => Wanted::Number,
        deserialize_f64 => Wanted::Number,
        deserialize_char => Wanted::Text,
        deserialize_str => Wanted::Text,
        deserialize_string => Wanted::Text,
        deserialize_identifier => Wanted::Text,
        deserialize_bytes => Wanted::Text,
        deserialize_byte_buf => Wanted::Text,
        deserialize_unit => Wanted::Unit,
        deserialize_seq => Wanted::List,
        deserialize_map => Wanted::Map,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.step().is_none() {
            self.trace.seen.borrow_mut().optional = true;
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.go(Wanted::Unit, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match name {
            AT => visitor.visit_seq(Elements(vec![Part::Probe(self), Part::Number])),
            NODE => self.go(Wanted::Node, visitor),
            NAMED => self.go(Wanted::Named, visitor),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.go(Wanted::List, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.go(Wanted::List, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.go(Wanted::Struct(fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.go(Wanted::Enum(variants), visitor)
    }
}

/// A part of what a list has, the last one first.
enum Part<'t> {
    Probe(Probe<'t>),
    /// Where it stands, for types that keep that.
    Number,
    Key(&'t str),
}

struct Elements<'t>(Vec<Part<'t>>);

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        match self.0.pop() {
            None => Ok(None),
            Some(Part::Probe(probe)) => seed.deserialize(probe).map(Some),
            Some(Part::Number) => seed.deserialize(0_u32.into_deserializer()).map(Some),
            Some(Part::Key(key)) => seed.deserialize(Key(key)).map(Some),
        }
    }
}

/// A map of one key.
struct Entry<'k, 't> {
    key: Option<&'k str>,
    value: Option<Probe<'t>>,
}

impl<'de> MapAccess<'de> for Entry<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.key
            .take()
            .map(|key| seed.deserialize(Key(key)))
            .transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match self.value.take() {
            Some(probe) => seed.deserialize(probe),
            None => Err(Error::Stop),
        }
    }
}

/// The key of a map.
struct Key<'k>(&'k str);

impl<'de> Deserializer<'de> for Key<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match name {
            AT => visitor.visit_seq(Elements(vec![Part::Key(self.0), Part::Number])),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(IntoDeserializer::<Error>::into_deserializer(self.0))
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.parse() {
            Ok(number) => visitor.visit_u16(number),
            Err(_) => Err(Error::Other),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// A choice of a name, with what follows it.
struct Variant<'k, 't> {
    name: &'k str,
    probe: Probe<'t>,
}

impl<'de, 't> EnumAccess<'de> for Variant<'_, 't> {
    type Error = Error;
    type Variant = Content<'t>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Content<'t>), Error> {
        let name = seed.deserialize(Key(self.name))?;
        Ok((name, Content(self.probe.further())))
    }
}

/// What follows the name of a choice.
struct Content<'t>(Probe<'t>);

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.0.trace.seen.borrow_mut().wanted = Some(Wanted::Unit);
        Err(Error::Stop)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.0.go(Wanted::List, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.go(Wanted::Struct(fields), visitor)
    }
}
