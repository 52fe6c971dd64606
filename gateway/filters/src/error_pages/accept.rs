//! Which form of a page a client likes best (RFC 9110, section 12.5.1).

use std::cmp::Reverse;

use http::{HeaderMap, header::ACCEPT};

/// What a page may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Html,
    Plain,
}

/// How well a range fits a form: the better counts, whatever its quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Anything,
    Kind,
    Itself,
}

/// A range of `Accept` that fits a form.
#[derive(Clone, Copy, Debug)]
struct Liking {
    fit: Fit,
    /// In thousandths.
    quality: u16,
    place: usize,
}

/// The place of the form that a client likes best of those that are offered, which stand in our own order of
/// preference: of what it likes equally the one that it names more exactly, or before the others, and then the first
/// of ours. A client that takes none of them gets that as well: it has to be told something.
pub(super) fn choose(headers: &HeaderMap, offered: &[Form]) -> usize {
    let ranges: Vec<_> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(range)
        .collect();
    let rank = |(index, form): (usize, &Form)| {
        let Liking {
            fit,
            quality,
            place,
        } = liking(*form, &ranges)?;
        (quality > 0).then_some((quality, fit, Reverse(place), Reverse(index)))
    };
    let best = offered.iter().enumerate().filter_map(rank).max();
    best.map_or(0, |(.., Reverse(index))| index)
}

/// What a client says of a form, if it says something.
fn liking(form: Form, ranges: &[(&str, u16)]) -> Option<Liking> {
    let likings = ranges.iter().enumerate();
    let likings = likings.filter_map(|(place, (range, quality))| {
        let fit = fit(form, range)?;
        // Of ranges that name no form the order says nothing.
        let place = if fit == Fit::Itself { place } else { 0 };
        Some(Liking {
            fit,
            quality: *quality,
            place,
        })
    });
    likings.max_by_key(|liking| (liking.fit, liking.quality, Reverse(liking.place)))
}

fn fit(form: Form, range: &str) -> Option<Fit> {
    let range = range.to_ascii_lowercase();
    let (kind, subtype) = range.split_once('/')?;
    if (kind, subtype) == ("*", "*") {
        return Some(Fit::Anything);
    }
    let (kinds, itself) = match form {
        Form::Json => (
            "application",
            kind == "application" && (subtype == "json" || subtype.ends_with("+json")),
        ),
        Form::Html => (
            "text",
            [("text", "html"), ("application", "xhtml+xml")].contains(&(kind, subtype)),
        ),
        Form::Plain => ("text", (kind, subtype) == ("text", "plain")),
    };
    if itself {
        return Some(Fit::Itself);
    }
    (kind == kinds && subtype == "*").then_some(Fit::Kind)
}

/// A range and its quality in thousandths; none if it is not written as one.
fn range(text: &str) -> Option<(&str, u16)> {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().filter(|range| range.contains('/'))?;
    let quality = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    let quality = match quality {
        Some(text) => text.parse::<f32>().ok()?,
        None => 1.0,
    };
    (0.0..=1.0)
        .contains(&quality)
        .then_some((range, (quality * 1000.0).round() as u16))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn chosen(accept: &[&str], offered: &[Form]) -> Form {
        let mut headers = HeaderMap::new();
        for line in accept {
            headers.append(ACCEPT, HeaderValue::from_str(line).unwrap());
        }
        offered[choose(&headers, offered)]
    }

    #[test]
    fn the_form_is_the_one_that_the_client_likes_best() {
        use Form::{Html, Json, Plain};
        const BROWSER: &str =
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8";
        let all = [Json, Html, Plain];
        for (accept, expected) in [
            (&[][..], Json),
            (&["*/*"], Json),
            (&[BROWSER], Html),
            (&["application/json"], Json),
            (&["Application/Problem+JSON"], Json),
            (&["application/vnd.api+json, text/html"], Json),
            (&["text/html, application/json"], Html),
            (&["application/json;q=0.5, text/html;q=0.6"], Html),
            (&["application/json;q=0.5", "text/html;q=0.6"], Html),
            (&["application/json ; Q=0.5, text/plain"], Plain),
            (&["text/*"], Html),
            (&["text/*, text/html;q=0.1"], Plain),
            (&["text/html;q=0, text/*;q=0.2"], Plain),
            (&["text/html, */*"], Html),
            (&["*/*, text/plain"], Plain),
            (&["*/*;q=0.9, text/html;q=0.2"], Json),
            (&["application/xhtml+xml"], Html),
            (&["image/png"], Json),
            (&["*/*;q=0"], Json),
            (&["text/html;q=2, text/plain;q=0.1"], Plain),
            (&["rubbish, ;;;, /, text/html"], Html),
            (&["text/html;q=nan"], Json),
        ] {
            assert_eq!(chosen(accept, &all), expected, "{accept:?}");
        }
        assert_eq!(chosen(&["application/json"], &[Html]), Html);
        assert_eq!(chosen(&["*/*"], &[Plain, Html]), Plain);
        assert_eq!(chosen(&[], &[Html, Json]), Html);
    }
}
