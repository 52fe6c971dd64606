//! A contestant's process: started in a group of its own, measured through `/proc`, always ended.
//!
//! The group is the unit: nginx is a master and a worker, and both count.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::fault::{Fault, Result, Trouble};
use crate::http;

pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `log`.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Result<Self> {
        let doing = || format!("cannot start `{}`", command.get_program().display());
        let output = File::create(&log).trouble(doing)?;
        let errors = output.try_clone().trouble(doing)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .trouble(|| format!("cannot start `{}`", command.get_program().display()))?;
        Ok(Self { child, log })
    }

    /// Returns when `address` gives an answer, of whatever status. A listening socket alone would
    /// not do: nginx listens before it has a worker.
    pub(crate) fn until_it_answers(&mut self, address: SocketAddr) -> Result<()> {
        self.until(|| http::ask(address, &http::get("/", &[])).is_ok())
    }

    /// Returns when `address` takes connections.
    pub(crate) fn until_it_listens(&mut self, address: SocketAddr) -> Result<()> {
        self.until(|| TcpStream::connect(address).is_ok())
    }

    fn until(&mut self, is_ready: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            if is_ready() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.complaint(&format!("it ended at once ({status})")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(self.complaint(&format!("no answer within {START_LIMIT:?}")))
    }

    /// Processor time used since the start, by all threads of all processes of the group.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(clock(self.group()?.iter().map(|member| member.ticks).sum()))
    }

    /// Resident memory in KiB. Pages that a master shares with its worker count for both.
    pub(crate) fn resident(&self) -> Result<u64> {
        Ok(self
            .group()?
            .iter()
            .filter_map(|member| resident(member.pid))
            .sum())
    }

    /// Memory in KiB, where what several processes share counts once.
    pub(crate) fn memory(&self) -> Result<u64> {
        let of = |member: Member| {
            let file = format!("/proc/{}/smaps_rollup", member.pid);
            let text = fs::read_to_string(&file).trouble(|| format!("cannot read `{file}`"))?;
            Ok(kib(&text, "Pss:").unwrap_or_default())
        };
        self.group()?.into_iter().map(of).sum()
    }

    fn group(&self) -> Result<Vec<Member>> {
        let entries = fs::read_dir("/proc").trouble(|| "cannot read `/proc`".to_owned())?;
        let members: Vec<Member> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid: u32| {
                Member::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
            })
            .filter(|member| member.group == self.child.id())
            .collect();
        match members.is_empty() {
            true => Err(self.complaint("it has ended")),
            false => Ok(members),
        }
    }

    fn complaint(&self, what: &str) -> Fault {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let name = self.log.file_stem().unwrap_or_default().display();
        Fault::Setup(format!("{name}: {what}\n{}", log.trim_end()))
    }
}

impl Process {
    fn id(&self) -> Pid {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        id.expect("a child has a process id")
    }

    /// Gives up after a while, so that nothing can keep the run from ending.
    fn wait_for_the_group(&self) {
        let deadline = Instant::now() + END_LIMIT;
        let running = || {
            self.group()
                .is_ok_and(|group| group.iter().any(|member| !member.ended))
        };
        while running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    /// Asks first, for a master that is killed leaves its workers for somebody else to bury; then
    /// kills what is left of the group.
    fn drop(&mut self) {
        // These fail only when there is nothing left to end.
        rustix::process::kill_process(self.id(), Signal::TERM).ok();
        self.wait_for_the_group();
        rustix::process::kill_process_group(self.id(), Signal::KILL).ok();
        self.wait_for_the_group();
        self.child.wait().ok();
    }
}

/// One line of `/proc/PID/stat`.
#[derive(Debug, PartialEq)]
struct Member {
    pid: u32,
    group: u32,
    /// It waits for its parent to take notice.
    ended: bool,
    /// User and system time in clock ticks; threads that have ended are included.
    ticks: u64,
}

impl Member {
    fn parse(pid: u32, stat: &str) -> Option<Self> {
        // The second field is a name in brackets that may itself contain blanks and brackets;
        // the rest begins with the third.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            pid,
            group: u32::try_from(number(5)?).ok()?,
            ended: matches!(*fields.first()?, "Z" | "X"),
            ticks: number(14)? + number(15)?,
        })
    }
}

/// Processor time of this program itself.
pub(crate) fn own_cpu() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok();
    let own = stat.and_then(|stat| Member::parse(std::process::id(), &stat));
    own.map(|own| clock(own.ticks))
        .ok_or_else(|| Fault::Setup("cannot read `/proc/self/stat`".to_owned()))
}

fn clock(ticks: u64) -> Duration {
    Duration::from_nanos(ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    kib(&status, "VmRSS:")
}

/// What the line that begins with `name` says.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

const START_LIMIT: Duration = Duration::from_secs(10);
const END_LIMIT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 42 42 0 -1 4194560 93 0 0 0 300 25 9 9 20 0 1";
        assert_eq!(
            Member::parse(7, stat),
            Some(Member {
                pid: 7,
                group: 42,
                ended: false,
                ticks: 325
            })
        );
    }

    #[test]
    fn memory_is_the_line_of_that_name() {
        let text = "7f-80 ---p 0 00:00 0 [rollup]\nRss:  900 kB\nPss:  512 kB\nPss_Anon:  7 kB\n";
        assert_eq!(kib(text, "Pss:"), Some(512));
        assert_eq!(kib(text, "VmRSS:"), None);
    }

    #[test]
    fn a_dropped_process_leaves_no_child_behind() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & echo started; wait"]);
        let process = Process::start(command, directory.path().join("sh.log")).unwrap();
        while !fs::read_to_string(&process.log)
            .unwrap()
            .contains("started")
        {
            std::thread::yield_now();
        }
        let pids: Vec<u32> = process
            .group()
            .unwrap()
            .iter()
            .map(|member| member.pid)
            .collect();
        assert_eq!(pids.len(), 2);
        drop(process);
        for pid in pids {
            let state = fs::read_to_string(format!("/proc/{pid}/stat"));
            // A child of a killed parent may stay listed until init has waited for it.
            assert!(
                state.is_err() || state.is_ok_and(|stat| stat.contains(") Z ")),
                "{pid}"
            );
        }
    }

    #[test]
    fn the_complaint_about_a_process_that_ends_shows_what_it_said() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such option; exit 3"]);
        let mut process = Process::start(command, directory.path().join("gate.log")).unwrap();
        let nobody = "127.0.0.1:1".parse().unwrap();
        let complaint = process.until_it_answers(nobody).unwrap_err().to_string();
        assert!(complaint.contains("gate: it ended at once"), "{complaint}");
        assert!(complaint.contains("no such option"), "{complaint}");
    }
}
