//! A deterministic 32-bit x86 CPU.
