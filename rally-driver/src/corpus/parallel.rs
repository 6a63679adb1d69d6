//! Work on several threads whose results come in order.

use std::io;
use std::sync::mpsc::sync_channel;
use std::thread;

/// Pieces that wait for a thread, and results that wait to be taken, for each thread.
const WAITING: usize = 2;

/// Does `work` on each item on several threads and gives the results to `take` in the order of the items.
///
/// # Errors
///
/// The first error of an item, of the work on it, or of taking its result.
pub(super) fn in_order<T: Send, U: Send>(
    threads: usize,
    items: impl Iterator<Item = io::Result<T>> + Send,
    work: impl Fn(T) -> io::Result<U> + Sync,
    mut take: impl FnMut(U) -> io::Result<()>,
) -> io::Result<()> {
    thread::scope(|scope| {
        let (mut inputs, mut results) = (Vec::new(), Vec::new());
        for _ in 0..threads.max(1) {
            let (input, pieces) = sync_channel::<io::Result<T>>(WAITING);
            let (output, result) = sync_channel(WAITING);
            inputs.push(input);
            results.push(result);
            let work = &work;
            scope.spawn(move || {
                for piece in pieces {
                    // Nobody takes results any more once one is an error.
                    if output.send(piece.and_then(work)).is_err() {
                        break;
                    }
                }
            });
        }
        scope.spawn(move || {
            for (number, item) in items.enumerate() {
                let is_last = item.is_err();
                if inputs[number % inputs.len()].send(item).is_err() || is_last {
                    break;
                }
            }
        });
        // Dropped before the threads are waited for, so that none of them waits for its result to be taken.
        let results = results;
        for number in 0.. {
            match results[number % results.len()].recv() {
                Ok(result) => take(result?)?,
                Err(_) => break,
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_ends_it() {
        for (fails_at, expected) in [(u64::MAX, 1_000), (700, 700), (0, 0)] {
            let items = (0..1_000_u64).map(Ok);
            let work = |item| if item == fails_at { Err(io::Error::other("broken")) } else { Ok(item * 2) };
            let mut taken = Vec::new();
            let result = in_order(3, items, work, |result| {
                taken.push(result);
                Ok(())
            });
            assert_eq!(result.is_err(), fails_at < 1_000);
            assert_eq!(taken, (0..expected).map(|item| item * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_of_an_item_or_of_taking_ends_it() {
        let items = (0..9_u64).map(|item| if item == 5 { Err(io::Error::other("broken")) } else { Ok(item) });
        let mut taken = 0;
        let result = in_order(2, items, Ok, |_| {
            taken += 1;
            Ok(())
        });
        assert_eq!((result.unwrap_err().to_string(), taken), ("broken".to_owned(), 5));
        let result =
            in_order(
                2,
                (0..1_000_000_u64).map(Ok),
                Ok,
                |item| if item == 3 { Err(io::Error::other("full")) } else { Ok(()) },
            );
        assert_eq!(result.unwrap_err().to_string(), "full");
    }
}
