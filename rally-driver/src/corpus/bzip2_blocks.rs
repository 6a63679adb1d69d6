//! The blocks of a bzip2 file, each as a file of its own, so that they can be unpacked at the same time.
//!
//! A bzip2 file is one stream or several; each has a header, blocks that know nothing of each other, and a footer. Blocks
//! and footers begin at any bit with 48 bits that are hardly ever found elsewhere; if they are, the file has to be unpacked
//! in one go, which whoever reads this has to be ready for.

use std::io::{self, Read};

/// What a block begins with.
const BLOCK: u64 = 0x3141_5926_5359;

/// What the footer of a stream begins with; a checksum of 32 bits follows.
const FOOTER: u64 = 0x1772_4538_5090;

/// Bits of either.
const MAGIC_BITS: u64 = 48;

/// A block has at most 900,000 bytes unpacked, and hardly ever more when packed.
const LONGEST_BLOCK: usize = 4 << 20;

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// Gives each block of a file as a bzip2 file of its own.
#[derive(Debug)]
pub(super) struct Bzip2Blocks<R> {
    input: R,
    /// The bytes that are still needed; `buffer[0]` is byte `begin` of the file.
    buffer: Vec<u8>,
    begin: u64,
    /// The next byte of the buffer to look at, and the last seven before it.
    next: usize,
    window: u64,
    /// For each byte, which magics at which bit could have it in their middle.
    candidates: Box<[u16; 256]>,
    /// Where the current block begins, in bits of the file.
    block: Option<u64>,
    /// The checksum of the blocks of the stream so far.
    checksum: u32,
    is_over: bool,
}

impl<R: Read> Bzip2Blocks<R> {
    pub(super) fn new(input: R) -> Self {
        let mut candidates = Box::new([0_u16; 256]);
        for shift in 0..8 {
            candidates[(BLOCK << shift >> 24 & 0xff) as usize] |= 1 << shift;
            candidates[(FOOTER << shift >> 24 & 0xff) as usize] |= 256 << shift;
        }
        Self {
            input,
            buffer: Vec::new(),
            begin: 0,
            next: 0,
            window: 0,
            candidates,
            block: None,
            checksum: 0,
            is_over: false,
        }
    }

    /// The next block or footer, and the bit that it begins at; none at the end of the file.
    fn next_magic(&mut self) -> io::Result<Option<(u64, u64)>> {
        loop {
            while let Some(&byte) = self.buffer.get(self.next) {
                self.next += 1;
                self.window = self.window << 8 | u64::from(byte);
                let candidates = self.candidates[(self.window >> 24 & 0xff) as usize];
                if candidates == 0 {
                    continue;
                }
                for shift in 0..8 {
                    let magic = self.window >> shift & ((1 << MAGIC_BITS) - 1);
                    if magic == BLOCK || magic == FOOTER {
                        let end = (self.begin + self.next as u64) * 8 - shift;
                        if end >= MAGIC_BITS {
                            return Ok(Some((magic, end - MAGIC_BITS)));
                        }
                    }
                }
            }
            // Only what belongs to the current block is still needed.
            let needed = self.block.map_or(self.next.saturating_sub(8), |block| (block / 8 - self.begin) as usize);
            self.buffer.drain(..needed);
            self.begin += needed as u64;
            self.next -= needed;
            if self.buffer.len() > LONGEST_BLOCK {
                return Err(strange("a block has no end"));
            }
            let filled = self.buffer.len();
            self.buffer.resize(filled + CHUNK, 0);
            let length = self.input.read(&mut self.buffer[filled..])?;
            self.buffer.truncate(filled + length);
            if length == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads until so many bits of the file are in the buffer.
    fn fill(&mut self, until: u64) -> io::Result<()> {
        let wanted = (until.div_ceil(8) - self.begin) as usize;
        while self.buffer.len() < wanted {
            let mut byte = [0];
            self.input.read_exact(&mut byte)?;
            self.buffer.extend_from_slice(&byte);
        }
        Ok(())
    }

    /// Bits of the file as bytes, the last one filled up with zeros.
    fn bits(&self, from: u64, to: u64) -> Vec<u8> {
        let (first, shift) = ((from / 8 - self.begin) as usize, from % 8);
        let length = (to - from).div_ceil(8) as usize;
        let byte = |index: usize| u16::from(self.buffer.get(index).copied().unwrap_or_default());
        let mut bytes: Vec<u8> =
            (first..first + length).map(|index| ((byte(index) << 8 | byte(index + 1)) << shift >> 8) as u8).collect();
        if let Some(last) = bytes.last_mut()
            && !(to - from).is_multiple_of(8)
        {
            *last &= 0xff << (8 - (to - from) % 8);
        }
        bytes
    }

    fn number(&self, from: u64) -> u32 {
        self.bits(from, from + 32).iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
    }

    fn next_block(&mut self) -> io::Result<Option<Vec<u8>>> {
        while !self.is_over {
            let found = self.next_magic()?;
            let Some((magic, at)) = found else {
                self.is_over = true;
                // After the last footer only its checksum follows.
                return if self.block.is_some() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
            };
            self.fill(at + MAGIC_BITS + 32)?;
            let block = self.block.map(|block| self.whole(block, at));
            if magic == BLOCK {
                let checksum = self.number(at + MAGIC_BITS);
                self.checksum = self.checksum.rotate_left(1) ^ checksum;
                self.block = Some(at);
            } else {
                let expected = self.number(at + MAGIC_BITS);
                if std::mem::take(&mut self.checksum) != expected {
                    return Err(strange("blocks are missing"));
                }
                self.block = None;
            }
            if block.is_some() {
                return Ok(block);
            }
        }
        Ok(None)
    }

    /// A file of one block.
    fn whole(&self, from: u64, to: u64) -> Vec<u8> {
        let mut file = b"BZh9".to_vec();
        file.extend(self.bits(from, to));
        // The footer follows at the very bit where the block ends.
        let checksum = self.number(from + MAGIC_BITS);
        let footer = u128::from(FOOTER) << 32 | u128::from(checksum);
        let used = (to - from) % 8;
        let footer = (footer << 48 >> used).to_be_bytes();
        let footer_bytes = (80 + used).div_ceil(8) as usize;
        match file.last_mut() {
            Some(last) if used > 0 => {
                *last |= footer[0];
                file.extend_from_slice(&footer[1..footer_bytes]);
            }
            _ => file.extend_from_slice(&footer[..footer_bytes]),
        }
        file
    }
}

impl<R: Read> Iterator for Bzip2Blocks<R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let block = self.next_block();
        self.is_over |= block.is_err();
        block.transpose()
    }
}

fn strange(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bzip2::Compression;
    use bzip2::read::BzDecoder;
    use bzip2::write::BzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn pack(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = BzEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpack(packed: &[u8]) -> io::Result<(usize, Vec<u8>)> {
        let (mut blocks, mut out) = (0, Vec::new());
        for block in Bzip2Blocks::new(packed) {
            BzDecoder::new(&block?[..]).read_to_end(&mut out)?;
            blocks += 1;
        }
        Ok((blocks, out))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn blocks_are_those_of_the_file(lengths in prop::collection::vec(0_usize..400_000, 1..4), seed: u64) {
            let mut state = seed | 1;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 59) as u8 + b'a'
            };
            let (mut bytes, mut packed) = (Vec::new(), Vec::new());
            for length in lengths {
                let stream: Vec<u8> = (0..length).map(|_| next()).collect();
                packed.extend(pack(&stream, 1));
                bytes.extend(stream);
            }
            let (blocks, out) = unpack(&packed).unwrap();
            prop_assert!(out == bytes);
            prop_assert!(blocks >= bytes.len() / 100_000);
            let cut = packed.len() - 1 - (seed as usize % packed.len().min(40));
            prop_assert!(unpack(&packed[..cut]).map_or(true, |(_, out)| out.len() < bytes.len() || out == bytes));
        }
    }

    #[test]
    fn a_missing_block_is_noticed() {
        let bytes: Vec<u8> = (0..300_000_u32).flat_map(|number| number.to_le_bytes()).collect();
        let packed = pack(&bytes, 1);
        assert_eq!(unpack(&packed).unwrap().1, bytes);
        assert!(unpack(&packed[..packed.len() / 2]).is_err());
        let mut other = packed.clone();
        let middle = packed.len() / 2;
        other[middle] ^= 0x55;
        assert!(unpack(&other).is_err());
    }
}
