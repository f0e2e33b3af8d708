//! The weights of a layer as they are stored. In: slices of the caller. Out: the same, with sizes checked. It must not know how they
//! are multiplied.

use crate::error::Error;

/// The most inputs of a product: 65,536 · 255 · 128 is below 2³¹.
const MOST_INPUTS: usize = 65_536;
/// The widest attention head.
const WIDEST_HEAD: usize = 1_024;

/// The sizes of an encoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Width of a token vector.
    pub hidden: usize,
    /// Attention heads; each is `hidden / heads` wide.
    pub heads: usize,
    /// Width between the two products of the feed-forward block.
    pub feed_forward: usize,
}

impl Shape {
    /// Width of a head.
    pub fn head(&self) -> usize {
        self.hidden / self.heads
    }

    /// Whether an encoder of these sizes can be packed.
    ///
    /// # Errors
    /// [`Error::Size`] for a size of 0 or above its limit, [`Error::Heads`] if heads do not divide the width.
    pub fn check(&self) -> Result<(), Error> {
        let limits = [
            ("the hidden size", self.hidden, MOST_INPUTS),
            ("the number of heads", self.heads, MOST_INPUTS),
            ("the feed-forward size", self.feed_forward, MOST_INPUTS),
        ];
        for (what, value, limit) in limits {
            if !(1..=limit).contains(&value) {
                return Err(Error::Size { what, value, limit });
            }
        }
        if !self.hidden.is_multiple_of(self.heads) {
            return Err(Error::Heads { heads: self.heads, hidden: self.hidden });
        }
        if self.head() > WIDEST_HEAD {
            return Err(Error::Size { what: "the head size", value: self.head(), limit: WIDEST_HEAD });
        }
        Ok(())
    }
}

/// A linear layer y = x Wᵀ + b, W in 8-bit integers with a scale per row (per output).
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    /// `[outputs, inputs]`.
    pub weights: &'a [i8],
    /// `[outputs]`: a weight is its integer times the scale of its row.
    pub scales: &'a [f32],
    /// `[outputs]`.
    pub biases: &'a [f32],
}

impl Linear<'_> {
    fn check(&self, what: &'static str, outputs: usize, inputs: usize) -> Result<(), Error> {
        let lengths =
            [(self.weights.len(), outputs * inputs), (self.scales.len(), outputs), (self.biases.len(), outputs)];
        lengths.into_iter().try_for_each(|(found, expected)| length(what, found, expected))
    }

    /// Whether no two neighbouring weights of a row, the first of them at an even input, add up to more than 128 in magnitude: then 255
    /// times their sum fits into 16 bits.
    fn pairs_fit(&self, inputs: usize) -> bool {
        let sum = |pair: &[i8]| pair.iter().map(|weight| i32::from(*weight)).sum::<i32>().abs();
        self.weights.chunks_exact(inputs).all(|row| row.chunks(2).all(|pair| sum(pair) <= 128))
    }
}

/// Layer normalization: (x - mean) / √(variance + epsilon) · scale + shift.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// `[hidden]`.
    pub scales: &'a [f32],
    /// `[hidden]`.
    pub shifts: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
}

/// The weights of one layer of a BERT encoder (normalization after each block, exact gelu).
#[derive(Debug, Clone, Copy)]
pub struct LayerWeights<'a> {
    /// `[hidden, hidden]`.
    pub query: Linear<'a>,
    /// `[hidden, hidden]`.
    pub key: Linear<'a>,
    /// `[hidden, hidden]`.
    pub value: Linear<'a>,
    /// `[hidden, hidden]`, after attention.
    pub output: Linear<'a>,
    /// After the attention block.
    pub attention_norm: Norm<'a>,
    /// `[feed forward, hidden]`, before gelu.
    pub inner: Linear<'a>,
    /// `[hidden, feed forward]`, after gelu.
    pub outer: Linear<'a>,
    /// After the feed-forward block.
    pub feed_forward_norm: Norm<'a>,
}

impl LayerWeights<'_> {
    pub(crate) fn check(&self, shape: Shape) -> Result<(), Error> {
        let Shape { hidden, feed_forward, .. } = shape;
        self.query.check("the query layer", hidden, hidden)?;
        self.key.check("the key layer", hidden, hidden)?;
        self.value.check("the value layer", hidden, hidden)?;
        self.output.check("the output layer", hidden, hidden)?;
        self.inner.check("the inner feed-forward layer", feed_forward, hidden)?;
        self.outer.check("the outer feed-forward layer", hidden, feed_forward)?;
        for norm in [self.attention_norm, self.feed_forward_norm] {
            length("a normalization's scale", norm.scales.len(), hidden)?;
            length("a normalization's shift", norm.shifts.len(), hidden)?;
        }
        Ok(())
    }

    /// Whether the pairs of all weights fit into 16 bits.
    pub(crate) fn pairs_fit(&self, shape: Shape) -> bool {
        let Shape { hidden, feed_forward, .. } = shape;
        let of_states = [self.query, self.key, self.value, self.output, self.inner];
        of_states.iter().all(|linear| linear.pairs_fit(hidden)) && self.outer.pairs_fit(feed_forward)
    }
}

pub(crate) fn length(what: &'static str, found: usize, expected: usize) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::Length { what, found, expected }) }
}
