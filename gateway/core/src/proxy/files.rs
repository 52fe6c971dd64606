//! Answers with files.

use std::{
    fmt, mem,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use edgeway_sdk::{Coding, Origin, Reply, coding::Accepted};
use http::{Method, StatusCode, Version, header::ALLOW};
use pingora::{
    Error, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
};
use pingora_proxy::Session;
use smallvec::{SmallVec, smallvec};

use super::{
    arrive, body, chain,
    client::connection,
    ctx::Ctx,
    pacing, reply,
    send::{chunk, send},
};
use crate::{
    cache::policy::range::Span,
    files::{
        Failure, File, Found, LARGEST, Large, Name, blank, disk, entity::Answer, listing::Listing,
        range::Piece,
    },
    route::normalise,
    server::Connection,
    snapshot::{Otherwise, Serving, Target},
};

/// What becomes of a request.
enum Step {
    Answered,
    Reply(Reply),
    /// It is for the target of the route.
    Target,
}

/// Answers a request with a file. If there is none, the request may go on as one of another route; false if it is for
/// the target of its route.
pub(super) async fn answer(session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    loop {
        let route = Arc::clone(&ctx.route);
        let Some(serving) = &route.files else {
            return Ok(false);
        };
        let step = match look(session, ctx, serving).await {
            Ok(Found::File(file)) => serve(session, ctx, &file).await?,
            Ok(Found::SlashMissing) => Step::Reply(slash(session.req_header())),
            Ok(Found::Folder(folder, name)) => {
                Step::Reply(list(session, serving, folder, name).await)
            }
            Ok(Found::Nothing) => otherwise(serving, session.req_header()),
            Err(failure) => Step::Reply(refusal(failure)),
        };
        let reply = match step {
            Step::Answered => return Ok(true),
            Step::Target => match &serving.otherwise {
                Otherwise::Route(other) => arrive::go_on(session, ctx, other).await?,
                _ => return Ok(false),
            },
            Step::Reply(reply) => Some(reply),
        };
        if let Some(reply) = reply {
            reply::send(session, ctx, reply).await?;
            return Ok(true);
        }
    }
}

/// Looks for the file that a request is for.
async fn look(
    session: &Session,
    ctx: &Ctx,
    serving: &Serving,
) -> std::result::Result<Found, Failure> {
    let request = session.req_header();
    if !reads(&request.method) {
        return Ok(Found::Nothing);
    }
    let Ok(sent) = normalise(request.uri.path()) else {
        return Ok(Found::Nothing);
    };
    let files = &serving.files;
    let codings = codings(request, &files.precompressed);
    let source = (request.as_ref(), &ctx.exchange);
    let ends = sent.matched().ends_with('/');
    let rewriting = &ctx.route.rewriting;
    // On a route to an upstream it is the path to that which is rewritten.
    let look = if rewriting.is_empty() || matches!(ctx.route.target, Target::Upstream(_)) {
        serving.look(sent.matched(), ends, &source, codings)
    } else {
        let path = rewriting.apply(&sent);
        let path = path.split('?').next().unwrap_or_default();
        let Ok(path) = normalise(path) else {
            return Ok(Found::Nothing);
        };
        // What is taken off or put before a path does not make it that of a folder.
        let ends = ends || (rewriting.replace.is_some() && path.matched().ends_with('/'));
        serving.look(path.matched(), ends, &source, codings)
    };
    files.find(look).await
}

fn reads(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

/// The codings that a client takes, those that it likes best first.
fn codings(request: &RequestHeader, offered: &[Coding]) -> SmallVec<[Coding; 3]> {
    match offered {
        [] => SmallVec::new(),
        offered => Accepted::of(&request.headers).ranked(offered),
    }
}

/// Shows what is in a folder.
async fn list(session: &Session, serving: &Serving, folder: OwnedFd, name: Name) -> Reply {
    let request = session.req_header();
    let listing = Listing::of(request, name);
    let files = Arc::clone(&serving.files);
    let read = disk::run(move || listing.read(&files, folder.as_fd())).await;
    read.and_then(|read| read).unwrap_or_else(refusal)
}

/// Sends the client to the folder.
fn slash(request: &RequestHeader) -> Reply {
    match normalise(request.uri.path()) {
        Ok(path) => arrive::slash(&path, request.uri.query()),
        Err(_) => Reply::new(404),
    }
}

/// What becomes of a request that no file answers.
fn otherwise(serving: &Serving, request: &RequestHeader) -> Step {
    let status = match &serving.otherwise {
        Otherwise::Target | Otherwise::Route(_) => return Step::Target,
        Otherwise::File(_) => StatusCode::NOT_FOUND,
        Otherwise::Status(status) => *status,
    };
    Step::Reply(match &request.method {
        method if reads(method) => Reply::new(status.as_u16()),
        &Method::OPTIONS => Reply::new(204).header(ALLOW, METHODS),
        _ => Reply::new(405).header(ALLOW, METHODS),
    })
}

const METHODS: &str = "GET, HEAD, OPTIONS";

/// What the client is told of a file that can't be had.
fn refusal(failure: Failure) -> Reply {
    match failure {
        Failure::Missing => Reply::new(404),
        Failure::Forbidden => Reply::new(403).because("the file is not readable for this process"),
        Failure::Exhausted => {
            tell(format_args!("there are no descriptors or no memory left"));
            Reply::new(503).because("there are no descriptors or no memory left")
        }
        Failure::WouldWait => Reply::new(500),
        Failure::Broken(error) => {
            tell(format_args!("{error}"));
            Reply::new(500).because(format!("the file can't be read: {error}"))
        }
    }
}

/// Tells the operator that files can't be had: not of each of them, as there are likely to be many.
fn tell(why: fmt::Arguments<'_>) {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let told = TOLD.load(Ordering::Relaxed);
    let turn = now.abs_diff(told) >= SILENCE
        && TOLD
            .compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
    if turn {
        log::warn!("a file can't be served: {why}");
    }
}

/// For so many seconds nothing more is told.
const SILENCE: u64 = 10;

/// Sends what a request gets of a file.
async fn serve(session: &mut Session, ctx: &mut Ctx, file: &File) -> Result<Step> {
    let now = SystemTime::now();
    let entity = file.entity();
    let request: &http::request::Parts = session.req_header();
    let answer = Answer::to(request, entity, now);
    let Some(head) = answer.head(entity, now) else {
        let refusal = answer.refusal(entity);
        return Ok(Step::Reply(refusal.unwrap_or_else(|| Reply::new(500))));
    };
    let mut head = ResponseHeader::from(head);
    ctx.origin = Origin::Reply;
    let request = session.req_header();
    let shown = chain::fetched(&mut head, request, ctx);
    if let Err(reply) = shown.and_then(|()| chain::up(&mut head, request, ctx)) {
        return Ok(Step::Reply(*reply));
    }
    pacing::begin(session, ctx);
    match body::replacement(ctx) {
        Ok(None) => {}
        Ok(Some(body)) => {
            reply::send_instead(session, ctx, head, body).await?;
            return Ok(Step::Answered);
        }
        Err(reply) => return Ok(Step::Reply(*reply)),
    }
    let mut wanted: Pieces = smallvec![Piece::Span(0..entity.stamp.length)];
    if body::is_edited(ctx) {
        // All of it, whatever was asked for, as in `answer::range`.
        body::reframe(&mut head)?;
    } else if head.status == StatusCode::OK {
        for (name, value) in answer.narrowing(entity).into_iter().flatten() {
            head.insert_header(name, value)?;
            head.set_status(StatusCode::PARTIAL_CONTENT)?;
        }
        match answer {
            Answer::Part(span) => wanted = smallvec![Piece::Span(span)],
            Answer::Parts(parts) => wanted = parts.pieces().collect(),
            _ => {}
        }
    }
    reply::settle(session);
    let silent = body::is_absent(&session.req_header().method, head.status);
    chunk(session, &mut head)?;
    session
        .write_response_header(Box::new(head), silent)
        .await?;
    if !silent {
        write(session, ctx, file, wanted).await?;
    }
    if session.req_header().version == Version::HTTP_2 {
        reply::http2::drain(session).await;
    }
    Ok(Step::Answered)
}

/// What of a file is sent, in order.
type Pieces = SmallVec<[Piece; 1]>;

/// Sends pieces of a file. Dropped, or at an error, the client sees that the body has broken off.
async fn write(session: &mut Session, ctx: &mut Ctx, file: &File, wanted: Pieces) -> Result<()> {
    let mut wanted = wanted.into_iter().peekable();
    while let Some(piece) = wanted.next() {
        let last = wanted.peek().is_none();
        match (piece, file) {
            (Piece::Text(text), _) => send(session, ctx, text, last).await?,
            (Piece::Span(span), File::Small(kept)) => {
                send(session, ctx, kept.slice(&span), last).await?;
            }
            (Piece::Span(span), File::Large(large)) => {
                write_large(session, ctx, large, span, last).await?;
            }
        }
    }
    Ok(())
}

/// Sends a part of a large file, as it is read.
async fn write_large(
    session: &mut Session,
    ctx: &mut Ctx,
    large: &Arc<Large>,
    mut span: Span,
    last: bool,
) -> Result<()> {
    // The kernel sends it by itself, if nobody has to see it.
    let unseen = !body::is_edited(ctx) && connection(session).is_some_and(Connection::sends_files);
    if span.is_empty() {
        return send(session, ctx, Bytes::new(), last).await;
    }
    while !span.is_empty() {
        let end = span.end.min(span.start.saturating_add(LARGEST as u64));
        let piece = mem::replace(&mut span.start, end)..end;
        let last = last && span.is_empty();
        let length = usize::try_from(piece.end - piece.start).unwrap_or(LARGEST);
        let offset = piece.start;
        let read = match unseen {
            true => large.ready(piece).await,
            false => large.read(piece).await.map(Some),
        };
        match read.map_err(broken)? {
            Some(data) if data.len() < length => return Err(broken(Failure::Missing)),
            Some(data) => send(session, ctx, data, last).await?,
            None => {
                if let Some(connection) = connection(session) {
                    connection.file_follows(large, offset);
                }
                let blank = Some(blank(length));
                session.write_response_body(blank, last).await?;
            }
        }
    }
    Ok(())
}

/// The body has broken off: its length was promised, and can't be kept.
fn broken(failure: Failure) -> Box<Error> {
    let why = match failure {
        Failure::Missing => "the file has become shorter while it was sent".to_owned(),
        other => format!("the file can't be read: {other:?}"),
    };
    Error::explain(ErrorType::InternalError, why)
}
