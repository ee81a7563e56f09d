//! A split virtqueue (section 2.7) as a device uses it, around virtio-queue.
//!
//! What the registers say about a queue is kept apart from virtio-queue's
//! [`Queue`] until the driver enables it: so a half-written address is never
//! used, and a wrong one is refused once, with its reason.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueState, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory};

use super::chain::{Chain, Direction};
use super::misuse::Misuse;

/// The three areas of a split virtqueue, by the names of section 4.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    Descriptors,
    Driver,
    Device,
}

/// The half of a 64-bit address that a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Low,
    High,
}

/// What [`Virtqueue::pop`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Popped {
    /// The driver has made nothing available.
    Nothing,
    /// A chain, walked; its head goes back by [`Virtqueue::complete`].
    Chain { head: u16 },
    /// A chain that must not be used; its head goes back with a length of 0.
    Malformed { head: u16, misuse: Misuse },
}

/// One virtqueue: its registers and, once enabled, its rings.
#[derive(Debug)]
pub struct Virtqueue {
    queue: Queue,
    setup: Setup,
    /// Chains were given back since the driver's wish for interrupts was last read.
    unsignalled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Setup {
    size: u16,
    descriptors: u64,
    driver: u64,
    device: u64,
}

/// A virtqueue's state. Its rings are guest memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VirtqueueState {
    setup: Setup,
    ready: bool,
    event_idx: bool,
    next_avail: u16,
    next_used: u16,
}

impl Virtqueue {
    /// A queue of at most `max_size` descriptors.
    ///
    /// # Panics
    ///
    /// When `max_size` is not a power of two from 1 to 32,768: it is a constant
    /// of the device.
    pub fn new(max_size: u16) -> Self {
        let queue = Queue::new(max_size).expect("a queue's maximum is a power of two");
        let setup = Setup::reset(max_size);
        Self {
            queue,
            setup,
            unsignalled: false,
        }
    }

    /// The most descriptors that the queue may have.
    pub fn max_size(&self) -> u16 {
        self.queue.max_size()
    }

    /// The number of descriptors that the driver chose.
    pub fn size(&self) -> u16 {
        self.setup.size
    }

    /// Whether the driver has enabled the queue.
    pub fn is_ready(&self) -> bool {
        self.queue.ready()
    }

    /// Whether every chain that went back has been followed by a look at
    /// whether the driver wants an interrupt. Only then is the state whole.
    pub fn is_settled(&self) -> bool {
        !self.unsignalled
    }

    /// Back to the state after power-on.
    pub(super) fn reset(&mut self) {
        self.queue.reset();
        self.setup = Setup::reset(self.max_size());
        self.unsignalled = false;
    }

    pub(super) fn set_size(&mut self, size: u32) -> Result<(), Misuse> {
        self.check_idle()?;
        let fits = |size: &u16| size.is_power_of_two() && *size <= self.max_size();
        self.setup.size = u16::try_from(size)
            .ok()
            .filter(fits)
            .ok_or(Misuse::QueueSize)?;
        Ok(())
    }

    pub(super) fn set_address(&mut self, area: Area, half: Half, value: u32) -> Result<(), Misuse> {
        self.check_idle()?;
        let address = match area {
            Area::Descriptors => &mut self.setup.descriptors,
            Area::Driver => &mut self.setup.driver,
            Area::Device => &mut self.setup.device,
        };
        *address = match half {
            Half::Low => *address & !0xffff_ffff | u64::from(value),
            Half::High => *address & 0xffff_ffff | u64::from(value) << 32,
        };
        Ok(())
    }

    fn check_idle(&self) -> Result<(), Misuse> {
        if self.is_ready() {
            return Err(Misuse::QueueBusy);
        }
        Ok(())
    }

    /// Enables the queue with what the registers hold.
    pub(super) fn enable(&mut self, event_idx: bool) -> Result<(), Misuse> {
        if self.is_ready() {
            return Ok(());
        }
        self.apply(event_idx).map_err(|_| Misuse::QueueSetup)
    }

    fn apply(&mut self, event_idx: bool) -> Result<(), virtio_queue::Error> {
        let Setup {
            size,
            descriptors,
            driver,
            device,
        } = self.setup;
        self.queue.reset();
        self.queue.try_set_size(size)?;
        self.queue
            .try_set_desc_table_address(GuestAddress(descriptors))?;
        self.queue
            .try_set_avail_ring_address(GuestAddress(driver))?;
        self.queue.try_set_used_ring_address(GuestAddress(device))?;
        self.queue.set_event_idx(event_idx);
        self.queue.set_ready(true);
        Ok(())
    }

    /// Takes the next chain that the driver made available, and walks it into `chain`.
    ///
    /// # Errors
    ///
    /// A ring that cannot be used any more: the device needs a reset.
    pub(crate) fn pop<M: GuestMemory>(
        &mut self,
        memory: &M,
        direction: Direction,
        chain: &mut Chain,
    ) -> Result<Popped, Misuse> {
        let next = self.queue.iter(memory).map_err(ring_misuse)?.next();
        let Some(popped) = next else {
            return self.nothing(memory);
        };
        let head = popped.head_index();
        if head >= self.queue.size() {
            return Err(Misuse::DescriptorHead);
        }
        Ok(match chain.walk(memory, &self.queue, head, direction) {
            Ok(()) => Popped::Chain { head },
            Err(misuse) => Popped::Malformed { head, misuse },
        })
    }

    /// virtio-queue's iterator also ends where the ring cannot be read; tells
    /// the two ends apart.
    fn nothing<M: GuestMemory>(&self, memory: &M) -> Result<Popped, Misuse> {
        if self.has_available(memory)? {
            return Err(Misuse::RingAccess);
        }
        Ok(Popped::Nothing)
    }

    /// Whether the driver has made a chain available that was not taken yet.
    pub(crate) fn has_available<M: GuestMemory>(&self, memory: &M) -> Result<bool, Misuse> {
        let index = self.queue.avail_idx(memory, Ordering::Acquire);
        Ok(index.map_err(ring_misuse)?.0 != self.queue.next_avail())
    }

    /// Gives the chain at `head` back, with `len` bytes written into it.
    ///
    /// # Errors
    ///
    /// A ring that cannot be used any more: the device needs a reset.
    pub(crate) fn complete<M: GuestMemory>(
        &mut self,
        memory: &M,
        head: u16,
        len: u32,
    ) -> Result<(), Misuse> {
        self.queue
            .add_used(memory, head, len)
            .map_err(ring_misuse)?;
        self.unsignalled = true;
        Ok(())
    }

    /// Whether the driver wants an interrupt for the chains that went back since
    /// this was last asked (sections 2.7.7 and 2.7.10).
    ///
    /// # Errors
    ///
    /// A ring that cannot be used any more: the device needs a reset.
    pub(crate) fn settle<M: GuestMemory>(&mut self, memory: &M) -> Result<bool, Misuse> {
        if !self.unsignalled {
            return Ok(false);
        }
        self.unsignalled = false;
        if self.queue.event_idx_enabled() {
            return self.queue.needs_notification(memory).map_err(ring_misuse);
        }
        let flags: u16 = memory
            .load(GuestAddress(self.queue.avail_ring()), Ordering::Acquire)
            .map_err(|_| Misuse::RingAccess)?;
        Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }

    /// Asks the driver to notify the device of the next chain.
    pub(crate) fn enable_notification<M: GuestMemory>(&mut self, memory: &M) -> Result<(), Misuse> {
        let enabled = self.queue.enable_notification(memory);
        enabled.map(|_| ()).map_err(ring_misuse)
    }

    /// Tells the driver that no notification is needed. With `EVENT_IDX` that
    /// is so anyway, until the next [`Self::enable_notification`].
    pub(crate) fn disable_notification<M: GuestMemory>(
        &mut self,
        memory: &M,
    ) -> Result<(), Misuse> {
        self.queue.disable_notification(memory).map_err(ring_misuse)
    }

    /// The queue's state.
    pub fn save(&self) -> VirtqueueState {
        VirtqueueState {
            setup: self.setup,
            ready: self.queue.ready(),
            event_idx: self.queue.event_idx_enabled(),
            next_avail: self.queue.next_avail(),
            next_used: self.queue.next_used(),
        }
    }

    /// Whether a queue of `max_size` can be in `state`; an error says why not.
    pub(super) fn check(max_size: u16, state: &VirtqueueState) -> Result<Queue, String> {
        let setup = state.setup;
        if !setup.size.is_power_of_two() || setup.size > max_size {
            return Err(format!("a queue of {} descriptors", setup.size));
        }
        let Some(rings) = state.ready.then_some(setup) else {
            return Queue::new(max_size).map_err(|error| error.to_string());
        };
        Queue::try_from(QueueState {
            max_size,
            next_avail: state.next_avail,
            next_used: state.next_used,
            event_idx_enabled: state.event_idx,
            size: rings.size,
            ready: true,
            desc_table: rings.descriptors,
            avail_ring: rings.driver,
            used_ring: rings.device,
        })
        .map_err(|error| error.to_string())
    }

    /// Puts the queue into a state that [`Self::check`] has turned into `queue`.
    pub(super) fn adopt(&mut self, queue: Queue, state: &VirtqueueState) {
        self.queue = queue;
        self.setup = state.setup;
        self.unsignalled = false;
    }
}

impl VirtqueueState {
    /// The index, wrapping, of the next chain that the driver makes available.
    pub fn next_available(&self) -> u16 {
        self.next_avail
    }
}

impl Setup {
    fn reset(size: u16) -> Self {
        Self {
            size,
            descriptors: 0,
            driver: 0,
            device: 0,
        }
    }
}

fn ring_misuse(error: virtio_queue::Error) -> Misuse {
    match error {
        virtio_queue::Error::InvalidAvailRingIndex => Misuse::AvailableIndex,
        virtio_queue::Error::InvalidDescriptorIndex => Misuse::DescriptorHead,
        _ => Misuse::RingAccess,
    }
}
