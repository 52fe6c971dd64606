//! What a database in MaxMind's format knows of an address: its country, or the number of its network.

use std::{net::IpAddr, sync::Arc};

use edgeway_sdk::{Build, BuildError, OrStatus, Result, types::FilePath};
use maxminddb::{PathElement, Reader, path};

use super::config::{Asn, Country};
use crate::watched::{Content, Watched, Wrong};

/// Something that a database knows of an address.
pub(super) trait Attribute: Sized + Copy + PartialEq + Send + Sync + 'static {
    /// What an error says that a database lacks.
    const NAMES: &'static str;

    /// What the record at an address says; the record may be of another kind.
    fn of(database: &Reader<Vec<u8>>, address: IpAddr) -> Result<Option<Self>, String>;
}

impl Attribute for Country {
    const NAMES: &'static str = "countries";

    fn of(database: &Reader<Vec<u8>>, address: IpAddr) -> Result<Option<Self>, String> {
        // Where the address is; where the network is registered if that is not known (a satellite's).
        for kind in ["country", "registered_country"] {
            let place = path![kind, "iso_code"];
            let code: Option<&str> = value(database, address, &place)?;
            if let Some(country) = code.and_then(|code| code.parse().ok()) {
                return Ok(Some(country));
            }
        }
        Ok(None)
    }
}

impl Attribute for Asn {
    const NAMES: &'static str = "numbers of networks (ASN)";

    fn of(database: &Reader<Vec<u8>>, address: IpAddr) -> Result<Option<Self>, String> {
        let place = path!["autonomous_system_number"];
        let number: Option<u32> = value(database, address, &place)?;
        Ok(number.map(Self))
    }
}

fn value<'d, T: serde::Deserialize<'d>>(
    database: &'d Reader<Vec<u8>>,
    address: IpAddr,
    place: &[PathElement<'_>],
) -> Result<Option<T>, String> {
    let found = database
        .lookup(address)
        .map_err(|error| error.to_string())?;
    found.decode_path(place).map_err(|error| error.to_string())
}

/// A database that knows `T` of many addresses. All of it is in memory.
pub(super) struct Database<T> {
    reader: Reader<Vec<u8>>,
    attribute: std::marker::PhantomData<T>,
}

impl<T: Attribute> Content for Database<T> {
    // The largest that are sold have some 300 MiB.
    const LARGEST: u64 = 1 << 30;

    fn parse(bytes: Vec<u8>) -> Result<Self, Wrong> {
        let reader = Reader::from_source(bytes).map_err(Wrong::file)?;
        // Once and wholly, so that no request meets a part that is broken.
        reader.verify().map_err(Wrong::file)?;
        if !knows::<T>(&reader)? {
            let (kind, names) = (&reader.metadata().database_type, T::NAMES);
            return Err(Wrong::file(format!(
                "a database of the kind `{kind}` has no {names}"
            )));
        }
        Ok(Self {
            reader,
            attribute: std::marker::PhantomData,
        })
    }
}

/// Whether the database has what is asked for. A deny-list with another database would let all pass.
fn knows<T: Attribute>(reader: &Reader<Vec<u8>>) -> Result<bool, Wrong> {
    let networks = reader.networks(Default::default()).map_err(Wrong::file)?;
    for network in networks.take(LOOKED_AT) {
        let network = network
            .and_then(|found| found.network())
            .map_err(Wrong::file)?;
        if T::of(reader, network.ip()).map_err(Wrong::file)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A database, read again when it changes.
pub(super) struct Lookup<T>(Arc<Watched<Database<T>>>);

impl<T: Attribute> Lookup<T> {
    pub(super) fn open(
        key: &str,
        path: &FilePath,
        build: &mut Build<'_>,
    ) -> Result<Self, BuildError> {
        Watched::open(key, path, build).map(Self)
    }

    /// What is known of this address.
    pub(super) fn find(&self, address: IpAddr) -> Result<Option<T>> {
        let current = self.0.current();
        let reader = &current.content.reader;
        if address.is_ipv6() && reader.metadata().ip_version == 4 {
            return Ok(None);
        }
        T::of(reader, address).or_status(503)
    }
}

/// So many networks are enough to see what a database is about.
const LOOKED_AT: usize = 10_000;
