//! The one table of keys: what each is called, what it may hold, and whether it can change an answer.
//!
//! Default values and explanations stand in `cluster.toml`, which is compiled in. A test holds the
//! two together: no key without a default or an example, none that this table lacks.

use super::allocation::parse_weight;
use crate::cluster::{Assignment, Balancing};
use crate::domain::{Class, FactorSpec, Symbol};

/// What a key may hold.
#[derive(Clone, Copy, Debug)]
pub enum ValueKind {
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Count {
        /// Smallest allowed.
        min: i64,
        /// Largest allowed.
        max: i64,
    },
    /// An exact decimal with at most nine decimals; the bounds are in steps of 1e-9.
    Amount {
        /// Smallest allowed.
        min: i64,
        /// Largest allowed.
        max: i64,
        /// Smallest difference between two values, in the same steps.
        step: i64,
    },
    /// Any finite number, as a float.
    Number,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// Text of a certain form.
    Text(Form),
    /// A list of texts of a certain form.
    List(Form),
}

/// A form of text.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The form, for messages: `a host and port such as 127.0.0.1:7400`.
    pub expects: &'static str,
    /// Refuses text that is not of the form, with the reason.
    pub check: fn(&str) -> Result<(), String>,
}

/// One key, or one family of keys: `<class>` and its kin in the path stand for a name.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// The dotted path.
    pub path: &'static str,
    /// What it may hold.
    pub kind: ValueKind,
    /// The unit, when it is not text: `ticks`, `ms`.
    pub unit: &'static str,
    /// Whether `"none"` is allowed, meaning no limit.
    pub optional: bool,
    /// Whether another value can change an order, a fill or a count of the report. A data directory
    /// can be resumed only when all of these are as they were.
    pub changes_answer: bool,
    /// Whether it may change while nodes run, by `tickwright ctl config set`.
    pub live: bool,
}

impl KeySpec {
    const fn new(path: &'static str, kind: ValueKind, unit: &'static str) -> Self {
        Self { path, kind, unit, optional: false, changes_answer: true, live: false }
    }

    const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Marks a key that may change how fast or how safely the answer is reached, never the answer.
    const fn operational(mut self) -> Self {
        self.changes_answer = false;
        self
    }

    /// Marks a key that may change while nodes run: whoever goes by it takes it from `kit::LiveValues`.
    const fn live(mut self) -> Self {
        self.live = true;
        self
    }

    /// Limits how finely an amount can be given.
    const fn with_decimals(mut self, decimals: u8) -> Self {
        if let ValueKind::Amount { min, max, .. } = self.kind {
            let step = crate::domain::decimal::POW10[(9 - decimals) as usize];
            self.kind = ValueKind::Amount { min, max, step };
        }
        self
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.path.split('.')
    }
}

const fn count(path: &'static str, unit: &'static str, min: i64, max: i64) -> KeySpec {
    KeySpec::new(path, ValueKind::Count { min, max }, unit)
}

/// A decimal between whole bounds.
const fn amount(path: &'static str, unit: &'static str, min: i64, max: i64) -> KeySpec {
    const NANOS: i64 = 1_000_000_000;
    KeySpec::new(path, ValueKind::Amount { min: min * NANOS, max: max * NANOS, step: 1 }, unit)
}

/// A decimal above zero.
const fn positive_amount(path: &'static str, unit: &'static str) -> KeySpec {
    KeySpec::new(path, ValueKind::Amount { min: 1, max: AMOUNT_MAX * 1_000_000_000, step: 1 }, unit)
}

/// A share in percent, kept as a fraction with nine decimals.
const fn percent(path: &'static str) -> KeySpec {
    amount(path, "percent", 0, 100).with_decimals(7)
}

const fn switch(path: &'static str) -> KeySpec {
    KeySpec::new(path, ValueKind::Switch, "")
}

const fn choice(path: &'static str, words: &'static [&'static str]) -> KeySpec {
    KeySpec::new(path, ValueKind::Choice(words), "")
}

const fn text(path: &'static str, form: Form) -> KeySpec {
    KeySpec::new(path, ValueKind::Text(form), "")
}

const fn list(path: &'static str, form: Form) -> KeySpec {
    KeySpec::new(path, ValueKind::List(form), "")
}

/// Largest whole amount; what fits 64 bits at nine decimals.
const AMOUNT_MAX: i64 = 9_000_000_000;
const YEAR_MS: i64 = 366 * 24 * 3_600 * 1_000;
const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// The subtrees of the supervision tree that have a policy of their own.
pub const SUBTREES: [&str; 5] = ["node", "data", "calc", "exec", "control"];
/// The brokers, in the order of their [`BrokerId`](crate::domain::BrokerId).
pub const BROKERS: [&str; 2] = ["primary", "backup"];
/// What a node can do.
pub const ROLES: [&str; 4] = ["data", "calc", "exec", "control"];
/// Every key, by section in the order of `cluster.toml`.
pub const KEYS: &[KeySpec] = &[
    text("node.name", NAME).operational(),
    list("node.roles", ROLE).operational(),
    text("node.data_dir", PATH).operational(),
    text("node.http_bind", ADDRESS).optional().operational(),
    text("node.tokens_file", PATH).optional().operational(),
    count("node.memory_limit_bytes", "bytes", 1 << 20, i64::MAX).optional().operational(),
    count("node.worker_threads", "threads", 1, 1_024).optional().operational(),
    count("node.clock_offset_ms", "ms", -YEAR_MS, YEAR_MS).operational(),
    //
    choice("pipeline.input", &["none", "files", "simulator", "live"]).operational(),
    list("pipeline.data", PATH).operational(),
    count("pipeline.batch_ticks", "ticks", 1, 65_536).operational().live(),
    count("pipeline.shards", "factor engines", 1, 64).operational(),
    choice("pipeline.merge", &["auto", "key", "arrival"]),
    text("pipeline.follow", PATH).optional(),
    text("pipeline.run", NAME),
    text("pipeline.speed", SPEED).operational(),
    count("pipeline.window_ms", "ms", 1, DAY_MS),
    count("pipeline.window_step_ms", "ms", 1, DAY_MS),
    switch("pipeline.strict"),
    count("pipeline.seed", "", 0, i64::MAX),
    //
    count("stream.credit_ticks", "ticks", 1, 1 << 24).operational().live(),
    count("stream.retained_ticks", "ticks", 1, 1 << 28).operational(),
    count("stream.checkpoint_ticks", "ticks", 1, 1 << 28).operational().live(),
    count("stream.idle_ms", "ms", 1, 60_000).operational(),
    count("stream.replicas", "nodes", 1, 5).operational(),
    //
    switch("journal.enabled").operational(),
    count("journal.commit_records", "records", 1, 1 << 20).operational(),
    count("journal.commit_ms", "ms", 0, 60_000).operational().live(),
    count("journal.segment_bytes", "bytes", 64 << 10, 16 << 20).operational(),
    switch("journal.keep_arrivals").operational(),
    count("journal.size_max_bytes", "bytes", 1 << 20, i64::MAX).operational(),
    //
    choice("database.kind", &["auto", "none", "sqlite", "postgres", "mysql"]).operational(),
    text("database.url", DATABASE_URL).optional().operational(),
    text("database.url_file", PATH).optional().operational(),
    text("database.url_env", NAME).optional().operational(),
    count("database.connections_max", "connections", 1, 64).operational(),
    count("database.timeout_ms", "ms", 10, 600_000).operational(),
    count("database.batch_rows", "rows", 1, 2_000).operational(),
    count("database.buffer_rows", "rows", 1, 1 << 24).operational(),
    count("database.spill_rows_max", "rows", 1, 1 << 40).operational(),
    count("database.drain_ms", "ms", 0, DAY_MS).operational(),
    switch("database.ticks").operational(),
    switch("database.factors").operational(),
    count("database.days_max", "days", 1, 36_500).operational(),
    //
    choice("supervision.strategy", RESTART_STRATEGIES).operational(),
    count("supervision.restarts_max", "restarts", 0, 100_000).operational(),
    count("supervision.window_ms", "ms", 1, YEAR_MS).operational(),
    count("supervision.backoff_first_ms", "ms", 0, DAY_MS).operational(),
    count("supervision.backoff_max_ms", "ms", 0, DAY_MS).operational(),
    amount("supervision.jitter", "fraction", 0, 1).with_decimals(3).operational(),
    count("supervision.drain_timeout_ms", "ms", 0, DAY_MS).operational(),
    count("supervision.stop_timeout_ms", "ms", 1, DAY_MS).operational(),
    choice("supervision.<subtree>.strategy", RESTART_STRATEGIES).operational(),
    count("supervision.<subtree>.restarts_max", "restarts", 0, 100_000).operational(),
    count("supervision.<subtree>.window_ms", "ms", 1, YEAR_MS).operational(),
    count("supervision.<subtree>.backoff_first_ms", "ms", 0, DAY_MS).operational(),
    count("supervision.<subtree>.backoff_max_ms", "ms", 0, DAY_MS).operational(),
    amount("supervision.<subtree>.jitter", "fraction", 0, 1).with_decimals(3).operational(),
    count("supervision.<subtree>.drain_timeout_ms", "ms", 0, DAY_MS).operational(),
    count("supervision.<subtree>.stop_timeout_ms", "ms", 1, DAY_MS).operational(),
    //
    text("live.url", LIVE_URL).optional().operational(),
    list("live.streams", LIVE_STREAM).operational(),
    text("live.rest_url", LIVE_REST_URL).optional().operational(),
    text("live.tls_ca_file", PATH).optional().operational(),
    count("live.rest_timeout_ms", "ms", 100, DAY_MS).operational(),
    count("live.rest_interval_ms", "ms", 1, DAY_MS).operational(),
    count("live.silence_ms", "ms", 100, DAY_MS).operational(),
    count("live.ping_ms", "ms", 100, DAY_MS).operational(),
    count("live.pong_timeout_ms", "ms", 100, DAY_MS).operational(),
    count("live.connect_timeout_ms", "ms", 100, DAY_MS).operational(),
    count("live.backoff_first_ms", "ms", 10, DAY_MS).operational(),
    count("live.backoff_max_ms", "ms", 10, DAY_MS).operational(),
    count("live.queue_frames", "frames", 1, 1 << 20).operational(),
    count("live.frame_bytes_max", "bytes", 1 << 10, 64 << 20).operational(),
    //
    count("simulator.symbols", "symbols", 1, 100_000),
    count("simulator.ticks", "rows", 1, i64::MAX).optional(),
    count("simulator.dirt_per_million", "rows per million", 0, 1_000_000),
    count("simulator.ticks_per_second", "rows per symbol and second", 1, 100_000).optional(),
    //
    count("clean.price_max", "quote currency", 1, AMOUNT_MAX),
    percent("clean.spread_max_percent").with_decimals(4),
    choice("clean.one_sided", VERDICTS),
    choice("clean.crossed", VERDICTS),
    choice("clean.locked", VERDICTS),
    switch("clean.zero_price_is_none"),
    switch("clean.zero_side_is_none"),
    choice("clean.suspicious", VERDICTS),
    choice("clean.off_book", VERDICTS),
    switch("clean.ids_grow"),
    choice("clean.identical_trade", VERDICTS),
    amount("clean.reversal_tolerance_ms", "ms", 0, DAY_MS).with_decimals(6),
    count("clean.reversal_run_max", "rows", 1, 1 << 31).optional(),
    percent("clean.outlier_move_max_percent").with_decimals(4).optional(),
    amount("clean.outlier_deviations", "deviations", 0, 1_000_000).with_decimals(3),
    count("clean.outlier_window", "prices", 1, 32),
    count("clean.outlier_count_min", "prices", 1, 32),
    count("clean.outlier_confirm_count", "rows", 1, 1_000_000).optional(),
    amount("clean.outlier_gap_ms", "ms", 0, DAY_MS).with_decimals(6),
    count("clean.session_utc_offset_minutes", "minutes", -14 * 60, 14 * 60).optional(),
    text("clean.session_quiet_start", TIME_OF_DAY),
    text("clean.session_quiet_end", TIME_OF_DAY),
    text("clean.session_night_start", TIME_OF_DAY),
    text("clean.session_night_end", TIME_OF_DAY),
    count("clean.session_night_days_max", "days", 0, 30),
    count("clean.class.<class>.price_max", "quote currency", 1, AMOUNT_MAX),
    percent("clean.class.<class>.spread_max_percent").with_decimals(4),
    choice("clean.class.<class>.one_sided", VERDICTS),
    choice("clean.class.<class>.crossed", VERDICTS),
    choice("clean.class.<class>.locked", VERDICTS),
    switch("clean.class.<class>.zero_price_is_none"),
    switch("clean.class.<class>.zero_side_is_none"),
    choice("clean.class.<class>.suspicious", VERDICTS),
    choice("clean.class.<class>.off_book", VERDICTS),
    switch("clean.class.<class>.ids_grow"),
    choice("clean.class.<class>.identical_trade", VERDICTS),
    amount("clean.class.<class>.reversal_tolerance_ms", "ms", 0, DAY_MS).with_decimals(6),
    count("clean.class.<class>.reversal_run_max", "rows", 1, 1 << 31).optional(),
    percent("clean.class.<class>.outlier_move_max_percent").with_decimals(4).optional(),
    amount("clean.class.<class>.outlier_deviations", "deviations", 0, 1_000_000).with_decimals(3),
    count("clean.class.<class>.outlier_window", "prices", 1, 32),
    count("clean.class.<class>.outlier_count_min", "prices", 1, 32),
    count("clean.class.<class>.outlier_confirm_count", "rows", 1, 1_000_000).optional(),
    amount("clean.class.<class>.outlier_gap_ms", "ms", 0, DAY_MS).with_decimals(6),
    count("clean.class.<class>.session_utc_offset_minutes", "minutes", -14 * 60, 14 * 60)
        .optional(),
    text("clean.class.<class>.session_quiet_start", TIME_OF_DAY),
    text("clean.class.<class>.session_quiet_end", TIME_OF_DAY),
    text("clean.class.<class>.session_night_start", TIME_OF_DAY),
    text("clean.class.<class>.session_night_end", TIME_OF_DAY),
    count("clean.class.<class>.session_night_days_max", "days", 0, 30),
    //
    list("factors.also", FACTOR),
    choice("factors.price_source", &["trade", "mid", "auto"]),
    choice("factors.class.<class>.price_source", &["trade", "mid", "auto"]),
    //
    text("strategy.<strategy>.name", NAME),
    text("strategy.<strategy>.kind", NAME),
    text("strategy.<strategy>.account", NAME),
    list("strategy.<strategy>.symbols", SYMBOL_PATTERN),
    text("strategy.<strategy>.lock", NAME).optional(),
    KeySpec::new("strategy.<strategy>.parameters.<parameter>", ValueKind::Number, ""),
    //
    text("account.<account>.name", NAME),
    count("account.<account>.utc_offset_minutes", "minutes", -14 * 60, 14 * 60),
    amount("account.<account>.cash.<currency>", "the currency", 0, AMOUNT_MAX),
    //
    count("risk.position_max_lots", "lots", 1, 1 << 31).optional(),
    count("risk.symbol.<symbol>.position_max_lots", "lots", 1, 1 << 31).optional(),
    positive_amount("risk.order_value_min", "currency").optional(),
    positive_amount("risk.order_value_max", "currency").optional(),
    positive_amount("risk.gross_exposure_max", "currency").optional(),
    positive_amount("risk.net_exposure_max", "currency").optional(),
    positive_amount("risk.daily_loss_max", "currency").optional(),
    positive_amount("risk.drawdown_max", "currency").optional(),
    positive_amount("risk.currency.<currency>.order_value_min", "currency").optional(),
    positive_amount("risk.currency.<currency>.order_value_max", "currency").optional(),
    positive_amount("risk.currency.<currency>.gross_exposure_max", "currency").optional(),
    positive_amount("risk.currency.<currency>.net_exposure_max", "currency").optional(),
    positive_amount("risk.currency.<currency>.daily_loss_max", "currency").optional(),
    positive_amount("risk.currency.<currency>.drawdown_max", "currency").optional(),
    percent("risk.concentration_max_percent").optional(),
    positive_amount("risk.concentration_gross_min", "currency").optional(),
    percent("risk.collar_percent").optional(),
    percent("risk.price_limit_percent").optional(),
    percent("risk.slippage_percent").optional(),
    percent("risk.margin_percent"),
    count("risk.stale_ms", "ms", 1, YEAR_MS).optional(),
    switch("risk.short_allowed"),
    percent("risk.class.<class>.collar_percent").optional(),
    percent("risk.class.<class>.price_limit_percent").optional(),
    percent("risk.class.<class>.slippage_percent").optional(),
    percent("risk.class.<class>.margin_percent"),
    count("risk.class.<class>.stale_ms", "ms", 1, YEAR_MS).optional(),
    switch("risk.class.<class>.short_allowed"),
    count("risk.rate_strategy_per_second", "orders per second", 1, 1_000_000).optional(),
    count("risk.rate_strategy_burst", "orders", 1, 1_000_000),
    count("risk.rate_account_per_second", "orders per second", 1, 1_000_000).optional(),
    count("risk.rate_account_burst", "orders", 1, 1_000_000),
    count("risk.rate_venue_per_second", "orders per second", 1, 1_000_000).optional(),
    count("risk.rate_venue_burst", "orders", 1, 1_000_000),
    count("risk.orders_per_day_max", "orders", 1, 1 << 31).optional(),
    count("risk.cancels_per_day_max", "cancels", 1, 1 << 31).optional(),
    count("risk.live_orders_max", "orders", 1, 1 << 20).optional(),
    count("risk.slot_orders_max", "orders", 1, 1 << 20).optional(),
    count("risk.duplicate_window_ms", "ms", 1, DAY_MS).optional(),
    switch("risk.self_trade_prevention"),
    list("risk.symbols_denied", SYMBOL),
    list("risk.symbols_allowed", SYMBOL),
    count("risk.clock_skew_max_ms", "ms", 1, YEAR_MS).optional(),
    choice("risk.breach_state", &["reducing", "halted"]),
    count("risk.revaluation_ms", "ms", 1, DAY_MS),
    //
    count("router.failover_threshold", "failures", 1, 1_000_000),
    count("router.return_to_primary_ms", "ms", 1, YEAR_MS).optional(),
    count("router.attempts_max", "brokers", 1, 2),
    switch("router.has_backup"),
    choice("broker.<broker>.kind", &["paper", "exchange"]),
    text("broker.<broker>.exchange", NAME),
    text("broker.<broker>.base_url", LIVE_REST_URL).optional().operational(),
    text("broker.<broker>.stream_url", LIVE_URL).optional().operational(),
    text("broker.<broker>.tls_ca_file", PATH).optional().operational(),
    text("broker.<broker>.keys_file", FILE_OR_SECRET).optional().operational(),
    text("broker.<broker>.accounts.<owner>.keys_file", FILE_OR_SECRET).optional().operational(),
    count("broker.<broker>.answer_ms", "ms", 10, DAY_MS).operational(),
    count("broker.<broker>.window_ms", "ms", 10, 60_000),
    count("broker.<broker>.settle_ms", "ms", 0, DAY_MS),
    count("broker.<broker>.settle_after_error_ms", "ms", 0, DAY_MS),
    count("broker.<broker>.poll_ms", "ms", 10, DAY_MS).operational(),
    count("broker.<broker>.sends_max", "requests", 1, 1_000),
    count("broker.<broker>.slot_price_steps", "steps", 1, i64::MAX).optional(),
    count("broker.<broker>.rest_ms", "ms", 1, DAY_MS).optional(),
    choice("broker.<broker>.deduplication", &["all", "open", "none"]),
    switch("broker.<broker>.has_deadline"),
    switch("broker.<broker>.has_query"),
    switch("broker.<broker>.has_server_time"),
    switch("broker.<broker>.has_exclusive_session"),
    switch("broker.<broker>.assume_reconciled").operational(),
    count("broker.<broker>.latency_us", "us", 1, DAY_MS * 1_000),
    count("broker.<broker>.latency_jitter_us", "us", 0, DAY_MS * 1_000),
    amount("broker.<broker>.fee_bps", "basis points", -10_000, 10_000).with_decimals(5),
    amount("broker.<broker>.slippage_bps", "basis points", 0, 10_000).with_decimals(5),
    count("broker.<broker>.refuse_per_million", "orders per million", 0, 1_000_000),
    count("broker.<broker>.disconnect_per_million", "orders per million", 0, 1_000_000),
    count("broker.<broker>.timeout_per_million", "orders per million", 0, 1_000_000),
    count("broker.<broker>.resolve_after_us", "us", 1, DAY_MS * 1_000),
    text("broker.<broker>.outage_orders", ORDER_RANGE).optional(),
    count("matching.lots_when_size_missing", "lots", 1, 1 << 31).optional(),
    count("matching.next_trade_within_us", "us", 0, DAY_MS * 1_000),
    count("matching.class.<class>.lots_when_size_missing", "lots", 1, 1 << 31).optional(),
    count("matching.class.<class>.next_trade_within_us", "us", 0, DAY_MS * 1_000),
    //
    choice("instruments.venues.<venue>", &CLASS_NAMES),
    text("instruments.class.<class>.currency", CURRENCY),
    count("instruments.class.<class>.price_decimals", "decimals", 0, 9),
    count("instruments.class.<class>.quantity_decimals", "decimals", 0, 9),
    positive_amount("instruments.class.<class>.tick_size", "quote currency"),
    positive_amount("instruments.class.<class>.lot", "units or contracts"),
    positive_amount("instruments.class.<class>.quantity_min", "units or contracts"),
    positive_amount("instruments.class.<class>.quantity_max", "units or contracts"),
    count("instruments.class.<class>.multiplier", "units a contract", 1, 1_000_000_000),
    list("instruments.class.<class>.session", SESSION),
    choice("instruments.symbol.<symbol>.class", &CLASS_NAMES),
    text("instruments.symbol.<symbol>.currency", CURRENCY),
    count("instruments.symbol.<symbol>.price_decimals", "decimals", 0, 9),
    count("instruments.symbol.<symbol>.quantity_decimals", "decimals", 0, 9),
    positive_amount("instruments.symbol.<symbol>.tick_size", "quote currency"),
    positive_amount("instruments.symbol.<symbol>.lot", "units or contracts"),
    positive_amount("instruments.symbol.<symbol>.quantity_min", "units or contracts"),
    positive_amount("instruments.symbol.<symbol>.quantity_max", "units or contracts"),
    count("instruments.symbol.<symbol>.multiplier", "units a contract", 1, 1_000_000_000),
    list("instruments.symbol.<symbol>.session", SESSION),
    //
    count("telemetry.progress_ms", "ms", 10, 3_600_000).operational(),
    text("telemetry.log", LOG_FILTER).operational(),
    count("telemetry.curve_points_max", "points", 2, 100_000).operational(),
    count("telemetry.charts_max", "instruments", 0, 100).operational(),
    count("telemetry.chart_points_max", "points", 2, 100_000).operational(),
    //
    text("cluster.name", NAME).operational(),
    text("cluster.bind", ADDRESS).operational(),
    text("cluster.advertise", ADDRESS).optional().operational(),
    list("cluster.seeds", ADDRESS).operational(),
    count("cluster.heartbeat_ms", "ms", 10, 60_000).operational(),
    count("cluster.voters", "nodes", 1, 5).optional().operational(),
    switch("cluster.witness").operational(),
    count("cluster.coordinator_priority", "", 0, 1_000).operational(),
    text("cluster.cookie_file", PATH).optional().operational(),
    text("cluster.tls_ca_file", PATH).optional().operational(),
    text("cluster.tls_cert_file", PATH).optional().operational(),
    text("cluster.tls_key_file", PATH).optional().operational(),
    count("cluster.handshake_timeout_ms", "ms", 100, 60_000).operational(),
    count("cluster.unproven_max", "connections", 1, 65_536).operational(),
    count("cluster.redial_first_ms", "ms", 1, 60_000).operational(),
    count("cluster.redial_max_ms", "ms", 1, 3_600_000).operational(),
    count("cluster.credit_bytes", "bytes", 1 << 16, 1 << 30).operational(),
    count("cluster.message_bytes_max", "bytes", 1 << 20, 1 << 30).operational(),
    count("cluster.ask_timeout_ms", "ms", 1, 3_600_000).operational(),
    count("cluster.leave_timeout_ms", "ms", 1, 3_600_000).operational(),
    choice("cluster.balance", &Balancing::NAMES).operational(),
    //
    choice("allocation.strategy", &["rendezvous", "balanced", "master_standby", "static"])
        .operational(),
    list("allocation.static", ASSIGNMENT).operational(),
    choice("allocation.balance", &Balancing::NAMES).operational(),
    list("allocation.weights", WEIGHT).operational(),
    count("allocation.slow_start_ms", "ms", 0, DAY_MS).operational(),
    count("allocation.nodes_min", "nodes", 1, 64).operational(),
    switch("allocation.auto_failover").operational(),
    count("allocation.failover_timeout_ms", "ms", 0, DAY_MS).operational(),
    count("allocation.settle_ms", "ms", 0, DAY_MS).operational(),
    count("allocation.handovers_max", "units", 1, 64).operational(),
    count("allocation.max_retry_attempts", "attempts", 0, 1_000).operational(),
    count("allocation.load_report_ms", "ms", 100, DAY_MS).operational(),
    amount("allocation.load_memory_weight", "", 0, 1_000).with_decimals(3).operational(),
    amount("allocation.load_queue_weight", "", 0, 1_000).with_decimals(3).operational(),
    amount("allocation.load_cpu_weight", "", 0, 1_000).with_decimals(3).operational(),
    //
    switch("tuner.enabled").operational(),
    count("tuner.window_ms", "ms", 10, DAY_MS).operational(),
    count("tuner.stretch_windows", "windows", 1, 1_000).operational(),
    count("tuner.settling_windows", "windows", 0, 1_000).operational(),
    amount("tuner.chance_max", "", 0, 1).operational(),
    amount("tuner.gain_min", "", 0, 100).operational(),
    count("tuner.p99_max_us", "us", 1, DAY_MS * 1_000).operational(),
    count("tuner.cool_down_ms", "ms", 0, DAY_MS).operational(),
    count("tuner.batch_ticks_max", "ticks", 1, 65_536).operational(),
    count("tuner.credit_ticks_max", "ticks", 1, 1 << 24).operational(),
    count("tuner.checkpoint_ticks_max", "ticks", 1, 1 << 28).operational(),
    count("tuner.commit_ms_max", "ms", 0, 60_000).operational(),
    //
    text("config.environment", NAME).optional().operational(),
    text("config.secrets_key_file", PATH).optional().operational(),
    text("config.secrets_passphrase_file", PATH).optional().operational(),
    count("config.secrets_wait_ms", "ms", 0, DAY_MS).operational(),
    //
    choice("locks.backend", &["none", "ledger", "redis"]).operational(),
    list("locks.redis_urls", REDIS_URL).operational(),
    text("locks.redis_password_file", FILE_OR_SECRET).optional().operational(),
    choice("locks.when_away", &["refuse", "static_owner_only", "local_only"]).operational(),
    text("locks.static_owner", NAME).optional().operational(),
    count("locks.health_ms", "ms", 1, DAY_MS).operational(),
    count("locks.ttl_ms", "ms", 1, DAY_MS).operational(),
    count("locks.wait_ms", "ms", 0, 60_000).operational(),
    count("locks.command_ms", "ms", 1, 60_000).operational(),
    choice("locks.granularity", &["symbol", "price_interval", "price"]).operational(),
    count("locks.price_interval", "steps", 1, i64::MAX).operational(),
    //
    count("alerts.node_offline_ms", "ms", 1, DAY_MS).optional().operational().live(),
    count("alerts.failure_percent", "percent", 1, 100).optional().operational().live(),
    count("alerts.failure_trials", "trials", 1, 10_000).operational().live(),
    switch("alerts.quality_decline").operational(),
    count("alerts.look_ms", "ms", 100, DAY_MS).operational(),
    count("alerts.hold_ms", "ms", 0, DAY_MS).operational().live(),
    count("alerts.clear_percent", "percent", 1, 100).operational().live(),
    text("alerts.command", PATH).optional().operational(),
    count("alerts.command_ms", "ms", 1, 600_000).operational(),
    //
    text("optimise.strategy", NAME).optional().operational(),
    choice("optimise.search", &["tpe", "grid", "random", "genetic"]).operational(),
    list("optimise.data", PATH).operational(),
    count("optimise.data_percent", "percent", 1, 100).operational(),
    choice("optimise.adopt", &["off", "confirm", "auto"]).operational(),
    amount("optimise.adopt_gain_min", "", 0, 2).with_decimals(4).operational(),
    amount("optimise.result_quality_decline", "", 0, 2).with_decimals(4).operational(),
    count("optimise.looks", "looks", 2, 4_000).operational(),
    count("optimise.look_ms", "ms", 10, 3_600_000).operational(),
    choice("optimise.propagation", &["push", "pull", "hybrid"]).operational(),
    list("optimise.space", SPACE_LINE).operational(),
    count("optimise.max_explorations", "trials", 1, 1_000_000).operational(),
    count("optimise.patience", "trials", 0, 1_000_000).operational(),
    count("optimise.time_max_s", "s", 1, DAY_MS / 1_000 * 30).optional().operational(),
    count("optimise.workers", "threads", 1, 1_024).optional().operational(),
    count("optimise.top_k", "trials", 1, 1_000).operational(),
    amount("optimise.weight_profit_rate", "", 0, 1_000).with_decimals(3).operational(),
    amount("optimise.weight_sharpe", "", 0, 1_000).with_decimals(3).operational(),
    amount("optimise.weight_drawdown", "", 0, 1_000).with_decimals(3).operational(),
    amount("optimise.weight_win_rate", "", 0, 1_000).with_decimals(3).operational(),
    count("optimise.trades_min", "trades", 0, 1_000_000).operational(),
    count("optimise.in_sample_percent", "percent", 1, 99).operational(),
    count("optimise.folds", "stretches", 1, 100).operational(),
    count("optimise.rows_max", "rows", 1, 1_000_000_000).operational(),
];

const VERDICTS: &[&str] = &["accept", "reject"];
const RESTART_STRATEGIES: &[&str] = &["one_for_one", "one_for_all", "rest_for_one"];

const CLASS_NAMES: [&str; Class::ALL.len()] = {
    let mut names = [""; Class::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = Class::ALL[at].name();
        at += 1;
    }
    names
};

const NAME: Form =
    Form { expects: "a name of letters, digits, `_` and `-`, at most 64 of them", check: name };
const REDIS_URL: Form = Form {
    expects: "addresses of Redis such as \"redis://127.0.0.1:6379\", without a password",
    check: redis_url,
};
const SPACE_LINE: Form = Form {
    expects: "lines such as \"period = log-int 5..200\" or \"fast < slow\"",
    check: super::optimise::check_line,
};
const FILE_OR_SECRET: Form =
    Form { expects: "a path, or secret:NAME", check: super::secret::check_place };
const PATH: Form = Form { expects: "a path", check: path };
const ROLE: Form = Form { expects: "roles: data, calc, exec, control", check: role };
const SPEED: Form =
    Form { expects: "\"max\", \"real\" or a multiple such as \"10x\"", check: speed };
const SYMBOL_PATTERN: Form = Form {
    expects: "symbols such as \"IBM.US\", or patterns such as \"*\" and \"*.CFFEX\"",
    check: symbol_pattern,
};
const SYMBOL: Form = Form {
    expects: "symbols such as \"IBM.US\"",
    check: |text| Symbol::new(text).map(|_| ()).map_err(|error| format!("{text:?} {error}")),
};
const CURRENCY: Form = Form {
    expects: "a currency such as \"CNY\", or \"\" to take it from the symbol's name",
    check: currency,
};
const SESSION: Form = Form {
    expects: "spans of the UTC day such as \"01:30-03:30\"",
    check: |text| session_span(text).map(|_| ()),
};
const FACTOR: Form = Form {
    expects: "factors such as \"rsi(14)\" and, on windows, \"vwap@60s\"",
    check: |text| text.parse::<FactorSpec>().map(|_| ()).map_err(|error| error.to_string()),
};
const TIME_OF_DAY: Form = Form {
    expects: "a time of day such as \"15:16\"",
    check: |text| {
        time_of_day(text).map(|_| ()).ok_or_else(|| format!("{text:?} is not a time of day"))
    },
};
const ORDER_RANGE: Form = Form {
    expects: "the first and the last order, counted from 1, such as \"100-120\"",
    check: |text| order_range(text).map(|_| ()),
};
const LIVE_URL: Form = Form {
    expects: "an address such as \"wss://stream.binance.com:9443\"",
    check: |text| match text.split_once("://") {
        Some(("ws" | "wss", rest)) if !rest.is_empty() => Ok(()),
        _ => Err(format!("{text:?} begins neither with ws:// nor with wss://")),
    },
};
const LIVE_REST_URL: Form = Form {
    expects: "an address such as \"https://api.binance.com\"",
    check: |text| match text.split_once("://") {
        Some(("http" | "https", rest)) if !rest.is_empty() && !rest.contains('?') => Ok(()),
        Some(("http" | "https", _)) => Err(format!("{text:?} is more, or less, than an address")),
        _ => Err(format!("{text:?} begins neither with http:// nor with https://")),
    },
};
const LIVE_STREAM: Form = Form {
    expects: "streams such as \"btcusdt@trade\"",
    check: |text| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"@_!.-".contains(&byte);
        if !text.is_empty() && text.bytes().all(known) {
            Ok(())
        } else {
            Err(format!("{text:?} is not the name of a stream"))
        }
    },
};
const DATABASE_URL: Form = Form {
    expects: "an address without a password, such as \"postgres://user@host/database\"",
    check: |text| match text.split_once("://") {
        _ if text.starts_with("sqlite:") && text.len() > "sqlite:".len() => Ok(()),
        Some(("postgres" | "postgresql" | "mysql" | "mariadb", rest)) => {
            let user = rest.split_once('@').map_or("", |(user, _)| user);
            let is_secret = user.contains(':') || rest.to_lowercase().contains("password=");
            match is_secret {
                true => Err("holds a password; give database.url_file or url_env instead".into()),
                false => Ok(()),
            }
        }
        // What it is instead may be a secret.
        _ => Err("begins neither with sqlite:, nor postgres://, nor mysql://".into()),
    },
};
const ASSIGNMENT: Form = Form {
    expects: "units and their node, such as \"source/*=data-1\", \"shard/3=calc-1\", \"exec=exec-1\"",
    check: |text| match Assignment::parse(text) {
        Some(_) => Ok(()),
        None => Err(format!("{text:?} does not say which unit is whose")),
    },
};
const WEIGHT: Form = Form {
    expects: "a node and its weight, such as \"calc-1=2\"",
    check: |text| match parse_weight(text) {
        Some(_) => Ok(()),
        None => Err(format!("{text:?} does not say how much which node is to have")),
    },
};
const LOG_FILTER: Form =
    Form { expects: "a filter such as \"info\" or \"warn,tickwright=debug\"", check: log_filter };
const ADDRESS: Form =
    Form { expects: "a host and port such as \"127.0.0.1:7400\"", check: address };

fn name(text: &str) -> Result<(), String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if text.is_empty() {
        return Err("is empty".into());
    }
    if text.len() > 64 {
        return Err(format!("is {} bytes long", text.len()));
    }
    match text.chars().find(|&c| !u8::try_from(c).is_ok_and(known)) {
        Some(c) => Err(format!("holds {c:?}")),
        None => Ok(()),
    }
}

fn redis_url(text: &str) -> Result<(), String> {
    let Some(rest) = text.strip_prefix("redis://") else {
        return Err(format!("{text:?} does not begin with redis://"));
    };
    // It is shown in messages and listings.
    if rest.contains('@') {
        return Err("a password in an address could be shown; use locks.redis_password_file".into());
    }
    if rest.is_empty() { Err(format!("{text:?} names no host")) } else { Ok(()) }
}

fn path(text: &str) -> Result<(), String> {
    match text {
        "" => Err("is empty".into()),
        text if text.contains('\0') => Err("holds a zero byte".into()),
        _ => Ok(()),
    }
}

fn role(text: &str) -> Result<(), String> {
    if ROLES.contains(&text) { Ok(()) } else { Err(format!("{text:?} is not a role")) }
}

fn speed(text: &str) -> Result<(), String> {
    super::Speed::parse(text).map(|_| ()).ok_or_else(|| format!("{text:?} is not a speed"))
}

fn symbol_pattern(text: &str) -> Result<(), String> {
    let plain = text.replace('*', "");
    if text.len() > Symbol::LEN_MAX {
        return Err(format!("{} bytes are longer than any symbol", text.len()));
    }
    if plain.is_empty() && text.contains('*') {
        return Ok(());
    }
    Symbol::new(&plain).map(|_| ()).map_err(|error| format!("{text:?} {error}"))
}

fn currency(text: &str) -> Result<(), String> {
    let known = text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if known { Ok(()) } else { Err(format!("{text:?} is no currency")) }
}

/// The span that `"01:30-03:30"` means, in seconds of the UTC day. `24:00` may end it.
pub(super) fn session_span(text: &str) -> Result<(u32, u32), String> {
    let wrong = || format!("{text:?} is not a span of the day");
    let (start, end) = text.split_once('-').ok_or_else(wrong)?;
    let start = time_of_day(start.trim()).ok_or_else(wrong)?;
    let end = time_of_day(end.trim()).ok_or_else(wrong)?;
    if start >= end {
        return Err(format!(
            "{text:?} ends before it starts; split a span that crosses midnight UTC in two"
        ));
    }
    Ok((start, end))
}

/// The second of the day that `"15:16"` or `"15:16:30"` means; `24:00` is its end.
pub(super) fn time_of_day(text: &str) -> Option<u32> {
    let mut parts = text.split(':');
    let mut part = |max: u32| -> Option<u32> {
        let digits = parts.next().filter(|digits| digits.len() == 2)?;
        digits.parse().ok().filter(|&number: &u32| number <= max)
    };
    let (hour, minute) = (part(24)?, part(59)?);
    let second = if text.len() > 5 { part(59)? } else { 0 };
    let all = hour * 3_600 + minute * 60 + second;
    (parts.next().is_none() && all <= 86_400).then_some(all)
}

/// The first and last order that `"100-120"` means.
pub(super) fn order_range(text: &str) -> Result<(u64, u64), String> {
    let numbers = text
        .split_once('-')
        .and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)));
    match numbers {
        Some((first, last)) if first >= 1 && first <= last => Ok((first, last)),
        _ => Err(format!("{text:?} is not a range of orders")),
    }
}

fn log_filter(text: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in text.split(',') {
        let (target, level) = directive.split_once('=').unwrap_or(("", directive));
        let target_known =
            target.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte));
        if !LEVELS.contains(&level) || !target_known {
            return Err(format!("{directive:?} is not TARGET=LEVEL or a level of {LEVELS:?}"));
        }
    }
    Ok(())
}

fn address(text: &str) -> Result<(), String> {
    let wrong = || format!("{text:?} is not HOST:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host_known = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte));
    if host_known && port.parse::<u16>().is_ok() { Ok(()) } else { Err(wrong()) }
}

/// What stands at a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// A key with a value.
    Leaf(&'static KeySpec),
    /// A table of keys.
    Table,
    /// A list of tables.
    Items,
    /// Nothing that we know.
    Unknown,
}

/// What stands at `path`.
pub(super) fn place(path: &[String]) -> Place {
    for spec in KEYS {
        let mut segments = spec.segments();
        if !path.iter().all(|name| segments.next().is_some_and(|segment| stands_for(segment, name)))
        {
            continue;
        }
        return match segments.next() {
            None => Place::Leaf(spec),
            Some("<strategy>" | "<account>") => Place::Items,
            Some(_) => Place::Table,
        };
    }
    Place::Unknown
}

/// Whether `segment` of a schema path can be `name` in a real one.
pub(super) fn stands_for(segment: &str, name: &str) -> bool {
    match segment {
        "<class>" => CLASS_NAMES.contains(&name),
        "<subtree>" => SUBTREES.contains(&name),
        "<broker>" => BROKERS.contains(&name),
        "<symbol>" => Symbol::new(name).is_ok(),
        "<strategy>" | "<account>" => name.parse::<usize>().is_ok(),
        "<venue>" | "<parameter>" | "<owner>" => self::name(name).is_ok(),
        "<currency>" => !name.is_empty() && currency(name).is_ok(),
        literal => literal == name,
    }
}

/// The names that may follow `prefix`, as far as they are ours to give.
pub(super) fn children(prefix: &[String]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for spec in KEYS {
        let mut segments = spec.segments();
        if prefix
            .iter()
            .all(|name| segments.next().is_some_and(|segment| stands_for(segment, name)))
        {
            let known: &[&'static str] = match segments.next() {
                Some("<class>") => &CLASS_NAMES,
                Some("<subtree>") => &SUBTREES,
                Some("<broker>") => &BROKERS,
                Some(segment) if segment.starts_with('<') => &[],
                Some(literal) => {
                    if !names.contains(&literal) {
                        names.push(literal);
                    }
                    &[]
                }
                None => &[],
            };
            for name in known {
                if !names.contains(name) {
                    names.push(name);
                }
            }
        }
    }
    names
}

/// `path` as a user writes it: dotted, names with a point in quotes.
pub(super) fn dotted(path: &[String]) -> String {
    let mut text = String::new();
    for name in path {
        if !text.is_empty() {
            text.push('.');
        }
        let bare = self::name(name).is_ok();
        text.push_str(&if bare { name.clone() } else { format!("{name:?}") });
    }
    text
}

impl ValueKind {
    /// What is expected, for messages: `a whole number of ticks from 1 to 65536`.
    pub fn expects(&self, unit: &str) -> String {
        let of = if unit.is_empty() { String::new() } else { format!(" ({unit})") };
        match *self {
            Self::Switch => "true or false".into(),
            Self::Count { min, max: i64::MAX } => format!("a whole number{of} of at least {min}"),
            Self::Count { min, max } => format!("a whole number{of} from {min} to {max}"),
            Self::Amount { min: 1, .. } => format!("a decimal{of} above 0"),
            Self::Amount { min, max, .. } => {
                let text = |nanos: i64| crate::domain::decimal::format(i128::from(nanos), 9);
                format!("a decimal{of} from {} to {}", text(min), text(max))
            }
            Self::Number => format!("a number{of}"),
            Self::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                format!("one of {}", quoted.join(", "))
            }
            Self::Text(form) => form.expects.into(),
            Self::List(form) => format!("a list of {}", form.expects),
        }
    }
}
