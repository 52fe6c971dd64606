//! The journal of systemd, by its own protocol: each line is a datagram of fields
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! A line comes here as its fields, in the order in which they are sent, each but the last followed by [`BETWEEN`].

use std::{
    io::{self, Write},
    os::unix::net::UnixDatagram,
    path::Path,
};

use super::sink::first_line;

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// Ends a field within a line: a control character, which no value has in it.
pub(super) const BETWEEN: u8 = 0x1e;

/// Lines as datagrams to the journal.
pub(super) struct Journal {
    socket: UnixDatagram,
    datagram: Vec<u8>,
}

pub(super) fn open(path: &Path) -> io::Result<Journal> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(Journal {
        socket,
        datagram: Vec::new(),
    })
}

impl Write for Journal {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let line = first_line(lines);
        self.datagram.clear();
        let fields = line.strip_suffix(b"\n").unwrap_or(line);
        let fields = fields.get(..fields.len().min(MOST)).unwrap_or(fields);
        let ended = |byte: &u8| if *byte == BETWEEN { b'\n' } else { *byte };
        self.datagram.extend(fields.iter().map(ended));
        self.datagram.push(b'\n');
        self.socket.send(&self.datagram)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// In bytes. What is longer can't be sent as a datagram everywhere; the end of the message is cut.
const MOST: usize = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_datagram_of_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journald = UnixDatagram::bind(&path).unwrap();
        let mut journal = open(&path).unwrap();
        journal
            .write_all(b"PRIORITY=6\x1eMESSAGE=a b\nMESSAGE=c\n")
            .unwrap();
        let next = || {
            let mut buffer = [0; 100_000];
            let length = journald.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        assert_eq!(next(), "PRIORITY=6\nMESSAGE=a b\n");
        assert_eq!(next(), "MESSAGE=c\n");
        let long = [b"MESSAGE=".as_slice(), &[b'x'; 99_000], b"\n"].concat();
        journal.write_all(&long).unwrap();
        assert_eq!(next().len(), MOST + 1);
    }

    #[test]
    fn where_no_journal_is_there_is_an_error() {
        assert!(open(Path::new("/nonexistent/journal")).is_err());
    }
}
