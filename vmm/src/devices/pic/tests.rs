use super::*;

const NOW: VirtualTime = VirtualTime(0);

/// Initialised as Linux does: vectors 0x30 and 0x38, nothing masked.
fn initialised() -> Pic {
    let mut pic = Pic::new();
    for (role, base, wiring) in [(Role::Master, 0x30, 4), (Role::Slave, 0x38, 2)] {
        write(
            &mut pic,
            role,
            &[(0, 0x11), (1, base), (1, wiring), (1, 1), (1, 0)],
        );
    }
    pic
}

fn write(pic: &mut Pic, role: Role, writes: &[(u16, u8)]) {
    for (offset, value) in writes {
        pic.chip(role).write(*offset, *value, NOW);
    }
}

fn in_service(pic: &mut Pic, role: Role) -> u8 {
    write(pic, role, &[(0, 0x0b)]);
    pic.chip(role).read(0, NOW)
}

#[test]
fn an_edge_interrupts_once_and_a_level_until_it_falls() {
    let mut pic = initialised();
    pic.raise(IrqLine(4));
    assert_eq!(pic.acknowledge(), 0x34);
    write(&mut pic, Role::Master, &[(0, 0x20)]);
    assert!(!pic.interrupt_pending(), "the edge was used up");

    pic.raise(IRQ_VIRTIO);
    assert_eq!(pic.acknowledge(), 0x3a);
    assert!(!pic.interrupt_pending(), "in service");
    write(&mut pic, Role::Slave, &[(0, 0x20)]);
    write(&mut pic, Role::Master, &[(0, 0x20)]);
    assert!(pic.interrupt_pending(), "still high");
    pic.lower(IRQ_VIRTIO);
    assert!(!pic.interrupt_pending());
}

#[test]
fn a_lower_number_interrupts_the_service_of_a_higher_one_only() {
    let mut pic = initialised();
    pic.pulse(IrqLine(4));
    assert_eq!(pic.acknowledge(), 0x34);
    pic.pulse(IrqLine(6));
    assert!(!pic.interrupt_pending());
    pic.pulse(IrqLine(0));
    assert_eq!(pic.acknowledge(), 0x30);
    assert_eq!(in_service(&mut pic, Role::Master), 0x11);
    write(&mut pic, Role::Master, &[(0, 0x20)]);
    assert_eq!(in_service(&mut pic, Role::Master), 0x10);
    write(&mut pic, Role::Master, &[(0, 0x64)]);
    assert_eq!(pic.acknowledge(), 0x36);
}

#[test]
fn a_slave_line_is_in_service_on_both_chips() {
    let mut pic = initialised();
    pic.pulse(IrqLine(11));
    assert_eq!(pic.acknowledge(), 0x3b);
    assert_eq!(in_service(&mut pic, Role::Master), 0x04);
    assert_eq!(in_service(&mut pic, Role::Slave), 0x08);
    write(&mut pic, Role::Slave, &[(0, 0x63)]);
    write(&mut pic, Role::Master, &[(0, 0x62)]);
    pic.pulse(IrqLine(15));
    assert_eq!(pic.acknowledge(), 0x3f);
}

#[test]
fn two_slave_lines_are_served_one_after_the_other() {
    let mut pic = initialised();
    pic.pulse(IrqLine(12));
    pic.pulse(IrqLine(9));
    assert_eq!(pic.acknowledge(), 0x39);
    write(&mut pic, Role::Slave, &[(0, 0x20)]);
    write(&mut pic, Role::Master, &[(0, 0x20)]);
    assert_eq!(pic.acknowledge(), 0x3c);
}

#[test]
fn a_request_that_went_away_is_spurious() {
    let mut pic = initialised();
    assert_eq!(pic.acknowledge(), 0x37);
    assert_eq!(in_service(&mut pic, Role::Master), 0, "not in service");

    pic.write_elcr(1, 0x02);
    pic.raise(IrqLine(9));
    pic.chips[0].irr |= 4;
    pic.chips[1].irr = 0;
    assert_eq!(pic.acknowledge(), 0x3f);
    assert_eq!(in_service(&mut pic, Role::Slave), 0);
    assert_eq!(in_service(&mut pic, Role::Master), 4, "the cascade is");
}

#[test]
fn a_masked_line_waits_and_asks_when_unmasked() {
    let mut pic = initialised();
    write(&mut pic, Role::Master, &[(1, 0x01)]);
    pic.pulse(IrqLine(0));
    assert!(!pic.interrupt_pending());
    write(&mut pic, Role::Master, &[(1, 0x00)]);
    assert_eq!(pic.acknowledge(), 0x30);
}

#[test]
fn special_mask_mode_lets_lower_priorities_through() {
    let mut pic = initialised();
    pic.pulse(IrqLine(1));
    assert_eq!(pic.acknowledge(), 0x31);
    pic.pulse(IrqLine(6));
    assert!(!pic.interrupt_pending());
    write(&mut pic, Role::Master, &[(0, 0x68), (1, 0x02)]);
    assert_eq!(pic.acknowledge(), 0x36);
}

#[test]
fn rotation_makes_the_served_line_the_least_urgent() {
    let mut pic = initialised();
    pic.pulse(IrqLine(3));
    assert_eq!(pic.acknowledge(), 0x33);
    write(&mut pic, Role::Master, &[(0, 0xa0)]);
    pic.pulse(IrqLine(3));
    pic.pulse(IrqLine(6));
    assert_eq!(pic.acknowledge(), 0x36);
}

#[test]
fn auto_eoi_keeps_nothing_in_service() {
    let mut pic = initialised();
    write(
        &mut pic,
        Role::Master,
        &[(0, 0x11), (1, 0x30), (1, 4), (1, 3)],
    );
    pic.pulse(IrqLine(3));
    assert_eq!(pic.acknowledge(), 0x33);
    assert_eq!(in_service(&mut pic, Role::Master), 0);
}

#[test]
fn a_poll_acknowledges() {
    let mut pic = initialised();
    pic.pulse(IrqLine(3));
    write(&mut pic, Role::Master, &[(0, 0x0c)]);
    assert_eq!(pic.chip(Role::Master).read(0, NOW), 0x83);
    write(&mut pic, Role::Master, &[(0, 0x0c)]);
    assert_eq!(pic.chip(Role::Master).read(0, NOW), 0);
    assert_eq!(in_service(&mut pic, Role::Master), 8);
}

#[test]
fn initialisation_forgets_edges_and_masks_but_not_levels() {
    let mut pic = initialised();
    write(&mut pic, Role::Master, &[(1, 0xff)]);
    pic.write_elcr(0, 0x20);
    pic.raise(IrqLine(3));
    pic.raise(IrqLine(5));
    write(
        &mut pic,
        Role::Master,
        &[(0, 0x11), (1, 0x40), (1, 4), (1, 1)],
    );
    assert_eq!(pic.acknowledge(), 0x45);
    assert!(!pic.interrupt_pending());
    pic.lower(IrqLine(3));
    pic.pulse(IrqLine(3));
    assert_eq!(pic.acknowledge(), 0x43);
}

#[test]
fn fixed_lines_stay_edge_triggered() {
    let mut pic = initialised();
    pic.write_elcr(0, 0xff);
    pic.write_elcr(1, 0xff);
    assert_eq!((pic.read_elcr(0), pic.read_elcr(1)), (0xf8, 0xde));
}

#[test]
fn a_restored_pic_goes_on_where_it_was() {
    let mut pic = initialised();
    pic.pulse(IrqLine(12));
    pic.pulse(IrqLine(3));
    let state = pic.save();
    let mut other = Pic::new();
    other.restore(&state).unwrap();
    assert_eq!(other, pic);
    assert_eq!(other.acknowledge(), 0x3c, "the slave sits at line 2");
    let mut bad = state;
    bad[1].first = 8;
    assert!(other.restore(&bad).is_err());
}
