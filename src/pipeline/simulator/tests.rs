use proptest::prelude::*;

use super::*;
use crate::domain::{Class, Kind, flag, has};

fn config(symbols: usize, rows: u64) -> SimulatorConfig {
    let standard = SimulatorConfig::standard(symbols, &Instruments::default());
    SimulatorConfig { rows: Some(rows), ..standard }
}

fn round_trip(state: &SimulatorState) -> SimulatorState {
    let layout = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(state, layout).unwrap();
    assert!(bytes.len() < 100 + 300 * state.markets.len(), "{} bytes", bytes.len());
    bincode::serde::decode_from_slice(&bytes, layout).unwrap().0
}

#[test]
fn the_same_seed_makes_the_same_rows_and_another_seed_others() {
    let rows = |seed| Simulator::new(config(20, 5_000), seed).collect::<Vec<_>>();
    assert_eq!(rows(7), rows(7));
    assert_ne!(rows(7), rows(8));
    assert_eq!(rows(7).len(), 5_000);
}

#[test]
fn injected_rows_are_counted_by_kind_and_every_kind_comes() {
    let mut simulator = Simulator::new(config(20, 200_000), 1);
    let mut seen = [0; DirtKind::ALL.len()];
    for row in simulator.by_ref() {
        if let Some(dirt) = row.dirt {
            seen[dirt as usize] += 1;
        }
    }
    for (kind, count) in simulator.injected().iter() {
        assert_eq!(count, seen[kind as usize], "{kind:?}");
        assert!(count > 30, "{kind:?}: {count}");
    }
    let total = simulator.injected().total();
    assert!((800..2_000).contains(&total), "{total} dirty rows of 200,000");
}

#[test]
fn no_dirt_comes_when_none_is_wanted() {
    let clean = SimulatorConfig { dirt_per_million: 0, ..config(20, 20_000) };
    let mut simulator = Simulator::new(clean, 1);
    assert!(simulator.by_ref().all(|row| row.dirt.is_none()));
    assert_eq!(simulator.injected().total(), 0);
}

#[test]
fn a_symbol_does_not_depend_on_its_neighbours() {
    let rows_of = |symbols: usize| {
        let endless = SimulatorConfig { rows: None, ..config(symbols, 0) };
        let of_first = Simulator::new(endless, 3).filter(|row| row.symbol == 2);
        of_first.take(2_000).map(|row| (row.tick, row.dirt)).collect::<Vec<_>>()
    };
    assert_eq!(rows_of(3), rows_of(40));
}

#[test]
fn a_position_of_another_market_is_refused() {
    let state = Simulator::new(config(3, 1), 1).state().clone();
    let refused = Simulator::restore(config(4, 1), state).err();
    assert_eq!(refused, Some(SimulatorError::SymbolCount { found: 3, wanted: 4 }));
}

#[test]
fn clean_rows_are_plausible() {
    let mut simulator = Simulator::new(config(20, 300_000), 11);
    let symbols = simulator.symbols().to_vec();
    let mut newest = 0;
    let mut newest_of = vec![0; symbols.len()];
    let mut middle_of: Vec<Option<f64>> = vec![None; symbols.len()];
    let mut moved = vec![0u32; symbols.len()];
    for SimulatedRow { symbol, tick, dirt } in simulator.by_ref() {
        if dirt.is_some() {
            continue;
        }
        let instrument = symbols[symbol].instrument();
        assert!(tick.event_time >= newest && tick.event_time > newest_of[symbol], "{tick:?}");
        (newest, newest_of[symbol]) = (tick.event_time, tick.event_time);
        for price in [tick.price, tick.bid, tick.ask] {
            assert_eq!(price % instrument.tick_size.0, 0, "{instrument:?} {tick:?}");
        }
        for quantity in [tick.volume, tick.bid_quantity, tick.ask_quantity] {
            assert!(quantity >= 0 && quantity % instrument.lot.0 == 0, "{tick:?}");
        }
        let both = tick.has & (has::BID | has::ASK) == has::BID | has::ASK;
        if both {
            let spread = tick.ask - tick.bid;
            assert!(spread > 0 && spread < tick.bid / 500, "{instrument:?} {tick:?}");
        }
        let reference = if both { (tick.bid + tick.ask) / 2 } else { tick.price.max(tick.bid) };
        if reference > 0 {
            let reference = reference as f64;
            if let Some(before) = middle_of[symbol] {
                let change = (reference / before - 1.0).abs();
                assert!(change < 0.002, "{} moved by {change}", instrument.symbol);
                moved[symbol] += u32::from(change > 0.0);
            }
            middle_of[symbol] = Some(reference);
        }
    }
    assert!(moved.iter().all(|&moved| moved > 100), "{moved:?}");
}

#[test]
fn each_class_speaks_as_its_feeds_do() {
    let mut simulator = Simulator::new(config(20, 50_000), 2);
    let symbols = simulator.symbols().to_vec();
    let mut kinds = [[0u32; 3]; Class::ALL.len()];
    for row in simulator.by_ref() {
        let class = symbols[row.symbol].instrument().class;
        kinds[class.index()][usize::from(row.tick.kind)] += 1;
        let quote = row.tick.kind == Kind::Quote as u8;
        let received = row.tick.flags & flag::TIME_IS_RECEIVED != 0;
        assert_eq!(received, quote && class == Class::CryptoSpot);
        if class == Class::EquityUs && quote {
            assert!(row.tick.has & has::BID == 0 || row.tick.has & has::ASK == 0);
            assert_ne!(row.tick.venue_code, 0);
        }
    }
    for class in [Class::CryptoSpot, Class::CryptoLinear, Class::EquityUs] {
        let [trades, quotes, snapshots] = kinds[class.index()];
        assert!(trades > 100 && quotes > trades && snapshots == 0, "{class}");
    }
    assert!(kinds[Class::FuturesCn.index()][2] > 100);
    assert!(kinds[Class::Fx.index()][1] > 100);
}

#[test]
fn futures_trade_in_their_sessions_and_say_which_trading_day_it_is() {
    // Friday 2024-08-09, a minute before the day session ends; then the night's, which is Monday's.
    let start = Timestamp::from_nanos(1_723_186_740_000_000_000);
    let symbols = vec![config(4, 0).symbols[3].clone()];
    assert_eq!(symbols[0].instrument().class, Class::FuturesCn);
    let simulator = Simulator::new(SimulatorConfig { start, symbols, ..config(1, 30_000) }, 4);
    let mut hours: Vec<(u64, u32)> = vec![];
    let mut cumulative = 0;
    for SimulatedRow { tick, dirt, .. } in simulator {
        if dirt.is_some() {
            continue;
        }
        let hour = tick.event_time / 3_600_000_000_000 % 24;
        let begins = hours.last().is_none_or(|&(_, day)| day != tick.trading_day);
        let before = if begins { 0 } else { cumulative };
        assert_eq!(tick.cumulative, before + tick.volume);
        cumulative = tick.cumulative;
        if hours.last() != Some(&(hour, tick.trading_day)) {
            hours.push((hour, tick.trading_day));
        }
    }
    let monday = 20_240_812;
    assert_eq!(hours[..3], [(6, 20_240_809), (13, monday), (14, monday)]);
    assert_eq!(hours[3..5], [(1, monday), (2, monday)]);
}

#[test]
fn dirt_is_wrong_in_its_one_way() {
    let mut simulator = Simulator::new(config(20, 300_000), 5);
    let count = simulator.symbols().len();
    let mut last: Vec<RawTick> = vec![RawTick::default(); count];
    for SimulatedRow { symbol, tick, dirt } in simulator.by_ref() {
        let before = last[symbol];
        let Some(dirt) = dirt else {
            last[symbol] = tick;
            continue;
        };
        // Dirt never moves the frontier, and only a reversal is older than the row it follows.
        let reversed = dirt == DirtKind::TimeReversal;
        assert_eq!(tick.event_time < before.event_time, reversed);
        assert!(tick.event_time <= before.event_time);
        assert_eq!(tick == before, dirt == DirtKind::Duplicate);
        assert_eq!(tick.kind, before.kind);
        let both = tick.has & (has::BID | has::ASK) == has::BID | has::ASK;
        if both {
            assert_eq!(tick.bid >= tick.ask, dirt == DirtKind::Crossed, "{tick:?}");
            let wide = tick.ask - tick.bid > tick.bid / 10;
            assert_eq!(wide, dirt == DirtKind::SpreadTooWide, "{tick:?}");
        }
        assert_eq!(tick.volume < 0, dirt == DirtKind::VolumeNegative);
        if tick.has & has::PRICE != 0 {
            assert_eq!(tick.price == 0, dirt == DirtKind::PriceZero);
            let far = (tick.price - before.price).abs() > before.price / 4;
            let zero = dirt == DirtKind::PriceZero;
            assert_eq!(far, dirt == DirtKind::Outlier || zero, "{tick:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_restored_simulator_goes_on_with_the_same_rows(
        seed: u64,
        symbols in 1usize..30,
        cuts in prop::collection::vec(0usize..2_000, 1..4),
    ) {
        // Dirt as often as it may, so that cuts fall between a row and its dirt, too.
        let wanted = SimulatorConfig { dirt_per_million: 1_000_000, ..config(symbols, 20_000) };
        let mut straight = Simulator::new(wanted.clone(), seed);
        let mut cut = Simulator::new(wanted.clone(), seed);
        for rows in cuts {
            let expected: Vec<_> = straight.by_ref().take(rows).collect();
            let found: Vec<_> = cut.by_ref().take(rows).collect();
            prop_assert_eq!(expected, found);
            cut = Simulator::restore(wanted.clone(), round_trip(cut.state())).unwrap();
        }
        prop_assert!(straight.take(500).eq(cut.take(500)));
    }
}

/// Whatever the class: those of one symbol would come ten times and once a second otherwise.
#[test]
fn rows_come_at_the_rate_that_is_asked_for_in_and_out_of_sessions() {
    // Friday 2024-08-09, 18:00 UTC: no session anywhere in China.
    let start = Timestamp::from_nanos(1_723_226_400_000_000_000);
    let rows_per_second = Some(200);
    let market =
        SimulatorConfig { start, rows_per_second, dirt_per_million: 0, ..config(20, 80_000) };
    let mut counts = [0u32; 20];
    let mut last = 0;
    for row in Simulator::new(market, 6) {
        counts[row.symbol] += 1;
        last = row.tick.event_time;
    }
    // 80,000 rows of 20 symbols are 4,000 of each, in 20 s.
    assert!(counts.iter().all(|count| (3_700..4_300).contains(count)), "{counts:?}");
    let seconds = (last - start.as_nanos()) as f64 / 1e9;
    assert!((19.5..20.8).contains(&seconds), "{seconds}");
}

#[test]
fn the_time_of_the_next_row_is_known_before_it_comes() {
    let mut simulator = Simulator::new(config(20, 20_000), 8);
    while let Some(next) = simulator.next_time() {
        let Some(row) = simulator.next() else { break };
        assert!(row.tick.event_time <= next, "a row comes by then");
        assert!(row.dirt.is_some() || row.tick.event_time == next);
    }
}
