//! Exceptions in a row: when the second makes a double fault, and when that
//! ends in shutdown (SDM vol. 3, 6.15, vector 8).

use crate::exception::Exception;

/// How two exceptions in a row combine (SDM vol. 3, table 6-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Benign,
    Contributory,
    PageFault,
    DoubleFault,
}

fn severity(exception: Exception) -> Severity {
    match exception {
        Exception::DivideError
        | Exception::InvalidTss(_)
        | Exception::SegmentNotPresent(_)
        | Exception::StackFault(_)
        | Exception::GeneralProtection(_) => Severity::Contributory,
        Exception::PageFault { .. } => Severity::PageFault,
        Exception::DoubleFault => Severity::DoubleFault,
        _ => Severity::Benign,
    }
}

/// The exception to deliver when `second` arises while `first` is being
/// delivered; `None` is shutdown.
pub(super) fn combine(first: Exception, second: Exception) -> Option<Exception> {
    use Severity::{Benign, Contributory, DoubleFault, PageFault};
    match (severity(first), severity(second)) {
        (DoubleFault, Contributory | PageFault) => None,
        (Contributory, Contributory) | (PageFault, Contributory | PageFault) => {
            Some(Exception::DoubleFault)
        }
        (Benign | Contributory | PageFault | DoubleFault, _) => Some(second),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GP: Exception = Exception::GeneralProtection(0);
    const PF: Exception = Exception::PageFault {
        address: 0x1000,
        code: 2,
    };
    const UD: Exception = Exception::InvalidOpcode;
    const DF: Exception = Exception::DoubleFault;

    #[test]
    fn exceptions_in_a_row_combine_as_table_6_5_says() {
        let table = [
            (UD, UD, Some(UD)),
            (UD, GP, Some(GP)),
            (UD, PF, Some(PF)),
            (GP, UD, Some(UD)),
            (GP, GP, Some(DF)),
            (
                Exception::DivideError,
                Exception::SegmentNotPresent(8),
                Some(DF),
            ),
            (GP, PF, Some(PF)),
            (PF, UD, Some(UD)),
            (PF, GP, Some(DF)),
            (PF, PF, Some(DF)),
            (DF, UD, Some(UD)),
            (DF, GP, None),
            (DF, PF, None),
        ];
        for (first, second, expected) in table {
            assert_eq!(
                combine(first, second),
                expected,
                "{first:?}, then {second:?}"
            );
        }
    }
}
