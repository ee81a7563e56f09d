//! No instruction that an i586 with an x87 alone does not have.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Instruction};
use object::{Object as _, ObjectSection as _, SectionKind};

/// What the guest's processor has: 8086 to Pentium, its x87, and the
/// pause hint, which older processors take for a no-op.
const HAD: &[CpuidFeature] = &[
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL8086_ONLY,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL286,
    CpuidFeature::INTEL286_ONLY,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL386_ONLY,
    CpuidFeature::INTEL486,
    CpuidFeature::FPU,
    CpuidFeature::FPU287,
    CpuidFeature::FPU387,
    CpuidFeature::CX8,
    CpuidFeature::PAUSE,
];

/// The section of the one routine that saves and loads SSE registers, where the
/// kernel says that it uses them (`guest-agent/src/rt.rs`).
const FXSR_SECTION: &str = ".lf_fxsr";
/// What that routine may use on top: FXSAVE and FXRSTOR.
const FXSR: &[CpuidFeature] = &[CpuidFeature::FXSR];

/// Checks every code section of the ELF file at `path`.
pub(super) fn check(path: &Path) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = object::File::parse(&*bytes)
        .with_context(|| format!("{} is no object file", path.display()))?;
    let mut seen = 0;
    for section in file.sections() {
        if section.kind() == SectionKind::Text {
            let code = section.data()?;
            seen += code.len();
            let more = match section.name() {
                Ok(FXSR_SECTION) => FXSR,
                _ => &[],
            };
            if let Some(odd) = first_foreign(code, section.address(), more) {
                bail!(
                    "{}: `{odd}` at {:#x} is no i586 instruction",
                    path.display(),
                    odd.ip()
                );
            }
        }
    }
    if seen == 0 {
        bail!("{} has no code", path.display());
    }
    Ok(())
}

/// The first instruction that needs more than an i586 and `more` have.
fn first_foreign(code: &[u8], address: u64, more: &[CpuidFeature]) -> Option<Instruction> {
    // `rep bsf` is bsf on an i586, and tzcnt only on what came later.
    let options = DecoderOptions::NO_MPFX_0FBC | DecoderOptions::NO_MPFX_0FBD;
    Decoder::with_ip(32, code, address, options)
        .into_iter()
        .find(|instruction| {
            let features = instruction.cpuid_features();
            let is_had = |feature: &CpuidFeature| HAD.contains(feature) || more.contains(feature);
            instruction.is_invalid() || !features.iter().all(is_had)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i586_code_passes() {
        // mov eax, ebx; lock bts [ebp+4], 0; fnsave [ebp+336]; int 0x80; cmpxchg8b [edi]; rep bsf eax, edi
        let code = [
            0x89, 0xd8, 0xf0, 0x0f, 0xba, 0x6d, 0x04, 0x00, 0xdd, 0xb5, 0x50, 0x01, 0x00, 0x00,
            0xcd, 0x80, 0x0f, 0xc7, 0x0f, 0xf3, 0x0f, 0xbc, 0xc7,
        ];
        assert_eq!(first_foreign(&code, 0, &[]), None);
    }

    #[test]
    fn only_the_named_routine_saves_sse_registers() {
        let fxsave_fxrstor = [0x0f, 0xae, 0x00, 0x0f, 0xae, 0x0a];
        assert!(first_foreign(&fxsave_fxrstor, 0, &[]).is_some());
        assert_eq!(first_foreign(&fxsave_fxrstor, 0, FXSR), None);
        let movaps = [0x0f, 0x28, 0xc1];
        assert!(first_foreign(&movaps, 0, FXSR).is_some());
    }

    #[test]
    fn newer_code_is_found() {
        for code in [
            [0x0f, 0x44, 0xc3].as_slice(), // cmove eax, ebx
            &[0x0f, 0x6f, 0xc1],           // movq mm0, mm1
            &[0x0f, 0x28, 0xc1],           // movaps xmm0, xmm1
            &[0x66, 0x0f, 0x6f, 0xc1],     // movdqa xmm0, xmm1
            &[0x0f, 0x0b, 0x0f, 0xff],     // ud2, then no instruction
        ] {
            let padded = [&[0x90], code].concat();
            assert!(first_foreign(&padded, 0, &[]).is_some(), "{code:02x?}");
        }
    }
}
