//! Frames on a stream that delivers what it likes in steps of any size.
#![no_main]

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use libfuzzer_sys::fuzz_target;
use rally_net::frame::{self, FrameError, MAX_FRAME};
use rally_net_fuzz::bounded;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf, repeat};

/// Four of these are the length of a frame that is too long.
const FILLER: u8 = 1;

/// In bytes; more would only take more time.
const MAX_FILLING: u32 = 200 << 10;

/// Delivers a few bytes at a time.
struct Steps<'a, R> {
    stream: R,
    step: usize,
    delivered: &'a Cell<usize>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Steps<'_, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let step = self.step.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(step));
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut part);
        let filled = part.filled().len();
        self.delivered.set(self.delivered.get() + filled);
        buffer.advance(filled);
        polled
    }
}

/// The bodies in `bytes`, and whether the last one is whole.
fn split(mut bytes: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut bodies = Vec::new();
    while let Some((prefix, rest)) = bytes.split_first_chunk() {
        let length = u32::from_le_bytes(*prefix) as usize;
        let Some(body) = rest.get(..length).filter(|_| length <= MAX_FRAME) else { return (bodies, false) };
        bodies.push(body);
        bytes = &rest[length..];
    }
    (bodies, bytes.is_empty())
}

fuzz_target!(|input: (u16, u32, &[u8])| {
    // Bodies that are longer than any input, and than the steps in which they are read, end with a filling.
    let (step, filling, data) = input;
    let filling = filling % MAX_FILLING;
    // Long streams do not come byte by byte, which would take too long.
    let step = usize::from(step).max(1 + filling as usize / 1000);
    let delivered = Cell::new(0);
    let stream = data.chain(repeat(FILLER).take(filling.into()));
    let mut stream = Steps { stream, step, delivered: &delivered };

    let whole = [data, &vec![FILLER; filling as usize]].concat();
    let (bodies, ends_well) = split(&whole);
    let mut bodies = bodies.into_iter();
    loop {
        let start = delivered.get();
        let mut read = None;
        let allocated = allocation_counter::measure(|| read = frame::read(&mut stream).now_or_never()).bytes_max;
        let taken = delivered.get() - start;
        assert!(allocated <= 3 * taken as u64 + (128 << 10), "{taken} bytes of a stream take {allocated} of memory");
        match read.expect("the stream never makes anybody wait") {
            Ok(Some(body)) => {
                assert_eq!(Some(&body[..]), bodies.next());
                // As a value of a type that keeps everything.
                if let Ok(bytes) = bounded(body.len(), || frame::decode::<Vec<u8>>(&body)) {
                    assert!(bytes.len() < body.len());
                }
            }
            Ok(None) => {
                assert!(ends_well && bodies.next().is_none());
                break;
            }
            Err(error) => {
                assert!(!ends_well && bodies.next().is_none(), "{error}");
                assert!(!matches!(error, FrameError::TooLong { .. }) || taken == size_of::<u32>());
                break;
            }
        }
    }
});
