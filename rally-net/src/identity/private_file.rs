//! Files that only their owner may read: made that way, and refused otherwise.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Larger files are none of ours; the token book, the largest, stays below half of it.
const MAX_LENGTH: u64 = 1024 * 1024;

/// The permission bits that let anybody but the owner do anything.
const ANYBODY_ELSE: u32 = 0o077;

/// The permission bits that let anybody but the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A file with secrets could not be read or written, or others can get at it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateFileError {
    /// The operating system refused.
    #[error("failed to {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Others than the owner may read or write the file.
    #[error(
        "{} holds a secret, but its mode is {mode:03o}: others may have read it; `chmod 600` it if they cannot have, \
         otherwise delete it",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to another user.
    #[error(
        "{} belongs to user {owner}, not to user {user} whom the daemon runs as: start the daemon as that user, or \
         choose another directory",
        path.display()
    )]
    ForeignOwner {
        /// The file or directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        user: u32,
    },
    /// Others than the owner may replace files of the directory.
    #[error(
        "others may write to the directory {}, which is to hold secrets (its mode is {mode:03o}): `chmod 700` it, or \
         choose another directory",
        path.display()
    )]
    OpenDirectory {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is far larger than what belongs there.
    #[error("{} has more than {MAX_LENGTH} bytes: something else has been put in its place", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Makes the directory for its owner alone unless it is there, and refuses one that others may write to.
pub(crate) fn create_directory(path: &Path) -> Result<(), PrivateFileError> {
    let failed = |action| move |source| PrivateFileError::Io { action, path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create the directory"))?;
    let metadata = fs::metadata(path).map_err(failed("look at the directory"))?;
    check_owner(path, metadata.uid())?;
    let mode = metadata.mode() & 0o777;
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(PrivateFileError::OpenDirectory { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Reads a file as text, `None` if there is none.
///
/// Bytes that are not UTF-8 are replaced, which every caller's format then refuses.
pub(crate) fn read(path: &Path) -> Result<Option<String>, PrivateFileError> {
    let failed = |source| PrivateFileError::Io { action: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    check_owner(path, metadata.uid())?;
    let mode = metadata.mode() & 0o777;
    if mode & ANYBODY_ELSE != 0 {
        return Err(PrivateFileError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(MAX_LENGTH + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_LENGTH {
        return Err(PrivateFileError::TooLarge { path: path.to_owned() });
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Puts a file in place of the one that may be there; after a crash there is the old one or the new one, whole.
///
/// There must be one writer at a time.
pub(crate) fn write(path: &Path, contents: &str) -> Result<(), PrivateFileError> {
    let failed = |source| PrivateFileError::Io { action: "write", path: path.to_owned(), source };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    // A crash may have left one behind, and only a file made here is sure to have the right mode.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(contents.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(failed)
}

fn check_owner(path: &Path, owner: u32) -> Result<(), PrivateFileError> {
    let user = rustix::process::geteuid().as_raw();
    if owner == user { Ok(()) } else { Err(PrivateFileError::ForeignOwner { path: path.to_owned(), owner, user }) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn files_and_directories_are_for_their_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/b");
        create_directory(&directory).unwrap();
        assert_eq!(mode(&directory), 0o700);

        let path = directory.join("secret");
        assert!(matches!(read(&path), Ok(None)));
        write(&path, "one").unwrap();
        assert_eq!(mode(&path), 0o600);
        write(&path, "two").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_leftover_of_a_crash_neither_stays_nor_lends_its_mode() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("secret");
        let leftover = root.path().join("secret.new");
        fs::write(&leftover, "half").unwrap();
        set_mode(&leftover, 0o666);
        write(&path, "whole").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(!leftover.exists());
    }

    #[test]
    fn what_others_can_reach_is_refused_with_the_remedy() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("secret");
        for open in [0o640, 0o604, 0o660, 0o601] {
            write(&path, "x").unwrap();
            set_mode(&path, open);
            let error = read(&path).unwrap_err();
            assert!(matches!(error, PrivateFileError::Exposed { mode, .. } if mode == open), "{error}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        for open in [0o770, 0o702] {
            set_mode(root.path(), open);
            let error = create_directory(root.path()).unwrap_err();
            assert!(matches!(error, PrivateFileError::OpenDirectory { mode, .. } if mode == open), "{error}");
        }
        set_mode(root.path(), 0o755);
        create_directory(root.path()).unwrap();
    }

    #[test]
    fn another_user_s_file_is_refused() {
        let user = rustix::process::geteuid().as_raw();
        let error = check_owner(Path::new("secret"), user + 1).unwrap_err();
        assert!(matches!(error, PrivateFileError::ForeignOwner { owner, .. } if owner == user + 1));
    }

    #[test]
    fn a_huge_file_is_not_read_into_memory() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("secret");
        write(&path, "").unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(MAX_LENGTH + 1).unwrap();
        assert!(matches!(read(&path), Err(PrivateFileError::TooLarge { .. })));
    }
}
