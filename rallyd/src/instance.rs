//! The directory of one daemon on this machine, and whether it runs.
//!
//! Every daemon has a directory of its own, named after its address: `~/.rally/hosts/<ip>-<port>/`. In it are its
//! identity, its log, the settings it was last started with and, while it runs, its lock and its control socket. The
//! lock decides whether it runs: the kernel releases it when the process ends in whatever way, so nothing can be stale.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::lock_file::LockFile;

/// A log that is larger than this many bytes when a daemon starts is moved aside.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;

/// One daemon of this machine, running or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    address: SocketAddr,
    directory: PathBuf,
}

/// What a daemon was started with, for the next `restart`; never a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartSettings {
    /// The coordinator as it was given: a name may mean another address by then.
    pub coordinator: String,
}

/// A daemon that runs at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its process, `None` in the instant between taking the lock and writing the number down.
    pub pid: Option<u32>,
}

/// The instance belongs to this process until the lock is dropped.
#[derive(Debug)]
pub struct InstanceLock {
    _lock: LockFile,
}

/// A file or directory of an instance cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct InstanceError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The lock cannot be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process holds it.
    #[error("a daemon already runs at {address} ({})", show_pid(*pid))]
    AlreadyRunning {
        /// Where.
        address: SocketAddr,
        /// Which process.
        pid: Option<u32>,
    },
    /// The file cannot be used.
    #[error(transparent)]
    Unusable(#[from] InstanceError),
}

/// `pid 4711` as it stands in messages.
pub(crate) fn show_pid(pid: Option<u32>) -> String {
    pid.map_or_else(|| "pid not known yet".to_owned(), |pid| format!("pid {pid}"))
}

impl Instance {
    /// The instance for `address` below `rally_directory`; nothing is created yet.
    pub fn new(rally_directory: &Path, address: SocketAddr) -> Self {
        let name = format!("{}-{}", address.ip(), address.port());
        Self { address, directory: rally_directory.join("hosts").join(name) }
    }

    /// All instances that were ever started below `rally_directory`, in the order of their addresses.
    ///
    /// # Errors
    ///
    /// If the directory exists but cannot be read.
    pub fn all(rally_directory: &Path) -> Result<Vec<Self>, InstanceError> {
        let hosts = rally_directory.join("hosts");
        let failed = |source| InstanceError { action: "list", path: hosts.clone(), source };
        let entries = match fs::read_dir(&hosts) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut instances = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            // Whatever else lies there is none of ours.
            if let Some(address) = name.to_str().and_then(parse_directory_name) {
                instances.push(Self::new(rally_directory, address));
            }
        }
        instances.sort_by_key(|instance| instance.address);
        Ok(instances)
    }

    /// Where the daemon is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that belongs to the daemon.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The log of a daemon in the background.
    pub fn log(&self) -> PathBuf {
        self.directory.join("daemon.log")
    }

    /// Creates the directory, readable by its owner only.
    ///
    /// # Errors
    ///
    /// If it cannot be created or its permissions cannot be set.
    pub fn create(&self) -> Result<(), InstanceError> {
        let failed = |source| InstanceError { action: "create", path: self.directory.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(failed)?;
        fs::set_permissions(&self.directory, Permissions::from_mode(0o700)).map_err(failed)
    }

    /// Opens the log for appending; one that has grown large is kept beside it as `daemon.log.1`.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened or moved.
    pub fn open_log(&self) -> Result<File, InstanceError> {
        let path = self.log();
        let failed = |action, source| InstanceError { action, path: path.clone(), source };
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > MAX_LOG_BYTES) {
            fs::rename(&path, self.directory.join("daemon.log.1")).map_err(|source| failed("move", source))?;
        }
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600).open(&path).map_err(|source| failed("open", source))
    }

    /// Takes the lock for this process and writes its number into it.
    ///
    /// # Errors
    ///
    /// If another process holds it or the file cannot be used.
    pub fn lock(&self) -> Result<InstanceLock, LockError> {
        let path = self.lock_path();
        match LockFile::take(&path, &std::process::id().to_string()) {
            Ok(Some(lock)) => return Ok(InstanceLock { _lock: lock }),
            Ok(None) => {}
            Err(source) => return Err(InstanceError { action: "lock", path, source }.into()),
        }
        let pid = self.running()?.and_then(|running| running.pid);
        Err(LockError::AlreadyRunning { address: self.address, pid })
    }

    /// Tells whether the daemon runs.
    ///
    /// # Errors
    ///
    /// If the lock exists but cannot be examined.
    pub fn running(&self) -> Result<Option<Running>, InstanceError> {
        let path = self.lock_path();
        let owner = LockFile::owner(&path);
        let owner = owner.map_err(|source| InstanceError { action: "examine", path, source })?;
        Ok(owner.map(|pid| Running { pid: pid.parse().ok() }))
    }

    /// Removes what a daemon that was killed left behind. The caller has made sure that it does not run.
    ///
    /// # Errors
    ///
    /// If a file is there and cannot be removed.
    pub fn clean_up(&self) -> Result<(), InstanceError> {
        for path in [self.control_socket(), self.lock_path()] {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(InstanceError { action: "remove", path, source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Remembers `settings` for the next restart.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write_start_settings(&self, settings: &StartSettings) -> Result<(), InstanceError> {
        let path = self.start_settings_path();
        let text = serde_json::to_vec(settings).map_err(io::Error::from);
        text.and_then(|text| fs::write(&path, text)).map_err(|source| InstanceError { action: "write", path, source })
    }

    /// What the daemon was last started with, `None` if it never was.
    ///
    /// # Errors
    ///
    /// If the file is there but cannot be read or understood.
    pub fn start_settings(&self) -> Result<Option<StartSettings>, InstanceError> {
        let path = self.start_settings_path();
        let failed = |source| InstanceError { action: "read", path: path.clone(), source };
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// The socket on which the daemon answers this user's commands.
    pub fn control_socket(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    fn lock_path(&self) -> PathBuf {
        self.directory.join("lock")
    }

    fn start_settings_path(&self) -> PathBuf {
        self.directory.join("start.json")
    }
}

fn parse_directory_name(name: &str) -> Option<SocketAddr> {
    let (ip, port) = name.rsplit_once('-')?;
    Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn instance(rally_directory: &Path, address: &str) -> Instance {
        let instance = Instance::new(rally_directory, address.parse().unwrap());
        instance.create().unwrap();
        instance
    }

    #[test]
    fn instances_are_found_by_their_directories() {
        let rally = tempfile::tempdir().unwrap();
        assert_eq!(Instance::all(rally.path()).unwrap(), []);
        let expected = ["10.0.0.1:1900", "127.0.0.1:1900", "127.0.0.1:1901", "[::1]:1900"]
            .map(|text| instance(rally.path(), text));
        fs::create_dir(rally.path().join("hosts/something-else")).unwrap();
        assert_eq!(Instance::all(rally.path()).unwrap(), expected);
        let mode = fs::metadata(expected[0].directory()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_lock_says_who_runs_and_leaves_nothing_behind() {
        let rally = tempfile::tempdir().unwrap();
        let instance = instance(rally.path(), "127.0.0.1:1900");
        assert_eq!(instance.running().unwrap(), None);
        let lock = instance.lock().unwrap();
        let pid = Some(std::process::id());
        assert_eq!(instance.running().unwrap(), Some(Running { pid }));
        let refused = instance.lock().unwrap_err();
        assert!(matches!(refused, LockError::AlreadyRunning { pid: holder, .. } if holder == pid), "{refused}");
        drop(lock);
        assert_eq!(instance.running().unwrap(), None);
        assert_eq!(fs::read_dir(instance.directory()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_daemon_leaves_does_not_count_as_running() {
        let rally = tempfile::tempdir().unwrap();
        let instance = instance(rally.path(), "127.0.0.1:1900");
        fs::write(instance.lock_path(), "1\n").unwrap();
        fs::write(instance.control_socket(), "").unwrap();
        assert_eq!(instance.running().unwrap(), None);
        drop(instance.lock().unwrap());
        instance.clean_up().unwrap();
        assert_eq!(fs::read_dir(instance.directory()).unwrap().count(), 0);
    }

    #[test]
    fn a_log_that_has_grown_large_is_moved_aside() {
        let rally = tempfile::tempdir().unwrap();
        let instance = instance(rally.path(), "127.0.0.1:1900");
        writeln!(instance.open_log().unwrap(), "first").unwrap();
        writeln!(instance.open_log().unwrap(), "second").unwrap();
        assert_eq!(fs::read_to_string(instance.log()).unwrap(), "first\nsecond\n");
        instance.open_log().unwrap().set_len(MAX_LOG_BYTES + 1).unwrap();
        assert_eq!(instance.open_log().unwrap().metadata().unwrap().len(), 0);
        assert!(instance.directory().join("daemon.log.1").exists());
    }

    #[test]
    fn start_settings_are_remembered() {
        let rally = tempfile::tempdir().unwrap();
        let instance = instance(rally.path(), "127.0.0.1:1900");
        assert_eq!(instance.start_settings().unwrap(), None);
        let settings = StartSettings { coordinator: "db1:1901".to_owned() };
        instance.write_start_settings(&settings).unwrap();
        assert_eq!(instance.start_settings().unwrap(), Some(settings));
    }
}
