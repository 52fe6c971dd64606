//! Texts as applications send them: JSON whose names repeat, and whose values do so now and then.

use std::fmt::Write;

use crate::arrivals::chance;

/// So many bytes of a list of orders; the same each time.
pub(crate) fn orders(bytes: usize) -> Vec<u8> {
    let mut text = String::from("[");
    let mut number = 0;
    while text.len() < bytes {
        order(&mut text, number);
        number += 1;
    }
    // Where it ends does not matter to who sends it.
    text.truncate(bytes);
    text.into_bytes()
}

fn order(text: &mut String, number: u64) {
    let pick = |of: &[&'static str], turn: u64| {
        let at = chance(number * 8 + turn) * of.len() as f64;
        of.get(at as usize).copied().unwrap_or_default()
    };
    let id = (chance(number * 8) * 1e9) as u64;
    let (name, city) = (pick(&NAMES, 1), pick(&CITIES, 2));
    let (thing, colour) = (pick(&THINGS, 3), pick(&COLOURS, 4));
    let (price, pieces) = (
        chance(number * 8 + 5) * 200.0,
        (chance(number * 8 + 6) * 9.0) as u32,
    );
    let written = writeln!(
        text,
        "{{\"id\": {id}, \"customer\": {{\"name\": \"{name}\", \"city\": \"{city}\"}}, \"item\": \"{colour} \
         {thing}\", \"price\": {price:.2}, \"pieces\": {pieces}, \"state\": \"shipped\"}},"
    );
    written.expect("writing to a string does not fail");
}

const NAMES: [&str; 8] = [
    "Ada", "Grace", "Edsger", "Barbara", "Donald", "Radia", "Leslie", "Margaret",
];
const CITIES: [&str; 8] = [
    "Amsterdam",
    "Berlin",
    "Lisbon",
    "Madrid",
    "Oslo",
    "Prague",
    "Vienna",
    "Zagreb",
];
const THINGS: [&str; 8] = [
    "chair",
    "desk lamp",
    "kettle",
    "notebook",
    "pair of scissors",
    "teapot",
    "umbrella",
    "vase",
];
const COLOURS: [&str; 6] = ["black", "blue", "green", "red", "white", "yellow"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_as_long_as_asked_for_and_its_lines_differ() {
        let text = orders(10_000);
        assert_eq!(text.len(), 10_000);
        let mut lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
        let all = lines.len();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), all);
    }
}
