//! Reads a folder in the layout of Hugging Face: `config.json` and weights as safetensors, in one file or in several with an index; or one packed
//! file.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use self::packed::Packed;
use super::blocks::Kind;
use crate::error::{Error, Result};

pub(crate) mod packed;

/// The format's own limit for a header.
const LONGEST_HEADER: u64 = 100 << 20;
/// No file of settings is longer.
const LONGEST_JSON: u64 = 256 << 20;
const MOST_FILES: usize = 1000;

/// Where a tensor lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    pub(crate) dims: Vec<usize>,
    file: usize,
    offset: u64,
}

/// The open files of a folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    files: Vec<(String, File)>,
    tensors: BTreeMap<String, Place>,
    config: Map<String, Json>,
}

/// What the header of a safetensors file says about a tensor.
#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if path.join(packed::FILE).is_file() {
            return Self::unpacked(path);
        }
        let Some(config) = json(path, "config.json")? else {
            return Err(Error::unsupported(path.display().to_string(), "it has no config.json"));
        };
        let mut folder = Self { path: path.to_owned(), files: Vec::new(), tensors: BTreeMap::new(), config };
        for name in weight_files(path)? {
            folder.add(name)?;
        }
        Ok(folder)
    }

    /// A folder whose settings and weights are in one packed file.
    fn unpacked(path: &Path) -> Result<Self> {
        let Packed { file, config, tensors } = packed::read(&path.join(packed::FILE))?;
        let placed = |(name, kind, dims, offset)| (name, Place { kind, dims, file: 0, offset });
        let tensors = tensors.into_iter().map(placed).collect();
        Ok(Self { path: path.to_owned(), files: vec![(packed::FILE.to_owned(), file)], tensors, config })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn config(&self) -> &Map<String, Json> {
        &self.config
    }

    /// The files with weights.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(name, _)| name.as_str())
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&Place> {
        self.tensors.get(name)
    }

    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Place> {
        self.tensors.values()
    }

    /// Reads bytes of a tensor.
    pub(crate) fn read(&self, place: &Place, from: u64, out: &mut [u8]) -> Result<()> {
        let (name, file) = &self.files[place.file];
        file.read_exact_at(out, place.offset + from).map_err(Error::io(self.path.join(name)))
    }

    /// Reads the header of one file.
    fn add(&mut self, name: String) -> Result<()> {
        let path = self.path.join(&name);
        let corrupt = |reason: String| Error::corrupt(path.display().to_string(), reason);
        let file = File::open(&path).map_err(Error::io(&path))?;
        let size = file.metadata().map_err(Error::io(&path))?.len();
        if size < 8 {
            return Err(corrupt("it is no safetensors file".to_owned()));
        }
        let mut length = [0; 8];
        file.read_exact_at(&mut length, 0).map_err(Error::io(&path))?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEADER || length > size - 8 {
            return Err(corrupt(format!("its header says it has {length} bytes, the file has {size}")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact_at(&mut header, 8).map_err(Error::io(&path))?;
        let header: BTreeMap<String, Json> = serde_json::from_slice(&header).map_err(|e| corrupt(format!("its header is no JSON: {e}")))?;
        for (tensor, info) in header.into_iter().filter(|(name, _)| name != "__metadata__") {
            let info: Info = serde_json::from_value(info).map_err(|e| corrupt(format!("tensor {tensor}: {e}")))?;
            let kind = match info.dtype.as_str() {
                "F32" => Kind::F32,
                "F16" => Kind::F16,
                "BF16" => Kind::Bf16,
                // Tables of positions and masks, which our graph has of its own.
                "I64" | "I32" | "U8" | "BOOL" => continue,
                other => return Err(Error::unsupported(path.display().to_string(), format!("tensor {tensor} has the type {other}"))),
            };
            let (from, to) = info.data_offsets;
            let bytes = info.shape.iter().try_fold(kind.bytes() as u64, |product, dim| product.checked_mul(*dim));
            if bytes.is_none() || to.checked_sub(from) != bytes || to > size - 8 - length {
                return Err(corrupt(format!("tensor {tensor} does not lie in the file")));
            }
            let dims = info.shape.iter().map(|dim| *dim as usize).collect();
            let place = Place { kind, dims, file: self.files.len(), offset: 8 + length + from };
            if self.tensors.insert(tensor.clone(), place).is_some() {
                return Err(corrupt(format!("tensor {tensor} is in two files")));
            }
        }
        self.files.push((name, file));
        Ok(())
    }
}

/// An object from a JSON file of a folder; `None` when there is no such file.
pub(crate) fn json(folder: &Path, name: &str) -> Result<Option<Map<String, Json>>> {
    let Some(bytes) = bytes(folder, name)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| Error::corrupt(folder.join(name).display().to_string(), format!("no JSON object: {e}")))
}

/// The bytes of a small file of a folder; `None` when there is no such file.
pub(crate) fn bytes(folder: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let path = folder.join(name);
    match fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(path)(error)),
        Ok(found) if found.len() > LONGEST_JSON => return Err(Error::corrupt(path.display().to_string(), "it is too long")),
        Ok(_) => {}
    }
    fs::read(&path).map(Some).map_err(Error::io(path))
}

/// The names of the files with weights, in a fixed order. A name may not lead out of the folder.
fn weight_files(path: &Path) -> Result<Vec<String>> {
    let index = "model.safetensors.index.json";
    let Some(map) = json(path, index)? else {
        if path.join("model.safetensors").is_file() {
            return Ok(vec!["model.safetensors".to_owned()]);
        }
        return Err(Error::unsupported(path.display().to_string(), format!("it has neither model.safetensors nor {index}")));
    };
    let object = path.join(index).display().to_string();
    let index: Index = serde_json::from_value(Json::Object(map)).map_err(|e| Error::corrupt(&object, e))?;
    let mut names: Vec<String> = index.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    let plain = |name: &String| name.ends_with(".safetensors") && !name.contains(['/', '\\']) && !name.starts_with('.');
    if names.is_empty() || names.len() > MOST_FILES || !names.iter().all(plain) {
        return Err(Error::corrupt(object, "weight_map does not name files of the folder"));
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
