//! Writes lines somewhere, off the path of requests.
//!
//! Requests put lines into a queue, without waiting: if it is full, the line is lost and counted.
//! One thread empties it. It lets lines gather for a moment before it writes them all at once, and
//! meanwhile does not sleep at the queue: whoever puts a line there would have to wake it, and that
//! costs more than the line. When the last user of a sink is gone, what is queued is still written.
//!
//! A destination that can't be written (a full disk) loses lines but nothing else; they are counted
//! too. What was lost is told in the gateway's own log, once a second at most. So it is with one that
//! can't be opened, which is tried again every few seconds.
//!
//! A file that was renamed is opened [anew](Sink::reopen): each line is whole in one of the two files.

use std::{
    io::{self, ErrorKind, Write},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use super::file;

/// One destination of lines, for all filters that write there.
pub(super) struct Sink {
    name: String,
    /// There until the sink is dropped.
    queue: Option<SyncSender<Vec<u8>>>,
    /// The bytes in it.
    queued: Arc<AtomicUsize>,
    /// Lines that found the queue full.
    lost: Arc<AtomicU64>,
    /// Those, and lines that could not be written, since the beginning.
    lost_ever: Arc<AtomicU64>,
    /// The file that is written was renamed.
    renamed: Arc<AtomicBool>,
    writer: Mutex<State>,
}

enum State {
    /// Nobody writes yet: a configuration that is only checked starts no thread.
    Ready(Writer),
    /// The thread writes. It sends nothing, but ends this channel when it is done.
    Running(Receiver<()>),
    /// There is no thread, and there will be none.
    Failed,
}

impl Sink {
    /// Appends to a file, which is made when writing starts if there is none.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        file::check(path)?;
        let (name, path) = (path.display().to_string(), path.to_owned());
        Ok(Self::new(name, move || file::open(&path)))
    }

    /// Writes to what `open` returns, which the log calls `name`.
    pub(super) fn new<W: Write + Send + 'static>(
        name: impl Into<String>,
        mut open: impl FnMut() -> io::Result<W> + Send + 'static,
    ) -> Self {
        let name = name.into();
        let (queue, lines) = mpsc::sync_channel(QUEUE);
        let lost = Arc::<AtomicU64>::default();
        let queued = Arc::<AtomicUsize>::default();
        let lost_ever = Arc::<AtomicU64>::default();
        let renamed = Arc::<AtomicBool>::default();
        let writer = Writer {
            name: name.clone(),
            lines,
            queued: Arc::clone(&queued),
            lost: Arc::clone(&lost),
            lost_ever: Arc::clone(&lost_ever),
            renamed: Arc::clone(&renamed),
            open: Box::new(move || Ok(Box::new(open()?))),
            after_failure: AfterFailure::Keep,
            output: None,
            tried: None,
            missed: 0,
            batch: Vec::new(),
            torn: false,
            failures: Failures::default(),
            reported: None,
        };
        Self {
            name,
            queue: Some(queue),
            queued,
            lost,
            lost_ever,
            renamed,
            writer: Mutex::new(State::Ready(writer)),
        }
    }

    /// The same as a sink that is opened anew after a failure: one of messages, which are taken whole or not at
    /// all, by somebody who may have come back.
    pub(super) fn anew(mut self) -> Self {
        let state = self
            .writer
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let State::Ready(writer) = state {
            writer.after_failure = AfterFailure::Reopen;
        }
        self
    }

    /// What the log calls it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How many lines were lost since the beginning.
    pub(super) fn lost(&self) -> u64 {
        self.lost_ever.load(Ordering::Relaxed)
    }

    /// Has what is written opened again, before the next line and without waiting for it.
    pub(super) fn reopen(&self) {
        self.renamed.store(true, Ordering::Release);
        if let Some(queue) = &self.queue {
            // Wakes the thread, which is awake if the queue is full.
            drop(queue.try_send(Vec::new()));
        }
    }

    /// Starts to write, unless that was done before.
    pub(super) fn start(&self) {
        let mut state = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Failed) {
            State::Ready(writer) => *state = self.spawn(writer),
            other @ (State::Running(_) | State::Failed) => *state = other,
        }
    }

    fn spawn(&self, writer: Writer) -> State {
        let (done, running) = mpsc::channel();
        let thread = thread::Builder::new().name("access-log".to_owned());
        let spawned = thread.spawn(move || {
            writer.run();
            drop(done);
        });
        match spawned {
            Ok(_) => State::Running(running),
            Err(error) => {
                log::error!("the access log to {} can't be written: {error}", self.name);
                State::Failed
            }
        }
    }

    /// Queues a line, with its end. Never waits.
    pub(super) fn send(&self, line: Vec<u8>) {
        let size = line.len();
        // Counted before the line is there to be taken, so that the count never goes below zero.
        let before = self.queued.fetch_add(size, Ordering::Relaxed);
        let room = before + size <= QUEUED_BYTES;
        let queue = self.queue.as_ref().filter(|_| room);
        if queue.is_none_or(|queue| queue.try_send(line).is_err()) {
            self.queued.fetch_sub(size, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.lost_ever.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Sink {
    /// Waits until all that is queued is written, but not for a destination that is stuck.
    fn drop(&mut self) {
        self.queue = None;
        let state = self
            .writer
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let State::Running(running) = state else {
            return;
        };
        if running.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            log::error!(
                "the access log to {} is stuck, its last lines may be lost",
                self.name
            );
        }
    }
}

type Open = dyn FnMut() -> io::Result<Box<dyn Write + Send>> + Send;

/// What the thread has.
struct Writer {
    name: String,
    lines: Receiver<Vec<u8>>,
    queued: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    lost_ever: Arc<AtomicU64>,
    renamed: Arc<AtomicBool>,
    open: Box<Open>,
    after_failure: AfterFailure,
    /// There once it could be opened.
    output: Option<Box<dyn Write + Send>>,
    /// When it could not be opened last.
    tried: Option<Instant>,
    /// Lines that were lost because it could not be opened.
    missed: u64,
    batch: Vec<u8>,
    /// Whether what was written last is a line without its end.
    torn: bool,
    failures: Failures,
    reported: Option<Instant>,
}

/// What becomes of what is written when that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterFailure {
    /// The disk may have room again.
    Keep,
    /// Nothing more comes of it.
    Reopen,
}

/// Lines that could not be written, since that was last reported.
#[derive(Default)]
struct Failures {
    lines: u64,
    last: Option<io::Error>,
}

impl Writer {
    fn run(mut self) {
        self.open();
        while let Some(line) = self.next() {
            thread::sleep(GATHER);
            self.take(&line);
            while let Ok(line) = self.lines.try_recv() {
                self.take(&line);
                if self.batch.len() >= BATCH {
                    self.write();
                }
            }
            self.write();
        }
        self.report();
        if self.missed > 0 {
            log::error!(
                "the access log to {} has lost {} lines: it could not be opened",
                self.name,
                self.missed
            );
        }
    }

    fn take(&mut self, line: &[u8]) {
        self.queued.fetch_sub(line.len(), Ordering::Relaxed);
        self.batch.extend_from_slice(line);
    }

    /// Writes the batch, and tells what was lost if that is due.
    fn write(&mut self) {
        self.flush();
        if self.may_report() {
            self.report();
        }
    }

    /// Opens the destination, unless that was done before or has failed a moment ago. Only the first
    /// failure is told, and the end of them.
    fn open(&mut self) {
        if self.output.is_some() || self.tried.is_some_and(|last| last.elapsed() < RETRY) {
            return;
        }
        let name = &self.name;
        match (self.open)() {
            Ok(output) => {
                self.output = Some(output);
                if self.tried.is_some() {
                    let missed = std::mem::take(&mut self.missed);
                    log::warn!("the access log to {name} is open now, {missed} lines are lost");
                }
            }
            Err(error) => {
                if self.tried.replace(Instant::now()).is_none() {
                    log::error!(
                        "the access log to {name} can't be opened, its lines are lost: {error}"
                    );
                }
            }
        }
    }

    /// The next line, as soon as there is one; none when there will be no more.
    fn next(&mut self) -> Option<Vec<u8>> {
        while self.output.is_none() || self.has_news() {
            match self.lines.recv_timeout(REPORT) {
                Ok(line) => return Some(line),
                Err(RecvTimeoutError::Timeout) => {
                    self.open();
                    self.report();
                }
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        self.lines.recv().ok()
    }

    /// Opens what was renamed. If that fails, the lines go on to where they went.
    fn reopen(&mut self) {
        if !self.renamed.swap(false, Ordering::AcqRel) {
            return;
        }
        match (self.open)() {
            Ok(output) => {
                self.output = Some(output);
                self.torn = false;
            }
            Err(error) => {
                let name = &self.name;
                log::error!("the access log to {name} can't be opened again: {error}");
            }
        }
    }

    /// Writes the batch. What can't be written is counted and forgotten.
    fn flush(&mut self) {
        self.reopen();
        self.open();
        let Some(output) = &mut self.output else {
            self.miss(count_lines(&self.batch));
            self.batch.clear();
            return;
        };
        let repaired = self.torn;
        if repaired {
            self.batch.insert(0, b'\n');
        }
        let mut rest = self.batch.as_slice();
        let mut patient = self.after_failure == AfterFailure::Reopen;
        let result = loop {
            if rest.is_empty() {
                break output.flush();
            }
            match output.write(rest) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if patient => {
                    patient = false;
                    match (self.open)() {
                        Ok(anew) => *output = anew,
                        Err(_) => break Err(error),
                    }
                }
                Err(error) => break Err(error),
            }
        };
        let written = self.batch.len() - rest.len();
        if let Some(last) = written.checked_sub(1)
            && self.after_failure == AfterFailure::Keep
        {
            self.torn = self.batch.get(last) != Some(&b'\n');
        }
        if let Err(error) = result {
            // The end of the torn line was counted with it.
            let counted = u64::from(repaired && written == 0);
            let lines = count_lines(rest) - counted;
            self.failures.lines += lines;
            self.lost_ever.fetch_add(lines, Ordering::Relaxed);
            self.failures.last = Some(error);
            if self.after_failure == AfterFailure::Reopen {
                self.output = None;
                self.tried = Some(Instant::now());
            }
        }
        self.batch.clear();
    }

    fn miss(&mut self, lines: u64) {
        self.missed += lines;
        self.lost_ever.fetch_add(lines, Ordering::Relaxed);
    }

    fn has_news(&self) -> bool {
        self.failures.last.is_some() || self.lost.load(Ordering::Relaxed) > 0
    }

    fn may_report(&self) -> bool {
        self.has_news() && self.reported.is_none_or(|last| last.elapsed() >= REPORT)
    }

    fn report(&mut self) {
        self.reported = Some(Instant::now());
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let name = &self.name;
            log::warn!("the access log to {name} has lost {lost} lines: they came too fast");
        }
        let Failures { lines, last } = std::mem::take(&mut self.failures);
        if let Some(error) = last {
            let name = &self.name;
            log::error!("the access log to {name} has lost {lines} lines: {error}");
        }
    }
}

/// The first of several lines, with its end: what writes messages takes one at a time.
pub(super) fn first_line(lines: &[u8]) -> &[u8] {
    let end = lines.iter().position(|byte| *byte == b'\n');
    lines.split_at(end.map_or(lines.len(), |end| end + 1)).0
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// How many lines may wait.
const QUEUE: usize = 8_192;
/// And how many bytes: clients decide on the length of a line.
const QUEUED_BYTES: usize = 16 << 20;
/// How long lines gather before they are written.
const GATHER: Duration = Duration::from_millis(10);
/// How many bytes are written at once.
const BATCH: usize = 64 * 1_024;
/// How often lost lines are reported.
const REPORT: Duration = Duration::from_secs(1);
/// How long it takes until what could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long the last user of a sink waits until all is written.
const PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    /// An output that fails, or takes only a part, as told for each call.
    #[derive(Clone, Default)]
    struct Output {
        written: Arc<Mutex<Vec<u8>>>,
        plan: Arc<Mutex<Vec<io::Result<usize>>>>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.plan.lock().unwrap().pop().unwrap_or(Ok(bytes.len()))?;
            let count = count.min(bytes.len());
            self.written
                .lock()
                .unwrap()
                .extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output {
        fn sink(&self) -> Sink {
            let output = self.clone();
            Sink::new("test", move || Ok(output.clone()))
        }

        fn text(&self) -> String {
            String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn a_full_queue_loses_lines_and_never_waits() {
        let output = Output::default();
        let sink = output.sink();
        // Nobody empties the queue yet: had `send` waited, this would not end.
        for number in 0..QUEUE + 5 {
            sink.send(format!("{number}\n").into_bytes());
        }
        assert_eq!(sink.lost.load(Ordering::Relaxed), 5);
        sink.start();
        sink.start();
        drop(sink);
        let text = output.text();
        assert_eq!(text.lines().count(), QUEUE);
        assert_eq!(text.lines().last(), Some((QUEUE - 1).to_string().as_str()));
    }

    #[test]
    fn long_lines_do_not_fill_the_memory() {
        let output = Output::default();
        let sink = output.sink();
        for _ in 0..20 {
            sink.send(vec![b'\n'; QUEUED_BYTES / 16]);
        }
        assert_eq!(sink.lost.load(Ordering::Relaxed), 4);
        let queued = Arc::clone(&sink.queued);
        sink.start();
        drop(sink);
        assert_eq!(output.text().len(), QUEUED_BYTES);
        assert_eq!(queued.load(Ordering::Relaxed), 0);
    }

    /// An output that notes at each call how many lines are lost and not yet told.
    struct Watch {
        lost: Arc<OnceLock<Arc<AtomicU64>>>,
        seen: Arc<Mutex<Vec<u64>>>,
    }

    impl Write for Watch {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let lost = self.lost.get().unwrap().load(Ordering::Relaxed);
            self.seen.lock().unwrap().push(lost);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_lost_is_told_while_lines_still_come() {
        let (lost, seen) = (Arc::<OnceLock<_>>::default(), Arc::<Mutex<_>>::default());
        let (told, noted) = (Arc::clone(&lost), Arc::clone(&seen));
        let sink = Sink::new("test", move || {
            Ok(Watch {
                lost: Arc::clone(&told),
                seen: Arc::clone(&noted),
            })
        });
        lost.set(Arc::clone(&sink.lost)).unwrap();
        for _ in 0..QUEUE + 5 {
            sink.send(vec![b'\n'; 3 * BATCH / QUEUE]);
        }
        sink.start();
        drop(sink);
        let seen: Vec<u64> = seen.lock().unwrap().clone();
        assert_eq!((seen.first(), seen.last()), (Some(&5), Some(&0)));
    }

    #[test]
    fn lines_of_many_threads_stay_whole() {
        let output = Output::default();
        let sink = output.sink();
        sink.start();
        thread::scope(|scope| {
            for name in ["a", "b", "c", "d"] {
                let sink = &sink;
                scope.spawn(move || {
                    for _ in 0..1_000 {
                        sink.send(format!("{}\n", name.repeat(100)).into_bytes());
                    }
                });
            }
        });
        drop(sink);
        let text = output.text();
        assert_eq!(text.lines().count(), 4_000);
        let whole = |line: &str| line.len() == 100 && line.chars().all(|c| line.starts_with(c));
        assert!(text.lines().all(whole));
    }

    #[test]
    fn a_sink_that_was_never_started_ends_at_once() {
        let output = Output::default();
        let sink = output.sink();
        sink.send(b"a\n".to_vec());
        drop(sink);
        assert_eq!(output.text(), "");
    }

    fn writer(sink: &Sink) -> Writer {
        match std::mem::replace(&mut *sink.writer.lock().unwrap(), State::Failed) {
            State::Ready(writer) => writer,
            State::Running(_) | State::Failed => unreachable!("it was not started"),
        }
    }

    #[test]
    fn what_can_not_be_opened_loses_lines_until_it_can_and_is_not_tried_all_the_time() {
        let output = Output::default();
        let opens = Arc::new(AtomicU64::new(0));
        let (opened, there) = (output.clone(), Arc::clone(&opens));
        let sink = Sink::new("test", move || {
            match there.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Err(ErrorKind::NotFound.into()),
                _ => Ok(opened.clone()),
            }
        });
        let mut writer = writer(&sink);
        let mut write = |line: &[u8], passed: Duration| {
            writer.tried = writer.tried.and_then(|last| last.checked_sub(passed));
            writer.batch.extend_from_slice(line);
            writer.flush();
            (writer.missed, opens.load(Ordering::Relaxed))
        };
        assert_eq!(write(b"1\n2\n", Duration::ZERO), (2, 1));
        assert_eq!(write(b"3\n", RETRY / 2), (3, 1));
        assert_eq!(write(b"4\n", RETRY), (4, 2));
        assert_eq!(write(b"5\n", RETRY), (0, 3));
        assert_eq!(write(b"6\n", RETRY), (0, 3));
        assert_eq!(output.text(), "5\n6\n");
    }

    #[test]
    fn a_file_that_was_renamed_is_opened_again_before_the_next_line() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let sink = Sink::file(&path).unwrap();
        let mut writer = writer(&sink);
        let mut write = |line: &[u8]| {
            writer.batch.extend_from_slice(line);
            writer.flush();
        };
        write(b"1\n");
        std::fs::rename(&path, &old).unwrap();
        write(b"2\n");
        assert_eq!((read(&old), path.exists()), ("1\n2\n".to_owned(), false));
        sink.reopen();
        // The thread is woken by an empty line.
        write(b"");
        assert!(path.exists());
        write(b"3\n");
        assert_eq!(
            (read(&old), read(&path)),
            ("1\n2\n".to_owned(), "3\n".to_owned())
        );
        // In vain: the lines go on to where they went.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        sink.reopen();
        write(b"4\n");
        assert_eq!(sink.lost(), 0);
    }

    #[test]
    fn somebody_who_takes_messages_and_was_away_is_found_again() {
        let output = Output::default();
        let opens = Arc::new(AtomicU64::new(0));
        let (opened, count) = (output.clone(), Arc::clone(&opens));
        let sink = Sink::new("test", move || {
            match count.fetch_add(1, Ordering::Relaxed) {
                0 | 1 | 3 => Ok(opened.clone()),
                _ => Err(ErrorKind::NotFound.into()),
            }
        })
        .anew();
        let mut writer = writer(&sink);
        let mut write = |line: &[u8], plan: Vec<io::Result<usize>>, passed: Duration| {
            output.plan.lock().unwrap().extend(plan.into_iter().rev());
            writer.tried = writer.tried.and_then(|last| last.checked_sub(passed));
            writer.batch.extend_from_slice(line);
            writer.flush();
        };
        let away = || Err(ErrorKind::ConnectionReset.into());
        // Back at once: nothing is lost.
        write(b"1\n2\n", vec![Ok(2), away()], Duration::ZERO);
        assert_eq!((output.text().as_str(), sink.lost()), ("1\n2\n", 0));
        // Away for longer.
        write(b"3\n4\n", vec![Ok(2), away()], Duration::ZERO);
        write(b"5\n", vec![], Duration::ZERO);
        assert_eq!((output.text().as_str(), sink.lost()), ("1\n2\n3\n", 2));
        write(b"6\n", vec![], RETRY);
        assert_eq!((output.text().as_str(), sink.lost()), ("1\n2\n3\n6\n", 2));
    }

    /// What is in the output after these batches, and how many lines were lost.
    fn written(plan: Vec<io::Result<usize>>, batches: &[&str]) -> (String, u64) {
        let output = Output::default();
        output.plan.lock().unwrap().extend(plan.into_iter().rev());
        let sink = output.sink();
        let mut writer = writer(&sink);
        for batch in batches {
            writer.batch.extend_from_slice(batch.as_bytes());
            writer.flush();
        }
        (output.text(), writer.failures.lines)
    }

    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let full = || Err(ErrorKind::StorageFull.into());
        let again = || Err(ErrorKind::Interrupted.into());
        let cases = [
            (vec![], "1\n2\n3\n", 0),
            (vec![again(), Ok(1)], "1\n2\n3\n", 0),
            (vec![full()], "3\n", 2),
            (vec![Ok(2), full()], "1\n3\n", 1),
            (vec![Ok(0)], "3\n", 2),
            (vec![Ok(3), full()], "1\n2\n3\n", 1),
            (vec![Ok(3), full(), full()], "1\n2", 2),
        ];
        for (plan, text, lost) in cases {
            let case = format!("{plan:?}");
            let (written, count) = written(plan, &["1\n2\n", "3\n"]);
            assert_eq!((written.as_str(), count), (text, lost), "{case}");
        }
    }
}
