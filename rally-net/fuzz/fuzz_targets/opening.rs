//! The messages that open a connection: greeting, joining, and their answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rally_core::HostFacts;
use rally_net::protocol::{Hello, HelloRefusal, JoinRefusal, JoinRequest, Joined, Welcome};
use rally_net_fuzz::{choose, has_control_characters, round_trip};

/// What a host that was checked may have said about itself.
fn assert_harmless(facts: &HostFacts, build: &str, capabilities: &[String]) {
    assert!(capabilities.len() <= 8);
    for text in facts.texts().map(|(_, text)| text).chain([build]).chain(capabilities.iter().map(String::as_str)) {
        assert!(text.len() <= 128 && !has_control_characters(text), "{text:?}");
    }
}

fn hello(body: &[u8]) {
    if let Some(hello) = round_trip::<Hello>(body)
        && hello.check().is_ok()
    {
        assert_harmless(&hello.facts, &hello.build, &hello.capabilities);
    }
}

fn welcome(body: &[u8]) {
    if let Some(Ok(welcome)) = round_trip::<Result<Welcome, HelloRefusal>>(body)
        && welcome.check().is_ok()
    {
        assert_harmless(&welcome.facts, &welcome.build, &welcome.capabilities);
    }
}

fn join_request(body: &[u8]) {
    if let Some(request) = round_trip::<JoinRequest>(body) {
        // What is logged: no secret, whatever the bytes are, and nothing that moves a cursor.
        let shown = format!("{request:?}");
        assert_eq!(shown, format!("JoinRequest {{ name: {:?}, .. }}", request.name));
        assert!(!has_control_characters(&shown));
    }
}

fn joined(body: &[u8]) {
    round_trip::<Result<Joined, JoinRefusal>>(body);
}

fuzz_target!(|data: &[u8]| choose(data, &[hello, welcome, join_request, joined]));
