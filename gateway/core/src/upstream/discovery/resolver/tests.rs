use std::net::{TcpListener, UdpSocket};

use super::{
    super::tiny_dns::{TinyDns, alias, ip, srv},
    *,
};

fn resolver(dns: &TinyDns) -> Resolver {
    Resolver::new(&dns.config())
}

fn shown(answer: &Answer<IpAddr>) -> Vec<String> {
    answer.found.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_name_has_the_addresses_of_both_families() {
    let dns = TinyDns::start();
    dns.set(
        "app.test",
        60,
        &[ip("2001:db8::1"), ip("10.0.0.1"), ip("10.0.0.2")],
    );
    let answer = resolver(&dns).addresses("app.test").await.unwrap();
    assert_eq!(shown(&answer), ["10.0.0.1", "10.0.0.2", "2001:db8::1"]);
    assert_eq!(answer.fresh_for, Duration::from_secs(60));
    assert_eq!(answer.unknown, None);
}

#[tokio::test]
async fn a_time_to_live_is_kept_within_its_bounds() {
    let dns = TinyDns::start();
    let resolver = Resolver::new(&ResolverConfig {
        min_ttl: Duration::from_secs(5),
        max_ttl: Duration::from_secs(30),
        ..dns.config()
    });
    for (ttl, kept) in [(0, 5), (5, 5), (12, 12), (31, 30), (u32::MAX >> 1, 30)] {
        dns.set("app.test", ttl, &[ip("10.0.0.1")]);
        let answer = resolver.addresses("app.test").await.unwrap();
        assert_eq!(answer.fresh_for, Duration::from_secs(kept), "{ttl}");
    }
}

#[tokio::test]
async fn every_question_is_asked_and_none_is_answered_from_memory() {
    let dns = TinyDns::start();
    let resolver = resolver(&dns);
    dns.set("app.test", 3600, &[ip("10.0.0.1")]);
    resolver.addresses("app.test").await.unwrap();
    dns.set("app.test", 3600, &[ip("10.0.0.2")]);
    let answer = resolver.addresses("app.test").await.unwrap();
    assert_eq!(shown(&answer), ["10.0.0.2"]);
    assert_eq!(dns.asked(RecordType::A).len(), 2);
}

#[tokio::test]
async fn an_alias_counts_with_its_own_time_to_live() {
    let dns = TinyDns::start();
    dns.set("app.test", 7, &[alias("real.test.")]);
    dns.set("real.test", 60, &[ip("10.0.0.1")]);
    let answer = resolver(&dns).addresses("app.test").await.unwrap();
    assert_eq!(shown(&answer), ["10.0.0.1"]);
    assert_eq!(answer.fresh_for, Duration::from_secs(7));
}

#[tokio::test]
async fn a_name_without_addresses_is_an_error() {
    let dns = TinyDns::start();
    let resolver = resolver(&dns);
    let error = resolver.addresses("app.test").await.unwrap_err();
    assert_eq!(error, "there is no such name");
    dns.set("app.test", 60, &[srv(0, 0, 80, "x.test.")]);
    let error = resolver.addresses("app.test").await.unwrap_err();
    assert_eq!(error, "the name has no addresses");
    dns.fail(&[RecordType::A, RecordType::AAAA]);
    let error = resolver.addresses("app.test").await.unwrap_err();
    assert!(error.contains("the name server says"), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = Resolver::new(&ResolverConfig {
        nameservers: vec![silent.local_addr().unwrap()],
        timeout: Duration::from_millis(20),
        ..ResolverConfig::default()
    });
    let error = resolver.addresses("app.test").await.unwrap_err();
    assert_eq!(error, "no name server has answered in time");
}

#[tokio::test]
async fn what_is_known_of_one_family_only_says_so_and_is_asked_for_again_soon() {
    let dns = TinyDns::start();
    dns.set("app.test", 300, &[ip("10.0.0.1"), ip("::1")]);
    dns.fail(&[RecordType::AAAA]);
    let answer = resolver(&dns).addresses("app.test").await.unwrap();
    assert_eq!(shown(&answer), ["10.0.0.1"]);
    assert_eq!(answer.unknown, Some(Family::V6));
    assert_eq!(answer.fresh_for, UNTIMED);
}

#[tokio::test]
async fn an_address_is_its_own_answer() {
    let dns = TinyDns::start();
    let resolver = resolver(&dns);
    for address in ["10.0.0.1", "::1"] {
        let answer = resolver.addresses(address).await.unwrap();
        assert_eq!(shown(&answer), [address]);
    }
    assert!(dns.asked(RecordType::A).is_empty());
}

#[tokio::test]
async fn services_are_found_with_all_that_their_records_say() {
    let dns = TinyDns::start();
    let records = [
        srv(10, 3, 8080, "A.test."),
        srv(20, 0, 8081, "b.test."),
        srv(10, 1, 0, "no-port.test."),
        srv(0, 0, 80, "."),
    ];
    dns.set("_http._tcp.test", 9, &records);
    let answer = resolver(&dns).services("_http._tcp.test").await.unwrap();
    let expected = [(10, 3, 8080, "a.test."), (20, 0, 8081, "b.test.")];
    let expected = expected.map(|(priority, weight, port, host)| Service {
        priority,
        weight,
        port,
        host: host.to_owned(),
    });
    assert_eq!(answer.found, expected);
    assert_eq!(answer.fresh_for, Duration::from_secs(9));
    dns.set("_http._tcp.test", 9, &records[3..]);
    let none = resolver(&dns).services("_http._tcp.test").await;
    assert_eq!(none.unwrap_err(), "the name has no services");
}

/// The files of a machine.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new(hosts: &str, resolv_conf: &str) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        machine.write("hosts", hosts);
        machine.write("resolv.conf", resolv_conf);
        machine
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.path().join(file), text).unwrap();
    }

    fn files(&self) -> Files {
        Files {
            hosts: self.0.path().join("hosts"),
            resolv_conf: self.0.path().join("resolv.conf"),
        }
    }
}

#[tokio::test]
async fn the_hosts_file_goes_first_and_is_read_again_when_it_changes() {
    let dns = TinyDns::start();
    dns.set("app", 60, &[ip("10.0.0.1"), ip("2001:db8::1")]);
    let machine = Machine::new("192.168.0.7 app # ours\n::1 other\n", "");
    let resolver = Resolver::with_files(&dns.config(), machine.files());
    let answer = resolver.addresses("App").await.unwrap();
    assert_eq!(
        shown(&answer),
        ["192.168.0.7"],
        "and nothing from elsewhere"
    );
    assert_eq!(answer.fresh_for, UNTIMED);
    machine.write("hosts", "192.168.0.80 app\n192.168.0.81 app\n");
    let answer = resolver.addresses("app").await.unwrap();
    assert_eq!(shown(&answer), ["192.168.0.80", "192.168.0.81"]);
    machine.write("hosts", "");
    let answer = resolver.addresses("app").await.unwrap();
    assert_eq!(shown(&answer), ["10.0.0.1", "2001:db8::1"]);
}

/// A client as `/etc/resolv.conf` makes it, but for the port of its server.
fn client(resolv_conf: &str, dns: &TinyDns) -> Client {
    let machine = Machine::new("", resolv_conf);
    let (servers, options) = machine.files().read_resolv_conf().unwrap();
    assert_eq!(servers.name_servers()[0].ip, dns.address.ip());
    let (domain, search, _) = servers.into_parts();
    let servers = Servers::from_parts(domain, search, vec![server(dns.address)]);
    Client::new(servers, options, &dns.config()).unwrap()
}

#[tokio::test]
async fn short_names_are_looked_for_in_the_search_list() {
    let dns = TinyDns::start();
    let client = client(
        "nameserver 127.0.0.1\nsearch ns.svc.cluster.local svc.cluster.local\noptions ndots:5\n",
        &dns,
    );
    dns.set("app.svc.cluster.local", 5, &[ip("10.0.0.1")]);
    dns.set("app", 5, &[ip("10.9.9.9")]);
    let (found, ..) = client.addresses(&parse("app").unwrap()).await.unwrap();
    assert_eq!(found, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(
        dns.asked(RecordType::A),
        ["app.ns.svc.cluster.local", "app.svc.cluster.local"]
    );
}

#[tokio::test]
async fn names_with_many_dots_or_a_final_one_are_tried_as_they_are() {
    let dns = TinyDns::start();
    let client = client(
        "nameserver 127.0.0.1\nsearch a.test\noptions ndots:2\n",
        &dns,
    );
    let order = |name: &str| -> Vec<String> {
        let names = client.candidates(&parse(name).unwrap());
        names.iter().map(ToString::to_string).collect()
    };
    assert_eq!(order("x"), ["x.a.test.", "x."]);
    assert_eq!(order("x.y"), ["x.y.a.test.", "x.y."]);
    assert_eq!(order("x.y.z"), ["x.y.z.", "x.y.z.a.test."]);
    assert_eq!(order("x."), ["x."]);
    assert_eq!(order("localhost"), ["localhost.", "localhost.a.test."]);
}

#[tokio::test]
async fn without_a_name_server_the_c_library_is_asked() {
    for resolv_conf in ["", "search a.test\n"] {
        let machine = Machine::new("", resolv_conf);
        let resolver = Resolver::with_files(&ResolverConfig::default(), machine.files());
        let answer = resolver.addresses("localhost").await.unwrap();
        assert!(answer.found.iter().all(IpAddr::is_loopback), "{answer:?}");
        assert_eq!(answer.fresh_for, UNTIMED);
        let error = resolver.services("_http._tcp.test").await.unwrap_err();
        assert!(error.contains("nameservers"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_was_cut_short_is_asked_for_again_over_tcp() {
    use std::io::{Read, Write};

    use hickory_resolver::proto::{op::Message, rr::Record};

    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let mut answer = Message::from_vec(&buffer[..length])
                .unwrap()
                .into_response();
            answer.metadata.truncation = true;
            udp.send_to(&answer.to_vec().unwrap(), from).unwrap();
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.accept() {
            std::thread::spawn(move || {
                let mut length = [0; 2];
                while stream.read_exact(&mut length).is_ok() {
                    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                    stream.read_exact(&mut question).unwrap();
                    let mut answer = Message::from_vec(&question).unwrap().into_response();
                    let query = answer.queries[0].clone();
                    if query.query_type() == RecordType::A {
                        let data = ip("10.0.0.1");
                        let record = Record::from_rdata(query.name().clone(), 60, data);
                        answer.answers.push(record);
                    }
                    let answer = answer.to_vec().unwrap();
                    let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                    stream.write_all(&length).unwrap();
                    stream.write_all(&answer).unwrap();
                }
            });
        }
    });
    let resolver = Resolver::new(&ResolverConfig {
        nameservers: vec![address],
        ..ResolverConfig::default()
    });
    let answer = resolver.addresses("app.test").await.unwrap();
    assert_eq!(shown(&answer), ["10.0.0.1"]);
}
