//! Executes operations the way a client does, but without a race, against a cluster that answers by a table.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indexmap::IndexMap;
use rally_core::RacePlan;
use rally_core::track::{Challenge, Operation, Task, Track, TrackBuilder};
use rally_driver::client::Clients;
use rally_driver::{
    Outcome, ParamSourceSetup, Partition, Registry, RequestTimer, Runner, RunnerError, RunnerSetup, Span,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::fixture;
use crate::target::read_request;

/// What a cluster got: method, path and query, the body if there was one, and all headers as text.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) line: String,
    pub(crate) body: Option<Value>,
    pub(crate) head: String,
}

/// What a cluster does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Is(u16, Value),
    Text(u16, String),
    Late(Duration, Value),
    /// The connection stays open.
    Never,
    HangUp,
}

/// Answers by method and path, and by `*` for all others. A list of several answers is used up to the last, which stays.
type Answers = HashMap<String, Vec<Answer>>;

/// A cluster that answers 200 and `{}` unless told otherwise, and keeps what it got.
pub(crate) struct Cluster {
    pub(crate) address: String,
    received: Arc<Mutex<Vec<Received>>>,
    _server: JoinSet<()>,
}

impl Cluster {
    pub(crate) async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (answers, received) = (Arc::new(Mutex::new(answers)), Arc::new(Mutex::new(Vec::new())));
        let mut server = JoinSet::new();
        let seen = Arc::clone(&received);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, seen) = (Arc::clone(&answers), Arc::clone(&seen));
                connections.spawn(async move {
                    let _ = serve(stream, &answers, &seen).await;
                });
            }
        });
        Self { address, received, _server: server }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, answers: &Mutex<Answers>, seen: &Mutex<Vec<Received>>) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await? {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let line = head.split(" HTTP/1.1").next().unwrap().to_owned();
        let path = line.split('?').next().unwrap().to_owned();
        let body = (!body.is_empty()).then(|| serde_json::from_str(body).unwrap_or_else(|_| json!(body)));
        seen.lock().unwrap().push(Received { line, body, head: head.to_lowercase() });
        let answer = {
            let mut all = answers.lock().unwrap();
            let key = if all.contains_key(&path) { path.as_str() } else { "*" };
            match all.get_mut(key) {
                Some(answers) if answers.len() > 1 => answers.remove(0),
                Some(answers) => answers[0].clone(),
                None => Answer::Is(200, json!({})),
            }
        };
        let (status, body) = match answer {
            Answer::Is(status, body) => (status, body.to_string()),
            Answer::Text(status, body) => (status, body),
            Answer::Late(delay, body) => {
                sleep(delay).await;
                (200, body.to_string())
            }
            Answer::Never => pending().await,
            Answer::HangUp => return Ok(()),
        };
        let body = if path.starts_with("HEAD") { String::new() } else { body };
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// One client with the runner of one operation.
pub(crate) struct Client {
    pub(crate) runner: Box<dyn Runner>,
    timer: Rc<RequestTimer>,
}

impl Client {
    /// Makes everything up to the request of the first execution.
    pub(crate) async fn prepare(plan: &RacePlan) -> Result<Self, RunnerError> {
        let registry = Arc::new(Registry::rally());
        let timer = Rc::new(RequestTimer::default());
        let clients = Rc::new(Clients::new(plan, 0, &timer).unwrap());
        clients.warm_up().await;
        let task = Arc::new(plan.challenge().unwrap().tasks().next().unwrap().clone());
        let (plan, partition) = (Arc::new(plan.clone()), Partition { index: 0, total: 1 });
        let here = Arc::from(std::path::Path::new("."));
        let source = ParamSourceSetup::new(Arc::clone(&plan), Arc::clone(&task), partition, here, 1);
        let mut source = registry.param_source(&source)?;
        let setup = RunnerSetup {
            plan,
            task,
            partition,
            clients,
            timer: Rc::clone(&timer),
            registry: Arc::clone(&registry),
            composite: None,
        };
        let mut runner = registry.runner(&setup)?;
        runner.prepare(&source.next()?.unwrap())?;
        Ok(Self { runner, timer })
    }

    /// Executes the operation once.
    pub(crate) async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let result = self.runner.run().await;
        let span: Option<Span> = self.timer.take();
        assert!(span.is_some(), "no request was marked");
        result
    }
}

/// A plan with one operation, for a cluster at an address.
pub(crate) fn plan(track: TrackBuilder, operation_type: &str, params: &Value, address: &str) -> RacePlan {
    let operation = params
        .as_object()
        .unwrap()
        .iter()
        .fold(Operation::builder(operation_type), |operation, (key, value)| operation.property(key, value.clone()));
    let track = track.challenge(Challenge::builder("only").task(Task::builder(operation)));
    RacePlan {
        track: track.build().unwrap(),
        target_hosts: IndexMap::from([("default".to_owned(), vec![address.to_owned()])]),
        ..fixture::plan(fixture::challenge().task(fixture::task("a")))
    }
}

/// An execution of an operation and what is expected of it: by default one operation that succeeds.
pub(crate) struct Case {
    operation_type: &'static str,
    params: Value,
    track: TrackBuilder,
    flavor: Option<&'static str>,
    has_old_templates: bool,
    answers: Answers,
    sends: &'static [&'static str],
    outcome: Outcome,
    error: Option<&'static str>,
}

impl Case {
    pub(crate) fn new(operation_type: &'static str, params: Value) -> Self {
        Self {
            operation_type,
            params,
            track: Track::builder("tests"),
            flavor: None,
            has_old_templates: false,
            answers: Answers::new(),
            sends: &[],
            outcome: Outcome::default(),
            error: None,
        }
    }

    pub(crate) fn track(mut self, track: TrackBuilder) -> Self {
        self.track = track;
        self
    }

    pub(crate) fn serverless(mut self) -> Self {
        self.flavor = Some("serverless");
        self
    }

    /// Takes the composable templates of the track for templates of the old kind.
    pub(crate) fn with_old_templates(mut self) -> Self {
        self.has_old_templates = true;
        self
    }

    /// The next answer to a method and path.
    pub(crate) fn answer(self, to: &str, body: Value) -> Self {
        self.answer_with(to, Answer::Is(200, body))
    }

    pub(crate) fn status(self, to: &str, status: u16) -> Self {
        self.answer_with(to, Answer::Is(status, json!({ "error": { "type": "wrong", "reason": "as told" } })))
    }

    pub(crate) fn answer_with(mut self, to: &str, answer: Answer) -> Self {
        self.answers.entry(to.to_owned()).or_default().push(answer);
        self
    }

    /// The requests in their order: method, path with query, and the body if there is one.
    pub(crate) fn sends(mut self, requests: &'static [&'static str]) -> Self {
        self.sends = requests;
        self
    }

    pub(crate) fn weighs(mut self, weight: u64) -> Self {
        self.outcome.weight = weight;
        self
    }

    pub(crate) fn unit(mut self, unit: &'static str) -> Self {
        self.outcome.unit = unit.into();
        self
    }

    pub(crate) fn throughput(mut self, throughput: f64) -> Self {
        self.outcome.throughput = Some(throughput);
        self
    }

    pub(crate) fn meta(mut self, meta: &Value) -> Self {
        self.outcome.meta = meta.as_object().unwrap().clone();
        self
    }

    pub(crate) fn without_success(mut self) -> Self {
        self.outcome.success = false;
        self
    }

    /// Part of the error that it ends with.
    pub(crate) fn fails(mut self, error: &'static str) -> Self {
        self.error = Some(error);
        self
    }

    /// Executes it once and compares.
    pub(crate) async fn check(self) {
        let name = format!("{} with {}", self.operation_type, self.params);
        let cluster = Cluster::start(self.answers).await;
        let mut plan = plan(self.track, self.operation_type, &self.params, &cluster.address);
        if self.has_old_templates {
            plan.track.templates = std::mem::take(&mut plan.track.composable_templates);
        }
        plan.distribution_flavor = self.flavor.map(str::to_owned);
        let result = match Client::prepare(&plan).await {
            Ok(mut client) => client.run().await,
            Err(error) => Err(error),
        };
        match (result, self.error) {
            (Ok(outcome), None) => assert_eq!(outcome, self.outcome, "{name}"),
            (Err(error), Some(expected)) => assert!(error.to_string().contains(expected), "{name}: {error}"),
            (result, error) => panic!("{name}: {result:?}, not {error:?}"),
        }
        let received: Vec<_> = cluster.received().into_iter().map(|it| (it.line, it.body)).collect();
        let expected: Vec<_> = self.sends.iter().map(|request| parse(request)).collect();
        assert_eq!(received, expected, "{name}");
    }
}

fn parse(request: &str) -> (String, Option<Value>) {
    match request.find(" {") {
        Some(end) => (request[..end].to_owned(), Some(serde_json::from_str(&request[end..]).unwrap())),
        None => (request.to_owned(), None),
    }
}
