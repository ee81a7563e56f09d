//! A list with a fixed capacity, for code that has no heap.

use core::ops::Deref;

/// At most `N` values of `T`, kept in place.
#[derive(Clone, Copy, Debug)]
pub struct Bounded<T, const N: usize> {
    values: [T; N],
    len: usize,
}

impl<T: Copy + Default, const N: usize> Bounded<T, N> {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self {
            values: [T::default(); N],
            len: 0,
        }
    }

    /// Appends `value`; a full list stays as it is and gives `false`.
    pub fn push(&mut self, value: T) -> bool {
        match self.values.get_mut(self.len) {
            Some(place) => {
                *place = value;
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// The values, to change them in place.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.values[..self.len]
    }

    /// Inserts `value` before position `at` (its end at most); a full list
    /// stays as it is and gives `false`.
    pub fn insert(&mut self, at: usize, value: T) -> bool {
        let at = at.min(self.len);
        if !self.push(value) {
            return false;
        }
        self.as_mut_slice()[at..].rotate_right(1);
        true
    }

    /// Takes the value at position `at` out.
    pub fn remove(&mut self, at: usize) -> Option<T> {
        let value = *self.as_mut_slice().get(at)?;
        self.as_mut_slice()[at..].rotate_left(1);
        self.len -= 1;
        Some(value)
    }

    /// Shortens the list to at most `len` values.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl<T: Copy + Default, const N: usize> Default for Bounded<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> Deref for Bounded<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[..self.len]
    }
}

impl<T: PartialEq, const N: usize> PartialEq for Bounded<T, N> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T: Eq, const N: usize> Eq for Bounded<T, N> {}

impl<T: Copy + Default, const N: usize> FromIterator<T> for Bounded<T, N> {
    /// Collects at most `N` values and drops the rest.
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut list = Self::new();
        for value in values.into_iter().take(N) {
            list.push(value);
        }
        list
    }
}
