//! What a client is told of a file, and which part of it the client gets.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use edgeway_sdk::{Coding, Reply};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{
        ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
        LAST_MODIFIED, VARY,
    },
    request, response,
};
use rustix::fs::Stat;
use xxhash_rust::xxh3::xxh3_64;

use super::range::Multipart;
use crate::cache::policy::{
    condition::{Validators, is_expected, is_not_modified},
    date,
    range::{Span, Wanted, asked, content_range, unsatisfied},
};

/// What the system knows a file by. When its content changes, so does some of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) length: u64,
    pub(crate) inode: u64,
    pub(crate) modified: Moment,
    /// When anything about the file was changed last. Nobody can set this time as they like.
    pub(crate) changed: Moment,
}

/// Seconds since 1970, and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// What stands in `ETag`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tagging {
    /// A tag that no other content has had, made of all of a [`Stamp`]. For as long as the file could change
    /// without a trace in it, the tag is a weak one.
    #[default]
    Strong,
    /// Made of time and length alone, so that all gateways with copies of a file give it the same.
    Weak,
    None,
}

/// A file as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Entity {
    pub(crate) stamp: Stamp,
    pub(crate) etag: Option<HeaderValue>,
    pub(crate) content_type: HeaderValue,
    /// In which the file is stored, and is sent.
    pub(crate) coding: Option<Coding>,
    /// Whether another coding of it may be sent to another client.
    pub(crate) varies: bool,
}

/// What a GET or HEAD of a file gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// All of it.
    Whole,
    /// The client has it.
    NotModified,
    /// It is not the one that the client expected: 412.
    Failed,
    /// None of the bytes that are asked for is there: 416.
    Unsatisfiable,
    Part(Span),
    /// Some parts, each with a head of its own.
    Parts(Box<Multipart>),
}

impl Stamp {
    /// Whether any later change of the file will show in its stamp. A file that changes twice within the tick of
    /// the clock that stamps it may have the same stamp with different contents.
    pub(crate) fn is_settled(&self, now: SystemTime) -> bool {
        let age = |moment: Moment| now.duration_since(moment.time()?).ok();
        // Anybody may say that a file was modified in the future, but a change then would still show.
        let modified = age(self.modified).is_none_or(|age| age >= TICK);
        let changed = age(self.changed).is_some_and(|age| age >= TICK);
        modified && changed
    }
}

impl From<&Stat> for Stamp {
    fn from(stat: &Stat) -> Self {
        Self {
            length: u64::try_from(stat.st_size).unwrap_or(0),
            inode: stat.st_ino,
            modified: Moment {
                seconds: stat.st_mtime,
                nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
            changed: Moment {
                seconds: stat.st_ctime,
                nanoseconds: u32::try_from(stat.st_ctime_nsec).unwrap_or(0),
            },
        }
    }
}

impl Moment {
    /// None before 1970, and after what the machine can tell.
    pub(crate) fn time(self) -> Option<SystemTime> {
        let seconds = u64::try_from(self.seconds).ok()?;
        UNIX_EPOCH.checked_add(Duration::new(seconds, self.nanoseconds))
    }

    /// As `Last-Modified` gives it: whole seconds, from 1970 on, and never in the future (RFC 9110, section
    /// 8.8.2.1).
    pub(crate) fn told(self, now: SystemTime) -> SystemTime {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let seconds = u64::try_from(self.seconds).unwrap_or(0).min(now);
        UNIX_EPOCH + Duration::from_secs(seconds)
    }
}

impl Tagging {
    /// The tag of a file. Each coding of it has its own.
    pub(crate) fn tag(
        self,
        stamp: &Stamp,
        coding: Option<Coding>,
        now: SystemTime,
    ) -> Option<HeaderValue> {
        let (weak, digest) = match self {
            Self::None => return None,
            Self::Strong => (!stamp.is_settled(now), digest(stamp)),
            Self::Weak => (true, brief_digest(stamp)),
        };
        let mark = if weak { "W/" } else { "" };
        let (dash, coding) = coding.map_or(("", ""), |coding| ("-", coding.name()));
        let tag = format!("{mark}\"{digest:016x}{dash}{coding}\"");
        HeaderValue::from_maybe_shared(Bytes::from(tag)).ok()
    }
}

impl Entity {
    /// Of an answer with a body of this length, or of a 304.
    fn headers(&self, now: SystemTime, length: Option<u64>) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(CAPACITY);
        if let Some(length) = length {
            headers.insert(CONTENT_TYPE, self.content_type.clone());
            headers.insert(CONTENT_LENGTH, length.into());
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            if let Some(coding) = self.coding {
                headers.insert(CONTENT_ENCODING, coding.header_value());
            }
        }
        // A 304 says no more than a cache needs (RFC 9110, section 15.4.5).
        if length.is_some() || self.etag.is_none() {
            let modified = self.stamp.modified.told(now);
            headers.insert(LAST_MODIFIED, date::header_value(modified));
        }
        if let Some(etag) = &self.etag {
            headers.insert(ETAG, etag.clone());
        }
        if self.varies {
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        headers
    }
}

impl Answer {
    /// What a request gets of a file, by the order of RFC 9110, section 13.2.2.
    pub(crate) fn to(request: &request::Parts, entity: &Entity, now: SystemTime) -> Self {
        let headers = &request.headers;
        let version = Version { entity, now };
        if !is_expected(headers, &version) {
            return Self::Failed;
        }
        let reads = request.method == Method::GET || request.method == Method::HEAD;
        if reads && is_not_modified(headers, &version) {
            return Self::NotModified;
        }
        match asked(request, &version, entity.stamp.length) {
            Wanted::Whole => Self::Whole,
            Wanted::Single(span) => Self::Part(span),
            Wanted::Many(spans) => Self::Parts(Box::new(Multipart::new(spans, entity))),
            Wanted::Unsatisfiable => Self::Unsatisfiable,
        }
    }

    /// The head that filters see, of a GET as of a HEAD: that of the whole, even if the client gets a part of it,
    /// or that of a 304. None if there is a [`refusal`](Self::refusal) instead.
    pub(crate) fn head(&self, entity: &Entity, now: SystemTime) -> Option<response::Parts> {
        let (mut head, ()) = http::Response::new(()).into_parts();
        head.headers = match self {
            Self::Failed | Self::Unsatisfiable => return None,
            Self::NotModified => {
                head.status = StatusCode::NOT_MODIFIED;
                entity.headers(now, None)
            }
            Self::Whole | Self::Part(_) | Self::Parts(_) => {
                entity.headers(now, Some(entity.stamp.length))
            }
        };
        Some(head)
    }

    /// The headers that make the head of the whole that of a 206. None where it stays as it is.
    pub(crate) fn narrowing(&self, entity: &Entity) -> Option<[(HeaderName, HeaderValue); 2]> {
        match self {
            Self::Part(span) => Some([
                (CONTENT_LENGTH, (span.end - span.start).into()),
                (CONTENT_RANGE, content_range(span, entity.stamp.length)),
            ]),
            Self::Parts(parts) => Some([
                (CONTENT_LENGTH, parts.length().into()),
                (CONTENT_TYPE, parts.content_type()),
            ]),
            Self::Whole | Self::NotModified | Self::Failed | Self::Unsatisfiable => None,
        }
    }

    /// The reply of the gateway to a request that cannot be answered with the file.
    pub(crate) fn refusal(&self, entity: &Entity) -> Option<Reply> {
        match self {
            Self::Failed => Some(Reply::new(412)),
            Self::Unsatisfiable => {
                let range = unsatisfied(entity.stamp.length);
                Some(Reply::new(416).set_header(CONTENT_RANGE, range))
            }
            Self::Whole | Self::NotModified | Self::Part(_) | Self::Parts(_) => None,
        }
    }
}

/// A file as it is now, which a client may have seen before.
struct Version<'a> {
    entity: &'a Entity,
    now: SystemTime,
}

impl Validators for Version<'_> {
    fn etag(&self) -> Option<&HeaderValue> {
        self.entity.etag.as_ref()
    }

    fn last_modified(&self) -> Option<SystemTime> {
        Some(self.entity.stamp.modified.told(self.now))
    }

    fn made(&self) -> Option<SystemTime> {
        Some(self.now)
    }

    fn received(&self) -> SystemTime {
        self.now
    }
}

/// Of all that the system knows a file by.
fn digest(stamp: &Stamp) -> u64 {
    let mut known = [0; 40];
    let numbers = [
        stamp.length,
        stamp.inode,
        stamp.modified.seconds.cast_unsigned(),
        stamp.changed.seconds.cast_unsigned(),
        u64::from(stamp.modified.nanoseconds) << 32 | u64::from(stamp.changed.nanoseconds),
    ];
    for (place, number) in known.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    xxh3_64(&known)
}

/// Of what copies of a file have in common.
fn brief_digest(stamp: &Stamp) -> u64 {
    let mut known = [0; 16];
    let numbers = [stamp.length, stamp.modified.seconds.cast_unsigned()];
    for (place, number) in known.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    xxh3_64(&known)
}

/// How long a clock that stamps files may stand still: that of FAT has the longest tick.
const TICK: Duration = Duration::from_secs(2);
/// For how many headers there is room, with those that are added on the way.
const CAPACITY: usize = 12;

#[cfg(test)]
mod tests {
    use http::Request;

    use super::{super::range::Piece, *};

    /// Two minutes after the file was changed.
    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(784_111_900)
    }

    /// 06 Nov 1994 08:49:37 GMT.
    const CHANGED: i64 = 784_111_777;

    fn stamp(seconds: i64) -> Stamp {
        let moment = Moment {
            seconds,
            nanoseconds: 5,
        };
        Stamp {
            length: 1000,
            inode: 7,
            modified: moment,
            changed: moment,
        }
    }

    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    /// What a request with these headers gets of a file with the tag `"a"`.
    const OUTCOMES: &[(&[(&str, &str)], Answer)] = &[
        (&[], Answer::Whole),
        (&[("if-match", "\"a\"")], Answer::Whole),
        (&[("if-match", "*")], Answer::Whole),
        (&[("if-match", "\"b\", \"a\"")], Answer::Whole),
        (&[("if-match", "\"b\"")], Answer::Failed),
        (&[("if-match", "W/\"a\"")], Answer::Failed),
        (&[("if-unmodified-since", SAME)], Answer::Whole),
        (&[("if-unmodified-since", EARLIER)], Answer::Failed),
        (&[("if-unmodified-since", "yesterday")], Answer::Whole),
        // The date does not count beside the tag.
        (
            &[("if-match", "\"a\""), ("if-unmodified-since", EARLIER)],
            Answer::Whole,
        ),
        (
            &[("if-match", "\"b\""), ("if-unmodified-since", SAME)],
            Answer::Failed,
        ),
        // The first step decides.
        (
            &[("if-match", "\"b\""), ("if-none-match", "\"a\"")],
            Answer::Failed,
        ),
        (
            &[("if-match", "\"a\""), ("if-none-match", "\"a\"")],
            Answer::NotModified,
        ),
        (&[("if-none-match", "W/\"a\"")], Answer::NotModified),
        (&[("if-none-match", "\"b\"")], Answer::Whole),
        (&[("if-modified-since", SAME)], Answer::NotModified),
        (&[("if-modified-since", EARLIER)], Answer::Whole),
        (
            &[("if-none-match", "\"b\""), ("if-modified-since", SAME)],
            Answer::Whole,
        ),
        // A range comes last.
        (
            &[("if-none-match", "\"a\""), ("range", "bytes=0-1")],
            Answer::NotModified,
        ),
        (
            &[("if-none-match", "\"b\""), ("range", "bytes=0-1")],
            Answer::Part(0..2),
        ),
        (
            &[("if-match", "\"b\""), ("range", "bytes=9999-")],
            Answer::Failed,
        ),
        (&[("range", "bytes=9999-")], Answer::Unsatisfiable),
        (
            &[("range", "bytes=0-1"), ("if-range", "\"b\"")],
            Answer::Whole,
        ),
        (
            &[("range", "bytes=9999-"), ("if-range", "\"b\"")],
            Answer::Whole,
        ),
        (
            &[("range", "bytes=0-1"), ("if-range", SAME)],
            Answer::Part(0..2),
        ),
    ];

    fn entity(etag: &'static str) -> Entity {
        Entity {
            stamp: stamp(CHANGED),
            etag: (!etag.is_empty()).then(|| HeaderValue::from_static(etag)),
            content_type: HeaderValue::from_static("text/plain"),
            coding: None,
            varies: false,
        }
    }

    fn answer(method: Method, fields: &[(&'static str, &'static str)], entity: &Entity) -> Answer {
        let (mut request, ()) = Request::new(()).into_parts();
        request.method = method;
        for (name, value) in fields {
            let value = HeaderValue::from_static(value);
            request.headers.append(*name, value);
        }
        Answer::to(&request, entity, now())
    }

    #[test]
    fn a_tag_changes_with_all_that_a_file_is_known_by() {
        let known = stamp(CHANGED);
        let tag = |stamp: &Stamp| Tagging::Strong.tag(stamp, None, now()).unwrap();
        let later = Moment {
            nanoseconds: 6,
            ..known.modified
        };
        for other in [
            Stamp {
                length: 1001,
                ..known
            },
            Stamp { inode: 8, ..known },
            Stamp {
                modified: later,
                ..known
            },
            Stamp {
                changed: later,
                ..known
            },
        ] {
            assert_ne!(tag(&known), tag(&other), "{other:?}");
        }
        assert_eq!(tag(&known), tag(&stamp(CHANGED)));
        let of_coding = Tagging::Strong
            .tag(&known, Some(Coding::Brotli), now())
            .unwrap();
        let of_coding = of_coding.to_str().unwrap();
        assert!(
            of_coding.ends_with("-br\"") && of_coding.starts_with('"'),
            "{of_coding}"
        );
    }

    #[test]
    fn a_weak_tag_is_the_same_for_all_copies() {
        let known = stamp(CHANGED);
        let copy = Stamp {
            inode: 99,
            changed: stamp(CHANGED + 50).changed,
            ..known
        };
        let tag = |stamp: &Stamp| Tagging::Weak.tag(stamp, None, now()).unwrap();
        assert_eq!(tag(&known), tag(&copy));
        assert!(tag(&known).as_bytes().starts_with(b"W/\""));
        assert_ne!(tag(&known), tag(&Stamp { length: 1, ..known }));
        assert_ne!(tag(&known), tag(&stamp(CHANGED + 1)));
        assert_eq!(Tagging::None.tag(&known, None, now()), None);
    }

    #[test]
    fn a_tag_is_weak_while_the_file_may_change_unseen() {
        let second = 784_111_900;
        for (modified, changed, settled) in [
            (CHANGED, CHANGED, true),
            (second - 3, second - 3, true),
            (second - 1, second - 1, false),
            (second, second, false),
            // Copied with its old time.
            (CHANGED, second - 1, false),
            // Dated to the future, a while ago.
            (second + 1000, CHANGED, true),
            // The clock was set back.
            (CHANGED, second + 1000, false),
            (-5, CHANGED, true),
        ] {
            let stamp = Stamp {
                changed: stamp(changed).changed,
                ..stamp(modified)
            };
            assert_eq!(stamp.is_settled(now()), settled, "{modified} {changed}");
            let tag = Tagging::Strong.tag(&stamp, None, now()).unwrap();
            assert_eq!(
                tag.as_bytes().starts_with(b"W/"),
                !settled,
                "{modified} {changed}"
            );
        }
    }

    #[test]
    fn conditions_are_evaluated_in_the_order_of_the_standard() {
        let entity = entity("\"a\"");
        for (fields, expected) in OUTCOMES {
            assert_eq!(
                answer(Method::GET, fields, &entity),
                *expected,
                "{fields:?}"
            );
        }
        let range = [("range", "bytes=0-1")];
        assert_eq!(answer(Method::HEAD, &range, &entity), Answer::Whole);
    }

    #[test]
    fn without_a_tag_only_a_star_matches() {
        let entity = entity("");
        let of = |name, value| answer(Method::GET, &[(name, value)], &entity);
        assert_eq!(of("if-match", "*"), Answer::Whole);
        assert_eq!(of("if-match", "\"a\""), Answer::Failed);
        assert_eq!(of("if-none-match", "*"), Answer::NotModified);
        assert_eq!(of("if-none-match", "\"a\""), Answer::Whole);
    }

    #[test]
    fn a_304_has_what_caches_need_and_no_more() {
        let mut entity = entity("\"a\"");
        entity.varies = true;
        let head = Answer::NotModified.head(&entity, now()).unwrap();
        assert_eq!(head.status, 304);
        let names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["etag", "vary"]);
        entity.etag = None;
        let head = Answer::NotModified.head(&entity, now()).unwrap();
        assert_eq!(
            head.headers.get("last-modified").unwrap(),
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
    }

    #[test]
    fn a_file_from_the_future_was_modified_now() {
        let mut entity = entity("\"a\"");
        entity.stamp = stamp(CHANGED + 1_000_000);
        let head = Answer::Whole
            .head(&entity, now() + Duration::from_millis(700))
            .unwrap();
        assert_eq!(
            head.headers.get("last-modified").unwrap(),
            "Sun, 06 Nov 1994 08:51:40 GMT"
        );
        entity.stamp = stamp(-1);
        let head = Answer::Whole.head(&entity, now()).unwrap();
        assert_eq!(
            head.headers.get("last-modified").unwrap(),
            "Thu, 01 Jan 1970 00:00:00 GMT"
        );
    }

    #[test]
    fn a_body_of_parts_is_as_long_as_its_head_says() {
        let entity = entity("\"a\"");
        let answer = answer(Method::GET, &[("range", "bytes=0-1, 500-599, -1")], &entity);
        let [(_, length), (_, of)] = answer.narrowing(&entity).unwrap();
        let of = of.to_str().unwrap();
        let boundary = of.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let Answer::Parts(parts) = &answer else {
            panic!("{answer:?}");
        };
        let mut body = String::new();
        for piece in parts.pieces() {
            match piece {
                Piece::Text(text) => {
                    body.push_str(str::from_utf8(&text).unwrap());
                }
                Piece::Span(span) => {
                    body.extend(span.map(|at| char::from(b'a' + u8::try_from(at % 26).unwrap())));
                }
            }
        }
        assert_eq!(length.to_str().unwrap(), body.len().to_string());
        let expected = format!(
            "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/1000\r\n\r\nab\r\n\
             --{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 500-599/1000\r\n\r\n"
        );
        assert!(body.starts_with(&expected), "{body}");
        let expected = format!(
            "\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 999-999/1000\r\n\r\nl\r\n\
             --{boundary}--\r\n"
        );
        assert!(body.ends_with(&expected), "{body}");
    }
}
