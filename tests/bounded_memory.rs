//! Memory does not grow with the length of the input.

mod common;

use common::Scratch;

/// Peak memory of a process that runs over `rows` rows, in bytes.
fn peak(rows: u64, journal: bool) -> f64 {
    let scratch = Scratch::new();
    // Small buffers, so that the shorter run fills them too.
    let settings = [
        format!("journal.enabled={journal}"),
        "journal.segment_bytes=262144".to_owned(),
        "stream.credit_ticks=1024".to_owned(),
        "stream.retained_ticks=1024".to_owned(),
        "stream.checkpoint_ticks=1024".to_owned(),
    ];
    let ticks = rows.to_string();
    let mut arguments = vec!["demo", "--ticks", &ticks];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting.as_str()]));
    let ended = scratch.run(&arguments);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let report = scratch.report();
    assert_eq!(report["ticks_in"].as_u64(), Some(rows));
    report["peak_rss_bytes"].as_f64().expect("the report has a peak")
}

#[test]
fn ten_times_the_rows_take_the_same_memory() {
    // The storage engine fills up for longer than a test may take, by ever less: eight million rows took
    // a hundredth more than four. docs/speed.md has ten times the rows at default sizes, within 20 %.
    for (journal, ratio_max) in [(false, 1.2), (true, 1.3)] {
        let (short, long) = (peak(300_000, journal), peak(3_000_000, journal));
        let ratio = long / short;
        println!("journal {journal}: {:.1} MB, then {:.1}: {ratio:.3}", short / 1e6, long / 1e6);
        assert!(ratio < ratio_max, "{short} bytes, then {long}");
        assert!(short > 1e6, "a peak of {short} bytes is no measurement");
    }
}
