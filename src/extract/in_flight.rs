//! How much may be under way. In: the bytes of slices that are to begin and of slices that are done. Out: leave to
//! begin. It may not stop the only slice, however long its texts are.

use crossbeam_channel::Receiver;

/// Text that is under way for each slice that may be: so much are 256 documents of 64 KiB.
const SLICE_BYTES: usize = 16 << 20;

/// InFlightLimit for so many slices, and for so many bytes of their texts.
pub(crate) struct InFlightLimit {
    most: usize,
    slices: usize,
    bytes: usize,
    /// The bytes of each slice that is done.
    done: Receiver<usize>,
}

impl InFlightLimit {
    /// InFlightLimit for `most` slices; `done` tells the bytes of each that is done.
    pub(crate) fn new(most: usize, done: Receiver<usize>) -> Self {
        Self { most, slices: 0, bytes: 0, done }
    }

    /// Waits until a slice with `bytes` of text may begin. False where nobody is left to tell of a slice that is done.
    pub(crate) fn enter(&mut self, bytes: usize) -> bool {
        while self.slices == self.most || self.slices > 0 && self.bytes + bytes > self.most * SLICE_BYTES {
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
    fn slices_wait_for_room_in_number_and_in_bytes() {
        let (done, told) = unbounded();
        let mut room = InFlightLimit::new(3, told);
        assert!(room.enter(9 * SLICE_BYTES), "the only slice may begin");
        done.send(9 * SLICE_BYTES).unwrap();
        assert!(room.enter(2 * SLICE_BYTES) && room.done.is_empty(), "the second waits for it");
        assert!(room.enter(SLICE_BYTES), "there is room for both");
        done.send(2 * SLICE_BYTES).unwrap();
        assert!(room.enter(1) && room.done.is_empty());
        assert!(room.enter(1), "there is room for a third");
        drop(done);
        assert!(!room.enter(1), "there is none for a fourth, and nobody makes any");
    }
}
