//! How far a run is: a bar on a terminal, otherwise a plain line now and then.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::text;

/// Least time between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// How often a bar is drawn at most, a second.
const BAR_HERTZ: u8 = 8;

/// How far a run is. All counts are of the whole run, and only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgressSample {
    /// Input bytes read (of compressed files, compressed ones).
    pub bytes: u64,
    /// Rows read.
    pub rows: u64,
    /// Orders approved.
    pub orders: u64,
}

/// Shows how far a run is, on standard error, so that standard output keeps to results.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    /// Where the run stood at the first update: a resumed run did not read what came before.
    first: Option<ProgressSample>,
    newest: ProgressSample,
    total_bytes: u64,
    display: Display,
}

#[derive(Debug)]
enum Display {
    Bar(ProgressBar),
    Lines {
        /// When the last line was written.
        written: Option<Instant>,
    },
}

impl Progress {
    /// Begins. A `total_bytes` of zero means that nobody knows how much there is.
    pub fn new(is_terminal: bool, total_bytes: u64) -> Self {
        let display = if is_terminal {
            Display::Bar(bar(total_bytes))
        } else {
            Display::Lines { written: None }
        };
        let newest = ProgressSample::default();
        Self { started: Instant::now(), first: None, newest, total_bytes, display }
    }

    /// Shows `sample`, unless something was shown only just now.
    pub fn update(&mut self, sample: &ProgressSample) {
        self.newest = *sample;
        let first = *self.first.get_or_insert(*sample);
        let line = || status(sample, &first, self.started.elapsed());
        match &mut self.display {
            Display::Bar(bar) => {
                bar.set_position(sample.bytes);
                bar.set_message(line());
            }
            Display::Lines { written } => {
                let since = written.unwrap_or(self.started).elapsed();
                if since >= LINE_INTERVAL {
                    *written = Some(Instant::now());
                    eprintln!("{}{}", share(sample.bytes, self.total_bytes), line());
                }
            }
        }
    }

    /// Writes a line of its own, above the bar if there is one.
    pub fn line(&self, line: &str) {
        match &self.display {
            Display::Bar(bar) => bar.println(line),
            Display::Lines { .. } => eprintln!("{line}"),
        }
    }

    /// Takes the bar away. Plain lines end with one more, if there were any.
    pub fn finish(self) {
        match self.display {
            Display::Bar(bar) => bar.finish_and_clear(),
            Display::Lines { written: Some(_) } => {
                let first = self.first.unwrap_or_default();
                eprintln!(
                    "{}{}",
                    share(self.newest.bytes, self.total_bytes),
                    status(&self.newest, &first, self.started.elapsed())
                );
            }
            Display::Lines { written: None } => {}
        }
    }
}

/// How far a search is: a plain line now and then, on standard error.
#[derive(Debug, Default)]
pub struct SearchLine {
    written: Option<Instant>,
}

impl SearchLine {
    /// Says how far it is, unless it said so only just now.
    pub fn update(&mut self, finished: u64, trials_max: u64, best: Option<f64>) {
        let now = Instant::now();
        if self.written.is_some_and(|written| now.duration_since(written) < LINE_INTERVAL) {
            return;
        }
        self.written = Some(now);
        let best = best.map_or_else(String::new, |best| format!(", best score {best:.4}"));
        let (finished, trials_max) = (text::count(finished), text::count(trials_max));
        eprintln!("{finished} of {trials_max} trials{best}");
    }
}

fn bar(total_bytes: u64) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(BAR_HERTZ);
    if total_bytes == 0 {
        let style = ProgressStyle::with_template("{spinner} {elapsed}  {msg}");
        let bar = ProgressBar::with_draw_target(None, target);
        return bar.with_style(style.expect("the template is a constant and a test draws it"));
    }
    let style = ProgressStyle::with_template("{percent:>3} % [{wide_bar}] {msg}, {eta} left");
    let style = style.expect("the template is a constant and a test draws it");
    ProgressBar::with_draw_target(Some(total_bytes), target).with_style(style.progress_chars("=> "))
}

/// `62.5 %  `, if the whole is known.
fn share(bytes: u64, total_bytes: u64) -> String {
    if total_bytes == 0 {
        return String::new();
    }
    format!("{:>7}  ", text::percent(bytes.min(total_bytes), total_bytes))
}

/// `262,416 rows, 1,204,511 rows/s, 310 orders`.
fn status(sample: &ProgressSample, first: &ProgressSample, elapsed: Duration) -> String {
    let rows = u128::from(sample.rows.saturating_sub(first.rows));
    let millis = elapsed.as_millis().max(1);
    let speed = i128::try_from(rows * 1_000 / millis).unwrap_or(i128::MAX);
    format!(
        "{} rows, {} rows/s, {} orders",
        text::count(sample.rows),
        text::count(speed),
        text::count(sample.orders)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: ProgressSample = ProgressSample { bytes: 5, rows: 3_000, orders: 7 };

    #[test]
    fn speed_counts_only_what_this_run_read() {
        let resumed_at = ProgressSample { rows: 1_000, ..AT };
        assert_eq!(
            status(&AT, &resumed_at, Duration::from_millis(500)),
            "3,000 rows, 4,000 rows/s, 7 orders"
        );
    }

    #[test]
    fn the_share_is_shown_only_of_a_known_whole() {
        assert_eq!(share(5, 8), " 62.5 %  ");
        assert_eq!(share(9, 8), "100.0 %  ");
        assert_eq!(share(5, 0), "");
    }

    #[test]
    fn lines_come_two_seconds_apart() {
        let mut progress = Progress::new(false, 10);
        progress.update(&AT);
        assert!(matches!(progress.display, Display::Lines { written: None }));
        progress.started = Instant::now().checked_sub(LINE_INTERVAL).unwrap();
        progress.update(&AT);
        let Display::Lines { written: Some(first) } = progress.display else {
            panic!("a line was due")
        };
        progress.update(&AT);
        let Display::Lines { written } = progress.display else { panic!("lines stay lines") };
        assert_eq!(written, Some(first));
        progress.finish();
    }

    #[test]
    fn bars_can_be_drawn_with_and_without_a_whole() {
        for total_bytes in [0, 10] {
            let mut progress = Progress::new(true, total_bytes);
            progress.update(&AT);
            progress.finish();
        }
    }
}
