//! A layer over a block of rows, in two steps. In: the block's states, as floats and as bytes. Out: in the first step queries, keys and
//! values; in the second the new states, quantized again for the next layer. It must not know which blocks there are.
//!
//! The second step takes a block from attention to the last normalization, so what it writes between stays in the cache of one core. It
//! reads other rows only as keys and values of the same sequence.

use crate::compute::attention::{Head, Workspace};
use crate::compute::functions::gelu;
use crate::compute::product::{Epilogue, Factors, ROWS};
use crate::compute::rows::quantize;
use crate::lanes::Lanes;
use crate::layer::{Layer, Sizes};
use crate::memory::Buffer;
use crate::schedule::Rows;

/// What the blocks of a batch share. Every block's rows are padded to a multiple of [`ROWS`], except in the planes.
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    /// `[padded tokens, width]`.
    pub(crate) states: *mut f32,
    /// `[padded tokens, width]`: the states as bytes,
    pub(crate) bytes: *mut u8,
    /// `[padded tokens]`: and their scales.
    pub(crate) scales: *mut f32,
    /// Of the blocks that are parts of sequences.
    pub(crate) planes: Planes,
}

// SAFETY: whoever uses the pointers says why no other thread uses the same rows.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// `[3 × heads, tokens, head]`: queries of every head, keys, values.
#[derive(Clone, Copy)]
pub(crate) struct Planes {
    pub(crate) start: *mut f32,
    pub(crate) tokens: usize,
    /// The row of the batch that is the first here.
    pub(crate) first: usize,
}

/// Rows between the products of the feed-forward block at a time.
const INNER_ROWS: usize = 4 * ROWS;

/// What one thread writes on the way through a block.
pub(crate) struct BlockScratch {
    attention: Workspace,
    /// `[3 × heads, rows, head]`.
    planes: Buffer<f32>,
    /// `[rows, context]`.
    context: Buffer<f32>,
    /// `[rows, width]`.
    sums: Buffer<f32>,
    /// `[INNER_ROWS, inner]`.
    inner: Buffer<f32>,
    /// `[rows, context]` or `[INNER_ROWS, inner]`.
    bytes: Buffer<u8>,
    /// `[rows]`.
    scales: Buffer<f32>,
}

impl BlockScratch {
    pub(crate) fn new(sizes: Sizes, rows: usize) -> Self {
        let rows = rows.next_multiple_of(ROWS);
        Self {
            attention: Workspace::new(sizes.head),
            planes: Buffer::new(3 * sizes.heads * rows * sizes.head),
            context: Buffer::new(rows * sizes.context),
            sums: Buffer::new(rows * sizes.width),
            inner: Buffer::new(INNER_ROWS * sizes.inner),
            bytes: Buffer::new((rows * sizes.context).max(INNER_ROWS * sizes.inner)),
            scales: Buffer::new(rows),
        }
    }
}

/// A block of rows, and where they lie.
pub(crate) struct Block<'a> {
    pub(crate) sizes: Sizes,
    pub(crate) rows: &'a Rows,
    pub(crate) shared: Shared,
}

impl Block<'_> {
    /// The block's states.
    fn states(&self) -> *mut f32 {
        self.shared.states.wrapping_add(self.rows.place * self.sizes.width)
    }

    /// Copies the block's rows of `from`, `[tokens, hidden]`, into the states, and quantizes them.
    ///
    /// # Safety
    ///
    /// `shared` is valid as it says. Nobody else has the block's states, bytes or scales.
    #[inline(always)]
    pub(crate) unsafe fn read<L: Lanes>(&self, lanes: L, from: *const f32) {
        let Sizes { hidden, width, .. } = self.sizes;
        for (index, row) in self.rows.tokens.clone().enumerate() {
            // SAFETY: the row is one of the batch.
            unsafe {
                let state = self.states().add(index * width);
                state.copy_from_nonoverlapping(from.add(row * hidden), hidden);
                state.add(hidden).write_bytes(0, width - hidden);
                self.quantize_state(lanes, index);
            }
        }
    }

    /// Copies the block's states to its rows of `to`, `[tokens, hidden]`.
    ///
    /// # Safety
    ///
    /// As for [`read`](Self::read), and nobody else has these rows of `to`.
    pub(crate) unsafe fn write(&self, to: *mut f32) {
        let Sizes { hidden, width, .. } = self.sizes;
        for (index, row) in self.rows.tokens.clone().enumerate() {
            // SAFETY: the row is one of the batch.
            unsafe { to.add(row * hidden).copy_from_nonoverlapping(self.states().add(index * width), hidden) }
        }
    }

    #[inline(always)]
    unsafe fn quantize_state<L: Lanes>(&self, lanes: L, index: usize) {
        let place = self.rows.place + index;
        // SAFETY: the caller has the row.
        unsafe {
            let bytes = self.shared.bytes.add(place * self.sizes.width);
            let state = self.shared.states.add(place * self.sizes.width);
            *self.shared.scales.add(place) = quantize(lanes, state, self.sizes.width, bytes);
        }
    }

    /// The planes of a block of whole sequences.
    pub(crate) fn own_planes(&self, scratch: &mut BlockScratch) -> Planes {
        let rows = &self.rows.tokens;
        Planes { start: scratch.planes.as_mut_ptr(), tokens: rows.len(), first: rows.start }
    }

    /// Writes the block's queries, keys and values.
    ///
    /// # Safety
    ///
    /// `shared` is valid as it says. Nobody writes the block's bytes and scales or has its rows of the planes.
    #[inline(always)]
    pub(crate) unsafe fn project<L: Lanes>(&self, lanes: L, layer: &Layer, planes: Planes) {
        let Sizes { width, heads, head, .. } = self.sizes;
        let Rows { tokens: rows, place, .. } = self.rows;
        // SAFETY: the rows are those of the block, and it is padded.
        unsafe {
            let factors = Factors {
                packed: &layer.projections,
                weights: &layer.weights,
                rows: self.shared.bytes.add(place * width),
                scales: self.shared.scales.add(*place),
                count: rows.len(),
            };
            let first = rows.start - planes.first;
            let mut epilogue = ToPlanes { planes: planes.start, count: 3 * heads, tokens: planes.tokens, head, first };
            lanes.multiply(&factors, &mut epilogue);
        }
    }

    /// Computes the block's new states, and quantizes them.
    ///
    /// # Safety
    ///
    /// `shared` is valid as it says. Nobody has the block's states, bytes or scales, or writes the rows of its sequences in the planes. The
    /// scratch was made for these sizes and at least as many rows.
    #[inline(always)]
    pub(crate) unsafe fn finish<L: Lanes>(&self, lanes: L, layer: &Layer, planes: Planes, scratch: &mut BlockScratch) {
        let Sizes { hidden, width, context, inner, .. } = self.sizes;
        let count = self.rows.tokens.len();
        let weights = &layer.weights;
        // SAFETY: rows are below `count` and buffers as large as `BlockScratch::new` says.
        unsafe {
            self.attend(lanes, planes, scratch);
            let (bytes, scales) = (scratch.bytes.as_mut_ptr(), scratch.scales.as_mut_ptr());
            let sums = scratch.sums.as_mut_ptr();
            for row in 0..count {
                let from = scratch.context.as_ptr().add(row * context);
                *scales.add(row) = quantize(lanes, from, context, bytes.add(row * context));
            }
            let factors = Factors { packed: &layer.output, weights, rows: bytes, scales, count };
            lanes.multiply(&factors, &mut AddTo { residual: self.states(), sums, width });
            for row in 0..count {
                let state = self.states().add(row * width);
                layer.attention_norm.normalize(lanes, sums.add(row * width), hidden, width, state);
                self.quantize_state(lanes, row);
            }
            let mut first = 0;
            while first < count {
                let count = INNER_ROWS.min(count - first);
                let place = self.rows.place + first;
                let (rows, state_scales) = (self.shared.bytes.add(place * width), self.shared.scales.add(place));
                let factors = Factors { packed: &layer.inner, weights, rows, scales: state_scales, count };
                lanes.multiply(&factors, &mut Gelu { to: scratch.inner.as_mut_ptr(), width: inner });
                for row in 0..count {
                    let from = scratch.inner.as_ptr().add(row * inner);
                    *scales.add(row) = quantize(lanes, from, inner, bytes.add(row * inner));
                }
                let factors = Factors { packed: &layer.outer, weights, rows: bytes, scales, count };
                let residual = self.states().add(first * width);
                lanes.multiply(&factors, &mut AddTo { residual, sums, width });
                for row in 0..count {
                    let state = self.states().add((first + row) * width);
                    layer.feed_forward_norm.normalize(lanes, sums.add(row * width), hidden, width, state);
                    self.quantize_state(lanes, first + row);
                }
                first += INNER_ROWS;
            }
        }
    }

    /// Writes the block's context vectors.
    #[inline(always)]
    unsafe fn attend<L: Lanes>(&self, lanes: L, planes: Planes, scratch: &mut BlockScratch) {
        let Sizes { heads, head: size, context, .. } = self.sizes;
        let rows = &self.rows.tokens;
        for sequence in &self.rows.sequences {
            let queries = sequence.start.max(rows.start)..sequence.end.min(rows.end);
            for index in 0..heads {
                // SAFETY: the rows are those of the batch, and so are the planes.
                unsafe {
                    let row = |row: usize| planes.start.add((index * planes.tokens + row - planes.first) * size);
                    let part = heads * planes.tokens * size;
                    let first = queries.start - rows.start;
                    let head = Head {
                        queries: row(queries.start),
                        query_count: queries.len(),
                        keys: row(sequence.start).add(part),
                        values: row(sequence.start).add(2 * part),
                        key_count: sequence.len(),
                        size,
                        context: scratch.context.as_mut_ptr().add(first * context + index * size),
                        stride: context,
                        workspace: scratch.attention.pointers(),
                    };
                    lanes.attend(&head);
                }
            }
        }
    }
}

/// Stores queries, keys and values by head.
struct ToPlanes {
    planes: *mut f32,
    /// Number of planes.
    count: usize,
    tokens: usize,
    head: usize,
    /// Token of row 0.
    first: usize,
}

impl Epilogue for ToPlanes {
    /// Where row 0 goes, or null for padding.
    type Place = *mut f32;

    #[inline(always)]
    unsafe fn place(&self, column: usize) -> *mut f32 {
        let plane = column / self.head;
        if plane >= self.count {
            return std::ptr::null_mut();
        }
        // SAFETY: the plane exists, and has the token of row 0.
        unsafe { self.planes.add((plane * self.tokens + self.first) * self.head + column % self.head) }
    }

    #[inline(always)]
    unsafe fn write<L: Lanes>(&mut self, lanes: L, place: *mut f32, row: usize, value: L::Float) {
        if !place.is_null() {
            // SAFETY: the row is one of the batch.
            unsafe { lanes.store(place.add(row * self.head), value) }
        }
    }
}

/// Stores gelu of the outputs.
struct Gelu {
    to: *mut f32,
    width: usize,
}

impl Epilogue for Gelu {
    type Place = *mut f32;

    #[inline(always)]
    unsafe fn place(&self, column: usize) -> *mut f32 {
        // SAFETY: the column is below the width.
        unsafe { self.to.add(column) }
    }

    #[inline(always)]
    unsafe fn write<L: Lanes>(&mut self, lanes: L, place: *mut f32, row: usize, value: L::Float) {
        // SAFETY: the row is one of the block.
        unsafe { lanes.store(place.add(row * self.width), gelu(lanes, value)) }
    }
}

/// Stores the sums of the outputs and the residual.
struct AddTo {
    residual: *const f32,
    sums: *mut f32,
    width: usize,
}

impl Epilogue for AddTo {
    /// The column.
    type Place = usize;

    #[inline(always)]
    unsafe fn place(&self, column: usize) -> usize {
        column
    }

    #[inline(always)]
    unsafe fn write<L: Lanes>(&mut self, lanes: L, column: usize, row: usize, value: L::Float) {
        // SAFETY: the row is one of the block, the column below the width.
        unsafe {
            let place = row * self.width + column;
            lanes.store(self.sums.add(place), lanes.add(value, lanes.load(self.residual.add(place))));
        }
    }
}
