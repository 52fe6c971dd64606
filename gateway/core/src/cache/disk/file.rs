//! What a file of the disk tier looks like.
//!
//! ```text
//! header     fixed length; sums of itself and of the label
//! mark       since when a purge has it be stale; the only part that is ever written again
//! label      name, tags, head, and one sum for each piece of the body
//! body       in pieces of 256 KiB
//! ```
//!
//! Nothing is believed that has not the right sum. Sums begin with the number of the file, and those of
//! pieces with their place too: bytes of another file, which may turn up after a power failure, are wrong.
//! That is why files need not be synced to the disk: one that did not get there whole is found out.
//!
//! Numbers are little-endian.

use std::{
    fs::{File, FileTimes},
    io::{self, ErrorKind, Write},
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use bytes::{BufMut, Bytes};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use super::{super::memory::Filing, Record};

/// What belongs to a file besides its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) number: u64,
    /// The version of the heads in it.
    pub(super) heads: u32,
}

/// All of a stored object but its body. The parts share one piece of memory.
#[derive(Debug)]
pub(super) struct Label {
    pub(super) name: Bytes,
    pub(super) variant: Option<[u8; 16]>,
    pub(super) filing: Filing,
    pub(super) expires: u32,
    pub(super) head: Bytes,
    /// Milliseconds since 1970, or zero: not marked.
    pub(super) stale: u64,
    /// Of the body, in bytes.
    pub(super) length: u64,
    /// One for each piece of the body.
    sums: Bytes,
}

/// A file whose header is right.
pub(super) struct Stored {
    file: File,
    length: u64,
    number: u64,
    header: Header,
    /// What was read along with the header.
    first: Vec<u8>,
}

struct Header {
    heads: u32,
    expires: u32,
    variant: Option<[u8; 16]>,
    host: Range<u32>,
    path: Range<u32>,
    name: u32,
    tags: u32,
    head: u32,
    body: u64,
    /// Of the label.
    sum: u64,
    stale: u64,
}

/// How many bytes the file of a record has.
pub(super) fn length(record: &Record) -> u64 {
    let body = record.length();
    let label = record.name.len() + record.filing.tags.len() + record.head.len();
    (HEADER + MARK) as u64 + label as u64 + pieces(body) * SUM as u64 + body
}

/// Writes a record. What it is marked with is given apart: it may have been purged since it was made.
pub(super) fn write(file: &mut File, record: &Record, stamp: Stamp, stale: u64) -> io::Result<()> {
    let label = label(record, stamp.number);
    let mut start = header(record, &label, stamp)?;
    start.extend_from_slice(&mark(stale, stamp.number));
    start.extend_from_slice(&label);
    if record.length() <= SMALL {
        record
            .body
            .iter()
            .for_each(|chunk| start.extend_from_slice(chunk));
        return file.write_all(&start);
    }
    file.write_all(&start)?;
    record
        .body
        .iter()
        .try_for_each(|chunk| file.write_all(chunk))
}

fn label(record: &Record, number: u64) -> Vec<u8> {
    let mut label = Vec::new();
    label.extend_from_slice(&record.name);
    label.extend_from_slice(record.filing.tags.as_bytes());
    label.extend_from_slice(&record.head);
    for sum in sums(&record.body, number) {
        label.put_u64_le(sum);
    }
    label
}

/// The sums of the pieces of a body, however it is cut.
fn sums(body: &[Bytes], number: u64) -> Vec<u64> {
    let mut sums = Vec::new();
    let (mut sum, mut room) = (Xxh3::with_seed(seed(number, 0)), PIECE);
    for chunk in body {
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(room));
            sum.update(now);
            (rest, room) = (later, room - now.len());
            if room == 0 {
                sums.push(sum.digest());
                sum = Xxh3::with_seed(seed(number, sums.len() as u64));
                room = PIECE;
            }
        }
    }
    if room < PIECE {
        sums.push(sum.digest());
    }
    sums
}

fn header(record: &Record, label: &[u8], stamp: Stamp) -> io::Result<Vec<u8>> {
    let short = |length: usize| u32::try_from(length).map_err(|_| bad("a part is too long"));
    let filing = &record.filing;
    let mut header = Vec::with_capacity(HEADER + MARK + label.len() + SMALL as usize);
    header.put_slice(MAGIC);
    header.put_u32_le(VERSION);
    header.put_u32_le(stamp.heads);
    header.put_u64_le(stamp.number);
    header.put_u32_le(record.expires);
    header.put_u32_le(record.variant.is_some().into());
    header.put_slice(&record.variant.unwrap_or_default());
    for place in [&filing.host, &filing.path] {
        header.put_u32_le(place.start);
        header.put_u32_le(place.end);
    }
    header.put_u32_le(short(record.name.len())?);
    header.put_u32_le(short(filing.tags.len())?);
    header.put_u32_le(short(record.head.len())?);
    header.put_u32_le(PIECE as u32);
    header.put_u64_le(record.length());
    header.put_u64_le(xxh3_64_with_seed(label, stamp.number));
    header.put_u64_le(xxh3_64_with_seed(&header, stamp.number));
    debug_assert_eq!(header.len(), HEADER);
    Ok(header)
}

/// Too short to be torn by anything but a power failure, and it has a sum for that.
fn mark(stale: u64, number: u64) -> [u8; MARK] {
    let mut mark = [0; MARK];
    let (since, sum) = mark.split_at_mut(8);
    since.copy_from_slice(&stale.to_le_bytes());
    sum.copy_from_slice(&xxh3_64_with_seed(since, number).to_le_bytes());
    mark
}

/// Marks a stored object as stale.
pub(super) fn set_mark(path: &Path, stale: u64, number: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.write_all_at(&mark(stale, number), HEADER as u64)
}

impl Stored {
    /// An error of the kind `InvalidData` or `UnexpectedEof` says that the file is of no use.
    pub(super) fn open(path: &Path, stamp: Stamp) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut first = vec![0; length.min(FIRST) as usize];
        file.read_exact_at(&mut first, 0)?;
        let header = Header::parse(&first, stamp.number)?;
        if header.heads != stamp.heads {
            return Err(bad("its head is of another version"));
        }
        if header.length() != Some(length) {
            return Err(bad("it is not as long as it says"));
        }
        Ok(Self {
            file,
            length,
            number: stamp.number,
            header,
            first,
        })
    }

    /// When it was used for the last time, as far as that was noted, in seconds since 1970.
    pub(super) fn used(&self) -> io::Result<u32> {
        let time = self.file.metadata()?.mtime().max(0);
        Ok(u32::try_from(time).unwrap_or(u32::MAX))
    }

    /// Notes a use, in seconds since 1970, for the next start. Some seconds are not worth it.
    pub(super) fn note_use(&self, now: u32) -> io::Result<()> {
        if now <= self.used()?.saturating_add(NOTE_EVERY) {
            return Ok(());
        }
        let time = UNIX_EPOCH + Duration::from_secs(now.into());
        self.file.set_times(FileTimes::new().set_modified(time))
    }

    /// Of the file, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn label(&self) -> io::Result<Label> {
        let header = &self.header;
        let length = (self.body() - (HEADER + MARK) as u64) as usize;
        let all = Bytes::from(self.read((HEADER + MARK) as u64, length)?);
        if xxh3_64_with_seed(&all, self.number) != header.sum {
            return Err(bad("its label has a wrong sum"));
        }
        let mut rest = all;
        let name = rest.split_to(header.name as usize);
        let tags = rest.split_to(header.tags as usize);
        let tags = str::from_utf8(&tags).map_err(|_| bad("its tags are no text"))?;
        Ok(Label {
            name,
            variant: header.variant,
            filing: Filing {
                host: header.host.clone(),
                path: header.path.clone(),
                tags: tags.into(),
            },
            expires: header.expires,
            head: rest.split_to(header.head as usize),
            stale: header.stale,
            length: header.body,
            sums: rest,
        })
    }

    /// A piece of the body, which has the right sum.
    pub(super) fn piece(&self, label: &Label, place: u64) -> io::Result<Bytes> {
        let start = place * PIECE as u64;
        let length = (label.length - start).min(PIECE as u64) as usize;
        let piece = self.read(self.body() + start, length)?;
        let sum = label.sum(place);
        if sum != Some(xxh3_64_with_seed(&piece, seed(self.number, place))) {
            return Err(bad("a piece of its body has a wrong sum"));
        }
        Ok(piece.into())
    }

    /// Where the body begins.
    fn body(&self) -> u64 {
        self.length - self.header.body
    }

    /// What is at a place, of which a part may have been read with the header.
    fn read(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        let known = self.first.get(from..).unwrap_or_default();
        let known = &known[..known.len().min(length)];
        let (start, rest) = bytes.split_at_mut(known.len());
        start.copy_from_slice(known);
        if !rest.is_empty() {
            self.file.read_exact_at(rest, at + known.len() as u64)?;
        }
        Ok(bytes)
    }
}

impl Label {
    /// How many pieces the body has.
    pub(super) fn pieces(&self) -> u64 {
        pieces(self.length)
    }

    fn sum(&self, place: u64) -> Option<u64> {
        let at = usize::try_from(place).ok()?.checked_mul(SUM)?;
        let sum = self.sums.get(at..)?.first_chunk()?;
        Some(u64::from_le_bytes(*sum))
    }
}

impl Header {
    fn parse(bytes: &[u8], number: u64) -> io::Result<Self> {
        let (header, rest) = bytes
            .split_at_checked(HEADER)
            .ok_or_else(|| bad("it ends in its header"))?;
        let mut fields = Fields(header);
        if fields.take::<8>()? != *MAGIC {
            return Err(bad("it is none of ours"));
        }
        if fields.short()? != VERSION {
            return Err(bad("it is of another version"));
        }
        let (sealed, sum) = header.split_at(HEADER - SUM);
        if xxh3_64_with_seed(sealed, number) != Fields(sum).long()? {
            return Err(bad("its header has a wrong sum"));
        }
        let heads = fields.short()?;
        if fields.long()? != number {
            return Err(bad("it has another number"));
        }
        let expires = fields.short()?;
        let varies = fields.short()? != 0;
        let variant = fields.take()?;
        let parsed = Self {
            heads,
            expires,
            variant: varies.then_some(variant),
            host: fields.short()?..fields.short()?,
            path: fields.short()?..fields.short()?,
            name: fields.short()?,
            tags: fields.short()?,
            head: fields.short()?,
            // The length of pieces is here for those who look at a file: it goes with the version.
            body: fields.short().and_then(|_| fields.long())?,
            sum: fields.long()?,
            stale: stale(rest, number)?,
        };
        Ok(parsed)
    }

    /// Of the whole file. `None` if there can't be such a one.
    fn length(&self) -> Option<u64> {
        let label = [self.name, self.tags, self.head].map(u64::from);
        let sums = pieces(self.body).checked_mul(SUM as u64)?;
        let known = (HEADER + MARK) as u64 + label.iter().sum::<u64>();
        known.checked_add(sums)?.checked_add(self.body)
    }
}

fn stale(mark: &[u8], number: u64) -> io::Result<u64> {
    let mut fields = Fields(mark);
    let since = fields.long()?;
    if xxh3_64_with_seed(&since.to_le_bytes(), number) != fields.long()? {
        return Err(bad("its mark has a wrong sum"));
    }
    Ok(since)
}

/// What is left of a header.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .ok_or_else(|| bad("it ends in its header"))?;
        self.0 = rest;
        Ok(*field)
    }

    fn short(&mut self) -> io::Result<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn long(&mut self) -> io::Result<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// Whether this error says that the file, rather than the way to it, is broken.
pub(super) fn is_bad(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::NotFound
    ) || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// What a file of so many bytes takes of a disk, in blocks.
pub(super) fn blocks(length: u64) -> io::Result<u32> {
    u32::try_from(length.div_ceil(BLOCK)).map_err(|_| bad("it is too long"))
}

fn pieces(body: u64) -> u64 {
    body.div_ceil(PIECE as u64)
}

fn seed(number: u64, place: u64) -> u64 {
    number ^ place.rotate_right(16)
}

fn bad(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

/// Of a body, in bytes.
pub(super) const PIECE: usize = 256 << 10;
pub(super) const BLOCK: u64 = 4096;
const MAGIC: &[u8; 8] = b"edgeway\n";
const VERSION: u32 = 1;
const HEADER: usize = 104;
const MARK: usize = 16;
const SUM: usize = 8;
/// Read along with the header: nearly always the whole label.
const FIRST: u64 = 4096;
/// Bodies up to here are written with all else at once.
const SMALL: u64 = 16 << 10;
/// Seconds.
const NOTE_EVERY: u32 = 10;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{super::tests::record, *};

    const STAMP: Stamp = Stamp {
        number: 77,
        heads: 3,
    };

    fn written(record: &Record) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write(
            file.as_file_mut(),
            record,
            STAMP,
            record.stale_since.unwrap_or(0),
        )
        .unwrap();
        let length_on_disk = file.as_file().metadata().unwrap().len();
        assert_eq!(length_on_disk, length(record));
        file
    }

    fn read(path: &Path) -> io::Result<(Label, Vec<u8>)> {
        let stored = Stored::open(path, STAMP)?;
        let label = stored.label()?;
        let mut body = Vec::new();
        for place in 0..label.pieces() {
            body.extend_from_slice(&stored.piece(&label, place)?);
        }
        Ok((label, body))
    }

    /// Does not repeat within a piece.
    fn pattern(length: usize) -> Vec<u8> {
        (0..length as u32)
            .map(|place| (place.wrapping_mul(0x9E37_79B9) >> 24) as u8)
            .collect()
    }

    fn cut(body: &[u8], chunk: usize) -> impl Iterator<Item = Bytes> {
        body.chunks(chunk).map(Bytes::copy_from_slice)
    }

    #[test]
    fn what_was_written_is_read_with_all_its_parts_however_the_body_was_cut() {
        for length in [0, 1, 3_000, 4_096, 20_000, PIECE, PIECE + 1, 3 * PIECE] {
            for chunk in [1_000, PIECE - 1, PIECE, 10 * PIECE] {
                let mut record = record("a.example/x", "one two", "the head", b"");
                record.body = cut(&pattern(length), chunk).collect();
                record.variant = Some([9; 16]);
                record.stale_since = Some(5_000);
                let file = written(&record);
                let (label, body) = read(file.path()).unwrap();
                assert_eq!(body, pattern(length));
                assert_eq!(
                    (&label.name[..], &label.head[..]),
                    (&*record.name, &b"the head"[..])
                );
                assert_eq!(*label.filing.tags, *"one two");
                assert_eq!(
                    (label.filing.host, label.filing.path),
                    (record.filing.host, record.filing.path)
                );
                assert_eq!((label.variant, label.stale), (Some([9; 16]), 5_000));
                assert_eq!(
                    (label.expires, label.length),
                    (record.expires, length as u64)
                );
            }
        }
    }

    #[test]
    fn a_label_longer_than_what_is_read_at_first_is_whole() {
        let record = record("a/b", "tag", &"h".repeat(9_000), b"body");
        let (label, body) = read(written(&record).path()).unwrap();
        assert_eq!(
            (&label.head[..], &body[..]),
            (&record.head[..], &b"body"[..])
        );
    }

    #[test]
    fn a_file_that_ends_too_early_is_bad_wherever_it_ends() {
        let mut record = record("a.example/x", "tag", "head", b"");
        record.body = cut(&pattern(PIECE + 500), PIECE).collect();
        let file = written(&record);
        let whole = length(&record);
        let label = (HEADER + MARK) as u64;
        let early = (0..label + 60).chain([label + 61, 4_095, 4_096, 4_097]);
        let late = [whole - 501, whole - 500, whole - 499, whole - 1];
        for end in early.chain(late) {
            let all = fs::read(file.path()).unwrap();
            let torn = tempfile::NamedTempFile::new().unwrap();
            fs::write(torn.path(), &all[..end as usize]).unwrap();
            let error = read(torn.path()).unwrap_err();
            assert!(is_bad(&error), "{end}: {error}");
        }
    }

    #[test]
    fn a_file_with_more_at_its_end_is_bad() {
        let file = written(&record("a/b", "", "head", b"body"));
        let mut all = fs::read(file.path()).unwrap();
        all.push(0);
        fs::write(file.path(), all).unwrap();
        assert!(is_bad(&read(file.path()).unwrap_err()));
    }

    #[test]
    fn a_file_with_any_byte_changed_is_bad() {
        let record = record("a.example/x", "tag", "the head", b"the body");
        let file = written(&record);
        let all = fs::read(file.path()).unwrap();
        for place in 0..all.len() {
            for bit in [1, 0x80] {
                let mut changed = all.clone();
                changed[place] ^= bit;
                fs::write(file.path(), changed).unwrap();
                let error = read(file.path()).err();
                assert!(error.is_some_and(|error| is_bad(&error)), "{place}");
            }
        }
    }

    #[test]
    fn pieces_in_the_wrong_order_or_of_another_file_are_bad() {
        let piece = pattern(PIECE);
        let mut record = record("a/b", "", "head", b"");
        record.body = [piece.clone(), vec![7; PIECE]]
            .map(Bytes::from)
            .into_iter()
            .collect();
        let file = written(&record);
        let all = fs::read(file.path()).unwrap();
        let body = all.len() - 2 * PIECE;
        let swapped = [&all[..body], &all[body + PIECE..], &piece[..]].concat();
        fs::write(file.path(), swapped).unwrap();
        assert!(is_bad(&read(file.path()).unwrap_err()));
        fs::write(file.path(), all).unwrap();
        let other = Stamp {
            number: 78,
            ..STAMP
        };
        assert!(Stored::open(file.path(), other).is_err_and(|error| is_bad(&error)));
        let newer = Stamp { heads: 4, ..STAMP };
        assert!(Stored::open(file.path(), newer).is_err_and(|error| is_bad(&error)));
        assert!(read(file.path()).is_ok());
    }

    #[test]
    fn a_mark_is_set_in_place_and_changes_nothing_else() {
        let file = written(&record("a/b", "tag", "head", b"body"));
        assert_eq!(read(file.path()).unwrap().0.stale, 0);
        set_mark(file.path(), 9_000, STAMP.number).unwrap();
        let (label, body) = read(file.path()).unwrap();
        assert_eq!(
            (label.stale, &label.head[..], &body[..]),
            (9_000, &b"head"[..], &b"body"[..])
        );
    }

    #[test]
    fn a_use_is_noted_but_not_every_time() {
        let file = written(&record("a/b", "", "head", b"body"));
        let stored = Stored::open(file.path(), STAMP).unwrap();
        let now = stored.used().unwrap();
        stored.note_use(now + NOTE_EVERY).unwrap();
        assert_eq!(stored.used().unwrap(), now);
        stored.note_use(now + NOTE_EVERY + 1).unwrap();
        assert_eq!(stored.used().unwrap(), now + NOTE_EVERY + 1);
    }
}
