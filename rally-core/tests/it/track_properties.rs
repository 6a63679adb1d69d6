//! What holds for all tracks.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use rally_core::track::{
    Challenge, Corpus, Documents, LoadOptions, MemoryFiles, Operation, ParallelBuilder, Task, TaskSelection, Track,
    load_track,
};
use serde_json::{Map, Value, json};

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(Value::from),
        text().prop_map(Value::from),
    ]
}

/// Texts that would mean something to the template engine if they were not kept from it.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,8}",
        select(vec![
            "{{ x }}",
            "{% if %}",
            "{# c #}",
            "{{{",
            "}}",
            "{{ rally.collect(parts=\"*\") }}",
            "\\{{\"",
            "é\u{1F600}\n\t"
        ])
        .prop_map(str::to_owned),
    ]
}

fn object() -> impl Strategy<Value = Value> {
    let value = scalar().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..4)
                .prop_map(|pairs| pairs.into_iter().collect::<Map<_, _>>().into()),
        ]
    });
    prop::collection::vec((text(), value), 0..4).prop_map(|pairs| pairs.into_iter().collect::<Map<_, _>>().into())
}

/// The properties of a task, without its name.
fn properties() -> impl Strategy<Value = Value> {
    let timing = prop_oneof![
        Just(json!({})),
        (0..5_u64, 1..50_u64).prop_map(|(warmup, n)| json!({"warmup-iterations": warmup, "iterations": n})),
        (0..90_u64, 1..90_u64).prop_map(|(warmup, n)| json!({"warmup-time-period": warmup, "time-period": n})),
        (1..90_u64, 0..90_u64).prop_map(|(ramp_up, more)| {
            json!({"ramp-up-time-period": ramp_up, "warmup-time-period": ramp_up + more, "time-period": 5})
        }),
    ];
    let target = prop_oneof![
        Just(json!({})),
        (0.0..1e6).prop_map(|value| json!({"target-throughput": value})),
        (0..1_000_u32).prop_map(|value| json!({"target-throughput": format!("{value} docs/s")})),
        (0..10_u32).prop_map(|value| json!({"target-interval": value})),
    ];
    let tags =
        prop_oneof![Just(json!({})), Just(json!({"tags": "setup"})), Just(json!({"tags": ["setup", "search"]})),];
    (1..20_u32, timing, target, tags, object()).prop_map(|(clients, timing, target, tags, meta)| {
        let mut all = Map::from_iter([("clients".to_owned(), clients.into()), ("meta".to_owned(), meta)]);
        for part in [timing, target, tags] {
            all.extend(part.as_object().cloned().unwrap_or_default());
        }
        all.into()
    })
}

fn schedule() -> impl Strategy<Value = Vec<Vec<(Value, &'static str)>>> {
    let task = (properties(), select(vec!["bulk", "search", "force-merge", "create-ilm-policy", "my-own"]));
    prop::collection::vec(prop::collection::vec(task, 1..4), 1..5)
}

prop_compose! {
    fn track()(
        body in object(),
        content in object(),
        meta in object(),
        schedules in prop::collection::vec(schedule(), 1..4),
        documents in prop::collection::vec((1..5_000_u64, any::<bool>(), text()), 1..4),
        (parameters, corpus_meta, streams, by_name) in (object(), object(), any::<bool>(), any::<bool>()),
    ) -> Track {
        let track = Track::builder("generated")
            .property("meta", meta)
            .property("dependencies", json!(["elasticsearch"]));
        let mut track = if streams { track.data_stream("only") } else { track.index("only", body) }
            .composable_template("t", "only*", content.clone())
            .component_template("c", content);
        let mut corpus = Corpus::builder("corpus").property("meta", corpus_meta);
        for (index, (count, with_actions, url)) in documents.iter().enumerate() {
            let mut set = Documents::builder(&format!("d{index}.json.bz2"), *count).base_url(url);
            if *with_actions {
                set = set.includes_action_and_meta_data();
            } else if streams {
                set = set.target_data_stream("other");
            } else {
                set = set.target_index("other");
            }
            corpus = corpus.documents(set);
        }
        track = track.corpus(corpus);
        for (index, schedule) in schedules.into_iter().enumerate() {
            let mut challenge = Challenge::builder(&format!("challenge-{index}")).property("default", index == 0);
            challenge = challenge.property("parameters", parameters.clone()).property("user-info", "said to users");
            for (step, tasks) in schedule.into_iter().enumerate() {
                let single = tasks.len() == 1;
                let mut parallel = ParallelBuilder::new();
                let first = format!("task-{step}-0");
                for (task, (properties, operation)) in tasks.into_iter().enumerate() {
                    let mut builder = Task::builder(Operation::builder(operation)).name(&format!("task-{step}-{task}"));
                    // Only a parallel element as a whole may ramp up.
                    let own = properties.as_object().unwrap().iter();
                    for (key, value) in own.filter(|(key, _)| single || *key != "ramp-up-time-period") {
                        builder = builder.property(key, value.clone());
                    }
                    if single {
                        challenge = challenge.task(builder);
                        break;
                    }
                    parallel = parallel.task(builder);
                }
                if !single {
                    challenge = challenge.parallel(parallel.completed_by(if by_name { &first } else { "any" }));
                }
            }
            track = track.challenge(challenge);
        }
        track.build().unwrap()
    }
}

fn load(files: MemoryFiles, options: LoadOptions) -> Track {
    load_track(Arc::new(files), &LoadOptions { name: "generated".to_owned(), ..options }).unwrap().track
}

/// The names of all tasks, challenge by challenge.
fn task_names(track: &Track) -> Vec<Vec<String>> {
    track.challenges.iter().map(|challenge| challenge.tasks().map(|task| task.name.clone()).collect()).collect()
}

fn is_subsequence(part: &[String], whole: &[String]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|name| rest.any(|other| other == name))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_track_written_to_files_loads_to_the_same_track(track in track()) {
        prop_assert_eq!(&load(track.to_files(), LoadOptions::default()), &track);
    }

    #[test]
    fn a_track_survives_serde(track in track()) {
        let text = serde_json::to_string(&track).unwrap();
        prop_assert_eq!(serde_json::from_str::<Track>(&text).unwrap(), track);
    }

    #[test]
    fn filters_and_test_mode_never_invent_or_reorder_tasks(
        track in track(),
        filters in prop::collection::vec(select(vec!["type:bulk", "tag:setup", "task-0-0", "type:my-own", "tag:none"]), 1..3),
        include in any::<bool>(),
        serverless in any::<bool>(),
        test_mode in any::<bool>(),
    ) {
        let filters: Vec<String> = filters.into_iter().map(str::to_owned).collect();
        let tasks = if include { TaskSelection::Include(filters) } else { TaskSelection::Exclude(filters) };
        let filtered = load(track.to_files(), LoadOptions { tasks, serverless, test_mode, ..LoadOptions::default() });
        for (part, whole) in task_names(&filtered).iter().zip(task_names(&track)) {
            prop_assert!(is_subsequence(part, &whole), "{part:?} of {whole:?}");
        }
        prop_assert_eq!(filtered.challenges.len(), track.challenges.len());
    }

    #[test]
    fn what_one_selection_includes_the_other_excludes(track in track(), filter in select(vec!["type:bulk", "tag:setup"])) {
        let filters = vec![filter.to_owned()];
        let with = |tasks| load(track.to_files(), LoadOptions { tasks, ..LoadOptions::default() });
        let included = task_names(&with(TaskSelection::Include(filters.clone())));
        let excluded = task_names(&with(TaskSelection::Exclude(filters)));
        for ((included, excluded), all) in included.iter().zip(&excluded).zip(task_names(&track)) {
            let mut both: Vec<_> = included.iter().chain(excluded).cloned().collect();
            let mut all = all;
            both.sort();
            all.sort();
            prop_assert_eq!(both, all);
        }
    }
}
