//! A packed layer, and its two steps over a block of rows. In: quantized rows of the states. Out: in the first step queries, keys and
//! values; in the second the block's new states, quantized again for the next layer. It must not know which blocks there are.
//!
//! The second step takes a block of queries from attention to the last normalization, so all it writes between stays in the cache of one
//! core. It reads other rows only as keys and values of the same sequence.

use std::ops::Range;

use crate::attention::{Head, Workspace};
use crate::functions::gelu;
use crate::lanes::{LANES, Lanes};
use crate::memory::Buffer;
use crate::product::{Column, Epilogue, Factors, Packed, ROWS};
use crate::rows::{PackedNorm, quantize};
use crate::weights::{LayerWeights, Linear, Shape};

/// The sizes of a layer with padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) hidden: usize,
    /// Stride of states.
    pub(crate) width: usize,
    pub(crate) heads: usize,
    /// Stride of a head's vectors.
    pub(crate) head: usize,
    /// Stride between the products of the feed-forward block.
    pub(crate) inner: usize,
}

impl Sizes {
    pub(crate) fn new(shape: Shape, panel: usize) -> Self {
        Self {
            hidden: shape.hidden,
            width: shape.hidden.next_multiple_of(panel),
            heads: shape.heads,
            head: shape.head().next_multiple_of(LANES),
            inner: shape.feed_forward.next_multiple_of(panel),
        }
    }

    /// Stride of the heads' context vectors side by side.
    pub(crate) fn context(&self) -> usize {
        self.heads * self.head
    }
}

/// A layer as the kernels read it.
pub(crate) struct Layer {
    /// Queries, keys and values of all heads.
    projections: Packed,
    output: Packed,
    attention_norm: PackedNorm,
    inner: Packed,
    outer: Packed,
    feed_forward_norm: PackedNorm,
}

impl Layer {
    /// Packs weights whose lengths were checked.
    pub(crate) fn new(weights: &LayerWeights<'_>, shape: Shape, sizes: Sizes, panel: usize) -> Self {
        let Shape { hidden, feed_forward, .. } = shape;
        let Sizes { width, .. } = sizes;
        let (head, padded, context) = (shape.head(), sizes.head, sizes.context());
        // A place in the padded heads → the place in the vector.
        let unpadded = |place: usize| (place % padded < head).then_some(place / padded * head + place % padded);
        let below = |limit: usize| move |place: usize| (place < limit).then_some(place);
        let query_factor = std::f32::consts::LOG2_E / (head as f32).sqrt();
        let parts = [(&weights.query, query_factor), (&weights.key, 1.0), (&weights.value, 1.0)];
        let projection = |place: usize| {
            let (linear, factor) = *parts.get(place / context)?;
            Some(column(linear, unpadded(place % context)?, hidden, factor))
        };
        let output = |place: usize| (place < hidden).then(|| column(&weights.output, place, hidden, 1.0));
        let inner = |place: usize| (place < feed_forward).then(|| column(&weights.inner, place, hidden, 1.0));
        let outer = |place: usize| (place < hidden).then(|| column(&weights.outer, place, feed_forward, 1.0));
        Self {
            projections: Packed::new(panel, 3 * context, projection, width, below(hidden)),
            output: Packed::new(panel, hidden, output, context, unpadded),
            attention_norm: PackedNorm::new(weights.attention_norm, width),
            inner: Packed::new(panel, feed_forward, inner, width, below(hidden)),
            outer: Packed::new(panel, hidden, outer, sizes.inner, below(feed_forward)),
            feed_forward_norm: PackedNorm::new(weights.feed_forward_norm, width),
        }
    }
}

/// The weights of one output of a linear layer, with its scale and bias multiplied by `factor`.
fn column<'a>(linear: &Linear<'a>, output: usize, inputs: usize, factor: f32) -> Column<'a> {
    Column {
        weights: &linear.weights[output * inputs..(output + 1) * inputs],
        scale: linear.scales[output] * factor,
        bias: linear.biases[output] * factor,
    }
}

/// What the blocks of a batch share. Rows are allocated up to a multiple of [`ROWS`].
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    /// `[tokens, width]`.
    pub(crate) states: *mut f32,
    /// `[tokens, width]`: the states as bytes,
    pub(crate) bytes: *mut u8,
    /// `[tokens]`: and their scales.
    pub(crate) scales: *mut f32,
    /// `[3 × heads, tokens, head]`: queries of every head, keys, values.
    pub(crate) planes: *mut f32,
    /// Tokens of the batch.
    pub(crate) tokens: usize,
}

// SAFETY: whoever uses the pointers must say why no other thread uses the same rows.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// What one thread writes on the way through a block.
pub(crate) struct BlockScratch {
    attention: Workspace,
    /// `[rows, context]`.
    context: Buffer<f32>,
    /// `[rows, width]`.
    sums: Buffer<f32>,
    /// `[rows, inner]`.
    inner: Buffer<f32>,
    /// `[rows, inputs]` of the product that comes next.
    bytes: Buffer<u8>,
    /// `[rows]`.
    scales: Buffer<f32>,
}

impl BlockScratch {
    pub(crate) fn new(sizes: Sizes, rows: usize) -> Self {
        let rows = rows.next_multiple_of(ROWS);
        Self {
            attention: Workspace::new(sizes.head),
            context: Buffer::new(rows * sizes.context()),
            sums: Buffer::new(rows * sizes.width),
            inner: Buffer::new(rows * sizes.inner),
            bytes: Buffer::new(rows * sizes.context().max(sizes.inner).max(sizes.width)),
            scales: Buffer::new(rows),
        }
    }
}

/// A block of rows, and the sequences that it has rows of.
pub(crate) struct Block<'a> {
    pub(crate) sizes: Sizes,
    pub(crate) rows: Range<usize>,
    /// Rows of each sequence.
    pub(crate) sequences: &'a [Range<usize>],
    pub(crate) shared: Shared,
}

impl Block<'_> {
    /// Quantizes the block's states.
    ///
    /// # Safety
    ///
    /// `shared` is valid as it says. Nobody else has the block's states, bytes or scales.
    #[inline(always)]
    pub(crate) unsafe fn quantize_states<L: Lanes>(&self, lanes: L) {
        let width = self.sizes.width;
        for row in self.rows.clone() {
            // SAFETY: the row is one of the batch.
            unsafe {
                let states = self.shared.states.add(row * width);
                *self.shared.scales.add(row) = quantize(lanes, states, width, self.shared.bytes.add(row * width));
            }
        }
    }

    /// Writes the block's queries, keys and values.
    ///
    /// # Safety
    ///
    /// `shared` is valid as it says. Nobody writes the block's bytes and scales or has its rows of the planes.
    #[inline(always)]
    pub(crate) unsafe fn project<L: Lanes>(&self, lanes: L, layer: &Layer) {
        let first = self.rows.start;
        // SAFETY: the rows are those of the batch; blocks start at multiples of ROWS, so only the last one reads rows beyond its end.
        unsafe {
            let factors = Factors {
                packed: &layer.projections,
                rows: self.shared.bytes.add(first * self.sizes.width),
                scales: self.shared.scales.add(first),
                count: self.rows.len(),
            };
            let mut epilogue = ToPlanes {
                planes: self.shared.planes,
                count: 3 * self.sizes.heads,
                tokens: self.shared.tokens,
                head: self.sizes.head,
                first,
            };
            lanes.multiply(&factors, &mut epilogue);
        }
    }

    /// Computes the block's new states.
    ///
    /// # Safety
    ///
    /// `shared` is valid as it says. Nobody has the block's states, bytes or scales, or writes the planes of its sequences. The scratch
    /// was made for these sizes and at least as many rows.
    #[inline(always)]
    pub(crate) unsafe fn finish<L: Lanes>(&self, lanes: L, layer: &Layer, scratch: &mut BlockScratch) {
        let Sizes { hidden, width, inner, .. } = self.sizes;
        let context = self.sizes.context();
        let (first, count) = (self.rows.start, self.rows.len());
        let bytes = scratch.bytes.as_mut_ptr();
        let scales = scratch.scales.as_mut_ptr();
        let sums = scratch.sums.as_mut_ptr();
        // SAFETY: rows are below `count` and buffers as large as `BlockScratch::new` says.
        unsafe {
            self.attend(lanes, scratch);
            let (states, state_bytes) = (self.shared.states.add(first * width), self.shared.bytes.add(first * width));
            for row in 0..count {
                let from = scratch.context.as_ptr().add(row * context);
                *scales.add(row) = quantize(lanes, from, context, bytes.add(row * context));
            }
            let factors = Factors { packed: &layer.output, rows: bytes, scales, count };
            lanes.multiply(&factors, &mut AddTo { residual: states, sums, width });
            for row in 0..count {
                let state = states.add(row * width);
                layer.attention_norm.normalize(lanes, sums.add(row * width), hidden, width, state);
                *self.shared.scales.add(first + row) = quantize(lanes, state, width, state_bytes.add(row * width));
            }
            let state_scales = self.shared.scales.add(first);
            let factors = Factors { packed: &layer.inner, rows: state_bytes, scales: state_scales, count };
            lanes.multiply(&factors, &mut Gelu { to: scratch.inner.as_mut_ptr(), width: inner });
            for row in 0..count {
                let from = scratch.inner.as_ptr().add(row * inner);
                *scales.add(row) = quantize(lanes, from, inner, bytes.add(row * inner));
            }
            let factors = Factors { packed: &layer.outer, rows: bytes, scales, count };
            lanes.multiply(&factors, &mut AddTo { residual: states, sums, width });
            for row in 0..count {
                let state = states.add(row * width);
                layer.feed_forward_norm.normalize(lanes, sums.add(row * width), hidden, width, state);
                *self.shared.scales.add(first + row) = quantize(lanes, state, width, state_bytes.add(row * width));
            }
        }
    }

    /// Writes the block's context vectors.
    #[inline(always)]
    unsafe fn attend<L: Lanes>(&self, lanes: L, scratch: &mut BlockScratch) {
        let Sizes { heads, head: size, .. } = self.sizes;
        for sequence in self.sequences {
            let queries = sequence.start.max(self.rows.start)..sequence.end.min(self.rows.end);
            for index in 0..heads {
                // SAFETY: the rows are those of the batch, and so are the planes.
                unsafe {
                    let plane = |part: usize, row: usize| {
                        self.shared.planes.add(((part * heads + index) * self.shared.tokens + row) * size)
                    };
                    let row = queries.start - self.rows.start;
                    let head = Head {
                        queries: plane(0, queries.start),
                        query_count: queries.len(),
                        keys: plane(1, sequence.start),
                        values: plane(2, sequence.start),
                        key_count: sequence.len(),
                        size,
                        context: scratch.context.as_mut_ptr().add(row * self.sizes.context() + index * size),
                        stride: self.sizes.context(),
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
