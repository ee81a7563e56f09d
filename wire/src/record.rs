//! Records: a fixed order of named fields, with bytes and text from one
//! declaration.

use core::fmt;

/// Why a field of a record could not be set from text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetError {
    /// The record has no field of this name.
    UnknownField,
    /// The field exists, the value is not one of its values.
    BadValue,
}

/// A struct of fields.
pub trait Record: Copy + PartialEq + Default {
    /// Bytes that all fields take.
    const SIZE: usize;

    /// Reads every field; missing bytes read as 0.
    fn get(bytes: &[u8]) -> Self;

    /// Writes every field, as far as `bytes` reaches.
    fn put(&self, bytes: &mut [u8]);

    /// Writes ` name=value` for each field that is not at its default.
    ///
    /// # Errors
    /// Only what `out` itself reports.
    fn write_fields(&self, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Sets the field `name` from its text form.
    ///
    /// # Errors
    /// The field does not exist, or `value` is none of its values.
    fn set(&mut self, name: &str, value: &str) -> Result<(), SetError>;
}

macro_rules! record {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $crate::record::Record for $name {
            const SIZE: usize = 0 $(+ <$type as $crate::field::Field>::SIZE)*;

            #[allow(unused_assignments, unused_mut, unused_variables)]
            fn get(bytes: &[u8]) -> Self {
                let mut at = 0;
                $(
                    let rest = bytes.get(at..).unwrap_or(&[]);
                    let $field = <$type as $crate::field::Field>::get(rest);
                    at += <$type as $crate::field::Field>::SIZE;
                )*
                Self { $($field,)* }
            }

            #[allow(unused_assignments, unused_mut, unused_variables)]
            fn put(&self, bytes: &mut [u8]) {
                let mut at = 0;
                $(
                    if let Some(rest) = bytes.get_mut(at..) {
                        $crate::field::Field::put(self.$field, rest);
                    }
                    at += <$type as $crate::field::Field>::SIZE;
                )*
            }

            #[allow(unused_variables)]
            fn write_fields(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
                $(
                    if self.$field != <$type>::default() {
                        out.write_str(concat!(" ", stringify!($field), "="))?;
                        $crate::field::Token::write_token(&self.$field, out)?;
                    }
                )*
                Ok(())
            }

            #[allow(unused_variables)]
            fn set(&mut self, name: &str, value: &str) -> Result<(), $crate::record::SetError> {
                match name {
                    $(
                        stringify!($field) => {
                            self.$field = $crate::field::Token::parse_token(value)
                                .ok_or($crate::record::SetError::BadValue)?;
                            Ok(())
                        }
                    )*
                    _ => Err($crate::record::SetError::UnknownField),
                }
            }
        }
    };
}

pub(crate) use record;
