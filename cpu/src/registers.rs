//! Names of bits in control and debug registers, and the model-specific
//! registers that exist.

/// Numbers of the general registers.
pub mod gpr {
    /// Accumulator.
    pub const EAX: usize = 0;
    /// Counter.
    pub const ECX: usize = 1;
    /// Data.
    pub const EDX: usize = 2;
    /// Base.
    pub const EBX: usize = 3;
    /// Stack pointer.
    pub const ESP: usize = 4;
    /// Frame pointer.
    pub const EBP: usize = 5;
    /// Source index.
    pub const ESI: usize = 6;
    /// Destination index.
    pub const EDI: usize = 7;
}

/// Bits of CR0.
pub mod cr0 {
    /// Protected mode.
    pub const PE: u32 = 1;
    /// WAIT checks TS.
    pub const MP: u32 = 1 << 1;
    /// No x87: ESC raises #NM.
    pub const EM: u32 = 1 << 2;
    /// Task switched: ESC raises #NM.
    pub const TS: u32 = 1 << 3;
    /// Always one.
    pub const ET: u32 = 1 << 4;
    /// x87 errors raise #MF.
    pub const NE: u32 = 1 << 5;
    /// Supervisor writes respect read-only pages.
    pub const WP: u32 = 1 << 16;
    /// Alignment checks are possible.
    pub const AM: u32 = 1 << 18;
    /// Not write-through (no effect).
    pub const NW: u32 = 1 << 29;
    /// Cache disable (no effect).
    pub const CD: u32 = 1 << 30;
    /// Paging.
    pub const PG: u32 = 1 << 31;
}

/// Bits of CR4.
pub mod cr4 {
    /// Virtual-8086 extensions.
    pub const VME: u32 = 1;
    /// Protected-mode virtual interrupts.
    pub const PVI: u32 = 1 << 1;
    /// RDTSC only at CPL 0.
    pub const TSD: u32 = 1 << 2;
    /// Debugging extensions.
    pub const DE: u32 = 1 << 3;
    /// 4 MiB pages.
    pub const PSE: u32 = 1 << 4;
    /// Physical address extension.
    pub const PAE: u32 = 1 << 5;
    /// Global pages.
    pub const PGE: u32 = 1 << 7;
    /// RDPMC at any CPL.
    pub const PCE: u32 = 1 << 8;
    /// FXSAVE and FXRSTOR save SSE state; SSE is enabled.
    pub const OSFXSR: u32 = 1 << 9;
    /// SSE exceptions raise #XM.
    pub const OSXMMEXCPT: u32 = 1 << 10;
}

/// Bits of DR6 and DR7.
pub mod dr {
    /// DR6: single step.
    pub const BS: u32 = 1 << 14;
    /// DR6: task switch.
    pub const BT: u32 = 1 << 15;
    /// DR6: access to a debug register under DR7.GD.
    pub const BD: u32 = 1 << 13;
    /// DR6 bits that read as one.
    pub const DR6_ONES: u32 = 0xffff_0ff0;
    /// DR7 bit that reads as one.
    pub const DR7_ONES: u32 = 1 << 10;
    /// DR7: general detect.
    pub const GD: u32 = 1 << 13;
    /// DR7: L0 to L3 and LE, which a task switch clears.
    pub const LOCAL_ENABLES: u32 = 0x155;
    /// DR7: any of the local or global enables.
    pub const ENABLES: u32 = 0xff;
}

/// The model-specific registers with state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Msrs {
    /// Added to the count of retired instructions to give the time stamp.
    pub tsc_offset: u64,
    /// EFER; only NXE exists (bit 11).
    pub efer: u32,
    /// IA32_SYSENTER_CS.
    pub sysenter_cs: u32,
    /// IA32_SYSENTER_ESP.
    pub sysenter_esp: u32,
    /// IA32_SYSENTER_EIP.
    pub sysenter_eip: u32,
    /// IA32_PAT, kept but without effect.
    pub pat: u64,
}

/// EFER.NXE: bit 63 of PAE page-table entries forbids execution.
pub const EFER_NXE: u32 = 1 << 11;
