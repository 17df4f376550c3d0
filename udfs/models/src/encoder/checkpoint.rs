//! The weights of a checkpoint by their names in BERT, whatever stands before and after these in the file.

use super::config::Config;
use crate::error::{Error, Result};
use crate::language::blocks::dequantise;
use crate::language::folder::{Folder, Place};

/// Bytes read at a time, about.
const CHUNK: usize = 4 << 20;

/// The weights of an encoder.
#[derive(Debug)]
pub(super) struct Checkpoint<'f> {
    folder: &'f Folder,
    /// `bert.`, `roberta.` or nothing.
    prefix: &'static str,
}

/// A matrix, or a vector as one row.
#[derive(Debug)]
pub(super) struct Weight<'f> {
    checkpoint: &'f Checkpoint<'f>,
    name: String,
    place: &'f Place,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl<'f> Checkpoint<'f> {
    pub(super) fn new(folder: &'f Folder, config: &Config) -> Result<Self> {
        let word = "embeddings.word_embeddings.weight";
        let prefix = ["", "bert.", "roberta."].into_iter().find(|prefix| folder.tensor(&format!("{prefix}{word}")).is_some());
        let prefix = prefix.ok_or_else(|| Error::corrupt(folder.path().display().to_string(), format!("it has no tensor {word}")))?;
        let checkpoint = Self { folder, prefix };
        let found = checkpoint.folder.tensor(&format!("{prefix}{word}")).map(|place| place.dims.clone()).unwrap_or_default();
        if found != [config.vocabulary, config.hidden] {
            let reason = format!("its embeddings are {found:?}, and config.json says [{}, {}]", config.vocabulary, config.hidden);
            return Err(Error::corrupt(checkpoint.object(), reason));
        }
        Ok(checkpoint)
    }

    pub(super) fn object(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// The weight of this name, which has this shape.
    pub(super) fn get(&'f self, name: &str, shape: &[usize]) -> Result<Weight<'f>> {
        let name = format!("{}{name}", self.prefix);
        // Layer norms of the first checkpoints.
        let older = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        let place = self.folder.tensor(&name).or_else(|| self.folder.tensor(&older));
        let place = place.ok_or_else(|| Error::corrupt(self.object(), format!("it has no tensor {name}")))?;
        if place.dims != shape {
            return Err(Error::corrupt(self.object(), format!("tensor {name} is {:?}, not {shape:?}", place.dims)));
        }
        let (rows, columns) = match shape {
            [columns] => (1, *columns),
            [rows, columns] => (*rows, *columns),
            _ => return Err(Error::graph("weights of an encoder have one axis or two")),
        };
        Ok(Weight { checkpoint: self, name, place, rows, columns })
    }
}

impl Weight<'_> {
    /// Calls `each` with every row, a few rows at a time in memory.
    pub(super) fn rows(&self, mut each: impl FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let width = self.place.kind.row(self.columns);
        let step = (CHUNK / width).max(1);
        let (mut bytes, mut values) = (Vec::new(), vec![0.0; self.columns]);
        for from in (0..self.rows).step_by(step) {
            bytes.resize(step.min(self.rows - from) * width, 0);
            self.checkpoint.folder.read(self.place, (from * width) as u64, &mut bytes)?;
            for row in bytes.chunks_exact(width) {
                dequantise(self.place.kind, row, &mut values);
                if !values.iter().all(|value| value.is_finite()) {
                    return Err(Error::corrupt(self.checkpoint.object(), format!("a value of {} is no finite number", self.name)));
                }
                each(&values)?;
            }
        }
        Ok(())
    }
}
