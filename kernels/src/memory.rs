//! Buffers that start at a cache line. In: a number of values. Out: zeroed memory. It must not know what is stored.

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Types of which all bytes zero is a value, without padding and without a destructor.
pub(crate) trait Plain: Copy {}
impl Plain for u8 {}
impl Plain for i8 {}
impl Plain for i32 {}
impl Plain for f32 {}

/// A zeroed array that starts at a cache line and ends with one.
pub(crate) struct Buffer<T> {
    lines: Vec<Line>,
    values: std::marker::PhantomData<T>,
}

impl<T: Plain> Default for Buffer<T> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T: Plain> Buffer<T> {
    pub(crate) fn new(values: usize) -> Self {
        let mut buffer = Self { lines: Vec::new(), values: std::marker::PhantomData };
        buffer.reserve(values);
        buffer
    }

    /// At least `values` values. Values that exist stay.
    pub(crate) fn reserve(&mut self, values: usize) {
        let lines = (values * size_of::<T>()).div_ceil(64);
        if lines > self.lines.len() {
            self.lines.resize(lines, Line([0; 64]));
        }
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: the lines are initialized bytes, aligned for T, and any bytes are values of a `Plain` type.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * 64 / size_of::<T>()) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above; `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len() * 64 / size_of::<T>()) }
    }

    pub(crate) fn as_ptr(&self) -> *const T {
        self.lines.as_ptr().cast()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.lines.as_mut_ptr().cast()
    }
}
