//! Limits slices in flight, by count and bytes. In: the sizes of slices to start and of finished slices. Out: permission to
//! start. It must not block the only slice, however long its texts are.

use crossbeam_channel::Receiver;

/// The bytes of text in flight are limited to this per permitted slice: the largest slice of a GPU, or a longer text alone.
const SLICE_BYTES: usize = 4 << 20;

/// Limits the number of slices in flight and the bytes of their texts.
pub(crate) struct InFlightLimit {
    max_slices: usize,
    slices: usize,
    bytes: usize,
    /// Receives the bytes of each finished slice.
    done: Receiver<usize>,
}

impl InFlightLimit {
    /// A limit of `max_slices` slices; `done` receives the bytes of each finished slice.
    pub(crate) fn new(max_slices: usize, done: Receiver<usize>) -> Self {
        Self { max_slices, slices: 0, bytes: 0, done }
    }

    /// Waits until a slice with `bytes` of text can start. Returns false if the sender of finished slices is gone.
    pub(crate) fn enter(&mut self, bytes: usize) -> bool {
        while self.slices == self.max_slices || self.slices > 0 && self.bytes + bytes > self.max_slices * SLICE_BYTES {
            let Ok(done) = self.done.recv() else { return false };
            self.slices -= 1;
            self.bytes -= done;
        }
        self.slices += 1;
        self.bytes += bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;

    #[test]
    fn slices_wait_for_both_limits() {
        let (done, finished) = unbounded();
        let mut limit = InFlightLimit::new(3, finished);
        assert!(limit.enter(9 * SLICE_BYTES), "the only slice can start");
        done.send(9 * SLICE_BYTES).unwrap();
        assert!(limit.enter(2 * SLICE_BYTES) && limit.done.is_empty(), "the second waits for the first");
        assert!(limit.enter(SLICE_BYTES), "both fit");
        done.send(2 * SLICE_BYTES).unwrap();
        assert!(limit.enter(1) && limit.done.is_empty());
        assert!(limit.enter(1), "a third fits");
        drop(done);
        assert!(!limit.enter(1), "a fourth does not fit, and no slice can finish any more");
    }
}
