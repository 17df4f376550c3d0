//! Partial results as bytes, little-endian.

/// Writes a partial result.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Appends one number.
    pub fn number(&mut self, value: f64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends a list of numbers with its length.
    pub fn numbers(&mut self, values: &[f64]) -> &mut Self {
        self.0.reserve(8 * (values.len() + 1));
        self.0.extend_from_slice(&(values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| self.0.extend_from_slice(&value.to_le_bytes()));
        self
    }

    /// Appends a text with its length.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads what a [`Writer`] wrote, in the same order; past the end numbers are 0 and lists empty.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader at the beginning.
    pub fn new(part: &'a [u8]) -> Self {
        Self(part)
    }

    /// Whether all is read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn word(&mut self) -> [u8; 8] {
        let Some((word, rest)) = self.0.split_first_chunk() else {
            self.0 = &[];
            return [0; 8];
        };
        self.0 = rest;
        *word
    }

    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The next number.
    pub fn number(&mut self) -> f64 {
        f64::from_le_bytes(self.word())
    }

    /// The next list of numbers.
    pub fn numbers(&mut self) -> impl ExactSizeIterator<Item = f64> + use<'a> {
        let length = u64::from_le_bytes(self.word()) as usize;
        self.bytes(length.saturating_mul(8)).as_chunks().0.iter().map(|word| f64::from_le_bytes(*word))
    }

    /// The next text.
    pub fn text(&mut self) -> &'a str {
        let length = u64::from_le_bytes(self.word()) as usize;
        std::str::from_utf8(self.bytes(length)).unwrap_or_default()
    }
}
