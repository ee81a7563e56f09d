//! The sixteen conditions of Jcc, SETcc and CMOVcc.

use crate::state::Core;

/// A condition over the flags.
pub(super) trait Condition {
    fn holds(core: &Core) -> bool;
}

macro_rules! conditions {
    ($($name:ident $not:ident |$core:ident| $body:expr;)*) => {
        $(
            pub(super) struct $name;
            impl Condition for $name {
                #[inline(always)]
                fn holds($core: &Core) -> bool {
                    $body
                }
            }
            pub(super) struct $not;
            impl Condition for $not {
                #[inline(always)]
                fn holds($core: &Core) -> bool {
                    !$body
                }
            }
        )*
    };
}

conditions! {
    Overflow NotOverflow |core| core.flags.of();
    Below NotBelow |core| core.flags.cf();
    Equal NotEqual |core| core.flags.zf();
    BelowOrEqual Above |core| core.flags.cf() | core.flags.zf();
    Sign NotSign |core| core.flags.sf();
    Parity NotParity |core| core.flags.pf();
    Less NotLess |core| core.flags.less();
    LessOrEqual Greater |core| core.flags.less() | core.flags.zf();
}

/// A handler for iced's condition code: `$c` is the condition in `$body`.
macro_rules! by_condition {
    ($code:expr, $c:ident => $body:expr) => {{
        use crate::integer::condition as cc;
        match $code {
            ConditionCode::o => {
                type $c = cc::Overflow;
                $body
            }
            ConditionCode::no => {
                type $c = cc::NotOverflow;
                $body
            }
            ConditionCode::b => {
                type $c = cc::Below;
                $body
            }
            ConditionCode::ae => {
                type $c = cc::NotBelow;
                $body
            }
            ConditionCode::e => {
                type $c = cc::Equal;
                $body
            }
            ConditionCode::ne => {
                type $c = cc::NotEqual;
                $body
            }
            ConditionCode::be => {
                type $c = cc::BelowOrEqual;
                $body
            }
            ConditionCode::a => {
                type $c = cc::Above;
                $body
            }
            ConditionCode::s => {
                type $c = cc::Sign;
                $body
            }
            ConditionCode::ns => {
                type $c = cc::NotSign;
                $body
            }
            ConditionCode::p => {
                type $c = cc::Parity;
                $body
            }
            ConditionCode::np => {
                type $c = cc::NotParity;
                $body
            }
            ConditionCode::l => {
                type $c = cc::Less;
                $body
            }
            ConditionCode::ge => {
                type $c = cc::NotLess;
                $body
            }
            ConditionCode::le => {
                type $c = cc::LessOrEqual;
                $body
            }
            ConditionCode::g => {
                type $c = cc::Greater;
                $body
            }
            ConditionCode::None => return None,
        }
    }};
}

pub(super) use by_condition;
