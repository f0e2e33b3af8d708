//! Attention of one head over one sequence. In: queries, keys and values `[tokens, size]` as floats, the queries multiplied by log₂(e) /
//! √size. Out: context vectors, a row per query. It must not know the other heads.
//!
//! A vector is sixteen queries. Scores of a key, the largest score so far and the sum of weights are vectors, so nothing is added up
//! within one, no score needs a mask, and keys and values are read as they lie, one value for all queries. Only queries and results are
//! transposed. Keys come in blocks; the results of earlier blocks are rescaled when a larger score appears (online softmax: Milakov and
//! Gimelshein, arXiv 1805.02867), so scores take `BLOCK × 32` floats at any length.
//!
//! Work of a query and a key in a head of 32: 64 products, 2 instructions of 512 bits for 32 of them; 2ˣ takes 13 for sixteen queries.

use crate::compute::functions::power_of_two;
use crate::lanes::{LANES, Lanes};
use crate::memory::Buffer;

/// Keys whose scores are in memory at a time.
const BLOCK: usize = 64;
/// Queries of a block, at most.
const WIDTH: usize = 2 * LANES;

/// What one thread needs for the widest head.
pub(crate) struct Workspace {
    /// `[size, WIDTH]`.
    queries: Buffer<f32>,
    /// `[BLOCK + keys of a tile, WIDTH]`: scores, then weights.
    scores: Buffer<f32>,
    /// `[size, WIDTH]`: sums of weighted values.
    context: Buffer<f32>,
}

impl Workspace {
    pub(crate) fn new(size: usize) -> Self {
        let square = || Buffer::new(size * WIDTH);
        Self { queries: square(), scores: Buffer::new((BLOCK + LANES) * WIDTH), context: square() }
    }

    pub(crate) fn pointers(&mut self) -> Pointers<'_> {
        Pointers {
            queries: self.queries.as_mut_ptr(),
            scores: self.scores.as_mut_ptr(),
            context: self.context.as_mut_ptr(),
            workspace: std::marker::PhantomData,
        }
    }
}

/// A borrowed [`Workspace`].
pub(crate) struct Pointers<'a> {
    queries: *mut f32,
    scores: *mut f32,
    context: *mut f32,
    workspace: std::marker::PhantomData<&'a mut Workspace>,
}

/// A head: where its vectors lie.
pub(crate) struct Head<'a> {
    /// `[query_count, size]`.
    pub(crate) queries: *const f32,
    pub(crate) query_count: usize,
    /// `[key_count, size]`; there is at least one.
    pub(crate) keys: *const f32,
    /// `[key_count, size]`.
    pub(crate) values: *const f32,
    pub(crate) key_count: usize,
    /// Padded with zeros to a multiple of [`LANES`], and not more than the workspace was made for.
    pub(crate) size: usize,
    /// A row of `size` values for each query, `stride` values apart.
    pub(crate) context: *mut f32,
    pub(crate) stride: usize,
    pub(crate) workspace: Pointers<'a>,
}

/// Computes a head in tiles of `K` keys or `V` values and `G` vectors of queries.
///
/// # Safety
///
/// The pointers of `head` are valid as it says.
#[inline(always)]
pub(crate) unsafe fn attend<L: Lanes, const K: usize, const V: usize, const G: usize>(lanes: L, head: &Head<'_>) {
    const { assert!(L::QUERIES == G * LANES && G * LANES <= WIDTH && LANES.is_multiple_of(V) && K <= LANES) };
    let mut query = 0;
    while query < head.query_count {
        let count = head.query_count - query;
        // SAFETY: passed on to the caller; at least one query is left.
        unsafe {
            if count > LANES || G == 1 {
                queries::<L, K, V, G>(lanes, head, query, count.min(G * LANES));
                query += G * LANES;
            } else {
                queries::<L, K, V, 1>(lanes, head, query, count);
                query += LANES;
            }
        }
    }
}

/// Computes `count` queries from `first` on, in `G` vectors.
#[inline(always)]
unsafe fn queries<L: Lanes, const K: usize, const V: usize, const G: usize>(
    lanes: L,
    head: &Head<'_>,
    first: usize,
    count: usize,
) {
    let size = head.size;
    // SAFETY: indices stay below the counts and sizes of `head`.
    unsafe {
        transpose_queries::<L, G>(lanes, head, first, count);
        let mut column = 0;
        while column < size * WIDTH {
            lanes.store(head.workspace.context.add(column), lanes.splat(0.0));
            column += LANES;
        }
        // Finite, so that the difference of two scores is a number.
        let mut largest = [lanes.splat(f32::MIN); G];
        let mut sums = [lanes.splat(0.0); G];
        let mut key = 0;
        while key < head.key_count {
            let keys = BLOCK.min(head.key_count - key);
            let before = largest;
            scores::<L, K, G>(lanes, head, key, keys, &mut largest);
            let mut factors = before;
            for g in 0..G {
                factors[g] = power_of_two(lanes, lanes.sub(before[g], largest[g]));
                sums[g] = lanes.mul(sums[g], factors[g]);
            }
            let mut index = 0;
            while index < keys {
                for g in 0..G {
                    let score = head.workspace.scores.add(index * WIDTH + g * LANES);
                    let weight = power_of_two(lanes, lanes.sub(lanes.load(score), largest[g]));
                    lanes.store(score, weight);
                    sums[g] = lanes.add(sums[g], weight);
                }
                index += 1;
            }
            weigh_values::<L, V, G>(lanes, head, key, keys, factors);
            key += BLOCK;
        }
        for g in 0..G {
            let inverse = lanes.div(lanes.splat(1.0), sums[g]);
            let mut column = 0;
            while column < size {
                let mut square = [inverse; LANES];
                for index in 0..LANES {
                    let values = lanes.load(head.workspace.context.add((column + index) * WIDTH + g * LANES));
                    square[index] = lanes.mul(values, inverse);
                }
                lanes.transpose(&mut square);
                for index in 0..LANES {
                    if g * LANES + index < count {
                        let row = first + g * LANES + index;
                        lanes.store(head.context.add(row * head.stride + column), square[index]);
                    }
                }
                column += LANES;
            }
        }
    }
}

/// Transposes queries into the workspace. Lanes beyond `count` repeat the last query.
#[inline(always)]
unsafe fn transpose_queries<L: Lanes, const G: usize>(lanes: L, head: &Head<'_>, first: usize, count: usize) {
    // SAFETY: rows stay below the number of queries.
    unsafe {
        for g in 0..G {
            let mut column = 0;
            while column < head.size {
                let mut square = [lanes.splat(0.0); LANES];
                for index in 0..LANES {
                    let row = first + (g * LANES + index).min(count - 1);
                    square[index] = lanes.load(head.queries.add(row * head.size + column));
                }
                lanes.transpose(&mut square);
                for index in 0..LANES {
                    lanes.store(head.workspace.queries.add((column + index) * WIDTH + g * LANES), square[index]);
                }
                column += LANES;
            }
        }
    }
}

/// Writes the scores of `count` keys from `first` on, and raises `largest` to them.
#[inline(always)]
unsafe fn scores<L: Lanes, const K: usize, const G: usize>(
    lanes: L,
    head: &Head<'_>,
    first: usize,
    count: usize,
    largest: &mut [L::Float; G],
) {
    // SAFETY: keys stay below their number; a tile may write up to K rows of scores more than there are keys.
    unsafe {
        let mut tile = 0;
        while tile < count {
            // A tile at the end repeats the last key: its scores are written once more and change nothing.
            let start = head.keys.add((first + tile) * head.size);
            let step = if count - tile >= K { head.size } else { 0 };
            let mut keys = [start; K];
            for k in 1..K {
                keys[k] = keys[k - 1].add(step);
            }
            if step == 0 {
                for k in 1..K {
                    keys[k] = start.add(k.min(count - tile - 1) * head.size);
                }
            }
            let mut sums = [[lanes.splat(0.0); G]; K];
            let mut column = 0;
            while column < head.size {
                let mut queries = [lanes.load(head.workspace.queries.add(column * WIDTH)); G];
                for g in 1..G {
                    queries[g] = lanes.load(head.workspace.queries.add(column * WIDTH + g * LANES));
                }
                for k in 0..K {
                    let value = lanes.splat(*keys[k].add(column));
                    for g in 0..G {
                        sums[k][g] = lanes.fma(value, queries[g], sums[k][g]);
                    }
                }
                column += 1;
            }
            for k in 0..K {
                for g in 0..G {
                    lanes.store(head.workspace.scores.add((tile + k) * WIDTH + g * LANES), sums[k][g]);
                    largest[g] = lanes.max(largest[g], sums[k][g]);
                }
            }
            tile += K;
        }
    }
}

/// Multiplies the context by `factors` and adds `count` values from `first` on, weighted.
#[inline(always)]
unsafe fn weigh_values<L: Lanes, const V: usize, const G: usize>(
    lanes: L,
    head: &Head<'_>,
    first: usize,
    count: usize,
    factors: [L::Float; G],
) {
    // SAFETY: values stay below the number of keys, columns below the head's size.
    unsafe {
        let mut column = 0;
        while column < head.size {
            let context = head.workspace.context.add(column * WIDTH);
            let mut sums = [factors; V];
            for v in 0..V {
                for g in 0..G {
                    sums[v][g] = lanes.mul(lanes.load(context.add(v * WIDTH + g * LANES)), factors[g]);
                }
            }
            let mut index = 0;
            while index < count {
                let mut weights = [lanes.load(head.workspace.scores.add(index * WIDTH)); G];
                for g in 1..G {
                    weights[g] = lanes.load(head.workspace.scores.add(index * WIDTH + g * LANES));
                }
                let values = head.values.add((first + index) * head.size + column);
                for v in 0..V {
                    let value = lanes.splat(*values.add(v));
                    for g in 0..G {
                        sums[v][g] = lanes.fma(value, weights[g], sums[v][g]);
                    }
                }
                index += 1;
            }
            for v in 0..V {
                for g in 0..G {
                    lanes.store(context.add(v * WIDTH + g * LANES), sums[v][g]);
                }
            }
            column += V;
        }
    }
}
