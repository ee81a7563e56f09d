//! Which handler executes which MMX, SSE or SSE2 instruction.

mod packed;

use iced_x86::{Code, Instruction, OpKind};

use packed::{arranged, packed_mmx, packed_xmm};

use super::float::*;
use super::fxsave::{fxrstor, fxsave};
use super::handlers::*;
use super::operand::*;
use super::packed::*;
use crate::lower::{Context, Lowered};
use crate::op::Handler;

/// The handler of an instruction of this family.
pub(crate) fn lower(instruction: &Instruction, _: Context) -> Option<Lowered> {
    let form = if (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory) {
        Form::Memory
    } else {
        Form::Register
    };
    let code = instruction.code();
    let handler = packed_mmx(code, form)
        .or_else(|| packed_xmm(code, form))
        .or_else(|| arranged(code, form))
        .or_else(|| moved(code, form))
        .or_else(|| arithmetic(code, form))
        .or_else(|| converted(code, form))
        .or_else(|| other(code))?;
    Some(Lowered::next(handler))
}

/// Whether the operand that can be either is a register or in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Register,
    Memory,
}

/// Chooses between the handlers of the two forms.
macro_rules! either {
    ($form:ident, $handler:ident<$register:ident | $memory:ident, $what:ident>) => {
        if $form == Form::Register {
            $handler::<$register, $what> as Handler
        } else {
            $handler::<$memory, $what> as Handler
        }
    };
}
use either;

/// Moves.
fn moved(code: Code, form: Form) -> Option<Handler> {
    let register = form == Form::Register;
    Some(match code {
        Code::Movups_xmm_xmmm128 | Code::Movupd_xmm_xmmm128 | Code::Movdqu_xmm_xmmm128 => {
            either!(form, xmm<XmmRegister | Unaligned, Source>)
        }
        Code::Movups_xmmm128_xmm | Code::Movupd_xmmm128_xmm | Code::Movdqu_xmmm128_xmm
            if !register =>
        {
            store_unaligned
        }
        Code::Movaps_xmmm128_xmm | Code::Movapd_xmmm128_xmm | Code::Movdqa_xmmm128_xmm
            if !register =>
        {
            store_aligned
        }
        Code::Movups_xmmm128_xmm
        | Code::Movupd_xmmm128_xmm
        | Code::Movdqu_xmmm128_xmm
        | Code::Movaps_xmmm128_xmm
        | Code::Movapd_xmmm128_xmm
        | Code::Movdqa_xmmm128_xmm => xmm::<XmmRegister, Source>,
        Code::Movntps_m128_xmm | Code::Movntpd_m128_xmm | Code::Movntdq_m128_xmm => store_aligned,
        Code::Movss_xmm_xmmm32 if !register => xmm::<Memory32, Source>,
        Code::Movsd_xmm_xmmm64 if !register => xmm::<Memory64, Source>,
        Code::Movss_xmmm32_xmm if !register => store_32,
        Code::Movsd_xmmm64_xmm | Code::Movq_xmmm64_xmm if !register => store_low_64,
        Code::Movss_xmm_xmmm32 | Code::Movss_xmmm32_xmm => xmm::<XmmRegister, LowSingle>,
        Code::Movsd_xmm_xmmm64 | Code::Movsd_xmmm64_xmm => xmm::<XmmRegister, LowDouble>,
        Code::Movq_xmm_xmmm64 => either!(form, xmm<XmmLow | Memory64, Source>),
        Code::Movq_xmmm64_xmm => xmm::<XmmLow, Source>,
        Code::Movlps_xmm_m64 | Code::Movlpd_xmm_m64 => xmm::<Memory64, LowDouble>,
        Code::Movhps_xmm_m64 | Code::Movhpd_xmm_m64 => xmm::<Memory64, HighFromLow>,
        Code::Movlps_m64_xmm | Code::Movlpd_m64_xmm => store_low_64,
        Code::Movhps_m64_xmm | Code::Movhpd_m64_xmm => store_high_64,
        Code::Movhlps_xmm_xmm => xmm::<XmmRegister, LowFromHigh>,
        Code::Movlhps_xmm_xmm => xmm::<XmmRegister, HighFromLow>,
        Code::Movd_mm_rm32 => either!(form, mmx<General | Memory32, Source>),
        Code::Movd_xmm_rm32 => either!(form, xmm<General | Memory32, Source>),
        Code::Movd_rm32_mm if register => mmx_to_general::<Low>,
        Code::Movd_rm32_xmm if register => xmm_to_general::<Low>,
        Code::Movd_rm32_mm => store_mmx_32,
        Code::Movd_rm32_xmm => store_32,
        Code::Movq_mm_mmm64 => either!(form, mmx<MmxRegister | Memory64, Source>),
        Code::Movq_mmm64_mm if register => mmx::<MmxRegister, Source>,
        Code::Movq_mmm64_mm | Code::Movntq_m64_mm => store_mmx_64,
        Code::Movq2dq_xmm_mm => movq2dq,
        Code::Movdq2q_mm_xmm => movdq2q,
        Code::Maskmovq_rDI_mm_mm => maskmovq,
        Code::Maskmovdqu_rDI_xmm_xmm => maskmovdqu,
        Code::Movnti_m32_r32 => movnti,
        _ => return None,
    })
}

/// Floating-point operations whose operands and result have one precision.
fn arithmetic(code: Code, form: Form) -> Option<Handler> {
    macro_rules! table {
        ($memory:ident: $($code:ident $what:ident,)*) => {
            match code {
                $(Code::$code => return Some(either!(form, float<XmmRegister | $memory, $what>)),)*
                _ => {}
            }
        };
    }
    table! { Aligned:
        Addps_xmm_xmmm128 Addps,
        Addpd_xmm_xmmm128 Addpd,
        Subps_xmm_xmmm128 Subps,
        Subpd_xmm_xmmm128 Subpd,
        Mulps_xmm_xmmm128 Mulps,
        Mulpd_xmm_xmmm128 Mulpd,
        Divps_xmm_xmmm128 Divps,
        Divpd_xmm_xmmm128 Divpd,
        Minps_xmm_xmmm128 Minps,
        Minpd_xmm_xmmm128 Minpd,
        Maxps_xmm_xmmm128 Maxps,
        Maxpd_xmm_xmmm128 Maxpd,
        Sqrtps_xmm_xmmm128 Sqrtps,
        Sqrtpd_xmm_xmmm128 Sqrtpd,
        Rcpps_xmm_xmmm128 Rcpps,
        Rsqrtps_xmm_xmmm128 Rsqrtps,
        Cmpps_xmm_xmmm128_imm8 Cmpps,
        Cmppd_xmm_xmmm128_imm8 Cmppd,
    }
    table! { Memory32:
        Addss_xmm_xmmm32 Addss,
        Subss_xmm_xmmm32 Subss,
        Mulss_xmm_xmmm32 Mulss,
        Divss_xmm_xmmm32 Divss,
        Minss_xmm_xmmm32 Minss,
        Maxss_xmm_xmmm32 Maxss,
        Sqrtss_xmm_xmmm32 Sqrtss,
        Rcpss_xmm_xmmm32 Rcpss,
        Rsqrtss_xmm_xmmm32 Rsqrtss,
        Cmpss_xmm_xmmm32_imm8 Cmpss,
    }
    table! { Memory64:
        Addsd_xmm_xmmm64 Addsd,
        Subsd_xmm_xmmm64 Subsd,
        Mulsd_xmm_xmmm64 Mulsd,
        Divsd_xmm_xmmm64 Divsd,
        Minsd_xmm_xmmm64 Minsd,
        Maxsd_xmm_xmmm64 Maxsd,
        Sqrtsd_xmm_xmmm64 Sqrtsd,
        Cmpsd_xmm_xmmm64_imm8 Cmpsd,
    }
    Some(match (code, form) {
        (Code::Comiss_xmm_xmmm32, Form::Register) => comiss::<XmmRegister>,
        (Code::Comiss_xmm_xmmm32, Form::Memory) => comiss::<Memory32>,
        (Code::Comisd_xmm_xmmm64, Form::Register) => comisd::<XmmRegister>,
        (Code::Comisd_xmm_xmmm64, Form::Memory) => comisd::<Memory64>,
        (Code::Ucomiss_xmm_xmmm32, Form::Register) => ucomiss::<XmmRegister>,
        (Code::Ucomiss_xmm_xmmm32, Form::Memory) => ucomiss::<Memory32>,
        (Code::Ucomisd_xmm_xmmm64, Form::Register) => ucomisd::<XmmRegister>,
        (Code::Ucomisd_xmm_xmmm64, Form::Memory) => ucomisd::<Memory64>,
        _ => return None,
    })
}

/// Conversions.
fn converted(code: Code, form: Form) -> Option<Handler> {
    Some(match code {
        Code::Cvtps2pd_xmm_xmmm64 => either!(form, float<XmmRegister | Memory64, Cvtps2pd>),
        Code::Cvtss2sd_xmm_xmmm32 => either!(form, float<XmmRegister | Memory32, Cvtss2sd>),
        Code::Cvtpd2ps_xmm_xmmm128 => either!(form, float<XmmRegister | Aligned, Cvtpd2ps>),
        Code::Cvtsd2ss_xmm_xmmm64 => either!(form, float<XmmRegister | Memory64, Cvtsd2ss>),
        Code::Cvtdq2ps_xmm_xmmm128 => either!(form, float<XmmRegister | Aligned, Cvtdq2ps>),
        Code::Cvtdq2pd_xmm_xmmm64 => either!(form, float<XmmRegister | Memory64, Cvtdq2pd>),
        Code::Cvtps2dq_xmm_xmmm128 => either!(form, float<XmmRegister | Aligned, Cvtps2dq>),
        Code::Cvttps2dq_xmm_xmmm128 => either!(form, float<XmmRegister | Aligned, Cvttps2dq>),
        Code::Cvtpd2dq_xmm_xmmm128 => either!(form, float<XmmRegister | Aligned, Cvtpd2dq>),
        Code::Cvttpd2dq_xmm_xmmm128 => either!(form, float<XmmRegister | Aligned, Cvttpd2dq>),
        Code::Cvtsi2ss_xmm_rm32 => either!(form, float<General | Memory32, Cvtsi2ss>),
        Code::Cvtsi2sd_xmm_rm32 => either!(form, float<General | Memory32, Cvtsi2sd>),
        Code::Cvtpi2ps_xmm_mmm64 if form == Form::Register => {
            float_from_mmx::<MmxRegister, Cvtpi2ps>
        }
        Code::Cvtpi2pd_xmm_mmm64 if form == Form::Register => {
            float_from_mmx::<MmxRegister, Cvtdq2pd>
        }
        // From memory they do not touch the MMX state.
        Code::Cvtpi2ps_xmm_mmm64 => float::<Memory64, Cvtpi2ps>,
        Code::Cvtpi2pd_xmm_mmm64 => float::<Memory64, Cvtdq2pd>,
        Code::Cvtps2pi_mm_xmmm64 => either!(form, float_to_mmx<XmmRegister | Memory64, Cvtps2pi>),
        Code::Cvttps2pi_mm_xmmm64 => either!(form, float_to_mmx<XmmRegister | Memory64, Cvttps2pi>),
        Code::Cvtpd2pi_mm_xmmm128 => either!(form, float_to_mmx<XmmRegister | Aligned, Cvtpd2dq>),
        Code::Cvttpd2pi_mm_xmmm128 => either!(form, float_to_mmx<XmmRegister | Aligned, Cvttpd2dq>),
        Code::Cvtss2si_r32_xmmm32 => {
            either!(form, float_to_general<XmmRegister | Memory32, Cvtss2si>)
        }
        Code::Cvttss2si_r32_xmmm32 => {
            either!(form, float_to_general<XmmRegister | Memory32, Cvttss2si>)
        }
        Code::Cvtsd2si_r32_xmmm64 => {
            either!(form, float_to_general<XmmRegister | Memory64, Cvtsd2si>)
        }
        Code::Cvttsd2si_r32_xmmm64 => {
            either!(form, float_to_general<XmmRegister | Memory64, Cvttsd2si>)
        }
        _ => return None,
    })
}

/// State, fences and hints.
fn other(code: Code) -> Option<Handler> {
    Some(match code {
        Code::Emms => emms,
        Code::Ldmxcsr_m32 => ldmxcsr,
        Code::Stmxcsr_m32 => stmxcsr,
        Code::Fxsave_m512byte => fxsave,
        Code::Fxrstor_m512byte => fxrstor,
        Code::Clflush_m8 => clflush,
        Code::Prefetchnta_m8 | Code::Prefetcht0_m8 | Code::Prefetcht1_m8 | Code::Prefetcht2_m8 => {
            nothing
        }
        Code::Lfence
        | Code::Lfence_E9
        | Code::Lfence_EA
        | Code::Lfence_EB
        | Code::Lfence_EC
        | Code::Lfence_ED
        | Code::Lfence_EE
        | Code::Lfence_EF => nothing,
        Code::Mfence
        | Code::Mfence_F1
        | Code::Mfence_F2
        | Code::Mfence_F3
        | Code::Mfence_F4
        | Code::Mfence_F5
        | Code::Mfence_F6
        | Code::Mfence_F7 => nothing,
        Code::Sfence
        | Code::Sfence_F9
        | Code::Sfence_FA
        | Code::Sfence_FB
        | Code::Sfence_FC
        | Code::Sfence_FD
        | Code::Sfence_FE
        | Code::Sfence_FF => nothing,
        _ => return None,
    })
}
