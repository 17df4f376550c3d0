//! Partial results as bytes, little-endian.

/// Writes partial results, one behind the other.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Appends one number.
    pub fn number(&mut self, value: f64) -> &mut Self {
        self.whole(value.to_bits())
    }

    /// Appends a list of numbers with its length.
    pub fn numbers(&mut self, values: &[f64]) -> &mut Self {
        self.list(values.iter().map(|value| value.to_bits()))
    }

    /// Appends one whole number.
    pub fn whole(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends a list of whole numbers with its length.
    pub fn wholes(&mut self, values: &[u64]) -> &mut Self {
        self.list(values.iter().copied())
    }

    fn list(&mut self, values: impl ExactSizeIterator<Item = u64>) -> &mut Self {
        self.0.reserve(8 * (values.len() + 1));
        self.whole(values.len() as u64);
        values.for_each(|value| self.0.extend_from_slice(&value.to_le_bytes()));
        self
    }

    /// Appends one whole number of 32 bits.
    pub fn short(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends one byte.
    pub fn byte(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// Appends one key of 128 bits.
    pub fn key(&mut self, value: u128) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends a text with its length.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// Appends bytes with their length.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.whole(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// How many bytes are written.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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

    fn word<const N: usize>(&mut self) -> [u8; N] {
        let Some((word, rest)) = self.0.split_first_chunk() else {
            self.0 = &[];
            return [0; N];
        };
        self.0 = rest;
        *word
    }

    fn split(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The next number.
    pub fn number(&mut self) -> f64 {
        f64::from_bits(self.whole())
    }

    /// The next list of numbers.
    pub fn numbers(&mut self) -> impl ExactSizeIterator<Item = f64> + use<'a> {
        self.wholes().map(f64::from_bits)
    }

    /// The next whole number.
    pub fn whole(&mut self) -> u64 {
        u64::from_le_bytes(self.word())
    }

    /// The next list of whole numbers.
    pub fn wholes(&mut self) -> impl ExactSizeIterator<Item = u64> + use<'a> {
        let length = self.whole() as usize;
        self.split(length.saturating_mul(8)).as_chunks().0.iter().map(|word| u64::from_le_bytes(*word))
    }

    /// The next whole number of 32 bits.
    pub fn short(&mut self) -> u32 {
        u32::from_le_bytes(self.word())
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        u8::from_le_bytes(self.word())
    }

    /// A reader of the next so many bytes.
    pub fn part(&mut self, length: usize) -> Self {
        Self(self.split(length))
    }

    /// The next key.
    pub fn key(&mut self) -> u128 {
        u128::from_le_bytes(self.word())
    }

    /// The next text.
    pub fn text(&mut self) -> &'a str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }

    /// The next bytes.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = self.whole() as usize;
        self.split(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_in_the_same_order() {
        let mut part = Writer::default();
        part.number(-0.5)
            .numbers(&[1.0, f64::INFINITY])
            .whole(u64::MAX)
            .wholes(&[3])
            .short(7)
            .byte(9)
            .key(u128::MAX - 1)
            .text("größer")
            .text("");
        let bytes = part.finish();
        let mut part = Reader::new(&bytes);
        assert_eq!(part.number(), -0.5);
        assert_eq!(part.numbers().collect::<Vec<_>>(), [1.0, f64::INFINITY]);
        assert_eq!(part.whole(), u64::MAX);
        assert_eq!(part.wholes().collect::<Vec<_>>(), [3]);
        assert_eq!((part.short(), part.byte()), (7, 9));
        assert_eq!(part.key(), u128::MAX - 1);
        assert_eq!((part.text(), part.text()), ("größer", ""));
        assert!(part.is_empty());
    }

    #[test]
    fn past_the_end_there_is_nothing() {
        let mut part = Reader::new(&[1, 2, 3]);
        assert_eq!((part.number(), part.whole(), part.key(), part.text()), (0.0, 0, 0, ""));
        assert_eq!(part.numbers().len(), 0);
        // A length that is longer than what follows.
        let bytes = 9_u64.to_le_bytes();
        assert_eq!(Reader::new(&bytes).numbers().len(), 0);
    }
}
