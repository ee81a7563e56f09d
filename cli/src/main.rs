//! The `latefork` command.

fn main() {}
