//! One counter of the 8254.

use serde::{Deserialize, Serialize};

use super::Tick;

/// The level of a channel's gate input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Gate {
    Low,
    High,
}

/// What a channel does with its count (data sheet, "Mode Definitions").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Mode {
    /// 0: the output rises at the terminal count.
    TerminalCount,
    /// 1: a rising gate starts a low pulse of the count's length.
    OneShot,
    /// 2: the output is low in the last clock of each period.
    RateGenerator,
    /// 3: the output is high in the first half of each period.
    SquareWave,
    /// 4: the output is low for one clock at the terminal count.
    SoftwareStrobe,
    /// 5: as 4, started by a rising gate.
    HardwareStrobe,
}

/// Which bytes of a count an access means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Access {
    Low,
    High,
    LowThenHigh,
}

/// A counter and its saved state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    mode: Mode,
    access: Access,
    bcd: bool,
    gate: Gate,
    /// Clocks of one period: 1 to 65536.
    period: u32,
    /// A period that starts when the running one ends (modes 2 and 3).
    next_period: Option<u32>,
    /// When counting began; `None` before it does and while the gate holds it.
    since: Option<Tick>,
    /// Clocks counted before the gate stopped it.
    counted: u64,
    /// The low byte of a count whose high byte is to come.
    low_byte: Option<u8>,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
    /// The next read of a two-byte count is its high byte.
    reads_high: bool,
    /// A control word was written, a count was not: the output is as it starts.
    null_count: bool,
}

impl Channel {
    pub(super) fn new(gate: Gate) -> Self {
        Self {
            mode: Mode::SquareWave,
            access: Access::LowThenHigh,
            bcd: false,
            gate,
            period: 0x1_0000,
            next_period: None,
            since: None,
            counted: 0,
            low_byte: None,
            latched_count: None,
            latched_status: None,
            reads_high: false,
            null_count: true,
        }
    }

    /// Says why a state from a file is not one that a channel can have.
    pub(super) fn check(&self) -> Result<(), String> {
        for period in [Some(self.period), self.next_period].into_iter().flatten() {
            if !(1..=0x1_0000).contains(&period) {
                return Err(format!("period {period} is not 1 to 65536"));
            }
        }
        Ok(())
    }

    pub(super) fn write_control(&mut self, value: u8, now: Tick) {
        let access = match value >> 4 & 3 {
            0 => {
                self.latch_count(now);
                return;
            }
            1 => Access::Low,
            2 => Access::High,
            _ => Access::LowThenHigh,
        };
        let mode = match value >> 1 & 7 {
            0 => Mode::TerminalCount,
            1 => Mode::OneShot,
            2 | 6 => Mode::RateGenerator,
            3 | 7 => Mode::SquareWave,
            4 => Mode::SoftwareStrobe,
            _ => Mode::HardwareStrobe,
        };
        *self = Self {
            mode,
            access,
            bcd: value & 1 != 0,
            ..Self::new(self.gate)
        };
    }

    /// The read-back command: bit 5 low latches the count, bit 4 low the status.
    pub(super) fn read_back(&mut self, value: u8, now: Tick) {
        if value & 0x20 == 0 {
            self.latch_count(now);
        }
        if value & 0x10 == 0 && self.latched_status.is_none() {
            self.latched_status = Some(self.status(now));
        }
    }

    fn latch_count(&mut self, now: Tick) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.count(now));
            self.reads_high = false;
        }
    }

    fn status(&self, now: Tick) -> u8 {
        let access = match self.access {
            Access::Low => 1,
            Access::High => 2,
            Access::LowThenHigh => 3,
        };
        let mode = match self.mode {
            Mode::TerminalCount => 0,
            Mode::OneShot => 1,
            Mode::RateGenerator => 2,
            Mode::SquareWave => 3,
            Mode::SoftwareStrobe => 4,
            Mode::HardwareStrobe => 5,
        };
        u8::from(self.output(now)) << 7
            | u8::from(self.null_count) << 6
            | access << 4
            | mode << 1
            | u8::from(self.bcd)
    }

    pub(super) fn read(&mut self, now: Tick) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = match self.latched_count {
            Some(count) => count,
            None => self.count(now),
        }
        .to_le_bytes();
        let (byte, last) = match (self.access, self.reads_high) {
            (Access::Low, _) => (low, true),
            (Access::High, _) => (high, true),
            (Access::LowThenHigh, false) => (low, false),
            (Access::LowThenHigh, true) => (high, true),
        };
        self.reads_high = !last;
        if last {
            self.latched_count = None;
        }
        byte
    }

    pub(super) fn write(&mut self, value: u8, now: Tick) {
        match (self.access, self.low_byte.take()) {
            (Access::Low, _) => self.load(u16::from(value), now),
            (Access::High, _) => self.load(u16::from(value) << 8, now),
            (Access::LowThenHigh, Some(low)) => self.load(u16::from_le_bytes([low, value]), now),
            (Access::LowThenHigh, None) => {
                self.low_byte = Some(value);
                if self.mode == Mode::TerminalCount {
                    // The first byte stops the count and lowers the output.
                    self.since = None;
                    self.counted = 0;
                    self.null_count = true;
                }
            }
        }
    }

    fn load(&mut self, raw: u16, now: Tick) {
        let period = self.period_of(raw);
        match self.mode {
            Mode::RateGenerator | Mode::SquareWave if !self.null_count => {
                self.settle(now);
                self.next_period = Some(period);
            }
            Mode::OneShot | Mode::HardwareStrobe => self.period = period,
            _ => {
                self.period = period;
                self.counted = 0;
                self.since = (self.gate == Gate::High).then_some(now);
            }
        }
        self.null_count = false;
    }

    /// A count of 0 means the largest one.
    fn period_of(&self, raw: u16) -> u32 {
        let (value, largest) = if self.bcd {
            let digit = |shift: u32| u32::from(raw >> shift & 0xf).min(9);
            let value = digit(0) + 10 * digit(4) + 100 * digit(8) + 1000 * digit(12);
            (value, 10_000)
        } else {
            (u32::from(raw), 0x1_0000)
        };
        if value == 0 { largest } else { value }
    }

    pub(super) fn set_gate(&mut self, gate: Gate, now: Tick) {
        if gate == self.gate {
            return;
        }
        let elapsed = self.elapsed(now);
        self.settle(now);
        self.gate = gate;
        match (self.mode, gate) {
            (Mode::TerminalCount | Mode::SoftwareStrobe, Gate::Low) => {
                self.counted = elapsed;
                self.since = None;
            }
            (Mode::TerminalCount | Mode::SoftwareStrobe, Gate::High) => {
                self.since = (!self.null_count).then_some(now);
            }
            (Mode::OneShot | Mode::HardwareStrobe, Gate::Low) => {}
            (Mode::RateGenerator | Mode::SquareWave, Gate::Low) => self.since = None,
            (_, Gate::High) => {
                self.counted = 0;
                self.period = self.next_period.take().unwrap_or(self.period);
                self.since = (!self.null_count).then_some(now);
            }
        }
    }

    /// Clocks counted since the count was loaded.
    fn elapsed(&self, now: Tick) -> u64 {
        let running = self.since.map_or(0, |since| now.0.saturating_sub(since.0));
        self.counted.saturating_add(running)
    }

    /// In the periodic modes: moves the start to the running period's own,
    /// past the end of the one after which a new period applies.
    fn settle(&mut self, now: Tick) {
        let (Mode::RateGenerator | Mode::SquareWave, Some(since)) = (self.mode, self.since) else {
            return;
        };
        let (since, period) = self.current_period(since, now);
        if period != self.period {
            self.next_period = None;
        }
        self.since = Some(since);
        self.period = period;
    }

    /// When the period that runs at `now` began, and its length.
    fn current_period(&self, since: Tick, now: Tick) -> (Tick, u32) {
        let first = Tick(since.0.saturating_add(u64::from(self.period)));
        let (since, period) = match self.next_period {
            Some(next) if now >= first => (first, next),
            _ => (since, self.period),
        };
        let into = now.0.saturating_sub(since.0) % u64::from(period);
        (Tick(now.0.saturating_sub(into).max(since.0)), period)
    }

    /// Where in the period `now` lies, in the periodic modes.
    fn phase(&self, now: Tick) -> (u32, u32) {
        let Some(since) = self.since else {
            return (0, self.period);
        };
        let (start, period) = self.current_period(since, now);
        let into = u32::try_from(now.0.saturating_sub(start.0)).unwrap_or(0);
        (into, period)
    }

    /// The count as a read would find it.
    fn count(&self, now: Tick) -> u16 {
        let count = match self.mode {
            Mode::RateGenerator => {
                let (into, period) = self.phase(now);
                u64::from(period - into)
            }
            Mode::SquareWave => {
                // It counts down by two, twice a period.
                let (into, period) = self.phase(now);
                let half = period.div_ceil(2);
                let into = if into < half { into } else { into - half };
                u64::from((period & !1).saturating_sub(2 * into))
            }
            _ => {
                let modulus = if self.bcd { 10_000 } else { 0x1_0000 };
                (u64::from(self.period) + modulus - self.elapsed(now) % modulus) % modulus
            }
        };
        self.encode(count)
    }

    fn encode(&self, count: u64) -> u16 {
        let [low, high, ..] = count.to_le_bytes();
        if !self.bcd {
            return u16::from_le_bytes([low, high]);
        }
        let digit = |divisor: u64| u16::from((count / divisor % 10).to_le_bytes()[0]);
        digit(1) | digit(10) << 4 | digit(100) << 8 | digit(1000) << 12
    }

    /// The level of the output.
    pub(super) fn output(&self, now: Tick) -> bool {
        let elapsed = self.elapsed(now);
        let period = u64::from(self.period);
        match self.mode {
            Mode::TerminalCount => !self.null_count && elapsed >= period,
            Mode::OneShot => self.since.is_none() || elapsed >= period,
            Mode::RateGenerator => {
                let (into, period) = self.phase(now);
                self.since.is_none() || period == 1 || into != period - 1
            }
            Mode::SquareWave => {
                let (into, period) = self.phase(now);
                self.since.is_none() || into < period.div_ceil(2)
            }
            Mode::SoftwareStrobe | Mode::HardwareStrobe => {
                self.since.is_none() || elapsed != period
            }
        }
    }

    /// The first tick after `reported` at which the output rises.
    pub(super) fn next_edge(&self, reported: Tick) -> Option<Tick> {
        let since = self.since?;
        let period = u64::from(self.period);
        let terminal = since.0.saturating_add(period.saturating_sub(self.counted));
        let edge = match self.mode {
            Mode::TerminalCount | Mode::OneShot => {
                if self.counted >= period {
                    return None;
                }
                Tick(terminal)
            }
            Mode::SoftwareStrobe | Mode::HardwareStrobe => Tick(terminal.saturating_add(1)),
            Mode::RateGenerator | Mode::SquareWave => {
                let after = reported.max(since);
                let (start, period) = self.current_period(since, after);
                Tick(start.0.saturating_add(u64::from(period)))
            }
        };
        (edge > reported).then_some(edge)
    }

    #[cfg(test)]
    pub(super) fn with_period(self, period: u32) -> Self {
        Self { period, ..self }
    }
}
