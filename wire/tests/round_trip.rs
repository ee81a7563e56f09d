//! Any bytes are a program, and every form of a program says the same.

use latefork_wire::op::{Op, OpCode};
use latefork_wire::program::{FormError, HEADER, MAX_BYTES, MAX_STEPS, Program, STEP, Step, View};
use latefork_wire::text;
use proptest::prelude::*;

fn encoded(program: &Program) -> Vec<u8> {
    let mut bytes = [0; MAX_BYTES];
    let len = program.encode(&mut bytes);
    bytes[..len].to_vec()
}

proptest! {
    #[test]
    fn decode_then_encode_is_stable(bytes in prop::collection::vec(any::<u8>(), 0..2 * MAX_BYTES)) {
        let program = Program::decode(&bytes);
        let canonical = encoded(&program);
        prop_assert_eq!(&Program::decode(&canonical), &program);
        prop_assert_eq!(encoded(&Program::decode(&canonical)), canonical.clone());
        prop_assert_eq!(Program::decode_canonical(&canonical), Ok(program));
    }

    #[test]
    fn canonical_form_keeps_the_length_of_whole_steps(
        steps in 0_usize..MAX_STEPS,
        fill in any::<u8>(),
    ) {
        let mut bytes = vec![fill; HEADER + steps * STEP];
        bytes[0] = 0;
        prop_assert_eq!(encoded(&Program::decode(&bytes)).len(), bytes.len());
    }

    #[test]
    fn text_round_trips(bytes in prop::collection::vec(any::<u8>(), 0..MAX_BYTES)) {
        let program = Program::decode(&bytes);
        let printed = program.to_string();
        prop_assert_eq!(text::parse(&printed), Ok(program), "{}", printed);
    }

    #[test]
    fn text_parser_takes_anything(text in "[ -~\n]{0,200}") {
        let _ = text::parse(&text);
    }

    #[test]
    fn near_text_parses_or_names_its_line(
        bytes in prop::collection::vec(any::<u8>(), HEADER..600),
        at in any::<prop::sample::Index>(),
        with in "[ -~]",
    ) {
        let mut text = Program::decode(&bytes).to_string();
        prop_assume!(!text.is_empty());
        let at = at.index(text.len());
        text.replace_range(at..=at, &with);
        if let Err(error) = text::parse(&text) {
            prop_assert!(error.line >= 1 && error.line <= text.lines().count());
        }
    }

    #[test]
    fn view_sees_what_the_program_holds(bytes in prop::collection::vec(any::<u8>(), 0..MAX_BYTES)) {
        let program = Program::decode(&bytes);
        let view = View::new(&bytes);
        prop_assert_eq!(view.setup(), program.setup);
        prop_assert_eq!(view.len(), program.steps.len());
        for (at, step) in program.steps.iter().enumerate() {
            prop_assert_eq!(view.step(at), *step);
            prop_assert_eq!(view.thread(at), step.thread);
        }
        for (at, point) in program.schedule.iter().enumerate() {
            prop_assert_eq!(view.point(at), *point);
        }
    }
}

#[test]
fn no_bytes_are_the_empty_program() {
    assert_eq!(Program::decode(&[]), Program::default());
}

#[test]
fn every_operation_round_trips_with_every_payload_byte_set() {
    for code in OpCode::ALL {
        for fill in [0, 1, 0x55, 0xff] {
            let mut bytes = [fill; STEP];
            bytes[0] = *code as u8;
            let step = Step::decode(&bytes);
            assert_eq!(step.op.code(), *code);
            assert_eq!(Step::decode(&step.encode()), step);
            let line = step.to_string();
            let parsed = text::parse(&line).expect("printed text parses");
            assert_eq!(parsed.steps[0], step, "{line}");
        }
    }
}

#[test]
fn cut_off_step_counts_and_reads_as_zero() {
    let mut bytes = vec![0; HEADER + 1];
    bytes[HEADER] = OpCode::Sleep as u8;
    let program = Program::decode(&bytes);
    assert_eq!(program.steps.len(), 1);
    assert!(matches!(program.steps[0].op, Op::Sleep(sleep) if sleep.ticks == 0));
}

#[test]
fn strict_decoder_names_what_is_wrong() {
    let program = text::parse("t0 async index=read a0=fd:0").expect("it is a program");
    let good = encoded(&program);
    assert_eq!(Program::decode_canonical(&good), Ok(program));
    assert_eq!(
        Program::decode_canonical(&good[..good.len() - 1]),
        Err(FormError::Truncated {
            bytes: good.len() - 1,
            wanted: good.len()
        })
    );
    assert_eq!(
        Program::decode_canonical(&vec![0; MAX_BYTES + 1]),
        Err(FormError::Oversized {
            bytes: MAX_BYTES + 1
        })
    );
    let mut odd = good.clone();
    odd[HEADER + 1] = 4;
    assert_eq!(
        Program::decode_canonical(&odd),
        Err(FormError::NotCanonical { offset: HEADER + 1 })
    );
    assert_eq!(
        Program::decode_canonical(&good[..3]),
        Err(FormError::Truncated {
            bytes: 3,
            wanted: HEADER
        })
    );
}
