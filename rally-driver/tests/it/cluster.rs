//! A cluster under test that answers as a function says, and keeps what it was asked.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::target::read_request;

/// A request as the cluster got it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    /// Method and path with its query, such as `GET /logs/_search?size=5`.
    pub(crate) line: String,
    /// JSON, or null if there is no body.
    pub(crate) body: Value,
    /// Everything before the body, in lower case.
    pub(crate) head: String,
}

/// What the cluster answers.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Status and body, at once.
    Now(u16, String),
    /// Status 200 and body, once there were so many requests.
    Once(usize, String),
    /// Nothing.
    Never,
}

impl Reply {
    pub(crate) fn json(body: Value) -> Self {
        Self::Now(200, body.to_string())
    }
}

type Answer = dyn Fn(usize, &Asked) -> Reply + Send + Sync;

pub(crate) struct Cluster {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _server: JoinSet<()>,
}

impl Cluster {
    /// Starts a cluster; `answer` gets the number of the request, counted from 0, and the request.
    pub(crate) async fn start(answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (answer, seen): (Arc<Answer>, _) = (Arc::new(answer), Arc::clone(&asked));
        let (count, _) = watch::channel(0);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen, count) = (Arc::clone(&answer), Arc::clone(&seen), count.clone());
                connections.spawn(async move { drop(serve(stream, &answer, &seen, &count).await) });
            }
        });
        Self { address, asked, _server: server }
    }

    /// Starts a cluster that gives these answers one after the other, with status 200.
    pub(crate) async fn answering(answers: impl IntoIterator<Item = Value>) -> Self {
        let answers: Vec<_> = answers.into_iter().map(Reply::json).collect();
        Self::start(move |number, asked| {
            answers.get(number).cloned().unwrap_or_else(|| panic!("there is no answer left for {asked:?}"))
        })
        .await
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Method, path and body of everything that was asked.
    pub(crate) fn lines(&self) -> Vec<(String, Value)> {
        self.asked().into_iter().map(|asked| (asked.line, asked.body)).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: &Arc<Answer>,
    seen: &Mutex<Vec<Asked>>,
    count: &watch::Sender<usize>,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await? {
        let (head, body) = request.split_at(request.find("\r\n\r\n").map_or(request.len(), |end| end + 4));
        let line = head.split(" HTTP/1.1").next().unwrap_or_default().to_owned();
        let body = match body {
            "" => Value::Null,
            body => serde_json::from_str(body).unwrap_or_else(|_| body.into()),
        };
        let asked = Asked { line, body, head: head.to_lowercase() };
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(asked.clone());
            seen.len() - 1
        };
        count.send_replace(number + 1);
        let (status, body) = match answer(number, &asked) {
            Reply::Now(status, body) => (status, body),
            Reply::Once(wanted, body) => {
                let _ = count.subscribe().wait_for(|count| *count >= wanted).await;
                (200, body)
            }
            Reply::Never => std::future::pending().await,
        };
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}
