//! The fixed little-endian byte form of [`CpuState`].

use super::{CpuState, PendingIo, TlbEntry, most_entries, position};
use crate::io::Waiting;
use crate::model::CpuModel;
use crate::registers::Msrs;
use crate::segment::{DescriptorTable, Segment};
use crate::state::Shadow;
use crate::tlb::Side;

/// "LFC1": the format's name and version.
const MAGIC: u32 = 0x3143_464c;

/// Why bytes are not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// The bytes end too early.
    Truncated,
    /// There are bytes after the end.
    TooLong,
    /// The bytes do not start with this version's magic number.
    Magic(u32),
    /// A field has a value that no state has.
    Field(&'static str, u64),
}

impl std::fmt::Display for StateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncated => write!(f, "CPU state: the bytes end too early"),
            Self::TooLong => write!(f, "CPU state: bytes follow after the end"),
            Self::Magic(found) => {
                write!(f, "CPU state: magic number {found:#x}, expected {MAGIC:#x}")
            }
            Self::Field(name, value) => write!(f, "CPU state: field {name} is {value:#x}"),
        }
    }
}

impl std::error::Error for StateError {}

impl CpuState {
    /// The state as bytes: fixed layout, little-endian, the TLB at the end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(2048));
        out.u32(MAGIC);
        out.u8(u8::from(self.model == CpuModel::Sse));
        self.gpr.iter().for_each(|&reg| out.u32(reg));
        out.u32(self.eip);
        out.u32(self.eflags);
        out.u8(self.cpl);
        self.segments
            .iter()
            .for_each(|segment| out.segment(segment));
        out.segment(&self.ldtr);
        out.segment(&self.tr);
        out.table(&self.gdtr);
        out.table(&self.idtr);
        [self.cr0, self.cr2, self.cr3, self.cr4]
            .iter()
            .for_each(|&reg| out.u32(reg));
        self.dr.iter().for_each(|&reg| out.u32(reg));
        out.msrs(&self.msrs);
        self.pdpte.iter().for_each(|&entry| out.u64(entry));
        out.u64(self.retired);
        out.u8(u8::from(self.halted));
        out.u8(match self.shadow {
            Shadow::None => 0,
            Shadow::Sti => 1,
            Shadow::MovSs => 2,
        });
        out.u32(self.debug_hits);
        out.u8(u8::from(self.interrupt_line));
        out.u32(
            self.pending_vector
                .map_or(0, |vector| 0x100 | u32::from(vector)),
        );
        out.pending(&self.pending_io);
        out.fpu(&self.fpu);
        out.simd(&self.simd);
        out.len(self.tlb.len());
        for entry in &self.tlb {
            out.u8(u8::from(entry.code));
            out.u32(entry.page);
            out.u32(entry.frame);
            out.u32(entry.permissions);
        }
        out.0
    }

    /// Reads what [`Self::to_bytes`] wrote. Total: any bytes give a state that
    /// can be restored, or an error.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let mut input = Reader(bytes);
        let magic = input.u32()?;
        if magic != MAGIC {
            return Err(StateError::Magic(magic));
        }
        let state = Self {
            model: if input.flag("model")? {
                CpuModel::Sse
            } else {
                CpuModel::Fuzz
            },
            gpr: input.words()?,
            eip: input.u32()?,
            eflags: input.u32()?,
            cpl: input.at_most("cpl", 3)?,
            segments: input.segments()?,
            ldtr: input.segment()?,
            tr: input.segment()?,
            gdtr: input.table()?,
            idtr: input.table()?,
            cr0: input.u32()?,
            cr2: input.u32()?,
            cr3: input.u32()?,
            cr4: input.u32()?,
            dr: input.words()?,
            msrs: input.msrs()?,
            pdpte: [input.u64()?, input.u64()?, input.u64()?, input.u64()?],
            retired: input.u64()?,
            halted: input.flag("halted")?,
            shadow: match input.at_most("shadow", 2)? {
                0 => Shadow::None,
                1 => Shadow::Sti,
                _ => Shadow::MovSs,
            },
            debug_hits: input.u32()?,
            interrupt_line: input.flag("interrupt_line")?,
            pending_vector: input.vector()?,
            pending_io: input.pending()?,
            fpu: input.fpu()?,
            simd: input.simd()?,
            tlb: input.tlb()?,
        };
        if input.0.is_empty() {
            Ok(state)
        } else {
            Err(StateError::TooLong)
        }
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    #[allow(clippy::cast_possible_truncation)] // lists of a few thousand
    fn len(&mut self, value: usize) {
        self.u32(value as u32);
    }
    fn segment(&mut self, segment: &Segment) {
        self.u16(segment.selector);
        self.u16(segment.attributes);
        self.u32(segment.base);
        self.u32(segment.limit);
    }
    fn table(&mut self, table: &DescriptorTable) {
        self.u32(table.base);
        self.u16(table.limit);
    }
    fn msrs(&mut self, msrs: &Msrs) {
        self.u64(msrs.tsc_offset);
        self.u32(msrs.efer);
        self.u32(msrs.sysenter_cs);
        self.u32(msrs.sysenter_esp);
        self.u32(msrs.sysenter_eip);
        self.u64(msrs.pat);
    }
    fn pending(&mut self, pending: &PendingIo) {
        self.u8(match pending.waiting {
            Waiting::Nothing => 0,
            Waiting::Value(size) => size,
            Waiting::Written => 8,
        });
        self.len(pending.answers.len());
        pending.answers.iter().for_each(|&answer| self.u32(answer));
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(StateError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }
    fn u8(&mut self) -> Result<u8, StateError> {
        Ok(u8::from_le_bytes(self.array()?))
    }
    fn u16(&mut self) -> Result<u16, StateError> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    fn u32(&mut self) -> Result<u32, StateError> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    fn u64(&mut self) -> Result<u64, StateError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    fn words(&mut self) -> Result<[u32; 8], StateError> {
        let mut words = [0; 8];
        for word in &mut words {
            *word = self.u32()?;
        }
        Ok(words)
    }
    fn at_most(&mut self, name: &'static str, most: u8) -> Result<u8, StateError> {
        let value = self.u8()?;
        if value > most {
            Err(StateError::Field(name, value.into()))
        } else {
            Ok(value)
        }
    }
    fn flag(&mut self, name: &'static str) -> Result<bool, StateError> {
        Ok(self.at_most(name, 1)? == 1)
    }
    fn segment(&mut self) -> Result<Segment, StateError> {
        Ok(Segment {
            selector: self.u16()?,
            attributes: self.u16()?,
            base: self.u32()?,
            limit: self.u32()?,
        })
    }
    fn segments(&mut self) -> Result<[Segment; 6], StateError> {
        let mut segments = [Segment::null(0); 6];
        for segment in &mut segments {
            *segment = self.segment()?;
        }
        Ok(segments)
    }
    fn table(&mut self) -> Result<DescriptorTable, StateError> {
        Ok(DescriptorTable {
            base: self.u32()?,
            limit: self.u16()?,
        })
    }
    fn msrs(&mut self) -> Result<Msrs, StateError> {
        Ok(Msrs {
            tsc_offset: self.u64()?,
            efer: self.u32()?,
            sysenter_cs: self.u32()?,
            sysenter_esp: self.u32()?,
            sysenter_eip: self.u32()?,
            pat: self.u64()?,
        })
    }
    #[allow(clippy::cast_possible_truncation)] // checked
    fn vector(&mut self) -> Result<Option<u8>, StateError> {
        match self.u32()? {
            0 => Ok(None),
            value @ 0x100..=0x1ff => Ok(Some(value as u8)),
            value => Err(StateError::Field("pending_vector", value.into())),
        }
    }
    fn pending(&mut self) -> Result<PendingIo, StateError> {
        let waiting = match self.u8()? {
            0 => Waiting::Nothing,
            size @ (1 | 2 | 4) => Waiting::Value(size),
            8 => Waiting::Written,
            value => return Err(StateError::Field("pending_io", value.into())),
        };
        let len = self.u32()?;
        let mut answers = Vec::new();
        for _ in 0..len {
            answers.push(self.u32()?);
        }
        Ok(PendingIo { answers, waiting })
    }
    fn tlb(&mut self) -> Result<Vec<TlbEntry>, StateError> {
        let len = self.u32()?;
        if len as usize > most_entries(Side::Data) + most_entries(Side::Code) {
            return Err(StateError::Field("tlb", len.into()));
        }
        let mut entries: Vec<TlbEntry> = Vec::with_capacity(len as usize);
        for _ in 0..len {
            let entry = TlbEntry {
                code: self.flag("tlb side")?,
                page: self.u32()?,
                frame: self.u32()?,
                permissions: self.u32()?,
            };
            let ordered = entries.last().is_none_or(|before| {
                (before.code, position(before)) < (entry.code, position(&entry))
            });
            if entry.page & 0xfff != 0 || !ordered {
                return Err(StateError::Field("tlb page", entry.page.into()));
            }
            if entry.frame >= 1 << 24 {
                return Err(StateError::Field("tlb frame", entry.frame.into()));
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// The floating-point parts.
mod float {
    use super::{Reader, StateError, Writer};
    use crate::simd::SimdState;
    use crate::x87::{F80, Fpu, Pointers};

    impl Writer {
        fn bytes(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }

        pub(super) fn fpu(&mut self, fpu: &Fpu) {
            let pointers = fpu.pointers();
            self.u16(fpu.control_word());
            self.u16(fpu.status_word());
            self.u8(fpu.abridged_tags());
            self.u16(pointers.opcode);
            self.u32(pointers.instruction);
            self.u16(pointers.code_selector);
            self.u32(pointers.data);
            self.u16(pointers.data_selector);
            (0..8).for_each(|n| self.bytes(&fpu.st(n).to_bytes()));
        }

        pub(super) fn simd(&mut self, simd: &SimdState) {
            simd.xmm
                .iter()
                .for_each(|xmm| self.bytes(&xmm.to_le_bytes()));
            self.u32(simd.mxcsr);
        }
    }

    impl Reader<'_> {
        pub(super) fn fpu(&mut self) -> Result<Fpu, StateError> {
            let mut fpu = Fpu::default();
            fpu.set_control_word(self.u16()?);
            fpu.set_status_word(self.u16()?);
            fpu.set_abridged_tags(self.u8()?);
            fpu.set_pointers(Pointers {
                opcode: self.u16()?,
                instruction: self.u32()?,
                code_selector: self.u16()?,
                data: self.u32()?,
                data_selector: self.u16()?,
            });
            for n in 0..8 {
                fpu.set_st(n, F80::from_bytes(self.array()?));
            }
            Ok(fpu)
        }

        pub(super) fn simd(&mut self) -> Result<SimdState, StateError> {
            let mut simd = SimdState::default();
            for xmm in &mut simd.xmm {
                *xmm = u128::from_le_bytes(self.array()?);
            }
            simd.mxcsr = self.u32()? & 0xffff;
            Ok(simd)
        }
    }
}
