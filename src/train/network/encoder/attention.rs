//! Attention on LibTorch. In: token vectors, the description of a layer's attention. Out: the heads' outputs side by side. It must not know
//! the blocks around it.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::model::blocks::Linear;
use crate::model::encoder::architecture::{Architecture, Attention, Distances};
use crate::train::network::encoder::leaves::Leaves;

/// What all layers use.
pub(super) struct Shared {
    /// bool `[rows, 1, 1, tokens]`: true for tokens that attention includes.
    mask: Tensor,
    /// bool `[rows, 1, tokens, tokens]` by reach: true within it.
    local_masks: BTreeMap<usize, Tensor>,
    /// Cosines and sines `[tokens, head size / 2]`, by the bits of the base of the angles.
    angles: BTreeMap<u32, [Tensor; 2]>,
    /// The vectors of distances, float32 `[rows, hidden]`, and the row of each pair of tokens, int64 `[1, 1, tokens, tokens]`: of query − key.
    relative: Option<(Tensor, Tensor)>,
}

impl Shared {
    /// `vectors` are those of distances, `mask` is bool `[rows, 1, 1, tokens]`, `kind` the precision of products.
    pub(super) fn new(architecture: &Architecture, vectors: Option<Tensor>, mask: &Tensor, kind: Kind) -> Self {
        let (device, tokens) = (mask.device(), mask.size()[3]);
        let positions = Tensor::arange(tokens, (Kind::Int64, device));
        // query − key, `[tokens, tokens]`.
        let differences = || positions.unsqueeze(1) - positions.unsqueeze(0);
        let mut shared =
            Self { mask: mask.shallow_clone(), local_masks: BTreeMap::new(), angles: BTreeMap::new(), relative: None };
        for layer in &architecture.layers {
            if let Some(reach) = layer.attention.reach {
                // A token always attends to itself, so that padding far from all tokens has finite values too.
                let near = || differences().abs().le(reach as i64).logical_and(mask).logical_or(&differences().eq(0));
                shared.local_masks.entry(reach).or_insert_with(near);
            }
            if let Distances::Rotary { base } = layer.attention.distances {
                let size = architecture.head_size() as i64;
                let angles = || {
                    let powers = Tensor::arange_start_step(0, size, 2, (Kind::Double, device)) * (-1.0 / size as f64);
                    let frequencies = (powers * f64::from(base).ln()).exp().to_kind(Kind::Float);
                    let angles = positions.to_kind(Kind::Float).unsqueeze(1) * frequencies.unsqueeze(0);
                    [angles.cos().to_kind(kind), angles.sin().to_kind(kind)]
                };
                shared.angles.entry(base.to_bits()).or_insert_with(angles);
            }
        }
        if let (Some(vectors), Some(relative)) = (vectors, &architecture.relative) {
            let rows: Vec<i64> = relative.rows.iter().map(|&row| row as i64).collect();
            let middle = rows.len() as i64 / 2;
            let rows = Tensor::from_slice(&rows).to_device(device);
            let rows = rows.index_select(0, &(differences() + middle).flatten(0, -1)).view([1, 1, tokens, tokens]);
            shared.relative = Some((vectors, rows));
        }
        shared
    }

    fn mask(&self, attention: &Attention) -> &Tensor {
        attention.reach.and_then(|reach| self.local_masks.get(&reach)).unwrap_or(&self.mask)
    }
}

impl Leaves {
    /// Multi-head self-attention without its output layer.
    pub(super) fn attention(
        &self,
        architecture: &Architecture,
        attention: &Attention,
        hidden: &Tensor,
        shared: &Shared,
        dropout: f64,
    ) -> Tensor {
        let (heads, width) = (architecture.heads as i64, architecture.head_size() as i64);
        let size = hidden.size();
        let projections = attention.projections();
        // One product for queries, keys and values.
        let joined =
            |part: fn(&Linear) -> String| Tensor::cat(&projections.map(|projection| self.cast(&part(projection))), 0);
        let bias = attention.query.has_bias.then(|| joined(Linear::bias));
        let projected = hidden.to_kind(self.kind).linear(&joined(Linear::weight), bias);
        let split = projected.view([size[0], size[1], 3, heads, width]).permute([2, 0, 3, 1, 4]).unbind(0);
        let [mut query, mut key, value] = [0, 1, 2].map(|part| split[part].shallow_clone());
        if let Distances::Rotary { base } = attention.distances
            && let Some(angles) = shared.angles.get(&base.to_bits())
        {
            (query, key) = (rotated(&query, angles), rotated(&key, angles));
        }
        let terms = self.distance_terms(architecture, attention, [&query, &key], shared);
        let mask = shared.mask(attention);
        let mixed = if terms.is_some() || (self.device == Device::Cpu && dropout > 0.0) {
            // LibTorch's own operator has no such terms, and with dropout on the CPU it computes in float32, step by step.
            let scale = f64::from(architecture.attention_scale(attention));
            let mut scores = (query * scale).matmul(&key.transpose(2, 3));
            if let Some(terms) = terms {
                scores += terms * scale;
            }
            let excluded = Tensor::zeros_like(mask).to_kind(self.kind);
            let excluded = excluded.masked_fill(&mask.logical_not(), f64::NEG_INFINITY);
            let weights = (scores + excluded).softmax(-1, self.kind);
            self.masks.apply(&weights, dropout).matmul(&value)
        } else {
            Tensor::scaled_dot_product_attention(&query, &key, &value, Some(mask), dropout, false, None, false)
        };
        mixed.transpose(1, 2).reshape([size[0], size[1], heads * width])
    }

    /// What is added to the scores for the distance of each pair of tokens: `[rows, heads, tokens, tokens]`, not yet scaled.
    fn distance_terms(
        &self,
        architecture: &Architecture,
        attention: &Attention,
        [query, key]: [&Tensor; 2],
        shared: &Shared,
    ) -> Option<Tensor> {
        let (heads, width) = (architecture.heads as i64, architecture.head_size() as i64);
        let Distances::Disentangled { keys, queries } = &attention.distances else { return None };
        let (vectors, rows) = shared.relative.as_ref()?;
        let tokens = query.size()[2];
        let rows = rows.expand([query.size()[0], heads, tokens, tokens], false);
        // `[heads, head size, rows of the table]`.
        let by_head = |layer: &Linear| self.linear(vectors, layer).view([-1, heads, width]).permute([1, 2, 0]);
        let of_query = keys.as_ref().map(|layer| query.matmul(&by_head(layer)).gather(-1, &rows, false));
        let of_key = queries.as_ref().map(|layer| {
            let transposed = rows.transpose(2, 3);
            key.matmul(&by_head(layer)).gather(-1, &transposed, false).transpose(2, 3)
        });
        match (of_query, of_key) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        }
    }
}

/// `[rows, heads, tokens, head size]`, with the halves (x, y) of each head as x cos − y sin and y cos + x sin.
fn rotated(value: &Tensor, [cosine, sine]: &[Tensor; 2]) -> Tensor {
    let halves = value.chunk(2, -1);
    let (x, y) = (&halves[0], &halves[1]);
    Tensor::cat(&[x * cosine - y * sine, y * cosine + x * sine], -1)
}
