//! What unit tests need.

mod authority;

pub(crate) use authority::Authority;
use rally_core::track::{Challenge, Task, TaskBuilder, Track};

/// The task that a builder describes.
pub(crate) fn task(builder: TaskBuilder) -> Task {
    let track = Track::builder("tests").challenge(Challenge::builder("only").task(builder)).build().unwrap();
    track.challenges[0].tasks().next().unwrap().clone()
}
