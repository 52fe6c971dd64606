//! Errors of a reading, kept in parts so that the message can be written when the place is known.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::NodeRef;

/// An error, and the innermost node at which it was seen.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) node: NodeRef,
    pub(super) error: Error,
    /// The error as it reads after it went through a type that keeps only its text.
    pub(super) text: String,
}

/// What serde, or a type, has to say.
#[derive(Clone, Debug)]
pub(super) enum Error {
    /// A type's own words.
    Custom(String),
    /// The value is not built as it has to be.
    Form {
        message: String,
        help: Option<String>,
    },
    /// The value is of another type.
    Type {
        found: String,
        expected: String,
    },
    /// The value is of the right type and has no meaning.
    Value {
        found: String,
        expected: String,
    },
    Length {
        length: usize,
        expected: String,
    },
    Variant {
        found: String,
        known: &'static [&'static str],
    },
    Field {
        found: String,
        known: &'static [&'static str],
    },
    Missing(&'static str),
    Duplicate(&'static str),
    /// Nothing new: something inside was left out.
    Consequence,
}

impl fmt::Display for Error {
    /// For types that take errors apart or wrap them; people read [`super::complaint`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Custom(message) | Self::Form { message, .. } => f.write_str(message),
            Self::Type { found, expected } => {
                write!(f, "invalid type: {found}, expected {expected}")
            }
            Self::Value { found, expected } => {
                write!(f, "invalid value: {found}, expected {expected}")
            }
            Self::Length { length, expected } => {
                write!(f, "invalid length {length}, expected {expected}")
            }
            Self::Variant { found, .. } => write!(f, "unknown variant `{found}`"),
            Self::Field { found, .. } => write!(f, "unknown field `{found}`"),
            Self::Missing(field) => write!(f, "missing field `{field}`"),
            Self::Duplicate(field) => write!(f, "duplicate field `{field}`"),
            Self::Consequence => f.write_str("a part of it is wrong"),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        Self::restored(&text).unwrap_or(Self::Custom(text))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Type {
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Value {
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::Length {
            length,
            expected: expected.to_string(),
        }
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Self::Variant {
            found: found.to_owned(),
            known,
        }
    }

    fn unknown_field(found: &str, known: &'static [&'static str]) -> Self {
        Self::Field {
            found: found.to_owned(),
            known,
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Duplicate(field)
    }
}

impl Error {
    /// The parts of an error that a type passed on as text.
    fn restored(text: &str) -> Option<Self> {
        let parts = |rest: &str| {
            let (found, expected) = rest.split_once(", expected ")?;
            Some((found.to_owned(), expected.to_owned()))
        };
        if let Some(rest) = text.strip_prefix("invalid type: ") {
            return parts(rest).map(|(found, expected)| Self::Type { found, expected });
        }
        let (found, expected) = parts(text.strip_prefix("invalid value: ")?)?;
        Some(Self::Value { found, expected })
    }
}
