//! Programs whose calls cannot fork: limits, privileges, failed allocations.
#![cfg_attr(fuzzing, no_main)]

latefork_fuzz::guest_target!("clone_failure", CloneFailure);
