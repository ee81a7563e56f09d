//! The CPU models: what CPUID shows and which instructions exist.

/// Names a set of features. CPUID reports exactly what is implemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuModel {
    /// A Pentium with CMOV: x87, no TSC in CPUID (RDTSC executes all the same).
    Fuzz,
    /// The same with FXSAVE, MMX, SSE and SSE2.
    Sse,
}

impl CpuModel {
    /// Family, model and stepping as CPUID leaf 1 and EDX after reset show
    /// them: family 5 for [`Self::Fuzz`], 6 for [`Self::Sse`].
    #[must_use]
    pub fn signature(self) -> u32 {
        match self {
            Self::Fuzz => 0x0543,
            Self::Sse => 0x0683,
        }
    }

    /// Whether MMX, SSE, SSE2 and FXSAVE exist.
    #[must_use]
    pub fn has_sse(self) -> bool {
        self == Self::Sse
    }
}
