//! The summary of a run for a terminal of 80 columns.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;

use tickwright_core::backtest::performance::{Performance, SymbolPerformance};
use tickwright_core::backtest::report::{MoneyText, ProfitAndLoss, RunReport};
use tickwright_core::domain::Money;

use super::out_of_sample;
use super::text::{
    self, bytes, count, float, micros, money, number, percent, plain, shorten, time,
};

/// Most positions, currencies and malformed rows listed; the files have them all.
const LINES_MAX: usize = 10;

/// How text may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether escape codes are welcome.
    pub colour: bool,
}

impl Style {
    /// Plain text.
    pub const PLAIN: Self = Self { colour: false };

    /// What standard output can show: colour on a terminal, unless `NO_COLOR` is set to anything
    /// (<https://no-color.org>) or the terminal is a dumb one.
    pub fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { colour: std::io::stdout().is_terminal() && !refused && !dumb }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub(super) fn heading(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// An amount, padded, in red below zero.
    fn amount(self, text: &str, width: usize) -> String {
        let padded = format!("{text:>width$}");
        if text.starts_with('-') { self.paint("31", &padded) } else { padded }
    }
}

/// The summary of `report`; `files` says what else was left behind, and where.
pub fn summary(report: &RunReport, files: &[(&str, &Path)], style: Style) -> String {
    let mut page = Page { text: String::new(), style };
    page.head(report);
    page.rows(report);
    page.orders(report);
    page.profit(report);
    page.positions(report);
    page.changes(report);
    page.out_of_sample(report);
    page.speed(report);
    page.faults(report);
    page.end(report, files);
    page.text
}

struct Page {
    text: String,
    style: Style,
}

impl Page {
    fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref().trim_end());
        self.text.push('\n');
    }

    /// A section's title, after an empty line.
    fn title(&mut self, title: &str) {
        self.text.push('\n');
        let title = self.style.heading(title);
        self.line(title);
    }

    /// `  name ........ 1,234   5.6 %`
    fn count(&mut self, indent: usize, name: &str, value: u64, whole: u64) {
        let name = format!("{:indent$}{}", "", shorten(name, 34 - indent));
        self.line(format!("{name:<34}{:>14}{:>11}", count(value), percent(value, whole)));
    }

    /// Counts by reason, largest first.
    fn reasons(&mut self, reasons: &BTreeMap<String, u64>, whole: u64) {
        for (reason, value) in largest_first(reasons) {
            self.count(4, reason, value, whole);
        }
    }

    /// `  name ........ value`
    fn fact(&mut self, name: &str, value: &str) {
        self.line(format!("  {name:<14}{value}"));
    }

    fn head(&mut self, report: &RunReport) {
        let nodes = if report.nodes == 1 { "node" } else { "nodes" };
        let resumed = if report.resumed { ", resumed" } else { "" };
        let title = self.style.heading(&format!("Tickwright {}", plain(&report.version)));
        self.line(format!(
            "{title}: {} rows in {:.2} s, {} {nodes}, seed {}{resumed}",
            count(report.ticks_in),
            report.duration_seconds,
            report.nodes,
            report.seed,
        ));
        if let (Some(from), Some(to)) = (report.data_from_ns, report.data_to_ns) {
            self.line(format!("Market time {} to {} UTC", time(from), time(to)));
        }
    }

    fn rows(&mut self, report: &RunReport) {
        self.title("Rows");
        for source in report.sources.iter().filter(|_| report.sources.len() > 1) {
            let name = Path::new(&source.name).file_name().map(|name| name.to_string_lossy());
            let name = name.as_deref().unwrap_or(&source.name);
            self.count(2, name, source.rows, report.ticks_in);
        }
        self.count(2, "in", report.ticks_in, 0);
        self.count(2, "clean", report.ticks_clean, report.ticks_in);
        self.count(2, "rejected", report.rejected_total(), report.ticks_in);
        self.reasons(&report.ticks_rejected, report.ticks_in);
        for live in report.sources.iter().filter_map(|source| source.live) {
            self.line(format!(
                "  live: {} connections, {} gaps ({} missing), {} repeated, {} garbage frames",
                count(live.connections),
                count(live.gaps),
                count(live.missing),
                count(live.repeated),
                count(live.garbage),
            ));
        }
        let malformed = report.sources.iter().flat_map(|source| {
            source.malformed_rows.iter().map(move |row| (source.name.as_str(), row))
        });
        let malformed: Vec<_> = malformed.collect();
        let total: u64 = report.sources.iter().map(|source| source.malformed).sum();
        for (name, row) in malformed.iter().take(LINES_MAX) {
            let column =
                if row.column.is_empty() { String::new() } else { format!("{} ", row.column) };
            self.line(format!("    {}:{}: {column}{}", plain(name), row.line, plain(&row.problem)));
        }
        let shown = malformed.len().min(LINES_MAX) as u64;
        if total > shown && shown > 0 {
            self.line(format!("    and {} more malformed rows", count(total - shown)));
        }
    }

    fn orders(&mut self, report: &RunReport) {
        let orders = &report.orders;
        let denied = orders.rejected.values().sum();
        self.title("Orders");
        self.count(2, "factor values", report.factors, 0);
        self.count(2, "signals", report.signals, 0);
        self.count(2, "denied by risk", denied, report.signals);
        self.reasons(&orders.rejected, report.signals);
        self.count(2, "approved", orders.approved, report.signals);
        self.count(2, "placed at a broker", orders.placed, orders.approved);
        for broker in report.brokers.iter().filter(|_| report.brokers.len() > 1) {
            self.count(4, &broker.name, broker.placed, orders.approved);
            for (reason, value) in largest_first(&broker.refused) {
                self.count(6, &format!("refused: {reason}"), value, 0);
            }
        }
        self.count(2, "filled whole", orders.filled, orders.placed);
        if orders.unknown > 0 {
            self.count(2, "outcome unknown", orders.unknown, orders.placed);
        }
        self.count(2, "fills", report.fills, 0);
    }

    fn profit(&mut self, report: &RunReport) {
        let currencies: Vec<&String> = report.pnl.keys().collect();
        if currencies.is_empty() {
            return;
        }
        let style = self.style;
        let title = format!(
            "{:<8}{:>16}{:>16}{:>13}{:>16}{:>9}",
            "Profit", "realised", "unrealised", "fees", "net", "wins"
        );
        self.title(&title);
        for &currency in currencies.iter().take(LINES_MAX) {
            let ProfitAndLoss { realised, unrealised } = report.pnl[currency];
            let fees = report.fees.get(currency).copied().unwrap_or_default().0;
            let net = realised.0 + unrealised.0 - fees;
            let equity = report.equity.get(currency);
            let wins = equity.and_then(|equity| equity.performance.win_rate);
            let wins = wins.map_or_else(|| "-".to_owned(), |rate| format!("{:.1} %", rate * 100.0));
            let largest = [realised.0, unrealised.0, fees].map(Money::abs).into_iter().max();
            let decimals = text::decimals_for(largest.unwrap_or_default());
            self.line(format!(
                "  {:<6}{}{}{:>13}{}{wins:>9}",
                shorten(currency, 6),
                style.amount(&shorten(&money(realised.0, decimals), 15), 16),
                style.amount(&shorten(&money(unrealised.0, decimals), 15), 16),
                shorten(&money(fees, decimals), 12),
                style.amount(&shorten(&money(net, decimals), 15), 16),
            ));
        }
        self.more(currencies.len(), "currencies");
        for (asset, MoneyText(paid)) in report.fees_elsewhere.iter().take(LINES_MAX) {
            let decimals = text::decimals_for(paid.abs());
            let paid = shorten(&money(*paid, decimals), 15);
            self.line(format!(
                "  {:<6}{paid:>16} of fees, in none of the above",
                shorten(asset, 6)
            ));
        }
        self.more(report.fees_elsewhere.len(), "assets");
        self.performance(report);
    }

    fn performance(&mut self, report: &RunReport) {
        for (currency, equity) in report.equity.iter().take(LINES_MAX) {
            let measured = &equity.performance;
            if measured.returns == 0 {
                continue;
            }
            let MoneyText(fall) = measured.drawdown_max;
            let at = measured.drawdown_max_at_ns;
            let sharpe = match (measured.sharpe_annualised, measured.sharpe) {
                (Some(sharpe), _) => format!(", Sharpe {sharpe:.2} a year"),
                (None, Some(sharpe)) => format!(", Sharpe {sharpe:.3} a sample"),
                (None, None) => String::new(),
            };
            self.line(format!(
                "  {:<6}drawdown {}{}{sharpe}",
                shorten(currency, 6),
                money(fall, text::decimals_for(fall)),
                at.map_or_else(String::new, |at| format!(" at {}", time(at))),
            ));
            if measured.turnover.0 > Money::ZERO {
                self.line(format!("        {}", exposure(measured)));
            }
        }
        self.symbols(report);
    }

    /// How each symbol did, those that moved most money first.
    fn symbols(&mut self, report: &RunReport) {
        if report.performance.is_empty() {
            return;
        }
        let style = self.style;
        self.title(&format!(
            "{:<22}{:>14}{:>10}{:>9}{:>9}{:>14}",
            "Symbols", "net", "rate", "Sharpe", "wins", "drawdown"
        ));
        let mut symbols: Vec<_> = report.performance.iter().collect();
        symbols.sort_by_key(|measured| {
            (std::cmp::Reverse(measured.performance.turnover), measured.symbol.as_str())
        });
        for SymbolPerformance { symbol, performance, .. } in symbols.iter().take(LINES_MAX) {
            let MoneyText(net) = performance.net;
            let decimals = text::decimals_for(net.abs());
            let sharpe = performance.sharpe_annualised.or(performance.sharpe);
            self.line(format!(
                "  {:<20}{}{:>10}{:>9}{:>9}{:>14}",
                shorten(symbol, 19),
                style.amount(&shorten(&money(net, decimals), 13), 14),
                share(performance.profit_rate),
                sharpe.map_or_else(|| "-".to_owned(), |sharpe| format!("{sharpe:.3}")),
                share(performance.win_rate),
                shorten(&money(performance.drawdown_max.0, decimals), 13),
            ));
        }
        self.more(symbols.len(), "symbols");
    }

    fn positions(&mut self, report: &RunReport) {
        let mut held: Vec<_> =
            report.positions.iter().filter(|position| position.quantity != "0").collect();
        if held.is_empty() {
            return;
        }
        held.sort_by_key(|position| (std::cmp::Reverse(position.value), position.symbol.as_str()));
        let style = self.style;
        self.title(&format!(
            "{:<24}{:>12}{:>12}{:>16}{:>16}",
            "Positions", "quantity", "average", "value", "unrealised"
        ));
        for position in held.iter().take(LINES_MAX) {
            let MoneyText(value) = position.value;
            let decimals = text::decimals_for(value.max(position.unrealised.0.abs()));
            let unrealised = money(position.unrealised.0, decimals);
            self.line(format!(
                "  {:<22}{:>12}{:>12}{:>16}{}",
                shorten(&position.symbol, 21),
                shorten(&number(&position.quantity), 11),
                shorten(&position.average_price.map_or_else(|| "-".to_owned(), float), 11),
                shorten(&money(value, decimals), 15),
                style.amount(&shorten(&unrealised, 15), 16),
            ));
        }
        self.more(held.len(), "positions");
    }

    fn changes(&mut self, report: &RunReport) {
        let changes = &report.parameter_changes;
        if changes.is_empty() {
            return;
        }
        self.title("Parameters changed");
        for change in changes.iter().take(LINES_MAX) {
            let value = |(name, value): (&String, &f64)| format!("{name} {}", float(*value));
            let values: Vec<String> = change.parameters.iter().map(value).collect();
            self.line(format!(
                "  from {}  {:<16}{}",
                time(change.from_ns),
                shorten(&change.strategy, 15),
                shorten(&values.join(", "), 36),
            ));
            let reason = [&change.by, &change.why].into_iter().filter(|text| !text.is_empty());
            let reason: Vec<&str> = reason.map(String::as_str).collect();
            if !reason.is_empty() {
                self.line(format!("    {}", shorten(&plain(&reason.join(": ")), 75)));
            }
        }
        self.more(changes.len(), "changes");
    }

    fn out_of_sample(&mut self, report: &RunReport) {
        let Some(found) = &report.out_of_sample else { return };
        self.title(&out_of_sample::title());
        for line in out_of_sample::lines(found, self.style) {
            self.line(line);
        }
    }

    fn speed(&mut self, report: &RunReport) {
        self.title("Speed");
        self.fact("rows", &format!("{} a second", text::whole(report.ticks_per_second)));
        let latency = &report.latency_us;
        if latency.max > 0.0 {
            let [half, most, nearly_all, all] =
                [latency.p50, latency.p99, latency.p999, latency.max].map(micros);
            let line = format!("p50 {half}, p99 {most}, p99.9 {nearly_all}, max {all}");
            self.fact("row to order", &line);
        }
        self.fact("memory", &format!("{} at most", bytes(report.peak_rss_bytes)));
        for (node, peak) in report.rss_by_node.iter().filter(|_| report.rss_by_node.len() > 1) {
            self.line(format!("    {:<12}{}", shorten(node, 30), bytes(*peak)));
        }
    }

    fn faults(&mut self, report: &RunReport) {
        if report.restarts == 0 && report.failovers == 0 && report.chaos.is_empty() {
            return;
        }
        self.title("Faults");
        self.fact("restarts", &count(report.restarts));
        for (actor, value) in largest_first(&report.restarts_by_actor) {
            self.line(format!("    {:<12}{}", shorten(actor, 60), count(value)));
        }
        self.fact("failovers", &count(report.failovers));
        for fault in &report.chaos {
            let outcome =
                if fault.fired { self.style.good("fired") } else { self.style.bad("NOT fired") };
            self.line(format!("  {:<40}{outcome}", shorten(&fault.spec, 39)));
        }
    }

    fn end(&mut self, report: &RunReport, files: &[(&str, &Path)]) {
        self.title("Result");
        let violations = report.violations();
        for violation in &violations {
            let line = self.style.bad(&format!("BROKEN: {}", plain(&violation.to_string())));
            self.line(format!("  {line}"));
        }
        if violations.is_empty() {
            let kept = self.style.good("no row lost, no order twice");
            self.fact("promises", &kept);
        }
        self.fact("order digest", &shorten(&report.order_digest, 64));
        for (name, path) in files {
            self.fact(name, &path.display().to_string());
        }
    }

    fn more(&mut self, total: usize, what: &str) {
        if total > LINES_MAX {
            self.line(format!("  and {} more {what}", total - LINES_MAX));
        }
    }
}

/// `12.3 %`, or `-`.
fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// What was at work, and what it earned.
fn exposure(measured: &Performance) -> String {
    let sortino = match (measured.sortino_annualised, measured.sortino) {
        (Some(sortino), _) => format!(", Sortino {sortino:.2} a year"),
        (None, Some(sortino)) => format!(", Sortino {sortino:.3} a sample"),
        (None, None) => String::new(),
    };
    let total = measured
        .total_return
        .map_or_else(String::new, |total| format!(", total return {:.2} %", total * 100.0));
    format!(
        "held {} of the time, turnover {}, profit rate {}{total}{sortino}",
        share(measured.exposure),
        money(measured.turnover.0, 0),
        share(measured.profit_rate),
    )
}

fn largest_first(counts: &BTreeMap<String, u64>) -> Vec<(&str, u64)> {
    let mut counts: Vec<_> = counts.iter().map(|(name, &value)| (name.as_str(), value)).collect();
    counts.sort_by_key(|&(name, value)| (std::cmp::Reverse(value), name));
    counts
}
