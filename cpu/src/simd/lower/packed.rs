//! Integer operations on whole registers.

use iced_x86::Code;

use super::super::handlers::*;
use super::super::operand::*;
use super::super::packed::*;
use super::{Form, either};
use crate::op::Handler;

/// Element-wise integer operations on MMX registers.
pub(super) fn packed_mmx(code: Code, form: Form) -> Option<Handler> {
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
pub(super) fn packed_xmm(code: Code, form: Form) -> Option<Handler> {
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
pub(super) fn arranged(code: Code, form: Form) -> Option<Handler> {
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
