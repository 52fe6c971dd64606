//! Caches: the zones, and what each route says of them.

use std::{
    collections::HashSet,
    fs,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use edgeway_sdk::{Template, types::Size};
use http::{
    HeaderName,
    header::{AUTHORIZATION, COOKIE},
};
use xxhash_rust::xxh3::xxh3_64;

use super::{Compiler, target::names_below};
use crate::{
    cache::{
        memory::Limits,
        plan::{KeyRule, Plan, QueryRule},
        policy::rules::{Authorization, Cookie, Heuristic, Honour, Rules, SetCookie, Windows},
        zone::{DiskSpec, ZoneSpec, Zones},
    },
    config::{
        self, At, CacheZone, DEFAULT_ZONE, Despite, Entries, KeyValue, Several, Wish,
        diagnostic::{Diagnostic, Problems, suggestion},
    },
};

/// Compiles the caches of routes, and remembers which zones they use.
pub(super) struct Caches<'a> {
    compiler: Compiler<'a>,
    zones: Arc<Zones>,
    /// In the order of the file.
    specs: Vec<ZoneSpec>,
    used: HashSet<String>,
}

impl<'a> Caches<'a> {
    pub(super) fn new(
        compiler: Compiler<'a>,
        written: &Entries<CacheZone>,
        problems: &mut Problems,
    ) -> Self {
        let spec = |(name, zone): &(At<String>, CacheZone)| {
            fits(zone, problems);
            spec(compiler, &name.value, zone)
        };
        let mut specs: Vec<_> = written.iter().map(spec).collect();
        if !specs.iter().any(|spec| *spec.name == *DEFAULT_ZONE) {
            specs.push(self::spec(compiler, DEFAULT_ZONE, &CacheZone::default()));
        }
        folders_differ(compiler, written, problems);
        Self {
            compiler,
            zones: compiler.resources.shared("caches", Zones::default),
            specs,
            used: HashSet::new(),
        }
    }

    /// The cache of a route that leads there; none if it is wrong, which has been told then.
    pub(super) fn plan(
        &mut self,
        cache: &At<config::Cache>,
        leads_to: &str,
        problems: &mut Problems,
    ) -> Option<Plan> {
        let before = problems.errors();
        let written = &cache.value;
        let zone = self.zone(written.zone.as_ref(), problems);
        let by = Told::by(written);
        self.stale_without_ttl(cache, problems);
        without_effect(written, by, problems);
        in_vain(written, by, problems);
        if problems.errors() > before {
            return None;
        }
        let bypass = several(&written.bypass).map(|value| value.0.template.clone());
        let bypass: Box<[_]> = bypass.collect();
        let (rules, key) = (rules(written, by), key_rule(written));
        Some(Plan {
            zone: self.zones.named(&zone?),
            seal: seal(&key, &rules, &bypass, leads_to),
            rules,
            key,
            bypass,
            tags: written.tags.as_ref().map(|tags| tags.0.clone()),
            wait: written.wait.0.0,
        })
    }

    fn stale_without_ttl(&self, cache: &At<config::Cache>, problems: &mut Problems) {
        let Some(window) = &cache.value.stale_while_revalidate else {
            return;
        };
        // One that is wrong was left out, and is no less meant.
        if self.compiler.document.entry(cache.node, "ttl").is_none() {
            let message = "`stale_while_revalidate` has no effect without a `ttl`: what states its own lifetime states this as well";
            problems.push(Diagnostic::error(message).at(window));
        }
    }

    /// Warns of zones in which no route stores anything.
    pub(super) fn warn_of_unused(&self, written: &Entries<CacheZone>, problems: &mut Problems) {
        for (name, _) in written
            .iter()
            .filter(|(name, _)| !self.used.contains(&name.value))
        {
            let message = format!("no route stores anything in the cache `{}`", name.value);
            problems.push(Diagnostic::warning(message).at(name));
        }
    }

    /// All zones there are, and those that routes use.
    pub(super) fn finish(self) -> (Arc<Zones>, Box<[ZoneSpec]>) {
        let specs = self.specs.into_iter();
        let used = specs.filter(|spec| self.used.contains(&*spec.name));
        (self.zones, used.collect())
    }

    /// The name of a zone that there is.
    fn zone(&mut self, written: Option<&At<String>>, problems: &mut Problems) -> Option<String> {
        let name = written.map_or(DEFAULT_ZONE, |name| &name.value);
        self.used.insert(name.to_owned());
        if self.specs.iter().any(|spec| *spec.name == *name) {
            return Some(name.to_owned());
        }
        let document = self.compiler.document;
        let mut known = names_below(document, "caches");
        // A zone that is there, but wrong, has been told.
        let told = problems.has_errors() && known.contains(&name);
        if document.is_complete() && !told {
            if !known.contains(&DEFAULT_ZONE) {
                known.push(DEFAULT_ZONE);
            }
            let unknown = Diagnostic::error(format!("unknown cache `{name}`"));
            let unknown = unknown.help_if(suggestion(name, &known));
            problems.extend(written.map(|name| unknown.at(name)));
        }
        None
    }
}

fn spec(compiler: Compiler<'_>, name: &str, zone: &CacheZone) -> ZoneSpec {
    // Nobody has more memory than can be addressed.
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    let seconds = |inactive: config::Inactive| {
        let whole = inactive.0.as_secs() + u64::from(inactive.0.subsec_nanos() > 0);
        u32::try_from(whole).unwrap_or(u32::MAX)
    };
    ZoneSpec {
        name: name.into(),
        limits: Limits {
            bytes: bytes(zone.memory.0),
            max_object: bytes(zone.max_object()),
            inactive: zone.inactive.map(seconds),
        },
        disk: zone.disk.as_ref().map(|disk| DiskSpec {
            path: lexical(&compiler.folder.join(&disk.value.path.value)),
            bytes: disk.value.max_size.value.0,
            inactive: disk.value.inactive.map(|inactive| inactive.0),
        }),
    }
}

/// Tells of objects that are allowed, and for which there is no room.
fn fits(zone: &CacheZone, problems: &mut Problems) {
    if let Some(largest) = &zone.max_object
        && largest.value.0 >= zone.memory.0
    {
        let message = format!(
            "an object of this size has no room in the `memory` of {}",
            Size(zone.memory.0)
        );
        problems.push(Diagnostic::error(message).at(largest));
    }
    let Some(disk) = &zone.disk else {
        return;
    };
    let max_size = &disk.value.max_size;
    if max_size.value.0 <= zone.max_object() {
        let message = format!(
            "there is no room for the largest object, which may have {}",
            Size(zone.max_object())
        );
        problems.push(Diagnostic::error(message).at(max_size));
    }
}

/// Tells of zones that would take each other's files for their own, or those of somebody else.
fn folders_differ(compiler: Compiler<'_>, written: &Entries<CacheZone>, problems: &mut Problems) {
    let mut known: Vec<(&At<String>, PathBuf)> = Vec::new();
    for (name, zone) in written {
        let Some(disk) = &zone.disk else {
            continue;
        };
        let written = &disk.value.path;
        let path = real(&lexical(&compiler.folder.join(&written.value)));
        let shared =
            |(_, other): &&(_, PathBuf)| other.starts_with(&path) || path.starts_with(other);
        if let Some((other, _)) = known.iter().find(shared) {
            let message = format!(
                "the cache `{}` has its files in the same place: each needs a folder of its own",
                other.value
            );
            let also = format!("`{}`", other.value);
            problems.push(Diagnostic::error(message).at(written).also(*other, also));
        }
        if compiler.folder.starts_with(&path) {
            let message = "the configuration is in this folder: a cache needs one of its own";
            problems.push(Diagnostic::error(message).at(written));
        } else if path.exists() && !path.is_dir() {
            let message = format!("`{}` is not a folder", path.display());
            problems.push(Diagnostic::error(message).at(written));
        }
        known.push((name, path));
    }
}

/// A path without `.` and `..`.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

/// Where a path leads to, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let there = path
        .ancestors()
        .find_map(|part| Some((part, fs::canonicalize(part).ok()?)));
    match there {
        Some((part, real)) => match path.strip_prefix(part) {
            Ok(rest) if rest.as_os_str().is_empty() => real,
            Ok(rest) => real.join(rest),
            Err(_) => path.to_owned(),
        },
        None => path.to_owned(),
    }
}

/// What the key tells apart of that which makes a response the page of one user.
#[derive(Clone, Copy)]
struct Told {
    /// The credentials themselves. What a filter makes of them is not told apart by this: a request with
    /// credentials that no filter has looked at has none of that.
    authorization: bool,
    /// All cookies. That one is told apart is not enough: the page may be made from another.
    cookies: bool,
}

impl Told {
    fn by(cache: &config::Cache) -> Self {
        let header = |header: HeaderName| {
            let mut values = several(&cache.by);
            values.any(|value| value.0.header().as_ref() == Some(&header))
        };
        Self {
            authorization: header(AUTHORIZATION),
            cookies: header(COOKIE),
        }
    }
}

/// Tells rules apart by which different requests get the same response, or one is shared that was not before,
/// and responses that come from elsewhere.
fn seal(key: &KeyRule, rules: &Rules, bypass: &[Template], leads_to: &str) -> u64 {
    let shared = (&rules.authorization, &rules.cookie, &rules.set_cookie);
    xxh3_64(format!("{key:?} {shared:?} {bypass:?} {leads_to}").as_bytes())
}

fn several<T>(list: &Option<At<Several<T>>>) -> impl Iterator<Item = &T> {
    list.iter().flat_map(|list| &list.value.0)
}

fn rules(cache: &config::Cache, by: Told) -> Rules {
    let despite = |what| several(&cache.despite).any(|despite| *despite == what);
    let honoured = |wish| cache.honour.0.contains(&wish);
    let targets = match &cache.targets {
        Some(targets) => targets.0.iter().map(|target| target.0.clone()).collect(),
        None => vec![HeaderName::from_static("cdn-cache-control")],
    };
    Rules {
        targets,
        ttl: cache
            .ttl
            .as_ref()
            .map_or_else(Vec::new, |ttl| ttl.0.clone()),
        heuristic: cache.heuristic.map(|guess| Heuristic {
            percent: guess.share.0,
            longest: guess.longest.0,
        }),
        stale: windows(cache),
        authorization: match by.authorization || despite(Despite::Authorization) {
            true => Authorization::Keyed,
            false => Authorization::Stated,
        },
        cookie: match by.cookies || despite(Despite::Cookie) {
            true => Cookie::Ignored,
            false => Cookie::Shared,
        },
        set_cookie: match despite(Despite::SetCookie) {
            true => SetCookie::Shared,
            false => SetCookie::Never,
        },
        honour: Honour {
            no_store: honoured(Wish::NoStore),
            reload: honoured(Wish::Reload),
            stale: honoured(Wish::Stale),
            only_if_cached: honoured(Wish::OnlyIfCached),
        },
    }
}

/// A microcache serves what is stale as long again as it was fresh, and for a minute when the upstream fails.
fn windows(cache: &config::Cache) -> Windows {
    let Some(ttl) = &cache.ttl else {
        return Windows {
            if_error: cache
                .stale_if_error
                .map_or(Duration::ZERO, |window| window.0),
            ..Windows::default()
        };
    };
    let while_revalidate = cache.stale_while_revalidate.as_ref();
    Windows {
        while_revalidate: while_revalidate.map_or_else(|| ttl.shortest(), |window| window.value.0),
        if_error: cache
            .stale_if_error
            .map_or(STALE_IF_ERROR, |window| window.0),
    }
}

const STALE_IF_ERROR: Duration = Duration::from_secs(60);

fn key_rule(cache: &config::Cache) -> KeyRule {
    let names = |names: &Several<config::Parameter>| {
        let names = names.0.iter().map(|name| name.0.clone());
        names.collect()
    };
    KeyRule {
        query: match &cache.query {
            config::Query::AsSent => QueryRule::AsSent,
            config::Query::Sorted => QueryRule::Sorted,
            config::Query::None => QueryRule::Nothing,
            config::Query::Only(chosen) => QueryRule::Only(names(chosen)),
            config::Query::Without(left_out) => QueryRule::Without(names(left_out)),
        },
        headers: several(&cache.by)
            .filter_map(|value| value.0.header())
            .collect(),
        cookies: several(&cache.by)
            .filter_map(|value| value.0.cookie().map(Box::from))
            .collect(),
        claims: several(&cache.by)
            .filter_map(|value| value.0.claim().map(Box::from))
            .collect(),
        by: several(&cache.by)
            .map(|value| value.0.template.clone())
            .collect(),
    }
}

/// Tells of what could be left out, for something else that is written.
fn without_effect(cache: &config::Cache, by: Told, problems: &mut Problems) {
    if let (Some(despite), Some(keyed)) = (&cache.despite, &cache.by) {
        for (what, told, header) in [
            (Despite::Authorization, by.authorization, AUTHORIZATION),
            (Despite::Cookie, by.cookies, COOKIE),
        ] {
            if told && despite.value.0.contains(&what) {
                let message =
                    format!("`{what}` has no effect here: the key has `{{header.{header}}}`");
                let nothing = Diagnostic::error(message).at(despite);
                problems.push(nothing.also(keyed, "the values in the key"));
            }
        }
    }
    if let Some(bypass) = &cache.bypass {
        passed_by(cache, bypass, problems);
    }
}

/// Tells of what is only for requests that pass the cache by.
fn passed_by(
    cache: &config::Cache,
    bypass: &At<Several<config::BypassValue>>,
    problems: &mut Problems,
) {
    let all = bypass.value.0.iter();
    let cookies = all.clone().any(|value| value.0.header() == Some(COOKIE));
    let passes = |value: &&KeyValue| {
        let same = all.clone().any(|other| other.0 == value.0);
        same || (cookies && value.0.is_cookie())
    };
    let nothing = |what: String, spot| {
        let message = format!("`{what}` has no effect here: requests with it pass the cache by");
        let nothing = Diagnostic::error(message).at(spot);
        nothing.also(bypass, "because of this")
    };
    if let Some(keyed) = &cache.by {
        let value = keyed.value.0.iter().find(passes);
        problems.extend(value.map(|value| nothing(value.to_string(), keyed.node)));
    }
    let despite = cache.despite.as_ref();
    let despite = despite.filter(|despite| despite.value.0.contains(&Despite::Cookie));
    if let Some(despite) = despite.filter(|_| cookies) {
        problems.push(nothing(Despite::Cookie.to_string(), despite.node));
    }
}

/// Warns of values in the key by which next to nothing would be stored.
fn in_vain(cache: &config::Cache, by: Told, problems: &mut Problems) {
    let (Some(keyed), Some(_)) = (&cache.by, &cache.ttl) else {
        return;
    };
    let despite = |what| several(&cache.despite).any(|despite| *despite == what);
    let cookies = by.cookies || despite(Despite::Cookie);
    let authorization = by.authorization || despite(Despite::Authorization);
    let mut values = keyed.value.0.iter();
    let cookie = values.clone().find(|value| value.0.is_cookie() && !cookies);
    let caller = values.find(|value| value.0.is_of_caller() && !authorization);
    let warning = |value: &KeyValue, of: &str, word: &str| {
        let message =
            format!("`ttl` is not for requests with {of}, although the key has `{value}`");
        let help =
            format!("add `despite: [{word}]` if all who have the same `{value}` may see the same");
        Diagnostic::warning(message).at(keyed).help(help)
    };
    problems.extend(cookie.map(|value| warning(value, "cookies", "cookie")));
    problems.extend(caller.map(|value| warning(value, "credentials", "authorization")));
}

#[cfg(test)]
mod tests {
    use edgeway_sdk::{Filters, Resources};
    use http::StatusCode;
    use serde::Deserialize;

    use super::*;
    use crate::{
        config::{deserialize::salvage, diagnostic::Look, document::Document},
        snapshot::load,
    };

    const MINUTE: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);

    #[derive(Deserialize)]
    struct Written {
        #[serde(default)]
        caches: Entries<CacheZone>,
        cache: At<config::Cache>,
    }

    /// The plan of `cache`, the zones that it uses, and what was said.
    fn compiled(text: &str, folder: &Path) -> (Option<Plan>, Box<[ZoneSpec]>, String) {
        let mut problems = Problems::default();
        let document = Document::from_text("e.yaml", text, &mut problems);
        let written: Option<Written> = salvage(&document, document.root(), &mut problems);
        let written = written.unwrap();
        let compiler = Compiler {
            document: &document,
            filters: &Filters::default(),
            resources: &Resources::default(),
            folder,
        };
        let mut caches = Caches::new(compiler, &written.caches, &mut problems);
        let plan = caches.plan(&written.cache, "", &mut problems);
        let (_, specs) = caches.finish();
        (plan, specs, problems.render(&document, Look::Plain))
    }

    fn plan(cache: &str) -> Plan {
        let (plan, _, said) = compiled(&format!("cache: {cache}"), Path::new("/etc/edgeway"));
        assert!(!said.contains("error: "), "{cache}\n{said}");
        plan.unwrap()
    }

    #[test]
    fn one_line_is_a_microcache_that_is_careful_in_all_it_does_not_say() {
        let plan = plan("{ ttl: 1s }");
        assert_eq!(plan.rules.ttl, [(StatusCode::OK, SECOND)]);
        let windows = Windows {
            while_revalidate: SECOND,
            if_error: MINUTE,
        };
        assert_eq!(plan.rules.stale, windows);
        assert_eq!(plan.rules.targets, ["cdn-cache-control"]);
        assert_eq!(plan.rules.heuristic, None);
        assert_eq!(plan.rules.authorization, Authorization::Stated);
        assert_eq!(plan.rules.cookie, Cookie::Shared);
        assert_eq!(plan.rules.set_cookie, SetCookie::Never);
        assert_eq!(plan.rules.honour, Honour::default());
        assert_eq!(plan.key.query, QueryRule::AsSent);
        assert!(plan.key.by.is_empty() && plan.bypass.is_empty() && plan.tags.is_none());
        assert_eq!(plan.wait, Duration::from_secs(5));
    }

    #[test]
    fn without_a_ttl_nothing_is_added_to_what_responses_say() {
        let rules = plan("{}").rules;
        assert_eq!((rules.ttl.len(), rules.stale), (0, Windows::default()));
        let rules = plan("{ stale_if_error: 5s }").rules;
        assert_eq!(rules.stale.if_error, Duration::from_secs(5));
    }

    #[test]
    fn what_is_stale_is_served_as_long_as_the_shortest_ttl_or_as_is_written() {
        let of = |cache: &str| {
            let windows = plan(cache).rules.stale;
            (windows.while_revalidate, windows.if_error)
        };
        assert_eq!(of("{ ttl: { 404: 1h, 200: 1s } }"), (SECOND, MINUTE));
        let written = "{ ttl: 1s, stale_while_revalidate: 0s, stale_if_error: 0s }";
        assert_eq!(of(written), (Duration::ZERO, Duration::ZERO));
        let written = "{ ttl: 1s, stale_while_revalidate: 1m, stale_if_error: 1s }";
        assert_eq!(of(written), (MINUTE, SECOND));
    }

    #[test]
    fn only_what_tells_all_users_apart_makes_credentials_no_reason_not_to_store() {
        use Authorization as A;
        use Cookie as C;
        for (cache, authorization, cookie) in [
            ("{ by: '{header.Authorization}' }", A::Keyed, C::Shared),
            ("{ by: '{header.cookie}' }", A::Stated, C::Ignored),
            ("{ by: '{cookie.session}' }", A::Stated, C::Shared),
            ("{ by: ['{claim.sub}', '{subject}'] }", A::Stated, C::Shared),
            ("{ by: '{header.x-authorization}' }", A::Stated, C::Shared),
            ("{ despite: cookie }", A::Stated, C::Ignored),
            ("{ despite: [authorization] }", A::Keyed, C::Shared),
        ] {
            let rules = plan(cache).rules;
            assert_eq!(rules.authorization, authorization, "{cache}");
            assert_eq!(rules.cookie, cookie, "{cache}");
            assert_eq!(rules.set_cookie, SetCookie::Never, "{cache}");
        }
        let rules = plan("{ despite: set_cookie }").rules;
        assert_eq!(rules.set_cookie, SetCookie::Shared);
        assert_eq!(rules.cookie, Cookie::Shared);
    }

    #[test]
    fn what_is_written_is_what_the_plan_has() {
        let plan = plan(
            "{ query: { without: [utm, b] }, by: ['{header.X-Tenant}', '{subject}'], bypass: '{cookie.admin}', \
             heuristic: { share: 20%, longest: 1m }, honour: [reload], targets: [A, B], tags: Cache-Tag, wait: 1s }",
        );
        let without = QueryRule::Without(["utm".into(), "b".into()].into());
        assert_eq!(plan.key.query, without);
        let by: [Template; 2] = ["{header.x-tenant}", "{subject}"].map(|by| by.parse().unwrap());
        assert_eq!(*plan.key.by, by);
        assert_eq!(*plan.key.headers, ["x-tenant"]);
        assert_eq!(*plan.bypass, ["{cookie.admin}".parse().unwrap()]);
        let heuristic = Heuristic {
            percent: 20,
            longest: MINUTE,
        };
        assert_eq!(plan.rules.heuristic, Some(heuristic));
        let honour = Honour {
            no_store: false,
            reload: true,
            stale: false,
            only_if_cached: false,
        };
        assert_eq!(plan.rules.honour, honour);
        assert_eq!(plan.rules.targets, ["a", "b"]);
        assert_eq!(plan.tags.unwrap(), "cache-tag");
        assert_eq!(plan.wait, SECOND);
    }

    #[test]
    fn a_route_tells_in_one_line_how_it_is_cached() {
        let shown = |text: &str| {
            let (plan, _, said) = compiled(text, Path::new("/"));
            assert_eq!(said, "", "{text}");
            plan.unwrap().to_string()
        };
        assert_eq!(shown("cache: {}"), "cached");
        assert_eq!(shown("cache: { ttl: 1s }"), "cached 1s");
        assert_eq!(
            shown(
                "{ caches: { pages: {} }, cache: { ttl: { 200: 1500ms, 404: 5m, 301: 1d }, zone: pages } }"
            ),
            "cached 200: 1.5s, 404: 5m, 301: 1d in pages"
        );
    }

    #[test]
    fn a_gateway_has_the_zones_that_its_routes_use() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("edgeway.yaml");
        let text = "{ listeners: { http: { bind: ':80' } }, upstreams: { app: { endpoints: ['a:1'] } }, \
            caches: { pages: { memory: 1MiB }, spare: {} }, \
            routes: [{ match: { path: /a }, upstream: app, cache: { zone: pages } }, { upstream: app }] }";
        fs::write(&file, text).unwrap();
        let loaded = load(&file, &Filters::default(), &Resources::default());
        assert!(loaded.report(Look::Plain).contains("the cache `spare`"));
        let (gateway, _) = loaded.gateway.unwrap();
        let routes = gateway.router.routes();
        let targets: Vec<_> = routes.map(|route| route.target.to_string()).collect();
        assert_eq!(targets, ["upstream app; cached in pages", "upstream app"]);
        let zones: Vec<_> = gateway.caches.iter().map(|zone| &*zone.name).collect();
        assert_eq!(zones, ["pages"]);
    }

    #[test]
    fn only_zones_that_are_used_are_set_up_and_the_default_need_not_be_written() {
        let (plan, specs, said) = compiled("cache: {}", Path::new("/"));
        assert_eq!(said, "");
        assert_eq!(plan.unwrap().zone.name(), "default");
        let [spec] = &*specs else { panic!("{specs:?}") };
        assert_eq!((&*spec.name, spec.limits.bytes), ("default", 64 << 20));
        assert_eq!(spec.limits.max_object, 8 << 20);
        assert_eq!((spec.limits.inactive, &spec.disk), (None, &None));

        let text = "\
            caches:\n  \
              other: {}\n  \
              pages:\n    \
                memory: 2MiB\n    \
                max_object: 64KiB\n    \
                inactive: 1500ms\n    \
                disk: { path: ./a/../pages, max_size: 1GiB, inactive: 1m }\n\
            cache: { zone: pages }";
        let (_, specs, said) = compiled(text, Path::new("/etc/edgeway"));
        assert_eq!(said, "");
        let [spec] = &*specs else { panic!("{specs:?}") };
        assert_eq!((&*spec.name, spec.limits.bytes), ("pages", 2 << 20));
        assert_eq!(spec.limits.max_object, 64 << 10);
        assert_eq!(spec.limits.inactive, Some(2), "no sooner than was said");
        let disk = DiskSpec {
            path: "/etc/edgeway/pages".into(),
            bytes: 1 << 30,
            inactive: Some(MINUTE),
        };
        assert_eq!(spec.disk, Some(disk));
    }

    #[test]
    fn a_folder_is_not_given_to_two_zones_by_another_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
        for (one, other, shared) in [
            ("real/a", "link/a", true),
            ("link", "real/b/c", true),
            ("real/a", "link/ab", false),
        ] {
            let text = format!(
                "caches:\n  \
                   one: {{ disk: {{ path: {one}, max_size: 1GiB }} }}\n  \
                   other: {{ disk: {{ path: {other}, max_size: 1GiB }} }}\n\
                 cache: {{}}"
            );
            let etc = folder.path().join("etc");
            let (_, _, said) = compiled(&text.replace("path: ", "path: ../"), &etc);
            let told = said.contains("the cache `one` has its files in the same place");
            assert_eq!(told, shared, "{one} {other}\n{said}");
        }
    }
}
