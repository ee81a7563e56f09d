//! What a driver can do wrong, and how often it did.

use serde::{Deserialize, Serialize};

/// Declares [`Misuse`] and the list of its values, so that neither forgets one.
macro_rules! misuses {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One way in which a guest driver breaks the virtio specification, or
        /// asks for more than the device is willing to hold.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Misuse {
            $($(#[$doc])* $name,)*
        }

        impl Misuse {
            /// Every kind, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The kind's name, for reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

misuses! {
    // Registers (section 4.2.2).
    /// A register was accessed with another width than 32 bits, or unaligned.
    AccessWidth,
    /// No register is at that offset.
    UnknownRegister,
    /// A read-only register was written.
    WriteToReadOnly,
    /// A write-only register was read.
    ReadOfWriteOnly,
    /// Features were written after `FEATURES_OK`, or before `DRIVER`.
    FeaturesOutOfOrder,
    /// `FEATURES_OK` was refused: a feature not offered, or no `VERSION_1`.
    FeaturesRefused,
    /// A status bit was cleared by other means than a reset.
    StatusBitCleared,
    /// Status bits were set in an order that section 3.1.1 forbids.
    StatusOutOfOrder,
    /// The driver gave up: it set `FAILED`.
    DriverFailed,
    /// A queue that the device does not have was configured or notified.
    NoSuchQueue,
    /// A queue size that is zero, no power of two, or above the maximum.
    QueueSize,
    /// A queue was configured while it was ready.
    QueueBusy,
    /// A queue was enabled outside `FEATURES_OK`, or at misaligned addresses.
    QueueSetup,
    /// A notification for a queue that is not running.
    NotifyIdleQueue,

    // Rings (section 2.7).
    /// The rings do not lie in guest memory.
    RingAccess,
    /// The available index is further ahead than the queue is long.
    AvailableIndex,
    /// The head of a chain lies outside the descriptor table.
    DescriptorHead,
    /// A `next` field points outside the descriptor table.
    DescriptorNext,
    /// A chain is longer than the queue: it has a cycle.
    DescriptorCycle,
    /// An indirect descriptor, which was not negotiated.
    DescriptorIndirect,
    /// A device-writable buffer where a readable one belongs, or the reverse.
    DescriptorDirection,
    /// A buffer that does not lie in guest memory.
    DescriptorRange,
    /// A chain of more than 2^32 - 1 bytes.
    DescriptorLength,
    /// A receive buffer without room for a header, or for any payload.
    ReceiveBufferSize,

    // Packets (section 5.10.6).
    /// A packet shorter than its header, or than its header's `len`.
    PacketTruncated,
    /// A packet from another context than the guest's.
    PacketSource,
    /// A packet to another context than the host's.
    PacketDestination,
    /// A socket type that was not negotiated.
    PacketType,
    /// An operation that does not exist.
    PacketOperation,
    /// A payload on an operation that carries none.
    PacketPayload,
    /// An operation that the state of its connection forbids.
    PacketState,
    /// A packet for a connection that does not exist.
    NoConnection,
    /// More data than the receive buffer that was announced.
    CreditExceeded,
    /// More bytes acknowledged than were sent.
    CreditForged,
    /// A `SHUTDOWN` without a known flag, or with an unknown one.
    ShutdownFlags,
    /// A connection asked for beyond the limit of connections or the backlog.
    ConnectionLimit,
}

/// How often each kind of [`Misuse`] was seen. Part of the device's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MisuseCounts(Vec<u64>);

impl MisuseCounts {
    /// Counts `kind` once more; a counter saturates.
    pub fn note(&mut self, kind: Misuse) {
        let counter = &mut self.0[kind as usize];
        *counter = counter.saturating_add(1);
    }

    /// How often `kind` was seen.
    pub fn of(&self, kind: Misuse) -> u64 {
        self.0[kind as usize]
    }

    /// All of them together.
    pub fn total(&self) -> u64 {
        self.0.iter().copied().fold(0, u64::saturating_add)
    }

    /// The kinds that were seen, with their counts.
    pub fn seen(&self) -> impl Iterator<Item = (Misuse, u64)> + '_ {
        let counted = Misuse::ALL.iter().map(|&kind| (kind, self.of(kind)));
        counted.filter(|&(_, count)| count > 0)
    }

    /// Whether the counters are as many as the kinds; those of a file may not be.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.len() == Misuse::ALL.len()
    }
}

impl Default for MisuseCounts {
    fn default() -> Self {
        Self(vec![0; Misuse::ALL.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_counter() {
        let mut counts = MisuseCounts::default();
        for (turn, &kind) in Misuse::ALL.iter().enumerate() {
            assert_eq!(kind as usize, turn);
            for _ in 0..=turn {
                counts.note(kind);
            }
        }
        let seen: Vec<u64> = counts.seen().map(|(_, count)| count).collect();
        let expected: Vec<u64> = (1..=Misuse::ALL.len() as u64).collect();
        assert_eq!(seen, expected);
        assert_eq!(counts.total(), expected.iter().sum::<u64>());
        assert_eq!(Misuse::RingAccess.name(), "RingAccess");
    }
}
