//! Waits until the clusters under test answer, before anything is asked of them.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rally_core::RacePlan;
use rally_core::track::{Challenge, OperationType};
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use crate::client::{Client, ClientOptions, Clients, Request};
use crate::corpus::Notice;
use crate::{ErrorClass, RequestTimer, RunnerError};

/// A cluster that does not answer for so long is not waited for any longer: Rally's 40 attempts with 3 s in between.
const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster that starts may not know its users yet; one that does will not let a wrong password in later.
const UNAUTHORIZED: Duration = Duration::from_secs(10);

/// Answers that are no HTTP, one after the other, until the race gives up: Rally's number.
const NO_HTTP: u32 = 9;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest that one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);

/// How often the user is told that the race still waits.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What to do about a cluster that does not answer.
const REMEDY: &str = "see whether it runs and --target-hosts and --client-options are right, or race without waiting for \
                      it by --skip-rest-api-check";

/// Waits until every cluster under test answers `GET /`, on one of `threads`. Nobody is waited for if no operation needs a
/// cluster, or if the plan does not want it.
///
/// # Errors
///
/// [`RunnerError::Other`] names the cluster that did not answer in time, with the last reason and the remedy.
///
/// # Cancel safety
///
/// When dropped, it is not waited any longer, and the thread ends.
pub(crate) async fn clusters_answer(
    plan: &Arc<RacePlan>,
    notice: &Notice,
    threads: &TaskTracker,
) -> Result<(), RunnerError> {
    if plan.skip_rest_api_check || !plan.challenge().is_some_and(needs_cluster) {
        return Ok(());
    }
    let failed = |error: io::Error| RunnerError::Other(format!("failed to wait for the cluster under test: {error}"));
    // Clients stay on one thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (mut reply, answer) = oneshot::channel();
    let (plan, notice) = (Arc::clone(plan), Arc::clone(notice));
    threads.spawn_blocking(move || {
        runtime.block_on(async move {
            tokio::select! {
                // Whoever asked may have gone at the same moment.
                result = all_answer(&plan, &notice, PATIENCE) => drop(reply.send(result)),
                () = reply.closed() => {}
            }
        });
        // A look-up of a name that hangs cannot be called off; nobody has to wait for it.
        runtime.shutdown_background();
    });
    answer
        .await
        .unwrap_or_else(|_| Err(RunnerError::Other("the wait for the cluster under test has crashed".to_owned())))
}

/// Whether a task sends requests to the clusters of the plan. What plugins bring may speak another protocol.
fn needs_cluster(challenge: &Challenge) -> bool {
    challenge.tasks().any(|task| {
        let kind = &task.operation.operation_type;
        kind.is_built_in() && *kind != OperationType::Sleep
    })
}

async fn all_answer(plan: &RacePlan, notice: &Notice, patience: Duration) -> Result<(), RunnerError> {
    let hosts = plan.target_hosts.iter().filter(|(_, hosts)| !hosts.is_empty());
    if hosts.clone().next().is_none() {
        return Ok(());
    }
    let timer = Rc::new(RequestTimer::default());
    let clients = Clients::new(plan, 0, &timer).map_err(|error| RunnerError::Other(error.to_string()))?;
    for (name, hosts) in hosts {
        let has_answers = plan.client_options.get(name).is_some_and(ClientOptions::answer_themselves);
        if let Some(client) = clients.get(name).filter(|_| !has_answers) {
            let cluster = format!("cluster `{name}` at {}", hosts.join(", "));
            answers(client, &cluster, notice, patience).await?;
        }
    }
    Ok(())
}

/// Waits for one cluster.
async fn answers(client: &Client, cluster: &str, notice: &Notice, patience: Duration) -> Result<(), RunnerError> {
    let request = Request { timeout: Some(ATTEMPT.min(patience)), ..Request::new("GET", "/") };
    let begin = Instant::now();
    let (mut told, mut no_http) = (None::<Instant>, 0);
    loop {
        let cause = match client.request(&request).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let waited = begin.elapsed();
        let is_no_http = matches!(cause, RunnerError::Transport { class: ErrorClass::Response, .. });
        no_http = if is_no_http { no_http + 1 } else { 0 };
        let is_over = match &cause {
            RunnerError::Transport { class: ErrorClass::Tls, .. } => true,
            RunnerError::Transport { .. } => waited >= patience || no_http >= NO_HTTP,
            RunnerError::Api { status: 401, .. } => waited >= patience.min(UNAUTHORIZED),
            RunnerError::Api { status: 408 | 429 | 500..=599, .. } => waited >= patience,
            // It is there, and what it thinks of this request says nothing of others.
            RunnerError::Api { .. } => return Ok(()),
            _ => true,
        };
        if is_over {
            let hint =
                if no_http > 0 { "; if it speaks HTTPS, say so in --client-options by `use_ssl:true`" } else { "" };
            let waited = waited.as_secs_f64();
            return Err(RunnerError::Other(format!(
                "{cluster} did not answer within {waited:.0} s: {cause}{hint}; {REMEDY}"
            )));
        }
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            told = Some(Instant::now());
            notice(format!("waiting for {cluster}, up to {} s: {cause}", patience.as_secs()));
        }
        sleep(PAUSE.min(patience.saturating_sub(waited))).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rally_core::track::{Operation, Task, Track};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn plan(operation_type: &str, target: String) -> RacePlan {
        let operation = Operation::builder(operation_type).property("duration", 1).property("path", "/");
        let challenge = Challenge::builder("c").default_challenge().task(Task::builder(operation));
        RacePlan::new(Track::builder("t").challenge(challenge).build().unwrap(), "c").target([target])
    }

    /// A server that answers every request with one of these, one after the other, and then with the last for ever.
    async fn server(answers: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::task::spawn_local(async move {
            let mut count = 0;
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answers[count.min(answers.len() - 1)].as_bytes()).await;
                count += 1;
            }
        });
        address
    }

    fn heard() -> (Notice, Arc<Mutex<Vec<String>>>) {
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let notices = Arc::clone(&heard);
        (Arc::new(move |notice| notices.lock().unwrap().push(notice)), heard)
    }

    async fn wait(answers: &'static [&'static str], patience: Duration) -> (Result<(), String>, Vec<String>) {
        let local = tokio::task::LocalSet::new();
        let (notice, heard) = heard();
        let result = local
            .run_until(async {
                let plan = plan("raw-request", server(answers).await);
                all_answer(&plan, &notice, patience).await.map_err(|error| error.to_string())
            })
            .await;
        (result, std::mem::take(&mut heard.lock().unwrap()))
    }

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    const NOT_YET: &str = "HTTP/1.1 500 no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const FORBIDDEN: &str = "HTTP/1.1 403 no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const UNKNOWN_USER: &str = "HTTP/1.1 401 no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn a_cluster_that_answers_is_not_waited_for_whatever_it_answers() {
        assert_eq!(wait(&[OK], PATIENCE).await, (Ok(()), Vec::new()));
        assert_eq!(wait(&[FORBIDDEN], PATIENCE).await, (Ok(()), Vec::new()));
    }

    #[tokio::test]
    async fn a_cluster_that_starts_is_waited_for_and_the_user_is_told_so_once() {
        let (result, notices) = wait(&[NOT_YET, NOT_YET, OK], PATIENCE).await;
        assert_eq!(result, Ok(()));
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(notices[0].contains("waiting for cluster `default` at 127.0.0.1"), "{notices:?}");
    }

    #[tokio::test]
    async fn a_cluster_that_does_not_answer_is_named_with_cause_and_remedy() {
        let short = Duration::from_millis(10);
        let (result, _) = wait(&[UNKNOWN_USER], short).await;
        let error = result.unwrap_err();
        assert!(error.contains("cluster `default` at 127.0.0.1") && error.contains("HTTP status 401"), "{error}");
        assert!(error.contains("--skip-rest-api-check"), "{error}");
        // It is not waited for two minutes if something else than HTTP is spoken.
        let (result, _) = wait(&["\x15\x03\x03\x00\x02\x02\x46"], PATIENCE).await;
        let error = result.unwrap_err();
        assert!(error.contains("use_ssl:true"), "{error}");
    }

    #[tokio::test]
    async fn nobody_is_waited_for_if_no_cluster_is_needed_or_the_user_does_not_want_it() {
        let (notice, heard) = heard();
        // Nobody listens there.
        let nowhere = || "127.0.0.1:1".to_owned();
        for plan in [
            plan("sleep", nowhere()),
            plan("redis", nowhere()),
            RacePlan { skip_rest_api_check: true, ..plan("raw-request", nowhere()) },
            RacePlan { target_hosts: Default::default(), ..plan("raw-request", nowhere()) },
        ] {
            clusters_answer(&Arc::new(plan), &notice, &TaskTracker::new()).await.unwrap();
        }
        assert!(heard.lock().unwrap().is_empty());
    }
}
