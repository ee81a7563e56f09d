//! Fields: values with a fixed number of bytes and a word for people.
//!
//! Everything in a program is a field, so that decoding is total by
//! construction: `get` takes any bytes, an enumeration takes its byte modulo
//! the number of its variants.

use core::fmt;

/// A value of fixed size inside a record.
pub trait Field: Copy + PartialEq {
    /// Bytes that the value takes.
    const SIZE: usize;

    /// Reads the value from the first [`Self::SIZE`] bytes; bytes that are
    /// missing read as 0.
    fn get(bytes: &[u8]) -> Self;

    /// Writes the value to the first [`Self::SIZE`] bytes, as far as there
    /// are any.
    fn put(self, bytes: &mut [u8]);
}

/// A field that has a text form without blanks.
pub trait Token: Sized {
    /// Writes the text form.
    ///
    /// # Errors
    /// Only what `out` itself reports.
    fn write_token(&self, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Reads the text form; `None` where `text` is not one.
    fn parse_token(text: &str) -> Option<Self>;
}

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

macro_rules! integer_field {
    ($($type:ty)*) => {$(
        impl Field for $type {
            const SIZE: usize = size_of::<$type>();

            fn get(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<$type>()];
                for (at, place) in raw.iter_mut().enumerate() {
                    *place = byte(bytes, at);
                }
                Self::from_le_bytes(raw)
            }

            fn put(self, bytes: &mut [u8]) {
                for (place, value) in bytes.iter_mut().zip(self.to_le_bytes()) {
                    *place = value;
                }
            }
        }

        impl Token for $type {
            fn write_token(&self, out: &mut dyn fmt::Write) -> fmt::Result {
                write!(out, "{self}")
            }

            fn parse_token(text: &str) -> Option<Self> {
                match text.strip_prefix("0x") {
                    Some(digits) => Self::from_str_radix(digits, 16).ok(),
                    None => text.parse().ok(),
                }
            }
        }
    )*};
}

integer_field!(u8 u16 u32 i8);

/// Declares a closed enumeration of one byte: any byte decodes (modulo the
/// number of variants), the first variant is the default, each has a word.
macro_rules! choices {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// Every variant, in the order of its byte.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The variant's word in the text form.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::ALL[0]
            }
        }

        impl $crate::field::Field for $name {
            const SIZE: usize = 1;

            fn get(bytes: &[u8]) -> Self {
                let byte = bytes.first().copied().unwrap_or(0);
                Self::ALL[usize::from(byte) % Self::ALL.len()]
            }

            fn put(self, bytes: &mut [u8]) {
                if let Some(place) = bytes.first_mut() {
                    *place = self as u8;
                }
            }
        }

        impl $crate::field::Token for $name {
            fn write_token(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
                out.write_str(self.word())
            }

            fn parse_token(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|choice| choice.word() == text)
            }
        }
    };
}

/// Declares a number that is taken modulo `$limit` when decoded.
macro_rules! small_number {
    ($(#[$meta:meta])* pub struct $name:ident(u8) below $limit:expr;) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u8);

        impl $name {
            /// How many values there are: 0 to `COUNT - 1`.
            pub const COUNT: u8 = $limit;

            /// `value` modulo [`Self::COUNT`].
            #[must_use]
            pub const fn new(value: u8) -> Self {
                Self(value % Self::COUNT)
            }

            /// The number.
            #[must_use]
            pub const fn number(self) -> u8 {
                self.0
            }

            /// The number as an index.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl $crate::field::Field for $name {
            const SIZE: usize = 1;

            fn get(bytes: &[u8]) -> Self {
                Self::new(bytes.first().copied().unwrap_or(0))
            }

            fn put(self, bytes: &mut [u8]) {
                if let Some(place) = bytes.first_mut() {
                    *place = self.0;
                }
            }
        }

        impl $crate::field::Token for $name {
            fn write_token(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
                write!(out, "{}", self.0)
            }

            fn parse_token(text: &str) -> Option<Self> {
                let value = u8::parse_token(text)?;
                (value < Self::COUNT).then_some(Self(value))
            }
        }
    };
}

pub(crate) use choices;
pub(crate) use small_number;
