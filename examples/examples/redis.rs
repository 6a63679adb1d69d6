//! A benchmark of something else entirely: Redis, with a runner that speaks its protocol and a parameter source of its own.
//!
//!     cargo run --release -p examples --example redis [HOST:PORT]
//!
//! Without an address it is a server in this process that knows `SET` and `GET`.

#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use rally_core::track::{Operation, Task};
use rally_driver::{
    ErrorClass, Outcome, ParamSource, ParamSourceSetup, Params, Registry, RequestTimer, Runner, RunnerError,
    RunnerSetup, TaskRun,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Sends one command and waits for its reply. Each client has a connection of its own.
struct Redis {
    address: String,
    timer: Rc<RequestTimer>,
    connection: Option<BufStream<TcpStream>>,
    command: Bytes,
}

impl Redis {
    fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let address = setup.task.operation.params.get("address").and_then(|address| address.as_str());
        let missing = || RunnerError::Other("the operation needs an `address`".to_owned());
        let address = address.ok_or_else(missing)?.to_owned();
        Ok(Self { address, timer: Rc::clone(&setup.timer), connection: None, command: Bytes::new() })
    }

    async fn reply(&mut self) -> io::Result<Reply> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(BufStream::new(TcpStream::connect(&self.address).await?)),
        };
        // What is measured: from the first byte of the command to the last byte of the reply.
        self.timer.sent();
        connection.write_all(&self.command).await?;
        connection.flush().await?;
        let reply = read_reply(connection).await;
        self.timer.received();
        reply
    }
}

#[async_trait(?Send)]
impl Runner for Redis {
    // Everything that can be done before the clock starts is done here.
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        self.command = params.body.clone().unwrap_or_default();
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        match self.reply().await {
            Ok(Reply::Value) => Ok(Outcome::default()),
            Ok(Reply::Error(text)) => {
                let meta = [("error-description".to_owned(), text.into())].into_iter().collect();
                Ok(Outcome { success: false, meta, ..Outcome::default() })
            }
            Err(error) => {
                self.connection = None;
                let description = format!("{}: {error}", self.address);
                Err(RunnerError::Transport { class: ErrorClass::Connect, description })
            }
        }
    }
}

/// Four reads for one write, of keys that all clients share.
struct Keys {
    number: u64,
}

impl ParamSource for Keys {
    fn next(&mut self) -> Result<Option<Params>, RunnerError> {
        self.number += 1;
        let key = format!("key-{}", self.number % 100);
        let words = if self.number % 5 == 1 { vec!["SET", &key, "forty-two"] } else { vec!["GET", &key] };
        let mut command = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| command.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        Ok(Some(Params { body: Some(command.into()), ..Params::default() }))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    run(std::env::args().nth(1)).await
}

pub(crate) async fn run(address: Option<String>) -> anyhow::Result<()> {
    let mut server = JoinSet::new();
    let address = match address {
        Some(address) => address,
        None => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?.to_string();
            server.spawn(serve(listener));
            address
        }
    };

    let mut registry = Registry::empty();
    registry.register_runner("redis", Redis::new);
    registry.register_param_source("redis", |setup: &ParamSourceSetup| {
        Ok(Keys { number: u64::from(setup.partition.index) })
    });
    let operation = Operation::builder("redis").property("address", address);
    let task = Task::builder(operation).clients(8).time_period(Duration::from_secs(2));
    let report = TaskRun::new(task).run(registry).await?;

    let normal = report.normal().context("everything was warm-up")?;
    anyhow::ensure!(normal.failed < normal.samples, "no command succeeded: {:?}", normal.errors);
    let [median, high] = normal.service_time.percentiles(&[50.0, 99.0])[..] else { return Ok(()) };
    println!(
        "{} commands in {:.1} s, {} of them failed; median {:.3} ms, p99 {:.3} ms",
        normal.samples,
        normal.duration as f64 / 1e9,
        normal.failed,
        median / 1e6,
        high / 1e6
    );
    Ok(())
}

/// A reply, as far as it is looked at.
enum Reply {
    Value,
    Error(String),
}

async fn read_reply(connection: &mut BufStream<TcpStream>) -> io::Result<Reply> {
    let line = read_line(connection).await?;
    match line.split_at_checked(1) {
        Some(("-", text)) => Ok(Reply::Error(text.to_owned())),
        Some(("$", length)) => {
            if let Ok(length) = length.parse::<usize>() {
                connection.read_exact(&mut vec![0; length + 2]).await?;
            }
            Ok(Reply::Value)
        }
        Some(("+" | ":", _)) => Ok(Reply::Value),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("`{line}` is no reply"))),
    }
}

async fn read_line(stream: &mut BufStream<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

type Store = Arc<Mutex<HashMap<String, String>>>;

async fn serve(listener: TcpListener) {
    let (store, mut connections) = (Store::default(), JoinSet::new());
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(answer(BufStream::new(stream), Arc::clone(&store)));
    }
}

async fn answer(mut stream: BufStream<TcpStream>, store: Store) -> io::Result<()> {
    loop {
        let count = read_line(&mut stream).await?;
        let mut words = Vec::new();
        for _ in 0..count.trim_start_matches('*').parse().unwrap_or(0) {
            read_line(&mut stream).await?;
            words.push(read_line(&mut stream).await?);
        }
        let reply = {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            match &words[..] {
                [set, key, value] if set == "SET" => {
                    store.insert(key.clone(), value.clone());
                    "+OK\r\n".to_owned()
                }
                [get, key] if get == "GET" => match store.get(key) {
                    Some(value) => format!("${}\r\n{value}\r\n", value.len()),
                    None => "$-1\r\n".to_owned(),
                },
                _ => "-ERR unknown command\r\n".to_owned(),
            }
        };
        stream.write_all(reply.as_bytes()).await?;
        stream.flush().await?;
    }
}
