//! How files are sent: whole, in part, over all protocols, and as fast as is said.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use edgeway_tests::{Authority, Frames, Gateway, Http2, PATIENCE, eventually};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use super::{content, site};

/// Of each size there is a way to send it: from memory, and in several pieces.
const SIZES: [usize; 6] = [0, 1, 4_096, 131_072, 131_073, 1_000_000];

fn sizes() -> Gateway {
    let routes = "routes: [{ files: site }]";
    let mut setup = site(routes);
    for size in SIZES {
        setup = setup.file(&format!("site/{size}"), content(size, 1));
    }
    setup.start()
}

#[test]
fn a_connection_serves_file_after_file_whatever_becomes_of_each() {
    let gateway = sizes();
    let mut connection = gateway.connect();
    for round in 0..2 {
        for size in SIZES {
            let whole = connection.get(&format!("/{size}"));
            assert!(
                whole.status == 200 && whole.body == content(size, 1),
                "{size} {round}"
            );
            assert_eq!(whole.header("content-length"), Some(&*size.to_string()));
            let head = connection.request("HEAD", &format!("/{size}")).send();
            assert_eq!((head.status, head.body.len()), (200, 0));
            assert_eq!(head.header("content-length"), Some(&*size.to_string()));
            let tag = whole.header("etag").unwrap();
            let target = format!("/{size}");
            let again = connection
                .request("GET", &target)
                .header("If-None-Match", tag);
            assert_eq!(again.send().status, 304, "{size}");
            let absent = connection
                .request("GET", &target)
                .header("Range", "bytes=2000000-");
            let status = if size == 0 { [200, 416] } else { [416, 416] };
            assert!(status.contains(&absent.send().status), "{size}");
            let posted = connection.request("POST", &target).body(vec![b'x'; 30_000]);
            assert_eq!(posted.send().status, 405);
            let with_body = connection.request("GET", &target).body(vec![b'x'; 30_000]);
            let with_body = with_body.send();
            assert!(
                with_body.status == 200 && with_body.body == whole.body,
                "{size}"
            );
            assert_eq!(connection.get("/nothing").status, 404);
        }
    }
}

#[test]
fn parts_of_files_of_every_size_are_what_stands_there() {
    let gateway = sizes();
    let http2 = Http2::open(gateway.address());
    for size in [4_096, 1_000_000] {
        let all = content(size, 1);
        for (first, last) in [(0, 0), (1, 3_000), (4_000, size - 1), (size / 3, size / 2)] {
            let range = format!("bytes={first}-{last}");
            let path = format!("/{size}");
            let part = gateway.request("GET", &path).header("Range", &range).send();
            assert_eq!(part.status, 206, "{range}");
            assert!(part.body == all[first..=last], "{range}");
            let mut asked = http2.request("GET", &path, "");
            asked.headers_mut().insert("range", range.parse().unwrap());
            let part = http2.send(asked).unwrap();
            assert_eq!(part.status, 206, "{range}");
            assert!(part.body == all[first..=last], "{range}");
        }
        let several = gateway.request("GET", &format!("/{size}"));
        let several = several.header("Range", "bytes=0-9,2000-2009,-5").send();
        assert_eq!(several.status, 206);
        for span in [0..10, 2_000..2_010, size - 5..size] {
            let wanted = &all[span.clone()];
            let mut windows = several.body.windows(wanted.len());
            assert!(windows.any(|window| window == wanted), "{span:?}");
        }
    }
}

#[test]
fn a_client_of_http_1_0_gets_files_as_well() {
    let gateway = sizes();
    for size in SIZES {
        let mut connection = gateway.connect();
        connection.send(format!("GET /{size} HTTP/1.0\r\n\r\n"));
        let answer = connection.answer();
        assert!(
            answer.status == 200 && answer.body == content(size, 1),
            "{size}"
        );
        connection.expect_close();
    }
    let mut connection = gateway.connect();
    for size in SIZES {
        connection.send(format!(
            "GET /{size} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        ));
        assert!(connection.answer().body == content(size, 1), "{size}");
    }
}

#[test]
fn files_come_over_http2_and_tls() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["localhost"]);
    let gateway = site(&format!(
        "
        listeners:
          http: {{ bind: '127.0.0.1:0' }}
          https:
            bind: '127.0.0.1:0'
            tls: {{ certificates: [{{ chain: '{}', key: '{}' }}] }}
        routes: [{{ files: site }}]
        ",
        certificate.chain().display(),
        certificate.key().display()
    ));
    let mut gateway = gateway;
    for size in SIZES {
        gateway = gateway.file(&format!("site/{size}"), content(size, 1));
    }
    let gateway = gateway.start();
    let clear = Http2::open(gateway.address_of("http"));
    for size in SIZES {
        let answer = clear.get(&format!("/{size}"));
        assert!(
            answer.status == 200 && answer.body == content(size, 1),
            "{size}"
        );
        let length = answer.headers["content-length"].to_str().unwrap();
        assert_eq!(length, size.to_string());
        let head = clear
            .send(clear.request("HEAD", &format!("/{size}"), ""))
            .unwrap();
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
    let address = gateway.address_of("https");
    let secure = Http2::secure(address, "localhost", &authority, None).unwrap();
    for size in SIZES {
        let answer = secure.get(&format!("/{size}"));
        assert!(
            answer.status == 200 && answer.body == content(size, 1),
            "{size}"
        );
        let answer = over_tls(address, &authority, &format!("/{size}"));
        let begin = answer.len().saturating_sub(size);
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{size}");
        assert!(answer[begin..] == content(size, 1), "{size}");
        assert!(answer[..begin].ends_with(b"\r\n\r\n"), "{size}");
    }
}

/// What comes over TLS and HTTP/1.1, up to the end of the connection.
fn over_tls(address: SocketAddr, authority: &Authority, target: &str) -> Vec<u8> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.pem().as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = StreamOwned::new(session, tcp);
    let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// What the process has in memory.
fn resident(gateway: &Gateway) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.unwrap().trim().split(' ').next().unwrap();
    kibibytes.parse::<usize>().unwrap() * 1024
}

const MIB: usize = 1 << 20;

#[test]
fn clients_that_read_slowly_hold_no_more_than_a_piece_of_a_large_file() {
    let gateway = site(
        "
        listeners: { http: { bind: '127.0.0.1:0', http2: { stream_window: 64KiB } } }
        routes: [{ files: site }]
        ",
    )
    .file("site/large", content(64 * MIB, 1))
    .start();
    assert_eq!(gateway.get("/large").body.len(), 64 * MIB);
    let before = resident(&gateway);
    let mut readers: Vec<_> = (0..20)
        .map(|_| {
            let mut connection = gateway.connect();
            connection.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(connection.head().status, 200);
            connection
        })
        .collect();
    let streams: Vec<_> = (0..20)
        .map(|_| {
            let mut frames = Frames::open(gateway.address());
            frames.ask(1, "/large", Frames::END_STREAM);
            frames
        })
        .collect();
    // They have come as far as they come without being read.
    for reader in &mut readers {
        assert_eq!(reader.read(MIB).unwrap().len(), MIB);
    }
    thread::sleep(Duration::from_millis(500));
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 40 * MIB, "{} MiB", grown / MIB);
    drop(streams);
}

#[test]
fn files_go_out_no_faster_than_is_said() {
    let gateway = site(
        "
        routes:
          - filters: [bandwidth: { rate: 1MB/s, after: 500kB }]
            files: site
        ",
    )
    .file("site/large", content(1_500_000, 1))
    .start();
    let start = Instant::now();
    assert!(gateway.get("/large").body == content(1_500_000, 1));
    assert!(
        start.elapsed() >= Duration::from_millis(800),
        "{:?}",
        start.elapsed()
    );
    let start = Instant::now();
    let answer = Http2::open(gateway.address()).get("/large");
    assert!(answer.body == content(1_500_000, 1));
    assert!(
        start.elapsed() >= Duration::from_millis(800),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn an_edited_file_comes_whole_whatever_part_was_asked_for() {
    let page = "a secret, ".repeat(30_000);
    let gateway = site("routes: [{ filters: [mask: { word: secret }], files: site }]")
        .file("site/large.txt", &page)
        .file("site/small.txt", "half a secre")
        .program("examples/mask")
        .start();
    let masked = page.replace("secret", "******");
    for range in ["", "bytes=0-9", "bytes=5-10,20-30"] {
        let mut request = gateway.request("GET", "/large.txt");
        if !range.is_empty() {
            request = request.header("Range", range);
        }
        let answer = request.send();
        assert_eq!(answer.status, 200, "{range}");
        assert!(answer.text() == masked, "{range}");
        assert_eq!(answer.header("accept-ranges"), None);
        assert!(answer.header("etag").unwrap().starts_with("W/"));
    }
    assert_eq!(gateway.get("/small.txt").text(), "half a secre");
    let http2 = Http2::open(gateway.address());
    assert!(http2.get("/large.txt").body == masked.as_bytes());
    let mut old = gateway.connect();
    old.send("GET /large.txt HTTP/1.0\r\n\r\n");
    let all = old.rest().unwrap();
    assert!(all.ends_with(masked.as_bytes()));
    assert_eq!(gateway.request("HEAD", "/large.txt").send().status, 200);
}

#[test]
fn a_client_that_leaves_in_the_middle_troubles_nobody() {
    let gateway = site("routes: [{ files: site }]")
        .file("site/large", content(30 * MIB, 1))
        .start();
    for _ in 0..20 {
        let mut connection = gateway.connect();
        connection.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
        connection.read(100_000).unwrap();
        drop(connection);
    }
    assert!(gateway.get("/large").body == content(30 * MIB, 1));
    // Nothing of it is left open.
    let folder = format!("/proc/{}/fd", gateway.pid());
    let is_large = |entry: fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|path| path.ends_with("site/large"))
    };
    eventually(PATIENCE, || {
        let mut open = fs::read_dir(&folder).unwrap();
        !open.any(|entry| entry.is_ok_and(is_large))
    });
}

#[test]
fn what_is_kept_for_one_route_says_nothing_untrue_on_another() {
    let gateway = site(
        "
        routes:
          - match: { path: /plain/ }
            files: { alias: site, precompressed: [] }
          - match: { path: /coded/ }
            files: { alias: site, precompressed: [gzip] }
        ",
    )
    .start();
    // What was written just now is not kept.
    thread::sleep(Duration::from_millis(2_500));
    for _ in 0..2 {
        assert_eq!(gateway.get("/plain/style.css").header("vary"), None);
        let coded = gateway.get("/coded/style.css");
        assert_eq!(coded.header("vary"), Some("accept-encoding"));
    }
}
