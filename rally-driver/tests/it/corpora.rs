//! How corpora come to a driver: found, unpacked, downloaded.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::get;
use bytes::Bytes;
use flate2::write::GzEncoder;
use futures_util::StreamExt;
use rally_core::track::{Challenge, Corpus, Documents, DocumentsBuilder, Operation, Task, Track};
use rally_core::{ContentHash, DataSource, HostFacts, RacePlan};
use rally_driver::{ContentSource, DocumentsHere, DriverOptions, LocalLoadDriver, Registry, local_clock};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::fixture;

/// Lines in the file of the tests: more than there are between two entries of its offset table.
const LINES: u64 = 60_000;

fn text() -> Vec<u8> {
    (0..LINES).flat_map(|line| format!("{{\"number\": {line}, \"name\": \"a place\"}}\n").into_bytes()).collect()
}

struct Nothing;

#[async_trait]
impl ContentSource for Nothing {
    async fn fetch(&self, content: ContentHash) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("nothing is known of {content}").into())
    }
}

/// One driver's data directory, and what it told the user.
pub(crate) struct Host {
    home: TempDir,
    told: Arc<Mutex<Vec<String>>>,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), told: Arc::default() }
    }

    /// A path in the directory of the corpus.
    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join("places").join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.home.path().join("places")).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) async fn prepare(&self, plan: &RacePlan) -> Result<DocumentsHere, String> {
        let driver = LocalLoadDriver::new(DriverOptions {
            facts: HostFacts { name: "here".to_owned(), cores: 2, ..HostFacts::default() },
            registry: Arc::new(Registry::rally()),
            content: Arc::new(Nothing),
            clock: local_clock(),
            data_dir: self.home.path().to_owned(),
            segment_dir: self.home.path().to_owned(),
        });
        let told = Arc::clone(&self.told);
        let documents = driver.documents(plan, Arc::new(move |text| told.lock().unwrap().push(text))).await;
        documents.map(|mut all| all.remove(0)).map_err(|error| error.to_string())
    }

    /// Names of files that are not hidden.
    fn files(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.home.path().join("places")) else { return Vec::new() };
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    }
}

/// A race whose bulks read these documents.
pub(crate) fn plan(documents: DocumentsBuilder) -> RacePlan {
    let bulk = Task::builder(Operation::builder("bulk").property("bulk-size", 1_000)).clients(2);
    let mut plan = fixture::plan(fixture::challenge().task(fixture::task("another")));
    plan.track = Track::builder("tests")
        .corpus(Corpus::builder("places").documents(documents.target_index("i")))
        .challenge(Challenge::builder("only").task(bulk))
        .build()
        .unwrap();
    plan.offline = false;
    plan.test_mode = false;
    plan
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::new(1));
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// As `pzstd` does it: frames, each after a skippable one that says how long it is.
fn pzstd(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in bytes.chunks(400_000) {
        let frame = zstd::encode_all(part, 1).unwrap();
        out.extend([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0]);
        out.extend((frame.len() as u32).to_le_bytes());
        out.extend(frame);
    }
    out
}

fn zip(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    out.start_file("other.json", options).unwrap();
    out.write_all(b"{}\n").unwrap();
    out.start_file(name, options).unwrap();
    out.write_all(bytes).unwrap();
    out.finish().unwrap().into_inner()
}

fn tar(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    out.append_data(&mut header.clone(), "other.json", bytes).unwrap();
    out.append_data(&mut header, name, bytes).unwrap();
    out.into_inner().unwrap()
}

#[tokio::test]
async fn every_kind_of_archive_is_unpacked_and_its_lines_are_counted() {
    let text = text();
    let two_parts = |pack: fn(&[u8]) -> Vec<u8>| [pack(&text[..700_001]), pack(&text[700_001..])].concat();
    for (name, bytes) in [
        ("d.json.gz", two_parts(gzip)),
        ("d.json.bz2", two_parts(bzip2)),
        ("d.json.lz4", two_parts(lz4)),
        ("d.json.zst", zstd::encode_all(&text[..], 1).unwrap()),
        ("d.json.zst", pzstd(&text)),
        ("d.json.zip", zip("d.json", &text)),
        ("d.json.tar", tar("./d.json", &text)),
        ("d.json.tgz", gzip(&tar("d.json", &text))),
        ("d.json.tar.bz2", bzip2(&tar("d.json", &text))),
    ] {
        let host = Host::new();
        host.put(name, &bytes);
        let documents = Documents::builder(name, LINES).property("uncompressed-bytes", text.len());
        let here = host.prepare(&plan(documents.property("compressed-bytes", bytes.len()))).await.unwrap();
        assert_eq!((here.path, here.length), (host.path("d.json"), text.len() as u64), "{name}");
        let [(50_000, offset)] = here.offsets[..] else { panic!("{name}: {:?}", here.offsets) };
        assert!(text[offset as usize..].starts_with(b"{\"number\": 50000,"), "{name}");
        assert!(fs::read(host.path("d.json")).unwrap() == text, "{name}");
        let mut files = ["d.json", name, "d.json.offset"];
        files.sort_unstable();
        assert_eq!(host.files(), files, "{name}");
    }
}

#[tokio::test]
async fn a_damaged_archive_is_named_and_leaves_nothing_behind() {
    let text = text();
    let (bzip2, gzip) = (bzip2(&text), gzip(&text));
    let mut flipped = bzip2.clone();
    flipped[bzip2.len() / 2] ^= 0x10;
    for (name, bytes, expected) in [
        ("d.json.bz2", &bzip2[..bzip2.len() / 2], "cannot unpack"),
        ("d.json.bz2", &flipped[..], "cannot unpack"),
        ("d.json.gz", &gzip[..gzip.len() - 9], "cannot unpack"),
        ("d.json.zst", &gzip[..], "cannot unpack"),
        ("d.json.zip", &gzip[..], "cannot unpack"),
        ("d.json.zip", &zip("../d.json", &text)[..], "there is no `d.json` in it"),
        ("d.json.tar", &tar("sub/d.json", &text)[..], "there is no `d.json` in it"),
    ] {
        let host = Host::new();
        host.put(name, bytes);
        let error = host.prepare(&plan(Documents::builder(name, LINES))).await.unwrap_err();
        assert!(error.contains(expected) && error.contains(name), "{name}: {error}");
        assert_eq!(host.files(), [name], "{name}");
        assert!(!host.home.path().join("d.json").exists());
    }
}

#[tokio::test]
async fn an_archive_with_other_documents_than_the_track_says_is_refused() {
    let text = text();
    let documents = |lines| Documents::builder("d.json.gz", lines);
    for (documents, expected) in [
        (documents(LINES + 1), "has 60000 lines, but the track says 60001; correct `document-count`"),
        (documents(LINES).property("uncompressed-bytes", text.len() - 1), "more bytes than the track says"),
        (documents(LINES).property("uncompressed-bytes", text.len() + 1), "bytes unpacked, but the track says"),
        (documents(LINES).property("compressed-bytes", 3), "bytes, but the track says 3; replace it"),
    ] {
        let host = Host::new();
        host.put("d.json.gz", &gzip(&text));
        let error = host.prepare(&plan(documents)).await.unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert_eq!(host.files(), ["d.json.gz"]);
    }
}

#[tokio::test]
async fn what_is_missing_is_said_with_the_place_to_put_it() {
    let documents = || Documents::builder("d.json.gz", LINES).base_url("http://127.0.0.1:1/corpora");
    let host = Host::new();
    let at = host.path("d.json.gz").display().to_string();
    let mut offline = plan(documents());
    offline.offline = true;
    let mut local = plan(documents());
    local.data = DataSource::Local;
    for (plan, why) in [
        (offline, "--offline downloads nothing"),
        (local, "--data=local downloads nothing"),
        (plan(Documents::builder("d.json.gz", LINES)), "the track does not say with `base-url`"),
    ] {
        let error = host.prepare(&plan).await.unwrap_err();
        assert!(error.contains(why) && error.ends_with(&format!("put it at {at}")), "{error}");
    }
    let error = host.prepare(&plan(documents().base_url("s3://bucket/corpora"))).await.unwrap_err();
    assert!(error.contains("s3 is not spoken here; put the file into the data directory"), "{error}");
    let error = host.prepare(&plan(Documents::builder("../d.json", LINES))).await.unwrap_err();
    assert!(error.contains("must not name `../d.json`"), "{error}");
    assert!(host.files().is_empty());
}

#[tokio::test]
async fn files_beside_the_track_are_used_and_not_written_to() {
    let text = text();
    let track = tempfile::tempdir().unwrap();
    let mut plan = plan(Documents::builder("d.json.gz", LINES).property("uncompressed-bytes", text.len()));
    plan.track_directory = Some(track.path().to_owned());
    fs::write(track.path().join("d.json.gz"), gzip(&text)).unwrap();
    let host = Host::new();
    assert_eq!(host.prepare(&plan).await.unwrap().path, host.path("d.json"));
    assert_eq!(fs::read_dir(track.path()).unwrap().count(), 1);
    fs::write(track.path().join("d.json"), &text).unwrap();
    assert_eq!(host.prepare(&plan).await.unwrap().path, track.path().join("d.json"));
    fs::write(track.path().join("d.json"), "{}\n").unwrap();
    let error = host.prepare(&plan).await.unwrap_err();
    assert!(error.contains("has 3 bytes, but the track says"), "{error}");
}

/// What a server does with a request for a file.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Answers as it should.
    Serve,
    /// Breaks off after so many bytes.
    Cut(usize),
    /// Answers with this status.
    Status(u16),
    /// Sends the client to the same place again.
    Redirect,
}

/// A file on a server, what the server does with one request after the other, and which ranges it was asked for.
struct Served {
    bytes: Vec<u8>,
    acts: Mutex<Vec<Act>>,
    tag: Mutex<String>,
    asked: Mutex<Vec<Option<String>>>,
}

struct Server {
    url: String,
    served: Arc<Served>,
    _server: JoinSet<()>,
}

async fn serve(bytes: Vec<u8>, acts: &[Act]) -> Server {
    let (acts, tag) = (Mutex::new(acts.iter().rev().copied().collect()), Mutex::new("\"one\"".to_owned()));
    let served = Arc::new(Served { bytes, acts, tag, asked: Mutex::default() });
    let app = Router::new().route("/corpora/{name}", get(answer)).with_state(Arc::clone(&served));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:secret@{}/corpora", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, app).await.unwrap() });
    Server { url, served, _server: server }
}

async fn answer(
    State(served): State<Arc<Served>>,
    UrlPath(name): UrlPath<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let (range, tag) = (text(header::RANGE), served.tag.lock().unwrap().clone());
    served.asked.lock().unwrap().push(range.clone());
    let act = served.acts.lock().unwrap().pop().unwrap_or(Act::Serve);
    let response = Response::builder();
    let start = range.filter(|_| text(header::IF_RANGE).as_ref() == Some(&tag));
    let start =
        start.map(|range| range.strip_prefix("bytes=").unwrap().trim_end_matches('-').parse::<usize>().unwrap());
    if start == Some(served.bytes.len()) {
        let range = format!("bytes */{}", served.bytes.len());
        return response.status(416).header(header::CONTENT_RANGE, range).body(Body::empty()).unwrap();
    }
    let rest = &served.bytes[start.unwrap_or(0)..];
    let response = response.header(header::ETAG, tag).header(header::CONTENT_LENGTH, rest.len());
    let response = match start {
        Some(start) => response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{}", served.bytes.len() - 1, served.bytes.len())),
        None => response,
    };
    match act {
        Act::Serve => response.body(Body::from(rest.to_vec())).unwrap(),
        Act::Cut(length) => {
            let part = Bytes::from(rest[..length].to_vec());
            // What was sent goes out before the connection breaks.
            let cut = futures_util::stream::once(async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(std::io::Error::other("cut"))
            });
            let broken = futures_util::stream::iter([Ok(part)]).chain(cut);
            response.body(Body::from_stream(broken)).unwrap()
        }
        Act::Status(status) => Response::builder().status(status).body(Body::empty()).unwrap(),
        Act::Redirect => {
            let location = format!("/corpora/{name}");
            Response::builder().status(302).header(header::LOCATION, location).body(Body::empty()).unwrap()
        }
    }
}

fn remote(server: &Server, name: &str) -> DocumentsBuilder {
    Documents::builder(name, LINES).base_url(&server.url)
}

#[tokio::test]
async fn an_archive_is_downloaded_from_where_it_broke_off_and_unpacked() {
    let (text, packed) = (text(), gzip(&text()));
    let (first, second) = (packed.len() / 3, packed.len() / 3);
    let acts = [Act::Redirect, Act::Cut(first), Act::Status(503), Act::Cut(second), Act::Serve];
    let server = serve(packed.clone(), &acts).await;
    let host = Host::new();
    let documents = remote(&server, "d.json.gz").property("compressed-bytes", packed.len());
    let here = host.prepare(&plan(documents)).await.unwrap();
    assert!(fs::read(here.path).unwrap() == text);
    let (one, two) = (format!("bytes={first}-"), format!("bytes={}-", first + second));
    let expected = [None, None, Some(one.clone()), Some(one), Some(two)];
    assert_eq!(*server.served.asked.lock().unwrap(), expected);
    assert_eq!(host.files(), ["d.json", "d.json.gz", "d.json.offset"]);
    let told = host.told.lock().unwrap().join("\n");
    assert!(
        told.contains("downloading d.json.gz of corpus places (") && told.contains("unpacking d.json.gz"),
        "{told}"
    );
    assert!(told.contains("503") && !told.contains("secret"), "{told}");
}

#[tokio::test]
async fn a_later_race_goes_on_with_a_download_unless_the_server_has_another_file() {
    let text = text();
    for (is_same, is_whole) in [(true, false), (false, false), (true, true), (false, true)] {
        let server = serve(text.clone(), &[Act::Cut(1_000), Act::Status(403), Act::Serve]).await;
        let host = Host::new();
        let error = host.prepare(&plan(remote(&server, "d.json"))).await.unwrap_err();
        assert!(error.contains("403") && !error.contains("secret"), "{error}");
        assert!(host.files().is_empty());
        if is_whole {
            // The race before ended right after the last byte; what it got is told from what the server has.
            fs::write(host.path(".d.json.part"), text.to_ascii_uppercase()).unwrap();
        }
        if !is_same {
            *server.served.tag.lock().unwrap() = "\"two\"".to_owned();
        }
        host.prepare(&plan(remote(&server, "d.json"))).await.unwrap();
        let expected = if is_same && is_whole { text.to_ascii_uppercase() } else { text.clone() };
        assert!(fs::read(host.path("d.json")).unwrap() == expected, "{is_same} {is_whole}");
        let range = format!("bytes={}-", if is_whole { text.len() } else { 1_000 });
        assert_eq!(*server.served.asked.lock().unwrap().last().unwrap(), Some(range));
        // What is there is not asked for again.
        host.prepare(&plan(remote(&server, "d.json"))).await.unwrap();
        assert_eq!(server.served.asked.lock().unwrap().len(), 3);
    }
}

#[tokio::test]
async fn a_download_that_is_not_there_or_has_another_size_is_refused() {
    let host = Host::new();
    let server = serve(text(), &[Act::Status(404), Act::Status(404)]).await;
    let error = host.prepare(&plan(remote(&server, "d.json"))).await.unwrap_err();
    assert!(error.contains("the server does not have it (404)") && error.contains("/corpora/d.json"), "{error}");
    let mut test_mode = plan(remote(&server, "d.json"));
    test_mode.test_mode = true;
    let error = host.prepare(&test_mode).await.unwrap_err();
    assert!(error.contains("the track does not support --test-mode"), "{error}");
    let documents = remote(&server, "d.json").property("uncompressed-bytes", 17);
    let error = host.prepare(&plan(documents)).await.unwrap_err();
    assert!(error.contains("but the track says 17 bytes"), "{error}");
    assert!(host.files().is_empty());
}

#[tokio::test]
async fn drivers_that_share_a_directory_download_once() {
    let server = serve(gzip(&text()), &[]).await;
    let host = Host::new();
    let plan = plan(remote(&server, "d.json.gz"));
    let (one, two) = tokio::join!(host.prepare(&plan), host.prepare(&plan));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(server.served.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn preparing_can_be_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let host = Host::new();
    let plan = plan(Documents::builder("d.json", LINES).base_url(&url));
    {
        let mut preparing = std::pin::pin!(host.prepare(&plan));
        tokio::select! {
            _ = &mut preparing => panic!("nobody answers"),
            accepted = listener.accept() => drop(accepted.unwrap()),
        }
    }
    assert!(host.files().is_empty());
    // Nothing is locked any more.
    host.put("d.json", &text());
    host.prepare(&plan).await.unwrap();
}
