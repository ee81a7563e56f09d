//! The text form: what it looks like, and what it says of a mistake.

use latefork_wire::op::Op;
use latefork_wire::text::{self, Problem};
use latefork_wire::value::{Arg, Place, Pointer, Scalar};

#[test]
fn fields_at_their_default_are_left_out() {
    let text = "setup privilege=user nproc=1\n\
                schedule 1+1200\n\
                t0 create slot=1\n\
                t1 async index=read status=edge:3 a0=fd:2 a1=own a2=len:7\n";
    let program = text::parse(text).expect("it is a program");
    assert_eq!(program.to_string(), text);
    let Op::Async(call) = program.steps[1].op else {
        panic!("step 1 is no async call");
    };
    assert_eq!(call.status, Pointer::new(Place::Edge, 3));
    assert_eq!(call.a0, Arg::Scalar(Scalar::Fd, 2));
    assert_eq!(call.a1, Arg::Buffer(Pointer::new(Place::Own, 0)));
    assert_eq!(call.descriptor().map(|row| row.name), Some("read"));
}

#[test]
fn comments_and_blank_lines_do_not_count() {
    let program = text::parse("# nothing\n\n  t2 nop # still nothing\n").expect("a program");
    assert_eq!(program.steps.len(), 1);
    assert_eq!(program.steps[0].thread.number(), 2);
}

#[test]
fn mistakes_are_named_with_line_and_word() {
    let check = |text: &str, line, word: &str, problem| {
        let error = text::parse(text).expect_err("it is no program");
        assert_eq!(
            (error.line, error.word, error.problem),
            (line, word, problem)
        );
    };
    check("t0 nop\nt4 nop", 2, "t4", Problem::UnknownLine);
    check("t0", 1, "t0", Problem::NoOperation);
    check("t0 fly", 1, "fly", Problem::UnknownOperation);
    check("t0 sleep ticks", 1, "ticks", Problem::NoField);
    check("t0 sleep tocks=1", 1, "tocks=1", Problem::UnknownField);
    check("t0 sleep ticks=256", 1, "ticks=256", Problem::BadValue);
    check("t0 async index=sleep", 1, "index=sleep", Problem::BadValue);
    check("schedule 64+1", 1, "64+1", Problem::BadValue);
    check("schedule 1+16777216", 1, "1+16777216", Problem::BadValue);
    check(&"t0 nop\n".repeat(65), 65, "t0", Problem::TooManySteps);
    let points = format!("schedule{}", " 0+1".repeat(33));
    check(&points, 1, "0+1", Problem::TooManyPoints);
}
