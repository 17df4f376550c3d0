//! Memory of keys and values, and the views of it that ONNX Runtime reads and writes in place.
//!
//! The attention kernel appends to the past in the same buffer (`GroupQueryAttention` of com.microsoft: past and present share memory). That needs one
//! memory bound as an input and as an output at once, and rows taken out of a larger block, which safe Rust and the safe part of `ort` cannot say: a
//! borrowed tensor is copied when it is bound. So this module, and no other of the crate, is unsafe. What it relies on:
//!
//! - The memory is reached through raw pointers only; no reference to it is ever made.
//! - Bindings never leave the slab and are dropped before the memory (order of the fields).
//! - Every access takes `&mut self`, so the library never runs while a row is copied.

#![allow(unsafe_code, reason = "explained above")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::HashMap;
use std::ptr::{NonNull, null_mut};

use ort::AsPointer;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::{DynValue, Tensor, Value};

use super::adapter::Adapter;
use crate::error::{Error, Result};

/// Sizes that do not change: those of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) layers: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
}

impl Cell {
    /// Bytes that one token takes: keys and values of all layers in single precision.
    pub(super) fn bytes(self) -> usize {
        2 * self.layers * self.kv_heads * self.head_dim * size_of::<f32>()
    }
}

/// Keys and values of `rows` rows of `capacity` tokens: for each layer two blocks `[rows, kv_heads, capacity, head_dim]`.
pub(super) struct Slab {
    bindings: HashMap<Key, IoBinding>,
    blocks: Vec<Block>,
    cell: Cell,
    rows: usize,
    capacity: usize,
}

/// First row, number of rows, adapter. The adapter decides the session too.
type Key = (usize, usize, Option<u64>);

/// Which rows a call computes, and with what.
#[derive(Debug)]
pub(super) struct Call<'c> {
    pub(super) first: usize,
    pub(super) rows: usize,
    pub(super) adapter: Option<&'c Adapter>,
    pub(super) inputs: &'c [(&'c str, DynValue)],
    pub(super) output: &'c str,
}

/// One allocation. It begins as zeros that the operating system maps when they are first touched, so unused rows cost no memory.
struct Block {
    start: NonNull<f32>,
    layout: Layout,
}

// SAFETY: a block owns its memory, and nothing about it is bound to a thread.
unsafe impl Send for Block {}

impl Block {
    fn new(floats: usize) -> Result<Self> {
        let refused = || Error::CacheMemory { needed: floats * size_of::<f32>(), limit: 0 };
        let layout = Layout::array::<f32>(floats.max(1)).and_then(|layout| layout.align_to(64)).map_err(|_| refused())?;
        // SAFETY: the layout is at least one float large.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }.cast::<f32>()).ok_or_else(refused)?;
        Ok(Self { start, layout })
    }

    fn floats(&self) -> usize {
        self.layout.size() / size_of::<f32>()
    }

    /// Address of `count` floats that begin at `offset`. Panics when they are not all inside: a bug in this module.
    fn span(&self, offset: usize, count: usize) -> *mut f32 {
        assert!(offset.checked_add(count).is_some_and(|end| end <= self.floats()), "a span of the slab lies inside it");
        // SAFETY: the offset was just checked.
        unsafe { self.start.as_ptr().add(offset) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr().cast(), self.layout) };
    }
}

impl std::fmt::Debug for Slab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slab").field("rows", &self.rows).field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl Slab {
    /// Bindings kept; more different views than this are rare, and making one costs less than a hundredth of a step.
    const BINDINGS: usize = 64;

    pub(super) fn new(cell: Cell, rows: usize, capacity: usize) -> Result<Self> {
        let floats = rows * cell.kv_heads * capacity * cell.head_dim;
        let blocks = (0..2 * cell.layers).map(|_| Block::new(floats)).collect::<Result<_>>()?;
        Ok(Self { bindings: HashMap::new(), blocks, cell, rows, capacity })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Tokens that a row can hold.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn bytes(&self) -> usize {
        self.rows * self.capacity * self.cell.bytes()
    }

    /// Runs the session; gives the output. The session must be the same for all calls with the same adapter.
    pub(super) fn run(&mut self, session: &mut Session, call: &Call<'_>) -> Result<DynValue> {
        let key = (call.first, call.rows, call.adapter.map(Adapter::id));
        let mut binding = match self.bindings.remove(&key) {
            Some(binding) => binding,
            None => self.bind(session, call)?,
        };
        for (name, value) in call.inputs {
            binding.bind_input(*name, value)?;
        }
        let output = session.run_binding(&binding)?.remove(call.output);
        let output = output.ok_or_else(|| Error::graph(format!("the decoder has no output \"{}\"", call.output)))?;
        // The binding would keep the output, and the next call would write into it.
        binding.bind_output_to_device(call.output, &cpu()?)?;
        if self.bindings.len() >= Self::BINDINGS {
            self.bindings.clear();
        }
        self.bindings.insert(key, binding);
        Ok(output)
    }

    /// Exchanges two rows of at most `tokens` tokens.
    pub(super) fn swap(&mut self, a: usize, b: usize, tokens: usize) {
        if a == b {
            return;
        }
        self.for_spans(a, tokens, |block, offset, count, slab| {
            let other = offset + slab.stride() * b - slab.stride() * a;
            // SAFETY: both spans lie in the block, and different rows do not overlap.
            unsafe { std::ptr::swap_nonoverlapping(block.span(offset, count), block.span(other, count), count) };
        });
    }

    /// Copies the first `tokens` tokens of a row over another row.
    pub(super) fn copy(&mut self, from: usize, to: usize, tokens: usize) {
        if from == to {
            return;
        }
        self.for_spans(from, tokens, |block, offset, count, slab| {
            let other = offset + slab.stride() * to - slab.stride() * from;
            // SAFETY: both spans lie in the block, and different rows do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(block.span(offset, count), block.span(other, count), count) };
        });
    }

    /// The first `tokens` tokens of a row, as [`Slab::load`] takes them.
    pub(super) fn save(&mut self, row: usize, tokens: usize) -> Vec<f32> {
        let mut saved = Vec::with_capacity(self.cell.bytes() / size_of::<f32>() * tokens);
        self.for_spans(row, tokens, |block, offset, count, _| {
            // SAFETY: the span lies in the block and was zeroed or written; nothing writes it while the reference lives.
            saved.extend_from_slice(unsafe { std::slice::from_raw_parts(block.span(offset, count), count) });
        });
        saved
    }

    /// Writes the first `tokens` tokens of a row.
    pub(super) fn load(&mut self, row: usize, saved: &[f32], tokens: usize) {
        let mut rest = saved;
        self.for_spans(row, tokens, |block, offset, count, _| {
            let (span, after) = rest.split_at(count);
            // SAFETY: the span lies in the block; `span` is borrowed from elsewhere.
            unsafe { std::ptr::copy_nonoverlapping(span.as_ptr(), block.span(offset, count), count) };
            rest = after;
        });
    }

    /// Floats from one row to the next.
    fn stride(&self) -> usize {
        self.cell.kv_heads * self.capacity * self.cell.head_dim
    }

    /// Calls `each` with the block, the offset and the length of every run of floats that holds the row's first tokens.
    fn for_spans(&mut self, row: usize, tokens: usize, mut each: impl FnMut(&Block, usize, usize, &Self)) {
        assert!(row < self.rows && tokens <= self.capacity, "the row and its tokens are in the slab");
        let count = tokens * self.cell.head_dim;
        if count == 0 {
            return;
        }
        for block in &self.blocks {
            for head in 0..self.cell.kv_heads {
                each(block, row * self.stride() + head * self.capacity * self.cell.head_dim, count, self);
            }
        }
    }

    fn bind(&self, session: &Session, call: &Call<'_>) -> Result<IoBinding> {
        let mut binding = session.create_binding()?;
        for (layer, blocks) in self.blocks.chunks_exact(2).enumerate() {
            for (block, kind) in blocks.iter().zip(["key", "value"]) {
                let mut view = self.view(block, call.first, call.rows)?;
                binding.bind_input(format!("past_{kind}.{layer}"), &view)?;
                binding.bind_output(format!("present_{kind}.{layer}"), &mut view)?;
            }
        }
        for (name, value) in call.adapter.map(Adapter::inputs).transpose()?.unwrap_or_default() {
            binding.bind_input(name, value)?;
        }
        binding.bind_output_to_device(call.output, &cpu()?)?;
        Ok(binding)
    }

    /// A tensor over rows of a block, without a copy.
    fn view(&self, block: &Block, first: usize, rows: usize) -> Result<Tensor<f32>> {
        let count = rows * self.stride();
        let data = block.span(first * self.stride(), count);
        let shape = [rows, self.cell.kv_heads, self.capacity, self.cell.head_dim].map(|size| size as i64);
        let mut value = null_mut();
        // SAFETY: the span lies in the block, which outlives the bindings that hold the view; the shape has exactly `count` floats; the library
        // copies shape and memory information.
        let status = unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                cpu()?.ptr(),
                data.cast(),
                count * size_of::<f32>(),
                shape.as_ptr(),
                shape.len(),
                ort::sys::ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                &mut value,
            )
        };
        if !status.0.is_null() {
            // SAFETY: a status that is not null is owned by the caller.
            unsafe { (ort::api().ReleaseStatus)(status.0) };
        }
        let value =
            NonNull::new(value).ok_or_else(|| Error::Runtime { reason: "a view of the key-value memory was refused".to_owned() })?;
        // SAFETY: the call above made this tensor, and nobody else releases it. The allocator is not used for memory the value does not own.
        Ok(unsafe { Value::from_ptr(value, Some(&Allocator::default())) })
    }
}

fn cpu() -> Result<MemoryInfo<'static>> {
    Ok(MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: Cell = Cell { layers: 2, kv_heads: 3, head_dim: 4 };

    /// Floats that tell row, token and place apart.
    fn tokens(row: usize, tokens: usize) -> Vec<f32> {
        (0..tokens * CELL.bytes() / 4).map(|i| (row * 100_000 + i) as f32).collect()
    }

    #[test]
    fn rows_keep_their_tokens_through_copies_swaps_and_moves_to_another_slab() {
        let mut slab = Slab::new(CELL, 3, 5).unwrap();
        assert_eq!(slab.bytes(), 3 * 5 * 192);
        let (one, two) = (tokens(1, 5), tokens(2, 3));
        slab.load(0, &one, 5);
        slab.load(2, &two, 3);
        assert_eq!(slab.save(1, 5), vec![0.0; one.len()]);
        slab.copy(2, 1, 3);
        assert_eq!((slab.save(1, 3), slab.save(2, 3), slab.save(0, 5)), (two.clone(), two.clone(), one.clone()));
        slab.swap(0, 1, 5);
        assert_eq!((slab.save(1, 5), slab.save(0, 3)), (one.clone(), two.clone()));
        let mut larger = Slab::new(CELL, 4, 9).unwrap();
        larger.load(3, &slab.save(1, 5), 5);
        assert_eq!((larger.save(3, 5), larger.save(2, 9)), (one, vec![0.0; 9 * 48]));
    }

    #[test]
    fn the_first_tokens_of_a_saved_row_are_a_row_of_their_own() {
        let mut slab = Slab::new(CELL, 2, 5).unwrap();
        slab.load(0, &tokens(1, 5), 5);
        let prefix = slab.save(0, 2);
        slab.load(1, &prefix, 2);
        assert_eq!(slab.save(1, 2), prefix);
        assert_eq!(slab.save(1, 5)[2 * 4..5 * 4], [0.0; 12]);
    }

    #[test]
    #[should_panic(expected = "in the slab")]
    fn a_row_outside_is_refused() {
        Slab::new(CELL, 2, 5).unwrap().save(2, 1);
    }
}
