//! Which handler executes which MMX, SSE or SSE2 instruction.

use iced_x86::{Code, Instruction, OpKind};

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

/// Element-wise integer operations on MMX registers.
fn packed_mmx(code: Code, form: Form) -> Option<Handler> {
    macro_rules! table {
        ($($code:ident $what:ident,)*) => {
            match code {
                $(Code::$code => either!(form, mmx<MmxRegister | Memory64, $what>),)*
                _ => return None,
            }
        };
    }
    Some(table! {
        Paddb_mm_mmm64 Paddb,
        Paddw_mm_mmm64 Paddw,
        Paddd_mm_mmm64 Paddd,
        Paddq_mm_mmm64 Paddq,
        Paddsb_mm_mmm64 Paddsb,
        Paddsw_mm_mmm64 Paddsw,
        Paddusb_mm_mmm64 Paddusb,
        Paddusw_mm_mmm64 Paddusw,
        Psubb_mm_mmm64 Psubb,
        Psubw_mm_mmm64 Psubw,
        Psubd_mm_mmm64 Psubd,
        Psubq_mm_mmm64 Psubq,
        Psubsb_mm_mmm64 Psubsb,
        Psubsw_mm_mmm64 Psubsw,
        Psubusb_mm_mmm64 Psubusb,
        Psubusw_mm_mmm64 Psubusw,
        Pminub_mm_mmm64 Pminub,
        Pmaxub_mm_mmm64 Pmaxub,
        Pminsw_mm_mmm64 Pminsw,
        Pmaxsw_mm_mmm64 Pmaxsw,
        Pavgb_mm_mmm64 Pavgb,
        Pavgw_mm_mmm64 Pavgw,
        Pmullw_mm_mmm64 Pmullw,
        Pmulhw_mm_mmm64 Pmulhw,
        Pmulhuw_mm_mmm64 Pmulhuw,
        Pmuludq_mm_mmm64 Pmuludq,
        Pmaddwd_mm_mmm64 Pmaddwd,
        Psadbw_mm_mmm64 Psadbw,
        Pcmpeqb_mm_mmm64 Pcmpeqb,
        Pcmpeqw_mm_mmm64 Pcmpeqw,
        Pcmpeqd_mm_mmm64 Pcmpeqd,
        Pcmpgtb_mm_mmm64 Pcmpgtb,
        Pcmpgtw_mm_mmm64 Pcmpgtw,
        Pcmpgtd_mm_mmm64 Pcmpgtd,
        Pand_mm_mmm64 And,
        Pandn_mm_mmm64 AndNot,
        Por_mm_mmm64 Or,
        Pxor_mm_mmm64 Xor,
        Packsswb_mm_mmm64 Packsswb,
        Packuswb_mm_mmm64 Packuswb,
        Packssdw_mm_mmm64 Packssdw,
        Punpckhbw_mm_mmm64 Punpckhbw,
        Punpckhwd_mm_mmm64 Punpckhwd,
        Punpckhdq_mm_mmm64 Punpckhdq,
        Psllw_mm_mmm64 Psllw,
        Pslld_mm_mmm64 Pslld,
        Psllq_mm_mmm64 Psllq,
        Psrlw_mm_mmm64 Psrlw,
        Psrld_mm_mmm64 Psrld,
        Psrlq_mm_mmm64 Psrlq,
        Psraw_mm_mmm64 Psraw,
        Psrad_mm_mmm64 Psrad,
    })
}

/// Integer and logical operations on XMM registers.
fn packed_xmm(code: Code, form: Form) -> Option<Handler> {
    macro_rules! table {
        ($($code:ident $what:ident,)*) => {
            match code {
                $(Code::$code => either!(form, xmm<XmmRegister | Aligned, $what>),)*
                _ => return None,
            }
        };
    }
    Some(table! {
        Paddb_xmm_xmmm128 Paddb,
        Paddw_xmm_xmmm128 Paddw,
        Paddd_xmm_xmmm128 Paddd,
        Paddq_xmm_xmmm128 Paddq,
        Paddsb_xmm_xmmm128 Paddsb,
        Paddsw_xmm_xmmm128 Paddsw,
        Paddusb_xmm_xmmm128 Paddusb,
        Paddusw_xmm_xmmm128 Paddusw,
        Psubb_xmm_xmmm128 Psubb,
        Psubw_xmm_xmmm128 Psubw,
        Psubd_xmm_xmmm128 Psubd,
        Psubq_xmm_xmmm128 Psubq,
        Psubsb_xmm_xmmm128 Psubsb,
        Psubsw_xmm_xmmm128 Psubsw,
        Psubusb_xmm_xmmm128 Psubusb,
        Psubusw_xmm_xmmm128 Psubusw,
        Pminub_xmm_xmmm128 Pminub,
        Pmaxub_xmm_xmmm128 Pmaxub,
        Pminsw_xmm_xmmm128 Pminsw,
        Pmaxsw_xmm_xmmm128 Pmaxsw,
        Pavgb_xmm_xmmm128 Pavgb,
        Pavgw_xmm_xmmm128 Pavgw,
        Pmullw_xmm_xmmm128 Pmullw,
        Pmulhw_xmm_xmmm128 Pmulhw,
        Pmulhuw_xmm_xmmm128 Pmulhuw,
        Pmuludq_xmm_xmmm128 Pmuludq,
        Pmaddwd_xmm_xmmm128 Pmaddwd,
        Psadbw_xmm_xmmm128 Psadbw,
        Pcmpeqb_xmm_xmmm128 Pcmpeqb,
        Pcmpeqw_xmm_xmmm128 Pcmpeqw,
        Pcmpeqd_xmm_xmmm128 Pcmpeqd,
        Pcmpgtb_xmm_xmmm128 Pcmpgtb,
        Pcmpgtw_xmm_xmmm128 Pcmpgtw,
        Pcmpgtd_xmm_xmmm128 Pcmpgtd,
        Pand_xmm_xmmm128 And,
        Pandn_xmm_xmmm128 AndNot,
        Por_xmm_xmmm128 Or,
        Pxor_xmm_xmmm128 Xor,
        Packsswb_xmm_xmmm128 Packsswb,
        Packuswb_xmm_xmmm128 Packuswb,
        Packssdw_xmm_xmmm128 Packssdw,
        Punpckhbw_xmm_xmmm128 Punpckhbw,
        Punpckhwd_xmm_xmmm128 Punpckhwd,
        Punpckhdq_xmm_xmmm128 Punpckhdq,
        Psllw_xmm_xmmm128 Psllw,
        Pslld_xmm_xmmm128 Pslld,
        Psllq_xmm_xmmm128 Psllq,
        Psrlw_xmm_xmmm128 Psrlw,
        Psrld_xmm_xmmm128 Psrld,
        Psrlq_xmm_xmmm128 Psrlq,
        Psraw_xmm_xmmm128 Psraw,
        Psrad_xmm_xmmm128 Psrad,
        Punpcklbw_xmm_xmmm128 Punpcklbw,
        Punpcklwd_xmm_xmmm128 Punpcklwd,
        Punpckldq_xmm_xmmm128 Punpckldq,
        Punpcklqdq_xmm_xmmm128 Punpcklqdq,
        Punpckhqdq_xmm_xmmm128 Punpckhqdq,
        Andps_xmm_xmmm128 And,
        Andpd_xmm_xmmm128 And,
        Andnps_xmm_xmmm128 AndNot,
        Andnpd_xmm_xmmm128 AndNot,
        Orps_xmm_xmmm128 Or,
        Orpd_xmm_xmmm128 Or,
        Xorps_xmm_xmmm128 Xor,
        Xorpd_xmm_xmmm128 Xor,
        Unpcklps_xmm_xmmm128 Punpckldq,
        Unpcklpd_xmm_xmmm128 Punpcklqdq,
        Unpckhps_xmm_xmmm128 Punpckhdq,
        Unpckhpd_xmm_xmmm128 Punpckhqdq,
        Movaps_xmm_xmmm128 Source,
        Movapd_xmm_xmmm128 Source,
        Movdqa_xmm_xmmm128 Source,
        Pshufd_xmm_xmmm128_imm8 Pshufd,
        Pshufhw_xmm_xmmm128_imm8 Pshufhw,
        Pshuflw_xmm_xmmm128_imm8 Pshuflw,
        Shufps_xmm_xmmm128_imm8 Shufps,
        Shufpd_xmm_xmmm128_imm8 Shufpd,
    })
}

/// Operations with an immediate or with a source of another size.
fn arranged(code: Code, form: Form) -> Option<Handler> {
    Some(match code {
        Code::Punpcklbw_mm_mmm32 => either!(form, mmx<MmxRegister | Memory32, Punpcklbw>),
        Code::Punpcklwd_mm_mmm32 => either!(form, mmx<MmxRegister | Memory32, Punpcklwd>),
        Code::Punpckldq_mm_mmm32 => either!(form, mmx<MmxRegister | Memory32, Punpckldq>),
        Code::Pshufw_mm_mmm64_imm8 => either!(form, mmx<MmxRegister | Memory64, Pshufw>),
        Code::Pinsrw_mm_r32m16_imm8 => either!(form, mmx<General | Memory16, Pinsrw>),
        Code::Pinsrw_xmm_r32m16_imm8 => either!(form, xmm<General | Memory16, Pinsrw>),
        Code::Pextrw_r32_mm_imm8 => mmx_to_general::<Word>,
        Code::Pextrw_r32_xmm_imm8 => xmm_to_general::<Word>,
        Code::Pmovmskb_r32_mm => mmx_to_general::<ByteSigns>,
        Code::Pmovmskb_r32_xmm => xmm_to_general::<ByteSigns>,
        Code::Movmskps_r32_xmm => xmm_to_general::<SingleSigns>,
        Code::Movmskpd_r32_xmm => xmm_to_general::<DoubleSigns>,
        _ => return shifted(code),
    })
}

/// Shifts by an immediate.
fn shifted(code: Code) -> Option<Handler> {
    Some(match code {
        Code::Psrlw_mm_imm8 => mmx::<Immediate, Psrlw>,
        Code::Psraw_mm_imm8 => mmx::<Immediate, Psraw>,
        Code::Psllw_mm_imm8 => mmx::<Immediate, Psllw>,
        Code::Psrld_mm_imm8 => mmx::<Immediate, Psrld>,
        Code::Psrad_mm_imm8 => mmx::<Immediate, Psrad>,
        Code::Pslld_mm_imm8 => mmx::<Immediate, Pslld>,
        Code::Psrlq_mm_imm8 => mmx::<Immediate, Psrlq>,
        Code::Psllq_mm_imm8 => mmx::<Immediate, Psllq>,
        Code::Psrlw_xmm_imm8 => xmm::<Immediate, Psrlw>,
        Code::Psraw_xmm_imm8 => xmm::<Immediate, Psraw>,
        Code::Psllw_xmm_imm8 => xmm::<Immediate, Psllw>,
        Code::Psrld_xmm_imm8 => xmm::<Immediate, Psrld>,
        Code::Psrad_xmm_imm8 => xmm::<Immediate, Psrad>,
        Code::Pslld_xmm_imm8 => xmm::<Immediate, Pslld>,
        Code::Psrlq_xmm_imm8 => xmm::<Immediate, Psrlq>,
        Code::Psllq_xmm_imm8 => xmm::<Immediate, Psllq>,
        Code::Psrldq_xmm_imm8 => xmm::<Immediate, Psrldq>,
        Code::Pslldq_xmm_imm8 => xmm::<Immediate, Pslldq>,
        _ => return None,
    })
}

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
