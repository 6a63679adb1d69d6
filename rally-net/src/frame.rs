//! Length-bounded frames: a little-endian `u32` with the length of the body, then the body in postcard's encoding.

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use quinn::RecvStream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest body of a frame, in bytes, that a peer may send; larger things travel as content (see `transfer`).
pub const MAX_FRAME: usize = 1 << 20;

/// Bodies grow by at most this much at a time, so that a length alone never allocates [`MAX_FRAME`].
const READ_STEP: usize = 64 << 10;

const PREFIX: usize = size_of::<u32>();

/// A frame could not be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The peer announced, or the caller made, a body longer than is allowed.
    #[error("a frame of {length} bytes exceeds the limit of {limit} bytes")]
    TooLong {
        /// The length of the body.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The bytes are no value of the expected type.
    #[error("malformed frame")]
    Malformed(#[source] postcard::Error),
    /// Bytes are left over behind the value.
    #[error("malformed frame: {0} bytes too many")]
    TrailingBytes(usize),
    /// The stream ended or broke inside a frame.
    #[error("the stream broke off")]
    Io(#[from] std::io::Error),
}

/// Encodes one value as a frame.
///
/// # Errors
///
/// [`FrameError::TooLong`] if its body exceeds [`MAX_FRAME`].
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = postcard::to_extend(value, vec![0; PREFIX]).map_err(FrameError::Malformed)?;
    let length = frame.len() - PREFIX;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong { length, limit: MAX_FRAME });
    }
    frame[..PREFIX].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(frame)
}

/// Decodes the body of one frame, all of it.
///
/// # Errors
///
/// [`FrameError::Malformed`] or [`FrameError::TrailingBytes`].
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let (value, rest) = postcard::take_from_bytes(body).map_err(FrameError::Malformed)?;
    if rest.is_empty() { Ok(value) } else { Err(FrameError::TrailingBytes(rest.len())) }
}

/// Reads the body of the next frame, `None` at the end of the stream.
///
/// # Errors
///
/// [`FrameError::TooLong`] before anything of an oversized body is read, [`FrameError::Io`] if the stream ends inside a
/// frame.
///
/// # Cancel safety
///
/// Not cancel safe: a dropped read may have taken part of a frame.
pub async fn read<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Option<Bytes>, FrameError> {
    let mut prefix = [0; PREFIX];
    let first = stream.read(&mut prefix).await?;
    if first == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut prefix[first..]).await?;
    let length = u32::from_le_bytes(prefix) as usize;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong { length, limit: MAX_FRAME });
    }
    let mut body = BytesMut::with_capacity(length.min(READ_STEP));
    while body.len() < length {
        if body.len() == body.capacity() {
            body.reserve((length - body.len()).min(READ_STEP));
        }
        let read = (&mut *stream).take((length - body.len()) as u64).read_buf(&mut body).await?;
        if read == 0 {
            return Err(FrameError::Io(std::io::ErrorKind::UnexpectedEof.into()));
        }
    }
    Ok(Some(body.freeze()))
}

/// Takes the end of a stream whose last frame was read, if it is there already, as it is when it came in one packet with
/// the frame. Dropping a stream before its end sends the peer a needless request to stop.
pub(crate) fn take_end(stream: &mut RecvStream) {
    let _ = stream.read_chunk(1, true).now_or_never();
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use proptest::prelude::*;
    use tokio::io::ReadBuf;

    use super::*;

    async fn read_all(mut bytes: &[u8]) -> Result<Vec<Bytes>, FrameError> {
        let mut bodies = Vec::new();
        while let Some(body) = read(&mut bytes).await? {
            bodies.push(body);
        }
        Ok(bodies)
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn a_frame_is_its_length_and_its_body() {
        assert_eq!(encode(&(7_u8, "ab")).expect("short"), [4, 0, 0, 0, 7, 2, b'a', b'b']);
    }

    #[test]
    fn an_oversized_frame_is_refused_by_its_length_alone() {
        let error = block_on(read_all(&(MAX_FRAME as u32 + 1).to_le_bytes())).expect_err("too long");
        assert!(matches!(error, FrameError::TooLong { .. }), "{error}");
        assert!(matches!(encode(&vec![0_u8; MAX_FRAME + 1]), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn bytes_behind_the_value_are_refused() {
        assert!(matches!(decode::<u8>(&[1, 2]), Err(FrameError::TrailingBytes(1))));
    }

    /// Announces a long frame, sends one byte of it at a time, and notes how much room there is for more.
    struct Drip {
        sent: usize,
        most_room: usize,
    }

    impl AsyncRead for Drip {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            match self.sent {
                0 => buffer.put_slice(&(MAX_FRAME as u32).to_le_bytes()),
                1..100 => {
                    self.most_room = self.most_room.max(buffer.remaining() + self.sent - 1);
                    buffer.put_slice(&[0]);
                }
                _ => {}
            }
            self.sent += 1;
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn room_is_made_only_when_the_last_is_used_up() {
        let mut drip = Drip { sent: 0, most_room: 0 };
        block_on(read(&mut drip)).expect_err("it breaks off");
        assert_eq!(drip.most_room, READ_STEP);
    }

    proptest! {
        #[test]
        fn frames_survive_the_stream_in_order(values in proptest::collection::vec(any::<(String, Vec<u8>)>(), 0..8)) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| encode(value).expect("short")).collect();
            let bodies = block_on(read_all(&bytes)).expect("whole frames");
            let back: Vec<(String, Vec<u8>)> = bodies.iter().map(|body| decode(body).expect("valid")).collect();
            prop_assert_eq!(back, values);
        }

        #[test]
        fn a_stream_that_breaks_off_is_an_error(value in any::<Vec<u8>>(), cut in 1_usize..100) {
            let bytes = encode(&value).expect("short");
            let kept = bytes.len().saturating_sub(cut).max(1);
            prop_assume!(kept < bytes.len());
            prop_assert!(block_on(read_all(&bytes[..kept])).is_err());
        }
    }
}
