//! State that outlives a configuration.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// State that outlives a configuration: key sets, counters, open log files.
///
/// A filter that is built anew at each reload asks for its state by a name that says what the state
/// *is* (a URL, a path), and is given the one that the filter before it used. The state is dropped
/// with the last configuration that uses it.
#[derive(Clone, Default)]
pub struct Resources {
    table: Arc<Mutex<HashMap<Key, Weak<dyn Any + Send + Sync>>>>,
}

type Key = (TypeId, String);

impl Resources {
    /// The `T` named `name`, made by `make` if no configuration in use has it.
    pub fn shared<T: Any + Send + Sync>(&self, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let result = self.try_shared(name, || Ok::<T, std::convert::Infallible>(make()));
        match result {
            Ok(shared) => shared,
            Err(never) => match never {},
        }
    }

    /// As [`shared`](Self::shared), where making one can fail.
    ///
    /// # Errors
    ///
    /// The error of `make`; nothing is kept then.
    pub fn try_shared<T: Any + Send + Sync, E>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        // Held while a configuration is built, or the endpoints of an upstream; never for a request.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (TypeId::of::<T>(), name.to_owned());
        let known = table
            .get(&key)
            .and_then(Weak::upgrade)
            .and_then(|any| any.downcast().ok());
        if let Some(shared) = known {
            return Ok(shared);
        }
        let shared = Arc::new(make()?);
        let weak: Weak<dyn Any + Send + Sync> = Arc::downgrade(&(Arc::clone(&shared) as Arc<_>));
        // Not each time: a configuration of thousands of routes asks for thousands.
        if table.len() == table.capacity() {
            table.retain(|_, state| state.strong_count() > 0);
        }
        table.insert(key, weak);
        Ok(shared)
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resources")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_lives_as_long_as_somebody_uses_it() {
        let resources = Resources::default();
        let first = resources.shared("a", || 1_u32);
        assert_eq!(*resources.shared("a", || 2_u32), 1);
        assert_eq!(*resources.shared("b", || 3_u32), 3);
        assert_eq!(
            *resources.shared("a", || 4_u64),
            4,
            "another type is another state"
        );
        drop(first);
        assert_eq!(*resources.shared("a", || 5_u32), 5);
    }
}
