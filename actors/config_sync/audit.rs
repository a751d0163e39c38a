//! The chain of writes that a node was asked for, on its disk.

use std::collections::VecDeque;

use serde_json::{Value as Json, json};
use tickwright_core::config_sync::{AuditChain, AuditRecord};

use crate::kit::wire as records;
use crate::kit::{Store, StoreError};

/// The chain, by number.
const AUDIT: &str = "audit";

/// Writes of which it is kept who asked for them.
const AUDIT_MAX: u64 = 65_536;

/// Most of them in one answer.
const ANSWER_MAX: usize = 1_000;

/// The last write that was asked for here.
pub(super) fn last(store: &Store) -> Result<Option<AuditRecord>, StoreError> {
    let keys = store.keys(AUDIT)?;
    let Some(key) = keys.last() else { return Ok(None) };
    store.get(AUDIT, key)?.map(|bytes| read(store, key, &bytes)).transpose()
}

/// Keeps `record`, and lets go of one that is too old.
pub(super) fn put(store: &Store, record: &AuditRecord) {
    let key = record.number.to_be_bytes().to_vec();
    // Whoever cannot write hears of it by the mark behind.
    store.put(AUDIT, key, records::encode(record), Box::new(|_| {}));
    if let Some(old) = record.number.checked_sub(AUDIT_MAX) {
        store.remove(AUDIT, vec![old.to_be_bytes().to_vec()]);
    }
}

fn read(store: &Store, key: &[u8], bytes: &[u8]) -> Result<AuditRecord, StoreError> {
    let record = records::decode(bytes);
    record.map_err(|error| store.record_error(AUDIT, key, &error.to_string()))
}

/// The last `count` writes, and whether the chain of all that are kept is whole. It takes a while; writes may go on
/// meanwhile.
pub(super) fn check(store: &Store, count: usize) -> Result<Json, StoreError> {
    let count = count.min(ANSWER_MAX);
    let mut chain = AuditChain::new(AUDIT_MAX);
    let mut shown: VecDeque<AuditRecord> = VecDeque::new();
    let mut from = Vec::new();
    while let Some((key, bytes)) = store.next(AUDIT, &from)? {
        let record = read(store, &key, &bytes)?;
        // The oldest go while this reads.
        if let Some(last) = chain.last().filter(|last| last.number + 1 < record.number)
            && store.get(AUDIT, &last.number.to_be_bytes())?.is_none()
        {
            chain.begin_anew();
        }
        chain.add(&record);
        if count > 0 {
            if shown.len() == count {
                shown.pop_front();
            }
            shown.push_back(record);
        }
        from = [&key[..], &[0]].concat();
    }
    let hex = |hash: &[u8; 32]| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let rows = shown.iter().map(|record| {
        let mut row = json!(record.entry);
        row["number"] = record.number.into();
        row["hash"] = hex(&record.hash).into();
        row
    });
    Ok(json!({
        "first_broken": chain.first_broken(),
        "verified": chain.count(),
        "writes": rows.collect::<Json>(),
    }))
}

#[cfg(test)]
mod tests {
    use tickwright_core::config_sync::AuditEntry;

    use super::*;

    fn store_with(numbers: u64) -> (Store, Vec<AuditRecord>) {
        let store = Store::in_memory();
        let mut chain: Vec<AuditRecord> = Vec::new();
        for number in 1..=numbers {
            let entry = AuditEntry {
                at_ms: number,
                author: "ann".into(),
                key: "user.k".into(),
                value: Some(number.to_string()),
                dot: format!("a.1:{number}"),
            };
            let record = AuditRecord::after(chain.last(), entry);
            put(&store, &record);
            chain.push(record);
        }
        (store, chain)
    }

    fn put_over(store: &Store, record: &AuditRecord) {
        let key = record.number.to_be_bytes().to_vec();
        store.put(AUDIT, key, records::encode(record), Box::new(|_| {}));
    }

    #[test]
    fn the_whole_chain_is_checked_however_few_are_shown() {
        let (store, chain) = store_with(3_000);
        let answer = check(&store, 2).unwrap();
        assert_eq!((&answer["first_broken"], &answer["verified"]), (&Json::Null, &3_000.into()));
        assert_eq!(answer["writes"].as_array().unwrap().len(), 2);
        assert_eq!(answer["writes"][1]["number"], 3_000);
        let mut changed = chain[6].clone();
        changed.entry.author = "bob".into();
        put_over(&store, &changed);
        assert_eq!(check(&store, 2).unwrap()["first_broken"], 7);
        put_over(&store, &chain[6]);
        store.remove(AUDIT, vec![1u64.to_be_bytes().to_vec()]);
        assert_eq!(check(&store, 0).unwrap()["first_broken"], 2, "the first one is gone");
    }

    #[test]
    fn the_oldest_go_and_what_is_left_is_whole() {
        let (store, _) = store_with(AUDIT_MAX + 3);
        let answer = check(&store, 1).unwrap();
        assert_eq!(
            (&answer["first_broken"], &answer["verified"]),
            (&Json::Null, &AUDIT_MAX.into())
        );
        assert_eq!(last(&store).unwrap().unwrap().number, AUDIT_MAX + 3);
    }
}
