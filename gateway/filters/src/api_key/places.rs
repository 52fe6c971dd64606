//! Where keys stand in requests.

use edgeway_sdk::{Build, BuildError, Request, message, types::Header};
use http::{HeaderName, HeaderValue, header};
use serde::Deserialize;

use crate::{access_log, credentials::key::Hash};

/// A place where a key may stand.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    /// `Authorization: Bearer`.
    Bearer,
    /// A header with nothing else in it.
    Header(Header),
    /// A value of the query.
    Query(String),
}

impl Place {
    pub(super) fn usual() -> Vec<Self> {
        vec![Self::Header(Header(HeaderName::from_static("x-api-key")))]
    }
}

/// All places where a key may stand.
pub(super) struct Places(Vec<Place>);

/// What a request has in these places.
pub(super) enum Presented {
    Nothing,
    /// The hash of what may be a key.
    Hash(Hash),
    /// Keys that differ.
    Several,
}

impl Places {
    pub(super) fn new(places: Vec<Place>, build: &mut Build<'_>) -> Result<Self, BuildError> {
        if places.is_empty() {
            return Err(BuildError::at("from", "name at least one place"));
        }
        for (index, place) in places.iter().enumerate() {
            let at = format!("from.{index}");
            if places.iter().take(index).any(|other| other == place) {
                return Err(BuildError::at(at, "this place stands here twice"));
            }
            match place {
                Place::Header(Header(name)) if *name == header::AUTHORIZATION => {
                    let error = BuildError::at(at, "`authorization` has a scheme before the key");
                    return Err(error.help("write `bearer`"));
                }
                Place::Header(Header(name)) => crate::headers::changeable(name, at)?,
                Place::Query(name) if name.is_empty() => {
                    return Err(BuildError::at(
                        at,
                        "expected the name of a value in the query",
                    ));
                }
                Place::Query(name) if !access_log::always_hides(name) => {
                    let message = format!(
                        "`{name}` in the `Referer` of later requests is not hidden in logs"
                    );
                    let help = "call it `api_key`, or name it in `secrets` of `access_log`";
                    build.warn(BuildError::at(at, message).help(help));
                }
                Place::Query(_) | Place::Bearer => {}
            }
        }
        Ok(Self(places))
    }

    /// Whether a key may stand in this header.
    pub(super) fn are_in(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|place| match place {
            Place::Bearer => *name == header::AUTHORIZATION,
            Place::Header(Header(known)) => known == name,
            Place::Query(_) => false,
        })
    }

    /// What a 401 says in `WWW-Authenticate`.
    pub(super) fn challenge(&self, realm: &str) -> Result<HeaderValue, BuildError> {
        // `ApiKey` is not registered, but a 401 has to say something.
        let scheme = if self.0.contains(&Place::Bearer) {
            "Bearer"
        } else {
            "ApiKey"
        };
        HeaderValue::from_str(&format!("{scheme} realm=\"{realm}\""))
            .map_err(|error| BuildError::at("realm", error))
    }

    pub(super) fn find(&self, request: &Request<'_>) -> Presented {
        let mut found = Presented::Nothing;
        let mut see = |text: &[u8]| {
            let hash = Hash::of(text);
            found = match &found {
                Presented::Nothing => Presented::Hash(hash),
                Presented::Hash(known) if known.is(&hash) => Presented::Hash(hash),
                Presented::Hash(_) | Presented::Several => Presented::Several,
            };
        };
        for place in &self.0 {
            match place {
                Place::Header(Header(name)) => {
                    let values = request.headers().get_all(name).iter();
                    values.for_each(|value| see(value.as_bytes()));
                }
                Place::Bearer => {
                    let values = request.headers().get_all(header::AUTHORIZATION).iter();
                    values.filter_map(bearer).for_each(&mut see);
                }
                Place::Query(name) => {
                    let pairs = request
                        .query()
                        .into_iter()
                        .flat_map(|query| query.split('&'));
                    pairs
                        .filter_map(|pair| message::query_value(pair, name))
                        .for_each(|value| see(value.as_bytes()));
                }
            }
        }
        found
    }

    /// Takes the key out of the query.
    pub(super) fn strip_query(&self, request: &mut Request<'_>) {
        for place in &self.0 {
            if let Place::Query(name) = place {
                request.remove_query(name);
            }
        }
    }

    /// Takes the key out of all places.
    pub(super) fn strip(&self, request: &mut Request<'_>) {
        self.strip_query(request);
        for place in &self.0 {
            match place {
                Place::Header(Header(name)) => request.remove_header(name),
                Place::Bearer => {
                    // Else it is another filter's, or the application's.
                    let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
                    if values.any(|value| bearer(value).is_some()) {
                        request.remove_header(&header::AUTHORIZATION);
                    }
                }
                Place::Query(_) => {}
            }
        }
    }
}

/// The key of a value such as `Bearer abc`.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, key) = value.as_bytes().split_at_checked("bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| key.trim_ascii())
}
