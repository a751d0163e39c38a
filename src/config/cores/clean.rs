//! `[clean]` as [`CleanRules`].

use super::{ByClass, parts};
use crate::config::Config;
use crate::config::schema::time_of_day;
use crate::domain::Class;
use crate::pipeline::clean::{ClassRules, CleanRules, OutlierRules, SessionRules, Verdict};

impl Config {
    /// What is dirt, class by class.
    pub fn clean_rules(&self) -> CleanRules {
        CleanRules {
            classes: Class::ALL.into_iter().map(|class| self.class_rules(class)).collect(),
        }
    }

    fn class_rules(&self, class: Class) -> ClassRules {
        let at = ByClass::new(&self.settings, "clean", class);
        let verdict = |name: &str| match at.text(name) {
            "accept" => Verdict::Accept,
            _ => Verdict::Reject,
        };
        // A percent is ten thousand parts per million, and 1e9 steps.
        let ppm = |name: &str| parts(at.nanos(name), 100_000);
        let milliseconds_ns = |name: &str| u64::try_from(at.nanos(name) / 1_000).unwrap_or(0);
        ClassRules {
            price_max: at.count("price_max"),
            spread_max_ppm: ppm("spread_max_percent"),
            one_sided: verdict("one_sided") == Verdict::Accept,
            crossed: verdict("crossed"),
            locked: verdict("locked"),
            zero_price_is_none: at.switch("zero_price_is_none"),
            zero_side_is_none: at.switch("zero_side_is_none"),
            suspicious: verdict("suspicious"),
            off_book: verdict("off_book"),
            ids_grow: at.switch("ids_grow"),
            identical_trade: verdict("identical_trade"),
            reversal_tolerance_ns: milliseconds_ns("reversal_tolerance_ms"),
            reversal_run_max: at.count_u32("reversal_run_max"),
            session: session(&at),
            outlier: OutlierRules {
                move_max_ppm: ppm("outlier_move_max_percent"),
                deviation_factor_milli: parts(at.nanos("outlier_deviations"), 1_000_000),
                window: at.count_u32("outlier_window"),
                count_min: at.count_u32("outlier_count_min"),
                confirm_count: at.count_u32("outlier_confirm_count"),
                gap_ns: milliseconds_ns("outlier_gap_ms"),
            },
        }
    }
}

/// The sessions of a class that says where its midnight is.
fn session(at: &ByClass<'_>) -> Option<SessionRules> {
    let offset_minutes = at.value("session_utc_offset_minutes").count()?;
    let second = |name: &str| time_of_day(at.text(name)).unwrap_or(0);
    Some(SessionRules {
        utc_offset_seconds: i32::try_from(offset_minutes * 60).unwrap_or(0),
        quiet_start: second("session_quiet_start"),
        quiet_end: second("session_quiet_end"),
        night_start: second("session_night_start"),
        night_end: second("session_night_end"),
        night_days_max: at.count_u32("session_night_days_max"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_rules_are_those_of_the_core() {
        let (rules, core) = (Config::default().clean_rules(), CleanRules::default());
        for class in Class::ALL {
            assert_eq!(rules.of(class), core.of(class), "{class}");
        }
    }

    #[test]
    fn a_class_has_its_own_rules_or_those_of_the_section() {
        let text = "[clean]\nspread_max_percent = 0.5\noutlier_move_max_percent = \"none\"\n\
                    [clean.class.fx]\ncrossed = \"accept\"\nreversal_tolerance_ms = 0.25";
        let rules = Config::parse(text, "my.toml").unwrap().clean_rules();
        let fx = rules.of(Class::Fx);
        assert_eq!((fx.spread_max_ppm, fx.crossed), (5_000, Verdict::Accept));
        assert_eq!(fx.reversal_tolerance_ns, 250_000);
        assert_eq!(rules.of(Class::CryptoSpot).outlier.move_max_ppm, 0);
        assert_eq!(rules.of(Class::CryptoSpot).crossed, Verdict::Reject);
    }
}
