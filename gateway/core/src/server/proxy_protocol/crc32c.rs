//! The checksum of iSCSI (RFC 3720, B.4), which headers of the second version may have.

/// A checksum on its way.
pub(super) struct Crc32c(u32);

impl Default for Crc32c {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Crc32c {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let place = (self.0 ^ u32::from(*byte)) & 0xff;
            // There are as many entries as such numbers.
            let entry = TABLE.get(place as usize).copied().unwrap_or_default();
            self.0 = (self.0 >> 8) ^ entry;
        }
    }

    pub(super) fn finish(&self) -> u32 {
        !self.0
    }
}

/// Castagnoli's polynomial, the lowest bit first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut number = 0;
    while number < 256 {
        let mut entry = number as u32;
        let mut bit = 0;
        while bit < 8 {
            let odd = entry & 1 == 1;
            entry >>= 1;
            if odd {
                entry ^= POLYNOMIAL;
            }
            bit += 1;
        }
        table[number] = entry;
        number += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(parts: &[&[u8]]) -> u32 {
        let mut sum = Crc32c::default();
        for part in parts {
            sum.update(part);
        }
        sum.finish()
    }

    /// RFC 3720, B.4, and the check value that all catalogues have.
    #[test]
    fn it_is_what_the_rfc_says_however_the_bytes_are_parted() {
        assert_eq!(sum(&[b"123456789"]), 0xe306_9283);
        assert_eq!(sum(&[b"1234", b"", b"56789"]), 0xe306_9283);
        assert_eq!(sum(&[&[0; 32]]), 0x8a91_36aa);
        assert_eq!(sum(&[&[0xff; 32]]), 0x62a8_ab43);
        assert_eq!(sum(&[]), 0);
    }
}
