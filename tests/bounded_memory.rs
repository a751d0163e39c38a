//! Memory does not grow with the length of the input.

mod common;

use common::Scratch;

/// Peak memory of a process that runs over `rows` rows, in bytes.
fn peak(rows: u64, journal: &str) -> f64 {
    let scratch = Scratch::new();
    let journal = format!("journal.enabled={journal}");
    // Small buffers, so that the shorter run fills them too: streams, and the curves of the report.
    let sizes =
        ["credit", "retained", "checkpoint"].map(|name| format!("stream.{name}_ticks=4096"));
    let [credit, retained, checkpoint] = &sizes;
    let curves = ["curve", "chart"].map(|name| format!("telemetry.{name}_points_max=100"));
    let [curve, chart] = &curves;
    let ticks = rows.to_string();
    let mut words = vec!["demo", "--ticks", &ticks];
    for setting in [&journal, credit, retained, checkpoint, curve, chart] {
        words.extend(["--set", setting]);
    }
    let ended = scratch.run(&words);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let report = scratch.report();
    assert_eq!(report["ticks_in"].as_u64(), Some(rows));
    report["peak_rss_bytes"].as_f64().expect("the report has a peak")
}

fn assert_bounded(journal: &str) {
    // The shorter run fills every buffer and stores several checkpoints.
    let (short, long) = (peak(250_000, journal), peak(2_500_000, journal));
    let ratio = long / short;
    println!("{:.1} MB, then {:.1} MB: {ratio:.3}", short / 1e6, long / 1e6);
    // Without the bound it was 5.7.
    assert!(ratio < 1.2, "{short} bytes, then {long}");
    assert!(short > 1e6, "a peak of {short} bytes is no measurement");
}

#[test]
fn ten_times_the_rows_take_the_same_memory() {
    assert_bounded("false");
}
