//! The distributions of ONNX Runtime that the program can use. In: nothing. Out: their names, the pinned release, and the variable
//! that names another library. It must not look for, fetch or load a library.

/// The release of ONNX Runtime this version of the program was built and measured with.
pub const VERSION: &str = "1.31.0";

/// Names a library to use instead of the pinned one.
pub const LIBRARY_VARIABLE: &str = "QUARRY_ONNXRUNTIME";

/// A distribution of ONNX Runtime's library, named by the execution provider that it adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// For the CPU, without another provider.
    Cpu,
    /// With the OpenVINO provider, for CPUs with bfloat16 matrix tiles (AMX).
    OpenVino,
    /// With the CUDA provider.
    Cuda,
}

impl Distribution {
    /// Its additional provider, for people: ` with CUDA`.
    pub const fn beside(self) -> &'static str {
        match self {
            Self::Cpu => "",
            Self::OpenVino => " with OpenVINO",
            Self::Cuda => " with CUDA",
        }
    }

    /// ONNX Runtime's name of its provider.
    pub const fn provider(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::OpenVino => "OpenVINOExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
        }
    }
}
