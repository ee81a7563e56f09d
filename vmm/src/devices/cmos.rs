//! The CMOS clock: a Motorola MC146818A and 114 bytes of memory.
//!
//! Source: Motorola MC146818A data sheet; the century byte is the IBM AT's.
//!
//! The calendar starts at a date that is part of the machine's configuration,
//! never the host's, and advances with virtual time. Its interrupts do not
//! exist: their enable bits read back as zero.

use serde::{Deserialize, Serialize};

use crate::device::{Persist, PortDevice, StateError};
use crate::time::VirtualTime;

/// The date at power-on unless asked otherwise: 2026-01-01 00:00:00 UTC, in
/// seconds since 1970.
pub const DEFAULT_DATE: u64 = 1_767_225_600;

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY_OF_WEEK: u8 = 0x06;
const DAY_OF_MONTH: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const STATUS_C: u8 = 0x0c;
const STATUS_D: u8 = 0x0d;
const CENTURY: u8 = 0x32;

/// Status A: divider and rate as firmware sets them; never "update in progress".
const STATUS_A_RESET: u8 = 0x26;
/// Status B: binary instead of BCD.
const STATUS_B_BINARY: u8 = 0x04;
/// Status B: 24 hours.
const STATUS_B_24_HOURS: u8 = 0x02;
/// Status B: the bits that read back as written.
const STATUS_B_KEPT: u8 = 0x87;
/// Status D: the battery is good.
const STATUS_D_VALID: u8 = 0x80;

const DAY: u64 = 86_400;

/// The clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Cmos {
    state: CmosState,
}

/// The saved state of a [`Cmos`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CmosState {
    /// Seconds since 1970 at power-on.
    date: u64,
    index: u8,
    memory: Vec<u8>,
}

impl Default for Cmos {
    fn default() -> Self {
        Self::new(DEFAULT_DATE)
    }
}

impl Cmos {
    /// A clock that shows `date` (seconds since 1970) at power-on.
    pub fn new(date: u64) -> Self {
        let mut memory = vec![0; 128];
        memory[usize::from(STATUS_A)] = STATUS_A_RESET;
        memory[usize::from(STATUS_B)] = STATUS_B_24_HOURS;
        memory[usize::from(STATUS_D)] = STATUS_D_VALID;
        Self {
            state: CmosState {
                date,
                index: 0,
                memory,
            },
        }
    }

    fn register(&self, now: VirtualTime) -> u8 {
        let seconds = self.state.date.wrapping_add(now.0 / 1_000_000_000);
        let time = Calendar::at(seconds);
        match self.state.index {
            SECONDS => self.encode(time.second),
            MINUTES => self.encode(time.minute),
            HOURS => self.encode_hour(time.hour),
            DAY_OF_WEEK => self.encode(time.day_of_week),
            DAY_OF_MONTH => self.encode(time.day),
            MONTH => self.encode(time.month),
            YEAR => self.encode(time.year % 100),
            CENTURY => self.encode(time.year / 100 % 100),
            // No interrupt is ever pending.
            STATUS_C => 0,
            index => self.state.memory[usize::from(index)],
        }
    }

    fn status_b(&self) -> u8 {
        self.state.memory[usize::from(STATUS_B)]
    }

    fn encode(&self, value: u64) -> u8 {
        let value = value.to_le_bytes()[0];
        if self.status_b() & STATUS_B_BINARY != 0 {
            value
        } else {
            (value / 10) << 4 | (value % 10)
        }
    }

    fn encode_hour(&self, hour: u64) -> u8 {
        if self.status_b() & STATUS_B_24_HOURS != 0 {
            return self.encode(hour);
        }
        let afternoon = if hour >= 12 { 0x80 } else { 0 };
        self.encode((hour + 11) % 12 + 1) | afternoon
    }
}

/// A moment in the proleptic Gregorian calendar, UTC.
struct Calendar {
    year: u64,
    month: u64,
    day: u64,
    /// 1 is Sunday.
    day_of_week: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Calendar {
    fn at(seconds: u64) -> Self {
        let (days, rest) = (seconds / DAY, seconds % DAY);
        // Years that start in March put the leap day at their end, and eras
        // of 400 such years are all alike. Day 0 is 0000-03-01.
        let day = days + 719_468;
        let (era, of_era) = (day / 146_097, day % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: of_year - (153 * march_month + 2) / 5 + 1,
            // 1970-01-01 was a Thursday.
            day_of_week: (days + 4) % 7 + 1,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }
}

impl PortDevice for Cmos {
    fn read(&mut self, offset: u16, now: VirtualTime) -> u8 {
        match offset {
            1 => self.register(now),
            // The index cannot be read back.
            _ => 0xff,
        }
    }

    fn write(&mut self, offset: u16, value: u8, _now: VirtualTime) {
        if offset == 0 {
            // Bit 7 masks NMI, of which there is none.
            self.state.index = value & 0x7f;
            return;
        }
        let kept = match self.state.index {
            STATUS_A => value & 0x7f,
            STATUS_B => value & STATUS_B_KEPT,
            // The calendar belongs to the configuration.
            SECONDS | MINUTES | HOURS | DAY_OF_WEEK | DAY_OF_MONTH | MONTH | YEAR | CENTURY
            | STATUS_C | STATUS_D => return,
            _ => value,
        };
        self.state.memory[usize::from(self.state.index)] = kept;
    }
}

impl Persist for Cmos {
    type State = CmosState;

    fn save(&self) -> CmosState {
        self.state.clone()
    }

    fn restore(&mut self, state: &CmosState) -> Result<(), StateError> {
        if state.memory.len() != 128 || state.index > 127 {
            return Err(StateError {
                device: "CMOS clock",
                reason: format!(
                    "{} bytes with index {}, not 128 with one of 0 to 127",
                    state.memory.len(),
                    state.index
                ),
            });
        }
        self.state.clone_from(state);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cmos: &mut Cmos, index: u8, now: VirtualTime) -> u8 {
        cmos.write(0, index | 0x80, now);
        cmos.read(1, now)
    }

    fn date(cmos: &mut Cmos, now: VirtualTime) -> Vec<u8> {
        [
            CENTURY,
            YEAR,
            MONTH,
            DAY_OF_MONTH,
            HOURS,
            MINUTES,
            SECONDS,
            DAY_OF_WEEK,
        ]
        .map(|index| read(cmos, index, now))
        .to_vec()
    }

    #[test]
    fn the_default_date_is_new_year_2026_a_thursday() {
        let mut cmos = Cmos::default();
        let expected = [0x20, 0x26, 1, 1, 0, 0, 0, 5];
        assert_eq!(date(&mut cmos, VirtualTime(999_999_999)), expected);
    }

    #[test]
    fn the_calendar_advances_with_virtual_time() {
        let mut cmos = Cmos::default();
        let later = VirtualTime::from_secs(DAY - 1);
        assert_eq!(
            date(&mut cmos, later),
            [0x20, 0x26, 1, 1, 0x23, 0x59, 0x59, 5]
        );
    }

    #[test]
    fn leap_days_are_where_they_belong() {
        for (seconds, expected) in [
            (0, [0x19, 0x70, 1, 1, 5]),
            (951_782_400, [0x20, 0x00, 2, 0x29, 3]),
            (951_868_800, [0x20, 0x00, 3, 1, 4]),
            (4_107_542_400, [0x21, 0x00, 3, 1, 2]),
        ] {
            let mut cmos = Cmos::new(seconds);
            let all = date(&mut cmos, VirtualTime(0));
            assert_eq!([all[0], all[1], all[2], all[3], all[7]], expected);
        }
    }

    #[test]
    fn hours_follow_status_b() {
        let mut cmos = Cmos::new(DEFAULT_DATE + 15 * 3600);
        let now = VirtualTime(0);
        for (status_b, hour) in [(0x02, 0x15), (0x06, 15), (0x00, 0x83), (0x04, 0x83)] {
            cmos.write(0, STATUS_B, now);
            cmos.write(1, status_b, now);
            assert_eq!(read(&mut cmos, HOURS, now), hour);
        }
        let mut midnight = Cmos::default();
        midnight.write(0, STATUS_B, now);
        midnight.write(1, 0, now);
        assert_eq!(read(&mut midnight, HOURS, now), 0x12);
    }

    #[test]
    fn interrupts_cannot_be_enabled_and_the_date_not_set() {
        let mut cmos = Cmos::default();
        let now = VirtualTime(0);
        for (index, value, expected) in [(STATUS_B, 0xff, 0x87), (YEAR, 0x99, 26), (0x40, 7, 7)] {
            cmos.write(0, index, now);
            cmos.write(1, value, now);
            assert_eq!(read(&mut cmos, index, now), expected);
        }
    }

    #[test]
    fn a_state_of_another_shape_is_refused() {
        let mut cmos = Cmos::default();
        let good = cmos.save();
        let mut short = good.clone();
        short.memory.pop();
        assert!(cmos.restore(&short).is_err());
        let mut wild = good.clone();
        wild.index = 200;
        assert!(cmos.restore(&wild).is_err());
        assert_eq!(cmos.restore(&good), Ok(()));
    }
}
