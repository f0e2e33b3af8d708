//! A packed layer. In: weights as they are stored. Out: weights as the products read them, in one buffer in the order of their use. It must
//! not know the rows that they are multiplied with.

use crate::compute::product::{Column, INPUTS, Packed, Padded};
use crate::compute::rows::{PackedNorm, value_at};
use crate::lanes::LANES;
use crate::memory::Buffer;
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
    /// Stride of the heads' context vectors side by side.
    pub(crate) context: usize,
    /// Stride between the products of the feed-forward block.
    pub(crate) inner: usize,
}

impl Sizes {
    pub(crate) fn new(shape: Shape) -> Self {
        let head = shape.head().next_multiple_of(LANES);
        Self {
            hidden: shape.hidden,
            width: shape.hidden.next_multiple_of(INPUTS),
            heads: shape.heads,
            head,
            context: (shape.heads * head).next_multiple_of(INPUTS),
            inner: shape.feed_forward.next_multiple_of(INPUTS),
        }
    }
}

/// A layer as the kernels read it.
pub(crate) struct Layer {
    /// The weights of all products, in the order in which they are read.
    pub(crate) weights: Buffer<i8>,
    /// Queries, keys and values of all heads.
    pub(crate) projections: Packed,
    pub(crate) output: Packed,
    pub(crate) attention_norm: PackedNorm,
    pub(crate) inner: Packed,
    pub(crate) outer: Packed,
    pub(crate) feed_forward_norm: PackedNorm,
}

impl Layer {
    /// Packs weights whose lengths were checked.
    pub(crate) fn new(weights: &LayerWeights<'_>, shape: Shape, sizes: Sizes, panel: usize) -> Self {
        let Shape { hidden, feed_forward, .. } = shape;
        let Sizes { width, .. } = sizes;
        let (head, padded, heads) = (shape.head(), sizes.head, sizes.heads * sizes.head);
        // A place in the padded heads → the place in the vector.
        let unpadded =
            |place: usize| (place < heads && place % padded < head).then_some(place / padded * head + place % padded);
        let of_context = |place: usize| unpadded(value_at(place));
        let below = |limit: usize| move |place: usize| Some(value_at(place)).filter(|value| *value < limit);
        let query_factor = std::f32::consts::LOG2_E / (head as f32).sqrt();
        let parts = [(&weights.query, query_factor), (&weights.key, 1.0), (&weights.value, 1.0)];
        let projection = |place: usize| {
            let (linear, factor) = *parts.get(place / heads)?;
            Some(column(linear, unpadded(place % heads)?, hidden, factor))
        };
        let output = |place: usize| (place < hidden).then(|| column(&weights.output, place, hidden, 1.0));
        let inner = |place: usize| (place < feed_forward).then(|| column(&weights.inner, place, hidden, 1.0));
        let outer = |place: usize| (place < hidden).then(|| column(&weights.outer, place, feed_forward, 1.0));
        let products = [(3 * heads, width), (hidden, sizes.context), (feed_forward, width), (hidden, sizes.inner)];
        let products = products.map(|(columns, inputs)| Padded::new(panel, columns, inputs));
        let mut buffer = Buffer::new(products.iter().map(|padded| padded.bytes()).sum());
        let to = buffer.as_mut_slice();
        let start = |index: usize| products[..index].iter().map(|padded| padded.bytes()).sum();
        Self {
            projections: Packed::new(panel, products[0], projection, below(hidden), to, start(0)),
            output: Packed::new(panel, products[1], output, of_context, to, start(1)),
            inner: Packed::new(panel, products[2], inner, below(hidden), to, start(2)),
            outer: Packed::new(panel, products[3], outer, below(feed_forward), to, start(3)),
            attention_norm: PackedNorm::new(weights.attention_norm, width),
            feed_forward_norm: PackedNorm::new(weights.feed_forward_norm, width),
            weights: buffer,
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
