//! Hides values of query parameters that nobody may read in a log.

use std::sync::Arc;

use smallvec::SmallVec;

/// The names of query parameters whose values are secrets, in lower case.
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// The names that are secret everywhere, and these.
    pub(crate) fn new(more: &[String]) -> Self {
        let mut names: Vec<_> = more.iter().map(|name| name.to_ascii_lowercase()).collect();
        names.extend(ALWAYS.map(str::to_owned));
        Self(names)
    }

    /// All that one of these hides, and the names that are secret everywhere.
    pub(super) fn all_of(several: &[Arc<Self>]) -> Self {
        let names = several.iter().flat_map(|secrets| secrets.0.iter().cloned());
        Self(names.chain(ALWAYS.map(str::to_owned)).collect())
    }

    /// Hands out a URL, or a part of one that begins with its path, piece by piece.
    pub(crate) fn mask_url<'a>(&self, url: &'a [u8], mut piece: impl FnMut(&'a [u8])) {
        let Some(at) = url.iter().position(|byte| matches!(byte, b'?' | b'#')) else {
            return piece(url);
        };
        let (path, query) = url.split_at(at + 1);
        piece(path);
        self.mask_query(query, piece);
    }

    /// Hands out a query piece by piece.
    pub(crate) fn mask_query<'a>(&self, query: &'a [u8], mut piece: impl FnMut(&'a [u8])) {
        for pair in query.split_inclusive(|byte| *byte == b'&') {
            let Some(at) = self.secret_in(pair) else {
                piece(pair);
                continue;
            };
            piece(pair.split_at(at).0);
            piece(b"***");
            if pair.ends_with(b"&") {
                piece(b"&");
            }
        }
    }

    /// Where the value of the first secret of this pair begins. It ends with the pair.
    ///
    /// Not everybody agrees on what parts a query, and some treat fragments like one: a name may
    /// follow any of these signs, but a password may hold them too.
    fn secret_in(&self, pair: &[u8]) -> Option<usize> {
        let mut begin = 0;
        for part in pair.split_inclusive(|byte| matches!(byte, b';' | b'?' | b'#')) {
            let name = part.iter().position(|byte| *byte == b'=');
            if let Some(length) = name
                && self.contains(part.split_at(length).0)
            {
                return Some(begin + length + 1);
            }
            begin += part.len();
        }
        None
    }

    /// Whether this name, as it stands in a query, is that of a secret. So is every name that has
    /// one within: `user[password]`.
    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        let name: SmallVec<[u8; 64]> = decoded(name).collect();
        name.split(|byte| matches!(byte, b'[' | b']'))
            .any(|part| self.0.iter().any(|secret| secret.as_bytes() == part))
    }
}

/// The bytes that a name stands for, in lower case.
fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (byte, after) = match rest {
            [b'%', high, low, after @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', rest.get(1..)?),
            },
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        rest = after;
        Some(byte.to_ascii_lowercase())
    })
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

const ALWAYS: [&str; 14] = [
    "access_token",
    "jwt",
    "token",
    "id_token",
    "refresh_token",
    "code",
    "password",
    "secret",
    "client_secret",
    "api_key",
    "apikey",
    "key",
    "signature",
    "sig",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(url: &str) -> String {
        let secrets = Secrets::new(&["PIN".to_owned()]);
        let mut text = Vec::new();
        secrets.mask_url(url.as_bytes(), |piece| text.extend_from_slice(piece));
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn the_values_of_secrets_do_not_appear() {
        let cases = [
            ("/", "/"),
            ("/token=1", "/token=1"),
            ("/?", "/?"),
            ("/?a=1&b", "/?a=1&b"),
            ("/?token=s", "/?token=***"),
            ("/?token=", "/?token=***"),
            ("/?token", "/?token"),
            ("/?a=1&token=s&b=2", "/?a=1&token=***&b=2"),
            ("/?token=s&token=t", "/?token=***&token=***"),
            ("/?TOKEN=s", "/?TOKEN=***"),
            ("/?%74oken=s", "/?%74oken=***"),
            ("/?acc%65ss%5Ftoken=s", "/?acc%65ss%5Ftoken=***"),
            ("/?token=a=b=c", "/?token=***"),
            ("/?a=1;token=s", "/?a=1;token=***"),
            ("/?a=/cb?code=s&b=1", "/?a=/cb?code=***&b=1"),
            ("/#access_token=s", "/#access_token=***"),
            ("/?user[password]=s", "/?user[password]=***"),
            ("/?user%5Bpassword%5D=s", "/?user%5Bpassword%5D=***"),
            ("/?token[]=s", "/?token[]=***"),
            ("/?pin=1234", "/?pin=***"),
            ("/?password=a;b&c=1", "/?password=***&c=1"),
            ("/?password=a?b#c", "/?password=***"),
            ("/?a=1;password=b;c&d=1", "/?a=1;password=***&d=1"),
            ("/?token=s&", "/?token=***&"),
            ("/?tokens=1&keyboard=2", "/?tokens=1&keyboard=2"),
            ("/?%=1&%7=2&%zz=3", "/?%=1&%7=2&%zz=3"),
            ("https://a.example/?sig=s", "https://a.example/?sig=***"),
        ];
        for (url, expected) in cases {
            assert_eq!(masked(url), expected, "{url}");
        }
        for name in ALWAYS {
            assert_eq!(masked(&format!("/?{name}=s")), format!("/?{name}=***"));
        }
    }
}
