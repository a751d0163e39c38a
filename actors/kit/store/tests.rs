use std::sync::mpsc;
use std::time::Instant;

use tickwright_core::config::Kinds;

use super::engine::system_error;
use super::*;

fn open(directory: &Path) -> Store {
    reopen(directory, StoreOptions::default()).0
}

fn reopen(directory: &Path, options: StoreOptions) -> (Store, Opened) {
    let deadline = Instant::now() + Duration::from_secs(10);
    // The committer of a store that was just dropped may still hold the lock for a moment.
    loop {
        match Store::open(directory, options) {
            Ok(opened) => return opened,
            Err(StoreError::InUse(_)) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_was_stored_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.put_and_wait("a", vec![1], vec![10]).unwrap();
    store.put_and_wait("a", vec![3], vec![30]).unwrap();
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.get("a", &[1]).unwrap(), Some(vec![10]));
    assert_eq!(store.next("a", &[2]).unwrap(), Some((vec![3], vec![30])));
    assert_eq!(store.keys("a").unwrap(), [vec![1], vec![3]]);
}

#[test]
fn whoever_lets_the_store_settle_reads_all_that_was_put_before() {
    let directory = tempfile::tempdir().unwrap();
    let commit = CommitPolicy { records_max: 1, wait: Duration::ZERO };
    let options = StoreOptions { commit, ..StoreOptions::default() };
    let (store, _) = Store::open(directory.path(), options).unwrap();
    let (release, released) = mpsc::channel::<()>();
    let wait = move |_| {
        // It ends with the other side.
        let _ = released.recv();
    };
    store.put("a", vec![0], vec![0], Box::new(wait));
    for key in 1..4 {
        store.put("a", vec![key], vec![key], Box::new(|_| {}));
    }
    store.remove("a", vec![vec![1]]);
    assert_eq!(store.get("a", &[3]).unwrap(), None, "it waits for what is before it");
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(release);
    });
    store.settle().unwrap();
    assert_eq!(store.keys("a").unwrap(), [vec![0], vec![2], vec![3]]);
    Store::in_memory().settle().unwrap();
}

#[test]
fn a_directory_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _store = open(directory.path());
    let second = Store::open(directory.path(), StoreOptions::default());
    assert!(matches!(second, Err(StoreError::InUse(_))));
}

#[test]
fn a_full_disk_is_an_error_that_says_so_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let faults = DiskFaults { full_after_bytes: Some(100) };
    let options = StoreOptions { faults, ..StoreOptions::default() };
    let (store, _) = Store::open(directory.path(), options).unwrap();
    store.put_and_wait("a", vec![1], vec![0; 50]).unwrap();
    let error = store.put_and_wait("a", vec![2], vec![0; 60]).unwrap_err();
    assert!(error.to_string().contains("no space left"), "{error}");
    assert!(store.put_and_wait("a", vec![3], vec![0]).is_err());
    assert_eq!(store.get("a", &[1]).unwrap(), Some(vec![0; 50]));
}

#[test]
fn what_the_system_says_of_the_disk_is_told_from_damage() {
    let full = system_error("Os { code: 28, kind: StorageFull, message: \"No space left\" }");
    assert_eq!(full.unwrap().kind(), io::ErrorKind::StorageFull);
    let large = system_error("IO error: File too large (os error 27)").unwrap();
    assert_eq!(large.kind(), io::ErrorKind::FileTooLarge);
    // A read at an offset that a damaged record named.
    assert!(system_error("Os { code: 22, kind: InvalidInput, message: \"\" }").is_none());
    assert!(system_error("Read corrupted data at file offset 7").is_none());
}

#[test]
fn a_damaged_journal_is_set_aside_and_a_new_one_begun() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for number in 0..200u8 {
        store.put_and_wait("a", vec![number], vec![number; 1_000]).unwrap();
    }
    drop(store);
    let log = directory.path().join("journal/db");
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut bytes = loop {
        // Wait for the lock to be given back before the file is changed.
        if let Ok((store, _)) = Store::open(directory.path(), StoreOptions::default()) {
            drop(store);
            std::thread::sleep(Duration::from_millis(200));
            break std::fs::read(&log).unwrap();
        }
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    };
    let (from, to) = (bytes.len() / 200, bytes.len() / 2);
    for byte in &mut bytes[from..to] {
        *byte ^= 0xa5;
    }
    std::fs::write(&log, bytes).unwrap();
    let (store, opened) = Store::open(directory.path(), StoreOptions::default()).unwrap();
    let Opened::SetAside(aside) = opened else { panic!("the damage went unnoticed") };
    assert!(aside.try_exists().unwrap());
    assert!(store.keys("a").unwrap().is_empty());
}

/// Puts 200 records, and returns the log once nobody has it open.
fn log_of_200(directory: &Path) -> PathBuf {
    let options = StoreOptions { segment_bytes: 64 << 10, ..StoreOptions::default() };
    let (store, _) = Store::open(directory, options).unwrap();
    for number in 0..200u8 {
        store.put_and_wait("a", vec![number], vec![number; 1_000]).unwrap();
    }
    drop(store);
    // Whoever opens it next has waited until the lock was given back.
    drop(open(directory));
    std::thread::sleep(Duration::from_millis(200));
    directory.join("journal/db")
}

/// sled opens what is before the cut as if there had never been more.
#[test]
fn a_log_that_was_cut_off_is_damaged_wherever_it_was() {
    // No less than a segment and a half is cut off.
    for part in 1..7 {
        let directory = tempfile::tempdir().unwrap();
        let log = log_of_200(directory.path());
        let length = std::fs::metadata(&log).unwrap().len();
        let file = File::options().write(true).open(&log).unwrap();
        file.set_len(length * part / 8).unwrap();
        file.set_len(length).unwrap();
        let (_, opened) = reopen(directory.path(), StoreOptions::default());
        assert!(matches!(opened, Opened::SetAside(_)), "cut at {part} eighths");
    }
}

/// As sled leaves it that has found damage after some of the records: a log that ends there.
#[test]
fn who_can_goes_on_with_what_is_before_a_cut_and_is_accused_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let (whole, cut) = (directory.path().join("whole"), directory.path().join("cut"));
    drop(log_of_200(&whole));
    std::fs::create_dir_all(cut.join("journal/blobs")).unwrap();
    for name in ["conf", "db"] {
        let name = format!("journal/{name}");
        std::fs::copy(whole.join(&name), cut.join(&name)).unwrap();
    }
    let store = open(&whole);
    for number in 200..=255u8 {
        store.put_and_wait("a", vec![number], vec![number]).unwrap();
    }
    drop(store);
    let noted = "journal/committed";
    std::fs::copy(whole.join(noted), cut.join(noted)).unwrap();
    let options = StoreOptions { keeps_prefix: true, ..StoreOptions::default() };
    let (store, opened) = reopen(&cut, options);
    assert_eq!((opened, store.keys("a").unwrap().len()), (Opened::Sound, 200));
    store.put_and_wait("a", vec![255], vec![1]).unwrap();
    drop(store);
    let (store, opened) = reopen(&cut, StoreOptions::default());
    assert_eq!((opened, store.keys("a").unwrap().len()), (Opened::Sound, 201));
    drop(store);
    std::thread::sleep(Duration::from_millis(200));
    std::fs::copy(whole.join(noted), cut.join(noted)).unwrap();
    let (_, opened) = reopen(&cut, StoreOptions::default());
    assert!(matches!(opened, Opened::SetAside(_)), "who cannot begins anew");
}

#[test]
fn what_is_noted_of_commits_outlives_that_all_records_are_thrown_away() {
    let directory = tempfile::tempdir().unwrap();
    drop(log_of_200(directory.path()));
    let store = open(directory.path());
    store.clear().unwrap();
    drop(store);
    for life in 0..3 {
        let (store, opened) = reopen(directory.path(), StoreOptions::default());
        assert_eq!(opened, Opened::Sound, "life {life}");
        store.put_and_wait("a", vec![life], vec![life]).unwrap();
        assert_eq!(store.keys("a").unwrap().len(), usize::from(life) + 1);
        drop(store);
    }
    // A mark that nobody can make out accuses nobody.
    std::fs::write(directory.path().join("journal/committed"), b"torn").unwrap();
    let (_, opened) = reopen(directory.path(), StoreOptions::default());
    assert_eq!(opened, Opened::Sound);
}

/// Longer than a commit takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn open_with(directory: &Path, records_max: usize, wait: Duration) -> Store {
    let commit = CommitPolicy { records_max, wait };
    let options = StoreOptions { commit, ..StoreOptions::default() };
    Store::open(directory, options).unwrap().0
}

/// Puts a record; what comes back tells when it is on the disk.
fn put(store: &Store, key: u8) -> mpsc::Receiver<Result<(), StoreError>> {
    let (sender, receiver) = mpsc::channel();
    store.put("a", vec![key], vec![key], Box::new(move |result| drop(sender.send(result))));
    receiver
}

#[test]
fn records_wait_for_each_other_until_there_are_enough() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), 3, Duration::from_secs(3_600));
    let waiting = [put(&store, 1), put(&store, 2)];
    for record in &waiting {
        assert!(record.recv_timeout(Duration::from_millis(300)).is_err(), "committed alone");
    }
    let last = put(&store, 3);
    for record in waiting.iter().chain([&last]) {
        record.recv_timeout(PATIENCE).unwrap().unwrap();
    }
}

#[test]
fn a_record_waits_no_longer_than_it_may() {
    let directory = tempfile::tempdir().unwrap();
    let wait = Duration::from_millis(400);
    let store = open_with(directory.path(), 1_000, wait);
    let begun = Instant::now();
    put(&store, 1).recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(begun.elapsed() >= wait, "{:?}", begun.elapsed());
}

#[test]
fn what_somebody_waits_for_waits_for_no_other_record() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), 1_000, Duration::from_secs(3_600));
    store.put_and_wait("a", vec![1], vec![1]).unwrap();
    let record = put(&store, 2);
    store.hurry();
    record.recv_timeout(PATIENCE).unwrap().unwrap();
}

#[test]
fn the_log_grows_by_segments_of_the_size_asked_for() {
    let length = |segment_bytes| {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions { segment_bytes, ..StoreOptions::default() };
        let (store, _) = Store::open(directory.path(), options).unwrap();
        for key in 0..30 {
            store.put_and_wait("a", vec![key], vec![key; 4_000]).unwrap();
        }
        let log = std::fs::read(directory.path().join("journal/db")).unwrap();
        log.len().div_ceil(segment_bytes)
    };
    assert!(length(64 << 10) > 1);
    assert_eq!(length(1 << 20), 1);
}

#[test]
fn a_directory_keeps_its_segments_and_its_records_under_another_size() {
    let directory = tempfile::tempdir().unwrap();
    for (number, segment_bytes) in [64 << 10, 1 << 20, 64 << 10].into_iter().enumerate() {
        let deadline = Instant::now() + PATIENCE;
        let options = StoreOptions { segment_bytes, ..StoreOptions::default() };
        let (store, opened) = loop {
            match Store::open(directory.path(), options) {
                Ok(opened) => break opened,
                Err(StoreError::InUse(_)) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(opened, Opened::Sound, "{segment_bytes}");
        assert_eq!(store.keys("a").unwrap().len(), number);
        // Larger than a segment of the first size.
        let key = vec![u8::try_from(number).unwrap()];
        store.put_and_wait("a", key, vec![7; 200_000]).unwrap();
        assert_eq!(store.get("a", &[0]).unwrap().unwrap().len(), 200_000);
    }
}

#[test]
fn the_configuration_says_how_a_directory_is_written() {
    let overrides = [("commit_records", "7"), ("commit_ms", "9"), ("segment_bytes", "131072")]
        .map(|(key, value)| (format!("journal.{key}"), value.to_owned()));
    let config = Config::default().with_overrides(&overrides, &Kinds::default()).unwrap();
    let options = StoreOptions::new(&config.journal, DiskFaults::default());
    let commit = CommitPolicy { records_max: 7, wait: Duration::from_millis(9) };
    assert_eq!((options.commit, options.segment_bytes), (commit, 131_072));
}
