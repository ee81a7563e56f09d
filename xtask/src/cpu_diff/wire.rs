//! What goes through the pipes to `native/runner.c` and back: fixed
//! little-endian layouts, the same as the C structures there.

use anyhow::{Result, bail};

use super::layout::DATA_BYTES;

/// First word of a batch.
pub(crate) const MAGIC: u32 = 0x4644_464C;
/// The used part of an FXSAVE image in 32-bit mode: x87 and XMM0 to XMM7.
pub(crate) const FX_BYTES: usize = 288;
/// Bytes of the unit in which memory differences are reported.
pub(crate) const BLOCK: usize = 64;
/// The vector that stands for "did not end".
const TRAP_HANG: u32 = 0xFFFF_FFFE;
const TRAP_NONE: u32 = 0xFFFF_FFFF;

/// The registers that an instruction may read or write.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Registers {
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI: the encoding's order.
    pub(crate) gpr: [u32; 8],
    /// EIP.
    pub(crate) eip: u32,
    /// EFLAGS.
    pub(crate) eflags: u32,
    /// Selectors of ES, CS, SS, DS, FS, GS: the encoding's order.
    pub(crate) segments: [u16; 6],
}

/// The state before the instruction under test, and its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Registers; CS and SS are always flat.
    pub(crate) registers: Registers,
    /// The instruction's bytes, and what follows them in the page.
    pub(crate) code: Vec<u8>,
    /// The first 288 bytes of an FXSAVE image.
    pub(crate) fx: [u8; FX_BYTES],
    /// Offsets in the arena's data pages and the bytes to put there first.
    pub(crate) patches: Vec<(u16, Vec<u8>)>,
    /// Run with TF set, by `sigreturn` (x87 and XMM are initial then).
    pub(crate) single_step: bool,
}

/// An exception as the kernel reports it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Fault {
    /// The vector.
    pub(crate) vector: u32,
    /// The error code, 0 for vectors without one.
    pub(crate) error: u32,
    /// CR2, of meaning for vector 14 only.
    pub(crate) cr2: u32,
}

/// The state after the instruction under test.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Outcome {
    /// Registers.
    pub(crate) registers: Registers,
    /// The exception, if any.
    pub(crate) fault: Option<Fault>,
    /// The instruction did not end.
    pub(crate) hang: bool,
    /// x87, MXCSR and XMM0 to XMM7, unless single-stepped.
    pub(crate) fx: Option<[u8; FX_BYTES]>,
    /// Blocks of the writable pages that changed, by index.
    pub(crate) blocks: Vec<(u32, [u8; BLOCK])>,
}

/// Writes a whole batch: header, arena, cases.
pub(crate) fn encode(arena: &[u8], cases: &[Case]) -> Vec<u8> {
    assert_eq!(arena.len(), DATA_BYTES, "an arena is all data pages");
    let mut payload = arena.to_vec();
    for case in cases {
        encode_case(case, &mut payload);
    }
    let mut batch = Vec::with_capacity(payload.len() + 12);
    let count = u32::try_from(cases.len()).expect("a small batch");
    let len = u32::try_from(payload.len()).expect("a small batch");
    for word in [MAGIC, count, len] {
        batch.extend_from_slice(&word.to_le_bytes());
    }
    batch.extend_from_slice(&payload);
    batch
}

fn encode_case(case: &Case, out: &mut Vec<u8>) {
    let r = &case.registers;
    let [eax, ecx, edx, ebx, esp, ebp, esi, edi] = r.gpr;
    let [es, _, _, ds, fs, gs] = r.segments.map(u32::from);
    let words = [
        gs, fs, es, ds, edi, esi, ebp, 0, ebx, edx, ecx, eax, r.eflags, esp, r.eip,
    ];
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&u32::from(case.single_step).to_le_bytes());
    let code_len = u16::try_from(case.code.len()).expect("at most 32 bytes");
    let patches = u16::try_from(case.patches.len()).expect("few patches");
    out.extend_from_slice(&code_len.to_le_bytes());
    out.extend_from_slice(&patches.to_le_bytes());
    let mut code = [0xCC; 32];
    code[..case.code.len()].copy_from_slice(&case.code);
    out.extend_from_slice(&code);
    out.extend_from_slice(&case.fx);
    for (offset, bytes) in &case.patches {
        let len = u16::try_from(bytes.len()).expect("a patch within a page");
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(bytes);
    }
}

/// Reads the outcomes of `count` cases.
pub(crate) fn decode(mut bytes: &[u8], count: usize) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::with_capacity(count);
    for _ in 0..count {
        outcomes.push(decode_outcome(&mut bytes)?);
    }
    if !bytes.is_empty() {
        bail!("the native runner sent {} bytes too many", bytes.len());
    }
    Ok(outcomes)
}

fn decode_outcome(bytes: &mut &[u8]) -> Result<Outcome> {
    let mut words = [0u32; 22];
    for word in &mut words {
        *word = u32::from_le_bytes(take(bytes)?);
    }
    let [
        gs,
        fs,
        es,
        ds,
        edi,
        esi,
        ebp,
        _,
        ebx,
        edx,
        ecx,
        eax,
        eflags,
        esp,
        eip,
        cs,
        ss,
        trap,
        error,
        cr2,
        has_fx,
        blocks,
    ] = words;
    let fx: [u8; FX_BYTES] = take(bytes)?;
    let mut changed = Vec::new();
    for _ in 0..blocks {
        let index = u32::from_le_bytes(take(bytes)?);
        changed.push((index, take(bytes)?));
    }
    let vector_only = matches!(trap, TRAP_NONE | TRAP_HANG);
    Ok(Outcome {
        registers: Registers {
            gpr: [eax, ecx, edx, ebx, esp, ebp, esi, edi],
            eip,
            eflags,
            segments: [es, cs, ss, ds, fs, gs].map(|selector| selector as u16),
        },
        fault: (!vector_only).then_some(Fault {
            vector: trap,
            error,
            cr2: if trap == 14 { cr2 } else { 0 },
        }),
        hang: trap == TRAP_HANG,
        fx: (has_fx != 0).then_some(fx),
        blocks: changed,
    })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    match bytes.split_first_chunk::<N>() {
        Some((head, tail)) => {
            *bytes = tail;
            Ok(*head)
        }
        None => bail!("the native runner's answer ends early"),
    }
}
