//! The blocks that descriptions of encoders and heads consist of: linear layers, pairs of them, normalizations, tables. In: names and sizes. Out:
//! the names and shapes of their tensors. It must not hold values.

/// A linear layer x Wᵀ + b, with the tensors `NAME.weight` `[outputs, inputs]` and, if it has b, `NAME.bias` `[outputs]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linear {
    /// Its name in a checkpoint.
    pub name: String,
    /// Width of its input.
    pub inputs: usize,
    /// Width of its output.
    pub outputs: usize,
    /// Whether it has b.
    pub has_bias: bool,
}

impl Linear {
    /// A linear layer from `inputs` values to `outputs`.
    pub fn new(name: impl Into<String>, inputs: usize, outputs: usize) -> Self {
        Self { name: name.into(), inputs, outputs, has_bias: true }
    }

    /// The name of W.
    pub fn weight(&self) -> String {
        format!("{}.weight", self.name)
    }

    /// The name of b.
    pub fn bias(&self) -> String {
        format!("{}.bias", self.name)
    }

    /// Names and shapes of its tensors.
    pub fn shapes(&self) -> impl Iterator<Item = (String, Vec<usize>)> + use<> {
        let bias = self.has_bias.then(|| (self.bias(), vec![self.outputs]));
        [(self.weight(), vec![self.outputs, self.inputs])].into_iter().chain(bias)
    }
}

/// Two layers with an activation between them: outer(activation(inner(x))).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedForward {
    /// From the input to the width between the layers.
    pub inner: Linear,
    /// From there to the output.
    pub outer: Linear,
}

/// A layer normalization with the tensors `NAME.weight` `[width]`, its scale, and, if it has one, `NAME.bias` `[width]`, its shift.
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    /// Its name in a checkpoint.
    pub name: String,
    /// Width of its input.
    pub width: usize,
    /// Added to the variance.
    pub epsilon: f32,
    /// Whether it has a shift.
    pub has_bias: bool,
}

impl Norm {
    /// The name of the scale.
    pub fn weight(&self) -> String {
        format!("{}.weight", self.name)
    }

    /// The name of the shift.
    pub fn bias(&self) -> String {
        format!("{}.bias", self.name)
    }

    /// Names and shapes of its tensors.
    pub fn shapes(&self) -> impl Iterator<Item = (String, Vec<usize>)> + use<> {
        let (width, bias) = (self.width, self.has_bias.then(|| self.bias()));
        [self.weight()].into_iter().chain(bias).map(move |name| (name, vec![width]))
    }
}

/// A table with a vector for each id: one tensor `[rows, columns]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The tensor's name in a checkpoint.
    pub name: String,
    /// The number of ids.
    pub rows: usize,
    /// Width of a vector.
    pub columns: usize,
}

impl Table {
    /// Name and shape of its tensor.
    pub fn shape(&self) -> (String, Vec<usize>) {
        (self.name.clone(), vec![self.rows, self.columns])
    }
}
