//! Which instructions are compared: every `Code` of iced that the CPU's
//! allow-list has and that user mode of the host can show.

use iced_x86::{Code, Mnemonic};

/// Why a `Code` of the allow-list is not run natively.
pub(crate) fn exclusion(code: Code) -> Option<&'static str> {
    use Mnemonic::{Sgdt, Sidt, Sldt, Smsw, Str, Syscall, Sysenter, Sysexit, Sysret};
    match code.mnemonic() {
        Sysenter | Syscall | Sysexit | Sysret => Some("enters the host's kernel"),
        Sgdt | Sidt | Sldt | Smsw | Str => {
            Some("the host's UMIP makes it privileged and the kernel emulates it")
        }
        _ if matches!(code, Code::Ud0 | Code::Zero_bytes) => {
            Some("a pseudo-instruction, which the decoder never gives")
        }
        _ if code.op_code().fwait() => Some("two instructions: FWAIT and another one"),
        _ if !code.op_code().mode32() => Some("exists in 16-bit or 64-bit code only"),
        _ => None,
    }
}

/// Every `Code` to compare, in iced's order.
pub(crate) fn user_codes() -> Vec<Code> {
    Code::values()
        .filter(|&code| super::soft::is_implemented(code) && exclusion(code).is_none())
        .collect()
}

/// Codes of the allow-list that are left out, with the reason.
pub(crate) fn excluded_codes() -> Vec<(Code, &'static str)> {
    Code::values()
        .filter(|&code| super::soft::is_implemented(code))
        .filter_map(|code| exclusion(code).map(|reason| (code, reason)))
        .collect()
}
