use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::StandIn;

async fn ask(target: &StandIn, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(target.address()).await.unwrap();
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

async fn with_documents() -> StandIn {
    let target = StandIn::start().await.unwrap();
    assert_eq!(ask(&target, "PUT", "/places", "{}").await.0, 200);
    let mut body = String::new();
    for (id, name, country, population) in [
        (1, "Lake Placid", "US", 2300),
        (2, "Lake Como", "IT", 84_000),
        (3, "Oslo", "NO", 700_000),
        (4, "Rome", "IT", 2_800_000),
    ] {
        let source = json!({ "name": name, "country_code": country, "population": population });
        body += &format!("{{\"index\":{{\"_index\":\"places\",\"_id\":\"{id}\"}}}}\n{source}\n");
    }
    let (status, answer) = ask(&target, "POST", "/_bulk", &body).await;
    assert_eq!((status, &answer["errors"], answer["items"].as_array().unwrap().len()), (200, &json!(false), 4));
    target
}

async fn found(target: &StandIn, query: Value) -> Vec<String> {
    let (status, answer) = ask(target, "GET", "/places/_search", &json!({ "query": query }).to_string()).await;
    assert_eq!(status, 200, "{answer}");
    let mut ids: Vec<String> =
        answer["hits"]["hits"].as_array().unwrap().iter().map(|hit| hit["_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(answer["hits"]["total"]["value"], ids.len());
    ids.sort();
    ids
}

#[tokio::test]
async fn queries_find_what_they_ask_for() {
    let target = with_documents().await;
    for (query, expected) in [
        (json!({ "match_all": {} }), &["1", "2", "3", "4"][..]),
        (json!({ "match": { "name": "lake" } }), &["1", "2"]),
        (json!({ "match": { "name": { "query": "lake como", "operator": "and" } } }), &["2"]),
        (json!({ "term": { "country_code": "IT" } }), &["2", "4"]),
        (json!({ "term": { "country_code.raw": { "value": "NO" } } }), &["3"]),
        (json!({ "terms": { "country_code": ["NO", "US"] } }), &["1", "3"]),
        (json!({ "range": { "population": { "gte": 84_000, "lt": 2_800_000 } } }), &["2", "3"]),
        (json!({ "exists": { "field": "altitude" } }), &[]),
        (
            json!({ "bool": { "must": [{ "match": { "name": "lake" } }], "must_not": { "term": { "country_code": "US" } } } }),
            &["2"],
        ),
        (
            json!({ "bool": { "should": [{ "match": { "name": "oslo" } }, { "match": { "name": "rome" } }] } }),
            &["3", "4"],
        ),
    ] {
        assert_eq!(found(&target, query.clone()).await, expected, "{query}");
    }
}

#[tokio::test]
async fn aggregations_count_and_measure() {
    let target = with_documents().await;
    let body = json!({ "size": 0, "aggs": { "countries": {
        "terms": { "field": "country_code" }, "aggs": { "people": { "avg": { "field": "population" } } },
    }}});
    let (_, answer) = ask(&target, "POST", "/places/_search", &body.to_string()).await;
    let first = &answer["aggregations"]["countries"]["buckets"][0];
    assert_eq!(first, &json!({ "key": "IT", "doc_count": 2, "people": { "value": 1_442_000.0 } }));
    assert_eq!(answer["hits"]["hits"], json!([]));
}

#[tokio::test]
async fn documents_are_replaced_created_and_deleted() {
    let target = with_documents().await;
    let body = concat!(
        "{\"index\":{\"_id\":\"3\"}}\n{\"name\":\"Bergen\"}\n",
        "{\"create\":{\"_id\":\"3\"}}\n{\"name\":\"Bodø\"}\n",
        "{\"update\":{\"_id\":\"1\"}}\n{\"doc\":{\"name\":\"Lake George\"}}\n",
        "{\"delete\":{\"_id\":\"4\"}}\n",
    );
    let (_, answer) = ask(&target, "POST", "/places/_bulk", body).await;
    assert_eq!(answer["errors"], true);
    let statuses: Vec<u64> = answer["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_object().unwrap().values().next().unwrap()["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [200, 409, 200, 200]);
    assert_eq!(found(&target, json!({ "match": { "name": "oslo" } })).await, [""; 0]);
    assert_eq!(found(&target, json!({ "match": { "name": "bergen" } })).await, ["3"]);
    assert_eq!(target.documents(), 3);
    let (_, stats) = ask(&target, "GET", "/_stats/_all?level=shards", "").await;
    assert_eq!(stats["_all"]["primaries"]["docs"]["count"], 3);
}

#[tokio::test]
async fn what_it_does_not_know_is_refused_in_a_sentence() {
    let target = with_documents().await;
    for (method, path, body, status, reason) in [
        ("GET", "/_cat/indices", "", 400, "does not know GET /_cat/indices"),
        ("GET", "/nowhere/_search", "", 404, "no such index [nowhere]"),
        ("GET", "/places/_search", "{\"query\":{\"fuzzy\":{\"name\":\"x\"}}}", 400, "does not know the query `fuzzy`"),
        ("PUT", "/places", "", 400, "already exists"),
        ("POST", "/_bulk", "not json\n", 400, "malformed action line"),
    ] {
        let (found, answer) = ask(&target, method, path, body).await;
        let text = answer["error"]["reason"].as_str().unwrap_or_default().to_owned();
        assert!(found == status && text.contains(reason), "{method} {path}: {found} {text}");
    }
}
