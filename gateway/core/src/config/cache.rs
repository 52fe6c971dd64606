//! What is cached, for how long and where, as it is written.

mod lifetime;
mod request;
mod scalar;

use edgeway_sdk::types::FilePath;
use serde::Deserialize;

use self::{
    lifetime::{Guess, Ttl},
    request::Honoured,
    scalar::{DiskSize, ObjectSize, TagHeader, TargetHeader, Wait, Window, ZoneMemory},
};
pub(crate) use self::{
    request::{BypassValue, Despite, KeyValue, Parameter, Query, Wish},
    scalar::{Inactive, Several},
};
use super::At;

/// `caches: { pages: { memory: 256MiB } }`: a store of responses, which routes may share.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CacheZone {
    /// All that is stored or on its way there, with its headers and bookkeeping.
    pub(crate) memory: ZoneMemory,
    /// The largest body that is stored; an eighth of the memory if not given, but no more than
    /// [`MAX_OBJECT`].
    pub(crate) max_object: Option<At<ObjectSize>>,
    /// Dropped when nobody has asked for it in this time.
    pub(crate) inactive: Option<Inactive>,
    pub(crate) disk: Option<At<CacheDisk>>,
}

/// What a zone stores at most of one response, if it does not say.
const MAX_OBJECT: u64 = 16 << 20;

impl CacheZone {
    /// In bytes.
    pub(crate) fn max_object(&self) -> u64 {
        match &self.max_object {
            Some(written) => written.value.0,
            None => (self.memory.0 / 8).min(MAX_OBJECT),
        }
    }
}

/// `disk: { path: /var/cache/edgeway/pages, max_size: 10GiB, inactive: 1d }`
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CacheDisk {
    /// A folder of its own.
    pub(crate) path: At<FilePath>,
    pub(crate) max_size: At<DiskSize>,
    /// Removed when nobody has asked for it in this time.
    pub(crate) inactive: Option<Inactive>,
}

/// `cache: { ttl: 1s }`. With nothing in it only what responses say of themselves counts (RFC 9111).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Cache {
    /// For responses that say nothing of their lifetime.
    pub(crate) ttl: Option<Ttl>,
    /// [`DEFAULT_ZONE`] if not given.
    pub(crate) zone: Option<At<String>>,
    pub(crate) query: Query,
    /// Values that responses differ by: what is stored for one is not for a request with another.
    ///
    /// `{header.authorization}` and `{header.cookie}` tell apart all that a client can be known by, so
    /// with them in the key credentials or cookies are no reason not to store. No other value does that:
    /// beside `{cookie.session}` there may be other cookies, and a request whose token no filter has looked
    /// at has no `{claim.role}`, like one without a token. There `despite` has to say that the key is enough.
    pub(crate) by: Option<At<Several<KeyValue>>>,
    /// Where one of these values is neither empty nor `0`, the request passes the cache by.
    pub(crate) bypass: Option<At<Several<BypassValue>>>,
    /// For responses that took their lifetime from `ttl`; as long as the shortest of these if not given.
    pub(crate) stale_while_revalidate: Option<At<Window>>,
    /// A minute if not given, for a route with a `ttl`.
    pub(crate) stale_if_error: Option<Window>,
    pub(crate) heuristic: Option<Guess>,
    /// What does not keep a response from being stored: for pages that are the same for all whose values of
    /// `by` are the same.
    pub(crate) despite: Option<At<Several<Despite>>>,
    /// What requests may ask of the cache; all if not given.
    pub(crate) honour: Honoured,
    /// `CDN-Cache-Control` if not given.
    pub(crate) targets: Option<Several<TargetHeader, 0>>,
    /// The response header with tags to purge by.
    pub(crate) tags: Option<TagHeader>,
    /// How long a request waits for another that fetches the same.
    pub(crate) wait: Wait,
}

/// The zone of routes that name none. It is there without being written.
pub(crate) const DEFAULT_ZONE: &str = "default";

#[cfg(test)]
mod tests {
    use std::{fmt, time::Duration};

    use http::StatusCode;

    use super::*;
    use crate::config::{
        deserialize::salvage,
        diagnostic::{Look, Problems},
        document::Document,
    };

    fn read(text: &str) -> (Option<Cache>, String) {
        let mut problems = Problems::default();
        let document = Document::from_text("e.yaml", text, &mut problems);
        let cache = salvage(&document, document.root(), &mut problems);
        (cache, problems.render(&document, Look::Plain))
    }

    fn right(text: &str) -> Cache {
        let (cache, said) = read(text);
        assert_eq!(said, "", "{text}");
        cache.unwrap()
    }

    fn texts<T: fmt::Display>(list: &Option<At<Several<T>>>) -> Vec<String> {
        let list = list.iter().flat_map(|list| &list.value.0);
        list.map(T::to_string).collect()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_ttl_alone_is_for_status_200() {
        let cache = right("{ ttl: 1500ms }");
        let ttl = cache.ttl.unwrap();
        assert_eq!(ttl.0, [(StatusCode::OK, Duration::from_millis(1500))]);
    }

    #[test]
    fn a_ttl_by_status_keeps_its_order_and_its_shortest_counts_for_all() {
        let ttl = right("ttl: { 404: 5s, 200: 1s, 301: 365d }").ttl.unwrap();
        let statuses: Vec<_> = ttl.0.iter().map(|(status, _)| status.as_u16()).collect();
        assert_eq!(statuses, [404, 200, 301]);
        assert_eq!(ttl.shortest(), seconds(1));
    }

    #[test]
    fn a_query_is_a_word_or_a_choice_of_names() {
        let of = |text: &str| right(&format!("query: {text}")).query;
        let names = |names: &[&str]| {
            let names = names.iter().map(|name| Parameter((*name).into()));
            Several(names.collect())
        };
        assert_eq!(right("{}").query, Query::AsSent);
        assert_eq!(of("as_sent"), Query::AsSent);
        assert_eq!(of("sorted"), Query::Sorted);
        assert_eq!(of("none"), Query::None);
        let only = Query::Only(names(&["page", "q"]));
        assert_eq!(of("{ only: [page, q] }"), only);
        assert_eq!(of("{ without: utm }"), Query::Without(names(&["utm"])));
    }

    #[test]
    fn values_are_one_or_a_list_and_the_case_of_a_header_does_not_matter() {
        let one = right("by: \"{header.X-Tenant}\"");
        assert_eq!(texts(&one.by), ["{header.x-tenant}"]);
        let several =
            right("bypass: [\"{cookie.a}\", \"{query.b}\", \"{query}\", \"{claim.Role}\"]");
        assert_eq!(
            texts(&several.bypass),
            ["{cookie.a}", "{query.b}", "{query}", "{claim.Role}"]
        );
        let despite = right("despite: [set_cookie, cookie]").despite;
        assert_eq!(texts(&despite), ["set_cookie", "cookie"]);
    }

    #[test]
    fn all_wishes_are_honoured_unless_some_are_named_or_none() {
        let of = |text: &str| right(text).honour.0;
        assert_eq!(of("{}").len(), 4);
        assert_eq!(of("honour: none"), []);
        assert_eq!(of("honour: no_store"), [Wish::NoStore]);
        let two = [Wish::OnlyIfCached, Wish::Stale];
        assert_eq!(of("honour: [only_if_cached, stale]"), two);
    }

    #[test]
    fn what_is_guessed_is_a_day_at_most_unless_another_time_is_given() {
        let of = |text: &str| {
            let guess = right(&format!("heuristic: {text}")).heuristic.unwrap();
            (guess.share.0, guess.longest.0)
        };
        assert_eq!(right("{}").heuristic, None);
        assert_eq!(of("10%"), (10, seconds(86_400)));
        assert_eq!(of("{ share: 100% }"), (100, seconds(86_400)));
        assert_eq!(of("{ share: 5%, longest: 1h }"), (5, seconds(3600)));
    }

    #[test]
    fn no_target_is_something_else_than_the_usual_one() {
        assert!(right("{}").targets.is_none());
        assert_eq!(right("targets: []").targets.unwrap().0, []);
        let one = right("targets: Edge-Cache-Control").targets.unwrap();
        assert_eq!(one.0[0].to_string(), "edge-cache-control");
    }

    #[test]
    fn a_zone_stores_an_eighth_of_its_memory_at_most_but_never_more_than_is_sensible() {
        let of = |memory: u64| {
            let zone = CacheZone {
                memory: ZoneMemory(memory),
                ..CacheZone::default()
            };
            zone.max_object()
        };
        assert_eq!(CacheZone::default().memory.0, 64 << 20);
        assert_eq!(of(64 << 20), 8 << 20);
        assert_eq!(of(1 << 40), MAX_OBJECT);
    }

    /// Each text has one problem, which is told at this column.
    #[test]
    fn what_is_wrong_is_told_once_and_where_it_is() {
        for (text, column, message) in [
            ("ttl: 0s", 6, "from `1ms` to `365d`"),
            ("ttl: 366d", 6, "from `1ms` to `365d`"),
            ("ttl: 10", 6, "found the number `10`"),
            ("ttl: []", 6, "found a list"),
            ("ttl: { 407: 1s }", 8, "never stored: it is between"),
            ("ttl: { 416: 1s }", 8, "about a part"),
            ("ttl: { 412: 1s }", 8, "answer to a condition"),
            ("ttl: { 100: 1s }", 8, "from 200 to 599"),
            ("ttl: { 0200: 1s }", 8, "from 200 to 599"),
            ("ttl: { 200: 0s }", 13, "from `1ms` to `365d`"),
            ("query: onyl", 8, "did you mean `only`?"),
            ("query: only", 8, "`only` needs a value"),
            ("query: { only: [a, a] }", 16, "`a` is there twice"),
            ("query: { only: [''] }", 17, "without a name"),
            ("by: []", 5, "the list is empty"),
            ("by: user", 5, "expected one value"),
            ("by: '{subject}{route}'", 5, "several are a list"),
            ("by: '{host}'", 5, "it belongs to every key"),
            ("by: '{header.Host}'", 5, "it belongs to every key"),
            ("by: '{target}'", 5, "for `query` to say"),
            ("by: '{method}'", 5, "the answer to GET"),
            ("by: '{peer_port}'", 5, "found again"),
            (
                "by: ['{header.A}', '{header.a}']",
                5,
                "`{header.a}` is there twice",
            ),
            ("bypass: '{header.host}'", 9, "never empty"),
            ("bypass: '{path}'", 9, "never empty"),
            ("bypass: 'x{query.a}'", 9, "expected one value"),
            ("honour: all", 9, "`no_store`"),
            ("honour: [none]", 10, "`no_store`"),
            ("heuristic: 101%", 12, "from `1%` to `100%`"),
            ("heuristic: 2.5%", 12, "from `1%` to `100%`"),
            ("heuristic: { longest: 1h }", 1, "missing key `share`"),
            ("targets: [expires]", 11, "for every cache"),
            ("tags: Content-Length", 7, "belongs to the connection"),
            ("stale_if_error: 366d", 17, "from `0s` to `365d`"),
            ("wait: 2d", 7, "from `1ms` to `1d`"),
        ] {
            let (_, said) = read(text);
            let errors = said.lines().filter(|line| line.starts_with("error: "));
            assert_eq!(errors.count(), 1, "{text}\n{said}");
            assert!(said.contains(message), "{text}\n{said}");
            let place = format!("e.yaml:1:{column}\n");
            assert!(said.contains(&place), "{text}\n{said}");
        }
    }
}
