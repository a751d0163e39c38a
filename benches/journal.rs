//! A source that cannot be read again, beside a bare `sled` loop that appends the same blocks.
//!
//! `cargo bench --bench journal [-- --quick]`
//!
//! One million rows in blocks of 256 are handed to the node decoded. It journals each block before
//! anything else sees it, then trades on it. The yardstick inserts the bytes of the same rows into
//! sled under the same settings and makes `journal.commit_records` blocks at a time durable, as the
//! committer does at most: a flush and an fsync. Both take turns; the ratio is taken within a round, and the median is printed.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

mod rows;

use std::fs::File;
use std::time::Instant;

use rows::{RATES, Ticks, config_of, median, run_node};
use tickwright::kit::{Store, StoreOptions};
use tickwright::node::NodeArguments;
use tickwright::source::feed::{Feed, FeedRows};
use tickwright_core::domain::RawTick;

const BLOCK_ROWS: usize = 256;

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let (count, rounds) = if is_quick { (200_000, 3) } else { (1_000_000, 7) };
    let ticks = Ticks::make(count);
    let raw: Vec<RawTick> = ticks.rows.iter().map(|tick| ticks.raw(tick, tick.symbol)).collect();
    let blocks: Vec<&[RawTick]> = raw.chunks(BLOCK_ROWS).collect();
    println!(
        "{count} rows of {} bytes in blocks of {BLOCK_ROWS}, {rounds} rounds\n",
        size_of::<RawTick>()
    );
    let (mut bare, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (limit, seconds) = (append(&blocks), run(&ticks, &blocks));
        bare.push(limit);
        ours.push(seconds);
        ratios.push(limit / seconds);
    }
    println!("  {:<36} {:>9} {:>8}", "", "Mrow/s", "ratio");
    for (name, seconds, ratio) in [
        ("bare sled append (the limit)", median(&mut bare), 1.0),
        ("journaled, then traded on", median(&mut ours), median(&mut ratios)),
    ] {
        println!("  {name:<36} {:>9.2} {ratio:>8.2}", count as f64 / seconds / 1e6);
    }
}

/// Seconds of the bare loop.
fn append(blocks: &[&[RawTick]]) -> f64 {
    let StoreOptions { commit, segment_bytes, .. } = StoreOptions::default();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let config = sled::Config::new().path(&path).segment_size(segment_bytes).flush_every_ms(None);
    let db = config.cache_capacity(8 << 20).open().unwrap();
    let tree = db.open_tree("journal/0").unwrap();
    let begun = Instant::now();
    let mut number = 0u64;
    for together in blocks.chunks(commit.records_max) {
        for block in together {
            let rows = bytemuck::cast_slice::<RawTick, u8>(block);
            tree.insert(number.to_be_bytes(), rows).unwrap();
            number += 1;
        }
        db.flush().unwrap();
        File::open(path.join("db")).unwrap().sync_all().unwrap();
    }
    begun.elapsed().as_secs_f64()
}

/// Seconds of the node.
fn run(ticks: &Ticks, blocks: &[&[RawTick]]) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let (sender, feed) = Feed::channel("rows in memory", 64);
    let first = FeedRows { symbols: ticks.symbols.clone(), rows: Vec::new() };
    let rest = blocks.iter().map(|block| FeedRows { symbols: Vec::new(), rows: block.to_vec() });
    let decoded: Vec<FeedRows> = std::iter::once(first).chain(rest).collect();
    let source = feed.clone();
    // A thread of its own, as whoever decodes a feed has one.
    let decoder = std::thread::spawn(move || {
        for block in decoded {
            assert!(sender.blocking_send(block), "nobody reads the feed any more");
        }
        feed.finish();
    });
    let store = Store::open(directory.path(), StoreOptions::default()).unwrap().0;
    let config = config_of(&RATES[0], BLOCK_ROWS);
    let arguments = NodeArguments::alone(config, vec![source.into()], store);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (seconds, report) = runtime.block_on(run_node(arguments));
    decoder.join().unwrap();
    assert_eq!(report.risk.counts.rows, ticks.rows.len() as u64, "every row came through");
    assert!(report.risk.counts.approved > 0, "a run that trades nothing proves nothing");
    seconds
}
