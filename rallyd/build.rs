//! Tells the program which revision it was built from: what the environment variable `RALLY_REVISION` says or, for a release
//! build in a git working copy, its commit. Other builds do not ask, so that a commit alone makes nothing be built again.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=RALLY_REVISION");
    println!("cargo::rerun-if-changed=build.rs");
    let given = std::env::var("RALLY_REVISION").ok().filter(|revision| !revision.is_empty());
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if let Some(revision) = given.or_else(|| if is_release { commit() } else { None }) {
        println!("cargo::rustc-env=RALLY_REVISION={revision}");
    }
}

/// The commit of the working copy; none outside of one.
fn commit() -> Option<String> {
    // Written with every commit and every switch. A file that is not there would make everything be built again each time.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists());
    if let Some(log) = log {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
