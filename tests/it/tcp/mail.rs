//! Mail, as programs send it that know nothing of us.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use edgeway_tests::{Authority, Certificate, Gateway, python};
use tempfile::TempDir;

use super::{peers::passing_on, tls_of};

/// A mail server in a few lines that offers STARTTLS, and keeps what it gets in a file.
const SERVER: &str = r#"
import asyncio, ssl, sys
chain, key, inbox = sys.argv[1:]
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(chain, key)

async def serve(reader, writer):
    say = lambda text: writer.write(text.encode() + b"\r\n")
    secure = False
    say("220 mail.test ready")
    while line := await reader.readline():
        verb = line.split()[0].upper() if line.split() else b""
        if verb == b"EHLO":
            say("250-mail.test")
            say("250 8BITMIME" if secure else "250 STARTTLS")
        elif verb == b"STARTTLS":
            say("220 go on")
            await writer.drain()
            await writer.start_tls(tls)
            secure = True
        elif verb == b"DATA":
            say("354 go on")
            text = b"secure\n" if secure else b"plain\n"
            while (line := await reader.readline()) != b".\r\n":
                text += line
            open(inbox, "wb").write(text)
            say("250 kept")
        elif verb == b"QUIT":
            say("221 bye")
            break
        else:
            say("250 ok")
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"#;

/// Sends a letter by `smtplib`: in the clear, with STARTTLS, or with TLS from the beginning.
const SENDER: &str = r#"
import smtplib, ssl, sys
how, port, ca = sys.argv[1:]
tls = ssl.create_default_context(cafile=ca)
# The certificate is for a name, and the gateway is at an address.
tls.check_hostname = False
kind = (lambda: smtplib.SMTP_SSL("127.0.0.1", int(port), context=tls, timeout=10)) if how == "tls" \
    else (lambda: smtplib.SMTP("127.0.0.1", int(port), timeout=10))
with kind() as mail:
    if how == "starttls":
        mail.starttls(context=tls)
    letter = "Subject: hello\r\n\r\n" + "".join(f"line {n}\r\n" for n in range(20000))
    assert mail.sendmail("ann@a.test", ["bob@b.test"], letter) == {}
"#;

struct Server {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl Server {
    fn start(python: &Path, certificate: &Certificate) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new(python)
            .args(["-c", SERVER])
            .args([certificate.chain(), certificate.key(), inbox(&folder)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        Self {
            process,
            port: line.trim().parse().unwrap(),
            folder,
        }
    }

    /// What was sent to it last.
    fn letter(&self) -> String {
        fs::read_to_string(inbox(&self.folder)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn inbox(folder: &TempDir) -> PathBuf {
    folder.path().join("inbox")
}

/// #83
#[test]
fn mail_is_sent_in_the_clear_with_starttls_and_with_tls_that_ends_here() {
    let Some(python) = python("smtplib, asyncio, ssl") else {
        return;
    };
    let authority = Authority::new();
    let certificate = authority.certificate(&["mail.test"]);
    let server = Server::start(&python, &certificate);
    let endpoints = format!("endpoints: ['127.0.0.1:{}']", server.port);
    let plain = Gateway::start(&passing_on("", &endpoints));
    let ending = Gateway::start(&passing_on(&tls_of(&certificate), &endpoints));
    let cases = [
        ("plain", &plain, "plain"),
        ("starttls", &plain, "secure"),
        ("tls", &ending, "plain"),
    ];
    for (how, gateway, kept) in cases {
        let sent = Command::new(&python)
            .args(["-c", SENDER, how, &gateway.address().port().to_string()])
            .arg(authority.ca())
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&sent.stderr);
        assert!(sent.status.success(), "{how}: {complaint}");
        let letter = server.letter();
        assert!(letter.starts_with(&format!("{kept}\n")), "{how}");
        assert!(letter.ends_with("line 19999\r\n"), "{how}");
    }
}
