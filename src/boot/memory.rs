//! How much memory the process may use: the machine's, or the container's if that is less.
//!
//! The limits of cgroups are read where the kernel shows them: of version 2 in one tree, of
//! version 1 in the tree of its memory controller. A limit of any group above the process's own
//! holds too. What can't be read is no limit.

use crate::limits::{MEMORY_BYTES_MIN, MEMORY_SHARE};
use std::path::{Path, PathBuf};

/// The memory for clients if no setting says otherwise.
pub(super) fn default_bytes() -> usize {
    let bytes = available(Path::new("/proc"), Path::new("/sys/fs/cgroup"));
    let share = bytes.unwrap_or(u64::MAX) / MEMORY_SHARE;
    usize::try_from(share)
        .unwrap_or(usize::MAX)
        .max(MEMORY_BYTES_MIN)
}

/// Bytes that the process may use; `None` if nobody says.
fn available(proc: &Path, cgroups: &Path) -> Option<u64> {
    let machine = read(&proc.join("meminfo")).and_then(|text| parse_meminfo(&text));
    let groups = read(&proc.join("self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(|line| group_limit(line, cgroups));
    limits.chain(machine).min()
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// `MemTotal:       32614608 kB`
fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The lowest limit of a group and those above it. `line`: `0::/path` of version 2,
/// `9:memory:/path` of version 1.
fn group_limit(line: &str, cgroups: &Path) -> Option<u64> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, group) = rest.split_once(':')?;
    let (tree, file) = if controllers.is_empty() {
        (cgroups.to_path_buf(), "memory.max")
    } else if controllers.split(',').any(|name| name == "memory") {
        (cgroups.join("memory"), "memory.limit_in_bytes")
    } else {
        return None;
    };
    // In a container the group may be named as the machine sees it, and the tree begins below it.
    let within = tree.join(group.trim_start_matches('/'));
    let above = within.ancestors().take_while(|dir| dir.starts_with(&tree));
    let dirs = above.map(PathBuf::from);
    dirs.filter_map(|dir| read(&dir.join(file))?.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A machine with these files.
    #[expect(clippy::disallowed_methods, reason = "files that a test makes up")]
    fn machine(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[expect(clippy::needless_pass_by_value, reason = "each row makes its own")]
    fn check(root: TempDir, expected: Option<u64>) {
        let (proc, cgroups) = (root.path().join("proc"), root.path().join("cgroup"));
        assert_eq!(available(&proc, &cgroups), expected);
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:       8000 kB\nMemFree:         100 kB\n",
    );

    #[test]
    fn the_least_of_machine_and_groups_counts() {
        check(machine(&[]), None);
        check(machine(&[MEMINFO]), Some(8_192_000));
        let groups = ("proc/self/cgroup", "0::/a/b\n");
        check(
            machine(&[
                MEMINFO,
                groups,
                ("cgroup/a/memory.max", "4096000\n"),
                ("cgroup/a/b/memory.max", "max\n"),
            ]),
            Some(4_096_000),
        );
        let groups = ("proc/self/cgroup", "7:cpu,cpuacct:/x\n6:memory:/docker/1\n");
        check(
            machine(&[
                MEMINFO,
                groups,
                (
                    "cgroup/memory/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
                ("cgroup/memory/docker/1/memory.limit_in_bytes", "1048576\n"),
                ("cgroup/x/memory.max", "1\n"),
            ]),
            Some(1_048_576),
        );
        let unseen = ("proc/self/cgroup", "0::/seen/from/outside\n");
        check(
            machine(&[MEMINFO, unseen, ("cgroup/memory.max", "2048\n")]),
            Some(2048),
        );
    }
}
