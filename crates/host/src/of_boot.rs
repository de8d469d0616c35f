//! What is remembered of one boot: a boot makes the links anew, and may have mended what was wrong.

use serde::{Deserialize, Serialize};

/// Something about NICs that holds for one boot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OfBoot<T> {
    boot: String,
    pub(crate) nics: T,
}

impl<T: Default + PartialEq> OfBoot<T> {
    /// Forgets what was before this boot.
    pub fn in_boot(&mut self, boot: &str) {
        if self.boot != boot {
            *self = Self { boot: boot.to_owned(), nics: T::default() };
        }
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.nics == T::default()
    }

    /// What is remembered.
    pub fn nics(&self) -> &T {
        &self.nics
    }

    /// Puts this in its place.
    pub fn set(&mut self, nics: T) {
        self.nics = nics;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_ends_the_memory() {
        let mut memory = OfBoot::default();
        memory.in_boot("first");
        memory.set(vec![7]);
        memory.in_boot("first");
        assert_eq!(*memory.nics(), [7]);
        memory.in_boot("second");
        assert!(memory.is_empty());
    }
}
