//! A target that does as it is told: delays, statuses, dripping bodies, broken connections.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What the target does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Answers with this status and body.
    Answer(u16, String),
    /// Answers 200 with this body after so long.
    Late(Duration, &'static str),
    /// Answers 200 with this body once a request with this method and path has come.
    AfterSeeing(&'static str, String),
    /// Sends a body of four bytes in two parts, with so long in between.
    Drip(Duration),
    /// Sends a body of six bytes in chunks.
    Chunks,
    /// Says that the body is packed in this way.
    Packed(&'static str, Vec<u8>),
    /// Answers 200 with these headers and without a body, whatever they say.
    Head(&'static str),
    /// Sends these bytes and nothing else, and closes the connection.
    Raw(Vec<u8>),
    /// Aborts the connection without an answer.
    Reset,
    /// Answers 200, and closes the connection without having said so.
    AnswerAndClose,
    /// Closes the connection without an answer.
    HangUp,
}

impl Act {
    pub(crate) fn ok() -> Self {
        Self::Answer(200, "{}".to_owned())
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// How many came before, over all connections.
    pub(crate) number: usize,
    /// First line and headers, then the body; header names and all else as it was sent.
    pub(crate) text: String,
}

impl Seen {
    /// Method and path.
    pub(crate) fn line(&self) -> &str {
        self.text.split(" HTTP/1.1").next().unwrap_or_default()
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.text.split("\r\n").skip(1).take_while(|line| !line.is_empty());
        lines
            .find_map(|line| line.split_once(": ").filter(|(known, _)| known.eq_ignore_ascii_case(name)))
            .map(|(_, value)| value)
    }

    pub(crate) fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }
}

type Script = dyn Fn(&Seen) -> Act + Send + Sync;

/// A target on loopback. Dropping it closes all its connections.
pub(crate) struct Target {
    pub(crate) address: String,
    state: Arc<State>,
    _server: JoinSet<()>,
}

struct State {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    closed: AtomicUsize,
}

impl Target {
    /// A target that acts by a script.
    pub(crate) async fn start(script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            script: Box::new(script),
            seen: Mutex::default(),
            connections: 0.into(),
            closed: 0.into(),
        });
        let mut server = JoinSet::new();
        let shared = Arc::clone(&state);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let _ = serve(stream, &shared).await;
                    shared.closed.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, state, _server: server }
    }

    /// A target with one act for each request that comes.
    pub(crate) async fn acting(acts: &[Act]) -> Self {
        let acts = acts.to_vec();
        Self::start(move |seen| acts.get(seen.number).cloned().expect("the script has an act for every request")).await
    }

    /// All requests so far, in the order in which they arrived.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Connections that were accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Waits until so many connections are open.
    pub(crate) async fn has_open(&self, wanted: usize) {
        let open = || self.connections() - self.state.closed.load(Ordering::Relaxed);
        let waiting = async {
            while open() != wanted {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let result = timeout(Duration::from_secs(60), waiting).await;
        assert!(result.is_ok(), "{} connections are open, not {wanted}", open());
    }
}

async fn serve(mut stream: TcpStream, state: &State) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(text) = read_request(&mut stream, &mut buffer).await? {
        let seen = {
            let mut all = state.seen.lock().unwrap();
            let one = Seen { number: all.len(), text };
            all.push(one.clone());
            one
        };
        let answer =
            |status: u16, body: &str| format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        match (state.script)(&seen) {
            Act::Answer(status, body) => stream.write_all(answer(status, &body).as_bytes()).await?,
            Act::Late(delay, body) => {
                sleep(delay).await;
                stream.write_all(answer(200, body).as_bytes()).await?;
            }
            Act::AfterSeeing(line, body) => {
                while !state.seen.lock().unwrap().iter().any(|seen| seen.line() == line) {
                    sleep(Duration::from_millis(1)).await;
                }
                stream.write_all(answer(200, &body).as_bytes()).await?;
            }
            Act::Drip(delay) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab").await?;
                sleep(delay).await;
                stream.write_all(b"cd").await?;
            }
            Act::Chunks => {
                let chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n";
                stream.write_all(chunks).await?;
            }
            Act::Packed(encoding, body) => {
                let length = body.len();
                let head =
                    format!("HTTP/1.1 200 X\r\ncontent-encoding: {encoding}\r\ncontent-length: {length}\r\n\r\n");
                stream.write_all(&[head.as_bytes(), &body].concat()).await?;
            }
            Act::Head(headers) => stream.write_all(format!("HTTP/1.1 200 X\r\n{headers}\r\n\r\n").as_bytes()).await?,
            Act::Raw(bytes) => return stream.write_all(&bytes).await,
            Act::Reset => return stream.set_zero_linger(),
            Act::AnswerAndClose => return stream.write_all(answer(200, "{}").as_bytes()).await,
            Act::HangUp => return Ok(()),
        }
    }
    Ok(())
}

/// The next request of a connection as it came; none if the other side is done. What was read too much stays in the buffer.
pub(crate) async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<String>> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    let whole = end + length.unwrap_or(0);
    while buffer.len() < whole {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let request = String::from_utf8_lossy(&buffer[..whole]).into_owned();
    buffer.drain(..whole);
    Ok(Some(request))
}
