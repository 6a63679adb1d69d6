//! The frames of a file of `pzstd`, which says before each how long it is, so that they can be unpacked at the same time.

use std::io::{self, Read};

/// What the small skippable frame begins with that holds the length of the next one: its magic and its own length, 4.
const LENGTH_FOLLOWS: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0];

/// The longest frame that is taken, in bytes.
const LONGEST_FRAME: u32 = 64 << 20;

/// Gives each frame of a file. It fails for files that were packed in another way.
#[derive(Debug)]
pub(super) struct ZstdFrames<R> {
    input: R,
    is_over: bool,
}

impl<R: Read> ZstdFrames<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, is_over: false }
    }

    fn next_frame(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut head = Vec::with_capacity(12);
        (&mut self.input).take(12).read_to_end(&mut head)?;
        if head.is_empty() {
            return Ok(None);
        }
        let length = match head.split_first_chunk::<8>() {
            Some((start, length)) if *start == LENGTH_FOLLOWS => length.try_into().map(u32::from_le_bytes).ok(),
            _ => None,
        };
        let length = length.filter(|length| *length <= LONGEST_FRAME);
        let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is not of pzstd"))?;
        let mut frame = Vec::new();
        (&mut self.input).take(length.into()).read_to_end(&mut frame)?;
        if frame.len() < length as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(frame))
    }
}

impl<R: Read> Iterator for ZstdFrames<R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let frame = self.next_frame();
        self.is_over = !matches!(frame, Ok(Some(_)));
        frame.transpose()
    }
}
