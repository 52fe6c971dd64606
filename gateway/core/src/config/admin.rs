//! Where the running gateway is looked at and changed, as it is written.

use std::{env, fmt, path::PathBuf};

use edgeway_sdk::Secret;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{At, ListenAddress, listen::AdminAddress};

/// `admin: { bind: 127.0.0.1:9901 }`, or `admin: false`.
#[derive(Debug)]
pub(crate) enum Admin {
    Off,
    On(AdminListener),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdminListener {
    pub(crate) bind: At<AdminAddress>,
    /// Whoever shows it may ask and change. Needed where others than this machine can connect.
    pub(crate) token: Option<At<Secret>>,
}

impl<'de> Deserialize<'de> for Admin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Admin;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`false`, or a map such as `{ bind: 127.0.0.1:9901 }`")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Admin, E> {
                if on {
                    return Err(E::invalid_value(de::Unexpected::Bool(on), &self));
                }
                Ok(Admin::Off)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Admin, A::Error> {
                AdminListener::deserialize(MapAccessDeserializer::new(map)).map(Admin::On)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl Admin {
    /// Where it waits if nothing is said: in the folder that systemd has made for this process, if it
    /// has. Only who is the gateway's own user, or root, may connect there.
    pub(crate) fn unsaid() -> Option<ListenAddress> {
        let folders = env::var("RUNTIME_DIRECTORY").ok()?;
        let first = folders
            .split(':')
            .next()
            .filter(|first| !first.is_empty())?;
        Some(ListenAddress::Unix(PathBuf::from(first).join(SOCKET)))
    }
}

/// The name of that socket.
pub(crate) const SOCKET: &str = "admin.sock";
