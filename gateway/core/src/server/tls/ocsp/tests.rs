//! Questions and answers.

use super::*;
use crate::server::tls::{
    now,
    testing::{Authority, GOOD, Wanted, answer},
};

const REVOKED: &[u8] = &[
    0xa1, 17, 0x18, 15, b'2', b'0', b'2', b'4', b'0', b'1', b'0', b'1', b'0', b'0', b'0', b'0',
    b'0', b'0', b'Z',
];
const UNKNOWN: &[u8] = &[0x82, 0];

fn question(authority: &Authority, name: &str) -> Question {
    let files = authority.certificate(name, &[name]);
    let chain = pem::read_certificates(&files.chain).unwrap();
    Question::about_nobody_to_ask(&chain).unwrap()
}

#[test]
fn good_news_of_the_authority_is_believed_for_as_long_as_it_says() {
    let authority = Authority::new();
    let question = question(&authority, "a.example");
    let until = now() + 3600;
    let answer = question
        .judge(&answer(&authority, &question.id, GOOD, until))
        .unwrap();
    assert_eq!(answer.until, until);
    assert!(answer.since < now());
}

#[test]
fn bad_news_and_no_news_are_no_proof() {
    let authority = Authority::new();
    let question = question(&authority, "a.example");
    for (status, why) in [(REVOKED, "is revoked"), (UNKNOWN, "does not know")] {
        let answer = answer(&authority, &question.id, status, now() + 3600);
        let error = question.judge(&answer).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let ended = answer(&authority, &question.id, GOOD, now() - 3600);
    assert!(question.judge(&ended).unwrap_err().contains("ends before"));
    // `tryLater`, without anything else.
    let later = question.judge(&[0x30, 3, 0x0a, 1, 3]);
    assert!(later.unwrap_err().contains("later"));
}

#[test]
fn an_answer_of_somebody_else_or_about_another_certificate_is_no_proof() {
    let [authority, stranger] = [Authority::new(), Authority::new()];
    let question = question(&authority, "a.example");
    let forged = answer(&stranger, &question.id, GOOD, now() + 3600);
    let error = question.judge(&forged).unwrap_err();
    assert!(error.contains("not signed by the authority"), "{error}");
    let other = self::question(&authority, "b.example");
    let about = answer(&authority, &other.id, GOOD, now() + 3600);
    let error = question.judge(&about).unwrap_err();
    assert!(error.contains("not about this certificate"), "{error}");
}

#[test]
fn no_answer_makes_the_reader_panic() {
    let authority = Authority::new();
    let question = question(&authority, "a.example");
    let good = answer(&authority, &question.id, GOOD, now() + 3600);
    for end in 0..good.len() {
        assert!(question.judge(&good[..end]).is_err(), "{end}");
    }
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 0xff;
        // Most of it is signed; of the rest it must only survive.
        drop(question.judge(&changed));
    }
}

#[test]
fn an_authority_is_asked_where_the_certificate_says() {
    let authority = Authority::new();
    let wanted = Wanted {
        responder: Some("http://ocsp.example:8080/ask".to_owned()),
        ..Wanted::default()
    };
    let files = authority.write("a", &["a.example"], &wanted);
    let chain = pem::read_certificates(&files.chain).unwrap();
    let question = Question::about(&chain).unwrap();
    let uri = question.responder.unwrap();
    assert_eq!(uri, "http://ocsp.example:8080/ask");
    // Without the authority's certificate nobody knows what to ask.
    assert!(Question::about(&chain[..1]).is_none());
    // Nor whom, if it does not say.
    let silent = authority.certificate("b", &["b.example"]);
    let chain = pem::read_certificates(&silent.chain).unwrap();
    assert!(Question::about(&chain).is_none());
}
