//! Interprets a track's schedule and applies the load.
