//! Which server this node is, as its firmware says.

use std::path::Path;

/// The product UUID of SMBIOS (DSP0134, 7.2.1), as 16 bytes in the order in which a UUID is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProductUuid([u8; 16]);

impl ProductUuid {
    /// Reads the kernel's file; none where there is no such file, as on machines without SMBIOS, or it says nothing.
    pub fn read(path: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(path).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let number = u128::from_str_radix(&digits, 16).ok()?;
        // All zeros: not set; all ones: not set, but settable.
        (number != 0 && number != u128::MAX).then(|| Self(number.to_be_bytes()))
    }

    /// Whether this text is the same UUID, in either byte order: since SMBIOS 2.6 the first three fields are
    /// little-endian, and firmware and hypervisors disagree about who turns them round.
    pub fn is(self, text: &str) -> bool {
        Self::parse(text).is_some_and(|other| other == self || other.swapped() == self)
    }

    fn swapped(self) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        let mut bytes = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.iter_mut().skip(8).zip(rest).for_each(|(to, from)| *to = from);
        Self(bytes)
    }
}

impl std::fmt::Display for ProductUuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

    #[test]
    fn case_and_byte_order_do_not_matter() {
        let uuid = ProductUuid::parse(&format!("{UUID}\n")).unwrap();
        assert_eq!(uuid.to_string(), UUID);
        for same in [UUID, &UUID.to_uppercase(), "33221100-5544-7766-8899-AABBCCDDEEFF"] {
            assert!(uuid.is(same), "{same}");
        }
        for other in ["00112233-4455-6677-8899-aabbccddeefe", "33221100-5544-6677-8899-aabbccddeeff", "x"] {
            assert!(!uuid.is(other), "{other}");
        }
    }

    #[test]
    fn a_uuid_that_was_never_set_says_nothing() {
        for text in [
            "",
            "Not Settable",
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        ] {
            assert_eq!(ProductUuid::parse(text), None, "{text:?}");
        }
        assert_eq!(ProductUuid::read(Path::new("/nowhere")), None);
    }
}
