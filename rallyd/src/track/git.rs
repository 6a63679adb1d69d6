//! The `git` command, with deadlines.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

/// How long one git command may take.
const DEADLINE: Duration = Duration::from_secs(600);

/// Waits before cloning or fetching is tried again.
const BACKOFF: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(4)];

/// A git command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// Git cannot be started.
    #[error("cannot run `git`: is it installed?")]
    Start(#[source] std::io::Error),
    /// Git took too long.
    #[error("`git {command}` in {} took more than {} s", .directory.display(), DEADLINE.as_secs())]
    Deadline {
        /// The arguments.
        command: String,
        /// Where it ran.
        directory: PathBuf,
    },
    /// Git says that something is wrong.
    #[error("`git {command}` in {} failed: {message}", .directory.display())]
    Failed {
        /// The arguments.
        command: String,
        /// Where it ran.
        directory: PathBuf,
        /// What git says.
        message: String,
    },
}

/// Runs git in one working copy.
#[derive(Clone, Debug)]
pub(super) struct Git {
    directory: PathBuf,
}

impl Git {
    pub(super) fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The commit that a directory is at, abbreviated, if it is part of a working copy and git knows some of its files.
    pub(super) async fn revision_of(directory: &Path) -> Option<String> {
        // Most tracks of users are in none, and need not wait for git.
        directory.ancestors().find(|ancestor| ancestor.join(".git").exists())?;
        run(directory, &["ls-files", "--error-unmatch", "--", "."]).await.ok()?;
        let revision = run(directory, &["rev-parse", "--short", "HEAD"]).await.ok()?;
        Some(revision.trim().to_owned())
    }

    pub(super) fn is_working_copy(&self) -> bool {
        self.directory.join(".git").exists()
    }

    pub(super) async fn clone_from(&self, url: &str) -> Result<(), GitError> {
        let parent = self.directory.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(GitError::Start)?;
        let target = self.directory.to_string_lossy();
        let arguments = ["clone", "--quiet", "--", url, &target];
        repeat(|| run(parent, &arguments)).await.map(drop)
    }

    pub(super) async fn fetch(&self) -> Result<(), GitError> {
        const FETCH: [&str; 5] = ["fetch", "--quiet", "--prune", "--tags", "origin"];
        repeat(|| run(&self.directory, &FETCH)).await.map(drop)
    }

    pub(super) async fn checkout(&self, revision: &str) -> Result<(), GitError> {
        run(&self.directory, &["checkout", "--quiet", revision, "--"]).await.map(drop)
    }

    pub(super) async fn rebase_on_origin(&self, branch: &str) -> Result<(), GitError> {
        run(&self.directory, &["rebase", "--quiet", &format!("origin/{branch}")]).await.map(drop)
    }

    pub(super) async fn head(&self) -> Result<String, GitError> {
        run(&self.directory, &["rev-parse", "HEAD"]).await.map(|text| text.trim().to_owned())
    }

    pub(super) async fn current_branch(&self) -> Result<String, GitError> {
        run(&self.directory, &["rev-parse", "--abbrev-ref", "HEAD"]).await.map(|text| text.trim().to_owned())
    }

    pub(super) async fn remote_branches(&self) -> Result<Vec<String>, GitError> {
        let names = self.references("refs/remotes/origin/").await?;
        Ok(names.into_iter().filter_map(|name| name.strip_prefix("origin/").map(str::to_owned)).collect())
    }

    pub(super) async fn local_branches(&self) -> Result<Vec<String>, GitError> {
        self.references("refs/heads/").await
    }

    pub(super) async fn tags(&self) -> Result<Vec<String>, GitError> {
        self.references("refs/tags/").await
    }

    async fn references(&self, prefix: &str) -> Result<Vec<String>, GitError> {
        let text = run(&self.directory, &["for-each-ref", prefix, "--format=%(refname:short)"]).await?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

async fn repeat<F: Future<Output = Result<String, GitError>>>(
    mut command: impl FnMut() -> F,
) -> Result<String, GitError> {
    for wait in BACKOFF {
        match command().await {
            Err(GitError::Failed { .. }) => tokio::time::sleep(wait).await,
            done => return done,
        }
    }
    command().await
}

/// Runs a command and returns what it prints.
async fn run(directory: &Path, arguments: &[&str]) -> Result<String, GitError> {
    let command = arguments.join(" ");
    let running = Command::new("git")
        .current_dir(directory)
        .args(arguments)
        // Whoever is asked for a password cannot be seen from here.
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let directory = directory.to_owned();
    match tokio::time::timeout(DEADLINE, running).await {
        Err(_) => Err(GitError::Deadline { command, directory }),
        Ok(Err(source)) => Err(GitError::Start(source)),
        Ok(Ok(Output { status, stdout, .. })) if status.success() => Ok(String::from_utf8_lossy(&stdout).into_owned()),
        Ok(Ok(Output { stderr, .. })) => {
            let message = String::from_utf8_lossy(&stderr).trim().replace('\n', "; ");
            Err(GitError::Failed { command, directory, message })
        }
    }
}
