//! A listing as a page for people: no script, light or dark as they have it, and narrow enough for a telephone.

use std::fmt::{self, Display, Formatter};

use percent_encoding::percent_decode_str;

use super::{Content, Entry, Key, Listing, Order};

/// All that the page may do: have its own style, which it is known by.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'sha256-/kzD5k+GrOXbggz8DoA7T5NL2tWXQ3oefIN/fpc2dJ0='; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

/// A folder and what is in it.
pub(super) struct Page<'a> {
    pub(super) listing: &'a Listing,
    pub(super) content: &'a Content,
}

impl Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let title: Vec<u8> = percent_decode_str(&self.listing.path).collect();
        write!(
            f,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"robots\" content=\"noindex\">\n<title>{}</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>",
            Shown(&title)
        )?;
        self.listing.trail(f)?;
        f.write_str("</h1>\n<table>\n<thead>\n<tr>")?;
        for key in [Key::Name, Key::Size, Key::Modified] {
            Column(key, self.listing.order).fmt(f)?;
        }
        f.write_str("</tr>\n</thead>\n<tbody>\n")?;
        if self.listing.depth() > 0 {
            f.write_str(
                "<tr><td><a class=\"folder\" href=\"../\">..</a></td><td></td><td></td></tr>\n",
            )?;
        }
        for entry in &self.content.entries {
            entry.row(f)?;
        }
        f.write_str("</tbody>\n</table>\n<p>")?;
        self.content.sum(f)?;
        f.write_str("</p>\n</main>\n</body>\n</html>\n")
    }
}

impl Listing {
    /// The path, with links to those of its folders that the target serves.
    fn trail(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let segments = self.path.split('/').filter(|segment| !segment.is_empty());
        let segments: Vec<Vec<u8>> = segments
            .map(|name| percent_decode_str(name).collect())
            .collect();
        let names = [&b""[..]]
            .into_iter()
            .chain(segments.iter().map(Vec::as_slice));
        for (place, name) in names.enumerate() {
            let up = segments.len() - place;
            let slash = if place == 0 || up > 0 { "/" } else { "" };
            if up == 0 || up > self.depth() {
                write!(f, "<span>{}{slash}</span>", Shown(name))?;
            } else {
                write!(
                    f,
                    "<a href=\"{}\">{}{slash}</a>",
                    "../".repeat(up),
                    Shown(name)
                )?;
            }
        }
        Ok(())
    }
}

impl Content {
    fn sum(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let folders = self.entries.iter().filter(|entry| entry.folder).count();
        let files = self.entries.len() - folders;
        let size = self
            .entries
            .iter()
            .fold(0_u64, |sum, entry| sum.saturating_add(entry.size));
        let of = |number, one, many| Counted(number, if number == 1 { one } else { many });
        write!(f, "{}, ", of(folders, "folder", "folders"))?;
        write!(f, "{}, {}", of(files, "file", "files"), Size(size))?;
        match self.more {
            0 => Ok(()),
            more => write!(f, "; and {} more, not shown", more),
        }
    }
}

impl Entry {
    fn row(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (class, slash) = if self.folder {
            ("folder", "/")
        } else {
            ("file", "")
        };
        write!(
            f,
            "<tr><td><a class=\"{class}\" href=\"{}\"><bdi>{}{slash}</bdi></a></td><td>",
            self.link(),
            Shown(&self.name)
        )?;
        if !self.folder {
            write!(
                f,
                "<data value=\"{0}\" title=\"{0} bytes\">{1}</data>",
                self.size,
                Size(self.size)
            )?;
        }
        let time = self.time();
        writeln!(
            f,
            "</td><td><time datetime=\"{time}\">{}</time></td></tr>",
            time.replace('T', " ")
        )
    }
}

/// The head of a column, which leads to the page sorted by it.
struct Column(Key, Order);

impl Display for Column {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(key, now) = *self;
        let (name, title, falls_first) = match key {
            Key::Name => ("name", "Name", false),
            Key::Size => ("size", "Size", true),
            Key::Modified => ("modified", "Modified", true),
        };
        let chosen = key == now.by;
        let falling = if chosen { !now.falling } else { falls_first };
        let order = if falling { "desc" } else { "asc" };
        f.write_str("<th")?;
        if chosen {
            let sorted = if now.falling {
                "descending"
            } else {
                "ascending"
            };
            write!(f, " aria-sort=\"{sorted}\"")?;
        }
        write!(
            f,
            "><a href=\"?sort={name}&amp;order={order}\">{title}</a></th>"
        )
    }
}

struct Counted(usize, &'static str);

impl Display for Counted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

/// Bytes, rounded for people.
struct Size(u64);

impl Display for Size {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        // What would be written as 1024.0 of one unit is 1.0 of the next.
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
            .into_iter()
            .zip(1..);
        let in_tenths = units.map(|(unit, power)| {
            let of_unit = 1024_u128.pow(power);
            ((u128::from(self.0) * 10 + of_unit / 2) / of_unit, unit)
        });
        let mut fitting = in_tenths.skip_while(|(tenths, _)| *tenths >= 10_240);
        let (tenths, unit) = fitting.next().unwrap_or_default();
        write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

/// A name as text of a page, without what cannot be seen or would change what is seen.
struct Shown<'a>(&'a [u8]);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for character in String::from_utf8_lossy(self.0).chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ if character.is_control() || REORDERS.contains(&character) => {
                    char::REPLACEMENT_CHARACTER.fmt(f)?;
                }
                _ => character.fmt(f)?,
            }
        }
        Ok(())
    }
}

/// What makes `exe.gpj` look like another name.
const REORDERS: [char; 9] = [
    '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}',
    '\u{2069}',
];

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1d2330;--soft:#667085;--line:#e4e7ec;--paper:#fff;--hover:#f5f7fa;--link:#175cd3;--folder:#d9962b}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e8ee;--soft:#8d95a5;--line:#2a303c;--paper:#14171d;--hover:#1c2129;--link:#84adff;--folder:#e0ad55}}\
*{box-sizing:border-box}\
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}\
main{max-width:60rem;margin:0 auto;padding:2.5rem 1.25rem}\
h1{font-size:1.25rem;font-weight:600;margin:0 .75rem 1.25rem;overflow-wrap:anywhere}\
h1 a,h1 span{padding-right:.2em}\
a{color:inherit;text-decoration:none}\
a:hover,a:focus-visible{color:var(--link);text-decoration:underline}\
table{width:100%;border-collapse:collapse;font-size:.9375rem}\
th{font-size:.8125rem;font-weight:500;color:var(--soft);text-align:left;padding:.4rem .75rem;border-bottom:1px solid var(--line)}\
th[aria-sort] a::after{content:' \\2191'}\
th[aria-sort=descending] a::after{content:' \\2193'}\
td{padding:.4rem .75rem;border-bottom:1px solid var(--line);vertical-align:top}\
th:nth-child(n+2),td:nth-child(n+2){text-align:right;white-space:nowrap;width:1%;color:var(--soft);font-variant-numeric:tabular-nums}\
tbody tr:hover{background:var(--hover)}\
td a{display:block;padding-left:1.75rem;position:relative;overflow-wrap:anywhere;white-space:pre-wrap}\
td a::before{content:'';position:absolute;background:var(--soft);opacity:.55;left:.2rem;top:.25em;width:.8rem;height:1rem;clip-path:polygon(0 0,60% 0,100% 32%,100% 100%,0 100%)}\
td a.folder{font-weight:500}\
td a.folder::before{background:var(--folder);opacity:1;left:.1rem;top:.3em;width:1.05rem;height:.85rem;clip-path:polygon(0 0,42% 0,52% 18%,100% 18%,100% 100%,0 100%)}\
p{color:var(--soft);font-size:.8125rem;margin:1rem .75rem}\
@media(max-width:40rem){main{padding:1.25rem .5rem}th:nth-child(3),td:nth-child(3){display:none}}";

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::*;

    #[test]
    fn the_policy_allows_the_style_of_the_page_and_nothing_else() {
        let hash = BASE64_STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
        assert!(
            POLICY.contains(&format!("style-src 'sha256-{hash}';")),
            "{hash}"
        );
        assert!(POLICY.starts_with("default-src 'none';"));
    }

    #[test]
    fn sizes_are_rounded_for_people() {
        for (size, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_524, "1023.9 KiB"),
            (1_048_525, "1.0 MiB"),
            (1_048_576, "1.0 MiB"),
            (123_456_789, "117.7 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Size(size).to_string(), shown, "{size}");
        }
    }

    #[test]
    fn names_are_shown_and_never_obeyed() {
        for (name, shown) in [
            (&b"a & b"[..], "a &amp; b"),
            (
                b"<script>alert('x')</script>",
                "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;",
            ),
            (b"\"quoted\"", "&quot;quoted&quot;"),
            (b"a\nb\x7f", "a\u{fffd}b\u{fffd}"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            (
                "a\u{202e}txt.exe\u{85}".as_bytes(),
                "a\u{fffd}txt.exe\u{fffd}",
            ),
        ] {
            assert_eq!(Shown(name).to_string(), shown);
        }
    }
}
