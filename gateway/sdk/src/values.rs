//! What filters tell each other during one request.

use std::{
    any::{Any, TypeId},
    fmt,
    sync::Arc,
};

use serde_json::{Map, Value};
use smallvec::SmallVec;

/// Values of any type, at most one of each, for the length of one request.
///
/// A handful at most are ever set, so a short list beats a map. A clone shares the values, and may be given
/// others.
#[derive(Clone, Default)]
pub struct Values {
    entries: SmallVec<[(TypeId, Arc<dyn Any + Send + Sync>); 2]>,
}

impl Values {
    /// The value of type `T`, if a filter has set one.
    pub fn get<T: Any>(&self) -> Option<&T> {
        let (_, value) = self
            .entries
            .iter()
            .find(|(id, _)| *id == TypeId::of::<T>())?;
        value.downcast_ref()
    }

    /// Sets the value of type `T` and returns the one that it replaces.
    pub fn insert<T: Any + Send + Sync>(&mut self, value: T) -> Option<Arc<T>> {
        self.share(Arc::new(value))
    }

    /// Sets the value of type `T` to one that others have too, such as all requests of a connection, and
    /// returns the one that it replaces.
    pub fn share<T: Any + Send + Sync>(&mut self, value: Arc<T>) -> Option<Arc<T>> {
        let id = TypeId::of::<T>();
        let Some(entry) = self.entries.iter_mut().find(|(known, _)| *known == id) else {
            self.entries.push((id, value));
            return None;
        };
        std::mem::replace(&mut entry.1, value).downcast().ok()
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values({})", self.entries.len())
    }
}

/// Who is calling, once a filter has found out.
///
/// Every filter that authenticates sets it, whatever it checked (a token, a password, a
/// certificate), so that filters that decide by it need not know. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Identity {
    subject: Arc<str>,
    claims: Arc<Map<String, Value>>,
}

impl Identity {
    /// The caller named `subject`, of whom nothing else is known.
    pub fn new(subject: impl Into<Arc<str>>) -> Self {
        Self {
            subject: subject.into(),
            claims: Arc::default(),
        }
    }

    /// The caller named `subject`, with what the token or its like says.
    pub fn with_claims(subject: impl Into<Arc<str>>, claims: Arc<Map<String, Value>>) -> Self {
        Self {
            subject: subject.into(),
            claims,
        }
    }

    /// The name of the caller: a user or a program.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What is known of the caller; nested values are reached by `a.b.c`.
    pub fn claim(&self, path: &str) -> Option<&Value> {
        claim(&self.claims, path)
    }

    /// All that is known of the caller.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }
}

/// The claim at `path`: first as a name as it stands (names may hold dots, as in
/// `https://example.com/roles`), then as names separated by dots.
pub fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let mut names = path.split('.');
    let first = claims.get(names.next()?)?;
    names.try_fold(first, |value, name| value.get(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_second_value_of_a_type_replaces_the_first() {
        let mut values = Values::default();
        assert_eq!(values.insert(1_u8), None);
        assert_eq!(values.insert("x"), None);
        assert_eq!(values.insert(2_u8), Some(Arc::new(1)));
        assert_eq!(values.get::<u8>(), Some(&2));
        assert_eq!(values.get::<u16>(), None);
    }

    #[test]
    fn a_shared_value_is_the_same_one_for_all() {
        let (mut one, mut other) = (Values::default(), Values::default());
        let value = Arc::new(7_u8);
        one.share(Arc::clone(&value));
        other.share(Arc::clone(&value));
        assert!(std::ptr::eq(one.get::<u8>().unwrap(), other.get().unwrap()));
        assert_eq!(one.insert(8_u8), Some(value));
    }

    #[test]
    fn a_claim_is_found_by_its_name_before_its_path() {
        let Value::Object(claims) = json!({"a.b": 1, "a": {"b": 2, "c": {"d": 3}}}) else {
            unreachable!()
        };
        assert_eq!(claim(&claims, "a.b"), Some(&json!(1)));
        assert_eq!(claim(&claims, "a.c.d"), Some(&json!(3)));
        assert_eq!(claim(&claims, "a.x"), None);
    }
}
