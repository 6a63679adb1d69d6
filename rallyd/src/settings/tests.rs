use std::os::unix::fs::PermissionsExt;

use super::*;

/// Loads settings from the text of a `rally.ini`, environment variables and flags.
fn load(ini: &str, variables: &[(&str, &str)], flags: &Flags) -> Result<(Settings, Vec<Notice>), SettingsError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rally.ini");
    std::fs::write(&path, ini).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    load_from(directory.path(), variables, flags)
}

fn load_from(
    directory: &Path,
    variables: &[(&str, &str)],
    flags: &Flags,
) -> Result<(Settings, Vec<Notice>), SettingsError> {
    let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
    Settings::load(directory, variable, flags)
}

/// Messages without the changing name of the directory.
fn without_directory(message: &str) -> String {
    let words = message.split(' ').map(|word| match word.rsplit_once("/rally.ini") {
        Some((start, end)) => format!("{}rally.ini{end}", if start.starts_with('(') { "(" } else { "" }),
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn flags_beat_environment_beats_file_beats_defaults() {
    let file = "[cluster]\nport = 1901";
    let environment: &[(&str, &str)] = &[("RALLY_PORT", "1902")];
    let flags = Flags { port: Some("1903".to_owned()), ..Flags::default() };
    let none = Flags::default();
    for (ini, variables, flags, port) in [
        ("", &[][..], &none, DEFAULT_PORT),
        (file, &[], &none, 1901),
        (file, environment, &none, 1902),
        (file, environment, &flags, 1903),
        (file, &[("RALLY_PORT", "")], &none, 1901),
    ] {
        assert_eq!(load(ini, variables, flags).unwrap().0.cluster.port, port);
    }
}

#[test]
fn layers_add_up_key_by_key() {
    let ini = "[cluster]\ncoordinator.ip = [::1]:1901\njoin.token = secret\ncertificate.lifetime = 30d\nnode.ip =\n";
    let flags = Flags { node_ip: Some("::1".to_owned()), ..Flags::default() };
    let (settings, notices) = load(ini, &[("RALLY_TOKEN", "other")], &flags).unwrap();
    let expected = ClusterSettings {
        node_ip: Some("::1".parse().unwrap()),
        coordinator_ip: Some("[::1]:1901".parse().unwrap()),
        port: DEFAULT_PORT,
        join_token: Some(Secret::new("other")),
        certificate_lifetime: Some(Duration::from_secs(30 * 86_400)),
    };
    assert_eq!(settings.cluster, expected);
    assert_eq!(notices, []);
}

#[test]
fn a_missing_file_is_no_error_and_is_not_created() {
    let directory = tempfile::tempdir().unwrap();
    let (settings, notices) = load_from(directory.path(), &[], &Flags::default()).unwrap();
    assert_eq!((settings.cluster.port, settings.cluster.coordinator_ip, notices), (DEFAULT_PORT, None, vec![]));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn the_file_that_rally_writes_needs_no_warning() {
    let ini = "[meta]\nconfig.version = 17\n\n[system]\nenv.name = local\n\n[node]\nroot.dir = ${CONFIG_DIR}/benchmarks\n\
               src.root.dir = ${CONFIG_DIR}/benchmarks/src\n\n[source]\nremote.repo.url = https://example.org/es.git\n\
               elasticsearch.src.subdir = elasticsearch\n\n[benchmarks]\nlocal.dataset.cache = ${CONFIG_DIR}/data\n\n\
               [reporting]\ndatastore.type = in-memory\ndatastore.host =\ndatastore.port =\ndatastore.secure = False\n\
               datastore.user =\ndatastore.password =\n\n[tracks]\ndefault.url = https://example.org/tracks\n\n\
               [teams]\ndefault.url = https://example.org/teams\n\n[defaults]\npreserve_benchmark_candidate = false\n\n\
               [distributions]\nrelease.cache = true\n";
    assert_eq!(load(ini, &[], &Flags::default()).unwrap().1, []);
}

#[test]
fn corpora_are_kept_where_the_file_says_or_below_the_root() {
    let directory = |ini: &str| load(ini, &[], &Flags::default()).unwrap().0.data_dir(Path::new("/home/u/.rally"));
    assert_eq!(directory(""), Path::new("/home/u/.rally/benchmarks/data"));
    assert_eq!(directory("[node]\nroot.dir = /bench\n"), Path::new("/bench/data"));
    let both = "[node]\nroot.dir = /bench\n[benchmarks]\nlocal.dataset.cache = /corpora\n";
    assert_eq!(directory(both), Path::new("/corpora"));
    assert_eq!(directory("[benchmarks]\nlocal.dataset.cache =\n"), Path::new("/home/u/.rally/benchmarks/data"));
}

#[test]
fn unknown_sections_and_keys_are_warned_about_with_their_line() {
    let ini =
        "[clutser]\nport = 1\n[cluster]\ncoordinator.pi = a\n[actor]\nactor.process.startup.method = fork\n[xyz]\n";
    let notices = load(ini, &[], &Flags::default()).unwrap().1;
    let shown: Vec<_> = notices
        .iter()
        .map(|notice| match notice {
            Notice::Info(text) => format!("info: {}", without_directory(text)),
            Notice::Warning(text) => format!("warning: {}", without_directory(text)),
        })
        .collect();
    assert_eq!(
        shown,
        [
            "warning: rally.ini, line 1: section [clutser] is not known; did you mean [cluster]?",
            "warning: rally.ini, line 4: key `coordinator.pi` in [cluster] is not known; did you mean `coordinator.ip`?",
            "info: rally.ini, line 6: key `actor.process.startup.method` in [actor] has no effect here",
            "warning: rally.ini, line 7: section [xyz] is not known",
        ]
    );
}

#[test]
fn a_bad_value_is_reported_with_its_place_and_what_is_allowed() {
    let flags = Flags { port: Some("70000".to_owned()), ..Flags::default() };
    let none = Flags::default();
    for (ini, variables, flags, message) in [
        (
            "[cluster]\n\nport = x",
            &[][..],
            &none,
            "`port` in [cluster] is `x` (rally.ini, line 3); expected: a port from 1 to 65535",
        ),
        (
            "",
            &[("RALLY_PORT", "0")],
            &none,
            "`port` in [cluster] is `0` (environment variable RALLY_PORT); expected: a port from 1 to 65535",
        ),
        ("", &[], &flags, "`port` in [cluster] is `70000` (--port); expected: a port from 1 to 65535"),
        (
            "[meta]\nconfig.version = 16",
            &[],
            &none,
            "`config.version` in [meta] is `16` (rally.ini, line 2); expected: 17, the only version there is",
        ),
        (
            "[reporting]\noutput.processingtime = maybe",
            &[],
            &none,
            "`output.processingtime` in [reporting] is `maybe` (rally.ini, line 2); expected: `true` or `false`",
        ),
    ] {
        let error = load(ini, variables, flags).expect_err(message);
        assert_eq!(without_directory(&error.to_string()), message);
    }
}

#[test]
fn a_token_that_others_can_read_is_warned_about() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rally.ini");
    for (text, mode, warned) in [
        ("[cluster]\njoin.token = secret", 0o644, true),
        ("[cluster]\njoin.token = secret", 0o600, false),
        ("[cluster]\nport = 1900", 0o644, false),
    ] {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let (settings, notices) = load_from(directory.path(), &[], &Flags::default()).unwrap();
        assert_eq!(notices.len(), usize::from(warned), "{text} {mode:o} {notices:?}");
        assert!(!format!("{settings:?} {notices:?}").contains("secret"));
    }
}

#[test]
fn the_rally_directory_follows_rally_home() {
    let directory = |variables: &'static [(&str, &str)]| {
        rally_directory(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
    };
    assert_eq!(directory(&[("HOME", "/home/u")]), Some("/home/u/.rally".into()));
    assert_eq!(directory(&[("HOME", "/home/u"), ("RALLY_HOME", "/data")]), Some("/data/.rally".into()));
    assert_eq!(directory(&[("HOME", "")]), None);
}
