//! A layer by its formula, in 64-bit floats, with activations quantized where the kernels quantize them.

use quarry_kernels::{LayerWeights, Linear, Norm, Shape};

type Rows = Vec<Vec<f64>>;

/// The states after a layer, `[tokens, hidden]`.
pub(crate) fn layer(weights: &LayerWeights<'_>, shape: Shape, states: &[f32], lengths: &[usize]) -> Vec<f64> {
    let rows: Rows =
        states.chunks(shape.hidden).map(|row| row.iter().map(|value| f64::from(*value)).collect()).collect();
    let [query, key, value] = [&weights.query, &weights.key, &weights.value].map(|linear| product(&rows, linear));
    let mut context = vec![vec![0.0; shape.hidden]; rows.len()];
    let mut start = 0;
    for length in lengths {
        for head in 0..shape.heads {
            attend(
                &query,
                &key,
                &value,
                start..start + length,
                head * shape.head()..(head + 1) * shape.head(),
                &mut context,
            );
        }
        start += length;
    }
    let attended = normalized(&added(&product(&context, &weights.output), &rows), &weights.attention_norm);
    let inner: Rows =
        product(&attended, &weights.inner).into_iter().map(|row| row.into_iter().map(gelu).collect()).collect();
    normalized(&added(&product(&inner, &weights.outer), &attended), &weights.feed_forward_norm).concat()
}

fn attend(
    query: &Rows,
    key: &Rows,
    value: &Rows,
    tokens: std::ops::Range<usize>,
    head: std::ops::Range<usize>,
    context: &mut Rows,
) {
    let root = (head.len() as f64).sqrt();
    for token in tokens.clone() {
        let dot = |other: usize| head.clone().map(|place| query[token][place] * key[other][place]).sum::<f64>() / root;
        let scores: Vec<f64> = tokens.clone().map(dot).collect();
        let largest = scores.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        for place in head.clone() {
            let values = tokens.clone().zip(&weights).map(|(other, weight)| weight * value[other][place]);
            context[token][place] = values.sum::<f64>() / sum;
        }
    }
}

fn product(rows: &Rows, linear: &Linear<'_>) -> Rows {
    let of_row = |row: &Vec<f64>| {
        let largest = row.iter().fold(1e-6_f64, |largest, value| largest.max(value.abs()));
        let integers: Vec<i64> = row.iter().map(|value| (value * 127.0 / largest).round_ties_even() as i64).collect();
        let outputs = linear.weights.chunks(row.len()).zip(linear.scales).zip(linear.biases);
        let output = |((weights, scale), bias): ((&[i8], &f32), &f32)| {
            let sum: i64 = integers.iter().zip(weights).map(|(integer, weight)| integer * i64::from(*weight)).sum();
            sum as f64 * f64::from(*scale) * largest / 127.0 + f64::from(*bias)
        };
        outputs.map(output).collect()
    };
    rows.iter().map(of_row).collect()
}

fn added(rows: &Rows, others: &Rows) -> Rows {
    rows.iter().zip(others).map(|(row, other)| row.iter().zip(other).map(|(a, b)| a + b).collect()).collect()
}

fn normalized(rows: &Rows, norm: &Norm<'_>) -> Rows {
    let of_row = |row: &Vec<f64>| {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / row.len() as f64;
        let root = (variance + f64::from(norm.epsilon)).sqrt();
        let parameters = norm.scales.iter().zip(norm.shifts);
        row.iter()
            .zip(parameters)
            .map(|(value, (scale, shift))| (value - mean) / root * f64::from(*scale) + f64::from(*shift))
            .collect()
    };
    rows.iter().map(of_row).collect()
}

/// x/2 · (1 + erf(x / √2)), with the series of erf for small and its continued fraction for large magnitudes.
fn gelu(x: f64) -> f64 {
    let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if x.abs() < 3.0 {
        let terms = (1..100).scan(x, |term, n| {
            *term *= x * x / f64::from(2 * n + 1);
            Some(*term)
        });
        return x * (0.5 + density * (x + terms.sum::<f64>()));
    }
    let fraction = (1..100).rev().fold(x.abs(), |fraction, n| x.abs() + f64::from(n) / fraction);
    if x < 0.0 { x * density / fraction } else { x * (1.0 - density / fraction) }
}
