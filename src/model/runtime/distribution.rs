//! The distributions of ONNX Runtime that the program can use. In: nothing. Out: their names, the pinned release, and the variable
//! that names another library. It must not look for, fetch or load a library.

/// The release of ONNX Runtime this version of the program was built and measured with.
pub const VERSION: &str = "1.31.0";

/// Names a library to use instead of the pinned one.
pub const LIBRARY_VARIABLE: &str = "QUARRY_ONNXRUNTIME";

/// A distribution of ONNX Runtime's library, named by the execution provider that it adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// The plain one, for the CPU.
    Cpu,
    /// The one with the OpenVINO provider, for CPUs that multiply tiles of bfloat16.
    OpenVino,
    /// The one with the CUDA provider.
    Cuda,
}

impl Distribution {
    /// What it has beside the plain one, for people: ` with CUDA`.
    pub const fn beside(self) -> &'static str {
        match self {
            Self::Cpu => "",
            Self::OpenVino => " with OpenVINO",
            Self::Cuda => " with CUDA",
        }
    }

    /// What ONNX Runtime calls the provider that it is for.
    pub const fn provider(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::OpenVino => "OpenVINOExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
        }
    }
}
