//! `esql` and `esql-profile`: a query in ES|QL, and where its time went.

use std::rc::Rc;

use async_trait::async_trait;
use rally_core::track::{JsonObject, OperationType};
use serde_json::{Value, json};

use super::esql_profile::profile;
use super::given::Given;
use super::json::{Malformed, NEXT, STOP, Scanner};
use super::{senseless, unprepared};
use crate::client::{Client, PreparedRequest};
use crate::{Outcome, Params, Runner, RunnerError, RunnerSetup};

/// What `detailed-results` adds.
const DETAILS: [&str; 6] = [
    "took",
    "documents_found",
    "values_loaded",
    "completion_time_in_millis",
    "start_time_in_millis",
    "expiration_time_in_millis",
];

#[derive(Debug)]
pub(super) struct Esql {
    setup: RunnerSetup,
    client: Rc<Client>,
    request: Option<PreparedRequest>,
    detailed: bool,
    profiles: bool,
}

impl Esql {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        let profiles = setup.task.operation.operation_type == OperationType::EsqlProfile;
        Ok(Self { setup: setup.clone(), client, request: None, detailed: false, profiles })
    }
}

#[async_trait(?Send)]
impl Runner for Esql {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let given = Given::new(&self.setup, params);
        let query = given.wanted("query")?;
        let mut body = given.object("body")?.cloned().unwrap_or_default();
        body.insert("query".to_owned(), query.clone());
        if let Some(filter) = given.restriction("filter") {
            body.insert("filter".to_owned(), filter.clone());
        }
        if self.profiles {
            body.insert("profile".to_owned(), json!(true));
        }
        self.detailed = given.flag("detailed-results", false)?;
        self.request = Some(given.call("POST", "/_query").body(body).prepare()?);
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let response = self.client.send(self.request.as_ref().ok_or_else(unprepared)?).await?;
        let senseless = senseless("an ES|QL query");
        let mut meta = summary(&response.body, self.detailed).map_err(&senseless)?;
        let is_partial = meta.get("is_partial") == Some(&json!(true));
        if is_partial {
            meta.insert("error-type".to_owned(), json!("esql"));
            meta.insert("error-description".to_owned(), json!("the query gave only a part of its results"));
        }
        if self.profiles {
            let answer: Value = Scanner::new(&response.body).parsed().map_err(&senseless)?;
            meta.extend(profile(&answer["profile"]));
        }
        Ok(Outcome { success: !is_partial, meta, ..Outcome::default() })
    }
}

/// Whether the results are partial, and what details there are, read up to the results themselves if they come last.
fn summary(answer: &[u8], detailed: bool) -> Result<JsonObject, Malformed> {
    let (mut is_partial, mut details) = (None, JsonObject::new());
    let _ = Scanner::new(answer).members(|key, scanner| {
        match key {
            b"is_partial" => is_partial = Some(scanner.parsed::<bool>()?),
            b"columns" | b"values" if is_partial.is_some() && (!detailed || details.contains_key("took")) => {
                return STOP;
            }
            _ if detailed => {
                if let Some(name) = DETAILS.iter().find(|name| name.as_bytes() == key) {
                    details.insert((*name).to_owned(), scanner.parsed()?);
                }
            }
            _ => {}
        }
        NEXT
    })?;
    details.insert("is_partial".to_owned(), json!(is_partial.unwrap_or(false)));
    Ok(details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read_up_to_the_results_or_behind_them() {
        for (text, detailed, expected) in [
            (r#"{"took":3,"is_partial":true,"documents_found":4,"columns":[{"#, false, json!({ "is_partial": true })),
            (
                r#"{"took":3,"is_partial":false,"documents_found":4,"values_loaded":5,"columns":[{"#,
                true,
                json!({ "took": 3, "documents_found": 4, "values_loaded": 5, "is_partial": false }),
            ),
            (
                r#"{"columns":[],"values":[["took",1]],"took":3,"is_partial":true}"#,
                true,
                json!({ "took": 3, "is_partial": true }),
            ),
            (r#"{"columns":[],"values":[]}"#, true, json!({ "is_partial": false })),
        ] {
            assert_eq!(Value::from(summary(text.as_bytes(), detailed).unwrap()), expected, "{text}");
        }
        assert!(summary(b"a,b\n1,2", false).is_err());
    }
}
