//! A name server of a few lines, for tests.

use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    time::Duration,
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{CNAME, SRV},
    },
};

use crate::config::ResolverConfig;

/// Answers over UDP for as long as the test runs. A name without records has no such type if it has
/// others, and else does not exist.
#[derive(Clone)]
pub(super) struct TinyDns {
    pub(super) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

#[derive(Default)]
struct Zone {
    records: HashMap<String, Vec<(u32, RData)>>,
    failing: Vec<RecordType>,
    asked: Vec<(String, RecordType)>,
}

impl TinyDns {
    pub(super) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let dns = Self {
            address: socket.local_addr().expect("a bound socket has an address"),
            zone: Arc::default(),
        };
        let answering = dns.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let question = Message::from_vec(&buffer[..length]).expect("a DNS message");
                let answer = answering.answer(question).to_vec().expect("encodable");
                socket.send_to(&answer, from).expect("somebody waits");
            }
        });
        dns
    }

    /// Replaces all records of a name.
    pub(super) fn set(&self, name: &str, ttl: u32, records: &[RData]) {
        let records = records.iter().map(|data| (ttl, data.clone())).collect();
        let mut zone = self.zone.lock().unwrap();
        zone.records.insert(name.to_owned(), records);
    }

    pub(super) fn remove(&self, name: &str) {
        self.zone.lock().unwrap().records.remove(name);
    }

    /// Questions for these types fail.
    pub(super) fn fail(&self, types: &[RecordType]) {
        self.zone.lock().unwrap().failing = types.to_vec();
    }

    /// The names asked for with this type, in order.
    pub(super) fn asked(&self, of: RecordType) -> Vec<String> {
        let zone = self.zone.lock().unwrap();
        let asked = zone.asked.iter().filter(|(_, asked)| *asked == of);
        asked.map(|(name, _)| name.clone()).collect()
    }

    /// A configuration that asks this server, quickly.
    pub(super) fn config(&self) -> ResolverConfig {
        ResolverConfig {
            nameservers: vec![self.address],
            timeout: Duration::from_millis(500),
            ..ResolverConfig::default()
        }
    }

    fn answer(&self, question: Message) -> Message {
        let mut zone = self.zone.lock().unwrap();
        let query = question.queries[0].clone();
        let name = query.name().to_lowercase().to_ascii();
        let name = name.trim_end_matches('.').to_owned();
        zone.asked.push((name.clone(), query.query_type()));
        let mut answer = question.into_response();
        answer.additionals.clear();
        if zone.failing.contains(&query.query_type()) {
            answer.metadata.response_code = ResponseCode::ServFail;
            return answer;
        }
        let Some(records) = zone.records.get(&name) else {
            answer.metadata.response_code = ResponseCode::NXDomain;
            return answer;
        };
        let wanted = |data: &RData| {
            data.record_type() == query.query_type() || matches!(data, RData::CNAME(_))
        };
        for (ttl, data) in records.iter().filter(|(_, data)| wanted(data)) {
            let record = Record::from_rdata(query.name().clone(), *ttl, data.clone());
            answer.answers.push(record);
        }
        answer
    }
}

/// An A or AAAA record.
pub(super) fn ip(address: &str) -> RData {
    let address: std::net::IpAddr = address.parse().expect("an address");
    address.into()
}

pub(super) fn alias(target: &str) -> RData {
    RData::CNAME(CNAME(Name::from_ascii(target).expect("a name")))
}

pub(super) fn srv(priority: u16, weight: u16, port: u16, target: &str) -> RData {
    let target = Name::from_ascii(target).expect("a name");
    RData::SRV(SRV::new(priority, weight, port, target))
}
