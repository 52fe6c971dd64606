//! Whether two values mean the same.

use std::str::FromStr;

use edgeway_sdk::{
    Period,
    types::{Rate, Size},
};

use crate::config::document::{MASK, Tree};

/// Whether two values mean the same. Where texts are `literal`, only what is written the same is.
pub(super) fn same(one: &Tree, other: &Tree, literal: bool) -> bool {
    match (one, other) {
        (Tree::List(ours), Tree::List(theirs)) => {
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .zip(theirs)
                    .all(|(one, other)| same(one, other, literal))
        }
        (Tree::Map(ours), Tree::Map(theirs)) => {
            ours.len() == theirs.len()
                && one.entries().iter().all(|(key, value)| {
                    other
                        .get(key)
                        .is_some_and(|theirs| same(value, theirs, literal))
                })
        }
        (Tree::Masked(_, one), Tree::Masked(_, other)) => one == other,
        // What another process has shown does not tell what it has hidden.
        (Tree::Masked(shown, _), Tree::Text(text)) | (Tree::Text(text), Tree::Masked(shown, _)) => {
            shown == text && text.contains(MASK)
        }
        _ => match (one.text(), other.text()) {
            (Some(one), Some(other)) => one == other || (!literal && same_amount(&one, &other)),
            _ => false,
        },
    }
}

/// Whether two texts are the same length of time, number of bytes or rate.
fn same_amount(one: &str, other: &str) -> bool {
    // A bare number is one of bytes in one place and something else in another.
    let has_unit = |text: &str| text.ends_with(char::is_alphabetic);
    let amounts = [one, other]
        .iter()
        .all(|text| text.starts_with(|c: char| c.is_ascii_digit()));
    amounts
        && has_unit(one)
        && has_unit(other)
        && (parsed::<Period>(one, other)
            || parsed::<Size>(one, other)
            || parsed::<Rate>(one, other))
}

fn parsed<T: FromStr + PartialEq>(one: &str, other: &str) -> bool {
    match (one.parse::<T>(), other.parse::<T>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
