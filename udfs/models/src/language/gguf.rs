//! Reads GGUF files, versions 2 and 3 (the format's specification is `docs/gguf.md` of ggml).
//!
//! Nothing in the file is trusted: every count and every offset is compared with the size of the file before it is used,
//! so a file that is cut short or made up is an error and costs no memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::blocks::Kind;
use crate::error::{Error, Result};

const MAGIC: &[u8; 4] = b"GGUF";
/// Arrays within arrays; none of the known keys has any.
const DEEPEST: usize = 4;
const MOST_AXES: u32 = 4;

/// The value of a metadata key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// An integer of any width.
    Int(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Bools(Vec<bool>),
    Texts(Vec<String>),
    Lists(Vec<Value>),
}

/// Where a tensor lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    /// Sizes, the fastest one last.
    pub(crate) dims: Vec<usize>,
    /// The first byte, counted from the start of the file.
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// A file whose header was read and checked.
#[derive(Debug)]
pub(crate) struct Gguf {
    path: PathBuf,
    file: File,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Place>,
}

impl Gguf {
    /// Reads and checks everything but the weights.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let size = file.metadata().map_err(Error::io(path))?.len();
        let clone = file.try_clone().map_err(Error::io(path))?;
        let mut reader = Reader { path, input: BufReader::with_capacity(1 << 18, clone), at: 0, size };
        let (metadata, tensors) = reader.header()?;
        Ok(Self { path: path.to_owned(), file, metadata, tensors })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&Place> {
        self.tensors.get(name)
    }

    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Place> {
        self.tensors.values()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// A text; an error when the key has another type.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a text")),
        }
    }

    /// An integer that is not negative.
    pub(crate) fn int(&self, key: &str) -> Result<Option<u64>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Int(value)) => u64::try_from(*value).map(Some).map_err(|_| self.wrong(key, "a count")),
            Some(_) => Err(self.wrong(key, "a count")),
        }
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) => Ok(Some(*value)),
            Some(Value::Int(value)) => Ok(Some(*value as f64)),
            Some(_) => Err(self.wrong(key, "a number")),
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Option<&[String]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Texts(texts)) => Ok(Some(texts)),
            Some(_) => Err(self.wrong(key, "a list of texts")),
        }
    }

    pub(crate) fn ints(&self, key: &str) -> Result<Option<&[i64]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Ints(ints)) => Ok(Some(ints)),
            Some(_) => Err(self.wrong(key, "a list of integers")),
        }
    }

    pub(crate) fn floats(&self, key: &str) -> Result<Option<&[f64]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Floats(floats)) => Ok(Some(floats)),
            Some(_) => Err(self.wrong(key, "a list of numbers")),
        }
    }

    fn wrong(&self, key: &str, wanted: &str) -> Error {
        Error::corrupt(self.path.display().to_string(), format!("{key} is not {wanted}"))
    }

    /// Another value for a key.
    #[cfg(test)]
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        self.metadata.insert(key.to_owned(), value);
    }

    /// Reads bytes of a tensor.
    pub(crate) fn read(&self, place: &Place, from: u64, out: &mut [u8]) -> Result<()> {
        debug_assert!(from + out.len() as u64 <= place.length);
        self.file.read_exact_at(out, place.offset + from).map_err(Error::io(&self.path))
    }
}

/// The header, with the number of bytes read so far.
struct Reader<'p> {
    path: &'p Path,
    input: BufReader<File>,
    at: u64,
    size: u64,
}

impl Reader<'_> {
    fn corrupt(&self, reason: impl ToString) -> Error {
        Error::corrupt(self.path.display().to_string(), reason)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.room(1, N as u64)?;
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(Error::io(self.path))?;
        self.at += N as u64;
        Ok(bytes)
    }

    /// An error unless `count` things of at least `width` bytes fit into the rest of the file.
    fn room(&self, count: u64, width: u64) -> Result<()> {
        let rest = self.size - self.at;
        match count.checked_mul(width) {
            Some(wanted) if wanted <= rest => Ok(()),
            _ => Err(self.corrupt(format!("it ends after {} bytes, within something longer", self.size))),
        }
    }

    fn u32(&mut self) -> Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<String> {
        let length = self.u64()?;
        self.room(length, 1)?;
        let mut bytes = Vec::new();
        (&mut self.input).take(length).read_to_end(&mut bytes).map_err(Error::io(self.path))?;
        self.at += length;
        if bytes.len() as u64 != length {
            return Err(self.corrupt("it became shorter while it was read"));
        }
        // Some published vocabularies hold single bytes that are no text; they are told apart by their place, not by their text.
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn header(&mut self) -> Result<(BTreeMap<String, Value>, BTreeMap<String, Place>)> {
        if self.size < 24 || &self.bytes::<4>()? != MAGIC {
            return Err(self.corrupt("it is no GGUF file"));
        }
        match self.u32()? {
            2 | 3 => {}
            version if version.swap_bytes() < 16 => {
                return Err(Error::unsupported(self.path.display().to_string(), "its numbers are big-endian"));
            }
            version => {
                return Err(Error::unsupported(self.path.display().to_string(), format!("its GGUF version is {version}, not 2 or 3")));
            }
        }
        let (tensors, keys) = (self.u64()?, self.u64()?);
        // A name's length, two axes, a type and an offset; a key's length, a type and a value.
        self.room(tensors, 24)?;
        self.room(keys, 13)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..keys {
            let key = self.text()?;
            let kind = self.u32()?;
            let value = self.value(&key, kind)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(self.corrupt(format!("{key} is there twice")));
            }
        }
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(Value::Int(value)) if (8..=1 << 20).contains(value) && value % 8 == 0 => *value as u64,
            Some(_) => return Err(self.corrupt("general.alignment is no multiple of 8")),
        };
        let mut places = Vec::new();
        for _ in 0..tensors {
            places.push(self.place()?);
        }
        let start = self.at.next_multiple_of(alignment);
        Ok((metadata, self.placed(places, start, alignment)?))
    }

    /// Offsets become those of the file; what lies beyond its end is an error.
    fn placed(&self, places: Vec<(String, Place)>, start: u64, alignment: u64) -> Result<BTreeMap<String, Place>> {
        let mut tensors = BTreeMap::new();
        for (name, mut place) in places {
            if place.offset % alignment != 0 {
                return Err(self.corrupt(format!("tensor {name} is not aligned")));
            }
            let end = start.checked_add(place.offset).and_then(|offset| offset.checked_add(place.length));
            if end.is_none_or(|end| end > self.size) {
                return Err(self.corrupt(format!("it ends after {} bytes, before the end of tensor {name}", self.size)));
            }
            place.offset += start;
            if tensors.insert(name.clone(), place).is_some() {
                return Err(self.corrupt(format!("tensor {name} is there twice")));
            }
        }
        Ok(tensors)
    }

    fn value(&mut self, key: &str, kind: u32) -> Result<Value> {
        Ok(match kind {
            0 => Value::Int(self.bytes::<1>()?[0].into()),
            1 => Value::Int(i8::from_le_bytes(self.bytes()?).into()),
            2 => Value::Int(u16::from_le_bytes(self.bytes()?).into()),
            3 => Value::Int(i16::from_le_bytes(self.bytes()?).into()),
            4 => Value::Int(self.u32()?.into()),
            5 => Value::Int(i32::from_le_bytes(self.bytes()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.bytes()?).into()),
            7 => Value::Bool(self.bytes::<1>()?[0] != 0),
            8 => Value::Text(self.text()?),
            9 => self.list(key, DEEPEST)?,
            10 => Value::Int(self.u64()?.into()),
            11 => Value::Int(i64::from_le_bytes(self.bytes()?).into()),
            12 => Value::Float(f64::from_le_bytes(self.bytes()?)),
            _ => return Err(self.corrupt(format!("{key} has the unknown type {kind}"))),
        })
    }

    fn list(&mut self, key: &str, depth: usize) -> Result<Value> {
        let (kind, count) = (self.u32()?, self.u64()?);
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 if depth > 0 => 12,
            _ => return Err(self.corrupt(format!("{key} is a list of the unknown type {kind}"))),
        };
        self.room(count, width)?;
        Ok(match kind {
            7 => Value::Bools(self.repeat(count, |r| Ok(r.bytes::<1>()?[0] != 0))?),
            6 => Value::Floats(self.repeat(count, |r| Ok(f32::from_le_bytes(r.bytes()?).into()))?),
            12 => Value::Floats(self.repeat(count, |r| Ok(f64::from_le_bytes(r.bytes()?)))?),
            8 => Value::Texts(self.repeat(count, Self::text)?),
            9 => Value::Lists(self.repeat(count, |r| r.list(key, depth - 1))?),
            _ => Value::Ints(self.repeat(count, |r| match r.value(key, kind)? {
                Value::Int(value) => i64::try_from(value).map_err(|_| r.corrupt(format!("{key} holds an integer that is too large"))),
                _ => Err(r.corrupt(format!("{key} holds no integers"))),
            })?),
        })
    }

    /// The vector grows with what was read: the count alone reserves nothing.
    fn repeat<T>(&mut self, count: u64, mut one: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(one(self)?);
        }
        Ok(values)
    }

    fn place(&mut self) -> Result<(String, Place)> {
        let name = self.text()?;
        let axes = self.u32()?;
        if axes > MOST_AXES {
            return Err(self.corrupt(format!("tensor {name} has {axes} axes")));
        }
        let mut dims = Vec::new();
        for _ in 0..axes {
            dims.push(self.u64()?);
        }
        dims.reverse();
        let number = self.u32()?;
        let offset = self.u64()?;
        let Some(kind) = Kind::from_gguf(number) else {
            let reason = format!("tensor {name} has the block type {}", Kind::name_in_gguf(number));
            return Err(Error::unsupported(self.path.display().to_string(), reason));
        };
        let row = dims.last().copied().unwrap_or(1);
        if row % kind.values() as u64 != 0 {
            return Err(self.corrupt(format!("tensor {name} has rows of {row}, which are no whole blocks of {}", kind.name())));
        }
        let values = dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
        let length = values.and_then(|values| (values / kind.values() as u64).checked_mul(kind.bytes() as u64));
        let dims: Option<Vec<usize>> = dims.iter().map(|dim| usize::try_from(*dim).ok()).collect();
        match (length, dims) {
            (Some(length), Some(dims)) => Ok((name, Place { kind, dims, offset, length })),
            _ => Err(self.corrupt(format!("tensor {name} has more values than can be counted"))),
        }
    }
}

#[cfg(test)]
mod tests;
