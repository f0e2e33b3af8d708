//! Arrays with a name and a shape. In: values. Out: the inputs and outputs of a graph, and what a graph declares. It must not know a
//! runtime.

use std::borrow::Cow;

/// The values of a tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// float32.
    F32(Vec<f32>),
    /// int64.
    I64(Vec<i64>),
    /// bool.
    Bool(Vec<bool>),
}

/// An array of any rank; a scalar has an empty shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The length of each dimension.
    pub shape: Vec<usize>,
    /// As many values as the product of the shape.
    pub values: Values,
}

/// Tensors by the names of a graph's inputs or outputs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tensors(Vec<(Cow<'static, str>, Tensor)>);

impl Tensors {
    /// Adds a tensor.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, shape: &[usize], values: Values) -> Self {
        self.0.push((name.into(), Tensor { shape: shape.to_vec(), values }));
        self
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, tensor)| tensor)
    }

    /// Removes and returns the tensor of this name.
    pub fn take(&mut self, name: &str) -> Option<Tensor> {
        let place = self.0.iter().position(|(own, _)| own == name)?;
        Some(self.0.swap_remove(place).1)
    }
}

/// An output that a graph declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSignature {
    /// Its name.
    pub name: String,
    /// The number of its dimensions.
    pub rank: usize,
    /// Whether its elements are int64.
    pub is_i64: bool,
    /// Its type as the runtime writes it, for messages.
    pub declared: String,
}

/// What a graph declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GraphSignature {
    /// The names of its inputs.
    pub inputs: Vec<String>,
    /// Its outputs.
    pub outputs: Vec<OutputSignature>,
}

impl GraphSignature {
    /// The output of this name.
    pub fn output(&self, name: &str) -> Option<&OutputSignature> {
        self.outputs.iter().find(|output| output.name == name)
    }
}

/// Why a graph is not one of the kind that it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// What differs.
    pub reason: String,
    /// What a graph of the kind has.
    pub hint: &'static str,
}
