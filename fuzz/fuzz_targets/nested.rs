//! Programs that make the call through the call itself.
#![cfg_attr(fuzzing, no_main)]

latefork_fuzz::guest_target!("nested", Nested);
