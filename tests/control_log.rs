//! The control log: with the offline tools, and on a full disk. Namespaces survive a backup and its
//! restore. `verify` counts them; `dump` and `export` leave them out. Damage is named, and a repair
//! says what to do.
//!
//! A limit on the size of files plays the full disk. The limit belongs to a process, so that test
//! runs this program again, under a shell that makes the kernel return an error in place of a
//! signal.

use flux::auth::TokenHash;
use flux::control::{Change, ControlStore, Namespace, Registry};
use flux::model::Timestamp;
use flux_storage::{DataDir, LogOptions, Sequence, StorageError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::PoisonError;
use tempfile::TempDir;

const FLUX: &str = env!("CARGO_BIN_EXE_flux");
/// The variable that names the child's directory.
const DIRECTORY_VARIABLE: &str = "FLUX_TEST_DIRECTORY";

/// Tests run one at a time. They open data directories in this process and also start servers, and
/// a child holds this process's locks between fork and exec.
#[expect(
    clippy::disallowed_types,
    reason = "tests, which are threads of one process"
)]
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory)
        .or_else(|_| TempDir::new())
        .expect("a temporary directory")
}

fn registered(number: u32) -> Change {
    Change::Registered(Namespace {
        id: format!("ns_{number}").into(),
        name: format!("name-{number}").into(),
        token: TokenHash::of(&number.to_le_bytes()),
        created: Timestamp::from_micros(i64::from(number)),
        visibility: flux::model::Visibility::Public,
        after: number
            .is_multiple_of(2)
            .then(|| Sequence::new(u64::from(number))),
    })
}

fn open(path: &Path) -> (ControlStore, Registry) {
    let data = DataDir::open(path, 1, LogOptions::default()).expect("a data directory");
    ControlStore::open(&data).expect("a control log")
}

/// A data directory with so many namespaces and no events.
fn stored(path: &Path, count: u32) {
    let (mut store, _) = open(path);
    for number in 0..count {
        let stored = store.append(Timestamp::from_micros(1), &registered(number));
        stored.expect("there is room");
    }
    store.close().expect("nothing failed");
}

#[track_caller]
fn names(path: &Path) -> Vec<String> {
    let (_, registry) = open(path);
    let names = registry.list(None).map(|it| it.name.to_string());
    names.collect()
}

fn flux(arguments: &[&str], data_dir: &Path) -> Output {
    Command::new(FLUX)
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .stdin(Stdio::null())
        .output()
        .expect("flux runs")
}

/// What it printed on both outputs, which ended with this code.
#[track_caller]
fn told(output: &Output, code: i32) -> String {
    let said = [&*output.stdout, &*output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of the tests is text")
}

#[test]
fn namespaces_survive_a_backup_and_its_restoration() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let root = scratch();
    let [data, copy, restored] = ["data", "copy", "restored"].map(|name| root.path().join(name));
    stored(&data, 700);
    let expected = names(&data);
    assert_eq!(expected.len(), 700);
    let said = told(&flux(&["backup", text(&copy)], &data), 0);
    assert!(said.contains("control log: through change 700"), "{said}");
    assert_eq!(names(&data), expected, "the original is as it was");
    told(&flux(&["restore", text(&copy)], &restored), 0);
    assert_eq!(names(&restored), expected);

    let path = copy.join("control/00000001.seg");
    change_byte(&path, 6000);
    let again = root.path().join("again");
    let said = told(&flux(&["restore", text(&copy)], &again), 3);
    assert!(said.contains("control/00000001.seg"), "{said}");
    assert!(!again.exists());
}

#[test]
fn the_tools_count_changes_and_show_none_of_them() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let root = scratch();
    let data = root.path().join("data");
    stored(&data, 3);
    let said = told(&flux(&["log", "verify"], &data), 0);
    assert!(said.contains("control log: 3 records"), "{said}");
    assert!(said.contains("1 logs, 0 records: no damage"), "{said}");
    for arguments in [&["log", "dump"][..], &["export"]] {
        let output = flux(arguments, &data);
        told(&output, 0);
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn damage_is_named_and_a_repair_says_what_may_be_in_force_again() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let root = scratch();
    let data = root.path().join("data");
    stored(&data, 5);
    let path = data.join("control/00000001.seg");
    let bytes = fs::read(&path).expect("a segment");
    let found = bytes.windows(6).position(|it| it == b"name-3");
    change_byte(&path, found.expect("it is stored") as u64);

    let said = told(&flux(&["log", "verify"], &data), 3);
    assert!(said.contains("control/00000001.seg at byte"), "{said}");
    assert!(said.contains("record 4 is lost"), "{said}");
    assert!(said.contains("0 records: 1 finding of damage"), "{said}");
    let said = told(&flux(&["log", "repair"], &data), 3);
    assert!(said.contains("nothing was changed"), "{said}");
    assert!(!said.contains("given up, perhaps"), "{said}");
    let said = told(&flux(&["log", "repair", "--yes"], &data), 0);
    assert!(said.contains("given up, perhaps"), "{said}");
    assert_eq!(names(&data), ["name-0", "name-1", "name-2", "name-4"]);
    assert_eq!(open(&data).0.lost(), 1);
    told(&flux(&["log", "verify"], &data), 0);
}

fn change_byte(path: &Path, offset: u64) {
    let file = fs::File::options().read(true).write(true).open(path);
    let file = file.expect("a file of the data directory");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("that long");
    let written = file.write_all_at(&[byte[0] ^ 1], offset);
    written.expect("it can be written");
}

fn limit_files(bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: getrlimit(Resource::Fsize).maximum,
    };
    setrlimit(Resource::Fsize, limit).expect("below the hard limit");
}

#[test]
fn a_full_disk_refuses_changes_until_there_is_room_again() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(dir) = std::env::var_os(DIRECTORY_VARIABLE) else {
        let dir = scratch();
        let output = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" --exact \"$1\""])
            .arg(std::env::current_exe().expect("this program"))
            .arg("a_full_disk_refuses_changes_until_there_is_room_again")
            .env(DIRECTORY_VARIABLE, dir.path())
            .output()
            .expect("a shell");
        let said = told(&output, 0);
        assert!(said.contains("1 passed"), "{said}");
        let (store, registry) = open(dir.path());
        assert!(registry.len() > 1000, "{} namespaces", registry.len());
        assert_eq!(store.lost(), 0);
        return;
    };
    let dir = PathBuf::from(dir);
    let (mut store, _) = open(&dir);
    let now = Timestamp::from_micros(1);
    limit_files(Some(100 * 1024));
    let mut next = 0;
    let refused = loop {
        match store.append(now, &registered(next)) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
        assert!(next < 10_000, "files are limited");
    };
    let is_full = |error: &StorageError| matches!(error, StorageError::OutOfSpace { .. });
    assert!(is_full(&refused), "{refused}");
    for _ in 0..3 {
        let refused = store.append(now, &registered(next)).expect_err("no room");
        assert!(is_full(&refused), "{refused}");
    }
    limit_files(None);
    for number in next..next + 10 {
        store.append(now, &registered(number)).expect("room again");
    }
    store.close().expect("nothing failed");
    let (_, registry) = open(&dir);
    let count = u32::try_from(registry.len()).expect("few");
    assert_eq!(count, next + 10, "what was refused is not there");
}

#[test]
fn a_control_log_of_which_nothing_is_left_does_not_come_back_in_silence() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let root = scratch();
    let data = root.path().join("data");
    stored(&data, 5);
    for entry in fs::read_dir(data.join("control")).expect("a directory") {
        fs::remove_file(entry.expect("an entry").path()).expect("it can be removed");
    }
    let refused = DataDir::open(&data, 1, LogOptions::default()).map(|data| {
        let refused = ControlStore::open(&data).map(|_| ());
        refused.expect_err("its files are gone").to_string()
    });
    let refused = refused.expect("the shards' logs are whole");
    assert!(refused.contains("control/00000001.seg"), "{refused}");
    told(&flux(&["log", "verify"], &data), 3);
    let said = told(&flux(&["log", "repair", "--yes"], &data), 0);
    assert!(said.contains("given up, perhaps"), "{said}");
    assert_eq!(names(&data), [""; 0]);
}
