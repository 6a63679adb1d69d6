//! Each construct of the track format, and each way to get it wrong. Expected results were compared with Rally 2.13.0.

use std::sync::Arc;

use rally_core::track::{
    Limits, LoadOptions, LoadStage, LoadTrackError, LoadedTrack, MemoryFiles, ScheduleElement, Track, TrackFiles,
    TrackProcessor, TrackRegistry, load_track,
};
use serde_json::{Value, json};

fn load_with(files: MemoryFiles, options: LoadOptions) -> Result<LoadedTrack, LoadTrackError> {
    load_track(Arc::new(files), &options)
}

fn load(track: &str) -> Result<LoadedTrack, LoadTrackError> {
    load_with(MemoryFiles::new().with("track.json", track), LoadOptions::default())
}

/// The faults of a track made of this JSON, one in each line.
fn faults(track: Value) -> String {
    match load(&track.to_string()) {
        Err(LoadTrackError::Invalid { faults, .. }) => {
            faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        }
        other => panic!("expected faults, got {other:?}"),
    }
}

/// What an expression renders to.
fn render(expression: &str, parameters: Value) -> Result<Value, LoadTrackError> {
    let track = format!(r#"{{"schedule": [{{"operation": "x"}}], "r": {expression}}}"#);
    let options = LoadOptions {
        parameters: parameters.as_object().cloned().unwrap_or_default(),
        ignore_unused_parameters: true,
        now: 1_750_000_000.25,
        ..LoadOptions::default()
    };
    Ok(load_with(MemoryFiles::new().with("track.json", track), options)?.rendered["r"].clone())
}

#[test]
fn expressions_mean_what_they_mean_in_python() {
    let parameters = json!({"n": 5, "d": {"z": 1, "a": [1, 2.0]}, "t": "12", "l": [1]});
    for (expression, expected) in [
        ("{{ n / 5 }}", json!(1.0)),
        ("{{ n // 2 }}", json!(2)),
        ("{{ -n % 3 }}", json!(1)),
        ("{{ t | int + 1 }}", json!(13)),
        ("{{ ' 1_000 ' | int }}", json!(1000)),
        ("{{ 'abc' | int }}", json!(0)),
        ("{{ 7.1 | round(0, 'ceil') }}", json!(8.0)),
        ("{{ d | tojson }}", json!({"a": [1, 2.0], "z": 1})),
        ("\"{{ d }}\"", json!("{'z': 1, 'a': [1, 2.0]}")),
        ("\"{{ d.keys() | list }}\"", json!("['z', 'a']")),
        ("{% set x = d.copy() %}{% set _ = x.update({'n': 2}) %}{{ [x | length, d | length] }}", json!([3, 2])),
        (
            "{% set x = {} %}{% set _ = x.update(a=1) %}{% set l = [] %}{% set _ = l.append(x) %}{{ l | tojson }}",
            json!([{"a": 1}]),
        ),
        ("\"{{ '%s-%05.1f' % (t, 2.25) }}\"", json!("12-002.2")),
        ("{{ missing | default(none) | tojson }}", json!(null)),
        ("{{ '' | default(3, boolean=true) }}", json!(3)),
        ("{{ missing | length }}", json!(0)),
        ("{% set c = joiner() %}[{% for i in range(3) %}{{ c() }}{{ i }}{% endfor %}]", json!([0, 1, 2])),
        ("{% set ns = namespace(s=0) %}{% for i in [1, 2] %}{% set ns.s = ns.s + i %}{% endfor %}{{ ns.s }}", json!(3)),
        ("{% set x = 1 %}{% set y %}{% set x = 2 %}{% endset %}{{ x }}", json!(1)),
        ("{% set _ = l.append(9) %}{{ l }}", json!([1, 9])),
        ("{% set x = 'ba' | list %}{% set _ = x.append('c') %}{{ x | tojson }}", json!(["b", "a", "c"])),
        ("{{ (1 < n < 9 > 8) | tojson }}", json!(true)),
        ("{{ (1 < n not in [5]) | tojson }}", json!(false)),
        ("{{ ('a' in missing) | tojson }}", json!(false)),
        ("{{ [t is sequence, n is odd, none is iterable] | tojson }}", json!([true, true, false])),
        ("\"{{ '<a/b>' | e }}\"", json!("&lt;a/b&gt;")),
        ("\"{{ 'abcdefgh' | truncate(4, true, '', 0) }}\"", json!("abcd")),
        ("\"{{ 1e17 ~ [missing] }}\"", json!("1e+17[Undefined]")),
        ("\"{{ '7'.zfill(3) }}\"", json!("007")),
        (
            "{% set ns = namespace(l=[]) %}{% for i in [1, 2] %}{% set ns.l = ns.l + [i] * 2 %}{% endfor %}{{ ns.l | tojson }}",
            json!([1, 1, 2, 2]),
        ),
        ("{% set x = l + [2] %}{% set _ = x.append(3) %}\"{{ x }}{{ x is sequence }}\"", json!("[1, 2, 3]True")),
        ("{{ now }}", json!(1_750_000_000.25)),
        ("{{ '01-01-2024' | days_ago('31-01-2024') }}", json!(30)),
        ("\"{{ now | get_start_date }} {{ now | get_end_date(10) }}\"", json!("2025-06-15 2025-06-25")),
        ("\"{{ build_flavor }} {{ serverless_operator }}\"", json!("default False")),
    ] {
        assert_eq!(render(expression, parameters.clone()).unwrap(), expected, "{expression}");
    }
}

#[test]
fn what_python_refuses_is_refused() {
    for expression in [
        "{{ missing < 0 }}",
        "{{ [1][5] > 0 }}",
        "{{ missing | int }}",
        "{{ missing | tojson }}",
        "{{ missing + 1 }}",
        "{{ missing.x }}",
        "{{ t > 3 }}",
        "{{ t + 1 }}",
        "{{ none >= 1 }}",
        "{{ t in 5 }}",
        "{{ 1 in t }}",
        "{{ 1 < t < 3 }}",
        "{{ missing[1:] }}",
        "{{ t is gt(3) }}",
        "{{ t is odd }}",
        "{{ [1] | zip([2]) }}",
        "{{ t is startingwith('1') }}",
        "{% do t.upper() %}",
        "{% for i in none %}{% endfor %}",
        "{{ t | nofilter }}",
        "{{ t.nomethod() }}",
        "{{ nofunction() }}",
        "{% include 'missing.json' %}",
        "{% include '../outside.json' %}",
        "{{ 1 / 0 }}",
        "{% if %}",
        // These made the engine panic when a fuzzer found them.
        "{% import 'rally.helpers' as 1 %}",
        "{% if true %}{% import 'rally.helpers' as a + b %}{% endif %}",
    ] {
        let error = render(expression, json!({"t": "12"})).unwrap_err();
        assert_eq!(error.stage(), LoadStage::Render, "{expression}: {error}");
    }
}

#[test]
fn parts_includes_and_macros_come_together() {
    let files = MemoryFiles::new()
        .with(
            "track.json",
            r#"{% import "rally.helpers" as rally with context %}{% import "macros.j2" as macros %}
            {"operations": [{{ rally.collect(parts="ops/*.json") }}],
             "schedule": [{% for name in names %}{% include "task.json" %}{{ "," if not loop.last }}{% endfor %}],
             "settings": {"a": 1 {{ rally.exists_set_param("b", b) }}{{ rally.exists_set_param("c", c, 3) }}},
             "quoted": {{ macros.quote("x") }}}"#,
        )
        .with("ops/a.json", r#"{% set names = ["first", "second"] %}{"name": "first", "operation-type": "sleep"}"#)
        .with("ops/b.json", r#"{"name": "second", "operation-type": "search", "size": {{ size | default(7) }}}"#)
        .with("task.json", r#"{"operation": "{{ name }}", "clients": {{ clients | default(2) }}}"#)
        .with("macros.j2", r#"{% macro quote(x) %}"{{ x }}{{ b }}"{% endmacro %}"#);
    let parameters = json!({"b": 2}).as_object().cloned().unwrap();
    let loaded = load_with(files, LoadOptions { parameters, ..LoadOptions::default() }).unwrap();
    assert_eq!(loaded.rendered["settings"], json!({"a": 1, "b": 2, "c": 3}));
    assert_eq!(loaded.rendered["quoted"], "x2");
    let tasks: Vec<_> = loaded.track.challenges[0].tasks().map(|task| (task.name.as_str(), task.clients)).collect();
    assert_eq!(tasks, [("first", 2), ("second", 2)]);
    // What only an included file reads is not known as a parameter.
    assert_eq!(loaded.exposed_parameters.iter().map(String::as_str).collect::<Vec<_>>(), ["b", "c", "size"]);
}

#[test]
fn bodies_and_templates_are_rendered_and_narrowed_down() {
    let files = MemoryFiles::new()
        .with(
            "track.json",
            r#"{"composable-templates": [{"name": "t", "index-pattern": "l*", "template": "t.json", "template-path": "a.b"}],
                "component-templates": [{"name": "c", "template": "t.json"}],
                "indices": [{"name": "i", "body": "i.json"}, {"name": "j"}],
                "schedule": [{"operation": "refresh"}]}"#,
        )
        .with("t.json", r#"{"a": {"b": {"shards": {{ shards | default(1) }}}}}"#)
        .with("i.json", r#"{"now": "{{ now }}", "flavor": "{{ build_flavor }}"}"#);
    let track = load_with(files, LoadOptions::default()).unwrap();
    assert!(track.exposed_parameters.contains("shards"));
    let track = track.track;
    assert_eq!(track.composable_templates[0].content, json!({"shards": 1}));
    assert!(track.composable_templates[0].delete_matching_indices);
    assert_eq!(track.component_templates[0].content, json!({"a": {"b": {"shards": 1}}}));
    assert_eq!(track.indices[0].body, json!({"now": "", "flavor": "default"}));
    assert_eq!(track.indices[1].body, json!({}));
}

#[test]
fn indices_that_share_a_file_each_have_its_body_and_each_fault_of_it() {
    let files = |body: &str| {
        let track = json!({
            "indices": [{"name": "a", "body": "i.json"}, {"name": "b", "body": null}, {"name": "c", "body": "i.json"}],
            "schedule": [{"operation": "refresh"}]
        });
        MemoryFiles::new().with("track.json", track.to_string()).with("i.json", body)
    };
    let loaded = load_with(files(r#"{"shards": {{ shards | default(2) }}}"#), LoadOptions::default()).unwrap();
    let bodies: Vec<_> = loaded.track.indices.iter().map(|index| index.body.clone()).collect();
    assert_eq!(bodies, [json!({"shards": 2}), json!({}), json!({"shards": 2})]);
    let error = load_with(files("{"), LoadOptions::default()).unwrap_err().to_string();
    assert!(
        error.contains("/indices/0/body: i.json:1:1: ") && error.contains("/indices/2/body: i.json:1:1: "),
        "{error}"
    );
}

#[test]
fn mapping_types_are_accepted_with_a_warning() {
    let track = json!({
        "indices": [{"name": "a", "types": ["_doc"]}],
        "corpora": [{"name": "c", "target-type": "_doc", "documents": [
            {"source-file": "d.json", "document-count": 1, "target-type": "_doc", "target-data-stream": null}
        ]}],
        "schedule": [{"operation": "refresh"}]
    });
    let loaded = load(&track.to_string()).unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        ["/indices/0/types", "/corpora/0/target-type", "/corpora/0/documents/0/target-type"]
            .map(|pointer| format!("{pointer}: mapping types are gone since Elasticsearch 8, so this has no effect"))
    );
    assert_eq!(loaded.track.corpora[0].documents[0].target_index.as_deref(), Some("a"));
}

#[test]
fn tasks_inherit_from_their_parallel_element() {
    let track = json!({"schedule": [{"parallel": {
        "warmup-time-period": 10, "time-period": 60, "ramp-up-time-period": 5, "completed-by": "bulk",
        "tasks": [
            {"operation": "bulk", "clients": 4, "tags": "a"},
            {"operation": "search", "time-period": 30, "target-throughput": "5 docs/s", "tags": ["a", "b"]}
        ]
    }}]});
    let track = load(&track.to_string()).unwrap().track;
    let ScheduleElement::Parallel(parallel) = &track.challenges[0].schedule[0] else { panic!("a parallel element") };
    assert_eq!(parallel.clients(), 5);
    let seconds: Vec<_> = parallel.tasks.iter().map(|task| task.time_period.map(|period| period.as_secs())).collect();
    assert_eq!(seconds, [Some(60), Some(30)]);
    assert!(parallel.tasks[0].completes_parent && !parallel.tasks[1].completes_parent);
    assert_eq!(parallel.tasks[1].ramp_up_time_period.unwrap().as_secs(), 5);
    assert_eq!(parallel.tasks[1].tags, ["a", "b"]);
}

#[test]
fn all_faults_are_reported_together() {
    let track = json!({
        "version": 3,
        "indices": [],
        "dependencies": ["a", "b", "a"],
        "corpora": [{"name": "c", "documents": [{"source-file": "d.json"}]}],
        "operations": [{"name": "o", "operation-type": "search", "pages": "some", "mode": "fast"}],
        "challenges": [{"name": "c", "schedule": [{"operation": "o", "clients": 0}, {"parallel": {"tasks": [{}]}}, {}]}]
    });
    assert_eq!(
        faults(track),
        "/version: the track is written for version 3 of the format, but only version 2 is supported: update Rally\n\
         /indices: must not be empty: leave it out, or add an element\n\
         /corpora/0/documents/0: `document-count` is missing\n\
         /operations/0/pages: must be an integer of at least 1, or `all`, found \"some\"\n\
         /operations/0/mode: must be one of blocking, polling, found \"fast\"\n\
         /dependencies/2: must not be there twice, found \"a\"\n\
         /challenges/0/schedule/0/clients: must be an integer of at least 1, found 0\n\
         /challenges/0/schedule/1/parallel/tasks/0: `operation` is missing\n\
         /challenges/0/schedule/2: `operation` or `parallel` is missing"
    );
}

#[test]
fn assertions_and_composite_operations_are_checked_when_a_track_is_loaded() {
    let fits = json!({ "property": "hits", "condition": ">", "value": 0 });
    let of = |operation: Value| json!({"schedule": [{"operation": operation}]});
    for (operation, expected) in [
        (
            json!({"operation-type": "search", "assertions": [fits]}),
            "/schedule/0/operation/assertions: assertions about a search need `\"detailed-results\": true`",
        ),
        (
            json!({"operation-type": "bulk", "assertions": [fits, {"property": "a", "condition": "!=", "value": 1}]}),
            "/schedule/0/operation/assertions/1: must have a `property`, a `condition`, which is one of > >= < <= ==, and a \
             `value`, found {\"property\":\"a\",\"condition\":\"!=\",\"value\":1}",
        ),
        (
            json!({"operation-type": "bulk", "assertions": {}}),
            "/schedule/0/operation/assertions: must be an array of assertions, found {}",
        ),
        (
            json!({"operation-type": "composite", "requests": [{"stream": [{"operation-type": "sleep"}, {"name": "x"}]}]}),
            "/schedule/0/operation/requests/0/stream/1: must have an `operation-type` or a `stream`, found {\"name\":\"x\"}",
        ),
        (
            json!({"operation-type": "composite", "requests": [
                {"operation-type": "open-point-in-time", "name": "pit"},
                {"stream": [{"operation-type": "composite", "requests": [
                    {"operation-type": "close-point-in-time", "with-point-in-time-from": "pit"},
                    {"operation-type": "get-async-search", "retrieve-results-for": ["pit", "other"]},
                ]}]},
            ]}),
            "/schedule/0/operation/requests/1/stream/0/requests/1/retrieve-results-for: no operation of the composite one \
             has this name, found [\"pit\",\"other\"]",
        ),
        (
            json!({"operation-type": "paginated-search", "with-point-in-time-from": "pit"}),
            "/schedule/0/operation/with-point-in-time-from: nothing is known by its name outside of a `composite` \
             operation, found \"pit\"",
        ),
        (
            json!({"operation-type": "composite", "requests": {}}),
            "/schedule/0/operation/requests: must be an array of operations and streams, found {}",
        ),
    ] {
        assert_eq!(faults(of(operation)), expected);
    }
    let nested = json!({"operation-type": "composite", "requests": [{"operation-type": "bulk"}]});
    let faults = faults(of(json!({"operation-type": "composite", "requests": [nested]})));
    assert!(
        faults.starts_with("/schedule/0/operation/requests/0/requests/0/operation-type: cannot be part"),
        "{faults}"
    );
    assert!(faults.contains("composite-agg, raw-request, sleep"), "{faults}");

    let detailed = json!({"operation-type": "search", "detailed-results": true, "assertions": [fits]});
    let paged = json!({"operation-type": "scroll-search", "pages": "all", "assertions": [fits]});
    let own = json!({"operation-type": "composite", "param-source": "mine", "requests": "as the source likes"});
    for operation in [detailed, paged, own] {
        load(&of(operation).to_string()).unwrap();
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let with_task = |task: Value| json!({"schedule": [task]});
    for (track, expected) in [
        (json!({}), "(the whole track): one of `challenge`, `challenges` and `schedule` is needed, but there is none"),
        (
            json!({"schedule": [{"operation": "a"}], "challenges": [{"name": "c", "schedule": [{"operation": "a"}]}]}),
            "(the whole track): only one of `challenge`, `challenges` and `schedule` is allowed, but there are several",
        ),
        (
            with_task(json!({"operation": "a", "warmup-iterations": 1, "time-period": 1})),
            "/schedule/0: `warmup-iterations` and `time-period` exclude each other: a task is measured by iterations or by time",
        ),
        (
            with_task(json!({"operation": "a", "ramp-up-time-period": 5, "warmup-time-period": 1})),
            "/schedule/0: `warmup-time-period` (1 s) must not be shorter than `ramp-up-time-period` (5 s)",
        ),
        (
            with_task(json!({"operation": "a", "target-throughput": 1, "target-interval": 1})),
            "/schedule/0/target-interval: `target-throughput` and `target-interval` exclude each other, found 1",
        ),
        (with_task(json!({"operation": {"name": "nameless"}})), "/schedule/0/operation: `operation-type` is missing"),
        (
            with_task(json!({"parallel": {"completed-by": "b", "tasks": [{"operation": "a"}]}})),
            "/schedule/0/parallel/completed-by: no task of the parallel element has this name, found \"b\"",
        ),
        (
            with_task(
                json!({"parallel": {"tasks": [{"operation": "a", "ramp-up-time-period": 0, "warmup-time-period": 1}]}}),
            ),
            "/schedule/0/parallel/tasks/0/ramp-up-time-period: is only allowed on the parallel element as a whole, found 0",
        ),
        (
            json!({"schedule": [{"operation": "a"}, {"operation": "a"}]}),
            "/schedule/1: another task of this challenge is called `a` as well: give one of them another `name`",
        ),
        (
            json!({"challenges": [
                {"name": "a", "schedule": [{"operation": "a"}]}, {"name": "b", "schedule": [{"operation": "a"}]}
            ]}),
            "/challenges: no default: add \"default\": true to one of `a`, `b`",
        ),
        (
            json!({"indices": [{"name": "i", "body": "missing.json"}], "schedule": [{"operation": "a"}]}),
            "/indices/0/body: cannot read `missing.json`: entity not found",
        ),
        (
            json!({"indices": [{"name": "i"}, {"name": "j"}], "schedule": [{"operation": "a"}],
                "corpora": [{"name": "c", "documents": [{"source-file": "d", "document-count": 1}]}]}),
            "/corpora/0/documents/0: `target-index` is missing, and the track declares several indices",
        ),
        (
            json!({"data-streams": [{"name": "i"}], "schedule": [{"operation": "a"}],
                "corpora": [{"name": "c", "documents": [{"source-file": "d", "document-count": 1, "target-index": "x"}]}]}),
            "/corpora/0/documents/0: `target-index` makes no sense: the track declares `data-streams`",
        ),
    ] {
        assert_eq!(faults(track.clone()), expected, "{track}");
    }
}

#[test]
fn json_errors_show_the_line_and_the_part_of_the_template_that_it_came_from() {
    let files = MemoryFiles::new()
        .with("track.json", "{\"operations\": [\n{{ rally.collect(parts=\"ops/*.json\") }}\n]}")
        .with("ops/a.json", "{\n  \"name\": \"a\",\n  \"bulk-size\": {{ size }}\n}");
    let parameters = json!({"size": "1 000"}).as_object().cloned().unwrap();
    let error = load_with(files, LoadOptions { parameters, ..LoadOptions::default() }).unwrap_err();
    assert_eq!(error.stage(), LoadStage::Json);
    assert_eq!(
        error.to_string().trim_end(),
        "cannot render track `track`: ops/a.json:3:19: expected `,` or `}` at line 4, column 18 of what `track.json` \
         renders to\n\n     \
         1 | {\"operations\": [\n     \
         2 | {\n     \
         3 |   \"name\": \"a\",\n     \
         4 |   \"bulk-size\": 1 000\n       \
           |                  ^\n     \
         5 | }\n     \
         6 | ]}"
    );
}

#[test]
fn template_errors_name_the_file_the_line_and_the_column() {
    let files = MemoryFiles::new()
        .with("track.json", "{{ rally.collect(parts=\"parts/*.json\") }}")
        .with("parts/a.json", "{}")
        .with("parts/b.json", "{\n  \"x\": {{ 1 + nothing }}\n}");
    let error = load_with(files, LoadOptions::default()).unwrap_err().to_string();
    assert!(error.starts_with("cannot render track `track`: parts/b.json:2:11: "), "{error}");
    let error = load("{\n {% endif %}\n}").unwrap_err().to_string();
    assert!(error.starts_with("cannot render track `track`: track.json:2:5: syntax error"), "{error}");
}

#[test]
fn templates_without_end_are_stopped() {
    let limits = Limits { steps: 100_000, output_bytes: 1 << 20, ..Limits::default() };
    let stopped = |text: &str| {
        let files = MemoryFiles::new().with("track.json", text).with("self.json", "{% include 'self.json' %}");
        let options = LoadOptions { limits: limits.clone(), ..LoadOptions::default() };
        load_with(files, options).unwrap_err().to_string()
    };
    for text in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set x = range(1000000000) | list %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(l=[1], m=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}\
         {% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
        "{% set ns = namespace(d={}) %}{% for i in range(60) %}{% set ns.d = dict(a=ns.d, b=ns.d) %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = (ns.l + ns.l) | batch(2) | list %}{% endfor %}",
        "{{ 'x' * 3000000000 }}",
    ] {
        assert!(stopped(text).contains("takes too many steps or makes too much text"), "{text}: {}", stopped(text));
    }
    for work in ["a == b", "a != b", "a <= b", "a is eq b", "b[0] in a", "a | sort | length", "a | unique | length"] {
        let lists = "{% set a = [range(8000) | list] %}{% set b = [range(8000) | list] %}";
        let text = |turns: usize| format!("{lists}{{% for i in range({turns}) %}}{{{{ {work} }}}}{{% endfor %}}");
        assert!(stopped(&text(200)).contains("takes too many steps"), "{work}: {}", stopped(&text(200)));
        assert!(!stopped(&text(1)).contains("takes too many steps"), "{work}: {}", stopped(&text(1)));
    }
    let small_texts = Limits { output_bytes: 1 << 20, ..Limits::default() };
    for (text, problem) in [
        ("{% set x = (['a' * 1000000] * 100000) | join %}", "a single text takes more than 1 MiB"),
        ("{% set x = (['a'] * 1000) | join('b' * 100000) %}", "a single text takes more than 1 MiB"),
        ("{% set x = 'a' * 1000000 %}{% set y = x ~ x %}", "a single text takes more than 1 MiB"),
        ("{{ [1] | tojson(indent=1000000000) }}", "`tojson` cannot indent by more than 64 blanks"),
    ] {
        let options = LoadOptions { limits: small_texts.clone(), ..LoadOptions::default() };
        let error = load_with(MemoryFiles::new().with("track.json", text), options).unwrap_err().to_string();
        assert!(error.contains(problem), "{text}: {error}");
    }
    for text in [
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% include 'self.json' %}",
        "{% set d = dict() %}{% set _ = d.update(d=d) %}",
        "{% set l = [] %}{% set _ = l.append([l]) %}",
    ] {
        assert!(!stopped(text).is_empty());
    }
    let nested = "[".repeat(10_000);
    assert!(stopped(&nested).contains("recursion limit exceeded"));
}

#[test]
fn plugins_are_seen_and_named() {
    let track = json!({"schedule": [
        {"operation": {"operation-type": "raw-bulk", "param-source": "raw"}, "schedule": "business-hours"},
        {"operation": {"operation-type": "bulk", "param-source": "file-reader"}, "schedule": "poisson"},
        {"operation": {"operation-type": "composite", "requests": [{"stream": [{"operation-type": "knn"}, {"operation-type": "search"}]}]}}
    ]});
    let files =
        MemoryFiles::new().with("track.json", track.to_string()).with("track.py", "def register(registry): ...");
    let track = load_with(files, LoadOptions::default()).unwrap().track;
    assert!(track.has_python_plugin);
    let mut registry = TrackRegistry::new();
    assert_eq!(
        registry.missing(&track.challenges[0]).to_string(),
        "operation type `knn` (composite)\n\
         operation type `raw-bulk` (raw-bulk)\n\
         parameter source `raw` (raw-bulk)\n\
         scheduler `business-hours` (raw-bulk)"
    );
    registry.register_runner("raw-bulk").register_runner("knn");
    registry.register_param_source("raw").register_scheduler("business-hours");
    assert!(registry.missing(&track.challenges[0]).is_empty());
}

#[test]
fn a_track_in_a_folder_is_read_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let files = rally_core::track::TrackDirectory::new(folder.path());
    assert!(matches!(load_track(Arc::new(files.clone()), &LoadOptions::default()), Err(LoadTrackError::Read { .. })));
    std::fs::create_dir(folder.path().join("parts")).unwrap();
    std::fs::write(folder.path().join("parts/a.json"), r#"{"operation": "refresh"}"#).unwrap();
    std::fs::write(folder.path().join("track.json"), r#"{"schedule": [{{ rally.collect(parts="parts/*") }}]}"#)
        .unwrap();
    assert_eq!(files.list("").unwrap().len(), 2);
    assert_eq!(load_track(Arc::new(files), &LoadOptions::default()).unwrap().track.challenges[0].schedule.len(), 1);
}

#[test]
fn errors_say_what_a_reader_needs_and_say_it_once() {
    let error = |files: MemoryFiles| {
        let error = load_with(files, LoadOptions::default()).unwrap_err();
        assert!(std::error::Error::source(&error).is_none());
        error.to_string()
    };
    let track = |text: &str| MemoryFiles::new().with("track.json", text);
    assert_eq!(
        error(track(r#"{"schedule": [{"operation": "x", "clients": {{ clients }}}]}"#)),
        "cannot render track `track`: track.json:1:58: expected value, because `{{ clients }}` renders to nothing, at line \
         1, column 45 of what `track.json` renders to\n\n     \
         1 | {\"schedule\": [{\"operation\": \"x\", \"clients\": }]}\n       |                                             ^"
    );
    assert_eq!(
        error(track("")),
        "cannot render track `track`: track.json:1:1: there is nothing but blanks at line 1, column 1 of what \
         `track.json` renders to"
    );
    assert_eq!(
        error(track(r#"{"challenges": [{{ rally.collect(parts="challenges/*.json") }}]}"#)),
        "track `track` is not valid:\n  - /challenges: must not be empty: leave it out, or add an element\n\
         note: track.json:1:17: no file matches `challenges/*.json`"
    );
    let included = track("{\n{% include 'part.json' %}\n}").with("part.json", "\n\"a\": {{ 1 + }}");
    assert!(error(included).starts_with("cannot render track `track`: part.json:2:"));
}

#[test]
fn processors_change_the_track_in_their_order_and_may_refuse_it() {
    struct Append(&'static str);

    impl TrackProcessor for Append {
        fn on_after_load_track(&self, track: &mut Track) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            if track.description.contains(self.0) {
                return Err(format!("`{}` is there already", self.0).into());
            }
            track.description.push_str(self.0);
            Ok(())
        }
    }

    let mut track = load(r#"{"schedule": [{"operation": "refresh"}]}"#).unwrap().track;
    let mut registry = TrackRegistry::new();
    registry.register_track_processor(Arc::new(Append("a"))).register_track_processor(Arc::new(Append("b")));
    registry.process(&mut track).unwrap();
    assert_eq!(track.description, "ab");
    let error = registry.process(&mut track).unwrap_err();
    assert_eq!(error.to_string(), "a processor refused track `track`");
    assert_eq!(error.source.to_string(), "`a` is there already");
}

#[test]
fn faults_of_shape_do_not_hide_what_is_wrong_elsewhere() {
    let found = faults(json!({
        "indices": [{ "name": 5 }],
        "corpora": [
            { "name": "c", "documents": [{ "source-file": "a.json", "document-count": 1 }] },
            { "name": "c", "documents": [{ "source-file": "b.json", "document-count": 1 }] },
        ],
        "component-templates": [{ "name": "t", "template": "missing.json" }],
        "schedule": [
            { "operation": "index", "warmup-iterations": 1, "time-period": 1 },
            { "operation": { "operation-type": "search" }, "clients": 1 },
        ],
    }));
    assert!(found.contains("/indices/0/name: "), "{found}");
    assert!(found.contains("/schedule/0") && found.contains("missing.json"), "{found}");
    // Which index corpora go to cannot be told.
    assert!(!found.contains("/corpora/1: another corpus"), "{found}");
}

#[test]
fn constructs_that_few_tracks_use_have_their_place_in_the_model() {
    let track = json!({
        "version": 2, "description": "d", "meta": { "m": 1 }, "dependencies": ["elasticsearch"],
        "indices": [{ "name": "logs", "body": "index.json" }],
        "templates": [{ "name": "old", "index-pattern": "o*", "template": "body.json", "delete-matching-indices": false }],
        "corpora": [{
            "name": "c", "base-url": "http://localhost/c", "meta": { "k": true },
            "documents": [
                { "source-file": "a.json.bz2", "document-count": 5, "compressed-bytes": 6, "uncompressed-bytes": 7 },
                { "source-file": "b.json.zst", "document-count": 5, "source-url": "http://localhost/b", "includes-action-and-meta-data": true },
                { "source-file": "d.json.lz4", "document-count": 5 }, { "source-file": "e.json.zip", "document-count": 5 },
                { "source-file": "f.json.gz", "document-count": 5 }, { "source-file": "g.json", "document-count": 5 },
            ],
        }],
        "challenge": {
            "name": "only", "user-info": "u", "meta": { "n": 2 },
            "schedule": [
                { "operation": { "operation-type": "bulk", "bulk-size": 5 }, "run-on-serverless": false, "ramp-up-time-period": 1,
                  "warmup-time-period": 2, "time-period": 3 },
                { "parallel": { "completed-by": "x", "clients": 2, "tasks": [
                    { "name": "x", "operation": { "operation-type": "search", "index": "logs", "body": null } },
                    { "name": "y", "operation": { "operation-type": "search", "index": "logs", "body": null } },
                ] } },
            ],
        },
    });
    let files = MemoryFiles::new()
        .with("track.json", track.to_string())
        .with("index.json", "{}")
        .with("body.json", r#"{"order": 1}"#);
    let Track { meta, dependencies, templates, corpora, challenges, .. } =
        load_with(files, LoadOptions::default()).unwrap().track;
    assert_eq!((meta["m"].clone(), dependencies), (json!(1), vec!["elasticsearch".to_owned()]));
    assert_eq!((templates[0].pattern.as_str(), templates[0].delete_matching_indices), ("o*", false));
    assert_eq!(templates[0].content, json!({"order": 1}));
    let files: Vec<_> = corpora[0].documents.iter().map(|it| it.document_file.as_str()).collect();
    assert_eq!(files, ["a.json", "b.json", "d.json", "e.json", "f.json", "g.json"]);
    let [a, b, ..] = &corpora[0].documents[..] else { panic!("{files:?}") };
    assert_eq!(a.base_url.as_deref(), Some("http://localhost/c"));
    assert!(b.includes_action_and_meta_data && a.target_index.as_deref() == Some("logs"));
    let challenge = &challenges[0];
    assert_eq!((challenge.user_info.as_deref(), &challenge.meta["n"]), (Some("u"), &json!(2)));
    let [ScheduleElement::Task(bulk), ScheduleElement::Parallel(parallel)] = &challenge.schedule[..] else {
        panic!("{challenge:?}")
    };
    assert_eq!(bulk.ramp_up_time_period, Some(std::time::Duration::from_secs(1)));
    assert_eq!(parallel.tasks.iter().filter(|task| task.completes_parent).count(), 1);
}
