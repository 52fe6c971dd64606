//! As much of DER (ITU-T X.690) as questions to authorities and their answers need.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const GENERALIZED_TIME: u8 = 0x18;

/// The tag `[number]` of a part that is put in another.
pub(super) const fn explicit(number: u8) -> u8 {
    0xa0 | number
}

/// An element with this tag and content.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    let bytes = length.to_be_bytes();
    let short = u8::try_from(length).ok().filter(|length| *length < 0x80);
    if let Some(length) = short {
        out.push(length);
    } else {
        let significant = bytes.iter().position(|byte| *byte != 0).unwrap_or_default();
        let digits = bytes.get(significant..).unwrap_or_default();
        // At most the eight of an usize.
        out.push(0x80 | digits.len() as u8);
        out.extend(digits);
    }
    parts.iter().for_each(|part| out.extend(*part));
    out
}

/// Elements one after the other.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

/// One element.
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// With its tag and length.
    pub(super) whole: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The next element; none at the end, and of what is no DER.
    pub(super) fn next(&mut self) -> Option<Element<'a>> {
        let [tag, first, rest @ ..] = self.0 else {
            return None;
        };
        // Tags of more than one byte are not in what we read.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let digits = if *first < 0x80 {
            0
        } else {
            usize::from(first & 0x7f)
        };
        let (digits, rest) = rest.split_at_checked(digits)?;
        let length = match digits {
            [] if *first == 0x80 => return None,
            [] => usize::from(*first),
            [0, ..] => return None,
            digits if digits.len() > 4 => return None,
            digits => digits
                .iter()
                .fold(0, |all, digit| all << 8 | usize::from(*digit)),
        };
        let (content, after) = rest.split_at_checked(length)?;
        let (whole, _) = self.0.split_at_checked(self.0.len() - after.len())?;
        self.0 = after;
        Some(Element {
            tag: *tag,
            content,
            whole,
        })
    }

    /// The next element, if it has this tag; else nothing is taken.
    pub(super) fn take(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.next().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element)
    }

    /// What is in the next element, if it has this tag.
    pub(super) fn inside(&mut self, tag: u8) -> Option<Self> {
        self.take(tag).map(|element| Self(element.content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_whatever_its_length() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let written = element(OCTETS, &[&content]);
            let mut reader = Reader(&written);
            let read = reader.next().unwrap();
            assert_eq!((read.tag, read.content), (OCTETS, &*content));
            assert_eq!(read.whole, written);
            assert!(reader.next().is_none());
        }
    }

    #[test]
    fn what_is_no_der_is_no_element() {
        let cases: [&[u8]; 7] = [
            &[],
            &[0x30],
            &[0x30, 2, 0],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 0],
            &[0x30, 0x85, 1, 0, 0, 0, 0],
            &[0x1f, 0x81, 0, 0],
        ];
        for case in cases {
            assert!(Reader(case).next().is_none(), "{case:?}");
        }
    }

    #[test]
    fn an_element_of_another_kind_is_not_taken() {
        let written = element(OCTETS, &[b"x"]);
        let mut reader = Reader(&written);
        assert!(reader.take(INTEGER).is_none());
        assert!(reader.take(OCTETS).is_some());
    }
}
