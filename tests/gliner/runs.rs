//! Whole commands with a model of the GLiNER family.
