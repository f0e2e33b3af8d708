//! 2ˣ and gelu of vectors. In: sixteen floats. Out: sixteen floats, the same bits on every path. It must not know where they come from.

use crate::lanes::{LANES, Lanes};

/// Added to a float of magnitude below 2²², it leaves the nearest integer in the low bits.
const MAGIC: f32 = 12_582_912.0;

/// Coefficients of 2ᶠ for f in [-½, ½], lowest first, from interpolation at Chebyshev nodes. Largest relative error: 1.1e-7.
const POWER: [f32; 6] =
    [1.000_000_075, std::f32::consts::LN_2, 2.402_210_749e-01, 5.550_357_114e-02, 9.676_031_918e-03, 1.339_086_336e-03];

/// 2ˣ, for x up to 127. Below -126 it is 2⁻¹²⁶.
#[inline(always)]
pub(crate) fn power_of_two<L: Lanes>(lanes: L, x: L::Float) -> L::Float {
    let x = lanes.max(lanes.splat(-126.0), x);
    let magic = lanes.add(x, lanes.splat(MAGIC));
    let fraction = lanes.sub(x, lanes.sub(magic, lanes.splat(MAGIC)));
    let mut power = lanes.splat(POWER[5]);
    power = lanes.fma(power, fraction, lanes.splat(POWER[4]));
    power = lanes.fma(power, fraction, lanes.splat(POWER[3]));
    power = lanes.fma(power, fraction, lanes.splat(POWER[2]));
    power = lanes.fma(power, fraction, lanes.splat(POWER[1]));
    power = lanes.fma(power, fraction, lanes.splat(POWER[0]));
    lanes.scale_by_power(power, magic)
}

/// Where the tail of gelu ends: t · Q(t) is 1e-7 at 5.5, Q the upper tail of the normal distribution.
const END: f32 = 5.499_999;
/// Segments of the tail per unit.
const SEGMENTS: f32 = 8.0 / 5.5;

/// Coefficients of t · Q(t) in each of eight segments of [0, 5.5], lowest first, for the position in the segment, [-½, ½]. From
/// interpolation at Chebyshev nodes. Largest error: 3.7e-7.
const TAIL: [[f32; LANES]; 6] = [
    twice([
        1.256_461_986e-01,
        1.559_374_848e-01,
        7.361_410_293e-02,
        1.939_094_325e-02,
        3.057_276_044e-03,
        2.950_264_612e-04,
        1.758_305_731e-05,
        6.499_846_633e-07,
    ]),
    twice([
        1.624_208_262e-01,
        -6.223_599_999e-02,
        -7.818_127_796e-02,
        -3.095_463_086e-02,
        -6.404_757_514e-03,
        -7.612_125_385e-04,
        -5.378_964_049e-05,
        -2.297_193_524e-06,
    ]),
    twice([
        -1.672_198_621e-01,
        -5.190_439_269e-02,
        2.052_849_590e-02,
        1.976_683_203e-02,
        5.961_667_351e-03,
        9.104_247_517e-04,
        7.784_270_796e-05,
        3.875_437_906e-06,
    ]),
    twice([
        2.716_991_935e-02,
        3.844_269_414e-02,
        8.871_731_834e-03,
        -5.146_135_455e-03,
        -3.109_947_285e-03,
        -6.610_628_884e-04,
        -7.101_391_563e-05,
        -4.230_177_004e-06,
    ]),
    twice([
        1.090_655_034e-02,
        -4.803_045_751e-03,
        -6.647_367_309e-03,
        -6.947_480_224e-04,
        8.649_454_642e-04,
        3.222_386_120e-04,
        4.765_011_219e-05,
        3.619_692_749e-06,
    ]),
    twice([
        -2.692_042_714e-03,
        -2.271_819_853e-03,
        1.111_143_719e-03,
        8.256_438_892e-04,
        -4.830_889_023e-05,
        -9.847_639_052e-05,
        -2.133_651_811e-05,
        -2.036_362_542e-06,
    ]),
];

/// A table as [`Lanes::lookup`] reads it.
const fn twice(entries: [f32; 8]) -> [f32; LANES] {
    let mut table = [0.0; LANES];
    let mut index = 0;
    while index < LANES {
        table[index] = entries[index % 8];
        index += 1;
    }
    table
}

/// The exact gelu x · Φ(x) = max(x, 0) - t · Q(t), t = |x|.
#[inline(always)]
pub(crate) fn gelu<L: Lanes>(lanes: L, x: L::Float) -> L::Float {
    let distance = lanes.min(lanes.splat(END), lanes.abs(x));
    let position = lanes.fma(distance, lanes.splat(SEGMENTS), lanes.splat(-0.5));
    let magic = lanes.add(position, lanes.splat(MAGIC));
    let position = lanes.sub(position, lanes.sub(magic, lanes.splat(MAGIC)));
    let mut tail = lanes.lookup(&TAIL[5], magic);
    tail = lanes.fma(tail, position, lanes.lookup(&TAIL[4], magic));
    tail = lanes.fma(tail, position, lanes.lookup(&TAIL[3], magic));
    tail = lanes.fma(tail, position, lanes.lookup(&TAIL[2], magic));
    tail = lanes.fma(tail, position, lanes.lookup(&TAIL[1], magic));
    tail = lanes.fma(tail, position, lanes.lookup(&TAIL[0], magic));
    lanes.sub(lanes.max(lanes.splat(0.0), x), tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::{Kernels, Work, every_kernels};

    /// Applies both functions to every value.
    struct Apply<'a> {
        values: &'a [[f32; LANES]],
        powers: &'a mut Vec<f32>,
        gelus: &'a mut Vec<f32>,
    }

    impl Work for Apply<'_> {
        fn run<L: Lanes>(self, lanes: L) {
            let mut out = [0.0; LANES];
            for values in self.values {
                // SAFETY: the arrays hold a vector.
                unsafe {
                    lanes.store(out.as_mut_ptr(), power_of_two(lanes, lanes.load(values.as_ptr())));
                    self.powers.extend(out);
                    lanes.store(out.as_mut_ptr(), gelu(lanes, lanes.load(values.as_ptr())));
                    self.gelus.extend(out);
                }
            }
        }
    }

    fn apply(kernels: Kernels, values: &[[f32; LANES]]) -> (Vec<f32>, Vec<f32>) {
        let (mut powers, mut gelus) = (vec![], vec![]);
        kernels.run(Apply { values, powers: &mut powers, gelus: &mut gelus });
        (powers, gelus)
    }

    /// Values from -`end` to `end`.
    fn values(end: f32, vectors: usize) -> Vec<[f32; LANES]> {
        let step = 2.0 * end / (vectors * LANES) as f32;
        (0..vectors).map(|vector| std::array::from_fn(|lane| (vector * LANES + lane) as f32 * step - end)).collect()
    }

    /// The distribution function of the normal distribution: its series for small, its continued fraction for large magnitudes.
    pub(crate) fn normal(x: f64) -> f64 {
        let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        if x.abs() < 3.0 {
            let (mut term, mut sum) = (x, x);
            for n in 1..100 {
                term *= x * x / f64::from(2 * n + 1);
                sum += term;
            }
            return 0.5 + density * sum;
        }
        let mut fraction = x.abs();
        for n in (1..100).rev() {
            fraction = x.abs() + f64::from(n) / fraction;
        }
        if x < 0.0 { density / fraction } else { 1.0 - density / fraction }
    }

    #[test]
    fn functions_are_as_precise_as_they_say() {
        let vectors = if cfg!(miri) { 10 } else { 10_000 };
        for (name, kernels) in every_kernels(true) {
            let small = values(12.0, vectors);
            let (_, gelus) = apply(kernels, &small);
            for (x, y) in small.as_flattened().iter().zip(gelus) {
                let exact = f64::from(*x) * normal(f64::from(*x));
                // Large values are rounded to floats.
                let allowed = 5e-7 + exact.abs() * 6e-8;
                assert!((f64::from(y) - exact).abs() < allowed, "{name}: gelu({x}) is {y}, exactly {exact}");
            }
            let large = values(125.0, vectors);
            let (powers, _) = apply(kernels, &large);
            for (x, y) in large.as_flattened().iter().zip(powers) {
                let exact = f64::from(*x).exp2();
                assert!((f64::from(y) / exact - 1.0).abs() < 3e-7, "{name}: 2^{x} is {y}, exactly {exact}");
            }
        }
    }

    #[test]
    fn limits_are_kept_and_what_is_no_number_stays_none() {
        for (name, kernels) in every_kernels(true) {
            let mut special = [0.0; LANES];
            special[..5].copy_from_slice(&[f32::NAN, f32::NEG_INFINITY, f32::MIN, -1e4, 1e4]);
            let (powers, gelus) = apply(kernels, &[special]);
            assert!(powers[0].is_nan() && gelus[0].is_nan(), "{name}");
            assert!(powers[1..4].iter().all(|power| (0.0..1e-37).contains(power)), "{name}: {powers:?}");
            assert!(gelus[1..4].iter().all(|gelu| gelu.abs() < 5e-7), "{name}: {gelus:?}");
            assert_eq!(gelus[4].to_bits(), 1e4_f32.to_bits(), "{name}");
        }
    }
}
