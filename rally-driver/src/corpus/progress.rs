//! Tells the user how far something is that takes long.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is told.
const EVERY: Duration = Duration::from_secs(10);

/// Takes sentences for the user.
pub(crate) type Notice = Arc<dyn Fn(String) + Send + Sync>;

/// How far a download or the like is.
pub(super) struct Progress {
    notice: Notice,
    /// Such as `downloading documents.json.bz2 of corpus places`.
    what: String,
    /// In bytes, if it is known.
    total: Option<u64>,
    told: Instant,
}

impl Progress {
    /// Tells that it begins.
    pub(super) fn begin(notice: &Notice, what: String, total: Option<u64>) -> Self {
        let size = total.map(|total| format!(" ({})", size(total))).unwrap_or_default();
        notice(format!("{what}{size}"));
        Self { notice: Arc::clone(notice), what, total, told: Instant::now() }
    }

    /// The whole size is known now.
    pub(super) fn set_total(&mut self, total: u64) {
        self.total = Some(total);
    }

    /// Tells how far it is, if it was long ago that it was told.
    pub(super) fn at(&mut self, bytes: u64) {
        if self.told.elapsed() < EVERY {
            return;
        }
        self.told = Instant::now();
        (self.notice)(match self.total {
            Some(total) => {
                format!("{}: {:.1} % of {}", self.what, bytes as f64 * 100.0 / total.max(1) as f64, size(total))
            }
            None => format!("{}: {}", self.what, size(bytes)),
        });
    }

    /// Tells whom it came from.
    pub(super) fn came_from(&self, hosts: &[(String, u64)]) {
        let parts: Vec<_> = hosts.iter().map(|(host, bytes)| format!("{} from {host}", size(*bytes))).collect();
        if !parts.is_empty() {
            (self.notice)(format!("{}: {}", self.what, parts.join(", ")));
        }
    }

    /// Tells that it does not go on as it should.
    pub(super) fn stumbles(&self, why: &str) {
        (self.notice)(format!("{}: {why}", self.what));
    }
}

/// A size as people read it.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = "B";
    for larger in UNITS {
        if size < 1_024.0 {
            break;
        }
        (size, unit) = (size / 1_024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        let sizes = [0, 1_023, 1_024, 264_698_741, 3 << 40].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "252.4 MiB", "3.0 TiB"]);
    }
}
