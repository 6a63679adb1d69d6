//! What this machine is, as far as it tells.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use rally_core::HostFacts;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// The longest text, in bytes; other hosts take no longer one.
const MAX_TEXT: usize = 128;

/// What this machine is. It is looked at once for each process.
#[must_use]
pub fn host_facts() -> HostFacts {
    static FACTS: OnceLock<HostFacts> = OnceLock::new();
    FACTS.get_or_init(|| gather(Path::new("/"))).clone()
}

/// Reads what the kernel tells below `root`.
fn gather(root: &Path) -> HostFacts {
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let wanted =
        RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()).with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(wanted).ok();
    let cpus = system.as_ref().map_or(&[][..], System::cpus);
    let count = |count: usize| u32::try_from(count).ok().filter(|count| *count > 0);
    let distribution = [System::name(), System::os_version()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let platform = format!("{} {} {}", text(uname.sysname()), text(uname.release()), text(uname.machine()));
    HostFacts {
        name: bounded(&text(uname.nodename())).unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cores: std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
        // Zero where the system does not tell.
        memory: system.as_ref().map_or(0, System::total_memory),
        platform: bounded(&platform).unwrap_or_default(),
        flavor: Some(if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned()),
        distribution: bounded(&distribution),
        cpu: cpus.first().and_then(|cpu| bounded(cpu.brand())),
        logical_cores: count(cpus.len()),
        physical_cores: System::physical_core_count().ok().and_then(count),
        governor: governors(root),
        clock_source: read(root, "sys/devices/system/clocksource/clocksource0/current_clocksource"),
        virtualization: virtualization(root),
    }
}

/// The governors of all cores, each once.
fn governors(root: &Path) -> Option<String> {
    let policies = "sys/devices/system/cpu/cpufreq";
    let found = fs::read_dir(root.join(policies)).ok()?.flatten();
    let governor = |entry: fs::DirEntry| read(&entry.path(), "scaling_governor");
    let governors: BTreeSet<String> = found.filter_map(governor).collect();
    bounded(&governors.into_iter().collect::<Vec<_>>().join(", "))
}

/// Who runs this machine, if it is a guest; `none` if the CPU says that nobody does.
fn virtualization(root: &Path) -> Option<String> {
    let vendor = || read(root, "sys/class/dmi/id/sys_vendor");
    let known = || match (vendor(), read(root, "sys/class/dmi/id/product_name")) {
        (Some(vendor), Some(product)) => bounded(&format!("{vendor} {product}")),
        (vendor, product) => vendor.or(product),
    };
    // Only x86 tells, by a flag of its CPUs.
    let cpus = fs::read_to_string(root.join("proc/cpuinfo")).ok()?;
    let flags = cpus.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'))?.1;
    if !flags.split_whitespace().any(|flag| flag == "hypervisor") {
        return Some("none".to_owned());
    }
    Some(known().unwrap_or_else(|| "a hypervisor that does not say its name".to_owned()))
}

fn read(root: &Path, file: &str) -> Option<String> {
    bounded(&fs::read_to_string(root.join(file)).ok()?)
}

/// A text as other hosts take it: on one line, and not too long. None if nothing is left.
fn bounded(text: &str) -> Option<String> {
    let line = text.split(|it: char| it.is_whitespace() || it.is_control()).filter(|word| !word.is_empty());
    let mut line = line.collect::<Vec<_>>().join(" ");
    line.truncate(line.floor_char_boundary(MAX_TEXT));
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn facts_come_from_the_kernels_files_and_what_is_missing_is_not_made_up() {
        let root = tempfile::tempdir().unwrap();
        let nothing = gather(root.path());
        assert_eq!((nothing.governor, nothing.clock_source, nothing.virtualization), (None, None, None));
        for (core, governor) in [(0, "powersave\n"), (1, "performance\n"), (2, "powersave\n")] {
            write(root.path(), &format!("sys/devices/system/cpu/cpufreq/policy{core}/scaling_governor"), governor);
        }
        write(root.path(), "sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
        write(root.path(), "proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu hypervisor sse\n");
        write(root.path(), "sys/class/dmi/id/sys_vendor", "QEMU\n");
        let facts = gather(root.path());
        assert_eq!(facts.governor.as_deref(), Some("performance, powersave"));
        assert_eq!(facts.clock_source.as_deref(), Some("tsc"));
        assert_eq!(facts.virtualization.as_deref(), Some("QEMU"));
        write(root.path(), "proc/cpuinfo", "flags\t\t: fpu sse\n");
        assert_eq!(virtualization(root.path()).as_deref(), Some("none"));
    }

    #[test]
    fn every_text_is_one_that_other_hosts_take() {
        assert_eq!(bounded(" a\n\x1b[2Jb\t"), Some("a [2Jb".to_owned()));
        assert_eq!(bounded(&"ä".repeat(100)).map(|text| text.len()), Some(MAX_TEXT));
        assert_eq!(bounded("\n"), None);
        let facts = host_facts();
        assert!(facts.cores > 0 && facts.memory > 0 && !facts.platform.is_empty());
        assert!(facts.texts().all(|(_, text)| text.len() <= MAX_TEXT && !text.chars().any(char::is_control)));
    }
}
