//! Guest exceptions: vectors, error codes and classes (SDM vol. 3, chapter 6).

/// An exception that an instruction raises, with all that its delivery needs.
///
/// It is a value inside the crate; what leaves [`crate::Cpu::run`] is an
/// [`crate::Exit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// `#DE`, vector 0: division by zero or quotient overflow.
    DivideError,
    /// `#DB`, vector 1, as a fault: an instruction breakpoint.
    DebugFault,
    /// `#DB`, vector 1, as a fault: a debug register was accessed with DR7.GD.
    GeneralDetect,
    /// `#DB`, vector 1, as a trap (single step, data breakpoint, task switch).
    DebugTrap,
    /// `#BP`, vector 3: INT3. A trap.
    Breakpoint,
    /// `#OF`, vector 4: INTO. A trap.
    Overflow,
    /// `#BR`, vector 5: BOUND.
    BoundRange,
    /// `#UD`, vector 6.
    InvalidOpcode,
    /// `#NM`, vector 7: x87, MMX or SSE with CR0.TS or CR0.EM.
    DeviceNotAvailable,
    /// `#DF`, vector 8. An abort; its error code is 0.
    DoubleFault,
    /// `#TS`, vector 10, with its error code.
    InvalidTss(u16),
    /// `#NP`, vector 11, with its error code.
    SegmentNotPresent(u16),
    /// `#SS`, vector 12, with its error code.
    StackFault(u16),
    /// `#GP`, vector 13, with its error code.
    GeneralProtection(u16),
    /// `#PF`, vector 14.
    PageFault {
        /// The linear address that goes to CR2.
        address: u32,
        /// P, W/R, U/S, RSVD and I/D bits (SDM vol. 3, 4.7).
        code: u16,
    },
    /// `#MF`, vector 16: pending x87 exception with CR0.NE.
    FloatingPoint,
    /// `#AC`, vector 17; its error code is 0.
    AlignmentCheck,
    /// `#XM`, vector 19: unmasked SSE exception with CR4.OSXMMEXCPT.
    SimdFloatingPoint,
}

/// How an exception relates to the instruction that raised it (SDM vol. 3, 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceptionClass {
    /// The saved EIP is the instruction's own; it can be restarted.
    Fault,
    /// The saved EIP is the next instruction's.
    Trap,
    /// The instruction cannot be restarted.
    Abort,
}

impl Exception {
    /// The interrupt vector.
    #[must_use]
    pub fn vector(self) -> u8 {
        match self {
            Self::DivideError => 0,
            Self::DebugFault | Self::GeneralDetect | Self::DebugTrap => 1,
            Self::Breakpoint => 3,
            Self::Overflow => 4,
            Self::BoundRange => 5,
            Self::InvalidOpcode => 6,
            Self::DeviceNotAvailable => 7,
            Self::DoubleFault => 8,
            Self::InvalidTss(_) => 10,
            Self::SegmentNotPresent(_) => 11,
            Self::StackFault(_) => 12,
            Self::GeneralProtection(_) => 13,
            Self::PageFault { .. } => 14,
            Self::FloatingPoint => 16,
            Self::AlignmentCheck => 17,
            Self::SimdFloatingPoint => 19,
        }
    }

    /// The error code that delivery pushes in protected mode, if the vector has one.
    #[must_use]
    pub fn error_code(self) -> Option<u16> {
        match self {
            Self::DoubleFault | Self::AlignmentCheck => Some(0),
            Self::InvalidTss(code)
            | Self::SegmentNotPresent(code)
            | Self::StackFault(code)
            | Self::GeneralProtection(code)
            | Self::PageFault { code, .. } => Some(code),
            _ => None,
        }
    }

    /// The value for CR2: only a page fault has one.
    #[must_use]
    pub fn cr2(self) -> Option<u32> {
        match self {
            Self::PageFault { address, .. } => Some(address),
            _ => None,
        }
    }

    /// Whether the saved EIP is that of the instruction or of the next one.
    #[must_use]
    pub fn class(self) -> ExceptionClass {
        match self {
            Self::DebugTrap | Self::Breakpoint | Self::Overflow => ExceptionClass::Trap,
            Self::DoubleFault => ExceptionClass::Abort,
            _ => ExceptionClass::Fault,
        }
    }
}
