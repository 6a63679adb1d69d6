//! The HTTP client over TLS, against servers with certificates of all kinds.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rally_core::metrics::SampleType;
use rally_core::track::{Documents, JsonObject, Operation, Task};
use rally_driver::client::{Client, ClientOptions, MediaTypes, Request};
use rally_driver::{ErrorClass, Registry, RunnerError};
use rcgen::{CertifiedKey, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::authority::Authority;
use crate::corpora::{self, Host};
use crate::fixture::{self, Race};

/// Writes a file of PEM.
fn file(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

/// A server that answers every request with its first line.
struct Server {
    port: u16,
    _server: JoinSet<()>,
}

impl Server {
    /// Starts it with a certificate. With an authority, it asks for certificates of clients that this has signed.
    async fn start(identity: &CertifiedKey<KeyPair>, clients: Option<&Authority>) -> Self {
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let config = match clients {
            None => config.unwrap().with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.certificate.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
                config.unwrap().with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
        let config = config.with_single_cert(vec![identity.cert.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, acceptor.clone()));
            }
        });
        Self { port, _server: server }
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor) {
    let mut stream = match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((_, mut refused)) => {
            // What is still to come is read, so that the other side gets to read why it is refused.
            let _ = tokio::io::copy(&mut refused, &mut tokio::io::sink()).await;
            return;
        }
    };
    let mut buffer = Vec::new();
    while stream.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let line = String::from_utf8_lossy(&buffer[..end]).lines().next().unwrap_or_default().to_owned();
            buffer.clear();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len());
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

fn options(options: Value) -> ClientOptions {
    let mut all: JsonObject = options.as_object().unwrap().clone();
    all.insert("max_retries".to_owned(), json!(0));
    ClientOptions::try_from(&all).unwrap()
}

/// Sends a request over TLS.
async fn ask(host: &str, server: &Server, given: Value) -> Result<String, RunnerError> {
    let hosts = [format!("https://{host}:{}", server.port)];
    let client = Client::new(&hosts, options(given), MediaTypes::default(), 0, std::rc::Rc::default()).unwrap();
    let response = client.request(&Request::new("GET", "/secret")).await?;
    Ok(String::from_utf8(response.body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_host_is_trusted_by_its_authority_and_its_name_as_far_as_the_options_say() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let directory = tempfile::tempdir().unwrap();
    let ca = |authority: &Authority, name: &str| file(&directory, name, &authority.certificate.pem());
    let named = Server::start(&ours.sign(&["localhost"], |_| ()), None).await;
    let elsewhere = Server::start(&ours.sign(&["es.example.org"], |_| ()), None).await;
    let expired = ours.sign(&["localhost"], |params| params.not_after = date_time_ymd(2001, 1, 1));
    let expired = Server::start(&expired, None).await;
    let (trust, other) =
        (json!({ "ca_certs": ca(&ours, "ours.pem") }), json!({ "ca_certs": ca(&theirs, "theirs.pem") }));
    let nameless = |trust: &Value| json!({ "ca_certs": trust["ca_certs"], "ssl_assert_hostname": false });
    let nothing = json!({ "verify_certs": false });
    for (host, server, options, problem) in [
        ("localhost", &named, trust.clone(), None),
        (
            "localhost",
            &named,
            other.clone(),
            Some("PEM file with the authority that signed its certificate in the client option `ca_certs`"),
        ),
        ("localhost", &elsewhere, trust.clone(), Some("address it by a name that stands in its certificate")),
        ("localhost", &elsewhere, nameless(&trust), None),
        ("localhost", &named, nameless(&other), Some("the client option `ca_certs`")),
        ("localhost", &expired, nameless(&trust), Some("it needs a new certificate")),
        // The name of an address is not checked, but all else is.
        ("127.0.0.1", &named, trust.clone(), None),
        ("127.0.0.1", &named, other, Some("the client option `ca_certs`")),
        ("127.0.0.1", &expired, trust, Some("it needs a new certificate")),
        ("localhost", &elsewhere, nothing.clone(), None),
        ("localhost", &expired, nothing, None),
    ] {
        match (ask(host, server, options.clone()).await, problem) {
            (Ok(answer), None) => assert_eq!(answer, "GET /secret HTTP/1.1"),
            (Err(error), Some(problem)) => {
                assert!(matches!(error, RunnerError::Transport { class: ErrorClass::Tls, .. }), "{error:?}");
                let text = error.to_string();
                assert!(text.starts_with(&format!("cannot connect to {host}:{}: ", server.port)), "{text}");
                assert!(text.contains(problem), "{text}");
            }
            (result, problem) => panic!("{host} with {options}: {result:?}, not {problem:?}"),
        }
    }
}

#[tokio::test]
async fn a_certificate_of_ours_is_shown_to_hosts_that_ask_for_one() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = Server::start(&ours.sign(&["localhost"], |_| ()), Some(&ours)).await;
    let directory = tempfile::tempdir().unwrap();
    let ca = file(&directory, "ca.pem", &ours.certificate.pem());
    let shown = |name: &str, authority: &Authority| {
        let identity = authority.sign(&["us"], |_| ());
        let certificate = file(&directory, &format!("{name}.pem"), &identity.cert.pem());
        let key = file(&directory, &format!("{name}-key.pem"), &identity.signing_key.serialize_pem());
        json!({ "ca_certs": ca, "client_cert": certificate, "client_key": key })
    };
    let (good, bad) = (shown("good", &ours), shown("bad", &theirs));
    assert_eq!(ask("localhost", &server, good).await.unwrap(), "GET /secret HTTP/1.1");
    for (options, problem) in [
        (json!({ "ca_certs": ca }), "it wants a certificate of ours: give the client options `client_cert`"),
        (bad, "it does not accept the certificate in the client option `client_cert`"),
    ] {
        let error = ask("localhost", &server, options).await.unwrap_err();
        assert!(matches!(error, RunnerError::Transport { class: ErrorClass::Tls, .. }), "{error:?}");
        assert!(error.to_string().contains(problem), "{error}");
    }
}

#[test]
fn files_that_are_no_certificates_are_named_with_their_option() {
    let authority = Authority::new("ours");
    let identity = authority.sign(&["localhost"], |_| ());
    let directory = tempfile::tempdir().unwrap();
    let ca = file(&directory, "ca.pem", &authority.certificate.pem());
    let certificate = file(&directory, "cert.pem", &identity.cert.pem());
    let key = file(&directory, "key.pem", &identity.signing_key.serialize_pem());
    let empty = file(&directory, "empty.pem", "nothing");
    for (given, problem) in [
        (json!({ "ca_certs": "/nowhere/ca.pem" }), "client option `ca_certs`: cannot use /nowhere/ca.pem: "),
        (
            json!({ "ca_certs": empty }),
            "client option `ca_certs`: there is no authority to trust; name a PEM file with one",
        ),
        (json!({ "client_cert": certificate, "client_key": empty }), "client option `client_key`: cannot use "),
        (json!({ "client_cert": empty, "client_key": key }), "client option `client_cert`: "),
    ] {
        let mut given = given;
        given["ca_certs"] = given.get("ca_certs").cloned().unwrap_or(json!(ca));
        let hosts = ["https://localhost:9200".to_owned()];
        let made = Client::new(&hosts, options(given), MediaTypes::default(), 0, std::rc::Rc::default());
        let text = made.unwrap_err().to_string();
        assert!(text.starts_with(problem), "{text}");
    }
}

#[tokio::test]
async fn corpora_come_from_servers_that_the_environment_trusts() {
    const URL: &str = "RALLY_TEST_CORPUS_URL";
    if let Ok(url) = std::env::var(URL) {
        // This is the process that the other branch has started.
        let documents = Documents::builder("documents.json", 1).base_url(&url);
        let host = Host::new();
        let prepared = host.prepare(&corpora::plan(documents)).await.map(|here| fs::read_to_string(here.path).unwrap());
        return println!("{prepared:?}");
    }
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&ours.sign(&["localhost"], |_| ()), None).await;
    for (trusted, expected) in [
        (ours, r#"Ok("GET /documents.json HTTP/1.1")"#),
        (theirs, "name a PEM file with its authority in the environment variable SSL_CERT_FILE"),
    ] {
        let trusted = file(&directory, "ca.pem", &trusted.certificate.pem());
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "tls::corpora_come_from_servers_that_the_environment_trusts", "--nocapture"]);
        child.env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR");
        child.env(URL, format!("https://localhost:{}", server.port));
        let output = child.kill_on_drop(true).output().await.unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.contains(expected), "{told}");
    }
}

#[tokio::test]
async fn whoever_trusts_everybody_is_warned() {
    let authority = Authority::new("ours");
    let server = Server::start(&authority.sign(&["es.example.org"], |_| ()), None).await;
    let task = Task::builder(Operation::builder("raw-request").property("path", "/secret"));
    let mut plan = fixture::plan(fixture::challenge().task(task));
    plan.target_hosts.insert("default".to_owned(), vec![format!("https://localhost:{}", server.port)]);
    let trusting = json!({ "verify_certs": false }).as_object().unwrap().clone();
    plan.client_options.insert("default".to_owned(), trusting);
    let mut race = Race::prepare(Registry::rally(), &plan, 1).await;
    let notices = race.prepared().await;
    assert!(notices.iter().any(|notice| notice.contains("certificates are not checked")), "{notices:?}");
    race.begin(1).await;
    let told = race.until_reached().await;
    assert_eq!((told.samples(0, SampleType::Normal), told.failure()), (1, None));
    assert!(told.tasks(0, SampleType::Normal).all(|interval| interval.failed == 0), "{told:?}");
}
