//! Messages of Protocol Buffers, as far as spans need them
//! (<https://protobuf.dev/programming-guides/encoding/>).

/// Bytes of a message, field by field.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(pub(super) Vec<u8>);

/// How a field is written.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;

impl Message {
    pub(super) fn number(&mut self, field: u32, value: u64) {
        self.key(field, VARINT);
        self.varint(value);
    }

    pub(super) fn fixed64(&mut self, field: u32, value: u64) {
        self.key(field, FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn fixed32(&mut self, field: u32, value: u32) {
        self.key(field, FIXED32);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// A message within this one.
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.key(field, BYTES);
        let begun = self.0.len();
        write(self);
        // Its length stands before it, and is known now.
        let length = self.0.len() - begun;
        self.varint(length as u64);
        let prefix = self.0.len() - begun - length;
        if let Some(written) = self.0.get_mut(begun..) {
            written.rotate_right(prefix);
        }
    }

    fn key(&mut self, field: u32, kind: u32) {
        self.varint(u64::from(field << 3 | kind));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A field of a message that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message; ends where one can't be read.
pub(super) fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || {
        let key = take_varint(&mut message)?;
        let value = match u32::try_from(key & 7).ok()? {
            VARINT => Value::Number(take_varint(&mut message)?),
            BYTES => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                Value::Bytes(take(&mut message, length)?)
            }
            FIXED64 => Value::Bytes(take(&mut message, 8)?),
            FIXED32 => Value::Bytes(take(&mut message, 4)?),
            _ => return None,
        };
        Some((key >> 3, value))
    })
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for place in 0..10 {
        let byte = *take(message, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut message = Message::default();
        message.number(1, 300);
        message.number(2, u64::MAX);
        message.message(16, |inner| inner.bytes(1, &[7; 200]));
        message.fixed64(3, 1);
        message.fixed32(4, 2);
        let read: Vec<_> = fields(&message.0).collect();
        assert_eq!(read.len(), 5);
        assert_eq!(read[0], (1, Value::Number(300)));
        assert_eq!(read[1], (2, Value::Number(u64::MAX)));
        let (16, Value::Bytes(inner)) = &read[2] else {
            panic!("{:?}", read[2]);
        };
        let inner: Vec<_> = fields(inner).collect();
        assert_eq!(inner, [(1, Value::Bytes(&[7; 200]))]);
        assert_eq!(read[3], (3, Value::Bytes(&1_u64.to_le_bytes())));
        assert_eq!(read[4], (4, Value::Bytes(&2_u32.to_le_bytes())));
    }

    #[test]
    fn what_is_cut_or_no_message_is_read_as_far_as_it_goes() {
        let mut message = Message::default();
        message.number(1, 1);
        message.bytes(2, b"abc");
        for length in 0..message.0.len() {
            assert!(fields(&message.0[..length]).count() < 2, "{length}");
        }
        assert_eq!(fields(&[0xff; 20]).count(), 0);
        assert_eq!(fields(&[0x0b]).count(), 0);
    }
}
