//! Zones as Pingora wants its storage.
//!
//! A zone evicts by itself, so Pingora needs no eviction manager; give it `None`. Do not give it a largest
//! size either (`set_max_file_size_bytes`): when a body of unknown length exceeds that, Pingora breaks off
//! the answer to the client who reads it from here. A zone just stops storing it.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use pingora::{
    Error, ErrorType, Result,
    cache::{
        CacheKey, CacheMeta, HitHandler, MissHandler, NoCacheReason, PurgeType, Storage,
        key::{CacheHashKey, CompactCacheKey, HashBinary},
        storage::{
            HandleHit, HandleMiss, MissFinishType, PurgeOutcome, PurgeTarget,
            streaming_write::U64WriteId,
        },
        trace::SpanHandle,
    },
};

use tokio::time::Instant;

use super::zone::{LONGEST_FETCH, Zone};
use super::{
    head::{Head, Notes},
    key::of_variant,
    memory::{Broken, Draft, Filing, Key, Object, Purge, Reader, Refused, Update, Writer},
    policy::freshness::Freshness,
    purges::Turn,
    time::{milliseconds, seconds},
};

/// The key of the store that belongs to one of Pingora's. Cheap only if the hash of the primary key has been
/// set; else it is made here, each time.
pub(crate) fn key(key: &CacheKey) -> Key<'_> {
    let variant = key.get_variance_key();
    Key {
        hash: hash(key.primary_bin(), variant),
        name: key.primary_key(),
        variant,
    }
}

fn compact_hash(key: &CompactCacheKey) -> u128 {
    hash(key.primary, key.variance.as_deref())
}

fn hash(primary: HashBinary, variant: Option<&HashBinary>) -> u128 {
    of_variant(u128::from_ne_bytes(primary), variant)
}

#[async_trait]
impl Storage for Zone {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let now = seconds(SystemTime::now());
        let Some(object) = self.store().find(&self::key(key), now) else {
            return Ok(None);
        };
        let meta = meta(&object)?;
        // No reader: the body is going to others only, who are further on already. That is a miss.
        let reader = Reader::new(object);
        Ok(reader.map(|reader| (meta, Box::new(Hit::new(reader)) as HitHandler)))
    }

    /// For the request that writes. It writes to its client by turns only, so there is no waiting for it.
    async fn lookup_streaming_write(
        &'static self,
        key: &CacheKey,
        tag: Option<&[u8]>,
        _trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let Some(id) = tag.and_then(|tag| U64WriteId::try_from(tag).ok()) else {
            return Ok(None);
        };
        let found = self.store().find_fill(self::key(key).hash, id.into());
        let Some(object) = found else {
            return Ok(None);
        };
        let meta = meta(&object)?;
        let reader = Reader::new(object);
        Ok(reader.map(|reader| {
            reader.excuse(true);
            (meta, Box::new(Hit::new(reader)) as HitHandler)
        }))
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<MissHandler> {
        let head = Head::new(meta)?;
        let purged = self.purged_since(key, meta);
        let notes = meta.extensions().get::<Notes>();
        let shared = notes.is_none_or(|notes| notes.shared);
        let draft = Draft {
            key: self::key(key),
            head_size: head.size(),
            expires: head.expires(),
            filing: filing(meta).unwrap_or_default(),
            shared,
            head,
        };
        let length = draft.head.content_length();
        let now = seconds(SystemTime::now());
        let mut writer = self.store().write(draft, length, now);
        // A purge that has not met the writer has been noted by now.
        if purged || self.purged_since(key, meta) {
            writer.pass_only();
        }
        let tag = writer.id().into();
        Ok(Box::new(Miss {
            zone: self,
            name: u128::from_ne_bytes(key.primary_bin()),
            requested: requested(meta),
            begun: Instant::now(),
            shared,
            writer,
            tag,
        }))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        _type: PurgeType,
        _trace: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        Ok(match self.purge_target(target, Purge::Remove) {
            true => PurgeOutcome::Purged(None),
            false => PurgeOutcome::NotFound,
        })
    }

    async fn expire(
        &'static self,
        target: PurgeTarget<'_>,
        _trace: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        let since = milliseconds(SystemTime::now());
        Ok(match self.purge_target(target, Purge::Stale(since)) {
            true => PurgeOutcome::Expired,
            false => PurgeOutcome::NotFound,
        })
    }

    async fn update_meta(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<bool> {
        let stored = self.store().peek(&self::key(key));
        // Revalidating leaves the time of creation: another one means another body.
        let Some(object) = stored.filter(|object| object.head().created() == meta.created()) else {
            return Ok(false);
        };
        let head = Head::new(meta)?;
        let update = Update {
            head_size: head.size(),
            expires: head.expires(),
            filing: filing(meta),
            head,
        };
        // What was validated before a purge is still stale, and what is gone stays so.
        if self.purged_since(key, meta) {
            return Ok(false);
        }
        let now = SystemTime::now();
        let updated = self.store().update(&object, update, seconds(now));
        if updated && self.purged_since(key, meta) {
            let stale = Purge::Stale(milliseconds(now));
            self.purge_key(self::key(key).hash, stale);
        }
        if updated {
            self.keep(
                u128::from_ne_bytes(key.primary_bin()),
                &object,
                requested(meta),
            );
        }
        Ok(updated)
    }

    fn support_streaming_partial_write(&self) -> bool {
        true
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

impl Zone {
    /// Whether a response was purged after it had been asked for.
    fn purged_since(&self, key: &CacheKey, meta: &CacheMeta) -> bool {
        let notes = meta.extensions().get::<Notes>();
        notes.is_some_and(|notes| {
            let hash = u128::from_ne_bytes(key.primary_bin());
            self.is_purged(hash, key.primary_key(), &notes.filing, notes.requested)
        })
    }

    /// Objects have no identities besides their keys, so one that is asked for by such is not here.
    fn purge_target(&self, target: PurgeTarget<'_>, purge: Purge) -> bool {
        let identified = matches!(target, PurgeTarget::Exact(entry) if entry.entry_id().is_some());
        !identified && self.purge_key(compact_hash(target.key()), purge)
    }
}

/// What an object is filed under is put among the extensions of its meta data when it is found cacheable.
fn filing(meta: &CacheMeta) -> Option<Filing> {
    let notes = meta.extensions().get::<Notes>();
    notes.map(|notes| notes.filing.clone())
}

/// When a response was asked for.
fn requested(meta: &CacheMeta) -> Turn {
    let notes = meta.extensions().get::<Notes>();
    notes.map_or_else(Turn::now, |notes| notes.requested)
}

/// How fresh an object is, where a purge may have it be stale.
pub(crate) fn freshness(object: &Object<Head>) -> Freshness {
    let mut freshness = *object.head().freshness();
    if let Some(since) = object.stale_since() {
        let purged = UNIX_EPOCH + Duration::from_millis(since);
        freshness.lifetime = freshness.lifetime.min(freshness.age(purged));
    }
    freshness
}

/// What Pingora knows of an object, stale if a purge has it so.
pub(crate) fn meta(object: &Object<Head>) -> Result<CacheMeta> {
    let mut meta = object.head().meta()?;
    if let Some(since) = object.stale_since() {
        meta.expire_at(UNIX_EPOCH + Duration::from_millis(since));
    }
    Ok(meta)
}

/// A stored response that is about to be read.
pub(crate) struct Hit {
    object: Arc<Object<Head>>,
    reader: Option<Reader<Head>>,
}

impl Hit {
    fn new(reader: Reader<Head>) -> Self {
        Self {
            object: Arc::clone(reader.object()),
            reader: Some(reader),
        }
    }

    pub(crate) fn object(&self) -> &Arc<Object<Head>> {
        &self.object
    }

    /// Its reader, for somebody else. There is no body here any more.
    pub(crate) fn take(&mut self) -> Option<Reader<Head>> {
        self.reader.take()
    }
}

#[async_trait]
impl HandleHit for Hit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        reader.read().await.map_err(|broken| {
            let why = match broken {
                Broken::Aborted => "the fetch of this body was broken off",
                Broken::Lagged => "too slow for a body that is not stored",
            };
            Error::explain(ErrorType::ReadError, why)
        })
    }

    async fn finish(
        self: Box<Self>,
        _storage: &'static (dyn Storage + Sync),
        _key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let end = end.map(|end| end as u64);
        let moved = |reader: &mut Reader<Head>| reader.seek(start as u64, end);
        if self.reader.as_mut().is_none_or(moved) {
            return Ok(());
        }
        Error::e_explain(ErrorType::InternalError, "no such range in the body")
    }

    fn get_eviction_weight(&self) -> usize {
        self.object.size()
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

/// Dropped before `finish`, it breaks the body off and stores nothing.
struct Miss {
    zone: &'static Zone,
    /// The hash of the name.
    name: u128,
    requested: Turn,
    begun: Instant,
    /// Whether it is a request of clients, and not one that is to take the place of something stored.
    shared: bool,
    writer: Writer<'static, Head>,
    tag: U64WriteId,
}

impl Miss {
    /// Whether nobody has a use for the rest of the body but the store, and that for long.
    fn is_abandoned(&self) -> bool {
        match self.shared {
            true => self.writer.alone() > ABANDONED,
            false => self.begun.elapsed() > LONGEST_FETCH,
        }
    }

    /// Has the next request for a page that has turned out too large not share it with others.
    fn remember(&self) {
        let mut key = CacheKey::new("", "");
        key.set_primary_bin_override(self.name.to_ne_bytes());
        let predictor = self.zone.predictor();
        predictor.mark_uncacheable(&key, NoCacheReason::Custom(TOO_LARGE));
    }
}

#[async_trait]
impl HandleMiss for Miss {
    async fn write_body(&mut self, data: Bytes, eof: bool) -> Result<()> {
        if self.is_abandoned() {
            return Err(refused(Refused::Unwanted));
        }
        let known = self.writer.is_too_large();
        self.writer.write(data, eof).map_err(refused)?;
        if !known && self.writer.is_too_large() {
            self.remember();
        }
        if !eof {
            self.writer.room().await;
        }
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<MissFinishType> {
        let now = seconds(SystemTime::now());
        let written = Arc::clone(self.writer.object());
        let size = self.writer.finish(now).map_err(refused)?;
        if size > 0 {
            self.zone.keep(self.name, &written, self.requested);
        }
        Ok(MissFinishType::Created(size))
    }

    fn streaming_write_tag(&self) -> Option<&[u8]> {
        Some(self.tag.as_bytes())
    }
}

fn refused(refused: Refused) -> Box<Error> {
    let why = match refused {
        Refused::Unwanted => "nobody reads the body, and it is not stored or takes too long",
        Refused::Length => "the body is not as long as its head says",
    };
    Error::explain(ErrorType::WriteError, why)
}

/// Why a response is not stored that is larger than may be.
pub(crate) const TOO_LARGE: &str = "too-large";
/// After this time without a reader a fetch ends.
const ABANDONED: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use pingora::{
        cache::{HttpCache, trace::Span},
        http::ResponseHeader,
    };

    use super::*;
    use crate::cache::{
        head::tests::stored,
        memory::Limits,
        zone::{ZoneSpec, Zones},
    };

    const LIMITS: Limits = Limits {
        bytes: 1 << 20,
        max_object: 1 << 19,
        inactive: None,
    };

    fn zone() -> &'static Zone {
        configured(&Zones::default(), "test")
    }

    fn configured(zones: &Zones, name: &str) -> &'static Zone {
        zones.configure(&[ZoneSpec {
            name: name.into(),
            limits: LIMITS,
            disk: None,
        }]);
        zones.named(name)
    }

    fn trace() -> SpanHandle {
        Span::inactive().handle()
    }

    fn name(name: &str) -> CacheKey {
        CacheKey::new(name, "")
    }

    /// Fresh for ten seconds from now.
    fn response(headers: &[(&'static str, &str)]) -> CacheMeta {
        let mut header = ResponseHeader::build(200, None).unwrap();
        for (name, value) in headers {
            header.append_header(*name, *value).unwrap();
        }
        stored(SystemTime::now(), 10, 5, header)
    }

    async fn put(zone: &'static Zone, key: &CacheKey, meta: &CacheMeta, body: &'static str) {
        let mut miss = zone.get_miss_handler(key, meta, &trace()).await.unwrap();
        miss.write_body(body.into(), true).await.unwrap();
        miss.finish().await.unwrap();
    }

    async fn body(hit: &mut HitHandler) -> Result<String> {
        let mut body = String::new();
        while let Some(chunk) = hit.read_body().await? {
            body.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        Ok(body)
    }

    #[tokio::test]
    async fn what_was_stored_is_hit_with_its_head_its_times_and_its_body() {
        let (zone, key) = (zone(), name("a"));
        let mut meta = response(&[("etag", "\"1\""), ("x-two", "1"), ("x-two", "2")]);
        meta.set_variance([7; 16]);
        put(zone, &key, &meta, "hello").await;
        let (found, mut hit) = zone.lookup(&key, &trace()).await.unwrap().unwrap();
        let text = |meta: &CacheMeta| format!("{:?}", meta.headers());
        assert_eq!(text(&found), text(&meta));
        let times = |meta: &CacheMeta| {
            let age = (meta.created(), meta.updated());
            (meta.fresh_until(), age, meta.provenance(), meta.variance())
        };
        assert_eq!(times(&found), times(&meta));
        assert_eq!(body(&mut hit).await.unwrap(), "hello");
        hit.seek(1, Some(3)).unwrap();
        assert_eq!(body(&mut hit).await.unwrap(), "el");
        assert!(hit.seek(5, None).is_err());
        hit.finish(zone, &key, &trace()).await.unwrap();
    }

    #[tokio::test]
    async fn a_revalidated_head_keeps_all_its_times_and_the_body() {
        let (zone, key) = (zone(), name("a"));
        put(zone, &key, &response(&[]), "hello").await;
        let (mut meta, _hit) = zone.lookup(&key, &trace()).await.unwrap().unwrap();
        let later = SystemTime::now() + Duration::from_secs(100);
        let notes = response(&[]).extensions().get::<Notes>().cloned();
        meta.extensions_mut().insert(notes.unwrap());
        meta.update_freshness(later, 0, 9);
        let header = meta.response_header_mut();
        header.insert_header("etag", "\"2\"").unwrap();
        assert!(zone.update_meta(&key, &meta, &trace()).await.unwrap());
        let (found, mut hit) = zone.lookup(&key, &trace()).await.unwrap().unwrap();
        assert_ne!(meta.updated(), meta.created());
        assert_eq!(found.updated(), meta.updated());
        assert_eq!(found.created(), meta.created());
        assert_eq!(
            (found.fresh_until(), found.stale_if_error_sec()),
            (later, 9)
        );
        assert_eq!(found.headers()["etag"], "\"2\"");
        assert_eq!(body(&mut hit).await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn the_head_of_an_older_object_never_comes_over_the_body_of_a_newer_one() {
        let (zone, key) = (zone(), name("a"));
        let old = response(&[("x-body", "old")]);
        put(zone, &key, &old, "old").await;
        put(zone, &key, &response(&[("x-body", "new")]), "new").await;
        assert!(!zone.update_meta(&key, &old, &trace()).await.unwrap());
        let (found, mut hit) = zone.lookup(&key, &trace()).await.unwrap().unwrap();
        assert_eq!(found.headers()["x-body"], "new");
        assert_eq!(body(&mut hit).await.unwrap(), "new");
        let absent = zone.update_meta(&name("b"), &old, &trace()).await;
        assert!(!absent.unwrap());
    }

    #[tokio::test]
    async fn readers_stream_from_a_fetch_and_a_broken_one_is_an_error_to_them() {
        let (zone, key) = (zone(), name("a"));
        let meta = response(&[]);
        let mut first = zone.get_miss_handler(&key, &meta, &trace()).await.unwrap();
        let tag = first.streaming_write_tag().map(<[u8]>::to_vec);
        let mut second = zone.get_miss_handler(&key, &meta, &trace()).await.unwrap();
        first.write_body("one".into(), false).await.unwrap();
        second.write_body("two".into(), false).await.unwrap();
        let span = trace();
        let own = zone.lookup_streaming_write(&key, tag.as_deref(), &span);
        let (_, mut own) = own.await.unwrap().unwrap();
        let (_, mut joined) = zone.lookup(&key, &trace()).await.unwrap().unwrap();
        assert_eq!(own.read_body().await.unwrap().unwrap(), "one");
        assert_eq!(joined.read_body().await.unwrap().unwrap(), "two");
        drop(first);
        second.finish().await.unwrap();
        assert!(own.read_body().await.is_err());
        assert_eq!(joined.read_body().await.unwrap(), None);
        let (_, mut hit) = zone.lookup(&key, &trace()).await.unwrap().unwrap();
        assert_eq!(body(&mut hit).await.unwrap(), "two");
    }

    #[tokio::test]
    async fn a_body_shorter_than_its_content_length_is_never_the_end() {
        let (zone, key) = (zone(), name("a"));
        let meta = response(&[("content-length", "6")]);
        let mut miss = zone.get_miss_handler(&key, &meta, &trace()).await.unwrap();
        miss.write_body("hello".into(), true).await.unwrap();
        let (_, mut hit) = zone.lookup(&key, &trace()).await.unwrap().unwrap();
        assert!(miss.finish().await.is_err());
        assert!(body(&mut hit).await.is_err());
        assert!(zone.lookup(&key, &trace()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn purging_removes_and_expiring_leaves_a_stale_object() {
        let (zone, key) = (zone(), name("a"));
        let compact = key.to_compact();
        let target = PurgeTarget::Active(&compact);
        let outcome = zone.expire(target, &trace()).await.unwrap();
        assert_eq!(outcome, PurgeOutcome::NotFound);
        put(zone, &key, &response(&[]), "hello").await;
        let outcome = zone.expire(target, &trace()).await.unwrap();
        assert_eq!(outcome, PurgeOutcome::Expired);
        let (meta, _hit) = zone.lookup(&key, &trace()).await.unwrap().unwrap();
        let soon = SystemTime::now() + Duration::from_millis(2);
        assert!(!meta.is_fresh(soon) && meta.serve_stale_if_error(soon));
        let outcome = zone.purge(target, PurgeType::Invalidation, &trace()).await;
        assert_eq!(outcome.unwrap(), PurgeOutcome::Purged(None));
        assert!(zone.lookup(&key, &trace()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn variants_and_other_keys_with_the_same_hash_are_kept_apart() {
        let zone = zone();
        put(zone, &name("a"), &response(&[]), "primary").await;
        let mut variant = name("a");
        variant.set_variance_key([1; 16]);
        assert!(zone.lookup(&variant, &trace()).await.unwrap().is_none());
        put(zone, &variant, &response(&[]), "variant").await;
        for (key, expected) in [(name("a"), "primary"), (variant, "variant")] {
            let (_, mut hit) = zone.lookup(&key, &trace()).await.unwrap().unwrap();
            assert_eq!(body(&mut hit).await.unwrap(), expected);
        }
        let mut collision = name("b");
        collision.set_primary_bin_override(name("a").primary_bin());
        assert!(zone.lookup(&collision, &trace()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn pingora_fills_and_hits_a_zone_without_an_eviction_manager() {
        let zone = zone();
        let begin = || {
            let mut cache = HttpCache::new();
            cache.enable(zone, None, None, None, None);
            cache.set_cache_key(name("a"));
            cache
        };
        let mut first = begin();
        assert!(first.cache_lookup().await.unwrap().is_none());
        first.cache_miss();
        first.set_cache_meta(response(&[]));
        first.set_miss_handler().await.unwrap();
        let miss = first.miss_handler().unwrap();
        miss.write_body("hello".into(), true).await.unwrap();
        let streamed = first.miss_body_reader().unwrap().read_body().await;
        assert_eq!(streamed.unwrap().unwrap(), "hello");
        first.finish_miss_handler().await.unwrap();
        let mut second = begin();
        let (_, mut hit) = second.cache_lookup().await.unwrap().unwrap();
        assert_eq!(body(&mut hit).await.unwrap(), "hello");
        assert!(second.purge().await.unwrap());
        assert!(begin().cache_lookup().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_zone_keeps_its_objects_when_it_is_asked_for_again_and_loses_them_when_it_is_not() {
        let zones = Zones::default();
        let (zone, key) = (configured(&zones, "a"), name("a"));
        put(zone, &key, &response(&[]), "hello").await;
        assert!(std::ptr::eq(zone, configured(&zones, "a")));
        configured(&zones, "a");
        assert!(zone.lookup(&key, &trace()).await.unwrap().is_some());
        zones.configure(&[]);
        assert_eq!(zone.store().statistics().bytes, 0);
        let mut miss = zone
            .get_miss_handler(&key, &response(&[]), &trace())
            .await
            .unwrap();
        assert!(miss.write_body("hello".into(), true).await.is_err());
        assert!(std::ptr::eq(zone, configured(&zones, "a")));
        put(zone, &key, &response(&[]), "hello").await;
        assert!(zone.lookup(&key, &trace()).await.unwrap().is_some());
    }
}
