//! One call of the decoder graph: rows of new tokens on top of their past.

use ort::session::Session;
use ort::value::{DynValue, Tensor};

use super::adapter::Adapter;
use super::slab::{Call, Cell, Slab};
use crate::error::{Error, Result};

/// What one row gets: tokens after `past` tokens that the slab has.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    pub(super) tokens: Vec<i64>,
    pub(super) past: usize,
}

/// The kind of a call. The kernels for one new token and for several differ in the last bit, and eight-bit activations make that visible, so what
/// a row gets must not depend on its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One new token in each row.
    Step,
    /// Several new tokens; rows are padded on the right.
    Fill,
}

/// Scores of the last new token of each row.
#[derive(Debug)]
pub(super) struct Scores {
    values: Tensor<f32>,
    stride: usize,
    vocabulary: usize,
}

impl Scores {
    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.values.extract_tensor().1[row * self.stride..][..self.vocabulary]
    }
}

/// A graph that is loaded when it is needed.
pub(super) struct Lazy {
    session: Option<Session>,
    open: Box<dyn Fn() -> Result<Session> + Send>,
    loads: u64,
}

impl Lazy {
    pub(super) fn new(open: impl Fn() -> Result<Session> + Send + 'static) -> Self {
        Self { session: None, open: Box::new(open), loads: 0 }
    }

    fn get(&mut self) -> Result<&mut Session> {
        match &mut self.session {
            Some(session) => Ok(session),
            none => {
                let session = (self.open)()?;
                self.loads += 1;
                Ok(none.insert(session))
            }
        }
    }
}

/// The graph and its key-value memory.
pub(super) struct Forward {
    plain: Lazy,
    /// The same weights with adapters as inputs: loaded with the first adapter, since it takes memory again.
    adapted: Lazy,
    pub(super) slab: Slab,
    cell: Cell,
    vocabulary: usize,
    /// The kernels give a row the same bits wherever it stands when the number of rows is a multiple of this.
    multiple: usize,
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forward").field("slab", &self.slab).field("multiple", &self.multiple).finish_non_exhaustive()
    }
}

impl Forward {
    const OUTPUT: &str = "logits";
    /// The number of rows that a probe compares with.
    const PROBE: usize = 8;

    /// Loads the plain graph.
    pub(super) fn new(plain: Lazy, adapted: Lazy, cell: Cell, vocabulary: usize) -> Result<Self> {
        let mut forward = Self { plain, adapted, slab: Slab::new(cell, Self::PROBE, 2)?, cell, vocabulary, multiple: 1 };
        forward.multiple = forward.probe()?;
        forward.slab = Slab::new(cell, 0, 0)?;
        Ok(forward)
    }

    pub(super) fn multiple(&self) -> usize {
        self.multiple
    }

    /// Whether the model is in memory.
    pub(super) fn loaded(&self) -> bool {
        self.plain.session.is_some() || self.adapted.session.is_some()
    }

    /// How often a graph was loaded.
    pub(super) fn loads(&self) -> u64 {
        self.plain.loads + self.adapted.loads
    }

    /// Gives all memory back; the next call loads what it needs. The slab is empty then.
    pub(super) fn unload(&mut self) -> Result<()> {
        // Its bindings hold the sessions.
        self.slab = Slab::new(self.cell, 0, 0)?;
        self.plain.session = None;
        self.adapted.session = None;
        Ok(())
    }

    /// Which numbers of rows give equal rows equal scores, bit for bit.
    ///
    /// ONNX Runtime's eight-bit product takes rows in pairs and, for some block sizes and processors, the last of an odd number by another kernel.
    fn probe(&mut self) -> Result<usize> {
        let mut scores = |rows: usize| self.run(Kind::Step, 0, &vec![Feed { tokens: vec![1], past: 0 }; rows], &[], None);
        let reference = scores(Self::PROBE)?;
        let mut equal = |rows: usize| -> Result<bool> {
            let scores = scores(rows)?;
            Ok((0..rows).all(|row| scores.row(row) == reference.row(0)))
        };
        for multiple in [1, 2, 4] {
            let mut all = true;
            for rows in (multiple..=5).step_by(multiple) {
                all = all && equal(rows)?;
            }
            if all {
                return Ok(multiple);
            }
        }
        Ok(Self::PROBE)
    }

    /// Runs rows `first..` of the slab. `after` says how many tokens the rows after them hold: they may be used as padding, which does no harm
    /// since what it writes comes after those tokens and is overwritten.
    ///
    /// For every row, the past and the padded width together must fit into the slab.
    pub(super) fn run(&mut self, kind: Kind, first: usize, feeds: &[Feed], after: &[usize], adapter: Option<&Adapter>) -> Result<Scores> {
        let mut batch = feeds.len();
        let mut width = feeds.iter().map(|feed| feed.tokens.len()).max().unwrap_or(0);
        match kind {
            Kind::Step => batch = batch.next_multiple_of(self.multiple),
            Kind::Fill => width = padded(width, batch, self.multiple),
        }
        let padding = (feeds.len()..batch).map(|row| after.get(row - feeds.len()).copied().unwrap_or(0));
        let pasts: Vec<usize> = feeds.iter().map(|feed| feed.past).chain(padding).collect();
        let lengths: Vec<usize> = feeds.iter().map(|feed| feed.tokens.len()).chain(std::iter::repeat_n(1, batch - feeds.len())).collect();
        let fits = pasts.iter().all(|past| past + width <= self.slab.capacity()) && first + batch <= self.slab.rows();
        if !fits {
            return Err(Error::graph(format!("{batch} rows of {width} tokens do not fit into the key-value memory")));
        }
        // The head sees a multiple of rows too: positions are repeated.
        let copies = (1..=self.multiple).find(|copies| (batch * copies).is_multiple_of(self.multiple)).unwrap_or(1);
        let mut ids = vec![0; batch * width];
        for (row, feed) in feeds.iter().enumerate() {
            ids[row * width..][..feed.tokens.len()].copy_from_slice(&feed.tokens);
        }
        let positions = lengths.iter().flat_map(|length| std::iter::repeat_n(*length as i64 - 1, copies)).collect();
        let totals: Vec<i32> = pasts.iter().zip(&lengths).map(|(past, length)| (past + length) as i32).collect();
        // The kernel wants it to cover the padding of a row without a past.
        let total = totals.iter().copied().max().unwrap_or(0).max(width as i32);
        let inputs: [(&str, DynValue); 5] = [
            ("ids", tensor(&[batch, width], ids)?),
            ("positions", tensor(&[batch, copies, 1], positions)?),
            ("seqlens_k", tensor(&[batch], totals.iter().map(|total| total - 1).collect())?),
            ("total", tensor(&[], vec![total])?),
            ("query_seqlens", tensor(&[batch], lengths.iter().map(|length| *length as i32).collect())?),
        ];
        let call = Call { first, rows: batch, adapter, inputs: &inputs, output: Self::OUTPUT };
        let graph = if adapter.is_some() { &mut self.adapted } else { &mut self.plain };
        let values: Tensor<f32> = self.slab.run(graph.get()?, &call)?.downcast()?;
        let (stride, found) = (copies * self.vocabulary, values.extract_tensor().1.len());
        if found != batch * stride {
            return Err(Error::graph(format!("the decoder gave {found} scores instead of {}", batch * stride)));
        }
        Ok(Scores { values, stride, vocabulary: self.vocabulary })
    }
}

/// The width of a padded chunk: at least two tokens, and a multiple of `multiple` tokens in all rows together.
pub(super) fn padded(width: usize, rows: usize, multiple: usize) -> usize {
    let width = width.max(2);
    (width..width + multiple).find(|width| (width * rows).is_multiple_of(multiple)).unwrap_or(width)
}

fn tensor<T: ort::value::PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static>(
    shape: &[usize],
    values: Vec<T>,
) -> Result<DynValue> {
    Ok(Tensor::from_array((shape.to_vec(), values))?.into_dyn())
}
