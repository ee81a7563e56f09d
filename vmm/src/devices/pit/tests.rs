use super::*;

/// The first moment of clock `tick`.
fn at(tick: u64) -> VirtualTime {
    Tick(tick).begins()
}

fn program(pit: &mut Pit, channel: u16, mode: u8, count: u16, tick: u64) {
    let select = channel.to_le_bytes()[0] << 6;
    pit.write(3, select | 0x30 | mode << 1, at(tick));
    let [low, high] = count.to_le_bytes();
    pit.write(channel, low, at(tick));
    pit.write(channel, high, at(tick));
}

fn count(pit: &mut Pit, channel: u16, tick: u64) -> u16 {
    let low = pit.read(channel, at(tick));
    let high = pit.read(channel, at(tick));
    u16::from_le_bytes([low, high])
}

fn output(pit: &mut Pit, tick: u64) -> bool {
    pit.read_port_b(at(tick)) & PORT_B_OUTPUT != 0
}

/// The ticks of the next `n` edges.
fn edges(pit: &mut Pit, n: usize) -> Vec<u64> {
    (0..n)
        .map_while(|_| {
            let next = pit.next_edge();
            (next != VirtualTime::NEVER).then(|| {
                assert!(!pit.clone().take_edge(VirtualTime(next.0 - 1)), "too early");
                assert!(pit.take_edge(next));
                Tick::at(next).0
            })
        })
        .collect()
}

#[test]
fn ticks_and_moments_are_inverse() {
    for tick in [0, 1, 2, 1_193_181, 1_193_182, 987_654_321_012] {
        let begins = Tick(tick).begins();
        assert_eq!(Tick::at(begins).0, tick);
        if tick > 0 {
            assert_eq!(Tick::at(VirtualTime(begins.0 - 1)).0, tick - 1);
        }
    }
    assert_eq!(Tick::at(VirtualTime::from_secs(1)).0, 1_193_182);
}

#[test]
fn a_hundred_hertz_tick_is_periodic() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 2, 11932, 100);
    assert_eq!(edges(&mut pit, 3), [12032, 23964, 35896]);
    assert_eq!(count(&mut pit, 0, 35896), 11932);
    assert_eq!(count(&mut pit, 0, 35897), 11931);
}

#[test]
fn a_missed_edge_is_one_edge() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 2, 100, 0);
    assert!(pit.take_edge(at(1050)));
    assert!(!pit.take_edge(at(1050)));
    assert_eq!(edges(&mut pit, 1), [1100]);
}

#[test]
fn terminal_count_rises_once() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 0, 500, 10);
    assert_eq!(edges(&mut pit, 2), [510]);
    assert_eq!(count(&mut pit, 0, 511), 0xffff, "it wraps and goes on");
}

#[test]
fn a_software_strobe_rises_after_its_low_clock() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 4, 500, 10);
    assert_eq!(edges(&mut pit, 2), [511]);
}

#[test]
fn a_new_rate_starts_at_the_end_of_the_period() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 2, 100, 0);
    pit.write(0, 50, at(130));
    pit.write(0, 0, at(130));
    assert_eq!(edges(&mut pit, 4), [200, 250, 300, 350]);
}

#[test]
fn a_control_word_stops_the_old_count() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 2, 100, 0);
    pit.write(3, 0x34, at(50));
    assert_eq!(pit.next_edge(), VirtualTime::NEVER);
}

#[test]
fn channel_2_counts_while_its_gate_is_high() {
    let mut pit = Pit::new();
    program(&mut pit, 2, 0, 1000, 0);
    assert_eq!(count(&mut pit, 2, 500), 1000, "the gate is low");
    pit.write_port_b(PORT_B_GATE, at(500));
    assert_eq!(count(&mut pit, 2, 600), 900);
    pit.write_port_b(0, at(600));
    assert_eq!(count(&mut pit, 2, 5000), 900);
    pit.write_port_b(PORT_B_GATE, at(5000));
    assert!(!output(&mut pit, 5899));
    assert!(output(&mut pit, 5900));
    assert_eq!(pit.read_port_b(at(5900)) & PORT_B_KEPT, PORT_B_GATE);
}

#[test]
fn a_rate_generator_is_low_in_its_last_clock() {
    let mut pit = Pit::new();
    pit.write_port_b(PORT_B_GATE, at(0));
    program(&mut pit, 2, 2, 4, 0);
    let levels: Vec<bool> = (0..8).map(|tick| output(&mut pit, tick)).collect();
    assert_eq!(levels, [true, true, true, false, true, true, true, false]);
}

#[test]
fn an_odd_square_wave_is_high_one_clock_longer() {
    let mut pit = Pit::new();
    pit.write_port_b(PORT_B_GATE, at(0));
    program(&mut pit, 2, 3, 5, 0);
    let levels: Vec<bool> = (0..6).map(|tick| output(&mut pit, tick)).collect();
    assert_eq!(levels, [true, true, true, false, false, true]);
    let counts: Vec<u16> = (0..5).map(|tick| count(&mut pit, 2, tick)).collect();
    assert_eq!(counts, [4, 2, 0, 4, 2]);
}

#[test]
fn a_one_shot_waits_for_its_gate() {
    let mut pit = Pit::new();
    program(&mut pit, 2, 1, 10, 0);
    assert!(output(&mut pit, 100));
    pit.write_port_b(PORT_B_GATE, at(100));
    assert!(!output(&mut pit, 109));
    assert!(output(&mut pit, 110));
}

#[test]
fn a_latched_count_stands_until_it_is_read() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 2, 1000, 0);
    pit.write(3, 0x00, at(100));
    pit.write(3, 0x00, at(200));
    assert_eq!(count(&mut pit, 0, 300), 900);
    assert_eq!(count(&mut pit, 0, 300), 700);
}

#[test]
fn a_read_back_latches_status_before_count() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 2, 1000, 0);
    pit.write(3, 0xc2, at(100));
    assert_eq!(pit.read(0, at(150)), 0xb4);
    assert_eq!(count(&mut pit, 0, 150), 900);
    pit.write(3, 0x34, at(200));
    pit.write(3, 0xe2, at(200));
    assert_eq!(pit.read(0, at(200)), 0xf4, "no count is loaded yet");
}

#[test]
fn single_bytes_are_accessed_as_asked() {
    let mut pit = Pit::new();
    pit.write(3, 0x14, at(0));
    pit.write(0, 0x40, at(0));
    assert_eq!(pit.read(0, at(0x10)), 0x30);
    pit.write(3, 0x24, at(0));
    pit.write(0, 0x40, at(0));
    assert_eq!(pit.read(0, at(0x1000)), 0x30);
}

#[test]
fn counts_in_decimal_wrap_at_ten_thousand() {
    let mut pit = Pit::new();
    pit.write(3, 0x31, at(0));
    pit.write(0, 0x00, at(0));
    pit.write(0, 0x10, at(0));
    assert_eq!(count(&mut pit, 0, 1), 0x0999);
    assert_eq!(edges(&mut pit, 1), [1000]);
    assert_eq!(count(&mut pit, 0, 1001), 0x9999);
}

#[test]
fn the_largest_count_is_zero() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 2, 0, 0);
    assert_eq!(edges(&mut pit, 2), [0x1_0000, 0x2_0000]);
}

#[test]
fn a_period_of_one_does_not_hang() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 2, 1, 0);
    assert_eq!(edges(&mut pit, 3), [1, 2, 3]);
    program(&mut pit, 0, 3, 1, 10);
    assert_eq!(edges(&mut pit, 2), [11, 12]);
}

#[test]
fn a_restored_pit_goes_on_where_it_was() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 2, 100, 0);
    assert!(pit.take_edge(at(101)));
    pit.write(0, 7, at(130));
    let state = pit.save();
    let mut other = Pit::new();
    other.restore(&state).unwrap();
    assert_eq!(other, pit);
    pit.write(0, 0, at(140));
    other.write(0, 0, at(140));
    assert_eq!(edges(&mut other, 4), edges(&mut pit, 4));
}

#[test]
fn a_period_that_no_count_means_is_refused() {
    for period in [0u32, 0x1_0001] {
        let mut state = Pit::new().save();
        state.channels[1] = state.channels[1].with_period(period);
        assert!(Pit::new().restore(&state).is_err());
    }
}
