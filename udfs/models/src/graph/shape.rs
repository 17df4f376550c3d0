//! Shapes with symbolic dimensions.

use std::fmt;

/// A dimension: a number times symbols, such as `26`, `n` or `26*n`. Two dimensions are equal when they are for every value of the symbols.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dim {
    factor: usize,
    /// Sorted.
    symbols: Vec<String>,
}

impl Dim {
    /// The number, if there is no symbol in it.
    pub fn size(&self) -> Option<usize> {
        self.symbols.is_empty().then_some(self.factor)
    }

    /// The symbol, if the dimension is nothing else.
    pub(crate) fn symbol(&self) -> Option<&str> {
        match self.symbols.as_slice() {
            [symbol] if self.factor == 1 => Some(symbol),
            _ => None,
        }
    }

    pub(crate) fn is_one(&self) -> bool {
        self.size() == Some(1)
    }

    /// The product of two dimensions.
    #[must_use]
    pub fn times(&self, other: &Self) -> Self {
        let mut symbols = [self.symbols.as_slice(), other.symbols.as_slice()].concat();
        symbols.sort();
        Self { factor: self.factor * other.factor, symbols }
    }
}

impl From<usize> for Dim {
    fn from(size: usize) -> Self {
        Self { factor: size, symbols: Vec::new() }
    }
}

impl From<&str> for Dim {
    fn from(symbol: &str) -> Self {
        Self { factor: 1, symbols: vec![symbol.to_owned()] }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.size() {
            Some(size) => write!(f, "{size}"),
            None if self.factor == 1 => f.write_str(&self.symbols.join("*")),
            None => write!(f, "{}*{}", self.factor, self.symbols.join("*")),
        }
    }
}

/// The dimensions of a value; none of them is a scalar's shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shape(Vec<Dim>);

impl Shape {
    /// A shape from its dimensions.
    pub fn new(dims: impl IntoIterator<Item = Dim>) -> Self {
        Self(dims.into_iter().collect())
    }

    /// A shape of numbers.
    pub fn fixed(sizes: &[usize]) -> Self {
        Self(sizes.iter().map(|size| Dim::from(*size)).collect())
    }

    /// The shape of a batch: the symbol followed by fixed sizes.
    pub fn batch(symbol: &str, sizes: &[usize]) -> Self {
        Self(std::iter::once(Dim::from(symbol)).chain(sizes.iter().map(|size| Dim::from(*size))).collect())
    }

    /// The shape of one number.
    pub fn scalar() -> Self {
        Self(Vec::new())
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The dimensions.
    pub fn dims(&self) -> &[Dim] {
        &self.0
    }

    /// The product of all dimensions.
    pub fn count(&self) -> Dim {
        self.0.iter().fold(Dim::from(1), |product, dim| product.times(dim))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (axis, dim) in self.0.iter().enumerate() {
            if axis > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}
