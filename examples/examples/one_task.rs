//! Load on a URL in ten lines: `TaskRun` runs one task from this process and gives typed results.
//!
//!     cargo run --release -p examples --example one_task [URL]
//!
//! Without a URL it is an HTTP server in this process.

#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

use std::time::Duration;

use anyhow::Context;
use rally_core::track::{Operation, Task};
use rally_driver::{Registry, TaskRun};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    run(std::env::args().nth(1)).await
}

pub(crate) async fn run(url: Option<String>) -> anyhow::Result<()> {
    let mut server = JoinSet::new();
    let url = match url {
        Some(url) => url,
        None => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let url = format!("http://{}", listener.local_addr()?);
            server.spawn(serve(listener));
            url
        }
    };

    let operation = Operation::builder("raw-request").property("path", "/");
    let task = Task::builder(operation)
        .clients(4)
        .warmup_time_period(Duration::from_secs(1))
        .time_period(Duration::from_secs(2))
        .target_throughput(1_000.0);
    let report = TaskRun::new(task).target_hosts([url]).run(Registry::rally()).await?;

    let normal = report.normal().context("everything was warm-up")?;
    anyhow::ensure!(normal.failed < normal.samples, "no request succeeded: {:?}", normal.errors);
    println!("{} requests, {} of them failed", normal.samples, normal.failed);
    for (name, times) in [("service time", &normal.service_time), ("latency", &normal.latency)] {
        let [median, high, max] = times.percentiles(&[50.0, 99.0, 100.0])[..] else { continue };
        println!("{name}: median {:.3} ms, p99 {:.3} ms, at most {:.3} ms", median / 1e6, high / 1e6, max / 1e6);
    }
    report.notices.iter().for_each(|notice| println!("{notice}"));
    Ok(())
}

/// Answers every request with a few bytes.
async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    while stream.read_buf(&mut request).await? > 0 {
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await?;
        }
    }
    Ok(())
}
