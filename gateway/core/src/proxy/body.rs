//! Edits of bodies, piece by piece.

use std::{any::Any, mem, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use edgeway_sdk::{
    BodyEdit, Reply,
    body::{Caller, Edit},
};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{ACCEPT_RANGES, CONTENT_LENGTH, ETAG, TRANSFER_ENCODING},
};
use pingora::{
    Error, ErrorType, Result,
    cache::CachePhase,
    http::ResponseHeader,
    modules::http::{HttpModule, HttpModuleBuilder, HttpModuleCtx, HttpModules, Module},
};
use pingora_proxy::Session;
use tokio::time::Instant;

use super::{attempt, chain, ctx::Ctx, pacing::Pacing, upload};

/// A piece of the request's body, on its way to the endpoint.
pub(super) fn request(
    session: &Session,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Ctx,
) -> Result<()> {
    if !ctx.exchange.request_edits.is_empty() && !session.was_upgraded() {
        let piece = body.take().unwrap_or_default();
        let mut reported = Vec::new();
        let edited = edit(&mut ctx.exchange.request_edits, piece, end, &mut reported);
        let edited = chain::edited(ctx, reported, edited);
        // An empty piece holds data back; none at all would end the body.
        *body = Some(edited.map_err(|reply| ctx.refuse(*reply))?);
    }
    if let Some(call) = &mut ctx.web
        && let Err(why) = call.upload(body, end)
    {
        let reply = Reply::new(400).detail("The body is not valid Base64.");
        return Err(ctx.refuse(reply.because(why)));
    }
    if end && let Some(tries) = &mut ctx.tries {
        tries.uploaded();
        if let Some(cork) = tries.cork.take() {
            cork.release();
        }
    }
    // An empty last piece would be written as a second terminator of a chunked body, and the bytes
    // be taken for the beginning of the next answer on that connection.
    if end && body.as_ref().is_some_and(Bytes::is_empty) {
        *body = None;
    }
    Ok(())
}

/// A piece of the response's body, as it comes from the endpoint.
///
/// # Errors
///
/// It was cut because its time is over: what has come is not stored, and the client sees that it is not whole.
pub(super) fn arrived(session: &Session, end: bool, ctx: &mut Ctx) -> Result<()> {
    let Some(tries) = &mut ctx.tries else {
        return Ok(());
    };
    if session.was_upgraded() {
        return Ok(());
    }
    if tries.is_cut() {
        return Err(Error::explain(ErrorType::ReadTimedout, attempt::OVER).into_up());
    }
    if end {
        tries.release();
    } else {
        tries.heard();
    }
    Ok(())
}

/// A piece of the response's body, on its way to the client.
/// Tells how long to wait before it is sent.
pub(super) fn response(
    session: &Session,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Ctx,
) -> Option<Duration> {
    // For the cache Pingora asks for the body as well, and over HTTP/2 it would send it.
    if session.req_header().method == Method::HEAD {
        *body = None;
    }
    if let Some(call) = &mut ctx.web {
        call.download(body, end);
    }
    if end {
        upload::answered(session);
    }
    // Of what is fetched for others as well, whoever delivers it to the client has taken it along.
    let pacing = ctx.pacing.as_mut()?;
    let pause = pacing.pause(body.as_ref()?.len(), Instant::now());
    (!pause.is_zero()).then_some(pause)
}

/// Whether filters edit the response's body.
pub(super) fn is_edited(ctx: &Ctx) -> bool {
    !ctx.exchange.response_edits.is_empty() || ctx.exchange.replacement.is_some()
}

/// The body that takes the place of one that is on its way, after the edits; nothing if there is none.
///
/// # Errors
///
/// What the failure of an edit comes to.
pub(super) fn replacement(ctx: &mut Ctx) -> std::result::Result<Option<Bytes>, Box<Reply>> {
    let Some(body) = ctx.exchange.replacement.take() else {
        return Ok(None);
    };
    let mut reported = Vec::new();
    let edited = edit_whole(&mut ctx.exchange.response_edits, body, &mut reported);
    ctx.exchange.response_edits.clear();
    chain::edited(ctx, reported, edited).map(Some)
}

/// Has this body pass in the place of the one that follows: with its first piece, so that nobody waits for the rest, or
/// gets nothing when it breaks off. If it is fetched for the cache, at its end: Pingora ends with what the client has.
pub(super) fn replace(session: &mut Session, ctx: &mut Ctx, body: Bytes) {
    let waits = is_fetched(session);
    ctx.exchange.response_edits.push(Edit {
        edit: Box::new(Instead { body, waits }),
        caller: Caller::default(),
    });
    edit_response(session, ctx);
}

/// Lets nothing of a body pass, but another one.
struct Instead {
    body: Bytes,
    /// Until the end.
    waits: bool,
}

impl BodyEdit for Instead {
    fn edit(&mut self, _: Bytes, end: bool) -> edgeway_sdk::Result<Bytes> {
        match end || !self.waits {
            true => Ok(mem::take(&mut self.body)),
            false => Ok(Bytes::new()),
        }
    }
}

/// What is not true any more of a response whose body is edited: its length, what stands where in it, and that
/// it is the endpoint's byte for byte.
pub(super) fn reframe(head: &mut ResponseHeader) -> Result<()> {
    head.remove_header(&CONTENT_LENGTH);
    recast(head)
}

/// The same, but for the length.
pub(super) fn recast(head: &mut ResponseHeader) -> Result<()> {
    head.remove_header(&ACCEPT_RANGES);
    match head.headers.get(ETAG).and_then(weak) {
        Some(weak) => head.insert_header(ETAG, weak),
        None => Ok(()),
    }
}

/// The weak form of a strong tag (RFC 9110, 8.8.3).
fn weak(tag: &HeaderValue) -> Option<HeaderValue> {
    let strong = tag.as_bytes();
    let weak = strong.starts_with(b"\"").then(|| [b"W/", strong].concat());
    HeaderValue::from_bytes(&weak?).ok()
}

/// Has the body that follows pass the edits that filters have asked for.
///
/// Pingora does not tell [`ProxyHttp`](pingora_proxy::ProxyHttp) of the end of a body that comes out of its
/// cache while it is stored, or that has trailers behind it; modules it does.
pub(super) fn edit_response(session: &mut Session, ctx: &mut Ctx) {
    let edits = mem::take(&mut ctx.exchange.response_edits);
    let mut modules = HttpModules::new();
    modules.add_module(Box::new(Unedited));
    if session.downstream_modules_ctx.get::<Unchunked>().is_some() {
        modules.add_module(Box::new(Unchunked));
    }
    session.downstream_modules_ctx = modules.build_ctx();
    let fetches = is_fetched(session);
    if let Some(editing) = session.downstream_modules_ctx.get_mut::<Editing>() {
        (editing.edits, editing.fetches) = (edits, fetches);
    }
}

/// Has no head go out that tells of chunks.
pub(super) fn unchunk(session: &mut Session) {
    let mut modules = HttpModules::new();
    modules.add_module(Box::new(Unchunked));
    session.downstream_modules_ctx = modules.build_ctx();
}

/// Takes the chunks out of the last head, as a module of Pingora.
struct Unchunked;

impl HttpModuleBuilder for Unchunked {
    fn init(&self) -> Module {
        Box::new(Self)
    }
}

#[async_trait]
impl HttpModule for Unchunked {
    async fn response_header_filter(&mut self, head: &mut ResponseHeader, _: bool) -> Result<()> {
        if !head.status.is_informational() {
            head.remove_header(&TRANSFER_ENCODING);
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// Whether a body is on its way to the cache, and perhaps to others.
fn is_fetched(session: &Session) -> bool {
    matches!(
        session.cache.phase(),
        CachePhase::Miss | CachePhase::Expired
    )
}

/// Has the body that comes from the endpoint pass these edits, before the cache sees it.
///
/// Of Pingora's hooks for such a body only modules are told of every end, and may have something come there.
pub(super) fn edit_fetched(session: &mut Session, edits: Vec<Edit>) {
    let mut modules = HttpModules::new();
    modules.add_module(Box::new(Unedited));
    session.upstream_modules_ctx = modules.build_ctx();
    if let Some(editing) = session.upstream_modules_ctx.get_mut::<Editing>() {
        editing.edits = edits;
    }
}

/// Ends the edits of the response's body. Tells what an error in them comes to, if there was one.
pub(super) fn end_edits(session: &mut Session, ctx: &mut Ctx) -> Option<Reply> {
    let fetched = end_module(&mut session.upstream_modules_ctx, ctx);
    let shown = end_module(&mut session.downstream_modules_ctx, ctx);
    let reply = fetched.or(shown)?;
    if let Some(reason) = reply.reason() {
        ctx.exchange.reason = Some(reason.to_owned());
    }
    Some(reply)
}

fn end_module(modules: &mut HttpModuleCtx, ctx: &mut Ctx) -> Option<Reply> {
    let editing = modules.get_mut::<Editing>()?;
    let (failed, reported) = (editing.failed.take(), mem::take(&mut editing.reported));
    *modules = HttpModuleCtx::empty();
    let edited = failed.map_or_else(|| Ok(Bytes::new()), Err);
    chain::edited(ctx, reported, edited)
        .err()
        .map(|reply| *reply)
}

/// The edits of a response's body, as a module of Pingora.
#[derive(Default)]
struct Editing {
    edits: Vec<Edit>,
    /// The body is fetched for the cache, and perhaps for others.
    fetches: bool,
    ended: bool,
    failed: Option<Failed>,
    reported: Vec<Failed>,
}

impl Editing {
    fn edit(&mut self, piece: Bytes, end: bool) -> Result<Bytes> {
        if self.failed.is_none() && !self.ended {
            match edit(&mut self.edits, piece, end, &mut self.reported) {
                Ok(edited) => {
                    self.ended = end;
                    return Ok(edited);
                }
                Err(error) => self.failed = Some(error),
            }
        }
        match &self.failed {
            // An error would end the fetch as well: it is not told before that has come to its end.
            Some(failed) if end || !self.fetches => {
                Error::e_explain(ErrorType::HTTPStatus(failed.error.code().as_u16()), EDIT)
            }
            _ => Ok(Bytes::new()),
        }
    }

    /// What is left at the end, if it has not come yet.
    fn rest(&mut self) -> Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        let rest = self.edit(Bytes::new(), true)?;
        Ok((!rest.is_empty()).then_some(rest))
    }
}

#[async_trait]
impl HttpModule for Editing {
    fn response_body_filter(&mut self, body: &mut Option<Bytes>, end: bool) -> Result<()> {
        let piece = body.take().unwrap_or_default();
        *body = Some(self.edit(piece, end)?);
        Ok(())
    }

    /// Pingora sends what is left in place of the trailers, which may be left out (RFC 9110, 6.5.1). They stay
    /// if nothing is left.
    fn response_trailer_filter(
        &mut self,
        _trailers: &mut Option<Box<HeaderMap>>,
    ) -> Result<Option<Bytes>> {
        self.rest()
    }

    fn response_done_filter(&mut self) -> Result<Option<Bytes>> {
        self.rest()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// Makes a module that has no edits yet.
struct Unedited;

impl HttpModuleBuilder for Unedited {
    fn init(&self) -> Module {
        Box::new(Editing::default())
    }
}

/// An edit that has failed: whose it was, and how.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) caller: Caller,
    pub(super) error: edgeway_sdk::Error,
}

/// Has a piece pass all edits in their order. One of a filter that only reports is over when it fails, and the body
/// goes on as it was before it.
pub(super) fn edit(
    edits: &mut Vec<Edit>,
    mut piece: Bytes,
    end: bool,
    reported: &mut Vec<Failed>,
) -> std::result::Result<Bytes, Failed> {
    let mut place = 0;
    while let Some(Edit { edit, caller }) = edits.get_mut(place) {
        let caller = *caller;
        match edit.edit(piece, end) {
            Ok(edited) => {
                piece = edited;
                place += 1;
            }
            Err(error) if caller.reports => {
                piece = edit.held();
                reported.push(Failed { caller, error });
                edits.remove(place);
            }
            Err(error) => return Err(Failed { caller, error }),
        }
    }
    Ok(piece)
}

/// Has a whole body pass all edits. After an error they are gone: the reply that tells of it would fail by the same
/// edit, and so would the next.
pub(super) fn edit_whole(
    edits: &mut Vec<Edit>,
    body: Bytes,
    reported: &mut Vec<Failed>,
) -> std::result::Result<Bytes, Failed> {
    edit(edits, body, true, reported).inspect_err(|_| edits.clear())
}

/// A part of a body, cut into what is written at once: the time for taking no byte holds for all of that. Tells
/// which is the last of the body.
pub(super) struct Pieces {
    rest: Option<(Bytes, bool)>,
    size: usize,
}

impl Pieces {
    /// None at all, if there is no data and more may come.
    pub(super) fn of(data: Bytes, last: bool, http2: bool) -> Self {
        Self {
            rest: (last || !data.is_empty()).then_some((data, last)),
            size: if http2 { PIECE } else { PIECE_OF_HTTP1 },
        }
    }

    /// Smaller ones, where they are not to go out as fast as they can.
    pub(super) fn paced(mut self, pacing: Option<&Pacing>) -> Self {
        if let Some(pacing) = pacing {
            self.size = self.size.min(pacing.piece());
        }
        self
    }
}

impl Iterator for Pieces {
    type Item = (Bytes, bool);

    fn next(&mut self) -> Option<(Bytes, bool)> {
        let (mut data, last) = self.rest.take()?;
        if data.len() <= self.size {
            return Some((data, last));
        }
        let piece = data.split_to(self.size);
        self.rest = Some((data, last));
        Some((piece, false))
    }
}

/// How long a body is, as its head says.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a response with this status has no body, whatever its headers say (RFC 9110, 6.4.1).
pub(super) fn has_no_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Whether no body follows the head of the response to a request with this method.
pub(super) fn is_absent(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD || has_no_body(status)
}

/// How much is written at once over HTTP/2.
const PIECE: usize = 16 * 1024;
/// A socket takes more at once than the window of a stream.
pub(super) const PIECE_OF_HTTP1: usize = 8 * PIECE;
const EDIT: &str = "an edit of the body has failed";

#[cfg(test)]
mod tests {
    use edgeway_sdk::BodyEdit;

    use super::*;

    /// Holds everything back until the end, and fails at `!`.
    #[derive(Default)]
    struct Late(Vec<u8>);

    impl BodyEdit for Late {
        fn edit(&mut self, piece: Bytes, end: bool) -> edgeway_sdk::Result<Bytes> {
            self.0.extend_from_slice(&piece);
            if piece.contains(&b'!') {
                return Err(edgeway_sdk::Error::status(502));
            }
            match end {
                true => Ok(mem::take(&mut self.0).into()),
                false => Ok(Bytes::new()),
            }
        }

        fn held(&mut self) -> Bytes {
            mem::take(&mut self.0).into()
        }
    }

    fn late(reports: bool) -> Edit {
        let place = 0;
        Edit {
            edit: Box::new(Late::default()),
            caller: Caller { place, reports },
        }
    }

    #[test]
    fn an_edit_that_fails_does_not_fail_the_reply_that_tells_of_it() {
        let mut edits = vec![late(false)];
        let body = Bytes::from_static(b"body!");
        edit_whole(&mut edits, body.clone(), &mut Vec::new()).unwrap_err();
        let again = edit_whole(&mut edits, body.clone(), &mut Vec::new());
        assert_eq!(again.unwrap(), body);
    }

    #[test]
    fn an_edit_that_only_reports_gives_back_what_it_held_and_is_over() {
        let (mut edits, mut reported) = (vec![late(true)], Vec::new());
        let mut pass = |piece: &'static str| {
            let piece = Bytes::from_static(piece.as_bytes());
            edit(&mut edits, piece, false, &mut reported).unwrap()
        };
        let passed = [pass("a"), pass("b!"), pass("c!")];
        assert_eq!(passed, ["", "ab!", "c!"]);
        assert_eq!((edits.len(), reported.len()), (0, 1));
    }

    fn editing(fetches: bool) -> Editing {
        Editing {
            edits: vec![late(false)],
            fetches,
            ..Editing::default()
        }
    }

    fn passes(editing: &mut Editing, piece: &'static str, end: bool) -> Result<Option<Bytes>> {
        let mut body = Some(Bytes::from_static(piece.as_bytes()));
        editing.response_body_filter(&mut body, end).map(|()| body)
    }

    #[test]
    fn a_body_is_cut_into_pieces_of_which_the_last_one_is_known() {
        let cut = |size, last, http2| {
            let body = Bytes::from(vec![b'x'; size]);
            Pieces::of(body, last, http2)
                .map(|(piece, last)| (piece.len(), last))
                .collect::<Vec<_>>()
        };
        assert_eq!(cut(0, false, true), []);
        assert_eq!(cut(0, true, true), [(0, true)]);
        assert_eq!(cut(PIECE, true, true), [(PIECE, true)]);
        assert_eq!(cut(PIECE + 1, true, true), [(PIECE, false), (1, true)]);
        assert_eq!(cut(PIECE + 1, false, true), [(PIECE, false), (1, false)]);
        assert_eq!(cut(PIECE + 1, true, false), [(PIECE + 1, true)]);
    }

    #[test]
    fn what_is_held_back_comes_once_with_whatever_ends_the_body() {
        let mut with_end = editing(false);
        assert_eq!(passes(&mut with_end, "a", false).unwrap(), Some("".into()));
        assert_eq!(passes(&mut with_end, "b", true).unwrap(), Some("ab".into()));
        assert_eq!(with_end.response_done_filter().unwrap(), None);

        let mut done = editing(true);
        passes(&mut done, "a", false).unwrap();
        assert_eq!(done.response_done_filter().unwrap(), Some("a".into()));
        assert_eq!(done.response_done_filter().unwrap(), None);

        let mut trailed = editing(false);
        passes(&mut trailed, "a", false).unwrap();
        let mut trailers = Some(Box::default());
        let rest = trailed.response_trailer_filter(&mut trailers).unwrap();
        assert_eq!(rest, Some("a".into()));
        assert_eq!(trailed.response_done_filter().unwrap(), None);
    }

    #[test]
    fn an_error_is_told_at_once_but_of_a_fetch_at_its_end() {
        let mut alone = editing(false);
        let error = passes(&mut alone, "!", false).unwrap_err();
        assert_eq!(error.etype(), &ErrorType::HTTPStatus(502));

        let mut fetch = editing(true);
        for piece in ["!", "a"] {
            assert_eq!(passes(&mut fetch, piece, false).unwrap(), Some("".into()));
        }
        fetch.response_done_filter().unwrap_err();
        let mut fetch = editing(true);
        passes(&mut fetch, "!", true).unwrap_err();
    }

    #[test]
    fn the_head_of_an_edited_body_promises_nothing_of_its_bytes() {
        for (tag, weak) in [
            (Some("\"a\""), Some("W/\"a\"")),
            (Some("W/\"a\""), Some("W/\"a\"")),
            (Some("a"), Some("a")),
            (None, None),
        ] {
            let mut head = ResponseHeader::build(200, None).unwrap();
            head.insert_header(CONTENT_LENGTH, 3).unwrap();
            head.insert_header(ACCEPT_RANGES, "bytes").unwrap();
            if let Some(tag) = tag {
                head.insert_header(ETAG, tag).unwrap();
            }
            reframe(&mut head).unwrap();
            let value = |name| head.headers.get(name).map(|value| value.to_str().unwrap());
            assert_eq!(value(ETAG), weak);
            assert_eq!((value(CONTENT_LENGTH), value(ACCEPT_RANGES)), (None, None));
        }
    }
}
