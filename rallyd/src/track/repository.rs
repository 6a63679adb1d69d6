//! Repositories of tracks: git working copies below Rally's directory.

use std::path::{Component, Path, PathBuf};

use super::git::{Git, GitError};
use super::version;

/// A repository of tracks cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// There is no working copy, and no URL to get one from.
    #[error("there is no git repository in {}: set `{name}.url` in section `tracks` of rally.ini, or put one there", .directory.display())]
    Missing {
        /// The name of the repository.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// Git failed.
    #[error("cannot update track repository `{name}`")]
    Git {
        /// The name of the repository.
        name: String,
        /// What git says.
        #[source]
        source: GitError,
    },
    /// No branch and no tag fits the version.
    #[error("track repository `{name}` has neither a branch nor a tag for Elasticsearch {version}")]
    NoMatch {
        /// The name of the repository.
        name: String,
        /// The version.
        version: String,
    },
    /// There is no such track.
    #[error("track repository `{name}` has no track `{track}`{}", known_tracks(.known))]
    UnknownTrack {
        /// The name of the repository.
        name: String,
        /// What was asked for.
        track: String,
        /// The tracks that are there.
        known: Vec<String>,
    },
}

fn known_tracks(tracks: &[String]) -> String {
    if tracks.is_empty() { String::new() } else { format!(", it has {}", tracks.join(", ")) }
}

/// Which state of a repository is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revision {
    /// A branch, a tag or a commit.
    Exactly(String),
    /// The branch or tag that fits this version of Elasticsearch best; the newest if it is not known.
    ForVersion(Option<String>),
}

/// A git repository of tracks.
#[derive(Clone, Debug)]
pub struct TrackRepository {
    name: String,
    url: Option<String>,
    directory: PathBuf,
    git: Git,
}

impl TrackRepository {
    /// The repository `name` below `root`, which is cloned from `url` if there is one.
    #[must_use]
    pub fn new(root: &Path, name: &str, url: Option<&str>) -> Self {
        let directory = root.join(name);
        let url = url.map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned);
        Self { name: name.to_owned(), url, git: Git::new(&directory), directory }
    }

    /// Brings the working copy to the wanted revision. Returns the commit, and warnings.
    ///
    /// Without a network (`offline`), whatever is checked out is used, unless a revision is asked for.
    ///
    /// # Errors
    ///
    /// [`RepositoryError`] if there is no repository, no fitting revision, or git fails. Failing to fetch is a warning.
    pub async fn update(&self, revision: &Revision, offline: bool) -> Result<(String, Vec<String>), RepositoryError> {
        let mut warnings = Vec::new();
        let online = self.url.as_deref().filter(|_| !offline);
        match (self.git.is_working_copy(), online) {
            (true, Some(_)) => {
                if let Err(error) = self.git.fetch().await {
                    warnings.push(format!(
                        "could not update track repository `{}`, going on with what is there: {error}",
                        self.name
                    ));
                }
            }
            (true, None) => {}
            (false, Some(url)) => self.git.clone_from(url).await.map_err(|source| self.failed(source))?,
            (false, None) => {
                return Err(RepositoryError::Missing { name: self.name.clone(), directory: self.directory.clone() });
            }
        }
        match revision {
            Revision::Exactly(revision) => self.check_out(revision).await.map_err(|source| self.failed(source))?,
            Revision::ForVersion(_) if offline => {}
            Revision::ForVersion(version) => self.match_version(version.as_deref(), &mut warnings).await?,
        }
        let head = self.git.head().await.map_err(|source| self.failed(source))?;
        Ok((head, warnings))
    }

    async fn check_out(&self, revision: &str) -> Result<(), GitError> {
        // A working copy with local changes is left alone if it is at the right place already.
        let abbreviated = (7..=40).contains(&revision.len()) && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        let there = self.git.current_branch().await? == revision
            || (abbreviated && self.git.head().await?.starts_with(&revision.to_ascii_lowercase()));
        if there { Ok(()) } else { self.git.checkout(revision).await }
    }

    async fn match_version(&self, version: Option<&str>, warnings: &mut Vec<String>) -> Result<(), RepositoryError> {
        let failed = |source| self.failed(source);
        if self.url.is_some() {
            let branches = self.git.remote_branches().await.map_err(failed)?;
            if let Some(branch) =
                version::best_match(&branches, version).map(|branch| default_branch(branch, &branches))
            {
                self.git.checkout(&branch).await.map_err(failed)?;
                if let Err(error) = self.git.rebase_on_origin(&branch).await {
                    warnings.push(format!("local changes keep `{branch}` from being updated: {error}"));
                }
                return Ok(());
            }
        }
        let branches = self.git.local_branches().await.map_err(failed)?;
        if let Some(branch) = version::best_match(&branches, version).map(|branch| default_branch(branch, &branches)) {
            if self.git.current_branch().await.map_err(failed)? != branch {
                self.git.checkout(&branch).await.map_err(failed)?;
            }
            return Ok(());
        }
        let version = version.unwrap_or_default();
        let tags = self.git.tags().await.map_err(failed)?;
        match version::tags(version).into_iter().find(|tag| tags.contains(tag)) {
            Some(tag) => self.git.checkout(&tag).await.map_err(failed),
            None => Err(RepositoryError::NoMatch { name: self.name.clone(), version: version.to_owned() }),
        }
    }

    /// The names of all tracks: folders with a `track.json`, sorted.
    #[must_use]
    pub fn tracks(&self) -> Vec<String> {
        let mut found = Vec::new();
        find_tracks(&self.directory, "", &mut found);
        found.sort();
        found
    }

    /// The folder of a track.
    ///
    /// # Errors
    ///
    /// [`RepositoryError::UnknownTrack`], with those that there are.
    pub fn track_directory(&self, track: &str) -> Result<PathBuf, RepositoryError> {
        let directory = self.directory.join(track);
        // A name never leads out of the repository, nor is it written in two ways.
        let is_name =
            !track.ends_with('/') && Path::new(track).components().all(|part| matches!(part, Component::Normal(_)));
        if is_name && directory.join("track.json").is_file() {
            return Ok(directory);
        }
        Err(RepositoryError::UnknownTrack { name: self.name.clone(), track: track.to_owned(), known: self.tracks() })
    }

    fn failed(&self, source: GitError) -> RepositoryError {
        RepositoryError::Git { name: self.name.clone(), source }
    }
}

/// `master` stands for the newest state, which many repositories call `main` today.
fn default_branch(branch: String, branches: &[String]) -> String {
    let main = "main".to_owned();
    if branch == "master" && !branches.contains(&branch) && branches.contains(&main) { main } else { branch }
}

fn find_tracks(directory: &Path, prefix: &str, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let (Ok(name), true) = (entry.file_name().into_string(), entry.path().is_dir()) else { continue };
        if name.starts_with('.') || entry.path().is_symlink() {
            continue;
        }
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if entry.path().join("track.json").is_file() {
            found.push(name.clone());
        }
        find_tracks(&entry.path(), &name, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn git(directory: &Path, arguments: &[&str]) {
        let done = Command::new("git")
            .current_dir(directory)
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=master"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn commit(directory: &Path, track: &str, text: &str) {
        std::fs::create_dir_all(directory.join(track)).unwrap();
        std::fs::write(directory.join(track).join("track.json"), text).unwrap();
        git(directory, &["add", "-A"]);
        git(directory, &["commit", "-q", "-m", "change"]);
    }

    #[tokio::test]
    async fn a_track_has_the_revision_of_its_working_copy_if_git_knows_it() {
        let place = tempfile::tempdir().unwrap();
        let track = place.path().join("tracks/geonames");
        std::fs::create_dir_all(&track).unwrap();
        assert_eq!(Git::revision_of(&track).await, None);
        git(place.path(), &["init", "-q"]);
        commit(place.path(), "other", "1");
        std::fs::write(track.join("track.json"), "{}").unwrap();
        assert_eq!(Git::revision_of(&track).await, None);
        commit(place.path(), "tracks/geonames", "2");
        let revision = Git::revision_of(&track).await.unwrap();
        let head = Git::new(place.path()).head().await.unwrap();
        assert!(revision.len() >= 7 && head.starts_with(&revision), "{revision} of {head}");
    }

    /// A remote with a track on `master`, an older one on `8.3`, and a tag for 7.
    fn remote() -> tempfile::TempDir {
        let remote = tempfile::tempdir().unwrap();
        git(remote.path(), &["init", "-q"]);
        commit(remote.path(), "old", "7");
        git(remote.path(), &["tag", "v7.5"]);
        commit(remote.path(), "elastic/logs", "8.3");
        git(remote.path(), &["branch", "8.3"]);
        commit(remote.path(), "elastic/logs", "master");
        remote
    }

    #[tokio::test]
    async fn the_branch_or_tag_that_fits_the_version_is_checked_out() {
        let (remote, root) = (remote(), tempfile::tempdir().unwrap());
        let repository = TrackRepository::new(root.path(), "default", remote.path().to_str());
        let text = |path: &str| std::fs::read_to_string(root.path().join("default").join(path)).unwrap();
        for (version, expected) in [(None, "master"), (Some("8.5.0"), "8.3"), (Some("9.0.0"), "master")] {
            let (head, warnings) =
                repository.update(&Revision::ForVersion(version.map(str::to_owned)), false).await.unwrap();
            assert_eq!((text("elastic/logs/track.json").as_str(), head.len()), (expected, 40));
            assert!(warnings.is_empty(), "{warnings:?}");
        }
        assert_eq!(repository.tracks(), ["elastic/logs", "old"]);
        repository.update(&Revision::ForVersion(Some("7.5.1".to_owned())), false).await.unwrap();
        assert_eq!(repository.tracks(), ["old"]);
        let error = repository.update(&Revision::ForVersion(Some("6.0.0".to_owned())), false).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "track repository `default` has neither a branch nor a tag for Elasticsearch 6.0.0"
        );
    }

    #[tokio::test]
    async fn offline_the_working_copy_stays_as_it_is() {
        let (remote, root) = (remote(), tempfile::tempdir().unwrap());
        let repository = TrackRepository::new(root.path(), "default", remote.path().to_str());
        let error = repository.update(&Revision::ForVersion(None), true).await.unwrap_err();
        assert!(matches!(error, RepositoryError::Missing { .. }));
        repository.update(&Revision::Exactly("8.3".to_owned()), false).await.unwrap();
        let (before, _) = repository.update(&Revision::ForVersion(None), true).await.unwrap();
        commit(remote.path(), "elastic/logs", "newer");
        let (after, _) = repository.update(&Revision::ForVersion(None), true).await.unwrap();
        assert_eq!(before, after);
        let error = repository.track_directory("nothing").unwrap_err();
        assert_eq!(error.to_string(), "track repository `default` has no track `nothing`, it has elastic/logs, old");
        for name in ["../default/old", "old/"] {
            assert!(matches!(repository.track_directory(name), Err(RepositoryError::UnknownTrack { .. })), "{name}");
        }
        assert!(repository.track_directory("old").is_ok());
    }
}
