//! A time of day as text for messages.

use std::fmt;
use std::time::SystemTime;

use jiff::Timestamp;

/// Displays a time in UTC to the second, such as `2026-03-01T12:00:00Z`.
pub(crate) struct Utc(pub(crate) SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::try_from(self.0) {
            Ok(time) => write!(f, "{time:.0}"),
            Err(_) => f.write_str("a time beyond the calendar"),
        }
    }
}
