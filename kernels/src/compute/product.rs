//! The product of quantized rows with packed weights. In: rows of unsigned bytes `[rows, inputs]` with a scale each, weights `[outputs,
//! inputs]` packed once. Out: dequantized sums with their bias, handed to an [`Epilogue`] while they are in registers. It must not know
//! what becomes of them.
//!
//! Weights lie in panels of `PANEL` columns (outputs). Per panel and four inputs: 4 weights of column 0, 4 of column 1, and so on. A
//! panel is multiplied with all rows before the next one, so it stays in the first cache (384 inputs × 32 columns: 12 KiB) and is read
//! once from the others.
//!
//! A byte is an activation plus 128, so a sum is too large by 128 times the sum of its column's weights. Sums start at minus that.

use crate::lanes::{LANES, Lanes};
use crate::memory::Buffer;

/// The rows of every tile divide this. Rows that a product reads or writes are allocated up to a multiple of it.
pub(crate) const ROWS: usize = 12;
/// Inputs are padded to a multiple of this.
pub(crate) const INPUTS: usize = 4 * LANES;

/// The weights of an output: `[inputs]`, their scale and the bias.
pub(crate) struct Column<'a> {
    pub(crate) weights: &'a [i8],
    pub(crate) scale: f32,
    pub(crate) bias: f32,
}

/// Sizes of a product with padding.
#[derive(Clone, Copy)]
pub(crate) struct Padded {
    /// A multiple of [`INPUTS`].
    pub(crate) inputs: usize,
    /// Outputs, a multiple of the panel.
    pub(crate) columns: usize,
}

impl Padded {
    pub(crate) fn new(panel: usize, columns: usize, inputs: usize) -> Self {
        Self { inputs: inputs.next_multiple_of(INPUTS), columns: columns.next_multiple_of(panel) }
    }

    /// Bytes of the weights.
    pub(crate) fn bytes(self) -> usize {
        self.inputs * self.columns
    }
}

/// What the product reads beside the weights.
pub(crate) struct Packed {
    pub(crate) padded: Padded,
    /// Where the weights start in the layer's buffer.
    start: usize,
    corrections: Buffer<i32>,
    scales: Buffer<f32>,
    biases: Buffer<f32>,
}

impl Packed {
    /// Packs the columns that `column` gives into `weights` from `start` on; where it gives none, the output is 0. `input` says which input
    /// of a column each input is, or none for padding.
    pub(crate) fn new<'a>(
        panel: usize,
        padded: Padded,
        column: impl Fn(usize) -> Option<Column<'a>>,
        input: impl Fn(usize) -> Option<usize>,
        weights: &mut [i8],
        start: usize,
    ) -> Self {
        let Padded { inputs, columns } = padded;
        let zeros = || Buffer::new(columns);
        let mut packed = Self { padded, start, corrections: Buffer::new(columns), scales: zeros(), biases: zeros() };
        for (index, source) in (0..columns).filter_map(|index| Some((index, column(index)?))) {
            let first = start + index / panel * panel * inputs + index % panel * 4;
            let mut sum = 0;
            for (to, from) in (0..inputs).filter_map(|to| Some((to, input(to)?))) {
                let weight = source.weights[from];
                weights[first + to / 4 * panel * 4 + to % 4] = weight;
                sum += i32::from(weight);
            }
            packed.corrections.as_mut_slice()[index] = -128 * sum;
            packed.scales.as_mut_slice()[index] = source.scale;
            packed.biases.as_mut_slice()[index] = source.bias;
        }
        packed
    }
}

/// Both factors of a product.
pub(crate) struct Factors<'a> {
    pub(crate) packed: &'a Packed,
    /// The layer's buffer, which `packed` was packed into.
    pub(crate) weights: &'a Buffer<i8>,
    /// `[count, inputs]`, readable up to a multiple of [`ROWS`].
    pub(crate) rows: *const u8,
    /// `[count]`, readable as the rows are.
    pub(crate) scales: *const f32,
    pub(crate) count: usize,
}

/// What becomes of sixteen outputs of a row.
pub(crate) trait Epilogue {
    /// What it knows of sixteen outputs for all rows of a tile.
    type Place: Copy;
    unsafe fn place(&self, column: usize) -> Self::Place;
    unsafe fn write<L: Lanes>(&mut self, lanes: L, place: Self::Place, row: usize, value: L::Float);
}

/// Multiplies, in tiles of `R` or `H` rows and `C` vectors of columns.
///
/// # Safety
///
/// The pointers of `factors` are valid as it says, and the epilogue accepts every row and column.
#[inline(always)]
pub(crate) unsafe fn multiply<L: Lanes, E: Epilogue, const R: usize, const H: usize, const C: usize>(
    lanes: L,
    factors: &Factors<'_>,
    epilogue: &mut E,
) {
    const { assert!(ROWS.is_multiple_of(R) && R.is_multiple_of(H) && L::PANEL == C * LANES) };
    let Padded { inputs, columns } = factors.packed.padded;
    // SAFETY: a panel's weights, corrections, scales and biases lie within their buffers; rows as the caller promises.
    unsafe {
        let mut weights = factors.weights.as_ptr().add(factors.packed.start);
        let mut column = 0;
        while column < columns {
            let next = weights.add(inputs * C * LANES);
            let mut fetched = next;
            let end = next.wrapping_add(inputs * C * LANES);
            let mut row = 0;
            while row < factors.count {
                let left = factors.count - row;
                let rows = factors.rows.add(row * inputs);
                let (next, ahead) = if fetched < end { (fetched, 64) } else { (weights, 0) };
                let panel = Panel { weights, column, next, ahead };
                if left > H {
                    let sums = tile::<L, R, C>(lanes, factors.packed, rows, panel);
                    if left >= R {
                        emit::<L, E, R, C, true>(lanes, factors, epilogue, row, column, &sums);
                    } else {
                        emit::<L, E, R, C, false>(lanes, factors, epilogue, row, column, &sums);
                    }
                    row += R;
                } else {
                    let sums = tile::<L, H, C>(lanes, factors.packed, rows, panel);
                    emit::<L, E, H, C, false>(lanes, factors, epilogue, row, column, &sums);
                    row += H;
                }
                fetched = fetched.wrapping_add(inputs / 4 * 64);
            }
            weights = next;
            column += C * LANES;
        }
    }
}

/// Dequantizes a tile, adds the bias and hands the outputs to the epilogue. `WHOLE`: all rows of the tile exist.
#[inline(always)]
unsafe fn emit<L: Lanes, E: Epilogue, const R: usize, const C: usize, const WHOLE: bool>(
    lanes: L,
    factors: &Factors<'_>,
    epilogue: &mut E,
    row: usize,
    column: usize,
    sums: &[[L::Int; C]; R],
) {
    // SAFETY: as the caller of `multiply` promises.
    unsafe {
        for c in 0..C {
            let place = epilogue.place(column + c * LANES);
            let column_scale = lanes.load(factors.packed.scales.as_ptr().add(column + c * LANES));
            let bias = lanes.load(factors.packed.biases.as_ptr().add(column + c * LANES));
            for r in 0..R {
                if WHOLE || row + r < factors.count {
                    let row_scale = lanes.splat(*factors.scales.add(row + r));
                    let scaled = lanes.mul(lanes.to_floats(sums[r][c]), column_scale);
                    epilogue.write(lanes, place, row + r, lanes.fma(scaled, row_scale, bias));
                }
            }
        }
    }
}

/// A panel of weights.
#[derive(Clone, Copy)]
struct Panel {
    weights: *const i8,
    /// Its first column.
    column: usize,
    /// What to fetch meanwhile: `ahead` bytes with each step.
    next: *const i8,
    ahead: usize,
}

/// The integer sums of `R` rows and `C` vectors of columns.
#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize, const C: usize>(
    lanes: L,
    packed: &Packed,
    rows: *const u8,
    panel: Panel,
) -> [[L::Int; C]; R] {
    let inputs = packed.padded.inputs;
    // SAFETY: the caller has R rows of `inputs` activations and a panel of as many inputs.
    unsafe {
        let corrections = packed.corrections.as_ptr().add(panel.column);
        let mut first = [lanes.load_ints(corrections); C];
        for c in 1..C {
            first[c] = lanes.load_ints(corrections.add(c * LANES));
        }
        let mut sums = [first; R];
        let mut next = panel.next;
        let mut input = 0;
        while input < inputs {
            let step = panel.weights.add(input * C * LANES);
            let mut columns = [lanes.load_weights(step); C];
            for c in 1..C {
                columns[c] = lanes.load_weights(step.add(c * 4 * LANES));
            }
            lanes.prefetch(next);
            next = next.wrapping_add(panel.ahead);
            for r in 0..R {
                let quad = lanes.load_quad(rows.add(r * inputs + input));
                for c in 0..C {
                    sums[r][c] = lanes.dot(sums[r][c], quad, columns[c]);
                }
            }
            input += 4;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lanes::{Kernels, Work, every_kernels};

    /// Keeps every output.
    struct Keep<'a> {
        outputs: &'a mut [f32],
        columns: usize,
    }

    impl Epilogue for Keep<'_> {
        type Place = usize;
        unsafe fn place(&self, column: usize) -> usize {
            column
        }
        unsafe fn write<L: Lanes>(&mut self, lanes: L, column: usize, row: usize, value: L::Float) {
            let place = &mut self.outputs[row * self.columns + column..][..LANES];
            // SAFETY: the slice holds a vector.
            unsafe { lanes.store(place.as_mut_ptr(), value) }
        }
    }

    struct Multiply<'a> {
        factors: Factors<'a>,
        outputs: &'a mut [f32],
    }

    impl Work for Multiply<'_> {
        fn run<L: Lanes>(self, lanes: L) {
            let mut epilogue = Keep { outputs: self.outputs, columns: self.factors.packed.padded.columns };
            // SAFETY: `outputs_of` allocates as much as `Factors` asks for.
            unsafe { lanes.multiply(&self.factors, &mut epilogue) }
        }
    }

    /// Outputs `[rows, outputs]` with all scales 1 and biases 0, from activations `[rows, inputs]` and weights `[outputs, inputs]`.
    fn outputs_of(kernels: Kernels, activations: &[u8], weights: &[i8], inputs: usize) -> Vec<f32> {
        let (count, outputs) = (activations.len() / inputs, weights.len() / inputs);
        let column = |place: usize| {
            let weights = weights.get(place * inputs..(place + 1) * inputs)?;
            Some(Column { weights, scale: 1.0, bias: 0.0 })
        };
        let padded = Padded::new(kernels.panel(), outputs, inputs);
        let mut buffer = Buffer::new(padded.bytes());
        let input = |place: usize| (place < inputs).then_some(place);
        let packed = Packed::new(kernels.panel(), padded, column, input, buffer.as_mut_slice(), 0);
        let mut rows = Buffer::new(count.next_multiple_of(ROWS) * padded.inputs);
        for (to, from) in rows.as_mut_slice().chunks_mut(padded.inputs).zip(activations.chunks(inputs)) {
            to[..inputs].copy_from_slice(from);
            to[inputs..padded.inputs].fill(128);
        }
        let mut scales = Buffer::new(count.next_multiple_of(ROWS));
        scales.as_mut_slice().fill(1.0);
        let mut all = vec![f32::NAN; count * padded.columns];
        let factors =
            Factors { packed: &packed, weights: &buffer, rows: rows.as_ptr(), scales: scales.as_ptr(), count };
        kernels.run(Multiply { factors, outputs: &mut all });
        all.chunks(padded.columns).flat_map(|row| &row[..outputs]).copied().collect()
    }

    fn expected(activations: &[u8], weights: &[i8], inputs: usize) -> Vec<f32> {
        let sum = |row: &[u8], weights: &[i8]| -> i64 {
            row.iter().zip(weights).map(|(a, w)| (i64::from(*a) - 128) * i64::from(*w)).sum()
        };
        let sums =
            activations.chunks(inputs).flat_map(|row| weights.chunks(inputs).map(move |weights| sum(row, weights)));
        sums.map(|sum| sum as f32).collect()
    }

    #[test]
    fn sums_of_extreme_values_are_exact() {
        for inputs in if cfg!(miri) { vec![1, 5] } else { vec![1, 64, 1536] } {
            for (activation, weight) in [(255, 127), (255, -128), (0, 127), (0, -128), (128, -128)] {
                let (rows, outputs) = if cfg!(miri) { (5, 17) } else { (13, 33) };
                let (activations, weights) = (vec![activation; rows * inputs], vec![weight; outputs * inputs]);
                for (name, kernels) in every_kernels(false) {
                    let outputs = outputs_of(kernels, &activations, &weights, inputs);
                    assert_eq!(
                        outputs,
                        expected(&activations, &weights, inputs),
                        "{name}, {inputs} x {activation} x {weight}"
                    );
                }
            }
        }
    }

    #[test]
    fn pairs_that_fit_are_exact_with_16_bit_sums() {
        let inputs = 64;
        let weights: Vec<i8> =
            (0..32 * inputs).map(|index| if index % 2 == 0 { 64 } else { [64, -128][index / 2 % 2] }).collect();
        for activation in [0, 1, 128, 255] {
            let activations = vec![activation; if cfg!(miri) { 1 } else { 12 } * inputs];
            for (name, kernels) in every_kernels(true) {
                let outputs = outputs_of(kernels, &activations, &weights, inputs);
                assert_eq!(outputs, expected(&activations, &weights, inputs), "{name}, activations {activation}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 3 } else { 100 }, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn sums_equal_those_of_wide_integers(
            rows in 0_usize..if cfg!(miri) { 6 } else { 30 },
            inputs in 1_usize..70,
            outputs in 1_usize..if cfg!(miri) { 18 } else { 70 },
            seed: u64,
        ) {
            let mut state = seed | 1;
            let mut byte = || { state ^= state << 13; state ^= state >> 7; state ^= state << 17; (state >> 32) as u8 };
            let activations: Vec<u8> = (0..rows * inputs).map(|_| byte()).collect();
            let weights: Vec<i8> = (0..outputs * inputs).map(|_| byte().cast_signed()).collect();
            for (name, kernels) in every_kernels(false) {
                let found = outputs_of(kernels, &activations, &weights, inputs);
                prop_assert_eq!(found, expected(&activations, &weights, inputs), "{}", name);
            }
        }
    }
}
