//! Programs with hostile pointers, and pages that come and go under a call.
#![cfg_attr(fuzzing, no_main)]

latefork_fuzz::guest_target!("hostile_args", HostileArgs);
