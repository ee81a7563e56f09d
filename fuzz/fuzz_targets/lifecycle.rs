//! Programs in which signals, exit, exec and tracers meet a worker.
#![cfg_attr(fuzzing, no_main)]

latefork_fuzz::guest_target!("lifecycle", Lifecycle);
