//! Programs of every operation.
#![cfg_attr(fuzzing, no_main)]

latefork_fuzz::guest_target!("everything", Everything);
