//! `[tuner]`: which settings are changed when that helps, and what help is.

use super::settings::Settings;
use crate::domain::Span;
use crate::tuner::{Knob, TunerConfig};

/// `[tuner]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TunerSection {
    /// Whether settings are changed at all.
    pub is_enabled: bool,
    /// How long one window is.
    pub window: Span,
    /// How trials go.
    pub config: TunerConfig,
    /// Settings that may be changed, and the most that each may become.
    pub at_most: Vec<(&'static str, u64)>,
}

/// Each setting that may be changed, the key of its bound here, and whether it must not be more than what is
/// retained of a stream.
const BOUNDED: [(&str, &str, bool); 4] = [
    ("pipeline.batch_ticks", "batch_ticks_max", true),
    ("stream.credit_ticks", "credit_ticks_max", true),
    ("stream.checkpoint_ticks", "checkpoint_ticks_max", true),
    ("journal.commit_ms", "commit_ms_max", false),
];

impl TunerSection {
    /// The settings with their bounds, each as `values` has it.
    pub fn knobs(&self, values: &[(String, i64)]) -> Vec<Knob> {
        let knob = |&(key, most): &(&'static str, u64)| {
            let &(_, value) = values.iter().find(|(name, _)| name == key)?;
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            Some(Knob { name: key.to_owned(), min: value.min(1), max: most.max(value), value })
        };
        self.at_most.iter().filter_map(knob).collect()
    }
}

pub(super) fn section(s: &Settings) -> TunerSection {
    let whole = |key| usize::try_from(s.count(&["tuner", key])).unwrap_or(usize::MAX);
    #[expect(clippy::cast_precision_loss, reason = "a setting of few digits")]
    let share = |key| s.amount(&["tuner", key]) as f64 / 1e9;
    let window = s.span_ms(&["tuner", "window_ms"]);
    let retained = s.count(&["stream", "retained_ticks"]);
    let at_most = |(key, bound, is_retained): (&'static str, &str, bool)| {
        let bound = s.count(&["tuner", bound]);
        (key, if is_retained { bound.min(retained) } else { bound })
    };
    let cool_down = s.span_ms(&["tuner", "cool_down_ms"]);
    let windows = cool_down.as_nanos() / window.as_nanos().max(1);
    TunerSection {
        is_enabled: s.switch(&["tuner", "enabled"]),
        window,
        at_most: BOUNDED.map(at_most).into(),
        config: TunerConfig {
            windows: whole("stretch_windows"),
            settling_windows: whole("settling_windows"),
            window_us: window.as_nanos() as f64 / 1e3,
            chance_max: share("chance_max"),
            gain_min: share("gain_min"),
            p99_max_us: s.count(&["tuner", "p99_max_us"]) as f64,
            cool_down_windows: u64::try_from(windows).unwrap_or(u64::MAX).max(1),
        },
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ValueKind, live_keys};

    #[test]
    fn what_is_written_is_what_the_tuner_goes_by() {
        assert!(!Config::default().tuner.is_enabled);
        let text = "[tuner]\nenabled = true\nwindow_ms = 250\ncool_down_ms = 60000\n\
                    chance_max = 0.01\ngain_min = 0.1\np99_max_us = 500\n";
        let tuner = Config::parse(text, "my.toml").unwrap().tuner;
        assert!(tuner.is_enabled);
        assert_eq!(tuner.config.cool_down_windows, 240);
        let config = &tuner.config;
        assert_eq!((config.chance_max, config.gain_min, config.p99_max_us), (0.01, 0.1, 500.0));
        let knobs = tuner.knobs(&[("stream.credit_ticks".into(), 200_000)]);
        // What an operator has set is no less than it may be.
        assert_eq!((knobs.len(), knobs[0].max), (1, 200_000));
        // What no configuration may be is not tried: a credit is within what is retained.
        let most = |key| tuner.at_most.iter().find(|(of, _)| *of == key).map(|(_, most)| *most);
        assert_eq!(most("stream.credit_ticks"), Some(65_536));
        assert_eq!(most("pipeline.batch_ticks"), Some(8_192));
        let wrong = Config::parse("[tuner]\nchance_max = 2\n", "my.toml").unwrap_err().to_string();
        assert!(wrong.contains("tuner.chance_max"), "{wrong}");
    }

    #[test]
    fn intervals_of_snapshots_and_commits_are_tuned_beside_blocks_and_credit() {
        let config = Config::default();
        let standing = |path: &str| i64::try_from(config.count(path).unwrap_or(0)).unwrap();
        let values: Vec<(String, i64)> =
            live_keys().map(|spec| (spec.path.to_owned(), standing(spec.path))).collect();
        let knobs = config.tuner.knobs(&values);
        let names: Vec<&str> = knobs.iter().map(|knob| knob.name.as_str()).collect();
        let expected = [
            "pipeline.batch_ticks",
            "stream.credit_ticks",
            "stream.checkpoint_ticks",
            "journal.commit_ms",
        ];
        assert_eq!(names, expected);
        for knob in knobs {
            let spec = live_keys().find(|spec| spec.path == knob.name).unwrap();
            let ValueKind::Count { min, max } = spec.kind else { panic!("{}", spec.path) };
            assert!(min <= knob.min && knob.min < knob.max && knob.max <= max, "{knob:?}");
            assert!((knob.min..=knob.max).contains(&standing(spec.path)), "{knob:?}");
            assert_eq!(knob.value, standing(spec.path));
        }
    }
}
