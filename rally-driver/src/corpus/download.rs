//! Downloads of corpora: resumed where they broke off, and complete or not there.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::time::sleep;

use super::progress::Progress;

/// How long connecting may take, and how long nothing may arrive; the values of the original.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(45);
const READ_TIMEOUT: Duration = Duration::from_secs(240);

/// How often in a row a download may break off without having got on.
const ATTEMPTS: u32 = 10;

/// Pauses between them double from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Bytes that are written at once.
const BLOCK: usize = 1 << 20;

/// Why a download came to nothing.
#[derive(Debug)]
pub(super) enum DownloadError {
    /// A sentence about the server, and what would help.
    Server(String),
    /// The file cannot be written.
    Write(io::Error),
}

/// One attempt failed.
enum Failure {
    /// Another one may go on from there.
    Again(String),
    Final(DownloadError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Final(DownloadError::Write(error))
    }
}

/// A client for downloads through the proxies of the environment, which trusts the authorities of the system.
pub(super) fn client() -> Result<Client, DownloadError> {
    let failed = |error: &dyn Display| DownloadError::Server(format!("there is no TLS on this host: {error}"));
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = Client::builder().tls_backend_preconfigured(tls);
    let builder = builder.connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT);
    builder.build().map_err(|error| failed(&error))
}

/// The address of a file.
pub(super) fn address(base_url: &str, name: &str) -> Result<Url, DownloadError> {
    let text = format!("{}/{name}", base_url.trim_end_matches('/'));
    let url = Url::parse(&text)
        .map_err(|error| DownloadError::Server(format!("`base-url` is no URL ({error}); correct it in the track")))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        scheme => Err(DownloadError::Server(format!(
            "{scheme} is not spoken here; put the file into the data directory, or name an http or https address of it in \
             `base-url`"
        ))),
    }
}

/// An address without credentials, for users to read.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both only fail for addresses that cannot have them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// Downloads into a file, which is there only when it is complete.
///
/// What has arrived is kept in a hidden file beside it, and is not asked for again by the next attempt or the next race,
/// as long as the server says that it still has the same.
///
/// # Cancel safety
///
/// When dropped, what has arrived stays.
pub(super) async fn download(
    client: &Client,
    url: &Url,
    target: &Path,
    expected: Option<u64>,
    progress: &mut Progress,
) -> Result<(), DownloadError> {
    let part = Part::of(target);
    let mut patience = Patience::new();
    loop {
        let failure = match attempt(client, url, &part, expected, progress).await {
            Ok(()) => {
                fs::rename(&part.path, target).await.map_err(DownloadError::Write)?;
                // Nothing is left to be continued.
                let _ = fs::remove_file(&part.tag).await;
                return Ok(());
            }
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Again(problem)) => problem,
        };
        let Some(pause) = patience.pause_after(part.length().await) else {
            return Err(DownloadError::Server(format!("{failure}, {ATTEMPTS} times in a row; try again later")));
        };
        progress.stumbles(&format!("{failure}; it is tried again"));
        sleep(pause).await;
    }
}

/// How long attempts go on that break off.
struct Patience {
    /// The most bytes that an attempt has left: where each begins from the start, one may get further than the one before, and
    /// yet none gets on.
    best: u64,
    pause: Duration,
    failures: u32,
}

impl Patience {
    fn new() -> Self {
        Self { best: 0, pause: FIRST_PAUSE, failures: 0 }
    }

    /// How long to wait after an attempt that broke off and left so many bytes; none if there have been enough.
    fn pause_after(&mut self, length: u64) -> Option<Duration> {
        if length > self.best {
            *self = Self { best: length, ..Self::new() };
        }
        self.failures += 1;
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        (self.failures < ATTEMPTS).then_some(pause)
    }
}

/// What has arrived of a file.
struct Part {
    path: PathBuf,
    /// Holds what the server calls this state of the file.
    tag: PathBuf,
}

impl Part {
    fn of(target: &Path) -> Self {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let hidden = |ending: &str| target.with_file_name(format!(".{name}.{ending}"));
        Self { path: hidden("part"), tag: hidden("part-tag") }
    }

    async fn length(&self) -> u64 {
        fs::metadata(&self.path).await.map_or(0, |metadata| metadata.len())
    }

    /// Where to go on, and the state that it has to be of; none to begin from the start.
    async fn resume(&self, url: &Url) -> Option<(u64, String)> {
        let text = fs::read_to_string(&self.tag).await.ok()?;
        let tag = text.strip_prefix(&format!("{}\n", shown(url)))?;
        let length = self.length().await;
        (length > 0).then(|| (length, tag.to_owned()))
    }

    /// Begins from the start with this state.
    async fn begin(&self, url: &Url, headers: &HeaderMap) -> io::Result<File> {
        let file = File::create(&self.path).await?;
        match tag_of(headers) {
            Some(tag) => fs::write(&self.tag, format!("{}\n{tag}", shown(url))).await?,
            // Without one it cannot be told later whether the server still has the same.
            None => drop(fs::remove_file(&self.tag).await),
        }
        Ok(file)
    }
}

/// What tells one state of a file from another: its strong entity tag, or else when it was changed.
fn tag_of(headers: &HeaderMap) -> Option<&str> {
    let text = |name| headers.get(name)?.to_str().ok();
    text(ETAG).filter(|tag| !tag.starts_with("W/")).or_else(|| text(LAST_MODIFIED))
}

async fn attempt(
    client: &Client,
    url: &Url,
    part: &Part,
    expected: Option<u64>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let resume = part.resume(url).await;
    let mut request = client.get(url.clone());
    if let Some((length, tag)) = &resume {
        request = request.header(RANGE, format!("bytes={length}-")).header(IF_RANGE, tag);
    }
    let response = request.send().await.map_err(|error| unanswered(&error))?;
    let (mut length, file) = match (response.status(), resume) {
        (StatusCode::PARTIAL_CONTENT, Some((length, _))) if starts_at(&response, length) => {
            (length, OpenOptions::new().append(true).open(&part.path).await?)
        }
        // All of it is there, and the server still has the same.
        (StatusCode::RANGE_NOT_SATISFIABLE, Some((length, _))) if ends_at(&response, length) => {
            if let Some(expected) = expected.filter(|expected| *expected != length) {
                return Err(wrong_size(&format!("the server has {length} bytes"), expected));
            }
            return Ok(File::open(&part.path).await?.sync_all().await?);
        }
        (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => {
            // The server has another idea of where to go on; the next attempt begins from the start.
            fs::remove_file(&part.tag).await?;
            return Err(Failure::Again("the server does not go on from where it was".to_owned()));
        }
        (StatusCode::OK, _) => (0, part.begin(url, response.headers()).await?),
        (status, _) => return Err(refused(status)),
    };
    let total = response.content_length().map(|rest| rest.saturating_add(length));
    if let (Some(total), Some(expected)) = (total, expected)
        && total != expected
    {
        return Err(wrong_size(&format!("the server has {total} bytes"), expected));
    }
    if let Some(total) = total {
        progress.set_total(total);
    }
    let mut file = BufWriter::with_capacity(BLOCK, file);
    let received = receive(response, &mut file, &mut length, expected.or(total), progress).await;
    // What has arrived is kept, whatever became of the rest.
    file.flush().await?;
    received?;
    match expected.or(total) {
        Some(wanted) if length < wanted => {
            Err(Failure::Again(format!("it broke off after {length} of {wanted} bytes")))
        }
        _ => Ok(file.get_ref().sync_all().await?),
    }
}

async fn receive(
    mut response: Response,
    file: &mut BufWriter<File>,
    length: &mut u64,
    limit: Option<u64>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::Again(explain(&error)))? {
        *length += chunk.len() as u64;
        if let Some(limit) = limit.filter(|limit| *length > *limit) {
            return Err(wrong_size("the server sends more", limit));
        }
        file.write_all(&chunk).await?;
        progress.at(*length);
    }
    Ok(())
}

fn starts_at(response: &Response, length: u64) -> bool {
    range_of(response).and_then(|range| range.split_once('-')?.0.parse().ok()) == Some(length)
}

/// Whether a file has so many bytes, by an answer that has none of them.
fn ends_at(response: &Response, length: u64) -> bool {
    range_of(response).and_then(|range| range.strip_prefix("*/")?.parse().ok()) == Some(length)
}

/// What an answer says of the part of the file that it has, behind its unit.
fn range_of(response: &Response) -> Option<&str> {
    response.headers().get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")
}

fn refused(status: StatusCode) -> Failure {
    let transient = [408, 425, 429, 500, 502, 503, 504];
    if transient.contains(&status.as_u16()) {
        return Failure::Again(format!("the server answers with {status}"));
    }
    Failure::Final(DownloadError::Server(match status {
        StatusCode::NOT_FOUND => {
            "the server does not have it (404); correct `base-url` or the name in the track, or put \
                                  the file into the data directory"
                .to_owned()
        }
        status => format!("the server answers with {status}; put the file into the data directory"),
    }))
}

fn wrong_size(what: &str, expected: u64) -> Failure {
    let text = format!("{what}, but the track says {expected} bytes; correct the track, or put the right file there");
    Failure::Final(DownloadError::Server(text))
}

/// A server whose certificate is not trusted now will not be trusted in a second.
fn unanswered(error: &reqwest::Error) -> Failure {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(rustls::Error::InvalidCertificate(_)) = inner.downcast_ref() {
            let remedy = "if it is right, name a PEM file with its authority in the environment variable SSL_CERT_FILE, or \
                          put the file into the data directory";
            return Failure::Final(DownloadError::Server(format!("{}; {remedy}", explain(error))));
        }
        // What an error of I/O wraps is not its source.
        let wrapped = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = wrapped.map(|wrapped| wrapped as _).or_else(|| inner.source());
    }
    Failure::Again(explain(error))
}

/// An error with its causes, but without the address, which is said elsewhere.
fn explain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() {
        "it took too long".to_owned()
    } else if error.is_connect() {
        "there is no connection".to_owned()
    } else {
        "the connection broke".to_owned()
    };
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_given_up_that_gets_further_than_the_attempt_before_but_never_on() {
        let mut patience = Patience::new();
        let attempts = [300, 100].into_iter().cycle().take_while(|length| patience.pause_after(*length).is_some());
        assert_eq!(attempts.take(1_000).count(), ATTEMPTS as usize - 1);
    }

    #[test]
    fn a_download_that_gets_on_is_not_given_up() {
        let mut patience = Patience::new();
        assert!((1..1_000).all(|length| patience.pause_after(length) == Some(FIRST_PAUSE)));
        let pauses: Vec<_> = std::iter::from_fn(|| patience.pause_after(0)).collect();
        assert_eq!(pauses.len(), ATTEMPTS as usize - 2);
        assert_eq!((pauses[0], pauses[pauses.len() - 1]), (2 * FIRST_PAUSE, LONGEST_PAUSE));
    }
}
