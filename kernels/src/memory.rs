//! Zeroed memory of numbers. In: a number of values. Out: an array that starts at a cache line or, if it is large, at a huge page, so that
//! the system can use one: a product that reads megabytes of weights would otherwise wait for the addresses of pages. It must not know
//! what is stored.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// A cache line,
const LINE: usize = 64;
/// and a huge page of `x86_64` and `aarch64`, bytes.
const HUGE_PAGE: usize = 2 << 20;

/// Types of which all bytes zero is a value, without padding and without a destructor.
pub(crate) trait Number: Copy {}
impl Number for u8 {}
impl Number for i8 {}
impl Number for i32 {}
impl Number for f32 {}

/// A zeroed array of whole cache lines.
pub(crate) struct Buffer<T: Number> {
    start: NonNull<u8>,
    /// None while there is no memory.
    layout: Option<Layout>,
    values: PhantomData<T>,
}

// SAFETY: a buffer owns its memory, and numbers can be sent and shared.
unsafe impl<T: Number> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Number> Sync for Buffer<T> {}

impl<T: Number> Buffer<T> {
    /// Room for at least `values` values.
    pub(crate) fn new(values: usize) -> Self {
        if values == 0 {
            return Self { start: NonNull::<u64>::dangling().cast(), layout: None, values: PhantomData };
        }
        let bytes = values.saturating_mul(size_of::<T>());
        let align = if bytes >= HUGE_PAGE / 2 { HUGE_PAGE } else { LINE };
        let Ok(layout) = Layout::from_size_align(bytes, align).map(|layout| layout.pad_to_align()) else {
            handle_alloc_error(Layout::new::<T>())
        };
        // SAFETY: the size is not zero.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        Self { start, layout: Some(layout), values: PhantomData }
    }

    /// Makes room for at least `values` values. What was stored is lost if that needs other memory.
    pub(crate) fn reserve(&mut self, values: usize) {
        if values > self.len() {
            *self = Self::new(values);
        }
    }

    fn len(&self) -> usize {
        self.layout.map_or(0, |layout| layout.size() / size_of::<T>())
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: so many values are there, initialized and aligned; any bytes are values of a number. `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), self.len()) }
    }

    pub(crate) fn as_ptr(&self) -> *const T {
        self.start.as_ptr().cast()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.start.as_ptr().cast()
    }
}

impl<T: Number> Drop for Buffer<T> {
    fn drop(&mut self) {
        if let Some(layout) = self.layout {
            // SAFETY: `new` allocated this with the same layout.
            unsafe { dealloc(self.start.as_ptr(), layout) }
        }
    }
}

impl<T: Number> Default for Buffer<T> {
    fn default() -> Self {
        Self::new(0)
    }
}
