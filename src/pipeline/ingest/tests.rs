use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::domain::Key;

const SECOND: u64 = 1_000_000_000;
/// A multiple of ten seconds.
const START: u64 = 1_700_000_000 * SECOND;

fn ingester() -> Ingester {
    Ingester::new(IngesterConfig::new(SourceId(2), Arc::new(Instruments::default())))
}

fn at(seconds: u64) -> RawTick {
    RawTick { event_time: START + seconds * SECOND, ..RawTick::default() }
}

/// Boundary rows as `-seconds`, the others as `seconds`.
fn shape(rows: &[RawTick]) -> Vec<i64> {
    rows.iter()
        .map(|row| {
            let seconds = i64::try_from((row.event_time - START) / SECOND).unwrap();
            if row.kind == Kind::Boundary as u8 { -seconds } else { seconds }
        })
        .collect()
}

fn shape_after(seconds: &[u64]) -> Vec<i64> {
    let mut ingester = ingester();
    for &seconds in seconds {
        ingester.push(at(seconds));
    }
    shape(&ingester.take_batch().rows)
}

#[test]
fn a_boundary_precedes_the_first_row_that_reaches_its_step() {
    assert_eq!(shape_after(&[5, 9, 10, 11, 20]), [5, 9, -10, 10, 11, -20, 20]);
    assert_eq!(shape_after(&[5, 25]), [5, -10, -20, 25]);
}

#[test]
fn no_boundary_precedes_the_first_row() {
    assert_eq!(shape_after(&[10, 11]), [10, 11]);
}

#[test]
fn over_a_gap_seven_steps_are_given_and_the_rest_skipped() {
    assert_eq!(shape_after(&[5, 1_001]), [5, -10, -20, -30, -40, -50, -60, -70, 1_001]);
    assert_eq!(shape_after(&[5, 1_001, 1_010]).last_chunk(), Some(&[-1_010, 1_010]));
}

#[test]
fn a_row_out_of_order_moves_neither_frontier_nor_boundaries() {
    assert_eq!(shape_after(&[5, 31, 8, 12, 39]), [5, -10, -20, -30, 31, 8, 12, 39]);
}

#[test]
fn an_idle_source_still_passes_boundaries() {
    let mut ingester = ingester();
    ingester.on_idle(Timestamp::from_nanos(START + 50 * SECOND));
    assert_eq!(ingester.batch_len(), 0, "nothing has begun");
    ingester.push(at(5));
    ingester.on_idle(Timestamp::from_nanos(START + 25 * SECOND));
    ingester.on_idle(Timestamp::from_nanos(START + 25 * SECOND));
    assert_eq!(shape(&ingester.take_batch().rows), [5, -10, -20]);
    assert_eq!(ingester.frontier().as_nanos(), START + 20 * SECOND);
}

#[test]
fn only_the_first_malformed_rows_are_kept_and_all_are_counted() {
    let mut ingester = ingester();
    for line in 1..=50 {
        ingester.malformed(*RowError::new(line, 1, "ts_ns", b"x", Problem::NotANumber));
    }
    assert_eq!(ingester.malformed_first().len(), Ingester::MALFORMED_KEPT);
    assert_eq!((ingester.counters().rows, ingester.counters().malformed), (50, 50));
}

#[test]
fn a_symbol_is_defined_in_the_batch_of_its_first_row() {
    let mut ingester = ingester();
    let push = |ingester: &mut Ingester, name: &[u8]| {
        let entry = ingester.intern(name).unwrap();
        ingester.push(RawTick { symbol: entry.id.0, ..at(1) });
    };
    push(&mut ingester, b"A.US");
    let first = ingester.take_batch();
    push(&mut ingester, b"B.US");
    push(&mut ingester, b"A.US");
    let second = ingester.take_batch();
    let names = |batch: &RawBatch| -> Vec<String> {
        batch.definitions.iter().map(|new| new.instrument.symbol.to_string()).collect()
    };
    assert_eq!((names(&first), names(&second)), (vec!["A.US".into()], vec!["B.US".into()]));
    assert_eq!(ingester.definitions().len(), 2);
}

/// Event times in whole seconds that mostly rise, with leaps and steps back.
fn times() -> impl Strategy<Value = Vec<u64>> {
    let step = prop_oneof![8 => 0i64..4, 1 => -30i64..0, 1 => 20i64..200];
    prop::collection::vec(step, 1..80).prop_map(|steps| {
        let mut now: i64 = 1_000;
        steps
            .into_iter()
            .map(|step| {
                now = (now + step).max(0);
                now.unsigned_abs()
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Invariants 1, 2 and 5: batches and restarts leave no trace in rows and keys.
    #[test]
    fn batches_and_restarts_leave_no_trace(
        times in times(),
        cuts in prop::collection::vec(any::<bool>(), 80),
    ) {
        let mut whole = ingester();
        let mut cut = ingester();
        let mut pieces: Vec<(Key, RawTick)> = Vec::new();
        let keep = |batch: RawBatch, pieces: &mut Vec<(Key, RawTick)>| {
            pieces.extend(batch.keyed().map(|(key, row)| (key, *row)));
        };
        for (&seconds, is_cut) in times.iter().zip(cuts) {
            whole.push(at(seconds));
            cut.push(at(seconds));
            if is_cut {
                keep(cut.take_batch(), &mut pieces);
                let snapshot = cut.snapshot(SourcePosition::default());
                let bytes =
                    bincode::serde::encode_to_vec(&snapshot, bincode::config::standard()).unwrap();
                let (snapshot, _): (IngesterSnapshot, _) =
                    bincode::serde::decode_from_slice(&bytes, bincode::config::standard()).unwrap();
                cut = Ingester::restore(cut.config().clone(), &snapshot);
            }
        }
        keep(cut.take_batch(), &mut pieces);
        let batch = whole.take_batch();
        let expected: Vec<(Key, RawTick)> = batch.keyed().map(|(key, row)| (key, *row)).collect();
        prop_assert_eq!(&pieces, &expected);
        prop_assert_eq!(whole.counters(), cut.counters());
        prop_assert!(expected.is_sorted_by_key(|(key, _)| *key));
        let sequences: Vec<u64> = expected.iter().map(|(key, _)| key.sequence).collect();
        let count = sequences.len() as u64;
        prop_assert_eq!(sequences, (1..=count).collect::<Vec<u64>>());
        // Invariant 2, read off the rows: a boundary is never below a frontier before it.
        let mut frontier = 0;
        for (_, row) in &expected {
            if row.kind == Kind::Boundary as u8 {
                prop_assert!(row.event_time > frontier);
                prop_assert_eq!(row.event_time % (10 * SECOND), 0);
            }
            frontier = frontier.max(row.event_time);
        }
    }
}
