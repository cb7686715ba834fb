//! Keys: their inputs and encoding. Equal keys mean equal image bytes.
//!
//! ```text
//! key_0 = H(format, compressor, platform, scratch | external digest)
//! key_i = H(key_{i-1}, epoch and labels of the step's image, title, inputs and tools of step i)
//! ```
//!
//! Every field is written with its name and length, so that no two different inputs give the same bytes.

use edgewright_model::Digest;
use edgewright_model::digest::{Algorithm, Hasher};

/// Version of the key's encoding and of what the executors do with equal inputs. Raising it rebuilds
/// everything.
pub const KEY_VERSION: u32 = 2;

/// Writes named, length-prefixed fields into a digest.
#[derive(Debug)]
pub(crate) struct Fields(Hasher);

impl Fields {
    /// Starts a digest with a domain: different domains never give the same digest.
    pub(crate) fn new(purpose: &str) -> Self {
        let mut fields = Self(Hasher::new(Algorithm::Sha256));
        fields.bytes(purpose.as_bytes());
        fields
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// A field.
    pub(crate) fn field(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        self.bytes(name.as_bytes());
        self.bytes(value.as_ref());
        self
    }

    /// A number.
    pub(crate) fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.field(name, value.to_le_bytes())
    }

    /// A value that may be absent, which differs from an empty one.
    pub(crate) fn optional(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.field(name, value),
            None => self.number(name, 0).number("absent", 0),
        }
    }

    /// A list, its length first.
    pub(crate) fn list<T: AsRef<[u8]>>(&mut self, name: &str, values: &[T]) -> &mut Self {
        self.number(name, values.len() as u64);
        for value in values {
            self.bytes(value.as_ref());
        }
        self
    }

    /// The digest.
    pub(crate) fn finish(self) -> Digest {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(fill: impl FnOnce(&mut Fields)) -> Digest {
        let mut fields = Fields::new("test");
        fill(&mut fields);
        fields.finish()
    }

    #[test]
    fn adjacent_fields_are_separated() {
        let all = [
            digest(|_| ()),
            digest(|f| _ = f.field("a", "bc")),
            digest(|f| _ = f.field("ab", "c")),
            digest(|f| _ = f.field("a", "b").field("c", "")),
            digest(|f| _ = f.optional("a", None)),
            digest(|f| _ = f.optional("a", Some(""))),
            digest(|f| _ = f.list("a", &["b", "c"])),
            digest(|f| _ = f.list("a", &["bc"])),
            Fields::new("other").finish(),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
